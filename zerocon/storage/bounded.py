"""Text files of unknown origin: read up to a limit, and only if they are files that end."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from zerocon.errors import FileFormatError


def read_text(path: Path, *, longest: int, pipes: bool = False) -> str:
    """The text of a UTF-8 file, without its byte order mark; lines end in ``\\n``.

    Args:
        path: The file.
        longest: Its largest size in bytes.
        pipes: Read pipes and devices too, which may wait for ever; only for files that were named
            on the command line.

    Raises:
        FileFormatError: It cannot be read, is not UTF-8, or longer.
    """
    with _opened(path, longest, pipes=pipes) as file:
        text = _read(file, path, longest).decode("utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: Path, *, longest: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        FileFormatError: It cannot be read, or is longer than ``longest`` bytes.
    """
    with _opened(path, longest) as file:
        return _read(file, path, longest)


def read_lines(path: Path, *, longest: int, longest_line: int, most_lines: int) -> Iterator[str]:
    """The lines of a UTF-8 file, each with its ``\\n``, one of them in memory at a time.

    Args:
        path: A regular file; a byte order mark is left out.
        longest: Its largest size in bytes.
        longest_line: Characters of a line, with its end.
        most_lines: Number of lines.

    Raises:
        FileFormatError: It cannot be read, is not UTF-8, or exceeds a limit.
    """
    with _opened(path, longest) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline=None)
        number = size = 0
        while line := text.readline(longest_line + 1):
            number, size = number + 1, size + len(line)
            if len(line) > longest_line:
                raise FileFormatError(
                    f"{path}, line {number} has more than {longest_line} characters"
                )
            if number > most_lines:
                raise FileFormatError(f"{path} has more than {most_lines} lines")
            _require_length(path, size, longest)  # it may have grown
            yield line


@contextmanager
def _opened(path: Path, longest: int, *, pipes: bool = False) -> Iterator[BinaryIO]:
    """A file of at most ``longest`` bytes, with errors of this package inside."""
    try:
        with open(path, "rb", opener=None if pipes else open_now) as file:
            status = os.fstat(file.fileno())
            if not pipes and not stat.S_ISREG(status.st_mode):
                raise FileFormatError(f"cannot read {path}: it is no regular file")
            _require_length(path, status.st_size, longest)
            yield file
    except OSError as error:
        raise FileFormatError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not valid UTF-8: {error.reason}") from None


def _read(file: BinaryIO, path: Path, longest: int) -> bytes:
    data = file.read(longest + 1)
    _require_length(path, len(data), longest)
    return data


def _require_length(path: Path, size: int, longest: int) -> None:
    if size > longest:
        raise FileFormatError(f"{path} has more than {longest} bytes")


def open_now(name: str, flags: int) -> int:
    """Opener of ``open``: opening a pipe must not wait for a writer."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
