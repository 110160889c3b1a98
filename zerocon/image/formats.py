"""Output formats: the pixel modes each can hold, and how it is compressed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from zerocon.errors import MissingPackageError, OutputFormatError


@dataclass(frozen=True)
class Format:
    """An image file format.

    Attributes:
        name: Pillow's name of it: "PNG", "JPEG".
        endings: Extensions of its files, lower case, with the dot.
        modes: Pillow's modes that it can hold; ``PA`` is a palette with alpha per entry.
        options: Arguments of Pillow's ``save`` for an image that was read from another format.
    """

    name: str
    endings: tuple[str, ...]
    modes: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def require(self) -> None:
        """Raise ``MissingPackageError`` if the installed Pillow cannot write it, or read HEIC."""
        if self.name == "HEIF":
            try:
                from pillow_heif import register_heif_opener
            except ImportError:
                raise MissingPackageError(
                    "HEIC needs pillow-heif, which is not installed: pip install pillow-heif"
                ) from None
            register_heif_opener()
        Image.preinit()  # the usual formats
        if self.name not in Image.SAVE:
            Image.init()  # all others
        if self.name not in Image.SAVE:
            raise MissingPackageError(
                f"the installed Pillow cannot write {self.name}; install one that can: "
                "pip install --upgrade pillow"
            )

    def mode(self, stored: str) -> str:
        """The mode for an image of mode ``stored`` that loses least in this format."""
        gray, alpha = stored in GRAY, stored in ALPHA
        preferred = [stored, *["LA"] * (gray and alpha), *["RGBA"] * alpha, *["L"] * gray, "RGB"]
        return next(mode for mode in preferred if mode in self.modes)


GRAY = {"1", "L", "LA", "I;16"}
ALPHA = {"LA", "RGBA", "PA"}

# No chroma subsampling where it can be chosen: it would blur the colors of the edit.
FORMATS = (
    Format("PNG", (".png",), ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16")),
    Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        ("L", "RGB", "CMYK"),
        {"quality": 95, "subsampling": 0},
    ),
    Format("WEBP", (".webp",), ("RGB", "RGBA"), {"quality": 95, "exact": True}),
    Format(
        "TIFF",
        (".tif", ".tiff"),
        ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
        {"compression": "tiff_adobe_deflate"},
    ),
    Format("AVIF", (".avif",), ("L", "RGB", "RGBA"), {"quality": 90, "subsampling": "4:4:4"}),
    Format("HEIF", (".heic", ".heif"), ("L", "RGB", "RGBA"), {"quality": 90, "chroma": 444}),
)

SIGNATURE = 12  # bytes at the start of a file that tell its format
SIGNATURES = {
    rb"\x89PNG\r\n\x1a\n": "PNG",
    rb"\xff\xd8\xff": "JPEG",
    rb"RIFF....WEBP": "WEBP",
    rb"II[*+]\0|MM\0[*+]": "TIFF",
    rb"....ftypavi": "AVIF",
    rb"....ftyphe[iv]": "HEIF",
}

NAMED = {each.name: each for each in FORMATS}
ENDINGS = {ending: each for each in FORMATS for ending in each.endings}


def format_of(path: Path) -> Format:
    """The format of an output file, by its extension; ``OutputFormatError`` for another one."""
    format = ENDINGS.get(path.suffix.lower())
    if format is None:
        raise OutputFormatError(f"{path} must end in {' or '.join(ENDINGS)}")
    return format


def format_in(file: Path) -> Format | None:
    """The format of a file by its first bytes; None if it is no file of ``FORMATS``."""
    try:
        if not file.is_file():  # opening a pipe would block
            return None
        with file.open("rb") as opened:
            start = opened.read(SIGNATURE)
    except OSError:  # reported when the image is read
        return None
    names = (name for pattern, name in SIGNATURES.items() if re.match(pattern, start, re.DOTALL))
    name = next(names, None)
    return NAMED[name] if name else None


def format_named(name: str) -> Format:
    """The format "PNG", "jpeg" or ".webp", in any case; ``OutputFormatError`` for another one."""
    format = NAMED.get(name.upper()) or ENDINGS.get(f".{name.lower().removeprefix('.')}")
    if format is None:
        raise OutputFormatError(f"no image format {name!r}; there are: {', '.join(NAMED)}")
    return format
