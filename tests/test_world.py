"""The drawn world: a seed is an image, and a changed parameter changes nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from zerocon import world
from zerocon.world import Scene
from zerocon.world.counterfactuals import EDITS
from zerocon.world.scene import ANIMALS, FAMILIES, held_out


def pixels(scene: Scene, size: int = 128) -> np.ndarray:
    return np.asarray(world.render(scene, size), np.int16)


def test_a_seed_is_a_scene() -> None:
    assert world.sample(7) == world.sample(7)
    assert world.sample(7) != world.sample(8)
    assert hash(world.sample(7)) == hash(world.sample(7))
    assert np.array_equal(pixels(world.sample(7)), pixels(world.sample(7)))
    world.sample(2**63 - 1)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed"):
        world.sample(seed)


@pytest.mark.parametrize("size", [64, 96, 128, 200])
def test_every_image_has_the_requested_size(size: int) -> None:
    scene = world.sample(3)
    for image in (world.render, world.labels, world.edges):
        assert image(scene, size).size == (size, size)
        assert image(scene, size).mode == "RGB"
    assert all(mask.shape == (size, size) for mask in world.masks(scene, size).values())


def test_the_image_is_the_same_at_twice_the_size() -> None:
    scene = replace(world.sample(3), style="drawing", time="day")
    large = pixels(scene, 256).reshape(128, 2, 128, 2, 3).mean((1, 3))
    assert np.abs(large - pixels(scene)).mean() < 3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "a red fox in the snow"),
        ({"time": "night"}, "a red fox in the snow at night"),
        ({"color": "orange"}, "an orange fox in the snow"),
        ({"accessory": "sunglasses"}, "a red fox wearing sunglasses in the snow"),
        ({"accessory": "hat", "time": "rain"}, "a red fox wearing a hat in the snow in the rain"),
        ({"companion": "ball", "place": "sea"}, "a red fox next to a ball at sea"),
        ({"style": "pixel art", "place": "beach"}, "pixel art of a red fox on the beach"),
        ({"style": "mosaic", "place": "room"}, "a mosaic of a red fox in a room"),
    ],
)
def test_captions(change: dict[str, Any], expected: str) -> None:
    plain = replace(
        world.sample(0),
        kind="fox",
        color="red",
        accessory="none",
        companion="none",
        place="snow",
        time="day",
        style="drawing",
        wording=(0, 0),
    )
    assert world.caption(replace(plain, **change)) == expected


def test_captions_name_every_named_parameter() -> None:
    for seed in range(500):
        scene = world.sample(seed)
        caption = world.caption(scene)
        assert caption == caption.lower()
        assert len(caption.split()) <= 20
        for name, word in world.truth(scene).items():
            assert word in world.VALUES[name]
            if word not in ("none", "day", "drawing"):
                assert word in caption


def test_masks_are_those_of_the_named_objects() -> None:
    for seed in range(60):
        scene = world.sample(seed)
        masks = world.masks(scene)
        assert masks["subject"].sum() > 100
        assert ("accessory" in masks) == (scene.accessory != "none")
        assert ("companion" in masks) == (scene.companion != "none")
        assert np.sum(list(masks.values()), axis=0).max() == 1


@pytest.mark.parametrize("accessory", world.ACCESSORIES[1:])
def test_an_accessory_is_never_too_small_to_classify(accessory: str) -> None:
    for seed in range(40):
        scene = world.sample(seed)
        if scene.kind in ANIMALS:
            free = replace(scene, accessory=accessory, companion="none", place="room")
            rows, columns = np.nonzero(world.masks(free)["accessory"])
            assert min(np.ptp(rows), np.ptp(columns)) + 1 >= 16


@pytest.mark.parametrize("style", world.STYLES)
def test_an_object_swap_changes_nothing_far_from_the_object(style: str) -> None:
    for seed in range(12):
        scene = replace(world.sample(seed), style=style)
        family = next(family for family in FAMILIES if scene.kind in family)
        word = next(word for word in family if word not in (scene.kind, scene.companion))
        edited = replace(scene, kind=word)
        objects = [np.zeros((128, 128), bool)]
        objects += [world.masks(s)[name] for s in (scene, edited) for name in world.masks(s)]
        rows, columns = np.nonzero(np.any(objects, axis=0))
        far = np.ones((128, 128), bool)
        reach = 14  # a style may spread a change over its blur or its blocks, no further
        top, left = max(0, rows.min() - reach), max(0, columns.min() - reach)
        far[top : rows.max() + reach, left : columns.max() + reach] = False
        assert np.array_equal(pixels(scene)[far], pixels(edited)[far])


def test_a_new_color_stays_inside_the_subject() -> None:
    for seed in range(20):
        scene = replace(world.sample(seed), style="drawing", color="red")
        changed = (pixels(scene) != pixels(replace(scene, color="blue"))).any(-1)
        rows, columns = np.nonzero(changed)
        inside = np.zeros((130, 130), bool)
        subject = world.masks(scene)["subject"]
        for dy in range(3):
            for dx in range(3):
                inside[dy : dy + 128, dx : dx + 128] |= subject
        assert inside[rows + 1, columns + 1].all()
        assert changed.sum() > 0.3 * subject.sum()


def test_edits_change_only_the_parameters_of_their_kind() -> None:
    unnamed = [field.name for field in fields(Scene) if field.name not in world.VALUES]
    named = {
        "object": {"kind"},
        "color": {"color"},
        "add": {"accessory", "companion"},
        "remove": {"accessory", "companion"},
        "place": {"place"},
        "time": {"time"},
        "style": {"style"},
        "two": set(world.VALUES),
    }
    for seed in range(400):
        scene = world.sample(world.TEST.start + seed)
        edited, kind = world.edits(scene, seed)
        before, after = world.truth(scene), world.truth(edited)
        changed = {name for name in before if before[name] != after[name]}
        assert len(changed) == (2 if kind == "two" else 1)
        assert changed <= named[kind]
        assert all(getattr(scene, name) == getattr(edited, name) for name in unnamed)
        assert edited.kind in next(family for family in FAMILIES if scene.kind in family)
        assert edited.companion != edited.kind
        assert edited.accessory == "none" or edited.kind in ANIMALS
        if kind in ("add", "remove"):
            assert "none" in (before if kind == "add" else after).values()


def test_edits_are_balanced() -> None:
    counts = Counter(world.edits(world.sample(seed), 0)[1] for seed in range(3000))
    assert set(counts) == set(EDITS)
    assert min(counts.values()) > 0.7 * 3000 / len(EDITS)
    assert max(counts.values()) < 1.3 * 3000 / len(EDITS)


def test_usual_places_are_frequent_and_some_combinations_are_held_out() -> None:
    scenes = [world.sample(seed) for seed in range(4000)]
    penguins = [scene.place == "snow" for scene in scenes if scene.kind == "penguin"]
    assert 0.5 < np.mean(penguins) < 0.7
    assert not any(held_out(scene.kind, scene.place, scene.style) for scene in scenes)
    tested = [world.sample(world.TEST.start + seed) for seed in range(1000)]
    assert any(held_out(scene.kind, scene.place, scene.style) for scene in tested)


def test_a_dressed_scene_keeps_its_outlines_and_has_the_other_appearance() -> None:
    structure, other = world.sample(11), world.sample(12)
    dressed = world.dress(structure, other)
    assert np.array_equal(world.masks(structure)["subject"], world.masks(dressed)["subject"])
    assert (dressed.kind, dressed.place) == (structure.kind, structure.place)
    assert (dressed.color, dressed.style) == (other.color, other.style)
    assert dressed.appearance == other.appearance
