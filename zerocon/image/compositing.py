"""Native compositing: the edit at the source image's own size, everything else as it was.

A model edits an image at its working size. Enlarging its output would replace every pixel of a
photograph by a blurred copy, so only the *change* is enlarged, and only where there is one. With
the source ``S``, the support ``M`` (where the edit acts, 0..1) and the local affine map ``K, P`` of
``zerocon.image.transfer``:

    result = (1 - up(M)) S + up(M) (up(K) S + up(P))

``up`` enlarges: ``P`` with Lanczos' filter, ``M`` and ``K`` linearly. Without a change ``K`` is the
identity and ``P`` is zero, and the result is ``S``. Where an object keeps its outline, ``up(M)`` is
sharpened to it by a ``Matte``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zerocon.image.transfer import Array, Transfer
from zerocon.image.transforms import Box, Size

ROWS = 128  # of the result computed at a time, to limit the memory of intermediate arrays
STEEPNESS = 1.5  # of a matte's edge, which the fit makes too soft
WITHIN = 3.0  # times the mask, up to 1, limits the matte: it falls to zero where the mask does
LEAST = 0.01  # smaller values of the enlarged mask are zero, so that it is zero somewhere


class Window(NamedTuple):
    """Some rows and columns of an image of ``size`` (width, height)."""

    size: Size
    rows: tuple[int, int]
    columns: tuple[int, int]

    def box(self, corner: tuple[int, int]) -> Box:
        """The window in an image in which its own image begins at ``corner`` (left, upper)."""
        (left, upper), (first, end) = corner, self.columns
        return left + first, upper + self.rows[0], left + end, upper + self.rows[1]


@dataclass(frozen=True)
class Matte:
    """A soft mask as a local linear function of the source's colors, at working size.

    It ends where the colors of the source do: at the outline of an object.

    Attributes:
        gain: (height, width, 3).
        offset: (height, width).
        core: (height, width) in 0..1, where the mask is 1 whatever the colors: far inside.
    """

    gain: Array
    offset: Array
    core: Array

    def values(self, colors: Array, window: Window) -> Array:
        """The mask for ``colors``, (rows, columns, 3) in 0..1, of a window: (rows, columns)."""
        total = _enlarged(_plane(self.offset), window, Image.Resampling.BILINEAR).copy()
        for c in range(3):
            gain = _enlarged(_plane(self.gain[..., c]), window, Image.Resampling.BILINEAR)
            total += gain * colors[..., c]
        values = ((total - 0.5) * STEEPNESS + 0.5).clip(0, 1)
        core = _enlarged(_plane(self.core), window, Image.Resampling.BILINEAR)
        return np.asarray(np.maximum(values, core), np.float32)


@dataclass(frozen=True)
class Mask:
    """The support of an edit: which samples are replaced, and how far.

    Attributes:
        image: ``M``, of any size: mode F in 0..1, or mode L in 0..255.
        matte: The values inside ``up(M)``; None for ``up(M)`` itself.
        fade: What the values are multiplied with, mode F in 0..1; None for nothing.
    """

    image: Image.Image
    matte: Matte | None = None
    fade: Image.Image | None = None

    def enlarged(self, source: Image.Image, box: Box | None = None) -> Image.Image:
        """The mask for every sample of ``source``: mode L of its size, 255 = replaced."""
        left, upper, right, lower = box or (0, 0, *source.size)
        size, result = (right - left, lower - upper), Image.new("L", source.size)
        for top in range(0, size[1], ROWS):
            window = Window(size, (top, min(top + ROWS, size[1])), (0, size[0]))
            share = self.share(source, window, (left, upper))
            # rounded up: a pixel that may change must not look like one that may not
            part = Image.fromarray(np.ceil(255 * share).astype(np.uint8))
            result.paste(part, (left, upper + top))
        return result

    def share(self, source: Image.Image, window: Window, corner: tuple[int, int]) -> Array:
        """The values for a window, (rows, columns) in 0..1; ``corner`` is that of the box."""
        part = _enlarged(self.image, window, Image.Resampling.BILINEAR)
        share = (part / np.float32(255 if self.image.mode == "L" else 1)).clip(0, 1)
        share[share < LEAST] = 0
        if self.matte is not None and share.any():
            place = window.box(corner)
            colors = np.array(source.crop(place).convert("RGB"), np.float32)
            colors /= 255
            share = self.matte.values(colors, window) * (WITHIN * share).clip(0, 1)
        if self.fade is not None:
            share = share * _enlarged(self.fade, window, Image.Resampling.BILINEAR)
        share[share < LEAST] = 0
        return np.asarray(share, np.float32)


def composite(
    source: Image.Image, transfer: Transfer, mask: Mask, box: Box | None = None
) -> Image.Image:
    """The edit of ``source`` at its own size; samples where the mask is zero are the source's own.

    Args:
        source: The source image, any size.
        transfer: ``K`` and ``P`` at working size, without padding.
        mask: ``M``.
        box: The part of ``source`` that was edited, (left, upper, right, lower); None for all.

    Returns:
        RGB, of the size of ``source``.
    """
    left, upper, right, lower = box or (0, 0, *source.size)
    size = (right - left, lower - upper)
    result = source.copy() if source.mode == "RGB" else source.convert("RGB")
    gains = [[_plane(transfer.gain[..., i, j]) for j in range(3)] for i in range(3)]
    offsets = [_plane(255 * transfer.offset[..., i]) for i in range(3)]
    for top in range(0, size[1], ROWS):
        window = Window(size, (top, min(top + ROWS, size[1])), (0, size[0]))
        share = mask.share(result, window, (left, upper))
        used = np.flatnonzero(share.any(0))
        if not len(used):
            continue
        window = window._replace(columns=(int(used[0]), int(used[-1]) + 1))
        part = window.box((left, upper))
        old = np.asarray(result.crop(part))
        new = _blend(old, share[:, slice(*window.columns)], gains, offsets, window)
        result.paste(Image.fromarray(new), part[:2])
    return result


def _blend(
    old: NDArray[np.uint8],
    share: Array,
    gains: list[list[Image.Image]],
    offsets: list[Image.Image],
    window: Window,
) -> NDArray[np.uint8]:
    """The new samples of a window, from the old ones and the mask there."""
    values = old.astype(np.float32)
    new = np.empty_like(values)
    for i in range(3):
        edited = np.array(_enlarged(offsets[i], window, Image.Resampling.LANCZOS))
        for j in range(3):
            gain = _enlarged(gains[i][j], window, Image.Resampling.BILINEAR)
            edited += gain * values[..., j]
        edited -= values[..., i]
        edited *= share
        new[..., i] = values[..., i] + edited
    samples: NDArray[np.uint8] = (new + 0.5).clip(0, 255).astype(np.uint8)
    # where nothing may change, the samples are copied, whatever the arithmetic gives
    np.copyto(samples, old, where=(share == 0)[..., None])
    return samples


def _plane(values: Array) -> Image.Image:
    """One channel as an image of mode F."""
    return Image.fromarray(np.ascontiguousarray(values, np.float32))


def _enlarged(plane: Image.Image, window: Window, method: Image.Resampling) -> Array:
    """A window of an enlarged plane; equal to that part of the whole up to rounding."""
    (width, height), rows, columns = window
    across, down = plane.width / width, plane.height / height
    right, lower = min(columns[1] * across, plane.width), min(rows[1] * down, plane.height)
    box = (columns[0] * across, rows[0] * down, right, lower)
    part = plane.resize((columns[1] - columns[0], rows[1] - rows[0]), method, box=box)
    return np.asarray(part, np.float32)
