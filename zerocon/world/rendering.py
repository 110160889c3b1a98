"""Image, masks, labels and edges of a scene, all from one index canvas."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from zerocon.world import pen
from zerocon.world.accessories import draw_accessory
from zerocon.world.animals import draw_animal, head_of
from zerocon.world.palettes import palette
from zerocon.world.pen import Pen
from zerocon.world.places import draw_place
from zerocon.world.recoloring import add_patterns, tinted
from zerocon.world.scene import ANIMALS, KINDS, VEHICLES, Scene
from zerocon.world.skies import draw_front
from zerocon.world.styles import finish
from zerocon.world.things import draw_companion, draw_thing
from zerocon.world.vehicles import draw_vehicle

FINE = 4  # canvas pixels per image pixel, for antialiasing
OUTLINE = 1.1 / 128  # width of an outline as a share of the image side

_REGIONS = {
    "subject": (pen.SUBJECT, pen.COMPANION),
    "companion": (pen.COMPANION, pen.ACCESSORY),
    "accessory": (pen.ACCESSORY, pen.ACCESSORY + pen.ROLES),
}
# class: its parts. The sky is first, and everything of a companion or accessory is one class.
_CLASS_PARTS: dict[str, tuple[int, ...]] = {
    "sky": (),
    "sun, moon or star": (pen.ORB, pen.STAR),
    "cloud, snow or window": (pen.LIGHT,),
    "distance": (pen.FAR, pen.FAR2),
    "ground": (pen.GROUND, pen.GROUND2, pen.SHADOW),
    "plant or building": (pen.CLUTTER,),
    "trunk or base": (pen.CLUTTER2,),
    "frame": (pen.FRAME,),
    "foreground": (pen.FORE,),
    "subject": (pen.SUBJECT + pen.BODY, pen.SUBJECT + pen.PATTERN),
    "subject's dark side": (pen.SUBJECT + pen.DEEP, pen.SUBJECT + pen.MANE),
    "subject's light side": (pen.SUBJECT + pen.ACCENT,),
    "subject's details": tuple(
        pen.SUBJECT + role
        for role in range(pen.ROLES)
        if role not in (pen.BODY, pen.PATTERN, pen.DEEP, pen.MANE, pen.ACCENT)
    ),
    "companion": tuple(range(*_REGIONS["companion"])),
    "accessory": tuple(range(*_REGIONS["accessory"])),
}
CLASSES = tuple(_CLASS_PARTS)


def render(scene: Scene, size: int = 128) -> Image.Image:
    """The image: RGB, ``size`` x ``size``; styles are designed at 128 and scale with the size."""
    canvas = _canvas(scene, size)
    sky = (
        canvas.point([255] * pen.SKY_BANDS + [0] * (256 - pen.SKY_BANDS))
        if scene.time == "rain"
        else None
    )
    seed = scene.appearance.free_seed
    if seed is None:
        _add_pattern(canvas, scene)
    else:
        canvas = add_patterns(canvas, seed)
    canvas.putpalette(palette(scene).tobytes())
    rgb = np.asarray(canvas.convert("RGB").reduce(FINE), np.float32)
    if seed is not None:
        rgb = tinted(rgb, seed)
    glass = None
    if sky is not None and scene.place == "room":  # rain is visible through the window only
        glass = np.asarray(sky.reduce(FINE), np.float32) / 255
    return finish(rgb, scene, glass)


def masks(scene: Scene, size: int = 128) -> dict[str, np.ndarray]:
    """The visible parts of subject, accessory and companion: (size, size) bool, if present."""
    canvas = _canvas(scene, size)
    visible = {}
    for name, (first, end) in _REGIONS.items():
        inside = canvas.point([255 * (first <= n < end) for n in range(256)])
        mask = np.asarray(inside.reduce(FINE)) > 128  # more than half: no two overlap
        if mask.any():
            visible[name] = mask
    return visible


def labels(scene: Scene, size: int = 128) -> Image.Image:
    """One color per part of the place, subject, companion and accessory: RGB, no antialiasing.

    The subject's color is that of its kind.
    """
    return Image.fromarray(LABEL_COLORS[label_numbers(scene, size)])


def label_numbers(scene: Scene, size: int = 128) -> np.ndarray:
    """The label map as (size, size) uint8; ``LABEL_COLORS`` has the color of each number."""
    table = np.arange(256, dtype=np.uint8)
    table[: pen.SKY_BANDS] = pen.SKY_BANDS - 1
    table[pen.SUBJECT : pen.COMPANION] = pen.SUBJECT + KINDS.index(scene.kind)
    table[pen.COMPANION : pen.ACCESSORY] = pen.SUBJECT + len(KINDS)  # unlike all kinds' colors
    table[pen.ACCESSORY :] = pen.ACCESSORY
    numbers: np.ndarray = table[_part_numbers(scene, size)]
    return numbers


def classes(scene: Scene, size: int = 128) -> np.ndarray:
    """What every pixel shows, whatever the kinds and the place: (size, size) uint8.

    The values are indices of ``CLASSES``. Equal classes are the true correspondences between
    scenes of one appearance: but for companion and details, their parts are of similar colors.
    """
    table = np.zeros(256, np.uint8)
    for index, parts in enumerate(_CLASS_PARTS.values()):
        table[list(parts)] = index
    indices: np.ndarray = table[_part_numbers(scene, size)]
    return indices


def edges(scene: Scene, size: int = 128) -> Image.Image:
    """The outlines of all parts, white on black: RGB, without patterns and textures."""
    numbers = np.asarray(_canvas(scene, size)).astype(np.int16)
    numbers[numbers < pen.SKY_BANDS] = 0
    line = np.zeros(numbers.shape, np.uint8)
    line[1:] |= numbers[1:] != numbers[:-1]
    line[:, 1:] |= numbers[:, 1:] != numbers[:, :-1]
    thick = np.asarray(Image.fromarray(line * 255).reduce(FINE)) > 32
    return Image.fromarray(thick.astype(np.uint8) * 255).convert("RGB")


def _flat_color(number: int) -> tuple[int, int, int]:
    """Distinct colors for neighboring numbers: golden-angle hues at three brightnesses."""
    hue, value = number * 0.618034 % 1, (1.0, 0.8, 0.6)[number % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.8 if number < pen.SUBJECT else 0.45, value)
    return round(255 * red), round(255 * green), round(255 * blue)


LABEL_COLORS = np.array([_flat_color(number) for number in range(256)], np.uint8)


def _part_numbers(scene: Scene, size: int) -> np.ndarray:
    """The part in the middle of every pixel: (size, size) uint8."""
    return np.asarray(_canvas(scene, size))[FINE // 2 :: FINE, FINE // 2 :: FINE]


def _canvas(scene: Scene, size: int) -> Image.Image:
    """The part number of every fine pixel, mode L, of the caller's own."""
    return _drawn(scene, size).copy()


@lru_cache(maxsize=1)  # image, edges, labels and classes of a scene are often asked for together
def _drawn(scene: Scene, size: int) -> Image.Image:
    side = size * FINE
    canvas = Image.new("L", (side, side))
    form = scene.geometry
    draw_place(canvas, scene)
    x, base = _footing(scene)
    _draw_shadow(canvas, scene, x, base, form.size)
    subject = Pen(
        canvas,
        x * side,
        base * side,
        form.size * side,
        facing=form.facing,
        first=pen.SUBJECT,
        line=OUTLINE * side,
    )
    _draw_kind(subject, scene.kind, scene)
    if scene.accessory != "none":
        draw_accessory(subject, scene.accessory, head_of(form), side)
    if scene.companion != "none":
        _place_companion(canvas, scene, x, base)
    draw_front(canvas, scene, x, base)
    return canvas


def _footing(scene: Scene) -> tuple[float, float]:
    """Position of the subject's feet, as shares of the image side from left and top."""
    form = scene.geometry
    free = max(0.04, 0.5 - 0.6 * form.size)
    lowest = 0.95
    highest = max(form.horizon + 0.2, form.size + 0.22)  # long ears and hats stay inside
    return 0.5 + free * form.x, lowest - (lowest - min(highest, lowest)) * form.base


def _draw_kind(brush: Pen, kind: str, scene: Scene) -> None:
    if kind in ANIMALS:
        draw_animal(brush, kind, scene.geometry)
    elif kind in VEHICLES:
        draw_vehicle(brush, kind, scene.geometry)
    else:
        draw_thing(brush, kind, scene.geometry)


def _place_companion(canvas: Image.Image, scene: Scene, x: float, base: float) -> None:
    size, place, depth = scene.geometry.companion
    side = canvas.width
    away = -1 if scene.geometry.x > 0 else 1
    at = x + away * (0.46 * scene.geometry.size + 0.14 + 0.06 * place)
    at = min(max(at, 0.14), 0.86)
    foot = min(base + 0.03 * depth, 0.97)
    second = scene.companion in KINDS
    unit = 0.3 + 0.08 * size if not second else 0.34 + 0.08 * size
    unit *= {"ball": 0.85, "balloon": 0.95, "lamp": 1.15}.get(scene.companion, 1.0)
    _draw_shadow(canvas, scene, at, foot, unit)
    brush = Pen(
        canvas,
        at * side,
        foot * side,
        unit * side,
        facing=-away,
        first=pen.COMPANION,
        line=OUTLINE * side,
    )
    if second:
        _draw_kind(brush, scene.companion, scene)
    else:
        draw_companion(brush, scene.companion)


def _draw_shadow(canvas: Image.Image, scene: Scene, x: float, base: float, size: float) -> None:
    if scene.place == "sea":
        return
    side = canvas.width
    ground = Pen(canvas, x * side, base * side, size * side)
    shift = 0.08 if scene.appearance.light[0] < 0.5 else -0.08
    ground.fill(pen.disc(pen.SHADOW, shift, 0.0, 0.46, 0.06))


def _add_pattern(canvas: Image.Image, scene: Scene) -> None:
    """Turn some of the subject's BODY into PATTERN; periods are at least 8 pixels of 128."""
    appearance, form = scene.appearance, scene.geometry
    if appearance.pattern == "plain":
        return
    body = canvas.point([255 * (n == pen.SUBJECT + pen.BODY) for n in range(256)])
    box = body.getbbox()
    if box is None:
        return
    rng = np.random.default_rng([appearance.pattern_seed, 6])
    cloth = Image.new("L", canvas.size)
    draw = ImageDraw.Draw(cloth)
    side = canvas.width
    x, base = _footing(scene)
    origin = np.array([x, base - 0.5 * form.size]) * side
    _PATTERNS[appearance.pattern](draw, rng, origin, form.size * side, side / 128)
    canvas.paste(pen.SUBJECT + pen.PATTERN, mask=ImageChops.multiply(body, cloth))


def _stripes(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, at: np.ndarray, unit: float, px: float
) -> None:
    period = max(0.15 * unit, 9 * px) * rng.uniform(1, 1.3)
    lean = rng.uniform(-0.5, 0.5) * unit
    for i in range(-7, 8):
        x = at[0] + i * period
        draw.line(
            (x - lean, at[1] - unit, x + lean, at[1] + unit), fill=255, width=round(0.45 * period)
        )


def _spots(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, at: np.ndarray, unit: float, px: float
) -> None:
    step = max(0.17 * unit, 10 * px) * rng.uniform(1, 1.3)
    r = 0.3 * step
    for row in range(-6, 7):
        for column in range(-6, 7):
            x, y = (
                at
                + step * np.array([column + 0.5 * (row % 2), row])
                + rng.normal(0, 0.08 * step, 2)
            )
            draw.ellipse((x - r, y - r, x + r, y + r), fill=255)


def _patches(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, at: np.ndarray, unit: float, px: float
) -> None:
    for x, y in at + unit * rng.uniform(-0.5, 0.5, (5, 2)):
        rx, ry = unit * rng.uniform(0.1, 0.2, 2)
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=255)


_PATTERNS = {"stripes": _stripes, "spots": _spots, "patches": _patches}
