"""Methods of others, run as they are published, on the same weights.

A peer is a frozen dataclass whose fields are its options (``pix2pix-zero:amount=0.15``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from zerocon.bench.inputs import MethodResult, MethodSettings, SourceBatch, TaskSource
from zerocon.errors import SettingError
from zerocon.nfe import Evaluations
from zerocon.rng import seeded_generator

if TYPE_CHECKING:
    from zerocon.model.stable_diffusion import StableDiffusion


@dataclass(frozen=True)
class Pix2PixZero:
    """pix2pix-zero, as diffusers' own (deprecated) pipeline does it.

    Its inversion with noise regularisation, its two passes, its caption as negative prompt, under
    the caption and along the direction that zerocon's default uses. Its code is not touched: the
    parts are the model's, every draw of chance comes from one generator, and the attention
    processors and gradients that it leaves in the U-Net are put back. Latents are decoded as
    everybody's are. 7 forwards and 2 backwards a step.
    """

    amount: float = 0.1  # of cross-attention guidance; the scripts of the authors take 0.1 or 0.15
    guidance_scale: float | None = None  # none: the model's own, and of a range its middle
    steps: int = 50

    def recipe(self, asked: MethodSettings) -> dict[str, Any]:
        settings = asked.settings()
        return {
            "amount": self.amount,
            "guidance_scale": self._scale(asked),
            "steps": self.steps,
            "strength": settings.strength,
            "seed": settings.seed,
            "diffusers": version("diffusers"),
        }

    def __call__(self, batch: SourceBatch, asked: MethodSettings) -> list[MethodResult]:
        """One by one: its regularisation mixes the pictures of a batch."""
        return [self._edited(source, asked) for source in batch.sources]

    def _edited(self, source: TaskSource, asked: MethodSettings) -> MethodResult:
        settings, model, guidance_scale = asked.settings(), source.model, self._scale(asked)
        said = source.parse_request(settings)
        if isinstance(said, MethodResult):
            return said
        step = settings.strength * said.direction.tokens
        rng, start = seeded_generator(f"{settings.seed}"), perf_counter()
        evaluations = Evaluations()
        with _lent(model, evaluations) as pipeline:
            inverted = pipeline.invert(
                source.caption,
                image=(source.fitted.pixels + 1) / 2,
                num_inference_steps=self.steps,
                generator=rng,
            )
            latents = pipeline(
                source.caption,
                negative_prompt=source.caption,
                source_embeds=torch.zeros_like(step),  # it takes the difference of the two
                target_embeds=step,
                latents=inverted.latents,
                num_inference_steps=self.steps,
                guidance_scale=guidance_scale,
                cross_attention_guidance_amount=self.amount,
                generator=rng,
                output_type="latent",
            ).images
        return MethodResult(
            source.show(latents),
            said.rewrite.caption,
            said.rewrite.target_caption,
            evaluations=evaluations.total,
            seconds=perf_counter() - start,
        )

    def _scale(self, asked: MethodSettings) -> float:
        own = (
            asked.settings().guidance_scale if self.guidance_scale is None else self.guidance_scale
        )
        guidance_scale = sum(own) / 2 if isinstance(own, tuple) else own
        if (
            guidance_scale <= 1
        ):  # its batch then has no second half, and it edits nothing without a word
            raise SettingError(f"pix2pix-zero needs a scale above 1, not {guidance_scale}")
        return float(guidance_scale)


@contextmanager
def _lent(model: StableDiffusion, evaluations: Evaluations) -> Iterator[Any]:
    """The pipeline on the model's own parts, its U-Net passes counted, the parts left as before."""
    from diffusers import DDIMInverseScheduler, DDIMScheduler

    unet, config = model.unet, model.scheduler.config
    pipeline = _pipeline()(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=unet,
        scheduler=DDIMScheduler.from_config(config),
        inverse_scheduler=DDIMInverseScheduler.from_config(config),
        feature_extractor=None,
        safety_checker=None,
        caption_generator=None,
        caption_processor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    before = dict(unet.attn_processors)

    def count(_: torch.nn.Module, given: tuple[Any, ...]) -> None:
        x = given[0]
        evaluations.forwards += len(x)
        if x.requires_grad:
            x.register_hook(returned)

    def returned(gradient: torch.Tensor) -> None:
        evaluations.backwards += len(gradient)

    hook = unet.register_forward_pre_hook(count)
    try:
        yield pipeline
    finally:
        hook.remove()
        unet.set_attn_processor(before)
        unet.requires_grad_(False)
        unet.zero_grad(set_to_none=True)


def _pipeline() -> Any:
    """The class; its file asks for a part of the safety checker and warns about torchvision."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        from diffusers import StableDiffusionPix2PixZeroPipeline
    finally:
        logging.set_verbosity(before)
    return StableDiffusionPix2PixZeroPipeline


PEERS: Mapping[str, type] = {"pix2pix-zero": Pix2PixZero}
