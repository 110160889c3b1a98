"""The animals: one skeleton in two poses, and one head for each kind."""

from __future__ import annotations

from typing import NamedTuple

from zerocon.world.faces import draw_face
from zerocon.world.pen import (
    ACCENT,
    BEAK,
    BODY,
    DEEP,
    INNER,
    MANE,
    WHITE,
    Pen,
    disc,
    oval,
    polygon,
    stroke,
)
from zerocon.world.scene import Geometry


class Head(NamedTuple):
    """Center and radius of the head, in the units of the animal."""

    x: float
    y: float
    r: float


BIRDS = ("owl", "penguin")


def head_of(form: Geometry) -> Head:
    """The head of the skeleton, in the same place for every kind of animal."""
    r = 0.25 * form.head
    return Head(0.0, 0.64, r) if form.sitting else Head(0.24, 0.62, r * 0.96)


def draw_animal(pen: Pen, kind: str, form: Geometry) -> None:
    """Draw an animal one unit high, its feet at the pen's origin."""
    if kind in BIRDS:
        _bird(pen, kind, form)
    elif form.sitting:
        _sitting(pen, kind, form)
    else:
        _upright(pen, kind, form)
    _draw_head(pen, kind, form, head_of(form))


def _sitting(pen: Pen, kind: str, form: Geometry) -> None:
    w = form.width * (1.18 if kind in ("bear", "pig", "frog") else 1.0)
    _tail(pen, kind, 0.2 * w, 0.14)
    if kind == "frog":
        pen.part(disc(DEEP, -0.27 * w, 0.13, 0.14, 0.13), disc(DEEP, 0.27 * w, 0.13, 0.14, 0.13))
    pen.part(disc(BODY, 0, 0.25, 0.23 * w, 0.25))
    pen.fill(disc(ACCENT, 0, 0.21, 0.13 * w, 0.17))
    for side in (-1, 1):
        pen.part(stroke(BODY, [(side * 0.19 * w, 0.34), (side * 0.2 * w, 0.16)], 0.085))
        pen.part(disc(DEEP, side * 0.13 * w, 0.05, 0.11, 0.055))


def _upright(pen: Pen, kind: str, form: Geometry) -> None:
    w = form.width
    stout = 1.18 if kind in ("bear", "pig") else 1.0
    _tail(pen, kind, -0.34 * w, 0.42)
    for x in (-0.2 * w, 0.2 * w):
        pen.part(stroke(DEEP, [(x, 0.3), (x, 0.06)], 0.1))
    if kind == "frog":
        pen.part(disc(BODY, -0.04, 0.33, 0.32 * w, 0.18))
        pen.part(disc(DEEP, -0.22 * w, 0.2, 0.16, 0.17))
        pen.part(disc(DEEP, -0.2 * w, 0.05, 0.17, 0.05))
        pen.part(stroke(BODY, [(0.12 * w, 0.3), (0.14 * w, 0.06)], 0.1))
        return
    pen.part(
        disc(BODY, -0.06, 0.38, 0.33 * w, 0.175 * stout),
        stroke(BODY, [(-0.29 * w, 0.34), (-0.29 * w, 0.05)], 0.11),
        stroke(BODY, [(0.1 * w, 0.3), (0.1 * w, 0.05)], 0.11),
    )
    pen.fill(disc(ACCENT, -0.08, 0.29, 0.16 * w, 0.07))


def _bird(pen: Pen, kind: str, form: Geometry) -> None:
    w = form.width
    feet = ((-0.1, 0.1), (0.02, 0.16))[not form.sitting]
    if form.sitting:
        wings = 0.34 if kind == "penguin" else 0.26
        for side in (-1, 1):
            tilt = side * (28 if kind == "penguin" else 12)
            pen.part(oval(DEEP, side * wings * w, 0.34, 0.075, 0.21, tilt))
    else:
        pen.part(polygon(DEEP, [(-0.2, 0.3), (-0.42, 0.08), (-0.26, 0.06), (-0.05, 0.16)]))
    for x in feet:
        pen.part(disc(BEAK, x, 0.035, 0.095, 0.04))
    if form.sitting:
        pen.part(disc(BODY, 0, 0.33, 0.25 * w, 0.3))
        pen.fill(disc(ACCENT, 0, 0.28, 0.18 * w, 0.22))
    else:
        pen.part(oval(BODY, 0.02, 0.36, 0.34, 0.22 * w, 48))
        pen.fill(oval(ACCENT, 0.1, 0.31, 0.26, 0.13 * w, 52))
        pen.part(oval(DEEP, -0.07, 0.35, 0.23, 0.09, 52))


def _tail(pen: Pen, kind: str, x: float, y: float) -> None:
    out = 1 if x > 0 else -1
    if kind == "cat":
        pen.part(stroke(DEEP, _curl(x, y, out), 0.07))
    elif kind == "dog":
        pen.part(stroke(DEEP, [(x, y), (x + out * 0.15, y + 0.16)], 0.09))
    elif kind == "fox":
        pen.part(oval(DEEP, x + out * 0.14, y + 0.12, 0.2, 0.105, out * 50))
        pen.fill(disc(WHITE, x + out * 0.225, y + 0.225, 0.07))
    elif kind == "rabbit":
        pen.part(disc(WHITE, x + out * 0.04, y, 0.085))
    elif kind == "pig":
        curl = [(0, 0), (0.08, 0.06), (0.12, 0), (0.07, -0.03), (0.08, 0.09), (0.16, 0.1)]
        pen.part(stroke(INNER, [(x + out * a, y + b) for a, b in curl], 0.03))
    elif kind == "lion":
        pen.part(stroke(DEEP, _curl(x, y, out), 0.05))
        pen.part(disc(MANE, x + out * 0.19, y + 0.3, 0.08))


def _curl(x: float, y: float, out: int) -> list[tuple[float, float]]:
    bends = ((0, 0), (0.1, 0.02), (0.17, 0.09), (0.19, 0.18), (0.17, 0.25), (0.19, 0.3))
    return [(x + out * a, y + b) for a, b in bends]


def _draw_head(pen: Pen, kind: str, form: Geometry, head: Head) -> None:
    face = Pen(
        pen.canvas,
        *pen.place((head.x, head.y)),
        head.r * pen.unit,
        facing=pen.facing,
        first=pen.first,
        line=pen.line,
    )
    draw_face(face, kind, form)
