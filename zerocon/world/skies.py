"""Sky, waves, and objects in front of the subject."""

from __future__ import annotations

from PIL import Image

from zerocon.world.pen import (
    FORE,
    GROUND,
    GROUND2,
    LIGHT,
    ORB,
    SKY_BANDS,
    STAR,
    Pen,
    Shape,
    box,
    disc,
    polygon,
    stroke,
)
from zerocon.world.scene import Scene


def draw_sky(pen: Pen, where: tuple[float, float, float, float]) -> None:
    """Fill a window (left, bottom, right, top) with the bands of the sky."""
    left, bottom, right, top = where
    step = (top - bottom) / SKY_BANDS
    for band in range(SKY_BANDS):
        pen.fill(box(band, left, bottom, right, top - band * step))


def draw_heavens(pen: Pen, scene: Scene, where: tuple[float, float, float, float]) -> None:
    """Draw the sun, the moon with stars, or clouds in a window (left, bottom, right, top)."""
    left, bottom, right, top = where
    wide, high = right - left, top - bottom
    form = scene.geometry
    (a, b, _), *rest = form.clutter
    small = 0.55 if scene.place == "room" else 1.0
    if scene.time == "sunset":
        r = (0.09 + 0.04 * b) * small
        pen.fill(disc(ORB, left + wide * (0.15 + 0.7 * a), bottom + 0.3 * high, r))
    elif scene.time == "night":
        r = (0.065 + 0.025 * b) * small
        pen.fill(disc(ORB, left + wide * (0.15 + 0.7 * a), top - 0.28 * high, r))
        for x, y, size in rest:
            s = (0.014 + 0.01 * size) * (0.8 if small < 1 else 1.0)
            x, y = left + wide * x, bottom + high * (0.3 + 0.65 * y)
            pen.fill(polygon(STAR, [(x - s, y), (x, y + s), (x + s, y), (x, y - s)]))
    elif small == 1.0 and scene.place not in ("city", "forest"):
        for x, y, size in rest[: 1 + int(3 * b)]:
            s = 0.05 + 0.035 * size
            x, y = left + wide * x, bottom + high * (0.45 + 0.45 * y)
            pen.fill(
                disc(LIGHT, x - s, y, 1.1 * s, 0.6 * s), disc(LIGHT, x + s, y, 1.1 * s, 0.55 * s)
            )
            pen.fill(disc(LIGHT, x, y + 0.35 * s, s, 0.75 * s))


def draw_front(canvas: Image.Image, scene: Scene, x: float, base: float) -> None:
    """Draw what is in front of the subject: waves at sea, sometimes a mound elsewhere."""
    side = canvas.width
    pen = Pen(canvas, 0, side, side)
    form = scene.geometry
    foot = 1 - base
    if scene.place == "sea":
        deep = 0.1 * form.size
        pen.fill(wave(GROUND, foot + deep - 0.05, form.clutter[5][0], 0.1))
        pen.fill(wave(GROUND2, foot + deep - 0.06, form.clutter[5][0], 0.022))
        pen.fill(box(GROUND, 0, 0, 1, max(0.0, foot + deep - 0.08)))
        pen.fill(wave(GROUND2, foot + deep - 0.17, form.clutter[5][1], 0.022))
    elif form.occluder < 0.15 and scene.place != "room":
        side_of = -1 if form.occluder < 0.075 else 1
        wide = 0.45 * form.size + 0.08  # flat, or it would resemble a ball
        pen.fill(
            disc(FORE, x + side_of * 0.36 * form.size, foot - 0.08, wide, 0.09 + 0.1 * form.size)
        )


def wave(role: int, y: float, phase: float, width: float) -> Shape:
    """A wavy line across the image."""
    points = [
        (-0.1 + 0.1 * i, y + (0.012 if (i + int(2 * phase)) % 2 else -0.012)) for i in range(13)
    ]
    return stroke(role, points, width)
