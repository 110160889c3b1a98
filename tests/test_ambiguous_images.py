"""Ambiguous images, of which the classifiers learn what they cannot read."""

from __future__ import annotations

import numpy as np
import torch

from zerocon import world
from zerocon.training.ambiguous_images import FIRST_SEED, LABELS, flat, make_ambiguous, one_hot

NUMBERS = range(48)


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
    for number in range(4):
        first, second = make_ambiguous(number), make_ambiguous(number)
        x = latents(first.images)
        assert torch.equal(first.combine(x), second.combine(x))
        assert np.array_equal(flat(first.labels), flat(second.labels))


def test_most_parameters_keep_their_label() -> None:
    """An image is ambiguous in what was made so, and nothing else."""
    kept = []
    for number in NUMBERS:
        scene = world.sample(FIRST_SEED + number)
        truth = one_hot(world.truth(scene))
        labels = make_ambiguous(number).labels
        kept += [np.array_equal(labels[name], truth[name]) for name in truth]
        if number % 4 in (1, 3):  # smears and spots
            assert all(np.array_equal(labels[name], truth[name]) for name in ("place", "time"))
    assert 0.7 < np.mean(kept) < 0.95


def test_a_mixture_lies_between_a_scene_and_its_counterfactual() -> None:
    shares = []
    for number in NUMBERS[::2]:
        part = make_ambiguous(number)
        x = latents(part.images)
        mixed = part.combine(x)
        difference = x[1] - x[0]
        share = float(((mixed - x[0]) * difference).sum() / difference.square().sum())
        scene = world.sample(FIRST_SEED + number)
        source, target = (
            flat(one_hot(world.truth(each))) for each in (scene, world.edits(scene, 1)[0])
        )
        if share < 0.05 or share > 0.95:
            assert np.array_equal(flat(part.labels), source if share < 0.5 else target)
        shares.append(share)
    assert min(shares) < 0.05 and max(shares) > 0.95
    assert sum(0.2 < share < 0.8 for share in shares) > 5


def test_a_smear_changes_its_region_only() -> None:
    for number in NUMBERS[1::4]:
        part = make_ambiguous(number)
        x = latents(part.images)
        changed = (part.combine(x) - x[0]).abs().amax(0) > 0.1
        assert 0 < changed.float().mean() < 0.8
