"""Colors and patterns that are independent of what a part is: nothing is green because it grows.

Parts are told apart by their outlines and surroundings only, as a correspondence between two
images has to.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from zerocon.world import pen

PATTERNS = ("flat", "flat", "flat", "stripes", "checks", "diagonals")
SECOND = 128  # number of a part's second color, from that of the part
PERIOD = (9, 16)  # pixels of 128: the autoencoder loses finer patterns

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
    pen.FAR2: (pen.FAR, 0.25),
    pen.GROUND2: (pen.GROUND, 0.2),
    pen.SHADOW: (pen.GROUND, 0.35),
    pen.STAR: (pen.ORB, 0.0),
    pen.ACCESSORY + pen.LINE: (pen.ACCESSORY + pen.CLOTH, 0.65),
    **{
        first + role: (first + pen.BODY, amount)
        for first in (pen.SUBJECT, pen.COMPANION)
        for role, amount in ((pen.DEEP, 0.3), (pen.MANE, 0.45), (pen.LINE, 0.65))
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
_VISIBILITY = np.sqrt((0.5, 1.0, 0.75))  # weights of red, green and blue in a difference


def free_palette(seed: int) -> np.ndarray:
    """The colors of all parts and, from ``SECOND`` on, of their patterns: (256, 3) uint8.

    Of several assignments of the same colors to parts, the one in which the most similar
    neighboring parts differ most.
    """
    rng = np.random.default_rng([seed, 14])
    colors = _distinct_colors(len(_LARGE) + 2 + len(_SMALL), rng)
    tables = [_assigned(colors, rng) for _ in range(12)]
    return np.round(max(tables, key=_contrast)).astype(np.uint8)


def add_patterns(canvas: Image.Image, seed: int) -> Image.Image:
    """The canvas with the patterns of an appearance: their parts have numbers from ``SECOND``."""
    rng = np.random.default_rng([seed, 15])
    numbers = np.array(canvas)
    x = np.arange(canvas.width, dtype=np.float32)[None, :] * 128 / canvas.width
    y = np.arange(canvas.height, dtype=np.float32)[:, None] * 128 / canvas.width
    group = np.full(256, len(_PATTERNED), np.uint8)
    for i, parts in enumerate(_PATTERNED):
        group[list(parts)] = i
    groups = group[numbers]
    for i in range(len(_PATTERNED)):
        name, period = PATTERNS[int(rng.integers(len(PATTERNS)))], rng.uniform(*PERIOD)
        turned, phase = rng.random() < 0.5, rng.random()
        if name != "flat":
            second = _second(name, *((y, x) if turned else (x, y)), period, phase)
            numbers[(groups == i) & second] += SECOND
    return Image.fromarray(numbers)


def _second(name: str, x: np.ndarray, y: np.ndarray, period: float, phase: float) -> np.ndarray:
    """Where a pattern has its second color, for coordinates in pixels of 128."""
    across, down = x / period + phase, y / period
    if name == "stripes":
        return across % 1 + 0 * down < 0.5
    if name == "checks":
        return (across % 1 < 0.5) ^ (down % 1 < 0.5)
    return (across + down) % 1.4 < 0.7


def tinted(rgb: np.ndarray, seed: int) -> np.ndarray:
    """Pixels (size, size, 3) in 0..255 in a colored light that changes from top to bottom."""
    rng = np.random.default_rng([seed, 16])
    tint, slope = rng.uniform(-0.1, 0.1, 3), rng.uniform(-0.15, 0.15, 3)
    t = np.linspace(-1, 1, len(rgb))[:, None, None]
    lit: np.ndarray = np.clip(rgb * (1 + tint + slope * t), 0, 255).astype(np.float32)
    return lit


def _distinct_colors(count: int, rng: np.random.Generator) -> np.ndarray:
    """Colors (count, 3) of the whole RGB cube, each the best of some by its distance to others."""
    colors = rng.uniform(8, 247, (1, 3))
    while len(colors) < count:
        candidates = rng.uniform(8, 247, (10, 3))
        distances = _difference(candidates[:, None], colors[None]).min(1)
        colors = np.concatenate([colors, candidates[[distances.argmax()]]])
    return colors


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
    end = 0.0 if color @ (0.3, 0.59, 0.11) > 110 else 255.0
    return color + amount * (end - color)


def _contrast(table: np.ndarray) -> float:
    return float(_difference(table[_NEIGHBORS[:, 0]], table[_NEIGHBORS[:, 1]]).min())


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    distance: np.ndarray = np.linalg.norm((a - b) * _VISIBILITY, axis=-1)
    return distance
