"""Directories of private files: no other user may read or change them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

OTHERS = 0o077


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


def _is_open(path: Path) -> bool:
    """Whether others have rights to a regular file."""
    try:
        stat = path.lstat()
    except FileNotFoundError:
        return False
    return S_ISREG(stat.st_mode) and bool(stat.st_mode & OTHERS)
