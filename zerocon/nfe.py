"""U-Net evaluations (NFE), counted per image of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

# FLOPs of a backward pass to the input per FLOP of a forward pass, in Stable Diffusion's U-Net
BACKWARD = 1.15


@dataclass
class Evaluations:
    """U-Net passes in batch-1 equivalents: a call on four images counts four."""

    forwards: int = 0
    backwards: int = 0

    def __add__(self, other: Evaluations) -> Evaluations:
        """The sums of both."""
        return Evaluations(self.forwards + other.forwards, self.backwards + other.backwards)

    @property
    def total(self) -> float:
        """Cost in forward passes, with ``BACKWARD`` forward passes per backward pass."""
        return self.forwards + BACKWARD * self.backwards


_open: ContextVar[tuple[Evaluations, ...]] = ContextVar("open counters", default=())


@contextmanager
def count_evaluations() -> Iterator[Evaluations]:
    """Count the U-Net passes of this thread inside the block; blocks may be nested."""
    counter = Evaluations()
    token = _open.set((*_open.get(), counter))
    try:
        yield counter
    finally:
        _open.reset(token)


def count(x: Any) -> None:
    """Count a forward pass on the batch ``x``, and a backward pass when ``x`` gets a gradient."""
    counters, images = _open.get(), len(x)
    for counter in counters:
        counter.forwards += images

    def count_backward(_: Any) -> None:
        for counter in counters:
            counter.backwards += images

    if x.requires_grad:
        x.register_hook(count_backward)
