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


@pytest.mark.parametrize(
    ("seed", "mean"),
    [
        (0, (113.41, 98.6, 68.86)),
        (1, (64.72, 58.92, 66.45)),
        (2, (105.67, 113.44, 80.08)),
        (3, (126.24, 149.36, 184.09)),
        (10**8, (137.75, 161.02, 170.22)),
    ],
)
def test_scenes_are_those_that_the_embedded_model_was_trained_on(
    seed: int, mean: tuple[float, float, float]
) -> None:
    assert pixels(world.sample(seed)).mean((0, 1)) == pytest.approx(mean, abs=0.1)


# appearances that do not depend on what a part is


def colors_by_class(scene: Scene) -> dict[int, np.ndarray]:
    image, classes = pixels(scene), world.classes(scene)
    return {
        int(index): image[classes == index].mean(0)
        for index in np.unique(classes)
        if (classes == index).sum() > 40
    }


def test_a_recolored_scene_keeps_its_outlines_and_has_no_words() -> None:
    scene = world.sample(11)
    recolored = world.recolored(scene, 5)
    assert np.array_equal(world.labels(scene), world.labels(recolored))
    assert np.array_equal(world.edges(scene), world.edges(recolored))
    assert np.array_equal(world.classes(scene), world.classes(recolored))
    assert np.abs(pixels(scene) - pixels(recolored)).mean() > 10
    assert np.array_equal(pixels(recolored), pixels(world.recolored(scene, 5)))
    assert not np.array_equal(pixels(recolored), pixels(world.recolored(scene, 6)))
    assert (world.caption(recolored), world.truth(recolored)) == ("", {})
    assert world.caption(scene) and world.truth(scene)


def test_dress_gives_the_colors_of_a_recolored_scene_to_the_same_parts() -> None:
    for seed in range(12):
        plain = replace(world.sample(seed), style="drawing", time="day")
        look = world.recolored(plain, seed)
        dressed = colors_by_class(world.dress(world.sample(seed + 100), look))
        for index, color in colors_by_class(look).items():
            if world.CLASSES[index] in ("sky", "companion", "subject's details"):
                continue  # parts of several colors, of which another scene shows other shares
            if index in dressed:
                assert np.abs(color - dressed[index]).max() < 60, world.CLASSES[index]


def test_the_colors_of_a_recolored_scene_do_not_tell_the_class() -> None:
    """The nearest neighbor by color is of the same class only as often as at random."""
    scenes = [replace(world.sample(seed), style="drawing") for seed in range(120)]
    shares = []
    for free in (False, True):
        found = [
            colors_by_class(world.recolored(scene, scene.seed) if free else scene)
            for scene in scenes
        ]
        colors = np.array([color for each in found for color in each.values()])
        classes = np.array([index for each in found for index in each])
        own = np.repeat(np.arange(len(found)), [len(each) for each in found])
        distance = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
        distance[own[:, None] == own[None]] = np.inf
        shares.append(np.mean(classes[distance.argmin(1)] == classes))
    ordinary, recolored = shares
    chance = np.sum((np.bincount(classes) / len(classes)) ** 2)
    assert ordinary > 0.5
    assert recolored < chance + 0.07


def test_neighboring_parts_of_a_recolored_scene_differ() -> None:
    for seed in range(30):
        scene = world.recolored(replace(world.sample(seed), style="drawing"), seed)
        found = {world.CLASSES[i]: color for i, color in colors_by_class(scene).items()}
        for one, other in (("sky", "distance"), ("subject", "ground"), ("ground", "distance")):
            if one in found and other in found:
                assert np.abs(found[one] - found[other]).max() > 12


def test_classes_are_those_of_the_masks_for_every_kind() -> None:
    subject = [i for i, name in enumerate(world.CLASSES) if name.startswith("subject")]
    for seed, kind in enumerate(world.KINDS):
        scene = replace(world.sample(seed), kind=kind, accessory="none", companion="none")
        classes, mask = world.classes(scene), world.masks(scene)["subject"]
        assert classes.dtype == np.uint8 and classes.max() < len(world.CLASSES)
        assert np.mean(np.isin(classes, subject) == mask) > 0.98
        assert (classes == world.CLASSES.index("ground")).any()


def test_the_colors_of_a_label_map_distinguish_its_parts() -> None:
    def color(scene: Scene, name: str) -> np.ndarray:
        inside = np.asarray(world.labels(scene))[world.masks(scene)[name]]
        values, counts = np.unique(inside, axis=0, return_counts=True)
        return values[counts.argmax()].astype(int)

    scene = replace(world.sample(3), companion="ball", place="room")
    kinds = {k: color(replace(scene, kind=k, accessory="none"), "subject") for k in world.KINDS}
    others = {
        "companion": color(scene, "companion"),
        "accessory": color(replace(scene, kind="cat", accessory="hat"), "accessory"),
    }
    image = np.asarray(world.labels(scene))
    room = np.unique(image[~world.masks(scene)["subject"]], axis=0).astype(int)
    assert len(room) > 5
    colors = np.array([*kinds.values(), *others.values()])
    apart = np.abs(colors[:, None] - colors[None]).max(-1)
    assert apart[~np.eye(len(colors), dtype=bool)].min() >= 30
