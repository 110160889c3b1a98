"""Cached pictures as the networks take them: float tensors (n, 3, h, w) in -1..1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from zerocon.images import Frame
from zerocon.mini.training.scenes import SIZE

CELL = 8  # pixels a side of what one latent sees


def as_pixels(pictures: np.ndarray[Any, Any]) -> Tensor:
    """Bytes (n, h, w, 3) as a tensor."""
    values = torch.from_numpy(np.array(pictures))  # a copy: the file on disk is read-only
    return values.permute(0, 3, 1, 2).float() / 127.5 - 1


def crops(
    pictures: np.ndarray[Any, Any], count: int, side: int, rng: np.random.Generator
) -> Tensor:
    """Random squares out of random pictures, cut where latent cells meet.

    A crop that began elsewhere would show the autoencoder its cells in a place of the page where
    they never stand, and the pixels of pixel art across their borders.
    """
    rooms = (np.array(pictures.shape[1:3]) - side) // CELL + 1
    found = np.empty((count, side, side, 3), np.uint8)
    for i, n in enumerate(rng.integers(len(pictures), size=count)):
        y, x = rng.integers(rooms) * CELL
        found[i] = pictures[n, y : y + side, x : x + side]
    return as_pixels(found)


def frame() -> Frame:
    """A frame that neither scales nor pads, for ``unfit``."""
    return Frame((SIZE, SIZE), (SIZE, SIZE))
