"""16-bit gray, whose transparency can only be one level: Pillow has no mode with alpha for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HIGHEST = 65535  # level of 16 bits
ROWS = 256  # converted at a time
KEY = "transparency"  # in an image's ``info``


def deep_gray(image: Image.Image) -> Image.Image:
    """A gray image of 16 bits in mode I;16, with the transparent level if there is one."""
    width, height = image.size
    levels = np.empty((height, width), np.uint16)
    for top in range(0, height, ROWS):  # Pillow has 32 bits per level for some formats
        rows = image.crop((0, top, width, min(top + ROWS, height)))
        levels[top : top + ROWS] = np.asarray(rows).clip(0, HIGHEST)
    result = Image.fromarray(levels)
    key = image.info.get(KEY)
    if isinstance(key, int) and 0 <= key <= HIGHEST:
        result.info[KEY] = key
    return result


def key_of(stored: Image.Image) -> int | None:
    """The transparent level of 16-bit gray; None for other images."""
    key = stored.info.get(KEY) if stored.mode == "I;16" else None
    return key if isinstance(key, int) else None


def on_white(colors: Image.Image, stored: Image.Image) -> Image.Image:
    """RGB ``colors``, white where ``stored`` is transparent."""
    hidden = _hidden(stored)
    if hidden is None:
        return colors
    values = np.array(colors)
    values[hidden] = 255
    return Image.fromarray(values)


def with_key(edited: Image.Image, stored: Image.Image) -> Image.Image:
    """``edited`` with the transparent pixels of ``stored``, and no others.

    Where an edit produced the transparent level the nearest other one is taken.
    """
    key, hidden = key_of(stored), _hidden(stored)
    if key is None or hidden is None:
        return edited
    levels = np.array(edited)
    levels[levels == key] = key - 1 if key else 1
    levels[hidden] = key
    result = Image.fromarray(levels)
    result.info[KEY] = key
    return result


def _hidden(stored: Image.Image) -> NDArray[np.bool_] | None:
    key = key_of(stored)
    return None if key is None else np.equal(np.asarray(stored, np.uint16), key)
