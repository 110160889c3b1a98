"""Images as input of the networks, float tensors (n, 3, h, w) in -1..1, and augmentations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from zerocon.image.transforms import Frame
from zerocon.training.dataset import SIZE

CELL = 8  # pixels a side of one latent


def as_pixels(images: np.ndarray[Any, Any]) -> Tensor:
    """Images (n, h, w, 3) of uint8 as a tensor."""
    values = torch.from_numpy(np.array(images))  # a copy, since the memory map is read-only
    return values.permute(0, 3, 1, 2).float() / 127.5 - 1


def crops(images: np.ndarray[Any, Any], count: int, side: int, rng: np.random.Generator) -> Tensor:
    """Random square crops of random images, aligned to the grid of latents.

    Unaligned crops would show the autoencoder the grid, and the blocks of pixel art, at offsets
    that never occur in whole images.
    """
    offsets = (np.array(images.shape[1:3]) - side) // CELL + 1
    squares = np.empty((count, side, side, 3), np.uint8)
    for i, n in enumerate(rng.integers(len(images), size=count)):
        y, x = rng.integers(offsets) * CELL
        squares[i] = images[n, y : y + side, x : x + side]
    return as_pixels(squares)


def shifted(x: Tensor, reach: int, rng: np.random.Generator) -> Tensor:
    """A batch shifted by one random offset of up to ``reach`` pixels, with replicated edges."""
    padded = torch.nn.functional.pad(x, (reach,) * 4, mode="replicate")
    top, left = rng.integers(2 * reach + 1, size=2)
    return padded[:, :, top : top + x.shape[2], left : left + x.shape[3]]


def mirrored(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image flipped horizontally with probability 0.5."""
    flipped = torch.from_numpy(rng.random(len(x)) < 0.5)
    return torch.where(flipped[:, None, None, None], x.flip(3), x)


def frame() -> Frame:
    """A frame that neither scales nor pads, for ``unfit``."""
    return Frame((SIZE, SIZE), (SIZE, SIZE))
