"""The standard streams: images on them as ``-``, and text that no file can take control of."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from zerocon.errors import ImageTooLargeError
from zerocon.image.read_options import ReadOptions
from zerocon.storage.escaping import visible

if TYPE_CHECKING:
    from zerocon.image.reading import Photograph

PIPE = Path("-")  # stdin as IMAGE, stdout as output
_closed: set[int] = set()  # descriptors of standard streams that the process began without


class CleanStream:
    """A text stream on which control characters are printed as their escapes.

    Commands escape what they print, each value for its format; this is for everything else: help,
    tracebacks, warnings and logs of other libraries. Only ``terminal`` moves the cursor.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write ``text``, which keeps its line feeds and tabs."""
        self.stream.write(visible(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _is_open(number: int) -> bool:
    """Whether a descriptor is open, and those of stdout and stderr for writing.

    A shell that runs a script without stdin or stderr opens the script with that number.
    """
    try:
        os.fstat(number)
        import fcntl
    except OSError:
        return False
    except ImportError:  # not on Windows
        return True
    reads_only = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    return number == 0 or not reads_only


@contextmanager
def clean_streams() -> Iterator[None]:
    """While the block runs stdout and stderr are ``CleanStream``."""
    before = sys.stdout, sys.stderr
    out, err = CleanStream(before[0]), CleanStream(before[1])
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        if sys.stdout is out:  # else click has replaced it, since its reader has ended
            sys.stdout = before[0]
        if sys.stderr is err:
            sys.stderr = before[1]


def terminal() -> TextIO:
    """Stderr, for status lines and progress bars."""
    return sys.stderr.stream if isinstance(sys.stderr, CleanStream) else sys.stderr


def open_closed_streams() -> None:
    """Give a process that began without stdin, stdout or stderr (``<&-``) empty ones.

    Else the next file that it opens has their number, and whatever a library prints goes into it.
    """
    for number, mode in enumerate("rww"):
        if not _is_open(number):
            _closed.add(number)
            null = os.open(os.devnull, os.O_RDWR)
            if null == number:
                os.set_inheritable(number, True)
            else:
                os.dup2(null, number)
                os.close(null)
        name = ("stdin", "stdout", "stderr")[number]
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))


def read(image_path: Path, options: ReadOptions | None = None) -> Photograph:
    """The image in a file, or on stdin."""
    return parse(contents(image_path), options)


def contents(image_path: Path) -> Path | bytes:
    """The file itself, or the bytes on stdin, which can be read only once."""
    if image_path != PIPE:
        return image_path
    if 0 in _closed:
        raise click.UsageError("stdin is closed; pipe an image into it, or name a file")
    if sys.stdin.isatty():
        raise click.UsageError("stdin is a terminal; pipe an image into it, or name a file")
    from zerocon.image.bounds import PIPE_BYTES

    data = sys.stdin.buffer.read(PIPE_BYTES + 1)
    if len(data) > PIPE_BYTES:
        limit = f"{PIPE_BYTES / 1e6:.0f} MB"
        raise ImageTooLargeError(f"stdin is larger than {limit}; save the image in a file")
    return data


def parse(source: Path | bytes, options: ReadOptions | None = None) -> Photograph:
    """The image that ``contents`` returned; None are the default options."""
    from zerocon.image.reading import Photograph

    options = options or ReadOptions()
    return Photograph.read(source, name="stdin", **options.arguments())


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
    """Raise a ``UsageError`` if stdout is closed or a terminal, which cannot show bytes."""
    if 1 in _closed:
        raise click.UsageError("stdout is closed; redirect it, or name the output: -o FILE")
    if sys.stdout.isatty():
        raise click.UsageError("stdout is a terminal; redirect it, or name the output: -o FILE")


def send(data: bytes) -> None:
    """Write a file's bytes to stdout."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
