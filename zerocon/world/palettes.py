"""The color of every part, from the named color, the place, the time and the shades of a scene."""

from __future__ import annotations

import numpy as np

from zerocon.world import pen
from zerocon.world.recoloring import free_palette
from zerocon.world.scene import Appearance, Scene

Color = tuple[float, float, float]

SUBJECT_COLORS: dict[str, Color] = {
    "red": (214, 38, 42),
    "orange": (246, 134, 22),
    "yellow": (250, 216, 40),
    "green": (52, 160, 62),
    "blue": (44, 98, 214),
    "purple": (132, 58, 176),
    "pink": (250, 150, 190),
    "white": (244, 244, 240),
}

_PLACE_PARTS = (pen.FAR, pen.FAR2, pen.GROUND, pen.GROUND2, pen.CLUTTER, pen.CLUTTER2, pen.FORE)
# zenith, horizon, then _PLACE_PARTS
_PLACE_COLORS: dict[str, tuple[Color, ...]] = {
    "meadow": (
        (110, 180, 240), (205, 232, 250),
        (128, 186, 110), (104, 168, 96), (140, 204, 90), (118, 186, 78),
        (70, 140, 70), (120, 86, 56), (92, 160, 62),
    ),
    "beach": (
        (90, 186, 245), (210, 240, 252),
        (54, 158, 200), (90, 186, 214), (240, 220, 164), (226, 202, 142),
        (64, 154, 84), (150, 110, 70), (216, 190, 128),
    ),
    "snow": (
        (158, 196, 228), (224, 236, 246),
        (170, 192, 216), (146, 174, 204), (236, 242, 250), (214, 226, 242),
        (58, 108, 104), (104, 84, 72), (222, 232, 246),
    ),
    "desert": (
        (120, 190, 228), (250, 232, 196),
        (222, 158, 96), (204, 138, 80), (238, 186, 118), (224, 168, 100),
        (70, 138, 82), (150, 96, 64), (210, 150, 90),
    ),
    "forest": (
        (150, 206, 170), (196, 226, 176),
        (86, 134, 84), (64, 112, 70), (112, 126, 66), (96, 108, 56),
        (44, 92, 56), (96, 68, 48), (58, 96, 48),
    ),
    "city": (
        (134, 176, 212), (214, 224, 232),
        (142, 138, 152), (112, 112, 130), (128, 130, 136), (104, 106, 112),
        (168, 148, 140), (90, 92, 100), (150, 150, 152),
    ),
    "sea": (
        (104, 190, 246), (214, 238, 250),
        (96, 150, 112), (120, 140, 130), (34, 110, 176), (58, 136, 198),
        (226, 120, 90), (130, 90, 60), (44, 124, 188),
    ),
    "room": (
        (124, 190, 244), (206, 234, 250),
        (222, 202, 176), (204, 178, 148), (166, 112, 70), (186, 92, 84),
        (120, 150, 160), (108, 72, 48), (140, 96, 62),
    ),
}  # fmt: skip

# factor and offset of the surroundings, then weaker ones of subject, companion and accessory
_LIGHTS: dict[str, tuple[Color, Color, Color, Color]] = {
    "day": ((1, 1, 1), (0, 0, 0), (1, 1, 1), (0, 0, 0)),
    "night": ((0.32, 0.36, 0.5), (4, 6, 26), (0.76, 0.76, 0.8), (0, 0, 6)),
    "sunset": ((0.92, 0.74, 0.64), (24, 8, 14), (0.98, 0.92, 0.86), (4, 0, 0)),
    "rain": ((0.68, 0.72, 0.76), (10, 14, 22), (0.88, 0.9, 0.92), (2, 3, 6)),
}
_SKIES: dict[str, tuple[Color, Color]] = {
    "night": ((16, 20, 58), (52, 60, 110)),
    "sunset": ((120, 84, 150), (255, 160, 80)),
    "rain": ((116, 126, 140), (168, 176, 184)),
}
_ACCESSORY_COLORS: dict[str, tuple[tuple[Color, Color], ...]] = {
    "hat": (
        ((62, 52, 58), (196, 176, 120)),
        ((96, 62, 40), (220, 190, 140)),
        ((40, 50, 84), (190, 196, 214)),
    ),
    "sunglasses": (((26, 26, 34), (130, 150, 180)), ((50, 30, 30), (160, 130, 120))),
    "scarf": (
        ((176, 44, 60), (240, 226, 210)),
        ((40, 112, 120), (236, 226, 190)),
        ((86, 60, 120), (226, 200, 230)),
    ),
    "bow tie": (
        ((150, 30, 50), (220, 120, 120)),
        ((34, 44, 96), (120, 140, 210)),
        ((24, 100, 90), (120, 200, 180)),
    ),
    "crown": (((238, 188, 40), (200, 50, 60)), ((246, 206, 70), (60, 110, 200))),
}  # fmt: skip
_NEUTRALS: tuple[Color, ...] = ((150, 120, 92), (128, 124, 122), (184, 158, 126))
_TOYS: tuple[Color, ...] = ((224, 66, 66), (70, 130, 220), (240, 180, 60), (150, 90, 190))


def palette(scene: Scene) -> np.ndarray:
    """The RGB value of every part number: (256, 3) uint8."""
    appearance, place = scene.appearance, scene.palette or scene.place
    if appearance.free_seed is not None:
        return free_palette(appearance.free_seed)
    table = np.zeros((256, 3))
    _paint_place(table, place, appearance)
    _paint_body(
        table, pen.SUBJECT, _shaded(SUBJECT_COLORS[scene.color], appearance.shade), appearance
    )
    _paint_companion(table, scene, appearance)
    table[: pen.SUBJECT] = _lit(table[: pen.SUBJECT], scene.time, 0)
    table[pen.SUBJECT :] = _lit(table[pen.SUBJECT :], scene.time, 1)
    if scene.time in _SKIES:
        _paint_sky(table, *_SKIES[scene.time], appearance)
    _paint_lights(table, place, scene.time)
    return np.clip(np.round(table), 0, 255).astype(np.uint8)


def _paint_place(table: np.ndarray, place: str, appearance: Appearance) -> None:
    zenith, horizon, *parts = _PLACE_COLORS[place]
    _paint_sky(table, zenith, horizon, appearance)
    tone = 0.9 + 0.16 * appearance.place_shade[0]
    warmth = np.array([1, 1, 1]) + 0.05 * (appearance.place_shade[1] - 0.5) * np.array([1, 0, -1])
    for part, color in zip(_PLACE_PARTS, parts, strict=True):
        table[part] = np.array(color) * tone * warmth
    if place == "room":  # walls vary more than meadows
        hue = appearance.place_shade[2]
        wall = np.array([(222, 202, 176), (176, 200, 196), (214, 184, 190), (190, 194, 216)])
        table[pen.FAR] = wall[int(hue * 4)] * tone
    table[pen.LIGHT] = (250, 250, 250)
    table[pen.FRAME] = (244, 238, 226)
    table[pen.SHADOW] = table[pen.GROUND] * (0.86 - 0.2 * appearance.shadow)


def _paint_sky(table: np.ndarray, zenith: Color, horizon: Color, appearance: Appearance) -> None:
    t = np.linspace(0, 1, pen.SKY_BANDS)[:, None] ** (0.7 + 0.6 * appearance.place_shade[2])
    table[: pen.SKY_BANDS] = (1 - t) * np.array(zenith) + t * np.array(horizon)


def _paint_body(table: np.ndarray, first: int, body: np.ndarray, appearance: Appearance) -> None:
    cream = np.array([250, 240, 222])
    pale = body + (cream - body) * (0.68 + 0.3 * appearance.accent)
    white = body.min() > 200
    deeper = body * (0.84 if white else 0.74)
    if white:
        pale = np.array([226, 216, 206]) - 12 * appearance.accent
    # a pattern is a shade of the same color, so that the named color stays true
    strength = 0.22 + 0.16 * appearance.contrast
    lighter = appearance.accent > 0.5 and not white
    other = body + (cream - body) * (strength + 0.12) if lighter else body * (1 - strength)
    values = {
        pen.BODY: body,
        pen.PATTERN: other,
        pen.DEEP: deeper,
        pen.ACCENT: pale,
        pen.INNER: np.array([236, 150, 160])
        if body[1] > 90 or white
        else np.array([240, 176, 180]),
        pen.DARK: np.array([44, 38, 44]),
        pen.WHITE: np.array([252, 250, 246]),
        pen.IRIS: np.array([255, 214, 70]),
        pen.PUPIL: np.array([22, 20, 30]) + appearance.eye * np.array([30, 24, 20]),
        pen.BEAK: np.array([244, 160, 40]),
        pen.GLASS: np.array([186, 222, 240]),
        pen.LINE: body * 0.32 + np.array([8, 6, 10]),
        pen.WOOD: np.array([120, 80, 52]),
        pen.CREAM: np.array([246, 232, 208]),
        pen.MANE: body * 0.56 + np.array([34, 16, 4]),
        pen.LEAF: np.array([66, 150, 70]),
        pen.CARGO: np.array([206, 204, 204]),
    }
    for role, color in values.items():
        table[first + role] = color


def _paint_companion(table: np.ndarray, scene: Scene, appearance: Appearance) -> None:
    toy = scene.companion in ("ball", "balloon", "flower", "lamp")
    colors = _TOYS if toy else _NEUTRALS
    color = np.array(colors[int(appearance.companion * len(colors))], float)
    _paint_body(table, pen.COMPANION, color, appearance)
    table[pen.COMPANION + pen.CARGO] = (252, 226, 140)  # the lampshade
    if scene.accessory in _ACCESSORY_COLORS:
        pairs = _ACCESSORY_COLORS[scene.accessory]
        cloth, trim = pairs[int(appearance.accessory * len(pairs))]
        table[pen.ACCESSORY + pen.CLOTH] = cloth
        table[pen.ACCESSORY + pen.TRIM] = trim
        table[pen.ACCESSORY + pen.LINE] = np.array(cloth) * 0.4


def _paint_lights(table: np.ndarray, place: str, time: str) -> None:
    """Colors of parts that emit light."""
    table[pen.ORB] = (255, 236, 150) if time == "sunset" else (250, 246, 214)
    table[pen.STAR] = (240, 240, 220)
    if time == "night":
        table[pen.COMPANION + pen.CARGO] = (255, 236, 150)
        if place == "city":
            table[pen.LIGHT] = (250, 210, 100)


def _shaded(color: Color, shade: tuple[float, float, float]) -> np.ndarray:
    tone = 0.9 + 0.16 * shade[0]
    turn = 0.06 * (np.array(shade) - 0.5)
    return np.clip(np.array(color) * tone * (1 + turn), 0, 250)


def _lit(colors: np.ndarray, time: str, named: int) -> np.ndarray:
    factor, offset = _LIGHTS[time][2 * named : 2 * named + 2]
    lit: np.ndarray = colors * np.array(factor) + np.array(offset)
    return lit
