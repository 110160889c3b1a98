"""Faces: the features of each kind of animal, on a head of radius one."""

from __future__ import annotations

from zerocon.world.pen import (
    ACCENT,
    BEAK,
    BODY,
    DARK,
    DEEP,
    INNER,
    IRIS,
    MANE,
    PUPIL,
    WHITE,
    Pen,
    Shape,
    disc,
    oval,
    polygon,
    stroke,
)
from zerocon.world.scene import Geometry


def draw_face(pen: Pen, kind: str, form: Geometry) -> None:
    """Draw the head of an animal, ears included, centered on the pen's origin."""
    _FACES[kind](pen, form)


def _pair(shape: Shape) -> tuple[Shape, Shape]:
    """The shape and its mirror image."""
    mirrored = shape._replace(points=[(-x, y) for x, y in shape.points])
    return mirrored, shape


def _eyes(pen: Pen, form: Geometry, x: float, y: float, r: float) -> None:
    r *= form.eyes
    if form.eye_style == 0:
        pen.fill(*_pair(disc(PUPIL, x, y, r * 0.85, r)))
        glint = r * 0.3
        pen.fill(disc(WHITE, x + glint, y + glint, glint), disc(WHITE, glint - x, y + glint, glint))
    else:
        pen.fill(*_pair(disc(WHITE, x, y, r * 1.25)), *_pair(disc(PUPIL, x, y, r * 0.75)))


def _smile(pen: Pen, y: float, w: float, width: float = 0.08) -> None:
    bend = [(-w, y), (-w * 0.5, y - w * 0.35), (0, y), (w * 0.5, y - w * 0.35), (w, y)]
    pen.fill(stroke(DARK, bend, width))


def _cat(pen: Pen, form: Geometry) -> None:
    tip = 1.0 + 0.4 * form.ears
    pen.part(
        *_pair(polygon(BODY, [(1.05, 0.15), (0.92, tip), (0.15, 0.8)])),
        disc(BODY, 0, 0, 1.1, 0.92),
    )
    pen.fill(*_pair(polygon(INNER, [(0.88, 0.45), (0.82, tip - 0.25), (0.4, 0.75)])))
    pen.fill(*_pair(disc(ACCENT, 0.22, -0.42, 0.3, 0.26)))
    pen.fill(polygon(INNER, [(-0.17, -0.17), (0.17, -0.17), (0, -0.36)]))
    for y in (-0.3, -0.52):
        pen.fill(*_pair(stroke(DARK, [(0.6, y), (1.3, y * 1.5 + 0.25)], 0.05)))
    _eyes(pen, form, 0.45, 0.12, 0.2)


def _dog(pen: Pen, form: Geometry) -> None:
    pen.part(disc(BODY, 0, 0, 0.98, 0.95))
    pen.part(disc(INNER, 0, -0.78, 0.17, 0.24))
    pen.part(disc(ACCENT, 0, -0.38, 0.52, 0.4))
    pen.fill(disc(DARK, 0, -0.18, 0.24, 0.17))
    _eyes(pen, form, 0.38, 0.28, 0.19)
    pen.part(oval(DEEP, -1.0, 0.05, 0.3, 0.72 * form.ears, -12))
    pen.part(oval(DEEP, 1.0, 0.05, 0.3, 0.72 * form.ears, 12))


def _fox(pen: Pen, form: Geometry) -> None:
    tip = 1.1 + 0.45 * form.ears
    half = [(0, 0.85), (0.75, 0.72), (1.3, -0.12), (0.6, -0.62), (0, -1.05)]
    mirrored = [(-x, y) for x, y in reversed(half[1:-1])]
    pen.part(
        *_pair(polygon(BODY, [(1.1, 0.1), (0.98, tip), (0.12, 0.75)])),
        polygon(BODY, half + mirrored),
    )
    pen.fill(*_pair(polygon(DARK, [(1.03, tip - 0.6), (0.98, tip), (0.6, tip - 0.42)])))
    cheek = [(1.28, -0.12), (0.62, -0.02), (0.2, -0.35), (0, -0.9), (0, -1.05), (0.6, -0.62)]
    pen.fill(*_pair(polygon(WHITE, cheek)))
    pen.fill(disc(DARK, 0, -0.88, 0.2, 0.17))
    _eyes(pen, form, 0.42, 0.15, 0.18)


def _bear(pen: Pen, form: Geometry) -> None:
    size = 0.4 * form.ears
    pen.part(*_pair(disc(BODY, 0.75, 0.72, size)))
    pen.fill(*_pair(disc(ACCENT, 0.75, 0.72, size * 0.55)))
    pen.part(disc(BODY, 0, 0, 1.08, 0.96))
    pen.fill(disc(ACCENT, 0, -0.38, 0.5, 0.4))
    pen.fill(disc(DARK, 0, -0.2, 0.22, 0.15))
    _smile(pen, -0.5, 0.2)
    _eyes(pen, form, 0.42, 0.18, 0.15)


def _rabbit(pen: Pen, form: Geometry) -> None:
    long = 0.72 * form.ears
    for side in (-1, 1):
        pen.part(oval(BODY, side * 0.42, 0.75 + long, 0.25, long, -side * 8))
        pen.fill(oval(INNER, side * 0.42, 0.75 + long, 0.12, long * 0.75, -side * 8))
    pen.part(disc(BODY, 0, 0, 0.98, 0.9))
    pen.fill(disc(WHITE, 0, -0.66, 0.16, 0.2))
    pen.fill(*_pair(disc(ACCENT, 0.24, -0.38, 0.3, 0.25)))
    pen.fill(disc(INNER, 0, -0.2, 0.15, 0.11))
    _eyes(pen, form, 0.45, 0.15, 0.2)


def _pig(pen: Pen, form: Geometry) -> None:
    pen.part(disc(BODY, 0, 0, 1.12, 0.95))
    ear = [(0.35, 0.88), (1.15, 0.85 + 0.3 * form.ears), (1.05, 0.2)]
    pen.part(*_pair(polygon(DEEP, ear)))
    pen.part(disc(INNER, 0, -0.25, 0.55, 0.4))
    pen.fill(*_pair(disc(DARK, 0.2, -0.25, 0.12, 0.19)))
    _eyes(pen, form, 0.48, 0.32, 0.16)


def _frog(pen: Pen, form: Geometry) -> None:
    pen.part(*_pair(disc(BODY, 0.68, 0.6, 0.42)), disc(BODY, 0, -0.08, 1.3, 0.8))
    pen.fill(disc(ACCENT, 0, -0.5, 0.85, 0.34))
    pen.fill(*_pair(disc(WHITE, 0.68, 0.64, 0.3)), *_pair(disc(PUPIL, 0.68, 0.62, 0.17)))
    wide = [(-0.95, -0.1), (-0.5, -0.3), (0, -0.37), (0.5, -0.3), (0.95, -0.1)]
    pen.fill(stroke(DARK, wide, 0.1))


def _owl(pen: Pen, form: Geometry) -> None:
    tip = 0.95 + 0.3 * form.ears
    pen.part(
        *_pair(polygon(BODY, [(1.0, 0.2), (1.12, tip), (0.3, 0.8)])),
        disc(BODY, 0, 0, 1.12, 0.92),
    )
    pen.part(*_pair(disc(ACCENT, 0.5, 0.08, 0.52)))
    pen.fill(*_pair(disc(IRIS, 0.48, 0.08, 0.36)), *_pair(disc(PUPIL, 0.46, 0.08, 0.2)))
    pen.part(polygon(BEAK, [(-0.2, -0.15), (0.2, -0.15), (0, -0.62)]))


def _penguin(pen: Pen, form: Geometry) -> None:
    pen.part(disc(BODY, 0, 0, 1.0, 0.95))
    pen.fill(*_pair(disc(WHITE, 0.38, 0.02, 0.42, 0.46)), disc(WHITE, 0, -0.42, 0.62, 0.42))
    _eyes(pen, form, 0.38, 0.12, 0.18)
    pen.part(polygon(BEAK, [(-0.34, -0.2), (0, -0.02), (0.34, -0.2), (0, -0.55)]))


def _lion(pen: Pen, form: Geometry) -> None:
    ring = ((1, 0), (0.87, 0.5), (0.5, 0.87), (0, 1), (-0.5, 0.87), (-0.87, 0.5))
    lobes = [disc(MANE, 1.12 * x * s, 1.12 * y * s, 0.38) for x, y in ring for s in (-1, 1)]
    pen.part(disc(MANE, 0, 0, 1.25), *lobes)
    pen.part(*_pair(disc(BODY, 0.66, 0.72, 0.25 * form.ears)))
    pen.part(disc(BODY, 0, 0, 0.92, 0.88))
    pen.fill(*_pair(disc(ACCENT, 0.22, -0.4, 0.3, 0.28)))
    pen.fill(polygon(DARK, [(-0.26, -0.08), (0.26, -0.08), (0, -0.36)]))
    _eyes(pen, form, 0.4, 0.2, 0.17)


_FACES = {
    "cat": _cat,
    "dog": _dog,
    "fox": _fox,
    "bear": _bear,
    "rabbit": _rabbit,
    "pig": _pig,
    "frog": _frog,
    "owl": _owl,
    "penguin": _penguin,
    "lion": _lion,
}
