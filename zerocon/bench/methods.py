"""The methods that are compared: zerocon's own settings, bounds to read them by, and peers.

A method says what it is made with (``recipe``, for the record) and makes a picture of a source.
To add one: a line in ``METHODS`` at the foot, and a class where settings are not enough.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any, Protocol

import torch

from zerocon import library
from zerocon.bench.peers import PEERS
from zerocon.bench.sources import Asked, Result, Source
from zerocon.chance import stream
from zerocon.evaluations import counting
from zerocon.painting import denoise
from zerocon.registry import parse
from zerocon.settings import FAST, SENTENCES
from zerocon.world import caption


class Method(Protocol):
    """What a comparison asks of a method."""

    def recipe(self, asked: Asked) -> dict[str, Any]: ...
    def __call__(self, source: Source, asked: Asked) -> Result: ...


@dataclass(frozen=True)
class Picture:
    """The source picture unchanged: nothing done, nothing lost."""

    def recipe(self, asked: Asked) -> dict[str, Any]:
        return {}

    def __call__(self, source: Source, asked: Asked) -> Result:
        return Result(source.picture)


@dataclass(frozen=True)
class Reconstruction:
    """The source after the VAE alone: what every method starts from."""

    def recipe(self, asked: Asked) -> dict[str, Any]:
        return {}

    def __call__(self, source: Source, asked: Asked) -> Result:
        return Result(source.kept)


@dataclass(frozen=True)
class Zerocon:
    """``zerocon.edit`` with a ``preset`` under what the user gave, and over it what is ``fixed``.

    A wish that the tool refuses changes nothing.
    """

    preset: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, asked: Asked) -> dict[str, Any]:
        return asdict(asked.settings(self.preset, self.fixed))

    def __call__(self, source: Source, asked: Asked) -> Result:
        settings = asked.settings(self.preset, self.fixed)
        try:
            source.understand(settings)
        except ValueError as refusal:
            return source.refused(refusal)
        found = source.invert(settings)
        start = perf_counter()
        edited = library.edit(
            source.picture,
            model=source.model,
            inversion=found.inversion,
            settings=settings,
            **source.case.wish,
        )
        return Result(
            edited.picture,
            edited.caption,
            edited.wording.target_caption,
            evaluations=found.evaluations + edited.evaluations.total,
            seconds=found.seconds + perf_counter() - start,
        )


@dataclass(frozen=True)
class FromScratch:
    """The true target caption painted from noise, by plain DDIM: a ceiling for what can be seen.

    No edit shows more of what was asked than the model can draw when it has nothing to keep.
    """

    def recipe(self, asked: Asked) -> dict[str, Any]:
        settings = asked.settings()
        return {"steps": settings.steps, "scale": settings.scale, "seed": settings.seed}

    def __call__(self, source: Source, asked: Asked) -> Result:
        settings, start = asked.settings(), perf_counter()
        sentence = caption(source.case.target)
        chance = stream(f"{settings.seed}/{source.case.seed}")
        noise = torch.randn(source.latents.shape, generator=chance).to(source.latents)
        with counting() as evaluations:
            x = denoise(source.model, [sentence], noise, settings.steps, settings.scale)
        return Result(
            source.show(x),
            target_caption=sentence,
            evaluations=evaluations.total,
            seconds=perf_counter() - start,
            edits=False,
        )


def split(text: str) -> tuple[str, ...]:
    """``a,b:key=value,key=value,c`` at the commas that end a method; each once, in order."""
    return tuple(dict.fromkeys(re.split(r",(?![^,:]*=)", text)))


def pick(text: str) -> Method:
    """The method that ``text`` names; ``ValueError``, listing what there is, if none."""
    name, _, options = text.partition(":")
    if name not in METHODS:
        raise ValueError(f'no method "{name}"; there are: {", ".join(METHODS)}')
    if not options:
        return METHODS[name]
    if name not in PEERS:
        raise ValueError(f"method {name} has no options: it is made with the settings given")
    peer: Method = parse(text, PEERS, "method")
    return peer


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
