"""Pictures as tensors of the model's size and back, as outputs, side by side on sheets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:  # the command line looks at the picture before it pays for torch
    from torch import Tensor

    from zerocon.shapes import Pixels

SMALLEST = 16  # pixels a side; below, there is nothing to see, and the U-Net's levels run out


@dataclass(frozen=True)
class Frame:
    """What ``fit`` did to a picture, so that ``unfit`` can undo it. Sizes are (width, height)."""

    source: tuple[int, int]
    inner: tuple[int, int]  # after scaling, before padding


@dataclass(frozen=True)
class Fit:
    """A picture at the model's working size: (1, 3, h, w) in -1..1, RGB, and how it got there."""

    pixels: Pixels
    frame: Frame


def fit(image: Image.Image, size: int, multiple: int) -> Fit:
    """Scale the longest side to ``size`` (never squashing) and pad both sides to ``multiple``.

    The padding continues the picture to the right and below: by reflection as far as there is
    something to reflect, then by the last row or column.
    """
    import torch

    inner = shrunk(image.size, size)
    scaled = image.convert("RGB").resize(inner, Image.Resampling.LANCZOS)
    values = np.asarray(scaled)
    for axis, side in enumerate(reversed(inner)):
        missing = -side % multiple
        mirrored = min(missing, side - 1)
        values = _padded(values, axis, mirrored, "reflect")
        values = _padded(values, axis, missing - mirrored, "edge")
    pixels = torch.from_numpy(values).permute(2, 0, 1)[None].float() / 127.5 - 1
    return Fit(pixels.contiguous(), Frame(image.size, inner))


def shrunk(source: tuple[int, int], size: int) -> tuple[int, int]:
    """Width and height of a picture whose longest side is made ``size``."""
    scale = size / max(source)
    width, height = (max(1, round(side * scale)) for side in source)
    return width, height


def unfit(pixels: Tensor, frame: Frame) -> Image.Image:
    """Cut the padding off ``pixels`` (3, h, w) in -1..1 and scale to the source's size."""
    width, height = frame.inner
    inner = pixels.detach()[:, :height, :width].float().cpu()
    values = ((inner + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
    image = Image.fromarray(values.contiguous().numpy())
    return image.resize(frame.source, Image.Resampling.LANCZOS)


def _padded(
    values: NDArray[np.uint8], axis: int, more: int, mode: Literal["reflect", "edge"]
) -> NDArray[np.uint8]:
    return np.pad(values, [(0, more if each == axis else 0) for each in range(3)], mode=mode)
