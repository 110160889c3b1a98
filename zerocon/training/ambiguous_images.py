"""Images of which a parameter cannot be read with certainty, with soft labels.

They resemble failed edits, but are made of drawn scenes only, by changing latents (or pixels)
between encoder and decoder:

- a mixture of a scene and one of its counterfactuals, everywhere or on one side of a line;
- the subject, companion or accessory blurred or mixed with noise until it has no shape;
- a spot of one color that is nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from zerocon import world
from zerocon.training.augment import CELL
from zerocon.training.dataset import SIZE
from zerocon.world import VALUES, Scene
from zerocon.world.scene import ANIMALS

FIRST_SEED = 7 * 10**7  # training seeds from here on are used by no other stage
CELLS = SIZE // CELL  # latents a side
LABELS = sum(len(values) for values in VALUES.values())
LATENT_STD = 1.2  # of the unscaled latents of the embedded model's autoencoder

Array = np.ndarray[Any, Any]
Rng = np.random.Generator


@dataclass(frozen=True)
class AmbiguousImage:
    """Images (128, 128, 3) of uint8 to encode, and what to decode.

    Attributes:
        combine: From the latents (images, 4, 16, 16) to those of the result, (4, 16, 16).
        labels: Probabilities of the values of every parameter; all zero where the label is open.
    """

    images: tuple[Array, ...]
    combine: Callable[[Tensor], Tensor]
    labels: dict[str, Array]


def one_hot(truth: dict[str, str]) -> dict[str, Array]:
    """The labels of a drawn scene."""
    return {
        name: np.array([value == truth[name] for value in values], np.float32)
        for name, values in VALUES.items()
    }


def flat(labels: dict[str, Array]) -> Array:
    """All labels as one row (LABELS,)."""
    return np.concatenate([labels[name] for name in VALUES])


def make_ambiguous(number: int) -> AmbiguousImage:
    """The ambiguous image of a number; the same number gives the same image."""
    rng = np.random.default_rng([number, 11])
    scene = world.sample(FIRST_SEED + number)
    make = (_mixture, _smear, _mixture, _spot)[number % 4]
    return make(scene, rng)


def _mixture(scene: Scene, rng: Rng) -> AmbiguousImage:
    """Part of a change: all of it to some degree, or one side of it."""
    target, _ = world.edits(scene, 1)
    before, after = (np.asarray(world.render(each, SIZE)) for each in (scene, target))
    share = float(np.clip(rng.uniform(-0.25, 1.25), 0, 1))  # at the ends plain reconstructions
    sided = rng.random() < 0.5
    weight = torch.full((CELLS, CELLS), share)
    if sided and 0 < share < 1:
        weight = torch.from_numpy(_side(before, after, share, rng))
    labels = one_hot(world.truth(scene))
    changed = one_hot(world.truth(target))
    degree = float(np.clip((share - 0.3) / 0.4, 0, 1))
    for name in labels:
        if (labels[name] != changed[name]).any():
            labels[name] = (1 - degree) * labels[name] + degree * changed[name]
            if name == "color" and not sided and 0 < degree < 1:
                labels[name] = 0 * labels[name]  # red and blue may well mix to a third color

    def combine(latents: Tensor) -> Tensor:
        return torch.lerp(latents[0], latents[1], weight)

    return AmbiguousImage((before, after), combine, labels)


def _side(before: Array, after: Array, share: float, rng: Rng) -> Array:
    """1 in the cells on one side of a line that has ``share`` of the changed pixels there."""
    changed = np.abs(before.astype(np.int16) - after).max(-1) > 8
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:SIZE, :SIZE]
    position = np.cos(angle) * x + np.sin(angle) * y
    line = np.quantile(position[changed if changed.any() else ...], share)
    return np.asarray(_pooled(position) < line, np.float32)


def _smear(scene: Scene, rng: Rng) -> AmbiguousImage:
    """Subject, companion or accessory without a shape: blurred, with or without noise."""
    image, visible = np.asarray(world.render(scene, SIZE)), world.masks(scene, SIZE)
    region = str(rng.choice([name for name in visible for _ in range(1 + (name == "subject"))]))
    mask = visible[region].astype(np.float32)
    if region == "subject":
        mask = np.maximum(mask, visible.get("accessory", 0))
    inside = np.clip(1.5 * _pooled(mask), 0, 1)
    radius = float(rng.uniform(0.1, 0.45)) * float(np.sqrt(inside.sum()))  # in cells
    noise = float(rng.uniform(0, 0.3) if rng.random() < 0.5 else rng.uniform(0.5, 1.5))
    shapeless = radius > max(0.22 * np.sqrt(inside.sum()), 0.5) or noise > 0.8
    labels = one_hot(world.truth(scene))
    for name in {"subject": ("kind", "accessory")}.get(region, (region,)):
        absent = name == "accessory" and scene.accessory == "none"
        count = len(VALUES[name])
        labels[name] = np.full(count, 1 / count if shapeless and not absent else 0, np.float32)
    if region == "subject" and noise > 0.25:
        labels["color"] = 0 * labels["color"]
    grain = gaussian_filter(rng.standard_normal((4, CELLS, CELLS)), (0, *[rng.uniform(0, 1)] * 2))
    grain *= noise * LATENT_STD / grain.std()
    soft = np.clip(1.3 * gaussian_filter(inside, radius / 2), 0, 1)

    def combine(latents: Tensor) -> Tensor:
        values = latents[0].numpy()
        blurred = gaussian_filter(values * inside, (0, radius, radius))
        blurred /= gaussian_filter(inside, radius) + 1e-3
        return torch.from_numpy(values + soft * (blurred + grain - values)).float()

    return AmbiguousImage((image,), combine, labels)


def _spot(scene: Scene, rng: Rng) -> AmbiguousImage:
    """A spot of one color, next to the subject or on its head."""
    image = np.asarray(world.render(scene, SIZE)).astype(np.float32)
    subject = world.masks(scene, SIZE)["subject"]
    rows, columns = np.nonzero(subject)
    worn = bool(scene.kind in ANIMALS and rng.random() < 0.5)
    if worn:  # at the height of hats, sunglasses or scarfs
        x = float(rng.uniform(columns.min(), columns.max()))
        y = float(rows.min() + rng.uniform(-0.1, 0.5) * np.ptp(rows))
        radius = float(rng.uniform(0.12, 0.25) * np.ptp(rows))
    else:
        x, y, radius = rng.uniform(10, SIZE - 10), rng.uniform(30, SIZE - 8), rng.uniform(6, 16)
    alpha = _blob(x, y, radius, rng)[..., None]
    color = rng.uniform(0, 255, 3)
    image += alpha * float(rng.uniform(0.6, 1)) * (color - image)
    labels = one_hot(world.truth(scene))
    name = "accessory" if worn else "companion"
    if getattr(scene, name) == "none":
        labels[name] = np.full(len(VALUES[name]), 1 / len(VALUES[name]), np.float32)
    hidden = float((alpha[..., 0] * subject).sum()) / subject.sum()
    open_labels = {name} if getattr(scene, name) != "none" else set()
    open_labels |= {"kind", "color"} if hidden > 0.25 else set()
    open_labels |= {"accessory"} if hidden > 0.02 and not worn else set()
    labels |= {open_label: 0 * labels[open_label] for open_label in open_labels}
    return AmbiguousImage((image.round().astype(np.uint8),), lambda latents: latents[0], labels)


def _blob(x: float, y: float, radius: float, rng: Rng) -> Array:
    """A closed curve of irregular radius around (x, y), filled, with soft edges: (128, 128)."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    angle = np.arctan2(rows - y, columns - x)
    stretch, turn = rng.uniform(0.6, 1.6), rng.uniform(0, np.pi)
    edge = radius * stretch ** np.cos(2 * (angle - turn))
    for waves in range(2, 6):
        edge *= 1 + rng.uniform(0, 0.25) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    inside = (np.hypot(rows - y, columns - x) < edge).astype(np.float32)
    return np.asarray(gaussian_filter(inside, float(rng.uniform(0.5, 3))))


def _pooled(values: Array) -> Array:
    """Means over the pixels of each latent: (128, 128) to (16, 16)."""
    return np.asarray(values.reshape(CELLS, CELL, CELLS, CELL).mean((1, 3)).astype(np.float32))
