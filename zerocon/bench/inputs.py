"""What the methods share of some cases, and what each of them gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from zerocon import api
from zerocon.bench.tasks import Task
from zerocon.image.transforms import prepare, unfit
from zerocon.model.captioner import caption_image
from zerocon.nfe import count_evaluations
from zerocon.request import parse_request
from zerocon.settings import Settings
from zerocon.trajectory import Inversion
from zerocon.world import caption as true_caption

if TYPE_CHECKING:
    from zerocon.model.stable_diffusion import StableDiffusion
    from zerocon.request import EditRequest
    from zerocon.shapes import Latents


@dataclass(frozen=True)
class MethodSettings:
    """Settings before a method has its say: the model's ``own``, and those the user gave."""

    own: Settings
    given: Mapping[str, Any] = field(default_factory=dict)

    def settings(
        self, preset: Mapping[str, Any] | None = None, fixed: Mapping[str, Any] | None = None
    ) -> Settings:
        """With a ``preset`` under what the user gave, and over it what is ``fixed``."""
        return self.own.overlay(preset or {}).overlay(self.given).overlay(fixed or {})


@dataclass(frozen=True)
class MethodResult:
    """A picture in the source's size, the sentences it was made of, and its cost.

    ``evaluations`` and ``seconds`` are this picture's share of what was made together with it, its
    inversion included, also where several methods shared one; captions are not timed. ``edits`` is
    whether it is made from the source at all.
    """

    image: Image.Image
    caption: str = ""
    target_caption: str = ""
    evaluations: float = 0.0
    seconds: float = 0.0
    edits: bool = True


@dataclass(frozen=True)
class TimedInversion:
    """An inversion, and what it cost a picture."""

    inversion: Inversion
    evaluations: float
    seconds: float


class TaskSource:
    """One case's source as every method gets it, each part found once and when asked for."""

    def __init__(self, task: Task, model: StableDiffusion, *, told: bool = False) -> None:
        self.task, self.model, self.told = task, model, told
        self.image = task.image
        self.fitted = prepare(self.image, model.size, model.multiple)

    @cached_property
    def latents(self) -> Latents:
        """The picture, encoded."""
        return self.model.encode(self.fitted.pixels)

    @cached_property
    def kept(self) -> Image.Image:
        """What the VAE alone makes of the picture: the most a method can keep of it."""
        return self.show(self.latents)

    @cached_property
    def caption(self) -> str:
        """The true caption if ``told``, else what the captioner sees."""
        if self.told:
            return true_caption(self.task.source)
        return caption_image(self.image, self.model)

    def show(self, latents: Latents) -> Image.Image:
        """A picture of latents, in the source's size."""
        return unfit(self.model.decode(latents)[0], self.fitted.frame)

    def parse_request(self, settings: Settings) -> EditRequest | MethodResult:
        """The case's wish as the tool understands it; one that it refuses changes nothing."""
        try:
            return parse_request(
                self.image, self.model, caption=self.caption, settings=settings, **self.task.prompt
            )
        except ValueError as reason:
            return MethodResult(self.kept, self.caption, f"refused: {reason}")


class SourceBatch:
    """Sources that are edited together."""

    def __init__(self, sources: Sequence[TaskSource]) -> None:
        self.sources = tuple(sources)
        self.model = sources[0].model
        self._inversions: dict[tuple[Any, ...], TimedInversion] = {}

    @property
    def images(self) -> list[Image.Image]:
        """Of all the sources."""
        return [source.image for source in self.sources]

    def invert(self, settings: Settings) -> TimedInversion:
        """The inversion under the captions, shared by methods for which it is equal to the bit.

        Guidances decide which layers are watched on the way, and a watched layer rounds otherwise.
        """
        names = ("steps", "inverter", "seed", "cache_source", "guidance")
        key = tuple(getattr(settings, name) for name in names)
        if key not in self._inversions:
            captions, start = [source.caption for source in self.sources], perf_counter()
            with count_evaluations() as evaluations:
                inversion = api.invert_batch(self.images, self.model, captions, settings=settings)
            if self.model.device.type == "cuda":  # else it is waited for on another's clock
                torch.cuda.synchronize(self.model.device)
            spent, count = perf_counter() - start, len(self.sources)
            self._inversions[key] = TimedInversion(
                inversion, evaluations.total / count, spent / count
            )
        return self._inversions[key]
