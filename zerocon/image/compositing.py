"""Native compositing: the edit at the source image's own size, everything else as it was.

A model edits an image at its working size. Enlarging its output would replace every pixel of a
photograph by a blurred copy, so only the *change* is enlarged, and only where there is one. With
the source ``S``, the support ``M`` (where the edit acts, 0..1) and the local affine map ``K, P`` of
``zerocon.image.transfer``:

    result = (1 - up(M)) S + up(M) (up(K) S + up(P))

``up`` enlarges: ``P`` with Lanczos' filter, ``M`` and ``K`` linearly. Without a change ``K`` is the
identity and ``P`` is zero, and the result is ``S``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zerocon.image.transfer import Array, Transfer
from zerocon.image.transforms import Box, Size

ROWS = 128  # of the result computed at a time, to limit the memory of intermediate arrays
LEAST = 0.01  # smaller values of the enlarged mask are zero, so that it is zero somewhere


def composite(
    source: Image.Image, transfer: Transfer, mask: Image.Image, box: Box | None = None
) -> Image.Image:
    """The edit of ``source`` at its own size; samples where the mask is zero are the source's own.

    Args:
        source: The source image, any size.
        transfer: ``K`` and ``P`` at working size, without padding.
        mask: ``M``, of any size: mode F in 0..1, or mode L in 0..255.
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
        rows = (top, min(top + ROWS, size[1]))
        share = enlarged_rows(mask, size, rows)
        used = np.flatnonzero(share.any(0))
        if not len(used):
            continue
        columns = (int(used[0]), int(used[-1]) + 1)
        part = (left + columns[0], upper + rows[0], left + columns[1], upper + rows[1])
        old = np.asarray(result.crop(part))
        window = Window(size, rows, columns)
        new = _blend(old, share[:, slice(*columns)], gains, offsets, window)
        result.paste(Image.fromarray(new), part[:2])
    return result


class Window(NamedTuple):
    """Some rows and columns of an image of ``size`` (width, height)."""

    size: Size
    rows: tuple[int, int]
    columns: tuple[int, int]


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


def enlarged_rows(mask: Image.Image, size: Size, rows: tuple[int, int]) -> Array:
    """Rows ``first..end`` of a mask enlarged to ``size`` (width, height): (rows, width) in 0..1."""
    window = Window(size, rows, (0, size[0]))
    part = _enlarged(mask, window, Image.Resampling.BILINEAR)
    share = part / np.float32(255 if mask.mode == "L" else 1)
    np.clip(share, 0, 1, out=share)
    share[share < LEAST] = 0
    return share


def enlarged_mask(mask: Image.Image, size: Size) -> Image.Image:
    """A mask as ``composite`` applies it to an image of ``size``: mode L, 255 = replaced."""
    result = Image.new("L", size)
    for top in range(0, size[1], ROWS):
        share = enlarged_rows(mask, size, (top, min(top + ROWS, size[1])))
        # rounded up: a pixel that may change must not look like one that may not
        result.paste(Image.fromarray(np.ceil(255 * share).astype(np.uint8)), (0, top))
    return result


def _enlarged(plane: Image.Image, window: Window, method: Image.Resampling) -> Array:
    """A window of an enlarged plane; equal to that part of the whole up to rounding."""
    (width, height), rows, columns = window
    across, down = plane.width / width, plane.height / height
    right, lower = min(columns[1] * across, plane.width), min(rows[1] * down, plane.height)
    box = (columns[0] * across, rows[0] * down, right, lower)
    part = plane.resize((columns[1] - columns[0], rows[1] - rows[0]), method, box=box)
    return np.asarray(part, np.float32)
