"""Whether a picture that was made again is the one that was saved, and if not, how far off."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zerocon.image.formats import NAMED
from zerocon.image.metadata import Provenance
from zerocon.image.photo import Photograph


@dataclass(frozen=True)
class ImageComparison:
    """Two files of a picture: whether their bytes agree, and how their stored pixels differ.

    ``pixels`` of ``total`` are not the same, none of their values by more than ``largest``, in the
    files' own units. ``shapes`` are mode and size of both; where these differ every pixel does.
    """

    same: bool
    pixels: int
    total: int
    largest: int | None
    shapes: tuple[str, str]

    @classmethod
    def of(cls, saved: bytes, made: bytes) -> ImageComparison:
        """Compare two files' bytes; ``ValueError`` for what is no picture."""
        one, other = (Photograph.read(data).stored for data in (saved, made))
        shapes = (_shape(one), _shape(other))
        total = one.width * one.height
        if shapes[0] != shapes[1]:
            return cls(False, total, total, None, shapes)
        off = np.abs(_values(one) - _values(other)).reshape(total, -1).max(1)
        return cls(saved == made, int((off > 0).sum()), total, int(off.max()), shapes)

    @classmethod
    def again(cls, file: Path, source: Path, image: Image.Image) -> ImageComparison:
        """Compare ``file``, an edit of ``source``, with ``image``, the same edit made again."""
        saved = Photograph.read(file, keep_gps=True)
        photograph = Photograph.read(source, keep_gps=saved.located)
        made = photograph.encode(image, NAMED[saved.kind], Provenance(saved.recipe))
        return cls.of(file.read_bytes(), made)

    def __str__(self) -> str:
        if self.same:
            return "the same file, byte for byte"
        if self.largest is None:
            return f"another picture: the file's is {self.shapes[0]}, this one {self.shapes[1]}"
        if not self.pixels:
            return "the same pixels, but not the same file: its metadata or compression is another"
        return f"{self.pixels} of {self.total} pixels differ, by up to {self.largest}"


def _shape(image: Image.Image) -> str:
    return f"{image.mode} {image.width}x{image.height}"


def _values(image: Image.Image) -> np.ndarray:
    """Numbers with room to be subtracted; of palettes the colours."""
    return np.asarray(image.convert("RGBA") if image.mode == "P" else image).astype(np.int32)
