"""What a terminal shows while a command works: a status line, a bar with the remaining time."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

from zerocon.storage.escaping import one_line

from . import stdio

FORM = "{desc}  [{bar}]  {n_fmt}/{total_fmt}  {remaining}"


class Tick(Protocol):
    """Called with the number of steps done, the number of all steps, and a note."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...

    def write(self, line: str) -> None:
        """Print a line above the bar."""


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
        _shown.append(one_line(text)[:columns])
        click.echo(_shown[-1], stdio.terminal(), nl=False)
    try:
        yield
    finally:
        erase_status()


def erase_status() -> None:
    """Erase the status line, if one is shown: before anything else is printed on stderr."""
    if _shown:
        click.echo(f"\r{' ' * len(_shown.pop())}\r", stdio.terminal(), nl=False)


@contextmanager
def progress_bar(label: str, quiet: bool) -> Iterator[Tick | None]:
    """A function to call after each step; None if ``quiet`` or stderr is not a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    bar = _Bar(label)
    try:
        yield bar
    finally:
        bar.close()


class _Bar:
    """A ``Tick``; drawn at the first step, so that lines printed before it stay whole."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.bar: Any = None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        from tqdm import tqdm

        if self.bar is None:
            erase_status()
            # both are given, since tqdm shows nothing on a terminal that does not know its size
            columns, rows = shutil.get_terminal_size()
            options = {"bar_format": FORM, "ascii": " #", "ncols": columns - 1, "nrows": rows}
            # steps before the first one here took no time of this process
            options |= {"desc": self.label, "initial": done, "total": total}
            self.bar = tqdm(file=stdio.terminal(), **options)
        label = one_line(f"{self.label}, {note}" if note else self.label)
        self.bar.set_description_str(label, refresh=False)
        self.bar.update(done - self.bar.n)

    def write(self, line: str) -> None:
        from tqdm import tqdm

        erase_status()
        tqdm.write(one_line(line), file=stdio.terminal())

    def close(self) -> None:
        """Leave the bar as it is and end its line."""
        if self.bar is not None:
            self.bar.close()
