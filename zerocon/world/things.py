"""Trees, mushrooms, houses, and the objects next to a subject."""

from __future__ import annotations

from zerocon.world.pen import (
    ACCENT,
    BODY,
    CARGO,
    CREAM,
    DARK,
    DEEP,
    GLASS,
    IRIS,
    LEAF,
    WOOD,
    Pen,
    box,
    disc,
    oval,
    polygon,
    stroke,
)
from zerocon.world.scene import Geometry


def draw_thing(pen: Pen, kind: str, form: Geometry) -> None:
    """Draw a tree, a mushroom or a house, one unit high, on the pen's origin."""
    _THINGS[kind](pen, form)


def draw_companion(pen: Pen, kind: str) -> None:
    """Draw a ball, balloon, flower or lamp, one unit high, on the pen's origin."""
    _COMPANIONS[kind](pen)


def _tree(pen: Pen, form: Geometry) -> None:
    w = form.width
    pen.part(polygon(WOOD, [(-0.1, 0), (0.1, 0), (0.065, 0.5), (-0.065, 0.5)]))
    pen.part(
        disc(BODY, -0.2 * w, 0.52, 0.21 * w, 0.18),
        disc(BODY, 0.2 * w, 0.54, 0.22 * w, 0.19),
        disc(BODY, -0.11 * w, 0.75, 0.2 * w, 0.19),
        disc(BODY, 0.1 * w, 0.78, 0.2 * w, 0.19),
        disc(BODY, 0, 0.6, 0.24 * w, 0.2),
    )
    pen.fill(disc(DEEP, 0.2 * w, 0.46, 0.13 * w, 0.07), disc(DEEP, -0.18 * w, 0.44, 0.13 * w, 0.06))
    pen.fill(disc(ACCENT, -0.1 * w, 0.8, 0.08), disc(ACCENT, 0.14 * w, 0.68, 0.06))


def _mushroom(pen: Pen, form: Geometry) -> None:
    w = form.width
    stem = [(-0.17, 0.02), (0.17, 0.02), (0.12, 0.5), (-0.12, 0.5)]
    pen.part(polygon(CREAM, stem), disc(CREAM, 0, 0.05, 0.19, 0.06))
    dome = [(0, 0.92), (0.18, 0.9), (0.33, 0.8), (0.43, 0.65), (0.47, 0.45), (0.3, 0.4)]
    left = [(-x, y) for x, y in reversed(dome[1:])]
    pen.part(polygon(BODY, [(x * w, y) for x, y in [*dome, (0, 0.38), *left]]))
    for x, y, r in ((-0.2, 0.62, 0.08), (0.06, 0.77, 0.085), (0.24, 0.56, 0.07), (0, 0.5, 0.06)):
        pen.fill(disc(ACCENT, x * w, y, r))


def _house(pen: Pen, form: Geometry) -> None:
    w = 0.4 * form.width
    pen.part(box(WOOD, 0.5 * w, 0.6, 0.5 * w + 0.12, 0.94))
    pen.part(box(BODY, -w, 0, w, 0.56))
    pen.part(polygon(DEEP, [(-w - 0.1, 0.54), (0, 1.0), (w + 0.1, 0.54)]))
    pen.part(box(WOOD, -0.1, 0, 0.1, 0.33))
    for x in (-0.62 * w, 0.62 * w):
        pen.part(box(GLASS, x - 0.07, 0.26, x + 0.07, 0.42))


def _ball(pen: Pen) -> None:
    pen.part(disc(BODY, 0, 0.42, 0.42))
    pen.fill(oval(ACCENT, 0, 0.42, 0.15, 0.42, 20))


def _balloon(pen: Pen) -> None:
    pen.fill(stroke(DARK, [(0, 0), (0.06, 0.25), (-0.03, 0.55), (0, 0.9)], 0.04))
    pen.part(polygon(BODY, [(-0.09, 0.82), (0.09, 0.82), (0, 0.95)]))
    pen.part(disc(BODY, 0, 1.25, 0.35, 0.4))
    pen.fill(oval(ACCENT, -0.13, 1.4, 0.07, 0.13, -25))


def _flower(pen: Pen) -> None:
    pen.part(stroke(LEAF, [(0, 0.02), (0, 0.65)], 0.07))
    pen.part(oval(LEAF, 0.2, 0.25, 0.2, 0.09, 35), oval(LEAF, -0.2, 0.2, 0.2, 0.09, 145))
    ring = ((0, 1), (0.95, 0.31), (0.59, -0.81), (-0.59, -0.81), (-0.95, 0.31))
    pen.part(*[disc(BODY, 0.22 * x, 0.8 + 0.22 * y, 0.19) for x, y in ring])
    pen.fill(disc(IRIS, 0, 0.8, 0.14))


def _lamp(pen: Pen) -> None:
    pen.part(disc(DARK, 0, 0.04, 0.26, 0.06), stroke(DARK, [(0, 0.04), (0, 0.7)], 0.06))
    pen.part(polygon(CARGO, [(-0.38, 0.6), (0.38, 0.6), (0.2, 1.05), (-0.2, 1.05)]))


_THINGS = {"tree": _tree, "mushroom": _mushroom, "house": _house}
_COMPANIONS = {"ball": _ball, "balloon": _balloon, "flower": _flower, "lamp": _lamp}
