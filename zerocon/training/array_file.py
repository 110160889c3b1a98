"""Equal arrays one after another in a file that only grows: what a killed program left is kept."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ArrayFile:
    """A file of arrays of one shape and dtype, read through the page cache."""

    path: Path
    shape: tuple[int, ...]
    dtype: str = "uint8"

    @property
    def bytes(self) -> int:
        """Bytes of one record."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def __len__(self) -> int:
        return self.path.stat().st_size // self.bytes if self.path.exists() else 0

    def cut(self, count: int) -> None:
        """Keep the first ``count`` records, and no half one behind them."""
        if self.path.exists():
            with self.path.open("r+b") as file:
                file.truncate(count * self.bytes)

    def append(self, arrays: np.ndarray[Any, Any]) -> None:
        """Add arrays (n, *shape)."""
        if arrays.shape[1:] != self.shape:
            raise ValueError(f"records have shape {self.shape}, not {arrays.shape[1:]}")
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(arrays, self.dtype).tobytes())

    def read(self) -> np.ndarray[Any, Any]:
        """All records (n, *shape), mapped and read-only; no copy."""
        if not len(self):
            return np.zeros((0, *self.shape), self.dtype)
        return np.memmap(self.path, self.dtype, "r", shape=(len(self), *self.shape))
