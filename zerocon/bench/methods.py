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
from zerocon.image.compositing import composite
from zerocon.image.masks import read_mask
from zerocon.image.reading import Photograph
from zerocon.image.support import Support
from zerocon.native import Finished, finish, native_mask
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
        self,
        source: TaskSource,
        request: EditRequest,
        after: Tensor,
        before: Tensor,
        settings: Settings,
    ) -> Finished:
        """The image of a decoded edit, (3, height, width) in -1..1, as an edit makes it."""
        native = before if settings.composite == "native" else None
        return finish(source.fitted, after, native, request.changes, settings)

    def _mask(source: TaskSource, support: Support) -> NDArray[np.float32]:
    """Where a result may differ from the source, (height, width) in 0..1."""
    return np.asarray(native_mask(source.fitted, support), np.float32) / 255


WITH_OPTIONS: Mapping[str, type] = {**BASELINES, "folder": Folder}
METHODS: Mapping[str, Method] = {
    "identity": Unedited(),
    "vae": Reconstruction(),
    "from-scratch": FromScratch(),
    "default": ZeroconMethod(),
    "fast": ZeroconMethod(preset=FAST),
    # what is made of the model's output: the rows of --render
    "enlarged": ZeroconMethod(fixed={"composite": "model"}),
    "difference": AddedDifference(fixed={"composite": "native"}),
    "no-lock": ZeroconMethod(fixed={"composite": "native", "lock": "off"}),
    "latent-lock": ZeroconMethod(fixed={"composite": "native", "lock": "latent"}),
    "true-mask": TrueMask(fixed={"composite": "native"}),
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
