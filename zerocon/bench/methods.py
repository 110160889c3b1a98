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
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zerocon.bench.baselines import BASELINES
from zerocon.bench.inputs import (
    MethodResult,
    MethodSettings,
    SourceBatch,
    TaskSource,
)
from zerocon.errors import MethodError, MismatchError
from zerocon.evaluation_count import count_evaluations
from zerocon.finishing import Finished, finish, native_mask
from zerocon.image.compositing import Mask, composite
from zerocon.image.masks import read_mask
from zerocon.image.reading import Photograph
from zerocon.image.support import Support
from zerocon.image.transfer import Transfer
from zerocon.registry import parse
from zerocon.rng import seeded_generator
from zerocon.sampling import denoise
from zerocon.settings import DIRECTION_FROM, PAPER, PRESETS, Settings
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

    A prompt that the parser refuses leaves the source unchanged. Methods that differ only in what
    they make of the decoded latents share the denoising.
    """

    preset: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, settings: MethodSettings) -> dict[str, Any]:
        return asdict(settings.resolve(self.preset, self.fixed))

    def __call__(self, batch: SourceBatch, settings: MethodSettings) -> list[MethodResult]:
        resolved = settings.resolve(self.preset, self.fixed)
        parsed = [source.parse_request(resolved) for source in batch.sources]
        results = list[MethodResult]()
        for _, part in groupby(enumerate(parsed), lambda each: isinstance(each[1], MethodResult)):
            numbers, items = zip(*part, strict=True)
            refused = [each for each in items if isinstance(each, MethodResult)]
            requests = [each for each in items if not isinstance(each, MethodResult)]
            rows = slice(numbers[0], numbers[-1] + 1)
            results += refused or self._edit_rows(batch, rows, requests, resolved)
        return results

    def finish(
        self, source: TaskSource, request: EditRequest, pair: Decoded, settings: Settings
    ) -> Finished:
        """The image of a decoded edit, as an edit makes it."""
        before = pair.before if settings.composite == "native" else None
        return finish(source.fitted, pair.after, before, request.changes, settings)

    def _edit_rows(
        self, batch: SourceBatch, rows: slice, requests: Sequence[EditRequest], settings: Settings
    ) -> list[MethodResult]:
        """Edit the sources ``rows`` of a batch from the batch's inversion."""
        inverted, sources = batch.invert(settings), batch.sources[rows]
        denoised, start = batch.denoise(rows, requests, settings), perf_counter()
        after = batch.model.decode(denoised.latents)
        before = batch.model.decode(inverted.inversion.latents[0][rows])
        finished = [
            self.finish(source, request, Decoded(*pair), settings)
            for source, request, *pair in zip(sources, requests, before, after, strict=True)
        ]
        seconds = inverted.seconds + denoised.seconds + (perf_counter() - start) / len(finished)
        return [
            MethodResult(
                each.image,
                request.caption,
                request.target_caption,
                evaluations=inverted.evaluations + denoised.evaluations,
                seconds=seconds,
                mask=None if each.support is None else _mask(source, each.support),
            )
            for each, request, source in zip(finished, requests, sources, strict=True)
        ]


class Decoded(NamedTuple):
    """Source and edit after decoding, each (3, height, width) in -1..1."""

    before: Tensor
    after: Tensor


@dataclass(frozen=True)
class AddedDifference(ZeroconMethod):
    """The enlarged difference added to the source image: no support, all of the old detail."""

    def finish(
        self, source: TaskSource, request: EditRequest, pair: Decoded, settings: Settings
    ) -> Finished:
        a, b = map(source.fitted.to_array, pair)
        every = Mask(Image.new("L", source.fitted.frame.inner, 255))
        identity = np.broadcast_to(np.eye(3, dtype=np.float32), (*a.shape, 3))
        return Finished(composite(source.image, Transfer(identity, b - a), every))


@dataclass(frozen=True)
class TrueMask(ZeroconMethod):
    """An edit that is given the region that truly changes as its mask: a bound on the support."""

    def finish(
        self, source: TaskSource, request: EditRequest, pair: Decoded, settings: Settings
    ) -> Finished:
        region = source.native.region
        mask = read_mask(region, source.image.size) if region.any() else None
        return finish(source.fitted, pair.after, pair.before, request.changes, settings, mask)


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
            x = denoise(batch.model, captions, noise, resolved.steps, resolved.scale)
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


def _mask(source: TaskSource, support: Support) -> NDArray[np.float32]:
    """Where a result may differ from the source, (height, width) in 0..1."""
    return np.asarray(native_mask(source.fitted, support), np.float32) / np.float32(255)


# The embedded model's settings in version 0.1, chosen on it. It took the smallest limit of
# several changes: the kinds are in ascending order, since an edit takes the first that fits.
VERSION_0_1: Mapping[str, Any] = {
    **PAPER,
    "guidance_scale": 1.5,
    "direction_from": "caption",
    "guidance": ("cross-attention:weight=0.12", "contrastive:weight=300,targets=soft"),
    "guidance_range": (0.0, 0.6),
    "guidance_limit": "0.01,object=0.01,added=0.01,removed=0.01,caption=0.01,style=0.02,place=0.03,"
    "attribute=0.05,time=0.05",
    "polyak_step": True,
}
WITH_OPTIONS: Mapping[str, type] = {**BASELINES, "folder": Folder}
METHODS: Mapping[str, Method] = {
    "identity": Unedited(),
    "vae": Reconstruction(),
    "from-scratch": FromScratch(),
    **{name: ZeroconMethod(preset=preset) for name, preset in PRESETS.items()},
    "version-0.1": ZeroconMethod(fixed=VERSION_0_1),
    # what is made of the model's output: the rows of --render
    "enlarged": ZeroconMethod(fixed={"composite": "model"}),
    "difference": AddedDifference(fixed={"composite": "native"}),
    "no-lock": ZeroconMethod(fixed={"composite": "native", "lock": "off"}),
    "latent-lock": ZeroconMethod(fixed={"composite": "native", "lock": "latent"}),
    "true-mask": TrueMask(fixed={"composite": "native"}),
    "no-guidance": ZeroconMethod(fixed={"guidance": ()}),
    "cross-attention": ZeroconMethod(fixed={"guidance": ("cross-attention",)}),
    "contrastive": ZeroconMethod(fixed={"guidance": ("contrastive",)}),
    "no-threshold": ZeroconMethod(fixed={"difference_threshold": 0.0}),
    "plain-ddim": ZeroconMethod(fixed={"source_correction": False}),
    **{name: ZeroconMethod(fixed={"direction_from": name}) for name in DIRECTION_FROM},
    # the usual baseline: DDIM inversion, then DDIM sampling under the target caption
    "word-swap": ZeroconMethod(
        fixed={
            "direction_from": "caption",
            "guidance": (),
            "attention": (),
            "begin": 0.0,
            "difference_threshold": 0.0,
            "source_correction": False,
            "strength": 1.0,
            "direction_positions": "all",
        }
    ),
    **{name: method() for name, method in WITH_OPTIONS.items()},
}
