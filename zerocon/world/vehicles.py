"""Vehicles: one length and one ground line, so that replacing one keeps size and position."""

from __future__ import annotations

from zerocon.world.pen import (
    ACCENT,
    BODY,
    CARGO,
    DARK,
    DEEP,
    GLASS,
    IRIS,
    WHITE,
    WOOD,
    Pen,
    box,
    disc,
    polygon,
    stroke,
)
from zerocon.world.scene import Geometry


def draw_vehicle(pen: Pen, kind: str, form: Geometry) -> None:
    """Draw a vehicle at most one unit high and 1.15 units long, on the pen's origin."""
    _VEHICLES[kind](pen, form)


def _wheels(pen: Pen, at: tuple[float, ...], r: float) -> None:
    for x in at:
        pen.part(disc(DARK, x, r, r))
        pen.fill(disc(CARGO, x, r, r * 0.48))


def _car(pen: Pen, form: Geometry) -> None:
    roof = 0.68 + 0.1 * (form.width - 1)
    pen.part(
        polygon(BODY, [(-0.34, 0.38), (-0.22, roof), (0.16, roof), (0.34, 0.38)]),
        polygon(
            BODY,
            [(-0.57, 0.12), (-0.57, 0.34), (-0.5, 0.4), (0.4, 0.4), (0.56, 0.33), (0.58, 0.12)],
        ),
    )
    pen.fill(
        polygon(GLASS, [(-0.26, 0.41), (-0.18, roof - 0.05), (-0.04, roof - 0.05), (-0.04, 0.41)]),
        polygon(GLASS, [(0.02, 0.41), (0.02, roof - 0.05), (0.13, roof - 0.05), (0.25, 0.41)]),
        disc(IRIS, 0.52, 0.29, 0.05),
        box(DEEP, -0.57, 0.12, 0.58, 0.18),
    )
    _wheels(pen, (-0.33, 0.34), 0.13 * form.head)


def _bus(pen: Pen, form: Geometry) -> None:
    top = 0.88 + 0.1 * (form.width - 1)
    pen.part(box(BODY, -0.57, 0.12, 0.57, top))
    pen.fill(box(ACCENT, -0.57, 0.34, 0.57, 0.41), box(DEEP, -0.57, 0.12, 0.57, 0.18))
    for x in (-0.51, -0.26, -0.01):
        pen.fill(box(GLASS, x, 0.49, x + 0.19, top - 0.1))
    pen.fill(box(GLASS, 0.26, 0.2, 0.4, top - 0.1), box(GLASS, 0.46, 0.49, 0.57, top - 0.1))
    pen.fill(disc(IRIS, 0.53, 0.27, 0.045))
    _wheels(pen, (-0.34, 0.16), 0.12 * form.head)


def _truck(pen: Pen, form: Geometry) -> None:
    top = 0.86 + 0.1 * (form.width - 1)
    pen.part(box(DARK, -0.56, 0.12, 0.5, 0.2))
    pen.part(box(BODY, -0.58, 0.2, 0.14, top))
    for x in (-0.4, -0.22, -0.04):
        pen.fill(box(DEEP, x - 0.02, 0.26, x + 0.02, top - 0.06))
    cab = [(0.2, 0.12), (0.2, 0.64), (0.42, 0.64), (0.5, 0.4), (0.59, 0.36), (0.59, 0.12)]
    pen.part(polygon(BODY, cab))
    pen.fill(polygon(GLASS, [(0.27, 0.4), (0.27, 0.58), (0.39, 0.58), (0.45, 0.4)]))
    pen.fill(disc(IRIS, 0.55, 0.24, 0.045))
    _wheels(pen, (-0.42, -0.14, 0.38), 0.12 * form.head)


def _boat(pen: Pen, form: Geometry) -> None:
    tall = 0.95 + 0.1 * (form.width - 1)
    pen.part(stroke(WOOD, [(0.0, 0.2), (0.0, tall)], 0.035))
    pen.part(polygon(WHITE, [(-0.05, 0.36), (-0.05, tall - 0.04), (-0.46, 0.36)]))
    pen.part(polygon(BODY, [(0.06, 0.36), (0.06, tall - 0.12), (0.42, 0.36)]))
    hull = [(-0.58, 0.3), (0.6, 0.3), (0.44, 0.02), (-0.42, 0.02)]
    pen.part(polygon(BODY, hull))
    pen.fill(polygon(ACCENT, [(-0.56, 0.27), (0.58, 0.27), (0.55, 0.2), (-0.53, 0.2)]))


_VEHICLES = {"car": _car, "bus": _bus, "truck": _truck, "boat": _boat}
