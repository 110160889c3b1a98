"""Indexed color: images of mode P, whose pixels are indices into a palette."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ENTRIES = 256  # of a palette
CHUNK = 1 << 16  # colors compared with all entries at a time, to limit the memory of distances


def recolored(stored: Image.Image, colors: Image.Image) -> Image.Image:
    """``stored`` with the colors of an edit; unchanged pixels keep their index exactly.

    Every pixel keeps its level of alpha, and every entry its alpha. An entry's color changes only
    if no pixel needs it any more. A new color takes an entry that already has it; if none has, new
    entries are added after the last one and in unused ones of the pixel's alpha, by median cut if
    there are too few; then the nearest entry of that alpha is taken.

    Args:
        stored: Mode P, with or without transparency.
        colors: RGB, of the same size, in the color space of the palette.
    """
    palette, indices, after = _entries(stored), np.array(stored), np.asarray(colors)
    changed = (palette[indices, :3] != after).any(-1)
    if not changed.any():
        return stored.copy()
    wanted = np.column_stack([after[changed], palette[indices[changed], 3]])
    keys, places, counts = np.unique(_keys(wanted), return_inverse=True, return_counts=True)
    wanted = keys.view(np.uint8).reshape(-1, 4)
    first = max(len(stored.getpalette() or []) // 3, int(indices.max()) + 1)  # after the last entry
    existing = _keys(palette[:first])
    used = np.isin(existing, keys)
    used[indices[~changed]] = True
    new = ~np.isin(keys, existing)
    length = _add(palette, used, wanted[new], counts[new])
    indices[changed] = _nearest(wanted, palette[:length])[places]
    result = Image.frombytes("P", stored.size, indices.tobytes())
    result.putpalette(palette[:length, :3].tobytes())
    if stored.has_transparency_data:
        transparency = stored.info.get("transparency")
        if transparency is None or (palette[first:length, 3] < 255).any():
            transparency = palette[:length, 3].tobytes()
        result.info["transparency"] = transparency
    return result


def _entries(stored: Image.Image) -> NDArray[np.uint8]:
    """(256, 4) RGBA of every index, as Pillow converts it; also beyond the palette's end."""
    row = stored.crop((0, 0, ENTRIES, 1))
    row.putdata(list(range(ENTRIES)))
    return np.array(row.convert("RGBA")).reshape(ENTRIES, 4)


def _keys(entries: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """One number for each RGBA row of ``entries``, (rows, 4)."""
    return np.ascontiguousarray(entries).view(np.uint32)[:, 0]


def _add(
    palette: NDArray[np.uint8],
    used: NDArray[np.bool_],
    colors: NDArray[np.uint8],
    counts: NDArray[np.intp],
) -> int:
    """Write new colors into free entries.

    Args:
        palette: (256, 4) RGBA, changed in place.
        used: For each entry of the palette as it was whether a pixel has its color.
        colors: (colors, 4) RGBA, without duplicates.
        counts: Pixels of each color.

    Returns:
        Length of the palette.
    """
    length, area = len(used), int(counts.sum())
    exact = len(colors) <= ENTRIES - length
    levels = {level: colors[:, 3] == level for level in np.unique(colors[:, 3])}
    for level in sorted(levels, key=lambda level: int(levels[level].sum())):
        # levels of few colors come first and leave what they do not need to the others
        rows = levels[level]
        pixels = int(counts[rows].sum())
        share = len(colors) if exact else (ENTRIES - length) * pixels // area
        unused = np.flatnonzero(~used & (palette[: len(used), 3] == level))
        slots = [*range(length, min(length + share, ENTRIES)), *unused]
        reduced = _reduced(colors[rows, :3], counts[rows], len(slots))
        slots = slots[: len(reduced)]
        palette[slots, :3], palette[slots, 3] = reduced, level
        length, area = max([length, *(slot + 1 for slot in slots)]), area - pixels
    return length


def _reduced(colors: NDArray[np.uint8], counts: NDArray[np.intp], limit: int) -> NDArray[np.uint8]:
    """At most ``limit`` colors for ``colors`` (colors, 3), which ``counts`` pixels have each."""
    if len(colors) <= limit or limit == 0:
        return colors[:limit]
    pixels = Image.fromarray(np.repeat(colors, counts, axis=0)[None])
    coded = pixels.quantize(limit, Image.Quantize.MEDIANCUT).getpalette() or []
    return np.array(coded, np.uint8).reshape(-1, 3)[:limit]


def _nearest(colors: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Index of the entry of the same alpha that is nearest in RGB; the first one of several."""
    result = np.empty(len(colors), np.uint8)
    for level in np.unique(colors[:, 3]):
        entries = np.flatnonzero(palette[:, 3] == level).astype(np.uint8)
        values = palette[entries, :3].astype(np.float32)  # exact: all sums are below 2 ** 24
        rows = np.flatnonzero(colors[:, 3] == level)
        for first in range(0, len(rows), CHUNK):
            part = rows[first : first + CHUNK]
            products = colors[part, :3].astype(np.float32) @ values.T
            result[part] = entries[((values**2).sum(1) - 2 * products).argmin(1)]
    return result
