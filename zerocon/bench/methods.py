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
from zerocon.bench.inputs import Asked, Batch, Inverted, Result, Source
from zerocon.errors import MethodError
from zerocon.nfe import counting
from zerocon.registry import parse
from zerocon.rng import stream
from zerocon.sampling import denoise
from zerocon.settings import FAST, SENTENCES, Settings
from zerocon.world import caption

if TYPE_CHECKING:
    from zerocon.request import Understanding
    from zerocon.shapes import Latents


class Method(Protocol):
    """What a comparison asks of a method."""

    def recipe(self, asked: Asked) -> dict[str, Any]: ...
    def __call__(self, batch: Batch, asked: Asked) -> list[Result]: ...


@dataclass(frozen=True)
class Picture:
    """The source picture unchanged: nothing done, nothing lost."""

    def recipe(self, asked: Asked) -> dict[str, Any]:
        return {}

    def __call__(self, batch: Batch, asked: Asked) -> list[Result]:
        return [Result(source.picture) for source in batch.sources]


@dataclass(frozen=True)
class Reconstruction:
    """The source after the VAE alone: what every method starts from."""

    def recipe(self, asked: Asked) -> dict[str, Any]:
        return {}

    def __call__(self, batch: Batch, asked: Asked) -> list[Result]:
        return [Result(source.kept) for source in batch.sources]


@dataclass(frozen=True)
class Zerocon:
    """``zerocon.edit`` with a ``preset`` under what the user gave, and over it what is ``fixed``.

    A wish that the tool refuses changes nothing.
    """

    preset: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, asked: Asked) -> dict[str, Any]:
        return asdict(asked.settings(self.preset, self.fixed))

    def __call__(self, batch: Batch, asked: Asked) -> list[Result]:
        settings = asked.settings(self.preset, self.fixed)
        said = [source.understand(settings) for source in batch.sources]
        found, results = batch.invert(settings), list[Result]()
        for _, part in groupby(enumerate(said), lambda each: isinstance(each[1], Result)):
            places, some = zip(*part, strict=True)
            refused = [each for each in some if isinstance(each, Result)]
            wishes = [each for each in some if not isinstance(each, Result)]
            rows = slice(places[0], places[-1] + 1)
            results += refused or _edited(batch, rows, wishes, settings, found)
        return results


@dataclass(frozen=True)
class FromScratch:
    """The true target caption painted from noise, by plain DDIM: a ceiling for what can be seen.

    No edit shows more of what was asked than the model can draw when it has nothing to keep.
    """

    def recipe(self, asked: Asked) -> dict[str, Any]:
        settings = asked.settings()
        return {"steps": settings.steps, "scale": settings.scale, "seed": settings.seed}

    def __call__(self, batch: Batch, asked: Asked) -> list[Result]:
        settings, start = asked.settings(), perf_counter()
        sentences = [caption(source.case.target) for source in batch.sources]
        noise = torch.cat([self._noise(source, settings.seed) for source in batch.sources])
        with counting() as evaluations:
            x = denoise(batch.model, sentences, noise, settings.steps, settings.scale)
        pictures = [source.show(x[i : i + 1]) for i, source in enumerate(batch.sources)]
        count, seconds = len(pictures), perf_counter() - start
        return [
            Result(
                picture,
                target_caption=sentence,
                evaluations=evaluations.total / count,
                seconds=seconds / count,
                edits=False,
            )
            for picture, sentence in zip(pictures, sentences, strict=True)
        ]

    def _noise(self, source: Source, seed: int) -> Latents:
        chance = stream(f"{seed}/{source.case.seed}")
        return torch.randn(source.latents.shape, generator=chance).to(source.latents)


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
    batch: Batch, rows: slice, said: Sequence[Understanding], settings: Settings, found: Inverted
) -> list[Result]:
    """Edits of some of a batch, beside its inversion."""
    start = perf_counter()
    made = api.edit_together(
        batch.pictures[rows],
        said,
        model=batch.model,
        inversion=found.inversion.rows(rows),
        settings=settings,
    )
    seconds = found.seconds + (perf_counter() - start) / len(made)
    return [
        Result(
            edit.picture,
            edit.caption,
            edit.wording.target_caption,
            evaluations=found.evaluations + edit.evaluations.total,
            seconds=seconds,
        )
        for edit in made
    ]


def _said(way: str) -> dict[str, Any]:
    """The setting that says which sentences the direction comes from."""
    return {"sentences": way}


METHODS: Mapping[str, Method] = {
    "identity": Picture(),
    "vae": Reconstruction(),
    "from-scratch": FromScratch(),
    "default": Zerocon(),
    "fast": Zerocon(preset=FAST),
    "no-guidance": Zerocon(fixed={"guidance": ()}),
    "cross-attention": Zerocon(fixed={"guidance": ("cross-attention",)}),
    "contrastive": Zerocon(fixed={"guidance": ("contrastive",)}),
    "plain-ddim": Zerocon(fixed={"corrected": False}),
    **{way: Zerocon(fixed=_said(way)) for way in SENTENCES},
    # the field's baseline: DDIM there, and back under the other sentence
    "word-swap": Zerocon(
        fixed=_said("caption")
        | {"guidance": (), "corrected": False, "strength": 1.0, "positions": "all"}
    ),
    **{name: peer() for name, peer in PEERS.items()},
}
