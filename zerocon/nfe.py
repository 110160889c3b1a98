"""Cost, counted where it is paid: passes of the U-Net in pictures, not in calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

BACKWARD = (
    1.15  # a backward pass to the input in forwards, by FLOP count of Stable Diffusion's U-Net
)


@dataclass
class Evaluations:
    """U-Net passes in batch-1 equivalents: a call on four pictures counts four."""

    forwards: int = 0
    backwards: int = 0

    def __add__(self, other: Evaluations) -> Evaluations:
        """Of both."""
        return Evaluations(self.forwards + other.forwards, self.backwards + other.backwards)

    @property
    def total(self) -> float:
        """Everything in forwards."""
        return self.forwards + BACKWARD * self.backwards


_open: ContextVar[tuple[Evaluations, ...]] = ContextVar("open counters", default=())


@contextmanager
def count_evaluations() -> Iterator[Evaluations]:
    """Count every U-Net pass made inside the block; blocks may be nested."""
    counter = Evaluations()
    token = _open.set((*_open.get(), counter))
    try:
        yield counter
    finally:
        _open.reset(token)


def count(x: Any) -> None:
    """Note a pass of the U-Net on the tensor ``x``, and one back if a gradient ever comes to it."""
    now, images = _open.get(), len(x)
    for counter in now:
        counter.forwards += images

    def returned(_: Any) -> None:
        for counter in now:
            counter.backwards += images

    if x.requires_grad:
        x.register_hook(returned)
