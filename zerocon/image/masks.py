"""Masks given by the user: which pixels of an image an edit may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from zerocon.errors import MaskError, about_argument
from zerocon.image import MEGAPIXELS
from zerocon.image.color import colors_and_alpha, eight_bits
from zerocon.image.reading import Photograph, Source, stored_pixels
from zerocon.image.transforms import Size
from zerocon.storage.hashing import image_hash

RATIO = 1.01  # largest factor between the aspect ratios of mask and image: rounded sizes
FEW, RARE = 64, 100_000  # fewer pixels, or less than one in so many, are probably a mistake
DARK = 128  # a brightest pixel below this probably is: in masks of labels it is 1

MaskSource: TypeAlias = Source | Image.Image | NDArray[Any]


@dataclass(frozen=True)
class UserMask:
    """Where an image may change.

    Attributes:
        image: Mode L, as large and as upright as the source image: 255 may change, 0 is kept.
        hash: ``image_hash`` of ``image``.
        warnings: What is doubtful about it, one line each.
        share: Share of the pixels that may change at all: those above 0.
    """

    image: Image.Image
    hash: str
    warnings: tuple[str, ...]
    share: float


@about_argument("source")
def read_mask(source: MaskSource, size: Size, *, max_megapixels: float = MEGAPIXELS) -> UserMask:
    """Read a mask, and fit it to an image.

    The mask is the luminance (0..255, stored values without their color profile), times alpha. If
    all pixels that are not fully transparent have one color, it is alpha alone. A mask of another
    size is resized with bilinear interpolation: areas of 0 or 255 keep their value.

    Args:
        source: An image file (path, bytes, or opened in binary mode), turned upright by its EXIF
            orientation; a PIL image; or an array (height, width) of bool, of uint8, or of floats
            0..1.
        size: (width, height) of the upright source image.
        max_megapixels: Limit of million pixels of a file.

    Raises:
        MaskError: Its aspect ratio is not that of the image within 1 %, it is black everywhere, or
            an array has the wrong shape, type or values.
        InputError: A file cannot be read as an image; see ``Photograph.read``.
    """
    problems: tuple[str, ...] = ()
    if isinstance(source, np.ndarray):
        gray = _of_array(source)
    elif isinstance(source, Image.Image):
        gray = _gray(stored_pixels(source))
    else:
        photograph = Photograph.read(source, name="the mask", max_megapixels=max_megapixels)
        gray = photograph.turn_upright(_gray(photograph.stored))
        problems = tuple(f"the mask: {line}" for line in photograph.warnings)
    mask = _fitted(gray, size)
    levels = np.asarray(mask)
    count = int(np.count_nonzero(levels))
    if count == 0:
        raise MaskError("the mask is black everywhere: nothing may change; paint the part white")
    warnings = (*problems, *_warnings(count, levels))
    return UserMask(mask, image_hash(mask), warnings, count / levels.size)


def _of_array(values: NDArray[Any]) -> Image.Image:
    """An array (height, width) as an image of mode L."""
    valid = values.dtype == np.uint8 or values.dtype.kind in "bf"
    if not valid or values.ndim != 2 or values.size == 0:
        raise MaskError(
            "a mask array must be (height, width) of bool, uint8 or float 0..1, not "
            f"{tuple(values.shape)} of {values.dtype}"
        )
    if values.dtype == np.uint8:
        return Image.fromarray(values)
    if not ((values >= 0) & (values <= 1)).all():  # false for NaN too
        raise MaskError("a mask array of floats has values outside 0..1; divide it by its maximum")
    return Image.fromarray((values * 255.0).round().astype(np.uint8))


def _gray(stored: Image.Image) -> Image.Image:
    """Luminance and alpha of an image in one of ``reading.MODES`` as one channel, mode L."""
    colors, alpha = colors_and_alpha(stored)
    gray = eight_bits(colors).convert("RGB").convert("L")
    if alpha is None:
        return gray
    opacity = np.asarray(alpha)
    visible = np.asarray(colors)[opacity > 0]
    if opacity.min() < opacity.max() and (visible == visible[0]).all():
        return alpha  # drawn with one color, often black, on nothing
    return ImageChops.multiply(gray, alpha)


def _fitted(gray: Image.Image, size: Size) -> Image.Image:
    width, height = gray.width * size[1], gray.height * size[0]
    if max(width, height) > RATIO * min(width, height):
        raise MaskError(
            f"the mask is {gray.width}x{gray.height}, the image {size[0]}x{size[1]}; "
            "give a mask of the image's size or aspect ratio"
        )
    # with antialiasing where it shrinks; no overshoot, unlike bicubic and Lanczos
    return gray if gray.size == size else gray.resize(size, Image.Resampling.BILINEAR)


def _warnings(count: int, levels: NDArray[np.uint8]) -> list[str]:
    """What is doubtful about a mask of which ``count`` pixels may change."""
    lines = []
    if levels.min() == 255:
        lines.append("the mask is white everywhere: it restricts nothing")
    if count < FEW or count * RARE < levels.size:
        lines.append(f"the mask allows {count} of {levels.size} pixels to change")
    if (brightest := int(levels.max())) < DARK:
        lines.append(f"the brightest pixel of the mask is {brightest}; 255 may change fully")
    return lines
