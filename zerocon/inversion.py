"""From a picture to the noise it would have come from, and everything seen on the way."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from zerocon.diffusion import Schedule
from zerocon.errors import ForeignFileError
from zerocon.files import writing
from zerocon.observation import Look, Observation
from zerocon.shapes import Trajectory

FORMAT = "zerocon.inversion/2"


@dataclass(frozen=True)
class Inversion:
    """The paths from pictures to noise: slow to find, and good for any number of edits.

    ``latents[i]`` and ``eps[i]`` stand at level ``i`` of ``schedule``, one row per picture; level 0
    is the picture. ``captions`` and ``pictures`` (hashes) say whose the rows are, ``recipe`` what
    made them (scheme, seed, version). ``seen``, what the network showed at each level, lives in
    memory only: it is many times larger than the path and is found again with one evaluation per
    level.
    """

    latents: Trajectory
    eps: Trajectory
    schedule: Schedule
    captions: tuple[str, ...]
    pictures: tuple[str, ...]
    model: str
    recipe: Mapping[str, str]
    seen: tuple[Observation, ...] = field(default=(), repr=False, compare=False)
    watches: frozenset[str] = field(default=frozenset(), compare=False)

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the path and its recipe (not ``seen``) to a safetensors file, all or nothing."""
        history = {
            "format": FORMAT,
            "schedule": asdict(self.schedule),
            "captions": self.captions,
            "pictures": self.pictures,
            "model": self.model,
            "recipe": dict(self.recipe),
        }
        # in one entry, since several come in random order: the same inversion, the same bytes
        metadata = {"inversion": json.dumps(history, sort_keys=True, ensure_ascii=False)}
        tensors = {"latents": self.latents.cpu().contiguous(), "eps": self.eps.cpu().contiguous()}
        with writing(Path(path), overwrite=overwrite) as temporary:
            temporary.write_bytes(serialize(tensors, metadata))  # its own writer names no errno

    @classmethod
    def along(
        cls,
        path: Iterable[Observation],
        *,
        schedule: Schedule,
        captions: tuple[str, ...],
        pictures: tuple[str, ...] = (),
        model: str,
        recipe: Mapping[str, str],
        watches: frozenset[str] = frozenset(),
    ) -> Inversion:
        """Collect what a scheme showed on the way up, with the same ``watches``."""
        seen = tuple(path)
        return cls(
            latents=torch.stack([level.x for level in seen]),
            eps=torch.stack([level.eps for level in seen]),
            schedule=schedule,
            captions=captions,
            pictures=pictures,
            model=model,
            recipe=recipe,
            seen=seen,
            watches=watches,
        )

    def to(self, device: torch.device) -> Inversion:
        """The same path on another device; one read from a file lies in the computer's memory."""
        return replace(self, latents=self.latents.to(device), eps=self.eps.to(device))

    def rows(self, rows: slice) -> Inversion:
        """The same paths of some of the pictures."""
        return replace(
            self,
            latents=self.latents[:, rows],
            eps=self.eps[:, rows],
            captions=self.captions[rows],
            pictures=self.pictures[rows],
            seen=tuple(level.rows(rows) for level in self.seen),
        )

    @classmethod
    def load(cls, path: Path | str) -> Inversion:
        """Read what ``save`` wrote; anything else is a ``ValueError``."""
        try:
            with safe_open(path, framework="pt") as file:
                history = json.loads((file.metadata() or {}).get("inversion", "{}"))
                if history.get("format") != FORMAT:
                    raise ForeignFileError(f"{path} is no inversion made by zerocon invert")
                tensors = {name: file.get_tensor(name) for name in ("latents", "eps")}
        except (SafetensorError, OSError) as error:
            raise ForeignFileError(f"cannot read {path} as an inversion: {error}") from error
        return cls(
            **tensors,
            schedule=_schedule(history["schedule"]),
            captions=tuple(history["captions"]),
            pictures=tuple(history["pictures"]),
            model=history["model"],
            recipe=history["recipe"],
        )


def recollect(look: Look, inversion: Inversion) -> Iterator[Observation]:
    """See again what an inversion's path shows, level by level: for one read from a file.

    Yields as a scheme does; level 0 costs nothing, since its eps is known and nothing is watched.
    """
    yield Observation(inversion.latents[0], inversion.eps[0], look.c.ids)
    for x, t in zip(inversion.latents[1:], inversion.schedule.times[1:], strict=True):
        yield look(x, t)


def _schedule(saved: dict[str, Any]) -> Schedule:
    return Schedule(tuple(saved["times"]), tuple(saved["alphas"]))
