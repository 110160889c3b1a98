"""The eight places: sky or wall, ground, and clutter."""

from __future__ import annotations

from PIL import Image

from zerocon.world.pen import (
    CLUTTER,
    CLUTTER2,
    FAR,
    FAR2,
    FRAME,
    GROUND,
    GROUND2,
    LIGHT,
    Pen,
    box,
    disc,
    polygon,
    stroke,
)
from zerocon.world.scene import Scene
from zerocon.world.skies import draw_heavens, draw_sky, wave

Clutter = tuple[tuple[float, float, float], ...]


def draw_place(canvas: Image.Image, scene: Scene) -> None:
    """Draw everything behind the subject."""
    side = canvas.width
    pen = Pen(canvas, 0, side, side)  # in units of the image side, y up
    form = scene.geometry
    level = 1 - form.horizon
    if scene.place == "room":
        _room(pen, scene, level)
        return
    draw_sky(pen, (0, level, 1, 1))
    if scene.place != "forest":
        draw_heavens(pen, scene, (0.04, level, 0.96, 1))
    _PLACES[scene.place](pen, level, form.clutter, scene.time)


def _meadow(pen: Pen, level: float, clutter: Clutter, time: str) -> None:
    (a, b, _), (c, d, _), *rest = clutter
    pen.fill(disc(FAR, a, level, 0.35 + 0.2 * b, 0.07 + 0.06 * d))
    pen.fill(disc(FAR2, 1 - c, level, 0.3 + 0.2 * d, 0.05 + 0.05 * b))
    pen.fill(box(GROUND, 0, 0, 1, level))
    for x, size, form in rest[:2]:
        s = 0.06 + 0.05 * size
        pen.fill(
            disc(CLUTTER, x - s, level, s, 0.8 * s),
            disc(CLUTTER, x + 0.4 * s, level, s, s * (0.8 + 0.5 * form)),
        )
    pen.fill(box(GROUND, 0, 0, 1, level - 0.01))
    pen.fill(disc(GROUND2, 0.2 + 0.6 * c, 0.05, 0.5, 0.13))


def _beach(pen: Pen, level: float, clutter: Clutter, time: str) -> None:
    (a, b, c), (d, e, _), *_ = clutter
    shore = level - 0.1 - 0.05 * d
    pen.fill(box(FAR, 0, 0, 1, level), wave(FAR2, (level + shore) / 2, a, 0.016))
    pen.fill(wave(LIGHT, shore, e, 0.03), box(GROUND, 0, 0, 1, shore))
    pen.fill(disc(GROUND2, 0.2 + 0.6 * e, 0.04, 0.5, 0.1))
    x, top = (0.1 if a < 0.5 else 0.9) + 0.1 * (b - 0.5), level + 0.18 + 0.1 * c
    lean = 0.05 if a < 0.5 else -0.05
    pen.fill(stroke(CLUTTER2, [(x, shore - 0.1), (x + 0.3 * lean, level), (x + lean, top)], 0.03))
    for dx, dy in (
        (0.16, 0.02),
        (0.11, 0.11),
        (-0.11, 0.11),
        (-0.16, 0.02),
        (0.13, -0.07),
        (-0.13, -0.07),
    ):
        leaf = [
            (x + lean, top),
            (x + lean + 0.55 * dx, top + dy * 0.8 + 0.025),
            (x + lean + dx, top + dy - 0.03),
        ]
        pen.fill(stroke(CLUTTER, leaf, 0.034))


def _snow(pen: Pen, level: float, clutter: Clutter, time: str) -> None:
    for (x, high, _), role in zip(clutter[:3], (FAR, FAR2, FAR), strict=True):
        top, wide = level + 0.12 + 0.14 * high, 0.26 + 0.1 * high
        pen.fill(polygon(role, [(x - wide, level), (x, top), (x + wide, level)]))
        cap = 0.3
        edge = top - cap * (top - level)
        middle = (x, top - 0.55 * (top - level))
        pen.fill(polygon(LIGHT, [(x - cap * wide, edge), (x, top), (x + cap * wide, edge), middle]))
    pen.fill(box(GROUND, 0, 0, 1, level))
    for x, size, _ in clutter[3 : 4 + int(2 * clutter[5][2])]:
        _fir(pen, x, level, 0.1 + 0.06 * size)
    pen.fill(disc(GROUND2, 0.2 + 0.6 * clutter[1][1], 0.06, 0.5, 0.12))


def _fir(pen: Pen, x: float, level: float, s: float) -> None:
    pen.fill(box(CLUTTER2, x - 0.015, level - 0.04, x + 0.015, level))
    for lift in (0.0, 0.55, 1.05):
        y, half = level - 0.02 + lift * s, s * (0.75 - 0.22 * lift)
        pen.fill(polygon(CLUTTER, [(x - half, y), (x, y + s), (x + half, y)]))
    y, top = level + 1.6 * s, (x, level + 2.03 * s - 0.02)
    pen.fill(polygon(LIGHT, [(x - 0.2 * s, y), top, (x + 0.2 * s, y)]))


def _desert(pen: Pen, level: float, clutter: Clutter, time: str) -> None:
    (a, b, _), (c, d, _), (e, f, g), (h, i, j), *_ = clutter
    pen.fill(disc(FAR, a, level - 0.02, 0.4, 0.1 + 0.09 * b))
    pen.fill(disc(FAR2, c, level - 0.02, 0.36, 0.07 + 0.07 * d))
    pen.fill(box(GROUND, 0, 0, 1, level), disc(GROUND2, 0.15 + 0.7 * d, 0.04, 0.55, 0.13))
    for x, size, arm in ((e, f, g), (h, i, j))[: 1 + (i > 0.5)]:
        s, y = 0.2 + 0.12 * size, level - 0.06
        pen.fill(stroke(CLUTTER, [(x, y), (x, y + s)], 0.055))
        for out, low in ((1, 0.35), (-1, 0.5 if arm > 0.4 else 0.28)):
            bend = [
                (x, y + low * s),
                (x + out * 0.075, y + low * s),
                (x + out * 0.075, y + (low + 0.3) * s),
            ]
            pen.fill(stroke(CLUTTER, bend, 0.038))


def _forest(pen: Pen, level: float, clutter: Clutter, time: str) -> None:
    for x, high, _ in clutter:
        pen.fill(
            polygon(FAR, [(x - 0.2, level), (x, level + 0.22 + 0.15 * high), (x + 0.2, level)])
        )
    pen.fill(box(FAR2, 0, 0, 1, level + 0.06), box(GROUND, 0, 0, 1, level))
    pen.fill(disc(GROUND2, 0.2 + 0.6 * clutter[0][1], 0.05, 0.5, 0.12))
    for i, (x, size, _) in enumerate(clutter[:4]):
        x, half = (i + 0.15 + 0.7 * x) / 4, 0.024 + 0.022 * size
        pen.fill(
            polygon(
                CLUTTER2,
                [
                    (x - 1.5 * half, level - 0.07),
                    (x - half, 1),
                    (x + half, 1),
                    (x + 1.5 * half, level - 0.07),
                ],
            )
        )
    for i, (x, size, _) in enumerate(clutter):
        pen.fill(disc(CLUTTER, (i + x) / 6, 1.0, 0.15, 0.07 + 0.08 * size))


def _city(pen: Pen, level: float, clutter: Clutter, time: str) -> None:
    for i, (x, high, wide) in enumerate(clutter):
        role = (FAR, FAR2, CLUTTER)[(i + int(3 * x)) % 3]
        middle, half = (i + 0.3 + 0.4 * x) / 6, 0.085 + 0.025 * wide
        top = level + (0.16 + 0.3 * high) * min(1.0, (1 - level) / 0.5)
        pen.fill(box(role, middle - half, level, middle + half, top))
        rows = int((top - level) / 0.11)
        for row in range(rows):
            for column in (-0.45, 0.45):
                cx, cy = middle + column * half, top - 0.06 - 0.11 * row
                pen.fill(box(LIGHT, cx - 0.024, cy - 0.028, cx + 0.024, cy + 0.028))
    pen.fill(box(CLUTTER2, 0, 0, 1, level), box(GROUND, 0, 0, 1, level - 0.05))
    for i in range(4):
        x = i / 3 - 0.15 + 0.2 * clutter[0][2]
        pen.fill(box(FRAME, x, 0.08, x + 0.17, 0.105))


def _sea(pen: Pen, level: float, clutter: Clutter, time: str) -> None:
    (a, b, c), (d, e, _), *_ = clutter
    if c < 0.5:
        pen.fill(disc(FAR, a, level, 0.14 + 0.1 * b, 0.05 + 0.05 * e))
    else:
        pen.fill(polygon(FRAME, [(a, level + 0.02), (a, level + 0.14), (a + 0.09, level + 0.03)]))
        pen.fill(
            polygon(
                CLUTTER2,
                [
                    (a - 0.06, level + 0.025),
                    (a + 0.1, level + 0.025),
                    (a + 0.07, level - 0.01),
                    (a - 0.03, level - 0.01),
                ],
            )
        )
    pen.fill(box(GROUND, 0, 0, 1, level))
    for i in range(3):
        pen.fill(wave(GROUND2, level - 0.06 - 0.13 * i, (d, e, a)[i], 0.02))


def _room(pen: Pen, scene: Scene, level: float) -> None:
    (a, b, c), (d, e, f), *_ = scene.geometry.clutter
    floor = level - 0.06
    pen.fill(
        box(FAR, 0, 0, 1, 1), box(GROUND, 0, 0, 1, floor), box(FRAME, 0, floor, 1, floor + 0.022)
    )
    left, wide, high = 0.08 if a < 0.5 else 0.5, 0.38 + 0.06 * b, 0.3 + 0.05 * c
    bottom, right = 0.93 - high, left + wide
    pen.fill(box(FRAME, left - 0.03, bottom - 0.03, right + 0.03, 0.96))
    draw_sky(pen, (left, bottom, right, 0.93))
    draw_heavens(pen, scene, (left + 0.05, bottom, right - 0.05, 0.93))
    middle = (left + right) / 2
    pen.fill(box(FRAME, middle - 0.01, bottom, middle + 0.01, 0.93))
    x = 0.72 + 0.06 * d if a < 0.5 else 0.1 + 0.06 * d
    pen.fill(
        box(CLUTTER2, x, 0.68, x + 0.2, 0.88), box(CLUTTER, x + 0.025, 0.705, x + 0.175, 0.855)
    )
    pen.fill(disc(FAR2, x + 0.09, 0.76, 0.045))
    pen.fill(disc(GROUND2, 0.35 + 0.3 * e, max(0.08, floor - 0.25), 0.36 + 0.06 * f, 0.11))


_PLACES = {
    "meadow": _meadow,
    "beach": _beach,
    "snow": _snow,
    "desert": _desert,
    "forest": _forest,
    "city": _city,
    "sea": _sea,
}
