"""Colors and patterns that are independent of what a part is.

Only outlines and surroundings tell what a part is, so correspondences between such scenes cannot
be found by color.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from zerocon.world import pen

PATTERNS = ("flat", "flat", "flat", "stripes", "checks", "diagonals")
SECOND = 128  # number of a part's second color, from that of the part
PERIOD = (9, 16)  # pixels of 128: the autoencoder loses finer patterns
# shares of the RGB cube's range: in all of it, reconstructions have 4 dB less
LIGHTNESS, SATURATION, GRAY = 0.85, 0.55, 128.0

_LARGE = (
    *(pen.FAR, pen.GROUND, pen.CLUTTER, pen.CLUTTER2, pen.LIGHT, pen.ORB, pen.FORE, pen.FRAME),
    *(pen.SUBJECT + pen.BODY, pen.SUBJECT + pen.ACCENT),
    *(pen.COMPANION + pen.BODY, pen.COMPANION + pen.ACCENT),
    *(pen.ACCESSORY + pen.CLOTH, pen.ACCESSORY + pen.TRIM),
)
_SMALL = (
    *(pen.INNER, pen.DARK, pen.WHITE, pen.IRIS, pen.PUPIL, pen.BEAK, pen.GLASS),
    *(pen.WOOD, pen.CREAM, pen.LEAF, pen.CARGO),
)
# part: the part of which it is a shade, and how far the shade is from it
_SHADES = {
    pen.FAR2: (pen.FAR, 0.22),
    pen.GROUND2: (pen.GROUND, 0.2),
    pen.SHADOW: (pen.GROUND, 0.28),
    pen.STAR: (pen.ORB, 0.0),
    pen.ACCESSORY + pen.LINE: (pen.ACCESSORY + pen.CLOTH, 0.5),
    **{
        first + role: (first + pen.BODY, amount)
        for first in (pen.SUBJECT, pen.COMPANION)
        for role, amount in ((pen.DEEP, 0.25), (pen.MANE, 0.35), (pen.LINE, 0.5))
    },
}
_PATTERNED = (
    *((pen.FAR, pen.FAR2), (pen.GROUND, pen.GROUND2), (pen.CLUTTER,), (pen.FORE,)),
    *((pen.SUBJECT + pen.BODY,), (pen.COMPANION + pen.BODY,)),
)
_BACKGROUND = (pen.SKY_BANDS // 2, pen.SKY_BANDS - 1, pen.FAR, pen.GROUND)
_NEIGHBORS = np.array(
    [
        *((part, other) for part in (0, *_BACKGROUND[:2]) for other in (pen.FAR, pen.LIGHT)),
        *((part, pen.ORB) for part in (0, *_BACKGROUND[:2])),
        *((part, pen.CLUTTER) for part in _BACKGROUND),
        *((part, pen.CLUTTER2) for part in _BACKGROUND),
        *((part, pen.SUBJECT + pen.BODY) for part in (*_BACKGROUND, pen.CLUTTER, pen.FORE)),
        *((part, pen.COMPANION + pen.BODY) for part in _BACKGROUND),
        *((pen.GROUND, part) for part in (pen.SKY_BANDS - 1, pen.FAR, pen.FORE, pen.FRAME)),
        *((pen.FAR, part) for part in (pen.LIGHT, pen.FRAME)),
        *((part, pen.ACCESSORY + pen.CLOTH) for part in (*_BACKGROUND, pen.SUBJECT + pen.BODY)),
        (pen.SUBJECT + pen.BODY, pen.SUBJECT + pen.ACCENT),
        (pen.COMPANION + pen.BODY, pen.COMPANION + pen.ACCENT),
        (pen.ACCESSORY + pen.CLOTH, pen.ACCESSORY + pen.TRIM),
    ]
)
_LUMA = np.array((0.3, 0.59, 0.11))
_VISIBILITY = np.sqrt((0.5, 1.0, 0.75))  # weights of red, green and blue in a difference


@lru_cache(maxsize=4)  # the scenes of one appearance are often drawn together
def free_palette(seed: int) -> np.ndarray:
    """The colors of all parts and, from ``SECOND`` on, of their patterns: (256, 3) uint8.

    Of several assignments of the same colors to parts, the one in which the most similar
    neighboring parts differ most.
    """
    rng = np.random.default_rng([seed, 14])
    colors = _distinct_colors(len(_LARGE) + 2 + len(_SMALL), rng)
    tables = [_assigned(colors, rng) for _ in range(8)]
    best = np.round(max(tables, key=_contrast)).astype(np.uint8)
    best.flags.writeable = False
    return best


def add_patterns(canvas: Image.Image, seed: int) -> Image.Image:
    """The canvas with the patterns of an appearance: their parts have numbers from ``SECOND``."""
    rng = np.random.default_rng([seed, 15])
    numbers = np.array(canvas)
    group = np.full(256, len(_PATTERNED), np.uint8)
    for i, parts in enumerate(_PATTERNED):
        group[list(parts)] = i
    groups = group[numbers]
    for i in range(len(_PATTERNED)):
        name, period = PATTERNS[int(rng.integers(len(PATTERNS)))], rng.uniform(*PERIOD)
        turned, phase = rng.random() < 0.5, rng.random()
        if name != "flat":
            second = _second(name, canvas.width, period * canvas.width / 128, phase, turned)
            numbers[(groups == i) & second] += SECOND
    return Image.fromarray(numbers)


def _second(name: str, side: int, period: float, phase: float, turned: bool) -> np.ndarray:
    """Where a pattern has its second color: (side, side) bool, ``period`` in canvas pixels."""
    stretch = 1.4 if name == "diagonals" else 1.0
    line = (np.arange(2 * side) / (stretch * period) + phase) % 1 < 0.5
    if name == "stripes":
        second = np.broadcast_to(line[:side], (side, side))
    elif name == "checks":
        second = line[:side] ^ line[:side, None]
    else:
        second = sliding_window_view(line, side)[:side]
    return second[:, ::-1].T if turned else second


def tinted(rgb: np.ndarray, seed: int) -> np.ndarray:
    """Pixels (size, size, 3) in 0..255 in a colored light that changes from top to bottom."""
    rng = np.random.default_rng([seed, 16])
    tint, slope = rng.uniform(-0.1, 0.1, 3), rng.uniform(-0.15, 0.15, 3)
    t = np.linspace(-1, 1, len(rgb))[:, None, None]
    lit: np.ndarray = np.clip(rgb * (1 + tint + slope * t), 0, 255).astype(np.float32)
    return lit


def _distinct_colors(count: int, rng: np.random.Generator) -> np.ndarray:
    """Colors (count, 3), each the best of some candidates by its distance to the others."""
    colors = _candidates(1, rng)
    while len(colors) < count:
        candidates = _candidates(10, rng)
        distances = _difference(candidates[:, None], colors[None]).min(1)
        colors = np.concatenate([colors, candidates[[distances.argmax()]]])
    return colors


def _candidates(count: int, rng: np.random.Generator) -> np.ndarray:
    """Colors (count, 3) of the RGB cube, moved towards gray."""
    colors = rng.uniform(0, 255, (count, 3))
    gray = colors @ _LUMA
    lightness = GRAY + LIGHTNESS * (gray - GRAY)[:, None]
    muted: np.ndarray = lightness + LIGHTNESS * SATURATION * (colors - gray[:, None])
    return muted


def _assigned(colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A palette (256, 3) with the colors in a random order, so that none belongs to a part."""
    table = np.zeros((256, 3))
    large = rng.permutation(colors[: len(_LARGE) + 2])
    table[list(_LARGE)] = large[2:]
    t = np.linspace(0, 0.5, pen.SKY_BANDS)[:, None]
    table[: pen.SKY_BANDS] = (1 - t) * large[0] + t * large[1]
    small = rng.permutation(colors[len(_LARGE) + 2 :])
    for first in (pen.SUBJECT, pen.COMPANION):
        table[[first + role for role in _SMALL]] = small
    for part, (base, amount) in _SHADES.items():
        table[part] = _shade(table[base], amount)
    for parts in _PATTERNED:
        for part in parts:
            table[SECOND + part] = (table[part] + large[rng.integers(len(large))]) / 2
    return table


def _shade(color: np.ndarray, amount: float) -> np.ndarray:
    """A darker shade of a light color, a lighter one of a dark color."""
    end = 0.0 if color @ _LUMA > 120 else 255.0
    return color + amount * (end - color)


def _contrast(table: np.ndarray) -> float:
    return float(_difference(table[_NEIGHBORS[:, 0]], table[_NEIGHBORS[:, 1]]).min())


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    distance: np.ndarray = np.linalg.norm((a - b) * _VISIBILITY, axis=-1)
    return distance
