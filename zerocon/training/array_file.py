"""An append-only file of equal arrays: what a killed process has written stays usable."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ArrayFile:
    """A file of arrays of one shape and dtype, read as a memory map."""

    path: Path
    shape: tuple[int, ...]
    dtype: str = "uint8"

    @property
    def bytes(self) -> int:
        """Bytes of one array."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def __len__(self) -> int:
        return self.path.stat().st_size // self.bytes if self.path.exists() else 0

    def cut(self, count: int) -> None:
        """Truncate to the first ``count`` arrays, which removes a partial one at the end."""
        if self.path.exists():
            with self.path.open("r+b") as file:
                file.truncate(count * self.bytes)

    def append(self, arrays: np.ndarray[Any, Any]) -> None:
        """Append arrays (n, *shape)."""
        if arrays.shape[1:] != self.shape:
            raise ValueError(f"arrays must have shape {self.shape}, not {arrays.shape[1:]}")
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(arrays, self.dtype).tobytes())

    def read(self) -> np.ndarray[Any, Any]:
        """All arrays (n, *shape) as a read-only memory map."""
        if not len(self):
            return np.zeros((0, *self.shape), self.dtype)
        return np.memmap(self.path, self.dtype, "r", shape=(len(self), *self.shape))
