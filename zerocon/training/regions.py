"""How much of each latent of a training scene belongs to its subject, companion or accessory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zerocon import world
from zerocon.training.array_file import ArrayFile
from zerocon.training.augment import CELL
from zerocon.training.dataset import CHUNK, SIZE, mapper

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

CELLS = SIZE // CELL  # latents a side
PARTS = ("subject", "companion", "accessory")


def part_shares(work: Workspace, count: int) -> np.ndarray[Any, Any]:
    """Shares (count, 3, 16, 16) of the pixels of each latent, uint8 of 0..255, computed once.

    The second dimension is ``PARTS``, the scenes are the first training scenes.
    """
    records = ArrayFile(work.place("latents") / "parts.u8", (len(PARTS), CELLS, CELLS))
    records.cut(len(records))
    with mapper(work.workers) as apply:
        for first in range(len(records), count, CHUNK):
            seeds = world.TRAIN[first : min(first + CHUNK, count)]
            records.append(np.stack(list(apply(_shares, seeds))))
    return records.read()[:count]


def _shares(seed: int) -> np.ndarray[Any, Any]:
    visible = world.masks(world.sample(seed), SIZE)
    shares = np.zeros((len(PARTS), CELLS, CELLS), np.uint8)
    for part, name in enumerate(PARTS):
        if name in visible:
            cells = visible[name].reshape(CELLS, CELL, CELLS, CELL).mean((1, 3))
            shares[part] = np.rint(255 * cells)
    return shares
