"""The methods that the benchmark compares: zerocon's variants, bounds, and published baselines.

A method records its settings (``recipe``) and edits the sources of a batch. To add one, add a line
to ``METHODS`` at the end, and a class where settings are not enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import torch
from PIL import Image

from zerocon import api
from zerocon.bench.baselines import BASELINES
from zerocon.bench.inputs import (
    MethodResult,
    MethodSettings,
    SourceBatch,
    TaskSource,
    TimedInversion,
)
from zerocon.errors import MethodError, MismatchError
from zerocon.evaluation_count import count_evaluations
from zerocon.image.reading import Photograph
from zerocon.registry import parse
from zerocon.rng import seeded_generator
from zerocon.sampling import denoise
from zerocon.settings import DIRECTION_FROM, FAST, Settings
from zerocon.world import caption

if TYPE_CHECKING:
    from zerocon.request import EditRequest
    from zerocon.tensor_types import Latents


class Method(Protocol):
    """The interface of a method."""

    def recipe(self, settings: MethodSettings) -> dict[str, Any]:
        """The settings that decide its results, as JSON values."""
        ...

    def __call__(self, batch: SourceBatch, settings: MethodSettings) -> list[MethodResult]:
        """One result for every source of ``batch``, in order."""
        ...


@dataclass(frozen=True)
class Unedited:
    """The source image itself: perfect preservation, no edit."""

    def recipe(self, settings: MethodSettings) -> dict[str, Any]:
        return {}

    def __call__(self, batch: SourceBatch, settings: MethodSettings) -> list[MethodResult]:
        return [MethodResult(source.image) for source in batch.sources]


@dataclass(frozen=True)
class Reconstruction:
    """The source image encoded and decoded: the upper bound of preservation of every method."""

    def recipe(self, settings: MethodSettings) -> dict[str, Any]:
        return {}

    def __call__(self, batch: SourceBatch, settings: MethodSettings) -> list[MethodResult]:
        return [MethodResult(source.reconstruction) for source in batch.sources]


@dataclass(frozen=True)
class ZeroconMethod:
    """``zerocon.edit`` with a ``preset`` below the user's settings and ``fixed`` ones above them.

    A prompt that the parser refuses leaves the reconstruction unchanged.
    """

    preset: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, settings: MethodSettings) -> dict[str, Any]:
        return asdict(settings.resolve(self.preset, self.fixed))

    def __call__(self, batch: SourceBatch, settings: MethodSettings) -> list[MethodResult]:
        resolved = settings.resolve(self.preset, self.fixed)
        parsed = [source.parse_request(resolved) for source in batch.sources]
        inversion, results = batch.invert(resolved), list[MethodResult]()
        for _, part in groupby(enumerate(parsed), lambda each: isinstance(each[1], MethodResult)):
            numbers, items = zip(*part, strict=True)
            refused = [each for each in items if isinstance(each, MethodResult)]
            requests = [each for each in items if not isinstance(each, MethodResult)]
            rows = slice(numbers[0], numbers[-1] + 1)
            results += refused or _edit_rows(batch, rows, requests, resolved, inversion)
        return results


@dataclass(frozen=True)
class FromScratch:
    """The true target caption sampled from noise with DDIM (2010.02502): a bound on edit success.

    No edit can show more of the target than the model draws without a source to preserve.
    """

    def recipe(self, settings: MethodSettings) -> dict[str, Any]:
        resolved = settings.resolve()
        return {
            "steps": resolved.steps,
            "guidance_scale": resolved.guidance_scale,
            "seed": resolved.seed,
        }

    def __call__(self, batch: SourceBatch, settings: MethodSettings) -> list[MethodResult]:
        resolved, start = settings.resolve(), perf_counter()
        captions = [caption(source.task.target) for source in batch.sources]
        noise = torch.cat([self._noise(source, resolved.seed) for source in batch.sources])
        with count_evaluations() as evaluations:
            x = denoise(batch.model, captions, noise, resolved.steps, resolved.guidance_scale)
        images = [source.decode(x[i : i + 1]) for i, source in enumerate(batch.sources)]
        count, seconds = len(images), perf_counter() - start
        return [
            MethodResult(
                image,
                target_caption=target_caption,
                evaluations=evaluations.total / count,
                seconds=seconds / count,
                uses_source=False,
            )
            for image, target_caption in zip(images, captions, strict=True)
        ]

    def _noise(self, source: TaskSource, seed: int) -> Latents:
        rng = seeded_generator(f"{seed}/{source.task.seed}")
        return torch.randn(source.latents.shape, generator=rng).to(source.latents)


@dataclass(frozen=True)
class Folder:
    """Images that another program made: ``path``/<seed of the scene>.png, in the source's size."""

    path: str = ""

    def recipe(self, settings: MethodSettings) -> dict[str, Any]:
        if not self.path:
            raise MethodError("method folder needs the directory of its images: folder:path=DIR")
        return {"path": self.path}

    def __call__(self, batch: SourceBatch, settings: MethodSettings) -> list[MethodResult]:
        """Read the images.

        Raises:
            InputError: One does not exist or is no image.
            MismatchError: One has another size than its source image.
        """
        return [MethodResult(self._read(source)) for source in batch.sources]

    def _read(self, source: TaskSource) -> Image.Image:
        file = Path(self.path) / f"{source.task.seed}.png"
        image = Photograph.read(file).image
        if image.size != source.image.size:
            sizes = [f"{each.width}x{each.height}" for each in (image, source.image)]
            raise MismatchError(f"{file} is {sizes[0]}, but the scenes are rendered at {sizes[1]}")
        return image


def pick(text: str) -> Method:
    """The method of a name, with the options given after a colon.

    Raises:
        MethodError: There is no such method, or it has no options.
    """
    name, _, options = text.partition(":")
    if name not in METHODS:
        raise MethodError(f'no method "{name}"; there are: {", ".join(METHODS)}')
    if not options:
        return METHODS[name]
    if name not in WITH_OPTIONS:
        raise MethodError(f"method {name} has no options: it uses the settings of the command")
    method: Method = parse(text, WITH_OPTIONS, "method")
    return method


def _edit_rows(
    batch: SourceBatch,
    rows: slice,
    requests: Sequence[EditRequest],
    settings: Settings,
    timed: TimedInversion,
) -> list[MethodResult]:
    """Edit the sources ``rows`` of a batch from the batch's inversion."""
    start = perf_counter()
    edits = api.edit_batch(
        batch.images[rows],
        requests,
        model=batch.model,
        inversion=timed.inversion.rows(rows),
        settings=settings,
    )
    seconds = timed.seconds + (perf_counter() - start) / len(edits)
    return [
        MethodResult(
            edit.image,
            edit.caption,
            edit.target_caption,
            evaluations=timed.evaluations + edit.evaluations.total,
            seconds=seconds,
        )
        for edit in edits
    ]


WITH_OPTIONS: Mapping[str, type] = {**BASELINES, "folder": Folder}
METHODS: Mapping[str, Method] = {
    "identity": Unedited(),
    "vae": Reconstruction(),
    "from-scratch": FromScratch(),
    "default": ZeroconMethod(),
    "fast": ZeroconMethod(preset=FAST),
    "no-guidance": ZeroconMethod(fixed={"guidance": ()}),
    "cross-attention": ZeroconMethod(fixed={"guidance": ("cross-attention",)}),
    "contrastive": ZeroconMethod(fixed={"guidance": ("contrastive",)}),
    "plain-ddim": ZeroconMethod(fixed={"source_correction": False}),
    **{name: ZeroconMethod(fixed={"direction_from": name}) for name in DIRECTION_FROM},
    # the usual baseline: DDIM inversion, then DDIM sampling under the target caption
    "word-swap": ZeroconMethod(
        fixed={
            "direction_from": "caption",
            "guidance": (),
            "source_correction": False,
            "strength": 1.0,
            "direction_positions": "all",
        }
    ),
    **{name: method() for name, method in WITH_OPTIONS.items()},
}
