"""Text files of unknown origin: read up to a limit, and only if they are files that end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

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
    try:
        with open(path, "rb", opener=None if pipes else _open_now) as file:
            if not pipes and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileFormatError(f"cannot read {path}: it is no regular file")
            data = file.read(longest + 1)
    except OSError as error:
        raise FileFormatError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > longest:
        raise FileFormatError(f"{path} has more than {longest} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not valid UTF-8: {error.reason}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _open_now(name: str, flags: int) -> int:
    """Opening a pipe must not wait for a writer."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
