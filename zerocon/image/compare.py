"""Comparison of two image files: bytes, then stored pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from zerocon.image import MEGAPIXELS
from zerocon.image.metadata import Provenance
from zerocon.image.reading import Photograph, contents


@dataclass(frozen=True)
class ImageComparison:
    """How two image files differ.

    Attributes:
        same: Whether their bytes are equal.
        pixels: Number of stored pixels that differ; all of them if ``shapes`` differ.
        total: Number of pixels of the first file.
        largest: Largest absolute difference of a channel, in stored levels (0..255 or 0..65535);
            None if ``shapes`` differ.
        shapes: Mode and size of both: ``RGB 640x480``.
    """

    same: bool
    pixels: int
    total: int
    largest: int | None
    shapes: tuple[str, str]

    @classmethod
    def of(
        cls, saved: bytes, replayed: bytes, *, max_megapixels: float = MEGAPIXELS
    ) -> ImageComparison:
        """Compare the bytes of two files; ``InputError`` if one is not an image."""
        read = partial(Photograph.read, max_megapixels=max_megapixels)
        one, other = (read(data).stored for data in (saved, replayed))
        shapes = (_shape(one), _shape(other))
        total = one.width * one.height
        if shapes[0] != shapes[1]:
            return cls(False, total, total, None, shapes)
        levels = np.abs(_values(one) - _values(other)).reshape(total, -1).max(1)
        differing, largest = int((levels > 0).sum()), int(levels.max())
        return cls(saved == replayed, differing, total, largest, shapes)

    @classmethod
    def of_replay(
        cls, file: Path, source: Path, image: Image.Image, *, max_megapixels: float = MEGAPIXELS
    ) -> ImageComparison:
        """Compare ``file``, an edit of ``source``, with ``image``, the replay of that edit.

        ``image`` is encoded as ``file`` is, with the metadata of ``source``.
        """
        read = partial(Photograph.read, max_megapixels=max_megapixels)
        saved = read(file, keep_gps=True)
        photograph = read(source, keep_gps=saved.has_location, lenient=True)
        replayed = photograph.encode(image, saved.kind, Provenance(saved.recipe))
        data = contents(file, max_megapixels=max_megapixels)
        return cls.of(data, replayed, max_megapixels=max_megapixels)

    def __str__(self) -> str:
        if self.same:
            return "identical, byte for byte"
        if self.largest is None:
            return f"mode or size differs: {self.shapes[0]} in the file, {self.shapes[1]} replayed"
        if not self.pixels:
            return "identical pixels; metadata or compression differs"
        return f"{self.pixels} of {self.total} pixels differ, by up to {self.largest}"


def _shape(image: Image.Image) -> str:
    return f"{image.mode} {image.width}x{image.height}"


def _values(image: Image.Image) -> np.ndarray:
    """Stored values as signed integers; palettes as RGBA."""
    return np.asarray(image.convert("RGBA") if image.mode == "P" else image).astype(np.int32)
