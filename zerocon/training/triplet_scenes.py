"""Triplets of the drawn world: a condition, an exemplar, and the exact result of translation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from zerocon import world
from zerocon.training.dataset import SIZE
from zerocon.world import Scene
from zerocon.world.rendering import label_numbers

CONDITIONS = ("edge", "label", "sketch", "image")
SPLITS = {"train": world.TRAIN, "validation": world.VALIDATION, "test": world.TEST}
SCENES = 4  # seeds of a triplet: structure, exemplar's structure, its colors, other colors
RECOLORED, ALIKE = 0.5, 0.5  # shares of free appearances, and of exemplars of the same place
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Triplet:
    """A condition, an exemplar of another structure, and the condition dressed like it: uint8."""

    condition: Array  # (SIZE, SIZE, 3)
    kind: str  # of the condition, one of CONDITIONS
    exemplar: Array  # (SIZE, SIZE, 3)
    target: Array  # (SIZE, SIZE, 3), the exact result
    classes_c: Array  # (SIZE, SIZE), indices of world.CLASSES, of condition and target
    classes_r: Array  # (SIZE, SIZE), of the exemplar


class TripletScenes(NamedTuple):
    """The scenes of a triplet; target and exemplar have one appearance."""

    target: Scene
    exemplar: Scene
    other: Scene  # the target's structure in another appearance, the condition of kind "image"


def triplet(seed: int, split: str = "train", kind: str | None = None) -> Triplet:
    """The triplet of a seed, 0 <= seed < 25 million, the same on every machine.

    No scene of one split is in another. Kinds of conditions alternate with the seed; ``kind``
    chooses one. If both scenes have an accessory or a companion, it is the same in both; half of
    the exemplars are of the target's place, and half of the appearances are recolored ones.
    """
    if kind not in (None, *CONDITIONS):
        raise ValueError(f"kind must be one of {', '.join(CONDITIONS)}, not {kind!r}")
    kind = kind or CONDITIONS[seed % len(CONDITIONS)]
    scenes = scenes_of(seed, split)
    if kind == "image":
        condition = np.asarray(world.render(scenes.other, SIZE))
    elif kind == "label":
        condition = np.asarray(world.labels(scenes.target, SIZE))
    else:
        condition = np.asarray(world.edges(scenes.target, SIZE))
        if kind == "sketch":
            condition = sketch(condition[..., 0], np.random.default_rng([seed, 18]))
    return Triplet(
        condition,
        kind,
        np.asarray(world.render(scenes.exemplar, SIZE)),
        np.asarray(world.render(scenes.target, SIZE)),
        world.classes(scenes.target, SIZE),
        world.classes(scenes.exemplar, SIZE),
    )


def scenes_of(seed: int, split: str) -> TripletScenes:
    """The scenes of a triplet, see ``triplet``."""
    seeds = SPLITS[split]
    if not 0 <= seed < len(seeds) // SCENES:
        raise ValueError(f"seed {seed} is out of range; the limit is {len(seeds) // SCENES}")
    first, second, colors, other = (world.sample(seeds[SCENES * seed + i]) for i in range(SCENES))
    rng = np.random.default_rng([colors.seed, 17])
    second = _comparable(second, first, same_place=bool(rng.random() < ALIKE))
    colors, other = (
        world.recolored(scene, scene.seed) if rng.random() < RECOLORED else scene
        for scene in (colors, other)
    )
    # time and light move outlines: the moon, the clouds, the shadow
    light = replace(other.appearance, light=colors.appearance.light)
    other = replace(other, time=colors.time, appearance=light)
    return TripletScenes(
        world.dress(first, colors), world.dress(second, colors), world.dress(first, other)
    )


def draw_images(split: str, seed: int) -> tuple[Array, Array]:
    """What all kinds of a triplet need.

    Returns:
        Target, exemplar and other image (3, SIZE, SIZE, 3), and the maps (4, SIZE, SIZE): edges,
        numbers of labels, classes of condition and exemplar; uint8.
    """
    target, exemplar, other = scenes_of(seed, split)
    # whatever is drawn of one scene in a row shares its canvas
    first = np.asarray(world.render(target, SIZE))
    edges = np.asarray(world.edges(target, SIZE))[..., 0]
    labels, classes_c = label_numbers(target, SIZE), world.classes(target, SIZE)
    second, classes_r = np.asarray(world.render(exemplar, SIZE)), world.classes(exemplar, SIZE)
    third = np.asarray(world.render(other, SIZE))
    return np.stack([first, second, third]), np.stack([edges, labels, classes_c, classes_r])


def sketch(edges: Array, rng: np.random.Generator) -> Array:
    """Edges (h, w) as a line drawing, dark on white, (h, w, 3) uint8.

    Lines are displaced by up to 1.5 pixels of 128 and have gaps.
    """
    size = len(edges)
    y, x = np.mgrid[:size, :size]
    dy, dx, gap = (_smooth(rng, cells, size) for cells in (12, 12, 20))
    rows = np.clip(np.rint(y + 1.5 * size / 128 * dy), 0, size - 1).astype(np.intp)
    columns = np.clip(np.rint(x + 1.5 * size / 128 * dx), 0, size - 1).astype(np.intp)
    lines = (edges[rows, columns] > 127) & (gap > -0.7)
    tones = np.array((rng.integers(235, 256), rng.integers(20, 90)), np.uint8)
    return np.repeat(tones[lines.astype(np.intp)][..., None], 3, -1)


def _comparable(scene: Scene, target: Scene, *, same_place: bool) -> Scene:
    """A scene whose accessory and companion have the colors of those of ``target``.

    Ordinary colors of hats and scarves, or of balls and cats, have nothing in common.
    """
    accessory, companion = scene.accessory, scene.companion
    if "none" not in (accessory, target.accessory):
        accessory = target.accessory
    if "none" not in (companion, target.companion):
        companion = "none" if target.companion == scene.kind else target.companion
    place = target.place if same_place else scene.place
    return replace(scene, accessory=accessory, companion=companion, place=place)


def _smooth(rng: np.random.Generator, cells: int, size: int) -> Array:
    """Smooth noise (size, size), about -1 .. 1."""
    grid = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))
