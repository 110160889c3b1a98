"""Discovery of images: files, directories, glob patterns and lists of names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import IO

from zerocon.errors import CommandError, FileFormatError, NotWritableError
from zerocon.image.formats import ENDINGS
from zerocon.image.naming import SIDECAR
from zerocon.storage.bounded import read_text

LONGEST = 32_000_000  # bytes of a list of names
LONGEST_NAME = 4_096  # bytes, on nearly all systems
MOST_NAMES = 100_000  # of a list; the job of each takes 2,500 bytes of memory
LONGEST_CAPTION = 40_000  # bytes of a caption file: 10,000 characters
SUFFIXES = (*ENDINGS, ".gif", ".bmp", ".ppm", ".pgm", ".jp2")  # of files used from a directory


@dataclass(frozen=True)
class DiscoveredImage:
    """An image file, and its path relative to the argument that named it.

    ``relative`` is where its results go below the output directory.
    """

    file: Path
    relative: PurePosixPath

    def caption(self) -> str | None:
        """Read the caption from the text file of the same name, if there is one.

        Raises:
            FileFormatError: It is not valid UTF-8, or too long.
        """
        sidecar = self.file.with_suffix(SIDECAR)
        if not sidecar.is_file():
            return None
        return " ".join(read_text(sidecar, longest=LONGEST_CAPTION).split())


def find_images(names: Iterable[str], *, output: Path) -> list[DiscoveredImage]:
    """Find the images that files, directories and patterns name, each once.

    Directories are searched recursively, except hidden ones and ``output``; links are followed
    unless they lead back up. A file that is named itself may have any suffix.

    Raises:
        CommandError: For a name that matches nothing, and for an input inside ``output``.
    """
    images: dict[Path, DiscoveredImage] = {}
    for name in names:
        paths = [name] if os.path.lexists(name) or not has_magic(name) else _matches(name)
        for path in map(Path, paths):
            for image in _images_at(path, output):
                images.setdefault(image.file.absolute(), image)
    return list(images.values())


def find_ignored(names: Iterable[str], *, output: Path) -> list[Path]:
    """Find the files of the directories among ``names`` that have no image's ending."""
    folders = [Path(name) for name in names if os.path.isdir(name)]
    files = (file for folder in folders for file in _search(folder, output))
    return [file for file in files if not _has_image_ending(file)]


def read_names(file: Path, *, null: bool = False) -> list[str]:
    """Read a list of file names, one per line or separated by zero bytes.

    Raises:
        FileFormatError: If it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return split_names(read_list(opened, str(file)), str(file), null=null)
    except OSError as error:
        raise FileFormatError(f"cannot read {file}: {error.strerror}") from error


def read_list(opened: IO[bytes], name: str) -> bytes:
    """Read a list of file names from a file, a pipe or stdin.

    Raises:
        FileFormatError: If it is longer than any list.
    """
    data = opened.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise FileFormatError(f"{name} has more than {LONGEST} bytes")
    return data


def split_names(data: bytes, name: str, *, null: bool = False) -> list[str]:
    """Split a list of file names, one per line or, as of ``find -print0``, between zero bytes.

    Raises:
        FileFormatError: It has more lines than any list; ``name`` is its name in the error.
    """
    mark = b"\0" if null else b"\n"
    if data.count(mark) > MOST_NAMES:
        raise FileFormatError(f"{name} has more than {MOST_NAMES} names; divide it")
    names = data.split(mark)
    if max(map(len, names)) > LONGEST_NAME:
        raise FileFormatError(f"{name} contains a name of more than {LONGEST_NAME} bytes")
    parts = map(os.fsdecode, names)
    return [part for each in parts if (part := each if null else each.removesuffix("\r")).strip()]


def _images_at(path: Path, output: Path) -> list[DiscoveredImage]:
    if path.is_dir():
        if path.resolve().is_relative_to(output.resolve()):
            raise CommandError(
                f"the output directory contains the input {path}; choose another one with -o"
            )
        files = filter(_has_image_ending, _search(path, output))
        return [DiscoveredImage(file, _relative(file, path)) for file in files]
    if os.path.lexists(path):
        return [DiscoveredImage(path, PurePosixPath(path.name))]
    raise CommandError(f"no such file or directory: {path}")


def _matches(pattern: str) -> list[str]:
    # several recursive parts in a row mean the same as one, but take the power of the time
    names = sorted(glob(re.sub(r"(?:\*\*/+)+", "**/", pattern), recursive=True))
    if not names:
        raise CommandError(f"no file matches the pattern {pattern}")
    return names


def _has_image_ending(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES


def _search(folder: Path, output: Path) -> Iterator[Path]:
    """Yield files below a directory; every real directory once, so that loops of links end."""
    seen: set[str] = set()
    avoid = output.resolve()

    def refuse(error: OSError) -> None:
        raise NotWritableError(f"cannot read {error.filename}: {error.strerror}") from error

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(parent)
        if real in seen or Path(real) == avoid:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(parent) / name


def _relative(path: Path, folder: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(folder).as_posix())
