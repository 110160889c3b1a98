"""XMP packets: zerocon's recipe and label in the packet of a source, and what is removed from it.

A packet is changed as text, so that all else in it keeps its bytes, and then parsed: where
something that had to be removed is still in it, it is not used. Source: ISO 16684-1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from zerocon.image.bounds import XMP_PARSED

# IPTC digital source type of images that a trained model has partly changed
LABEL = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
NAMESPACE = "urn:zerocon:recipe:1#"  # XMP namespace of the recipe, whatever its schema
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="{rdf}">{descriptions}
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
LABELED = """
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{iptc}"{rdf}>
<Iptc4xmpExt:DigitalSourceType>{label}</Iptc4xmpExt:DigitalSourceType>
</rdf:Description>"""
RECIPE = """
<rdf:Description rdf:about="" xmlns:zerocon="{namespace}"{rdf}>
<zerocon:recipe>{recipe}</zerocon:recipe>
</rdf:Description>"""

# what describes images and videos that are not written, or shows the source: names by namespace
ANY = r"\w+"
DROPPED = {
    NAMESPACE: ANY,
    "http://ns.adobe.com/xap/1.0/": "Thumbnails",
    "http://ns.adobe.com/xmp/note/": "HasExtendedXMP",
    "http://ns.adobe.com/hdr-gain-map/1.0/": ANY,
    "http://ns.apple.com/HDRGainMap/1.0/": ANY,
    "http://ns.google.com/photos/1.0/camera/": r"(?:MotionPhoto|MicroVideo)\w*",
    "http://ns.google.com/photos/1.0/container/": "Directory",
    "http://ns.google.com/photos/1.0/depthmap/": ANY,
    "http://ns.google.com/photos/1.0/image/": ANY,
}
# of a packet that can be parsed; nothing is tried twice
TAG = re.compile(
    rb"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|"
    rb"<(?P<end>/?)(?P<name>[^\s/<>!?]++)"
    rb"(?P<inner>(?:[^<>\"'/]++|\"[^\"]*+\"|'[^']*+'|/(?!>))*+)(?P<empty>/?)>",
    re.DOTALL,
)
ATTRIBUTE = re.compile(rb"\s++([^\s=]++)\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+')")
POSITION = re.compile(r"gps\w*|(?:\w*_)?(?:latitude|longitude|longtitude)", re.IGNORECASE)


def cleaned(packet: bytes, *, keep_gps: bool) -> bytes | None:
    """A packet without zerocon's recipe, position, thumbnails, and what refers to other images.

    None if it cannot be parsed, or if they could not be removed.
    """
    packet = packet.rstrip(b"\0")
    if (root := parsed(packet)) is None:
        return None
    names = set(_names(root))
    for namespace, local in DROPPED.items():
        if any(each == namespace and re.fullmatch(local, name) for each, name in names):
            packet = _without(packet, _prefixes(packet, namespace), local)
            if local == ANY:  # by its namespace programs expect the other image
                packet = re.sub(rb"(?<!\s)\s++" + _declaration(namespace), b"", packet)
    if not keep_gps and any(POSITION.fullmatch(name) for _, name in names):
        packet = _without(packet, [r"[\w.-]+"], f"(?i:{POSITION.pattern})")
    if (root := parsed(packet)) is None or any(_dropped(*each, keep_gps) for each in _names(root)):
        return None
    return packet if _joined(packet, "{}") else None


def merged(source: bytes, recipe: str | None) -> bytes:
    """zerocon's label and recipe, in the packet of the source if there is one.

    The label replaces another one; the source is one that ``cleaned`` returned, or empty.
    """
    if source and (packet := _joined(source, recipe)):
        return packet
    descriptions = _descriptions(recipe, alone=True).decode()
    return PACKET.format(rdf=RDF, descriptions=descriptions).encode()


def _joined(source: bytes, recipe: str | None) -> bytes | None:
    """The packet of the source with label and recipe; None if it has no place for them."""
    unlabeled = _without(source, _prefixes(source, IPTC), "DigitalSourceType")
    ends = list(re.finditer(rb"</(?:[\w.-]+:)?RDF\s*>", unlabeled))
    if not ends:
        return None
    place = ends[-1].start()
    packet = unlabeled[:place] + _descriptions(recipe, alone=False) + unlabeled[place:]
    root = parsed(packet)
    return packet if root is not None and _recipe_of(root) == recipe else None


def recipe_in(packet: bytes) -> str | None:
    """The recipe in a packet: an element, or an attribute where a program rewrote it."""
    if NAMESPACE.encode() not in packet or (root := parsed(packet.rstrip(b"\0"))) is None:
        return None
    return _recipe_of(root)


def _recipe_of(root: ElementTree.Element) -> str | None:
    name = f"{{{NAMESPACE}}}recipe"
    descriptions = root.iter(f"{{{RDF}}}Description")
    recipes = (each.get(name) or each.findtext(name) for each in descriptions)
    return next((recipe for recipe in recipes if recipe), None)


def has_position(packet: bytes) -> bool:
    """Whether a packet has a GPS position; also if it cannot be parsed and may have one."""
    root = parsed(packet)
    if root is None:
        return b"gps" in packet.lower()
    return any(POSITION.fullmatch(name) for _, name in _names(root))


def parsed(packet: bytes) -> ElementTree.Element | None:
    """The root of a packet in UTF-8; None if it is damaged."""
    if b"<!DOCTYPE" in packet:  # not valid in XMP, and its entities can expand to any size
        return None
    if len(packet) > XMP_PARSED:  # a tree takes 40 times it
        return None
    try:
        return ElementTree.fromstring(packet.decode())
    except (ElementTree.ParseError, ValueError):
        return None


def trimmed(packet: bytes) -> bytes:
    """Without the spaces that packets have for changes in place."""
    return re.sub(rb"\s{64,}", b"\n", packet)


def _descriptions(recipe: str | None, *, alone: bool) -> bytes:
    """Label and recipe; ``alone`` where the packet declares the prefix rdf."""
    rdf = "" if alone else f' xmlns:rdf="{RDF}"'
    text = LABELED.format(iptc=IPTC, label=LABEL, rdf=rdf)
    if recipe:
        text += RECIPE.format(namespace=NAMESPACE, recipe=escape(recipe), rdf=rdf)
    return text.encode()


def _dropped(namespace: str, name: str, keep_gps: bool) -> bool:
    pattern = DROPPED.get(namespace)
    if pattern and re.fullmatch(pattern, name):
        return True
    return not keep_gps and POSITION.fullmatch(name) is not None


def _names(root: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """Namespace and local name of all elements and attributes."""
    for element in root.iter():
        for name in (element.tag, *element.attrib):
            namespace, _, local = str(name).lstrip("{").rpartition("}")
            yield namespace, local


def _prefixes(packet: bytes, namespace: str) -> list[str]:
    names = set(re.findall(_declaration(namespace), packet))
    return [re.escape(each.decode()) for each in sorted(names)]


def _declaration(namespace: str) -> bytes:
    """A pattern of a namespace's declaration; its group is the prefix."""
    return rb"xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(namespace).encode() + rb"[\"']"


def _without(packet: bytes, prefixes: list[str], local: str) -> bytes:
    """Without the attributes and elements of these prefixes and this local name, as patterns.

    In one pass over the tags of a packet that can be parsed, so that no packet takes long.
    """
    if not prefixes:
        return packet
    name = re.compile(rf"(?:{'|'.join(prefixes)}):(?:{local})".encode())
    parts, place, depth = [], 0, 0  # depth of the elements inside one that is removed

    def kept(attribute: re.Match[bytes]) -> bytes:
        return b"" if name.fullmatch(attribute[1]) else attribute[0]

    for tag in TAG.finditer(packet):
        if tag["name"] is None:  # a comment, a section of text, or an instruction
            continue
        if depth:
            depth += -1 if tag["end"] else not tag["empty"]
            place = tag.end()
        elif not tag["end"] and name.fullmatch(tag["name"]):
            parts.append(packet[place : tag.start()])
            depth, place = int(not tag["empty"]), tag.end()
        else:
            parts += [packet[place : tag.start("inner")], ATTRIBUTE.sub(kept, tag["inner"])]
            place = tag.end("inner")
    return b"".join([*parts, packet[place:]])
