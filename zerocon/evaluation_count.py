"""U-Net evaluations (NFE), counted per image and not per call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

# Cost of a backward pass to the input in forward passes, by FLOPs of Stable Diffusion's U-Net.
BACKWARD = 1.15


@dataclass
class Evaluations:
    """U-Net passes per image: a call on a batch of four counts four."""

    forwards: int = 0
    backwards: int = 0

    def __add__(self, other: Evaluations) -> Evaluations:
        """The sum of both."""
        return Evaluations(self.forwards + other.forwards, self.backwards + other.backwards)

    def per_image(self, images: int) -> Evaluations:
        """The share of one of so many images."""
        return Evaluations(self.forwards // images, self.backwards // images)

    @property
    def total(self) -> float:
        """Forward passes, plus backward passes at their cost in forward passes."""
        return self.forwards + BACKWARD * self.backwards


_open: ContextVar[tuple[Evaluations, ...]] = ContextVar("open counters", default=())


@contextmanager
def count_evaluations() -> Iterator[Evaluations]:
    """Count every U-Net pass inside the block; blocks may be nested."""
    counter = Evaluations()
    token = _open.set((*_open.get(), counter))
    try:
        yield counter
    finally:
        _open.reset(token)


def count(x: Any) -> None:
    """Count a pass of the U-Net on ``x``, and a backward pass if a gradient reaches ``x``."""
    counters, images = _open.get(), len(x)
    for counter in counters:
        counter.forwards += images

    def count_backward(_: Any) -> None:
        for counter in counters:
            counter.backwards += images

    if x.requires_grad:
        x.register_hook(count_backward)
