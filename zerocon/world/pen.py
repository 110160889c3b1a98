"""Drawing on an index canvas: every pixel holds the number of a part, not a color.

Image (through a palette), masks, labels and edges come from the same canvas, so they agree to the
pixel, and a change of colors never moves an outline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

Point = tuple[float, float]

SKY_BANDS = 16  # parts 0..15: the sky from the zenith to the horizon
FAR, FAR2, GROUND, GROUND2, CLUTTER, CLUTTER2, LIGHT = range(16, 23)
ORB, STAR, SHADOW, FORE, FRAME = range(23, 28)

SUBJECT, COMPANION, ACCESSORY = 40, 70, 100  # first part number of each
BODY, PATTERN, DEEP, ACCENT, INNER, DARK, WHITE, IRIS, PUPIL = range(9)
BEAK, GLASS, LINE, WOOD, CREAM, MANE, LEAF, CARGO = range(9, 17)
CLOTH, TRIM = range(2)  # the parts of an accessory, in addition to LINE
ROLES = 20


class Shape(NamedTuple):
    """A flat shape in the units of a pen; ``form`` is ellipse, polygon or stroke."""

    form: str
    role: int
    points: Sequence[Point]
    size: Point  # half axes of an ellipse, (width, _) of a stroke


def disc(role: int, x: float, y: float, rx: float, ry: float | None = None) -> Shape:
    """An ellipse with half axes ``rx``, ``ry`` around (x, y)."""
    return Shape("ellipse", role, [(x, y)], (rx, rx if ry is None else ry))


def oval(role: int, x: float, y: float, rx: float, ry: float, tilt: float) -> Shape:
    """An ellipse rotated by ``tilt`` degrees, counterclockwise."""
    c, s = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    turns = [2 * math.pi * i / 32 for i in range(32)]
    ring = [(rx * math.cos(t), ry * math.sin(t)) for t in turns]
    return polygon(role, [(x + c * a - s * b, y + s * a + c * b) for a, b in ring])


def polygon(role: int, points: Sequence[Point]) -> Shape:
    """A filled polygon."""
    return Shape("polygon", role, points, (0, 0))


def box(role: int, left: float, bottom: float, right: float, top: float) -> Shape:
    """An upright rectangle."""
    return polygon(role, [(left, bottom), (right, bottom), (right, top), (left, top)])


def stroke(role: int, points: Sequence[Point], width: float) -> Shape:
    """A thick line with round ends."""
    return Shape("stroke", role, points, (width, width))


class Pen:
    """Draws shapes in the units of an object, with the origin on the ground below it and y up.

    ``x``, ``base`` and ``unit`` (the length of 1) are in canvas pixels; ``facing`` is 1 or -1
    (mirrored), ``first`` the number of the object's first part, ``line`` the width of its outline
    in pixels.
    """

    def __init__(
        self,
        canvas: Image.Image,
        x: float,
        base: float,
        unit: float,
        *,
        facing: int = 1,
        first: int = 0,
        line: float = 0.0,
    ) -> None:
        self.canvas = canvas
        self.draw = ImageDraw.Draw(canvas)
        self.x, self.base, self.unit = x, base, unit
        self.facing, self.first, self.line = facing, first, line

    def part(self, *shapes: Shape) -> None:
        """Draw the shapes as one body: a common outline first, then the fills."""
        for shape in shapes:
            self._put(shape, self.first + LINE, self.line)
        self.fill(*shapes)

    def fill(self, *shapes: Shape) -> None:
        """Draw the shapes without an outline."""
        for shape in shapes:
            self._put(shape, self.first + shape.role, 0.0)

    def place(self, point: Point) -> Point:
        """A point of the object in canvas pixels."""
        return (
            self.x + self.facing * self.unit * point[0],
            self.base - self.unit * point[1],
        )

    def _put(self, shape: Shape, number: int, grow: float) -> None:
        points = [self.place(p) for p in shape.points]
        if shape.form == "ellipse":
            self._disc(
                points[0],
                shape.size[0] * self.unit + grow,
                shape.size[1] * self.unit + grow,
                number,
            )
        elif shape.form == "polygon":
            self.draw.polygon(points, fill=number)
            if grow:
                closed = [*points, points[0], points[1]]
                self.draw.line(closed, fill=number, width=round(2 * grow), joint="curve")
        else:
            width = shape.size[0] * self.unit + 2 * grow
            self.draw.line(points, fill=number, width=max(1, round(width)), joint="curve")
            for end in (points[0], points[-1]):
                self._disc(end, width / 2, width / 2, number)

    def _disc(self, center: Point, rx: float, ry: float, number: int) -> None:
        (x, y), rx, ry = center, max(rx, 0.5), max(ry, 0.5)
        self.draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=number)
