"""Published methods, run unmodified on the same weights for comparison.

A baseline is a frozen dataclass whose fields are its options (``pix2pix-zero:amount=0.15``).
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
from zerocon.evaluation_count import Evaluations
from zerocon.rng import seeded_generator

if TYPE_CHECKING:
    from zerocon.model.stable_diffusion import StableDiffusion


@dataclass(frozen=True)
class Pix2PixZero:
    """pix2pix-zero (2302.03027), as diffusers' deprecated pipeline implements it.

    Inversion with noise regularization, a reference pass and an edited pass, the source caption as
    prompt and as negative prompt, and the edit direction of zerocon's default. The pipeline's code
    is unmodified: it gets the model's parts and one seeded generator, its latents are decoded as
    those of all methods, and the attention processors and gradients that it leaves in the U-Net
    are removed. 7 forward and 2 backward passes per step.
    """

    amount: float = 0.1  # of cross-attention guidance; the authors' scripts use 0.1 or 0.15
    guidance_scale: float | None = None  # None: the model's; of a range, the mean
    steps: int = 50

    def recipe(self, settings: MethodSettings) -> dict[str, Any]:
        """The options, and the user's strength and seed, which it uses too."""
        resolved = settings.resolve()
        return {
            "amount": self.amount,
            "guidance_scale": self._scale(settings),
            "steps": self.steps,
            "strength": resolved.strength,
            "seed": resolved.seed,
            "diffusers": version("diffusers"),
        }

    def __call__(self, batch: SourceBatch, settings: MethodSettings) -> list[MethodResult]:
        """Edit one by one: its regularization mixes the images of a batch."""
        return [self._edit(source, settings) for source in batch.sources]

    def _edit(self, source: TaskSource, settings: MethodSettings) -> MethodResult:
        resolved, guidance_scale = settings.resolve(), self._scale(settings)
        request = source.parse_request(resolved)
        if isinstance(request, MethodResult):
            return request
        direction = resolved.strength * request.direction.tokens
        rng, start = seeded_generator(f"{resolved.seed}"), perf_counter()
        evaluations = Evaluations()
        with _pipeline(source.model, evaluations) as pipeline:
            inverted = pipeline.invert(
                source.caption,
                image=(source.fitted.pixels + 1) / 2,
                num_inference_steps=self.steps,
                generator=rng,
            )
            latents = pipeline(
                source.caption,
                negative_prompt=source.caption,
                source_embeds=torch.zeros_like(direction),  # it uses the difference of the two
                target_embeds=direction,
                latents=inverted.latents,
                num_inference_steps=self.steps,
                guidance_scale=guidance_scale,
                cross_attention_guidance_amount=self.amount,
                generator=rng,
                output_type="latent",
            ).images
        return MethodResult(
            source.decode(latents),
            request.rewrite.caption,
            request.rewrite.target_caption,
            evaluations=evaluations.total,
            seconds=perf_counter() - start,
        )

    def _scale(self, settings: MethodSettings) -> float:
        scale = self.guidance_scale
        if scale is None:
            default = settings.resolve().guidance_scale
            scale = sum(default) / 2 if isinstance(default, tuple) else default
        if scale <= 1:  # without classifier-free guidance the pipeline silently edits nothing
            raise SettingError(f"pix2pix-zero needs a guidance scale above 1, not {scale}")
        return float(scale)


@contextmanager
def _pipeline(model: StableDiffusion, evaluations: Evaluations) -> Iterator[Any]:
    """diffusers' pipeline with the model's parts, which are restored afterwards.

    ``evaluations`` counts the forward and backward passes of the U-Net.
    """
    unet = model.unet
    processors = dict(unet.attn_processors)

    def count(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0]
        evaluations.forwards += len(x)
        if x.requires_grad:
            x.register_hook(count_backward)

    def count_backward(gradient: torch.Tensor) -> None:
        evaluations.backwards += len(gradient)

    hook = unet.register_forward_pre_hook(count)
    try:
        yield _assemble(model)
    finally:
        hook.remove()
        unet.set_attn_processor(processors)
        unet.requires_grad_(False)
        unet.zero_grad(set_to_none=True)


def _assemble(model: StableDiffusion) -> Any:
    from diffusers import DDIMInverseScheduler, DDIMScheduler

    config = model.scheduler.config
    pipeline = _pipeline_class()(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=DDIMScheduler.from_config(config),
        inverse_scheduler=DDIMInverseScheduler.from_config(config),
        feature_extractor=None,
        safety_checker=None,
        caption_generator=None,
        caption_processor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _pipeline_class() -> Any:
    """The pipeline class; importing it would otherwise warn about torchvision."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        from diffusers import StableDiffusionPix2PixZeroPipeline
    finally:
        logging.set_verbosity(level)
    return StableDiffusionPix2PixZeroPipeline


BASELINES: Mapping[str, type] = {"pix2pix-zero": Pix2PixZero}
