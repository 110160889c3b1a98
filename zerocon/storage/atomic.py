"""Atomic writes: a file is complete, or unchanged."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from zerocon.errors import MissingFolderError, NotWritableError, OutputExistsError

LONGEST = 255  # bytes of a name, on nearly all file systems
SHOWN = 40  # characters of a long name in an error


@contextmanager
def writing(path: Path, *, overwrite: bool = False, through: Path | None = None) -> Iterator[Path]:
    """Context manager that yields a temporary file, and renames it to ``path`` at its end.

    After an error in the block, Ctrl-C included, ``path`` is unchanged. The check for an existing
    file is repeated atomically at the end: of two programs that write the same file, one fails.

    Args:
        path: The file to write.
        overwrite: Replace an existing file.
        through: Prefix of the temporary file's path, on the file system of ``path``; by default
            a hidden name in the same directory.

    Raises:
        OutputExistsError: ``path`` exists, and ``overwrite`` is false.
        MissingFolderError: Its directory does not exist.
    """
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists already; add --overwrite or give another output")
    if not path.parent.is_dir():
        raise MissingFolderError(
            f"the directory {path.parent} of {path.name} does not exist; create it"
        )
    prefix = through or path.with_name(f".{path.name[:SHOWN]}.")
    temporary = prefix.with_name(f"{prefix.name}{secrets.token_hex(4)}.part")
    # not mkstemp: its files have mode 0600 instead of the umask's, and the umask cannot be read
    # without changing it for all threads
    temporary.open("xb").close()
    try:
        yield temporary
        if overwrite:
            temporary.replace(path)
        else:
            _rename(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def require_short(path: PurePath) -> None:
    """Raise ``NotWritableError`` if a part of a path is too long for file systems."""
    for part in path.parts:
        if (length := len(os.fsencode(part))) > LONGEST:
            raise NotWritableError(
                f"the name {part[:SHOWN]}... has {length} bytes, the limit is {LONGEST}; "
                "give a shorter one"
            )


def require_writable(folder: Path) -> None:
    """Raise ``NotWritableError`` if no file can be created in ``folder``; a temporary one is."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise NotWritableError(f"cannot write to {folder}: {error.strerror}") from None


def _rename(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # unlike rename, fails if path exists by now
    except FileExistsError:
        raise OutputExistsError(
            f"{path} exists already; add --overwrite or give another output"
        ) from None
    except OSError:  # a file system without hard links
        if path.exists():
            raise OutputExistsError(
                f"{path} exists already; add --overwrite or give another output"
            ) from None
        temporary.rename(path)
