"""Pictures that come in and go out: files, or ``-`` for stdin and stdout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from zerocon.image.photo import Photograph

PIPE = Path("-")  # stdin as IMAGE, stdout as output


def read(image_path: Path, *, keep_gps: bool = False) -> Photograph:
    """The picture in a file, or on stdin."""
    from zerocon.image.photo import Photograph

    if image_path != PIPE:
        return Photograph.read(image_path, keep_gps=keep_gps)
    if sys.stdin.isatty():
        raise click.UsageError("stdin is a terminal; pipe a picture into it, or give a file")
    return Photograph.read(sys.stdin.buffer.read(), keep_gps=keep_gps, name="stdin")


def source(image_path: Path) -> Path | None:
    """The file that no output may be; stdin has none."""
    return None if image_path == PIPE else image_path


def beside(image_path: Path) -> Path:
    """``image_path``, for an output to be named after; a ``UsageError`` if it came by stdin."""
    if image_path == PIPE:
        raise click.UsageError("a picture from stdin gives no name; say where to: -o FILE")
    return image_path


def require_pipe() -> None:
    """Raise a ``UsageError`` where a picture on stdout would fill a terminal with rubbish."""
    if sys.stdout.isatty():
        raise click.UsageError("stdout is a terminal; redirect it, or give -o FILE")


def send(data: bytes) -> None:
    """A file's bytes on stdout."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
