"""The released pix2pix-zero (arXiv 2302.03027), rebuilt from zerocon's parts.

What differs from zerocon, and exists in this test only: plain DDIM from a given noise; a reference
pass under classifier-free guidance whose halves are equal; the mean of the attention loss over
*both* halves of the batch, which halves the gradient of each; two copies of the latents of which
the one under the source caption is kept, without the other's gradient; eps of each half predicted
at its own copy.
"""

import pytest
import tiny
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from diffusers.pipelines.deprecated.stable_diffusion_variants import (
    pipeline_stable_diffusion_pix2pix_zero as released,
)

from zerocon.activations import observe
from zerocon.conditioning import Conditioning
from zerocon.diffusion import ddim_step
from zerocon.direction import mean_conditioning
from zerocon.guidance import CrossAttention
from zerocon.model.attention import CROSS

CAPTION, SCALE, AMOUNT, STEPS = "a cat", 3.0, 0.5, 6
SOURCES, TARGETS = ["a cat", "the cat", "one cat"], ["a dog", "the dog", "one dog"]


def released_edit(noise: torch.Tensor, amount: float) -> torch.Tensor:
    model = tiny.model()  # the pipeline leaves its attention processors in it
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


def rebuilt_edit(noise: torch.Tensor, amount: float) -> torch.Tensor:
    model = tiny.model()
    schedule, c = model.schedule(STEPS), model.embed([CAPTION])
    step = mean_conditioning(model, TARGETS) - mean_conditioning(model, SOURCES)
    plain, both = Conditioning.cat([c, c]), Conditioning.cat([c, c + step])

    x, references = noise, {}
    for level in range(STEPS, 0, -1):
        with torch.no_grad():
            observed = observe(model, torch.cat([x, x]), schedule.times[level], plain, {CROSS})
        references[level] = observed
        x = ddim_step(x, observed.eps[:1], schedule.levels[level], schedule.levels[level - 1])

    x = noise
    for level in range(STEPS, 0, -1):
        t, copies = schedule.times[level], torch.cat([x, x]).requires_grad_()
        with torch.enable_grad():
            edited = observe(model, copies, t, both, {CROSS})
            loss = CrossAttention()(references[level], edited).sum() / 2
            (gradient,) = torch.autograd.grad(loss, copies)
        with torch.no_grad():
            copies = copies - amount * gradient
            eps_c, eps_target = model.eps(copies, t, both).chunk(2)
        eps = eps_c + SCALE * (eps_target - eps_c)
        x = ddim_step(copies[:1].detach(), eps, schedule.levels[level], schedule.levels[level - 1])
    return x


@pytest.mark.parametrize("amount", [0.0, AMOUNT])
def test_the_parts_reproduce_the_released_pipeline(amount: float) -> None:
    noise = torch.randn(1, 4, 8, 8)
    expected, rebuilt = released_edit(noise, amount), rebuilt_edit(noise, amount)
    assert torch.allclose(rebuilt, expected, atol=1e-4, rtol=1e-4)


def test_guidance_changes_the_compared_latents() -> None:
    noise = torch.randn(1, 4, 8, 8)
    assert (rebuilt_edit(noise, AMOUNT) - rebuilt_edit(noise, 0.0)).abs().max() > 1e-3
