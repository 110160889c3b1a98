"""From a picture to the noise it would have come from, and everything seen on the way."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from zerocon.diffusion import Schedule
from zerocon.errors import FileFormatError, MismatchError
from zerocon.observation import Observation, Observer
from zerocon.shapes import Trajectory, require_finite
from zerocon.storage.atomic import writing

FORMAT = "zerocon.inversion/3"
COLUMNS = ("times", "alphas", "sigmas")  # of the schedule


@dataclass(frozen=True)
class Inversion:
    """The paths from pictures to noise: slow to find, and good for any number of edits.

    ``latents[i]`` and ``eps[i]`` stand at level ``i`` of ``schedule``, one row per picture; level 0
    is the picture. ``captions`` and ``images`` (hashes) say whose the rows are, ``recipe`` what
    made them (scheme, seed, version). ``seen``, what the network showed at each level, is not in
    the file that ``save`` writes: it is many times larger than the path and is found again with one
    evaluation per level.
    """

    latents: Trajectory
    eps: Trajectory
    schedule: Schedule
    captions: tuple[str, ...]
    images: tuple[str, ...]
    model: str
    recipe: Mapping[str, str]
    seen: tuple[Observation, ...] = field(default=(), repr=False, compare=False)
    layer_patterns: frozenset[str] = field(default=frozenset(), compare=False)

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the path and its recipe (not ``seen``) to a safetensors file, all or nothing."""
        tensors, history = self.parts()
        tensors = {name: part.contiguous() for name, part in tensors.items()}
        # in one entry, since several come in random order: the same inversion, the same bytes
        metadata = {"inversion": history}
        with writing(Path(path), overwrite=overwrite) as temporary:
            temporary.write_bytes(serialize(tensors, metadata))  # its own writer names no errno

    def parts(self, *, seen: bool = False) -> tuple[dict[str, Tensor], str]:
        """Tensors by name, on the CPU, and a line of JSON with all else, for ``of_parts``.

        With ``seen``, what the network showed is among them.
        """
        history: dict[str, Any] = {
            "format": FORMAT,
            "schedule": {name: getattr(self.schedule, name) for name in COLUMNS},
            "captions": self.captions,
            "images": self.images,
            "model": self.model,
            "recipe": dict(self.recipe),
        }
        tensors = {"latents": self.latents, "eps": self.eps}
        if seen:
            last = self.seen[-1]  # the layers in the network's own order, in which losses are added
            history |= {"maps": [*last.maps], "features": [*last.features]}
            history |= {"ids": last.ids, "watches": sorted(self.layer_patterns)}
            for level, each in enumerate(self.seen):
                shown = {**each.maps, **each.features}
                tensors |= {f"{level}/{layer}": part for layer, part in shown.items()}
        line = json.dumps(history, sort_keys=True, ensure_ascii=False)
        return {name: part.cpu() for name, part in tensors.items()}, line

    @property
    def shown(self) -> int:
        """Bytes of what the network showed: maps and features of ``seen``."""
        levels = [(*each.maps.values(), *each.features.values()) for each in self.seen]
        return sum(part.nbytes for level in levels for part in level)

    @classmethod
    def along(
        cls,
        path: Iterable[Observation],
        *,
        schedule: Schedule,
        captions: tuple[str, ...],
        images: tuple[str, ...] = (),
        model: str,
        recipe: Mapping[str, str],
        layer_patterns: frozenset[str] = frozenset(),
    ) -> Inversion:
        """Collect what a scheme showed on the way up, with the same ``layer_patterns``."""
        seen = tuple(path)
        latents = torch.stack([level.x for level in seen])
        eps = torch.stack([level.eps for level in seen])
        for values in (latents, eps):
            require_finite(values, "the latents or the predicted noise of the inversion")
        return cls(
            latents=latents,
            eps=eps,
            schedule=schedule,
            captions=captions,
            images=images,
            model=model,
            recipe=recipe,
            seen=seen,
            layer_patterns=layer_patterns,
        )

    def to(self, device: torch.device) -> Inversion:
        """The same path on another device; one read from a file lies in the computer's memory."""
        seen = tuple(level.to(device) for level in self.seen)
        return replace(self, latents=self.latents.to(device), eps=self.eps.to(device), seen=seen)

    def rows(self, rows: slice) -> Inversion:
        """The same paths of some of the pictures."""
        return replace(
            self,
            latents=self.latents[:, rows],
            eps=self.eps[:, rows],
            captions=self.captions[rows],
            images=self.images[rows],
            seen=tuple(level.rows(rows) for level in self.seen),
        )

    @classmethod
    def together(cls, parts: Sequence[Inversion]) -> Inversion:
        """The rows of several inversions as one, in order; ``rows`` takes them apart again.

        What the network showed is there if all parts watched the same. ``ValueError`` for parts of
        different models, schedules, recipes or sizes of latents.
        """
        first = parts[0]
        if len(parts) == 1:  # not copied, since it may be large
            return first
        made = {(p.model, p.schedule, json.dumps(dict(p.recipe), sort_keys=True)) for p in parts}
        if len(made) > 1 or len({part.latents.shape[2:] for part in parts}) > 1:
            raise MismatchError("inversions of different models, settings or sizes stay apart")
        alike = all(part.seen and part.layer_patterns == first.layer_patterns for part in parts)
        levels = zip(*(part.seen for part in parts), strict=True) if alike else ()

        def joined(paths: Sequence[Trajectory]) -> Trajectory:
            # level by level, which keeps the order in memory: rounding depends on it
            return torch.stack([torch.cat(rows) for rows in zip(*paths, strict=True)])

        return replace(
            first,
            latents=joined([part.latents for part in parts]),
            eps=joined([part.eps for part in parts]),
            captions=tuple(caption for part in parts for caption in part.captions),
            images=tuple(image for part in parts for image in part.images),
            seen=tuple(map(Observation.together, levels)),
            layer_patterns=first.layer_patterns if alike else frozenset(),
        )

    @classmethod
    def load(cls, path: Path | str) -> Inversion:
        """Read what ``save`` wrote; anything else is a ``ValueError``."""
        try:
            with safe_open(path, framework="pt") as file:
                history = json.loads((file.metadata() or {}).get("inversion", "{}"))
                if history.get("format") != FORMAT:
                    raise FileFormatError(f"{path} is no inversion made by zerocon invert")
                tensors = {name: file.get_tensor(name) for name in ("latents", "eps")}
        except (SafetensorError, OSError) as error:
            raise FileFormatError(f"cannot read {path} as an inversion: {error}") from error
        return cls.of_parts(tensors, history)

    @classmethod
    def of_parts(cls, tensors: Mapping[str, Tensor], history: Mapping[str, Any]) -> Inversion:
        """Make it again from its ``parts``, the line of JSON read."""
        latents, eps = tensors["latents"], tensors["eps"]
        layer_patterns, saved = frozenset(history.get("watches", ())), history["schedule"]

        def shown(level: int, layers: list[str]) -> dict[str, Tensor]:
            names = {layer: f"{level}/{layer}" for layer in layers}
            return {layer: tensors[name] for layer, name in names.items() if name in tensors}

        def observed(level: int) -> Observation:
            maps, features = (shown(level, history[kind]) for kind in ("maps", "features"))
            ids = tuple(map(tuple, history["ids"]))
            return Observation(latents[level], eps[level], ids, maps=maps, features=features)

        return cls(
            latents,
            eps,
            schedule=Schedule.of(**saved),
            captions=tuple(history["captions"]),
            images=tuple(history["images"]),
            model=history["model"],
            recipe=history["recipe"],
            seen=tuple(map(observed, range(len(latents)))) if layer_patterns else (),
            layer_patterns=layer_patterns,
        )


def recompute_observations(observer: Observer, inversion: Inversion) -> Iterator[Observation]:
    """See again what an inversion's path shows, level by level: for one read from a file.

    Yields as a scheme does; level 0 costs nothing, since its eps is known and nothing is watched.
    """
    yield Observation(inversion.latents[0], inversion.eps[0], observer.c.ids)
    for x, t in zip(inversion.latents[1:], inversion.schedule.times[1:], strict=True):
        yield observer(x, t)
