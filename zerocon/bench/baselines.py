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
    from PIL.Image import Image

    from zerocon.model.stable_diffusion import StableDiffusion
    from zerocon.request import EditRequest


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
            "direction_from": resolved.direction_from,
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
        with _counted(source.model, evaluations):
            pipeline = _pix2pix_zero(source.model)
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
        return _result(source.decode(latents), request, evaluations, start)

    def _scale(self, settings: MethodSettings) -> float:
        scale = self.guidance_scale
        if scale is None:
            default = settings.resolve().scale
            scale = sum(default) / 2 if isinstance(default, tuple) else default
        if scale <= 1:  # without classifier-free guidance the pipeline silently edits nothing
            raise SettingError(f"pix2pix-zero needs a guidance scale above 1, not {scale}")
        return float(scale)


@dataclass(frozen=True)
class LEditsPP:
    """LEDITS++ (2311.16711), as diffusers' pipeline implements it, with its documented options.

    The target caption is its one concept. For timing: its quality depends on concepts chosen by
    hand.
    """

    steps: int = 50
    skip: float = 0.1

    def __call__(self, batch: SourceBatch, settings: MethodSettings) -> list[MethodResult]:
        """Edit one by one."""
        return [self._edit(source, settings) for source in batch.sources]

    def _edit(self, source: TaskSource, settings: MethodSettings) -> MethodResult:
        request = source.parse_request(settings.resolve())
        if isinstance(request, MethodResult):
            return request
        rng, start, evaluations = seeded_generator("0"), perf_counter(), Evaluations()
        with _counted(source.model, evaluations):
            pipeline = _ledits_pp(source.model)
            pipeline.invert(
                (source.fitted.pixels + 1) / 2,
                num_inversion_steps=self.steps,
                skip=self.skip,
                generator=rng,
            )
            latents = pipeline(
                editing_prompt=[request.target_caption], generator=rng, output_type="latent"
            ).images
        return _result(source.decode(latents), request, evaluations, start)


@dataclass(frozen=True)
class ImageToImage:
    """SDEdit (2108.01073), as diffusers' image-to-image pipeline, with its default options.

    For timing, as a bound: no inversion, nothing held.
    """

    steps: int = 50

    def __call__(self, batch: SourceBatch, settings: MethodSettings) -> list[MethodResult]:
        """Edit all images in one batch."""
        sources, resolved = batch.sources, settings.resolve()
        requests = [source.parse_request(resolved) for source in sources]
        parsed = [each for each in requests if not isinstance(each, MethodResult)]
        if len(parsed) < len(requests):
            raise ValueError("a prompt of the batch was refused")
        start, evaluations, n = perf_counter(), Evaluations(), len(sources)
        with _counted(batch.model, evaluations):
            latents = _image_to_image(batch.model)(
                [request.target_caption for request in parsed],
                (torch.cat([source.fitted.pixels for source in sources]) + 1) / 2,
                num_inference_steps=self.steps,
                generator=[seeded_generator(f"{i}") for i in range(n)],
                output_type="latent",
            ).images
        images = [source.decode(latents[i : i + 1]) for i, source in enumerate(sources)]
        each, seconds = evaluations.total / n, (perf_counter() - start) / n
        return [
            MethodResult(image, request.caption, request.target_caption, each, seconds)
            for image, request in zip(images, parsed, strict=True)
        ]


@contextmanager
def _counted(model: StableDiffusion, evaluations: Evaluations) -> Iterator[None]:
    """Count the passes of the U-Net inside the block, and restore what pipelines leave in it."""
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
        yield
    finally:
        hook.remove()
        unet.set_attn_processor(processors)
        unet.requires_grad_(False)
        unet.zero_grad(set_to_none=True)


def _pix2pix_zero(model: StableDiffusion) -> Any:
    from diffusers import DDIMInverseScheduler, DDIMScheduler

    with _quiet():
        from diffusers import StableDiffusionPix2PixZeroPipeline

    config = model.scheduler.config
    return _assemble(
        StableDiffusionPix2PixZeroPipeline,
        model,
        scheduler=DDIMScheduler.from_config(config),
        inverse_scheduler=DDIMInverseScheduler.from_config(config),
        caption_generator=None,
        caption_processor=None,
    )


def _ledits_pp(model: StableDiffusion) -> Any:
    from diffusers import DPMSolverMultistepScheduler

    with _quiet():
        from diffusers import LEditsPPPipelineStableDiffusion

    scheduler = DPMSolverMultistepScheduler.from_config(
        model.scheduler.config, algorithm_type="sde-dpmsolver++", solver_order=2
    )
    return _assemble(LEditsPPPipelineStableDiffusion, model, scheduler=scheduler)


def _image_to_image(model: StableDiffusion) -> Any:
    from diffusers import DDIMScheduler

    with _quiet():
        from diffusers import StableDiffusionImg2ImgPipeline

    scheduler = DDIMScheduler.from_config(model.scheduler.config)
    return _assemble(StableDiffusionImg2ImgPipeline, model, scheduler=scheduler)


def _assemble(pipeline_class: Any, model: StableDiffusion, **parts: Any) -> Any:
    """A pipeline of the model's networks, without progress bars and safety checker."""
    pipeline = pipeline_class(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        feature_extractor=None,
        safety_checker=None,
        requires_safety_checker=False,
        **parts,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextmanager
def _quiet() -> Iterator[None]:
    """Importing a pipeline class would otherwise warn about torchvision."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _result(
    image: Image, request: EditRequest, evaluations: Evaluations, start: float
) -> MethodResult:
    return MethodResult(
        image,
        request.rewrite.caption,
        request.rewrite.target_caption,
        evaluations=evaluations.total,
        seconds=perf_counter() - start,
    )


BASELINES: Mapping[str, type] = {"pix2pix-zero": Pix2PixZero}
