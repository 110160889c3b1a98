"""Metadata of edited images: the IPTC label of generated content, and zerocon's recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from zerocon.image.bounds import XMP_PARSED

# IPTC digital source type of images that a trained model has partly changed
LABEL = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
KEYWORD = "zerocon"  # PNG text chunk of the recipe
NAMESPACE = "urn:zerocon:recipe:1#"  # XMP namespace of the recipe, whatever its schema
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMP = 700  # TIFF tag
LONGEST = {"JPEG": 65502}  # limit in bytes of XMP: one segment of a JPEG, less its header

PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="{rdf}">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<Iptc4xmpExt:DigitalSourceType>{label}</Iptc4xmpExt:DigitalSourceType>
</rdf:Description>{recipe}
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
RECIPE = """
<rdf:Description rdf:about="" xmlns:zerocon="{namespace}">
<zerocon:recipe>{recipe}</zerocon:recipe>
</rdf:Description>"""


@dataclass(frozen=True)
class Provenance:
    """The label of generated content, and the recipe if there is one.

    The recipe, one line of ASCII, is written to a text chunk of a PNG and to the XMP of other
    formats; the label is XMP in all of them.
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

    def within(self, format: str) -> Provenance:
        """Without the recipe if that is too long for ``format`` (Pillow's name)."""
        fits = len(_packet(self.recipe)) <= LONGEST.get(format, float("inf"))
        return self if fits else Provenance()

    def format_warnings(self, format: str) -> tuple[str, ...]:
        """Warnings about what ``format`` cannot hold."""
        complete = self.within(format) == self
        return () if complete else (f"the recipe is too long for {format} and is not stored",)

    def options(self, format: str, exif: bytes = b"") -> dict[str, Any]:
        """Arguments of Pillow's ``save``; for TIFF they contain ``exif``."""
        if format == "PNG":
            chunks = PngInfo()
            if self.recipe is not None:
                chunks.add_itxt(KEYWORD, self.recipe)
            chunks.add_itxt("XML:com.adobe.xmp", _packet(None).decode())
            return {"pnginfo": chunks}
        if format == "TIFF":  # Pillow writes its XMP only as a tag
            tags = Image.Exif()
            tags.load(exif)
            tags[XMP] = _packet(self.recipe)
            return {"exif": tags}
        return {"xmp": _packet(self.recipe)}


def recipe_of(image: Image.Image) -> str | None:
    """The recipe in the metadata of an opened file, as it was written; None if there is none."""
    text = image.info.get(KEYWORD)
    if isinstance(text, str):
        return str(text)
    packet = image.info.get("xmp")
    return _unpacked(packet) if isinstance(packet, bytes) else None


def _packet(recipe: str | None) -> bytes:
    element = RECIPE.format(namespace=NAMESPACE, recipe=escape(recipe)) if recipe else ""
    return PACKET.format(rdf=RDF, label=LABEL, recipe=element).encode()


def _unpacked(packet: bytes) -> str | None:
    """The recipe in an XMP packet: an element, or an attribute where a program rewrote it."""
    if NAMESPACE.encode() not in packet or len(packet) > XMP_PARSED:  # a tree takes 40 times it
        return None
    if b"<!DOCTYPE" in packet:  # not valid in XMP, and its entities can expand to any size
        return None
    try:
        root = ElementTree.fromstring(packet.rstrip(b"\0").decode())
    except (ElementTree.ParseError, ValueError):
        return None
    name = f"{{{NAMESPACE}}}recipe"
    descriptions = root.iter(f"{{{RDF}}}Description")
    recipes = (each.get(name) or each.findtext(name) for each in descriptions)
    return next((recipe for recipe in recipes if recipe), None)
