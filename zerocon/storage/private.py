"""Private directories and files: no other user may read or change them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

OTHERS, OTHERS_WRITE = 0o077, 0o022


def make_private(folder: Path) -> str | None:
    """Take the rights of other users to a directory and to the files in it away.

    On Windows nothing is done: the user's own directories are private there.

    Returns:
        A line that says so; None if there were none, or there is no such directory.

    Raises:
        OSError: It is another user's, or its rights cannot be changed.
    """
    if os.name == "nt":
        return None
    try:
        stat = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.st_uid != os.getuid():
        raise OSError(f"{folder} is another user's")
    wide = bool(stat.st_mode & OTHERS)
    if wide:
        folder.chmod(0o700)
    files = [path for path in folder.iterdir() if _is_open(path)]
    for path in files:
        with suppress(FileNotFoundError):  # removed meanwhile
            path.chmod(0o600)
    if not wide and not files:
        return None
    which = str(folder) if wide else f"{len(files)} files in {folder}"
    was = "was" if wide else "were"
    return f"{which} {was} open to other users; only you can read and change it now"


def read_unshared(file: Path, *, longest: int = 8_000_000) -> str | None:
    """The text of a file that this user alone can have written; None for any other, or none.

    Args:
        file: In the cache directory, whose rights another program or user may have widened.
        longest: Its largest size in bytes.
    """
    try:
        stat = file.stat()
        alone = os.name == "nt" or (stat.st_uid == os.getuid() and not stat.st_mode & OTHERS_WRITE)
        if not alone or not S_ISREG(stat.st_mode) or stat.st_size > longest:
            return None
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _is_open(path: Path) -> bool:
    """Whether others have rights to a regular file."""
    try:
        stat = path.lstat()
    except FileNotFoundError:
        return False
    return S_ISREG(stat.st_mode) and bool(stat.st_mode & OTHERS)
