"""Ambiguous images, of which the classifiers learn what they cannot read."""

from __future__ import annotations

import numpy as np
import torch

from zerocon import world
from zerocon.training.ambiguous_images import (
    FIRST_SEED,
    LABELS,
    SORTS,
    flat,
    make_ambiguous,
    one_hot,
)
from zerocon.world.scene import ANIMALS

NUMBERS = range(96)


def numbers(sort: str) -> list[int]:
    """The numbers of the images of a sort."""
    return [n for n in NUMBERS if SORTS[n % len(SORTS)].__name__ == f"_{sort}"]


def scene_of(number: int) -> world.Scene:
    return world.sample(FIRST_SEED + number)


def latents(images: tuple[np.ndarray, ...]) -> torch.Tensor:
    """Values in place of latents: the mean color of each cell, and its brightness."""
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    cells = torch.nn.functional.avg_pool2d(x, 8)
    return torch.cat([cells, cells.mean(1, keepdim=True)], 1)


def test_labels_are_distributions_or_open() -> None:
    for number in NUMBERS:
        row = flat(make_ambiguous(number).labels)
        assert row.shape == (LABELS,) and (row >= 0).all()
        for part in make_ambiguous(number).labels.values():
            assert np.isclose(part.sum(), 1, atol=1e-5) or not part.any()


def test_the_same_number_gives_the_same_image() -> None:
    for number in range(len(SORTS)):
        first, second = make_ambiguous(number), make_ambiguous(number)
        x = latents(first.images)
        assert torch.equal(first.combine(x), second.combine(x))
        assert np.array_equal(flat(first.labels), flat(second.labels))


def test_most_parameters_keep_their_label() -> None:
    """An image is ambiguous in what was made so, and nothing else."""
    kept = []
    for number in NUMBERS:
        truth = one_hot(world.truth(scene_of(number)))
        labels = make_ambiguous(number).labels
        kept += [np.array_equal(labels[name], truth[name]) for name in truth]
        if number in (*numbers("smear"), *numbers("spot"), *numbers("without_face")):
            assert all(np.array_equal(labels[name], truth[name]) for name in ("place", "time"))
    assert 0.7 < np.mean(kept) < 0.95


def test_a_mixture_lies_between_a_scene_and_its_counterfactual() -> None:
    shares = []
    for number in numbers("mixture"):
        part = make_ambiguous(number)
        x = latents(part.images)
        mixed = part.combine(x)
        difference = x[1] - x[0]
        share = float(((mixed - x[0]) * difference).sum() / difference.square().sum())
        scene = scene_of(number)
        source, target = (
            flat(one_hot(world.truth(each))) for each in (scene, world.edits(scene, 1)[0])
        )
        if share < 0.05 or share > 0.95:
            assert np.array_equal(flat(part.labels), source if share < 0.5 else target)
        shares.append(share)
    assert min(shares) < 0.05 and max(shares) > 0.95
    assert sum(0.2 < share < 0.8 for share in shares) > 5


def test_a_smear_changes_its_region_only() -> None:
    for number in numbers("smear"):
        part = make_ambiguous(number)
        x = latents(part.images)
        changed = (part.combine(x) - x[0]).abs().amax(0) > 0.1
        assert 0 < changed.float().mean() < 0.8


def test_a_subject_of_two_kinds_has_no_certain_kind() -> None:
    probabilities = []
    for number in numbers("two_kinds"):
        labels = make_ambiguous(number).labels
        truth = one_hot(world.truth(scene_of(number)))
        assert all(np.array_equal(labels[name], truth[name]) for name in labels if name != "kind")
        probabilities.append(labels["kind"].max())
        assert (labels["kind"] > 0).sum() <= 2
    assert min(probabilities) < 0.65 and np.mean(probabilities) < 0.95


def test_an_animal_without_its_face_has_no_kind() -> None:
    faceless = []
    for number in numbers("without_face"):
        scene, part = scene_of(number), make_ambiguous(number)
        image = world.render(scene)
        changed = (np.asarray(image, np.int16) != part.images[0]).any(-1)
        subject = np.logical_or.reduce([*world.masks(scene).values()])
        assert changed.any() and not (changed & ~subject).sum() > 0.2 * changed.sum()
        kind = part.labels["kind"]
        assert kind.max() < 0.1  # open, or all kinds alike
        faceless.append(kind.any())
        assert scene.kind in ANIMALS or not kind.any()
    assert any(faceless) and not all(faceless)


def test_a_place_without_its_things_keeps_the_subject() -> None:
    empty = []
    for number in numbers("empty_place"):
        scene, part = scene_of(number), make_ambiguous(number)
        changed = (np.asarray(world.render(scene), np.int16) != part.images[0]).any(-1)
        subject = world.masks(scene)["subject"]
        assert not (changed & subject).sum() > 0.1 * subject.sum()
        assert part.labels["place"].max() < 0.2
        empty.append(part.labels["place"].any())
        truth = one_hot(world.truth(scene))
        assert all(
            np.array_equal(part.labels[name], truth[name])
            for name in ("kind", "color", "companion")
        )
    assert any(empty) and not all(empty)
