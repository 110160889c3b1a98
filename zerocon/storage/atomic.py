"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zerocon.errors import MissingFolderError, NotWritableError, OutputExistsError


@contextmanager
def writing(path: Path, *, overwrite: bool = False, through: Path | None = None) -> Iterator[Path]:
    """Give a temporary file to write to, and put it in place when the block ends.

    It lies beside ``path``, or where ``through`` says, whose name it begins with; that must be on
    the same file system.

    An error inside the block, Ctrl-C included, leaves neither a new file nor a changed one. An
    existing ``path`` is a ``FileExistsError`` unless ``overwrite``; it is checked again at the end,
    without a gap, so that two programs cannot both win.
    """
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists already; give --overwrite or another -o")
    if not path.parent.is_dir():
        raise MissingFolderError(f"there is no folder {path.parent} to write {path.name} to")
    near = through or path.with_name(f".{path.name}.")
    temporary = near.with_name(f"{near.name}{secrets.token_hex(4)}.part")
    # not mkstemp, whose files are for their owner's eyes only: what open() would have given them is
    # the umask's to say, which cannot be read without changing it for all threads
    temporary.open("xb").close()
    try:
        yield temporary
        if overwrite:
            temporary.replace(path)
        else:
            _place(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def require_writable(folder: Path) -> None:
    """Raise ``ValueError`` if no file can be made in ``folder``; it is tried, and leaves none."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise NotWritableError(f"cannot write to {folder}: {error.strerror}") from None


def _place(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # fails where path has appeared meanwhile; rename would replace it
    except FileExistsError:
        raise OutputExistsError(f"{path} exists already; give --overwrite or another -o") from None
    except OSError:  # a file system without hard links: the next best thing
        if path.exists():
            raise OutputExistsError(
                f"{path} exists already; give --overwrite or another -o"
            ) from None
        temporary.rename(path)
