"""Images from files and to files, or ``-`` for stdin and stdout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from zerocon.image.reading import Photograph

PIPE = Path("-")  # stdin as IMAGE, stdout as output


def read(image_path: Path, *, lenient: bool = False) -> Photograph:
    """The image in a file, or on stdin."""
    return parse(contents(image_path), lenient=lenient)


def contents(image_path: Path) -> Path | bytes:
    """The file itself, or the bytes on stdin, which can be read only once."""
    if image_path != PIPE:
        return image_path
    if sys.stdin.isatty():
        raise click.UsageError("stdin is a terminal; pipe an image into it, or name a file")
    return sys.stdin.buffer.read()


def parse(source: Path | bytes, *, keep_gps: bool = False, lenient: bool = False) -> Photograph:
    """The image that ``contents`` returned."""
    from zerocon.image.reading import Photograph

    return Photograph.read(source, keep_gps=keep_gps, lenient=lenient, name="stdin")


def is_interactive() -> bool:
    """Whether a question can be asked on a terminal, and answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def source(image_path: Path) -> Path | None:
    """The file that no output may replace; None for stdin."""
    return None if image_path == PIPE else image_path


def require_name(image_path: Path) -> Path:
    """``image_path``, to derive an output's name from; a ``UsageError`` if it is stdin."""
    if image_path == PIPE:
        raise click.UsageError("an image from stdin has no name; name the output: -o FILE")
    return image_path


def require_pipe() -> None:
    """Raise a ``UsageError`` if stdout is a terminal, which cannot show an image's bytes."""
    if sys.stdout.isatty():
        raise click.UsageError("stdout is a terminal; redirect it, or name the output: -o FILE")


def send(data: bytes) -> None:
    """Write a file's bytes to stdout."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
