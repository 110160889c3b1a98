"""Inputs that the methods of the benchmark share, and what each method returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from zerocon import api
from zerocon.bench.native import NativeReference
from zerocon.bench.tasks import Task
from zerocon.cache import inversion_key
from zerocon.editing import Plan, Step
from zerocon.evaluation_count import count_evaluations
from zerocon.image.transforms import prepare, unfit
from zerocon.model.captioner import caption_image
from zerocon.request import parse_request
from zerocon.settings import Settings
from zerocon.trajectory import Inversion

if TYPE_CHECKING:
    from zerocon.model.stable_diffusion import StableDiffusion
    from zerocon.request import EditRequest
    from zerocon.tensor_types import Latents


@dataclass(frozen=True)
class MethodSettings:
    """The model's default settings and the user's ``overrides``, before those of a method."""

    defaults: Settings
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def resolve(
        self, preset: Mapping[str, Any] | None = None, fixed: Mapping[str, Any] | None = None
    ) -> Settings:
        """The defaults, over them ``preset``, then the user's overrides, then ``fixed``."""
        return self.defaults.overlay(preset or {}).overlay(self.overrides).overlay(fixed or {})


@dataclass(frozen=True)
class MethodResult:
    """The result of a method for one task.

    Attributes:
        image: The result, in the size of the source image.
        evaluations: U-Net evaluations (NFE) of this image: its share of the batch, and its
            inversion, also if several methods shared that.
        seconds: Time of this image, by the same rules; captioning is not timed.
        uses_source: Whether the method edits the source image, rather than ignoring it.
        mask: Where the method changed the source, (height, width) of ``image``, 0..1; None if it
            has no mask.
    """

    image: Image.Image
    caption: str = ""
    target_caption: str = ""
    evaluations: float = 0.0
    seconds: float = 0.0
    uses_source: bool = True
    mask: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class TimedInversion:
    """An inversion of a batch, with its evaluations and seconds per image."""

    inversion: Inversion
    evaluations: float
    seconds: float


@dataclass(frozen=True)
class TimedLatents:
    """Denoised latents of a batch, with the evaluations and seconds per image."""

    latents: Latents
    evaluations: float
    seconds: float


class TaskSource:
    """The source of one task as every method gets it; each part is computed once, when needed."""

    def __init__(
        self,
        task: Task,
        model: StableDiffusion,
        *,
        true_captions: bool = False,
        image: Image.Image | None = None,
        caption: str | None = None,
    ) -> None:
        """Take ``image`` and ``caption`` in place of those of the task, if they are given."""
        self.task, self.model = task, model
        self.image = task.image if image is None else image
        self._caption = task.caption if true_captions and caption is None else caption
        self._size = model.working_size.with_size(model.settings.size)
        self.fitted = prepare(self.image, self._size)

    @cached_property
    def latents(self) -> Latents:
        """The encoded source image."""
        return self.model.encode(self.fitted.pixels)

    @cached_property
    def reconstruction(self) -> Image.Image:
        """The source image after encoding and decoding: the most a method can preserve."""
        return self.decode(self.latents)

    @cached_property
    def exact_reconstruction(self) -> Image.Image:
        """The exact result after encoding and decoding: what the model can show of it."""
        fitted = prepare(self.task.truth, self._size)
        return unfit(self.model.decode(self.model.encode(fitted.pixels))[0], fitted.frame)

    @cached_property
    def native(self) -> NativeReference:
        """What results are compared with at the size of the source image."""
        return NativeReference(self.image, self.task.truth)

    @cached_property
    def caption(self) -> str:
        """The caption that is given, the true one with ``true_captions``, else the captioner's."""
        return caption_image(self.image, self.model) if self._caption is None else self._caption

    def decode(self, latents: Latents) -> Image.Image:
        """The image of latents (1, ...), in the size of the source image."""
        return unfit(self.model.decode(latents)[0], self.fitted.frame)

    def parse_request(self, settings: Settings) -> EditRequest | MethodResult:
        """The parsed prompt of the task; for a refused one, the unchanged reconstruction."""
        try:
            return parse_request(
                self.image, self.model, caption=self.caption, settings=settings, **self.task.prompt
            )
        except ValueError as reason:
            unchanged = self.image if settings.composite == "native" else self.reconstruction
            return MethodResult(unchanged, self.caption, f"refused: {reason}")


class SourceBatch:
    """Sources that are edited as one batch."""

    def __init__(self, sources: Sequence[TaskSource]) -> None:
        self.sources = tuple(sources)
        self.model = sources[0].model
        self._inversions: dict[tuple[Any, ...], TimedInversion] = {}
        self._denoised: dict[tuple[Any, ...], TimedLatents] = {}

    @property
    def images(self) -> list[Image.Image]:
        """The source images."""
        return [source.image for source in self.sources]

    def invert(self, settings: Settings) -> TimedInversion:
        """The inversion under the source captions, shared by methods that get the same bits."""
        key = inversion_key(Plan.of(settings))
        if key not in self._inversions:
            captions, start = [source.caption for source in self.sources], perf_counter()
            with count_evaluations() as evaluations:
                inversion = api.invert_batch(self.images, self.model, captions, settings=settings)
            if self.model.device.type == "cuda":  # else the next timing would include the wait
                torch.cuda.synchronize(self.model.device)
            seconds, count = perf_counter() - start, len(self.sources)
            self._inversions[key] = TimedInversion(
                inversion, evaluations.total / count, seconds / count
            )
        return self._inversions[key]

    def denoise(
        self, rows: slice, requests: Sequence[EditRequest], settings: Settings
    ) -> TimedLatents:
        """The edited latents of the sources ``rows``, shared by methods that get the same bits."""
        lock = settings.lock if settings.lock == "latent" else "pixel"
        settings = replace(settings, composite="model", lock=lock)
        key = (rows.start, rows.stop, repr(settings), repr(requests))
        if key not in self._denoised:
            inversion, steps = self.invert(settings).inversion.rows(rows), list[Step]()
            start = perf_counter()
            edits = api.edit_batch(
                self.images[rows], requests, model=self.model, inversion=inversion,
                settings=settings, on_step=lambda step: steps.__setitem__(slice(None), [step]),
            )  # fmt: skip
            seconds, cost = (perf_counter() - start) / len(edits), edits[0].evaluations.total
            self._denoised[key] = TimedLatents(steps[0].latents, cost, seconds)
        return self._denoised[key]
