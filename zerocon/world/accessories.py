"""Accessories of animals, placed on the head, never smaller than the model can resolve."""

from __future__ import annotations

from zerocon.world.animals import Head
from zerocon.world.pen import ACCESSORY, CLOTH, TRIM, Pen, Shape, box, disc, polygon, stroke

FLOOR = 18 / 128  # of the image side: two latents, since the autoencoder loses smaller ones

_SHORT = {"hat": 1.2, "sunglasses": 0.92, "scarf": 1.25, "bow tie": 0.9, "crown": 0.95}


def draw_accessory(pen: Pen, accessory: str, head: Head, image: float) -> None:
    """Draw an accessory on a head; ``image`` is the side of the image in canvas pixels."""
    unit = max(head.r * pen.unit, FLOOR * image / _SHORT[accessory])
    height = {"hat": 0.66, "crown": 0.72, "sunglasses": 0.12}.get(accessory, -0.95)
    brush = Pen(
        pen.canvas,
        *pen.place((head.x, head.y + head.r * height)),
        unit,
        facing=pen.facing,
        first=ACCESSORY,
        line=pen.line,
    )
    brush.part(*_ACCESSORIES[accessory])


_ACCESSORIES: dict[str, list[Shape]] = {
    "hat": [
        box(CLOTH, -0.62, 0.1, 0.62, 1.2),
        box(TRIM, -0.62, 0.16, 0.62, 0.42),
        stroke(CLOTH, [(-1.0, 0.06), (1.0, 0.06)], 0.22),
    ],
    "sunglasses": [
        stroke(CLOTH, [(-1.0, 0.18), (1.0, 0.18)], 0.16),
        disc(CLOTH, -0.52, 0, 0.46),
        disc(CLOTH, 0.52, 0, 0.46),
        stroke(TRIM, [(-0.68, 0.1), (-0.5, 0.22)], 0.1),
        stroke(TRIM, [(0.36, 0.1), (0.54, 0.22)], 0.1),
    ],
    "scarf": [
        stroke(CLOTH, [(0.42, -0.05), (0.5, -0.85)], 0.4),
        stroke(CLOTH, [(-0.72, 0.1), (-0.35, -0.04), (0.35, -0.04), (0.72, 0.1)], 0.42),
        stroke(TRIM, [(0.33, -0.6), (0.63, -0.63)], 0.13),
        stroke(TRIM, [(-0.4, -0.2), (-0.32, 0.14)], 0.13),
    ],
    "bow tie": [
        polygon(CLOTH, [(0, -0.02), (0.82, 0.45), (0.82, -0.45)]),
        polygon(CLOTH, [(0, -0.02), (-0.82, 0.45), (-0.82, -0.45)]),
        disc(TRIM, 0, 0, 0.2),
    ],
    "crown": [
        polygon(
            CLOTH,
            [
                (-0.7, 0),
                (-0.82, 0.82),
                (-0.38, 0.42),
                (0, 0.98),
                (0.38, 0.42),
                (0.82, 0.82),
                (0.7, 0),
            ],
        ),
        disc(TRIM, 0, 0.24, 0.14),
        disc(TRIM, -0.42, 0.2, 0.1),
        disc(TRIM, 0.42, 0.2, 0.1),
    ],
}
