"""The kinds of file pictures are written to: what each can hold, how it is compressed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from zerocon.errors import MissingPackageError, OutputFormatError


@dataclass(frozen=True)
class Format:
    """A kind of file.

    ``name`` is Pillow's, ``modes`` are what its pixels may be (``PA`` is a palette whose entries
    have an alpha), ``options`` how a picture is saved that was no file of this kind before.
    """

    name: str
    endings: tuple[str, ...]
    modes: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def require(self) -> None:
        """Raise ``MissingError`` if it cannot be written (or, HEIC, read) here."""
        if self.name == "HEIF":
            try:
                from pillow_heif import register_heif_opener
            except ImportError:
                raise MissingPackageError(
                    'HEIC needs pillow-heif; get it with: pip install "zerocon[heic]"'
                ) from None
            register_heif_opener()
        Image.init()
        if self.name not in Image.SAVE:
            raise MissingPackageError(
                f"this build of Pillow has no {self.name}; install another build"
            )

    def mode(self, own: str) -> str:
        """The mode in which it holds a picture whose ``own`` mode is given, losing least."""
        gray, clear = own in GRAY, own in CLEAR
        prompts = [own, *["LA"] * (gray and clear), *["RGBA"] * clear, *["L"] * gray, "RGB"]
        return next(mode for mode in prompts if mode in self.modes)


GRAY = {"1", "L", "LA", "I;16"}
CLEAR = {"LA", "RGBA", "PA"}  # some of it may be transparent

# Colours are kept as sharp as the edit: nowhere a chroma of half the size, where it can be chosen.
FORMATS = (
    Format("PNG", (".png",), ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16")),
    Format("JPEG", (".jpg", ".jpeg"), ("L", "RGB", "CMYK"), {"quality": 95, "subsampling": 0}),
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

NAMED = {kind.name: kind for kind in FORMATS}
ENDINGS = {ending: kind for kind in FORMATS for ending in kind.endings}


def format_of(path: Path) -> Format:
    """What a file of this name is; ``ValueError`` if no picture is called so."""
    kind = ENDINGS.get(path.suffix.lower())
    if kind is None:
        raise OutputFormatError(f"{path} must end in {' or '.join(ENDINGS)}")
    return kind
