"""Cached pictures as the networks take them: float tensors (n, 3, h, w) in -1..1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from zerocon.image.transforms import Frame
from zerocon.training.dataset import SIZE

CELL = 8  # pixels a side of what one latent sees


def as_pixels(images: np.ndarray[Any, Any]) -> Tensor:
    """Bytes (n, h, w, 3) as a tensor."""
    values = torch.from_numpy(np.array(images))  # a copy: the file on disk is read-only
    return values.permute(0, 3, 1, 2).float() / 127.5 - 1


def crops(images: np.ndarray[Any, Any], count: int, side: int, rng: np.random.Generator) -> Tensor:
    """Random squares out of random pictures, cut where latent cells meet.

    A crop that began elsewhere would show the autoencoder its cells in a place of the page where
    they never stand, and the pixels of pixel art across their borders.
    """
    rooms = (np.array(images.shape[1:3]) - side) // CELL + 1
    found = np.empty((count, side, side, 3), np.uint8)
    for i, n in enumerate(rng.integers(len(images), size=count)):
        y, x = rng.integers(rooms) * CELL
        found[i] = images[n, y : y + side, x : x + side]
    return as_pixels(found)


def shifted(x: Tensor, reach: int, rng: np.random.Generator) -> Tensor:
    """Pictures moved by up to ``reach`` pixels, all of a batch alike, their edges continued."""
    padded = torch.nn.functional.pad(x, (reach,) * 4, mode="replicate")
    top, left = rng.integers(2 * reach + 1, size=2)
    return padded[:, :, top : top + x.shape[2], left : left + x.shape[3]]


def mirrored(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the pictures turned left to right: which half is chance."""
    turned = torch.from_numpy(rng.random(len(x)) < 0.5)
    return torch.where(turned[:, None, None, None], x.flip(3), x)


def frame() -> Frame:
    """A frame that neither scales nor pads, for ``unfit``."""
    return Frame((SIZE, SIZE), (SIZE, SIZE))
