"""Native compositing: the edit at the source image's own size, everything else as it was.

A model edits an image at its working size. Enlarging its output would replace every pixel of a
photograph by a blurred copy, so only the *change* is enlarged, and only where there is one. With
the source ``S``, the decoded source ``a`` and the decoded edit ``b`` at working size, the support
``M`` (where the edit acts) and the detail gate ``G`` (where the source's detail still belongs),
all in 0..1:

    result = (1 - up(M)) S + up(M) (up(b - G a) + up(G) S)

``up`` enlarges. ``S - up(a)`` is all that the working size and the autoencoder lose; ``G`` puts it
back where the edit has kept the structure. Comparing ``b`` with ``a`` instead of ``S`` cancels the
autoencoder's error: with ``b = a`` the gate is 1 and the result is ``S``.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zerocon.image.transforms import Box

Array: TypeAlias = NDArray[np.float32]

ROWS = 128  # of the result computed at a time, to limit the memory of intermediate arrays
LEAST = 0.01  # smaller values of the enlarged mask are zero, so that it is zero somewhere


def composite(
    source: Image.Image,
    before: Array,
    after: Array,
    mask: Image.Image,
    detail: Array,
    box: Box | None = None,
) -> Image.Image:
    """The edit of ``source`` at its own size; samples where the mask is zero are the source's own.

    Args:
        source: The source image, any size.
        before: ``a``: the source after encoding and decoding, (height, width, 3) in 0..1 at working
            size without padding.
        after: ``b``: the edited image, like ``before``.
        mask: ``M``, of any size: mode F in 0..1, or mode L in 0..255.
        detail: ``G``, (height, width) in 0..1 or a little more, at working size.
        box: The part of ``source`` that was edited, (left, upper, right, lower); None for all.

    Returns:
        RGB, of the size of ``source``.
    """
    left, upper, right, lower = box or (0, 0, *source.size)
    result = source.copy() if source.mode == "RGB" else source.convert("RGB")
    gate = Image.fromarray(np.ascontiguousarray(detail, np.float32))
    change = np.asarray(after - detail[..., None] * before, np.float32)
    planes = [Image.fromarray(np.ascontiguousarray(change[..., c])) for c in range(3)]
    for top in range(0, lower - upper, ROWS):
        rows = (top, min(top + ROWS, lower - upper))
        share = enlarged_rows(mask, (right - left, lower - upper), rows)
        used = np.flatnonzero(share.any(0))
        if not len(used):
            continue
        columns = slice(int(used[0]), int(used[-1]) + 1)
        part = (left + columns.start, upper + rows[0], left + columns.stop, upper + rows[1])
        size = (right - left, lower - upper)
        old = np.asarray(result.crop(part), np.float32)
        new = _blend(old, share[:, columns], planes, gate, size, rows, columns)
        result.paste(Image.fromarray(new), part[:2])
    return result


def _blend(
    old: Array,
    share: Array,
    planes: list[Image.Image],
    gate: Image.Image,
    size: tuple[int, int],
    rows: tuple[int, int],
    columns: slice,
) -> NDArray[np.uint8]:
    """The new samples of some rows and columns, from the old ones and the mask there."""
    span = (columns.start, columns.stop)
    kept = 1 - share * (1 - _enlarged(gate, size, rows, span, Image.Resampling.BILINEAR))
    values = np.array(old)
    for channel, plane in enumerate(planes):
        values[..., channel] *= kept
        up = _enlarged(plane, size, rows, span, Image.Resampling.LANCZOS)
        values[..., channel] += 255 * share * up
    samples: NDArray[np.uint8] = (values + 0.5).clip(0, 255).astype(np.uint8)
    # where nothing may change, the samples are copied, whatever the arithmetic gives
    np.copyto(samples, old.astype(np.uint8), where=(share == 0)[..., None])
    return samples


def enlarged_rows(mask: Image.Image, size: tuple[int, int], rows: tuple[int, int]) -> Array:
    """Rows ``first..end`` of a mask enlarged to ``size`` (width, height): (rows, width) in 0..1."""
    part = np.array(_enlarged(mask, size, rows, (0, size[0]), Image.Resampling.BILINEAR))
    share: Array = part.astype(np.float32) / np.float32(255 if mask.mode == "L" else 1)
    np.clip(share, 0, 1, out=share)
    share[share < LEAST] = 0
    return share


def enlarged_mask(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A mask as ``composite`` applies it to an image of ``size``: mode L, 255 = replaced."""
    result = Image.new("L", size)
    for top in range(0, size[1], ROWS):
        share = enlarged_rows(mask, size, (top, min(top + ROWS, size[1])))
        # rounded up: a pixel that may change must not look like one that may not
        result.paste(Image.fromarray(np.ceil(255 * share).astype(np.uint8)), (0, top))
    return result


def _enlarged(
    plane: Image.Image,
    size: tuple[int, int],
    rows: tuple[int, int],
    columns: tuple[int, int],
    method: Image.Resampling,
) -> NDArray[np.float32] | NDArray[np.uint8]:
    """Part of a plane enlarged to ``size``; equal to that part of the whole up to rounding."""
    across, down = plane.width / size[0], plane.height / size[1]
    right, lower = min(columns[1] * across, plane.width), min(rows[1] * down, plane.height)
    box = (columns[0] * across, rows[0] * down, right, lower)
    return np.asarray(plane.resize((columns[1] - columns[0], rows[1] - rows[0]), method, box=box))
