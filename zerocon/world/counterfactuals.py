"""Edits with a known result: a scene with one or two named parameters replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from zerocon.world.scene import (
    ACCESSORIES,
    ANIMALS,
    COLORS,
    COMPANIONS,
    FAMILIES,
    PLACES,
    STYLES,
    TIMES,
    Scene,
)

EDITS = ("object", "color", "add", "remove", "place", "time", "style", "two")
_WEIGHTS = {
    "add": 1.95,
    "remove": 1.5,
}  # compensates for scenes in which nothing can be added or removed


def edits(scene: Scene, seed: int) -> tuple[Scene, str]:
    """A random valid edit of a scene: the edited scene and the kind of edit, one of ``EDITS``.

    Over many scenes all kinds are about equally frequent, and so are the target values within a
    kind, independent of ``scene.HABITS``. "two" changes two named parameters.
    """
    rng = np.random.default_rng([scene.seed, seed, 5])
    kinds = [kind for kind in EDITS if kind == "two" or any(True for _ in _results(scene, kind))]
    weights = np.array([_WEIGHTS.get(kind, 1.0) for kind in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    if kind == "two":
        single = [kind for kind in kinds if kind not in ("remove", "two")]
        first, second = rng.choice(single, 2, replace=False)
        return _choose(_choose(scene, str(first), rng), str(second), rng), "two"
    return _choose(scene, kind, rng), kind


def _choose(scene: Scene, kind: str, rng: np.random.Generator) -> Scene:
    results = list(_results(scene, kind))
    return results[int(rng.integers(len(results)))]


def _results(scene: Scene, kind: str) -> Iterator[Scene]:
    """All valid results of one kind of edit."""
    return _RESULTS[kind](scene)


def _objects(scene: Scene) -> Iterator[Scene]:
    family = next(family for family in FAMILIES if scene.kind in family)
    for word in family:
        if word not in (scene.kind, scene.companion):
            yield replace(scene, kind=word)


def _added(scene: Scene) -> Iterator[Scene]:
    if scene.accessory == "none" and scene.kind in ANIMALS:
        for word in ACCESSORIES[1:]:
            yield replace(scene, accessory=word)
    elif scene.companion == "none":
        for word in COMPANIONS[1:]:
            if word != scene.kind:
                yield replace(scene, companion=word)


def _removed(scene: Scene) -> Iterator[Scene]:
    if scene.accessory != "none":
        yield replace(scene, accessory="none")
    elif scene.companion != "none":
        yield replace(scene, companion="none")


def _swapped(name: str, words: tuple[str, ...]) -> Callable[[Scene], Iterator[Scene]]:
    def results(scene: Scene) -> Iterator[Scene]:
        for word in words:
            if word != getattr(scene, name):
                named: dict[str, Any] = {name: word}
                yield replace(scene, **named)

    return results


_RESULTS: dict[str, Callable[[Scene], Iterator[Scene]]] = {
    "object": _objects,
    "color": _swapped("color", COLORS),
    "add": _added,
    "remove": _removed,
    "place": _swapped("place", PLACES),
    "time": _swapped("time", TIMES),
    "style": _swapped("style", STYLES),
}
