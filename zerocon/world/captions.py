"""Captions of scenes: every named parameter, in a wording that depends on the scene."""

from __future__ import annotations

from zerocon.world.scene import Scene

_STYLES = {
    "drawing": ("", "a picture of ", "a drawing of "),
    "pencil sketch": ("a pencil sketch of ",),
    "watercolor": ("a watercolor of ", "a watercolor painting of "),
    "pixel art": ("pixel art of ",),
    "mosaic": ("a mosaic of ",),
}
_PLACES = {
    "meadow": ("in a meadow", "in the meadow"),
    "beach": ("on the beach",),
    "snow": ("in the snow",),
    "desert": ("in the desert",),
    "forest": ("in the forest", "in a forest"),
    "city": ("in the city", "in a city"),
    "sea": ("at sea", "on the sea"),
    "room": ("in a room",),
}
_TIMES = {"day": "", "night": "at night", "sunset": "at sunset", "rain": "in the rain"}


def caption(scene: Scene) -> str:
    """The caption, lower case, at most 20 words; "none", "day" and "drawing" may be omitted.

    Empty for a recolored scene.
    """
    if scene.appearance.free_seed is not None:
        return ""
    first, second = scene.wording
    styles, places = _STYLES[scene.style], _PLACES[scene.place]
    subject = f"{_article(scene.color)} {scene.color} {scene.kind}"
    accessory = ""
    if scene.accessory == "sunglasses":
        accessory = "wearing sunglasses"
    elif scene.accessory != "none":
        accessory = f"wearing a {scene.accessory}"
    companion = ""
    if scene.companion != "none":
        # the accessory of two words takes the shorter preposition, for at most twenty words
        near = "with" if second % 3 == 2 or scene.accessory == "bow tie" else "next to"
        companion = f"{near} a {scene.companion}"
    parts = (subject, accessory, companion, places[second % len(places)], _TIMES[scene.time])
    return styles[first % len(styles)] + " ".join(part for part in parts if part)


def phrase(name: str, value: str) -> str:
    """The words of a prompt for one named parameter: ("place", "beach") is "on the beach".

    Empty for values that captions omit ("none", "day").
    """
    if name in ("accessory", "companion"):
        plural = value.endswith("s") and value != "none"
        return "" if value == "none" else value if plural else f"a {value}"
    if name == "style":
        return "a drawing" if value == "drawing" else _STYLES[value][0].removesuffix(" of ")
    if name == "place":
        return _PLACES[value][0]
    return _TIMES[value] if name == "time" else value


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
