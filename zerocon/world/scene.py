"""A scene: the parameters that a caption names, and all others.

Every aspect is drawn from a separate random stream, never from the named values, so replacing a
named value leaves everything else unchanged: the image of the result *is* the ideal edit.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

ANIMALS = ("cat", "dog", "fox", "bear", "rabbit", "pig", "frog", "owl", "penguin", "lion")
VEHICLES = ("car", "bus", "truck", "boat")
THINGS = ("tree", "mushroom", "house")
FAMILIES = (ANIMALS, VEHICLES, THINGS)  # a swap inside a family keeps pose, size and place

KINDS = ANIMALS + VEHICLES + THINGS
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
ACCESSORIES = ("none", "hat", "sunglasses", "scarf", "bow tie", "crown")  # worn by animals only
SECONDS = ("cat", "rabbit", "mushroom")  # second subjects, always in neutral colors
COMPANIONS = ("none", "ball", "balloon", "flower", "lamp", *SECONDS)
PLACES = ("meadow", "beach", "snow", "desert", "forest", "city", "sea", "room")
TIMES = ("day", "night", "sunset", "rain")
STYLES = ("drawing", "pencil sketch", "watercolor", "pixel art", "mosaic")
VALUES: dict[str, tuple[str, ...]] = {
    "kind": KINDS,
    "color": COLORS,
    "accessory": ACCESSORIES,
    "companion": COMPANIONS,
    "place": PLACES,
    "time": TIMES,
    "style": STYLES,
}

TRAIN = range(0, 10**8)
VALIDATION = range(10**8, 2 * 10**8)
TEST = range(2 * 10**8, 3 * 10**8)

# kind: its usual place, and the share of its scenes that are there in addition to a uniform draw
HABITS: dict[str, tuple[str, float]] = {
    "cat": ("room", 0.35),
    "dog": ("room", 0.25),
    "fox": ("forest", 0.35),
    "bear": ("forest", 0.35),
    "rabbit": ("meadow", 0.35),
    "pig": ("meadow", 0.35),
    "frog": ("sea", 0.25),
    "owl": ("forest", 0.4),
    "penguin": ("snow", 0.55),
    "lion": ("desert", 0.4),
    "car": ("city", 0.35),
    "bus": ("city", 0.45),
    "truck": ("desert", 0.25),
    "boat": ("sea", 0.55),
    "tree": ("forest", 0.3),
    "mushroom": ("forest", 0.35),
    "house": ("meadow", 0.35),
}
USUAL_COLORS = {
    "fox": "orange",
    "pig": "pink",
    "frog": "green",
    "lion": "yellow",
    "rabbit": "white",
    "tree": "green",
    "mushroom": "red",
    "bus": "yellow",
    "penguin": "blue",
}
HELD_OUT_SHARE = 12  # one unusual combination of kind, place and style in so many


@dataclass(frozen=True)
class Geometry:
    """Position and shape of everything; lengths are shares of the image side."""

    x: float  # -1 .. 1, as far as the subject can go to either side
    base: float  # 0 .. 1, height of the feet between their lowest and highest line
    size: float  # height of the subject
    facing: int  # 1 or -1
    sitting: bool
    head: float  # proportions, around 1
    width: float
    ears: float
    eyes: float
    eye_style: int
    companion: tuple[float, float, float]  # size, place, depth: each 0 .. 1
    horizon: float  # from the top
    clutter: tuple[tuple[float, float, float], ...]  # six times place, size, form: each 0 .. 1
    occluder: float  # below 0.15: a mound in front of the subject, on this side


@dataclass(frozen=True)
class Appearance:
    """Colors and light, independent of any outline; values in 0 .. 1."""

    shade: tuple[float, float, float]
    accent: float
    pattern: str  # plain, stripes, spots or patches
    pattern_seed: int
    contrast: float
    eye: float
    place_shade: tuple[float, float, float]
    accessory: float
    companion: float
    light: tuple[float, float]  # direction in turns, strength
    shadow: float
    texture_seed: int
    grain: float
    free_seed: int | None = None  # of colors and patterns independent of the parts, see recolored


@dataclass(frozen=True)
class Scene:
    """One scene of the world. The first seven fields are named in its caption."""

    kind: str
    color: str
    accessory: str
    companion: str
    place: str
    time: str
    style: str
    geometry: Geometry
    appearance: Appearance
    wording: tuple[int, int]
    seed: int
    palette: str = ""  # a place whose colors replace those of ``place``, see ``dress``


def held_out(kind: str, place: str, style: str) -> bool:
    """Whether a combination is excluded from the training scenes."""
    code = zlib.crc32(f"{kind}|{place}|{style}".encode())
    return HABITS[kind][0] != place and code % HELD_OUT_SHARE == 0


def sample(seed: int) -> Scene:
    """The scene of a seed, 0 <= seed < 2**63; the same seed gives the same scene."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed {seed} is out of range; it must be at least 0 and below 2**63")
    named = _named(np.random.default_rng([seed, 0]), seed in TRAIN)
    words = np.random.default_rng([seed, 4])
    return Scene(
        **named,
        geometry=_geometry(np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])),
        appearance=_appearance(np.random.default_rng([seed, 3])),
        wording=(int(words.integers(6)), int(words.integers(6))),
        seed=seed,
    )


def truth(scene: Scene) -> dict[str, str]:
    """The named parameters of a scene; the values are those of ``VALUES``.

    Empty for a recolored scene, whose colors have no names.
    """
    if scene.appearance.free_seed is not None:
        return {}
    return {name: str(getattr(scene, name)) for name in VALUES}


def dress(structure: Scene, appearance: Scene) -> Scene:
    """The outlines of one scene in the colors, pattern, light and style of another.

    Kind, accessory, companion and place are those of ``structure``. The time is that of
    ``appearance``, with its sun, moon or rain.
    """
    return replace(
        structure,
        color=appearance.color,
        time=appearance.time,
        style=appearance.style,
        appearance=appearance.appearance,
        palette=appearance.palette or appearance.place,
    )


def recolored(scene: Scene, seed: int) -> Scene:
    """A scene in colors and patterns that do not depend on what a part is, drawn from a seed.

    Every part has a color of the RGB cube, moved towards gray; place, subject and companion may
    be striped, checked or diagonally striped, and the light has a tint and a vertical gradient.
    Outlines, weather and style are those of ``scene``, whose caption and truth become empty.
    ``dress`` gives the same colors to the same parts of another scene.
    """
    return replace(scene, appearance=replace(scene.appearance, free_seed=seed))


def _named(rng: np.random.Generator, training: bool) -> dict[str, str]:
    kind = _pick(rng, KINDS)
    usual, share = HABITS[kind]
    place = usual if rng.random() < share else _pick(rng, PLACES)
    color = _pick(rng, COLORS)
    if rng.random() < 0.3:
        color = USUAL_COLORS.get(kind, color)
    style = "drawing" if rng.random() < 0.28 else _pick(rng, STYLES)
    time = "day" if rng.random() < 0.4 else _pick(rng, TIMES)
    bare = rng.random() < 0.4
    accessory = _pick(rng, ACCESSORIES[1:])
    alone = rng.random() < 0.45
    companion = _pick(rng, tuple(word for word in COMPANIONS[1:] if word != kind))
    while training and held_out(kind, place, style):
        place, style = _pick(rng, PLACES), _pick(rng, STYLES)
    return {
        "kind": kind,
        "color": color,
        "accessory": "none" if bare or kind not in ANIMALS else accessory,
        "companion": "none" if alone else companion,
        "place": place,
        "time": time,
        "style": style,
    }


def _geometry(rng: np.random.Generator, clutter: np.random.Generator) -> Geometry:
    small = rng.random()
    low, high = (0.5, 0.72) if small > 0.25 else (0.4, 0.5) if small > 0.06 else (0.28, 0.4)
    return Geometry(
        size=float(rng.uniform(low, high)),
        x=float(rng.choice([-1, 1]) * rng.uniform(0.25, 1)),
        base=float(rng.random()),
        facing=int(rng.choice([-1, 1])),
        sitting=bool(rng.random() < 0.5),
        head=float(rng.uniform(0.92, 1.1)),
        width=float(rng.uniform(0.88, 1.1)),
        ears=float(rng.uniform(0.82, 1.12)),
        eyes=float(rng.uniform(0.9, 1.25)),
        eye_style=int(rng.integers(2)),
        companion=_triple(rng),
        horizon=float(rng.uniform(0.42, 0.64)),
        clutter=tuple(_triple(clutter) for _ in range(6)),
        occluder=float(clutter.random()),
    )


def _appearance(rng: np.random.Generator) -> Appearance:
    patterns = ("plain", "plain", "plain", "stripes", "spots", "patches")
    return Appearance(
        shade=_triple(rng),
        accent=float(rng.random()),
        pattern=_pick(rng, patterns),
        pattern_seed=int(rng.integers(2**31)),
        contrast=float(rng.random()),
        eye=float(rng.random()),
        place_shade=_triple(rng),
        accessory=float(rng.random()),
        companion=float(rng.random()),
        light=(float(rng.random()), float(rng.random())),
        shadow=float(rng.random()),
        texture_seed=int(rng.integers(2**31)),
        grain=float(rng.random()),
    )


def _triple(rng: np.random.Generator) -> tuple[float, float, float]:
    a, b, c = rng.random(3)
    return float(a), float(b), float(c)


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]
