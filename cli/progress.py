"""What a terminal shows while a command works: a status line, a bar with the remaining time."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import click


class Tick(Protocol):
    """Called with the number of steps done, the number of all steps, and a note."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


_shown: list[str] = []  # the status line that is on the terminal, if one is


@contextmanager
def status(text: str, quiet: bool) -> Iterator[None]:
    """A line on stderr while the block runs, such as "Loading mini ..."; erased at its end.

    The first message inside the block erases it earlier. Nothing is shown if ``quiet`` or stderr is
    not a terminal.
    """
    if not quiet and sys.stderr.isatty():
        erase_status()
        columns = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be erased
        _shown.append(text[:columns])
        click.echo(_shown[-1], err=True, nl=False)
    try:
        yield
    finally:
        erase_status()


def erase_status() -> None:
    """Erase the status line, if one is shown: before anything else is printed on stderr."""
    if _shown:
        click.echo(f"\r{' ' * len(_shown.pop())}\r", err=True, nl=False)


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
                erase_status()
                bar = click.progressbar(length=total, label=label, show_pos=True, file=sys.stderr)
                bars.append(stack.enter_context(bar))
            bars[0].label = f"{label}, {note}" if note else label
            bars[0].update(done - bars[0].pos)

        yield tick
