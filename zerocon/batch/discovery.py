"""Which pictures are meant: files, folders, patterns, lists; each with its place below a root."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path, PurePosixPath

from zerocon.errors import CommandError, NotWritableError
from zerocon.image.formats import ENDINGS
from zerocon.image.naming import SIDECAR

READ = (*ENDINGS, ".gif", ".bmp", ".ppm", ".jp2")  # endings of what is taken from a folder


@dataclass(frozen=True)
class DiscoveredImage:
    """A picture, and where it lies below what was named: its place in the output folder."""

    file: Path
    place: PurePosixPath

    def caption(self) -> str | None:
        """What a text file of the same name beside it says, if there is one.

        Raises ``ValueError`` for one that is no text in UTF-8.
        """
        sidecar = self.file.with_suffix(SIDECAR)
        if not sidecar.is_file():
            return None
        return " ".join(sidecar.read_text(encoding="utf-8").split())


def find(named: Iterable[str], *, outputs: Path) -> list[DiscoveredImage]:
    """The pictures that files, folders and patterns name, each once, in order of their names.

    Folders are walked to the bottom, hidden ones and ``outputs`` not; a link is followed unless it
    leads back up. What is named by itself is taken whatever its ending. Raises ``CommandError`` for
    what names nothing, and where results would lie among the pictures they are made of.
    """
    found: dict[Path, DiscoveredImage] = {}
    for name in named:
        parts = [name] if os.path.lexists(name) or not has_magic(name) else _matching(name)
        for part in parts:
            path = Path(part)
            if path.is_dir():
                if path.resolve().is_relative_to(outputs.resolve()):
                    raise CommandError(f"the output folder holds {path}; name another with -o")
                each = [DiscoveredImage(p, _below(p, path)) for p in _walk(path, outputs)]
            elif os.path.lexists(path):
                each = [DiscoveredImage(path, PurePosixPath(path.name))]
            else:
                raise CommandError(f"there is no file or folder {path}")
            for one in each:
                found.setdefault(one.file.absolute(), one)
    return list(found.values())


def lines(text: str, *, zero: bool = False) -> list[str]:
    """File names of a list: one a line, or between zero bytes (``find -print0``)."""
    parts = text.split("\0") if zero else text.splitlines()
    return [part for part in parts if part.strip()]


def _matching(pattern: str) -> list[str]:
    names = sorted(glob(pattern, recursive=True))
    if not names:
        raise CommandError(f"nothing is called {pattern}")
    return names


def _walk(folder: Path, outputs: Path) -> Iterator[Path]:
    """Pictures below a folder; every real folder once, so that a loop of links ends."""
    seen: set[str] = set()
    avoid = outputs.resolve()

    def refuse(error: OSError) -> None:
        raise NotWritableError(f"cannot read {error.filename}: {error.strerror}") from error

    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        if real in seen or Path(real) == avoid:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in READ:
                yield Path(place) / name


def _below(path: Path, folder: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(folder).as_posix())
