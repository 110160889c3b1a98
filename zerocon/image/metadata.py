"""Metadata of edited images: the IPTC label of generated content, and zerocon's recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from zerocon.image import xmp

KEYWORD = "zerocon"  # PNG text chunk of the recipe
LONGEST = {"JPEG": 65502}  # limit in bytes of XMP: one segment of a JPEG, less its header


@dataclass(frozen=True)
class Provenance:
    """The label of generated content, and the recipe if there is one.

    The recipe, one line of ASCII, is written to a text chunk of a PNG and to the XMP of other
    formats; the label is XMP in all of them. Both are added to the XMP packet of the source.
    """

    recipe: str | None = None

    @classmethod
    def at(cls, level: str, recipe: Callable[[], str]) -> Provenance | None:
        """Label and recipe for "full", the label for "minimal", None for "none".

        ``recipe`` is called for "full" only.
        """
        if level == "none":
            return None
        return cls(recipe() if level == "full" else None)

    def within(self, format: str, source: bytes = b"") -> Provenance:
        """Without the recipe if that is too long for ``format`` (Pillow's name).

        ``source`` is the XMP packet of the source.
        """
        fits = len(self.packet(format, source)) <= LONGEST.get(format, float("inf"))
        return self if fits else Provenance()

    def format_warnings(self, format: str, source: bytes = b"") -> tuple[str, ...]:
        """Warnings about what ``format`` cannot hold."""
        complete = self.within(format, source) == self
        return () if complete else (f"the recipe is too long for {format} and is not stored",)

    def packet(self, format: str, source: bytes = b"") -> bytes:
        """The XMP packet, in that of the source if there is one."""
        recipe = None if format == "PNG" else self.recipe
        packet = xmp.merged(source, recipe)
        return packet if len(packet) <= LONGEST.get(format, len(packet)) else xmp.trimmed(packet)


def recipe_of(image: Image.Image) -> str | None:
    """The recipe in the metadata of an opened file, as it was written; None if there is none."""
    text = image.info.get(KEYWORD)
    if isinstance(text, str):
        return str(text)
    packet: Any = image.info.get("xmp")
    return xmp.recipe_in(packet) if isinstance(packet, bytes) else None
