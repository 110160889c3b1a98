"""A progress bar with the remaining time, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import click


class Tick(Protocol):
    """Called with the number of steps done, the number of all steps, and a note."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


@contextmanager
def progress_bar(label: str, quiet: bool) -> Iterator[Tick | None]:
    """A function to call after each step; None if ``quiet`` or stderr is not a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    bars: list[Any] = []
    with ExitStack() as stack:

        def tick(done: int, total: int, note: str = "") -> None:
            if not bars:  # drawn at the first step: lines printed before it stay whole
                bar = click.progressbar(length=total, label=label, show_pos=True, file=sys.stderr)
                bars.append(stack.enter_context(bar))
            bars[0].label = f"{label}, {note}" if note else label
            bars[0].update(done - bars[0].pos)

        yield tick
