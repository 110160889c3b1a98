"""A bar with the time left, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click

Tick = Callable[[int, int], None]


@contextmanager
def progress(label: str, quiet: bool) -> Iterator[Tick | None]:
    """A function to call with (done, total), or None where nobody would look."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    bars: list[Any] = []
    with ExitStack() as stack:

        def tick(done: int, total: int) -> None:
            if not bars:  # drawn at the first step: until then others may want to say something
                bar = click.progressbar(length=total, label=label, show_pos=True, file=sys.stderr)
                bars.append(stack.enter_context(bar))
            bars[0].update(done - bars[0].pos)

        yield tick
