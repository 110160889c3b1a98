"""The released pix2pix-zero, put together from our parts with its quirks switched on.

What is switched on, and lives here and nowhere in the package: plain DDIM from a given noise; a
reference pass under classifier-free guidance whose halves are equal; the mean of the attention loss
over *both* halves of the batch, so that each pulls with half its strength; two copies of the
latents of which the one read under the caption survives, without the other's gradient; eps of each
half taken at its own copy.
"""

import pytest
import tiny
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from diffusers.pipelines.deprecated.stable_diffusion_variants import (
    pipeline_stable_diffusion_pix2pix_zero as released,
)

from zerocon.conditioning import Conditioning
from zerocon.diffusion import ddim_step
from zerocon.direction import between
from zerocon.guidance import CrossAttention
from zerocon.model.attention import CROSS
from zerocon.observation import observe

CAPTION, SCALE, AMOUNT, STEPS = "a cat", 3.0, 0.5, 6
SOURCES, TARGETS = ["a cat", "the cat", "one cat"], ["a dog", "the dog", "one dog"]


def their_edit(noise: torch.Tensor, amount: float) -> torch.Tensor:
    model = tiny.model()  # of their own: they leave their attention processors in it
    pipeline = released.StableDiffusionPix2PixZeroPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=DDIMScheduler(**model.scheduler.config),
        inverse_scheduler=DDIMInverseScheduler(**model.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        caption_generator=None,
        caption_processor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt=CAPTION,
        negative_prompt=CAPTION,
        source_embeds=model.embed(SOURCES).tokens,
        target_embeds=model.embed(TARGETS).tokens,
        latents=noise,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        cross_attention_guidance_amount=amount,
        output_type="latent",
    ).images


def our_edit(noise: torch.Tensor, amount: float) -> torch.Tensor:
    model = tiny.model()
    schedule, c = model.schedule(STEPS), model.embed([CAPTION])
    step = between(model.embed(SOURCES).tokens, model.embed(TARGETS).tokens)
    plain, both = Conditioning.cat([c, c]), Conditioning.cat([c, c])
    both.tokens[1:] += step

    x, references = noise, {}
    for level in range(STEPS, 0, -1):
        with torch.no_grad():
            seen = observe(model, torch.cat([x, x]), schedule.times[level], plain, {CROSS})
        references[level] = seen
        x = ddim_step(x, seen.eps[:1], schedule.levels[level], schedule.levels[level - 1])

    x = noise
    for level in range(STEPS, 0, -1):
        t, copies = schedule.times[level], torch.cat([x, x]).requires_grad_()
        with torch.enable_grad():
            now = observe(model, copies, t, both, {CROSS})
            loss = CrossAttention()(references[level], now) / 2
            (pull,) = torch.autograd.grad(loss, copies)
        with torch.no_grad():
            copies = copies - amount * pull
            plain, wished = model.eps(copies, t, both).chunk(2)
        eps = plain + SCALE * (wished - plain)
        x = ddim_step(copies[:1].detach(), eps, schedule.levels[level], schedule.levels[level - 1])
    return x


@pytest.mark.parametrize("amount", [0.0, AMOUNT])
def test_our_parts_make_what_the_released_pipeline_makes(amount: float) -> None:
    noise = torch.randn(1, 4, 8, 8)
    theirs, ours = their_edit(noise, amount), our_edit(noise, amount)
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)


def test_guidance_is_felt_in_what_is_compared() -> None:
    noise = torch.randn(1, 4, 8, 8)
    assert (our_edit(noise, AMOUNT) - our_edit(noise, 0.0)).abs().max() > 1e-3
