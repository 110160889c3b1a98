"""What a file says of how its picture was made: a marking for everybody, a recipe for zerocon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from PIL import Image
from PIL.PngImagePlugin import PngInfo

# IPTC's word for a picture that a trained network has changed in part
MARKING = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
KEYWORD = "zerocon"  # of the recipe in a PNG
NAMESPACE = "urn:zerocon:recipe:1#"  # of the recipe in XMP; such a name ends in # or /
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMP = 700  # its tag in a TIFF
LONGEST = {"JPEG": 65502}  # bytes of XMP, where there is a limit: one segment, less its name

PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="{rdf}">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<Iptc4xmpExt:DigitalSourceType>{marking}</Iptc4xmpExt:DigitalSourceType>
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
    """The marking that a picture was made in part by a network and, if given, the ``recipe``.

    The recipe is one line of ASCII. It lies in a text chunk of a PNG and in the XMP of all others;
    the marking is XMP everywhere.
    """

    recipe: str | None = None

    @classmethod
    def at(cls, level: str, recipe: Callable[[], str]) -> Provenance | None:
        """With the ``recipe``, made if need be ("full"), the marking alone ("minimal"); "none"."""
        if level == "none":
            return None
        return cls(recipe() if level == "full" else None)

    def within(self, kind: str) -> Provenance:
        """As much of it as a file of ``kind`` (Pillow's name) can hold: the marking always."""
        fits = len(_packet(self.recipe)) <= LONGEST.get(kind, float("inf"))
        return self if fits else Provenance()

    def format_warnings(self, kind: str) -> tuple[str, ...]:
        """What a file of ``kind`` cannot hold of it, in a line each."""
        whole = self.within(kind) == self
        return () if whole else (f"as {kind}, the recipe is too long, and left out",)

    def options(self, kind: str, exif: bytes = b"") -> dict[str, Any]:
        """What Pillow is told when it saves a file of ``kind``, beside these EXIF data."""
        if kind == "PNG":
            chunks = PngInfo()
            if self.recipe is not None:
                chunks.add_itxt(KEYWORD, self.recipe)
            chunks.add_itxt("XML:com.adobe.xmp", _packet(None).decode())
            return {"pnginfo": chunks}
        if kind == "TIFF":  # where Pillow takes tags, and no XMP
            tags = Image.Exif()
            tags.load(exif)
            tags[XMP] = _packet(self.recipe)
            return {"exif": tags}
        return {"xmp": _packet(self.recipe)}


def recipe_of(image: Image.Image) -> str | None:
    """The recipe that an opened file carries, as it was written; None if there is none."""
    text = image.info.get(KEYWORD)
    if isinstance(text, str):
        return str(text)
    packet = image.info.get("xmp")
    return _unpacked(packet) if isinstance(packet, bytes) else None


def _packet(recipe: str | None) -> bytes:
    said = recipe and RECIPE.format(namespace=NAMESPACE, recipe=escape(recipe))
    return PACKET.format(rdf=RDF, marking=MARKING, recipe=said or "").encode()


def _unpacked(packet: bytes) -> str | None:
    """The recipe in an XMP packet, as we write it or as other programs put it, an attribute."""
    if b"<!DOCTYPE" in packet:  # no XMP has one, and it may make an entity of any size
        return None
    try:
        root = ElementTree.fromstring(packet.rstrip(b"\0").decode())
    except (ElementTree.ParseError, ValueError):
        return None
    name = f"{{{NAMESPACE}}}recipe"
    about = list(root.iter(f"{{{RDF}}}Description"))
    return next((said for each in about if (said := each.get(name) or each.findtext(name))), None)
