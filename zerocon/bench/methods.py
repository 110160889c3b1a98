"""The methods that are compared: zerocon's own settings, bounds to read them by, and peers.

A method says what it is made with (``recipe``, for the record) and makes pictures of sources.
To add one: a line in ``METHODS`` at the foot, and a class where settings are not enough.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import torch

from zerocon import api
from zerocon.bench.baselines import PEERS
from zerocon.bench.inputs import (
    MethodResult,
    MethodSettings,
    SourceBatch,
    TaskSource,
    TimedInversion,
)
from zerocon.errors import MethodError
from zerocon.nfe import count_evaluations
from zerocon.registry import parse
from zerocon.rng import seeded_generator
from zerocon.sampling import denoise
from zerocon.settings import DIRECTION_FROM, FAST, Settings
from zerocon.world import caption

if TYPE_CHECKING:
    from zerocon.request import EditRequest
    from zerocon.shapes import Latents


class Method(Protocol):
    """What a comparison asks of a method."""

    def recipe(self, asked: MethodSettings) -> dict[str, Any]: ...
    def __call__(self, batch: SourceBatch, asked: MethodSettings) -> list[MethodResult]: ...


@dataclass(frozen=True)
class Unedited:
    """The source picture unchanged: nothing done, nothing lost."""

    def recipe(self, asked: MethodSettings) -> dict[str, Any]:
        return {}

    def __call__(self, batch: SourceBatch, asked: MethodSettings) -> list[MethodResult]:
        return [MethodResult(source.image) for source in batch.sources]


@dataclass(frozen=True)
class Reconstruction:
    """The source after the VAE alone: what every method starts from."""

    def recipe(self, asked: MethodSettings) -> dict[str, Any]:
        return {}

    def __call__(self, batch: SourceBatch, asked: MethodSettings) -> list[MethodResult]:
        return [MethodResult(source.kept) for source in batch.sources]


@dataclass(frozen=True)
class ZeroconMethod:
    """``zerocon.edit`` with a ``preset`` under what the user gave, and over it what is ``fixed``.

    A wish that the tool refuses changes nothing.
    """

    preset: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, asked: MethodSettings) -> dict[str, Any]:
        return asdict(asked.settings(self.preset, self.fixed))

    def __call__(self, batch: SourceBatch, asked: MethodSettings) -> list[MethodResult]:
        settings = asked.settings(self.preset, self.fixed)
        said = [source.parse_request(settings) for source in batch.sources]
        found, results = batch.invert(settings), list[MethodResult]()
        for _, part in groupby(enumerate(said), lambda each: isinstance(each[1], MethodResult)):
            places, some = zip(*part, strict=True)
            refused = [each for each in some if isinstance(each, MethodResult)]
            prompts = [each for each in some if not isinstance(each, MethodResult)]
            rows = slice(places[0], places[-1] + 1)
            results += refused or _edited(batch, rows, prompts, settings, found)
        return results


@dataclass(frozen=True)
class FromScratch:
    """The true target caption painted from noise, by plain DDIM: a ceiling for what can be seen.

    No edit shows more of what was asked than the model can draw when it has nothing to keep.
    """

    def recipe(self, asked: MethodSettings) -> dict[str, Any]:
        settings = asked.settings()
        return {
            "steps": settings.steps,
            "guidance_scale": settings.guidance_scale,
            "seed": settings.seed,
        }

    def __call__(self, batch: SourceBatch, asked: MethodSettings) -> list[MethodResult]:
        settings, start = asked.settings(), perf_counter()
        sentences = [caption(source.task.target) for source in batch.sources]
        noise = torch.cat([self._noise(source, settings.seed) for source in batch.sources])
        with count_evaluations() as evaluations:
            x = denoise(batch.model, sentences, noise, settings.steps, settings.guidance_scale)
        images = [source.show(x[i : i + 1]) for i, source in enumerate(batch.sources)]
        count, seconds = len(images), perf_counter() - start
        return [
            MethodResult(
                image,
                target_caption=sentence,
                evaluations=evaluations.total / count,
                seconds=seconds / count,
                edits=False,
            )
            for image, sentence in zip(images, sentences, strict=True)
        ]

    def _noise(self, source: TaskSource, seed: int) -> Latents:
        rng = seeded_generator(f"{seed}/{source.task.seed}")
        return torch.randn(source.latents.shape, generator=rng).to(source.latents)


def split(text: str) -> tuple[str, ...]:
    """``a,b:key=value,key=value,c`` at the commas that end a method; each once, in order."""
    return tuple(dict.fromkeys(re.split(r",(?![^,:]*=)", text)))


def pick(text: str) -> Method:
    """The method that ``text`` names; ``ValueError``, listing what there is, if none."""
    name, _, options = text.partition(":")
    if name not in METHODS:
        raise MethodError(f'no method "{name}"; there are: {", ".join(METHODS)}')
    if not options:
        return METHODS[name]
    if name not in PEERS:
        raise MethodError(f"method {name} has no options: it is made with the settings given")
    peer: Method = parse(text, PEERS, "method")
    return peer


def _edited(
    batch: SourceBatch,
    rows: slice,
    said: Sequence[EditRequest],
    settings: Settings,
    found: TimedInversion,
) -> list[MethodResult]:
    """Edits of some of a batch, beside its inversion."""
    start = perf_counter()
    made = api.edit_batch(
        batch.images[rows],
        said,
        model=batch.model,
        inversion=found.inversion.rows(rows),
        settings=settings,
    )
    seconds = found.seconds + (perf_counter() - start) / len(made)
    return [
        MethodResult(
            edit.image,
            edit.caption,
            edit.target_caption,
            evaluations=found.evaluations + edit.evaluations.total,
            seconds=seconds,
        )
        for edit in made
    ]


def _said(way: str) -> dict[str, Any]:
    """The setting that says which sentences the direction comes from."""
    return {"direction_from": way}


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
    **{way: ZeroconMethod(fixed=_said(way)) for way in DIRECTION_FROM},
    # the field's baseline: DDIM there, and back under the other sentence
    "word-swap": ZeroconMethod(
        fixed=_said("caption")
        | {
            "guidance": (),
            "source_correction": False,
            "strength": 1.0,
            "direction_positions": "all",
        }
    ),
    **{name: peer() for name, peer in PEERS.items()},
}
