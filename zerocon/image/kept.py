"""Metadata next to EXIF that an edited image keeps, and what of a file it cannot keep.

Read from the bytes of the file, since decoders drop or decode much of it: XMP, IPTC, comments, and
the text chunks of PNG.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from PIL import Image

from zerocon.image import exif, xmp
from zerocon.image.bounds import XMP_PARSED, png_chunks
from zerocon.image.metadata import KEYWORD

SEGMENTS = 10_000  # of a JPEG that are read
END_OF_IMAGE = 0xD9
NEXT_MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
XMP_KEYWORD = "XML:com.adobe.xmp"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
PHOTOSHOP = b"Photoshop 3.0\0"
IPTC = 0x0404  # image resource of Photoshop
# thumbnails, which show the source, and copies of metadata that is handled elsewhere
DROPPED_RESOURCES = {0x0409, 0x040C, 0x040F, 0x0422, 0x0423, 0x0424}
PROFILE = "Raw profile type "  # PNG texts in which ImageMagick and ExifTool store metadata
PROFILES = ("exif", "app1", "xmp", "iptc", "8bim", "icc", "icm")
POSITION = re.compile(r"(?:.*:)?gps.*", re.IGNORECASE)
TRAILER = 16  # bytes after a JPEG that are not worth a line
LISTED = 4  # keywords of texts in a line
TEXTS = 16_000_000  # bytes of a text chunk when decompressed
BOXES = 1 << 16  # bytes at the start of AVIF and HEIC that contain the list of their images
GAIN_MAP_MARK = b"urn:iso:std:iso:ts:21496:-1\0"
GAIN_MAPS = (b"/hdr-gain-map/", b"/HDRGainMap/", b"aux:hdrgainmap", GAIN_MAP_MARK)
CREDENTIALS_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")

CREDENTIALS = "the content credentials (C2PA) are not kept: they are valid for the source only"
GAIN_MAP = "the gain map (HDR) is not kept"
DEPTH_MAP = "the depth map is not kept"
FURTHER = "further images in the file are not kept"
AUXILIARY = "the auxiliary images are not kept"
THUMBNAIL_PAGE = "the thumbnail in the file's second page is not kept"
LAYERS = "the layers of the file are not kept"
EXTENDED = "the extended XMP data are not kept"
MOTION = "the video of the motion photo is not kept"


@dataclass(frozen=True)
class Kept:
    """What is written with an edit.

    Attributes:
        xmp: The packet without position and what describes other images; may be empty.
        photoshop: Image resources of Photoshop, of which IPTC is one; may be empty.
        comments: Of JPEG or GIF.
        texts: Text chunks of PNG, each its type and its bytes.
        hidden_position: Whether XMP that is damaged, and left out, may have a position.
    """

    xmp: bytes = b""
    photoshop: bytes = b""
    comments: tuple[bytes, ...] = ()
    texts: tuple[tuple[bytes, bytes], ...] = ()
    hidden_position: bool = False

    def losses(self, format: str) -> tuple[str, ...]:
        """What a format cannot hold, one line each."""
        lines = []
        if self.texts and format != "PNG":
            names = ", ".join(_printable(each) for each in self._keywords()[:LISTED])
            more = ", ..." if len(self.texts) > LISTED else ""
            lines.append(f"the texts of the PNG ({names}{more}) are not kept in {format}")
        if self.comments and format not in ("PNG", "JPEG"):
            lines.append(f"the comment is not kept in {format}")
        if has_iptc(self.photoshop) and format not in ("PNG", "JPEG", "TIFF"):
            lines.append(f"the IPTC data are not kept in {format}")
        return tuple(lines)

    def _keywords(self) -> list[str]:
        return [data.partition(b"\0")[0].decode("latin-1") for _, data in self.texts]

    @property
    def has_position(self) -> bool:
        """Whether the XMP packet or a text has a GPS position in the file."""
        texts = any(POSITION.fullmatch(each) for each in self._keywords())
        return self.hidden_position or texts or xmp.has_position(self.xmp)


@dataclass(frozen=True)
class FileMetadata:
    """The metadata of a file: EXIF as it is in the file, the rest, and lines about what is lost."""

    exif: bytes = b""
    kept: Kept = field(default_factory=Kept)
    problems: tuple[str, ...] = ()


def find(image: Image.Image, data: bytes, *, keep_gps: bool) -> FileMetadata:
    """The metadata of a file.

    Args:
        image: The opened file, loaded unless it is a TIFF.
        data: Its bytes.
        keep_gps: Keep the GPS position in XMP and texts.
    """
    readers = {"JPEG": _jpeg, "MPO": _jpeg, "PNG": _png, "TIFF": _tiff}
    metadata = readers.get(image.format or "", _other)(image, data)
    kept, problems = metadata.kept, metadata.problems
    packet: bytes | None = b""
    if kept.xmp and (packet := xmp.cleaned(kept.xmp, keep_gps=keep_gps)) is None:
        fault = "too large" if len(kept.xmp) > XMP_PARSED else "damaged"
        problems += (f"the XMP data are {fault} and are not kept",)
    texts = tuple(each for each in kept.texts if keep_gps or not _is_position(each))
    hidden = packet is None and b"gps" in kept.xmp.lower()
    kept = replace(kept, xmp=packet or b"", texts=texts, hidden_position=hidden)
    return FileMetadata(metadata.exif, kept, problems)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the content of each segment; the last one is the end of image."""
    place = 2
    for _ in range(SEGMENTS):
        match = NEXT_MARK.search(data, place)
        if match is None:
            return
        marker, start = data[match.start() + 1], match.end()
        if marker == END_OF_IMAGE:
            yield marker, start, start
            return
        if marker in (0xD8, 0x01):  # without a length
            place = start
            continue
        place = start + int.from_bytes(data[start : start + 2])
        yield marker, start + 2, place


def is_complete(jpeg: bytes) -> bool:
    """Whether a JPEG has its end."""
    return any(marker == END_OF_IMAGE for marker, _, _ in jpeg_segments(jpeg))


def resources(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, content, and all bytes of each image resource of Photoshop; stops at damage."""
    place = 0
    while data[place : place + 4] == b"8BIM" and place + 12 <= len(data):
        name = 1 + data[place + 6]
        start = place + 6 + name + name % 2
        length = int.from_bytes(data[start : start + 4])
        end = start + 4 + length
        if end > len(data):
            return
        number = int.from_bytes(data[place + 4 : place + 6])
        yield number, data[start + 4 : end], data[place:end].ljust(end + length % 2 - place, b"\0")
        place = end + length % 2


def resource(number: int, data: bytes) -> bytes:
    """An image resource without a name."""
    head = b"8BIM" + number.to_bytes(2) + b"\0\0" + len(data).to_bytes(4)
    return head + data + bytes(len(data) % 2)


def _jpeg(image: Image.Image, data: bytes) -> FileMetadata:
    """XMP, image resources and comments before the pixels; what follows the image."""
    packet, irb, comments, lines, end = b"", b"", list[bytes](), list[str](), len(data)
    gain_map = False
    pixels = False
    for marker, start, stop in jpeg_segments(data):
        pixels |= marker == 0xDA
        content = b"" if pixels else data[start:stop]
        if marker == 0xE1 and content.startswith(XMP) and not packet:
            packet = content.removeprefix(XMP)
        elif marker == 0xE1 and content.startswith(EXTENDED_XMP) and EXTENDED not in lines:
            lines.append(EXTENDED)
        elif marker == 0xED and content.startswith(PHOTOSHOP):
            irb += content.removeprefix(PHOTOSHOP)
        elif marker == 0xFE and not pixels:
            comments.append(content)
        elif marker == 0xEB and b"c2pa" in content and CREDENTIALS not in lines:
            lines.append(CREDENTIALS)
        elif marker == 0xE2 and content.startswith(GAIN_MAP_MARK):
            gain_map = True
        elif marker == END_OF_IMAGE:
            end = stop
    lines += _after(image, packet, data[end:], gain_map=gain_map)
    kept = Kept(packet, _usable(irb), tuple(comments))
    return FileMetadata(image.info.get("exif", b""), kept, tuple(lines))


def _after(image: Image.Image, packet: bytes, trailer: bytes, *, gain_map: bool) -> list[str]:
    """Lines about images, videos and other data after a JPEG, and about what describes them."""
    lines = []
    further = getattr(image, "n_frames", 1) - 1
    if gain_map or any(mark in each for mark in GAIN_MAPS for each in (packet, trailer)):
        lines.append(GAIN_MAP)
        further -= 1
    if further > 0:
        lines.append(FURTHER)
    if b"ftyp" in trailer:
        lines.append(MOTION)
    if b"/1.0/depthmap/" in packet:
        lines.append(DEPTH_MAP)
    if not lines and len(trailer.strip(b"\0")) > TRAILER:
        lines.append(f"the data after the image ({len(trailer)} bytes) are not kept")
    return lines


def _png(image: Image.Image, data: bytes) -> FileMetadata:
    metadata = FileMetadata(image.info.get("exif", b""))
    for name, start, end in png_chunks(data):
        if name == b"caBX":
            metadata = replace(metadata, problems=(*metadata.problems, CREDENTIALS))
        checksum = zlib.crc32(data[start - 4 : end]).to_bytes(4) if name in TEXT_CHUNKS else b""
        if checksum and checksum == data[end : end + 4]:
            metadata = _with_text(metadata, name, data[start:end])
    return metadata


def _with_text(metadata: FileMetadata, name: bytes, content: bytes) -> FileMetadata:
    """``metadata`` with a text chunk, or with the metadata that programs store in one."""
    kept = metadata.kept
    keyword = content.partition(b"\0")[0].decode("latin-1")
    if keyword == KEYWORD:
        return metadata
    profile = keyword.removeprefix(PROFILE).lower() if keyword.startswith(PROFILE) else ""
    if keyword != XMP_KEYWORD and profile not in PROFILES:
        return replace(metadata, kept=replace(kept, texts=(*kept.texts, (name, content))))
    try:
        value = _text_of(name, content)
        value = bytes.fromhex("".join(value.decode("latin-1").split()[2:])) if profile else value
    except (ValueError, zlib.error):
        line = f"the text {_printable(keyword)} of the PNG is damaged and is not kept"
        return replace(metadata, problems=(*metadata.problems, line))
    if value.startswith(exif.PREFIX) or profile == "exif":
        return replace(metadata, exif=metadata.exif or value)
    if keyword == XMP_KEYWORD or profile == "xmp" or value.startswith(XMP):
        return replace(metadata, kept=replace(kept, xmp=kept.xmp or value.removeprefix(XMP)))
    if profile in ("iptc", "8bim"):
        value = value if value.startswith(b"8BIM") else resource(IPTC, value)
        return replace(metadata, kept=replace(kept, photoshop=kept.photoshop or _usable(value)))
    return metadata  # a color profile, which no program reads from a text


def _text_of(name: bytes, content: bytes) -> bytes:
    """The text of a chunk, in the chunk's encoding."""
    rest = content.partition(b"\0")[2]
    compressed = name == b"zTXt"
    if name == b"zTXt":
        rest = rest[1:]
    if name == b"iTXt":
        compressed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[2] if rest.count(b"\0", 2) >= 2 else b""
    return zlib.decompressobj().decompress(rest, TEXTS) if compressed else rest


def _tiff(_: Image.Image, data: bytes) -> FileMetadata:
    """The packets in the tags of a TIFF; its EXIF data are those of ``exif.of_tiff``."""
    try:
        directory, _order = exif.directory_of(data)
    except ValueError:
        return FileMetadata()
    tags = {each.tag: each.value for each in directory.entries}
    irb = _usable(tags.get(exif.PHOTOSHOP, b""))
    if exif.IPTC in tags and not has_iptc(irb):
        irb += resource(IPTC, tags[exif.IPTC])
    lines = {
        CREDENTIALS: 52545 in tags,
        LAYERS: exif.LAYERS in tags,
        FURTHER: exif.SUBFILES in tags,
        THUMBNAIL_PAGE: directory.next > 0,
    }
    kept = Kept(tags.get(exif.XMP, b""), irb)
    return FileMetadata(b"", kept, tuple(line for line, true in lines.items() if true))


def _other(image: Image.Image, data: bytes) -> FileMetadata:
    """What the decoders of WebP, AVIF, HEIC, GIF and others return."""
    info, lines = image.info, []
    raw = info.get("exif", b"")
    if image.format == "AVIF" and (decoder := getattr(image, "_decoder", None)):
        raw = decoder.get_info()[4]  # Pillow encodes ``info``'s again where it has an orientation
    boxes = image.format in ("AVIF", "HEIF")
    auxiliary = " ".join(map(str, info.get("aux", ()))).lower()
    if "gainmap" in auxiliary or (boxes and b"tmap" in data[:BOXES]):
        lines.append(GAIN_MAP)
    elif auxiliary:
        lines.append(AUXILIARY)
    if info.get("depth_images") or (boxes and b"auxiliary:depth" in data[:BOXES]):
        lines.append(DEPTH_MAP)
    if getattr(image, "n_frames", 1) > 1:
        lines.append(FURTHER)
    signed = image.format == "WEBP" and _has_chunk(data, b"C2PA")
    if signed or (boxes and CREDENTIALS_BOX in data):
        lines.append(CREDENTIALS)
    packet, comment = info.get("xmp") or b"", info.get("comment") or b""
    packet = packet.encode() if isinstance(packet, str) else bytes(packet)
    comment = comment.encode() if isinstance(comment, str) else bytes(comment)
    kept = Kept(packet, comments=(comment,) if comment else ())
    return FileMetadata(raw or b"", kept, tuple(lines))


def _has_chunk(webp: bytes, name: bytes) -> bool:
    place = 12
    while place + 8 <= len(webp):
        if webp[place : place + 4] == name:
            return True
        length = int.from_bytes(webp[place + 4 : place + 8], "little")
        place += 8 + length + length % 2
    return False


def has_iptc(irb: bytes) -> bool:
    """Whether image resources contain IPTC data."""
    return any(number == IPTC for number, _, _ in resources(irb))


def _usable(irb: bytes) -> bytes:
    """The image resources that are kept."""
    return b"".join(all_ for number, _, all_ in resources(irb) if number not in DROPPED_RESOURCES)


def _is_position(text: tuple[bytes, bytes]) -> bool:
    return POSITION.fullmatch(text[1].partition(b"\0")[0].decode("latin-1")) is not None


def _printable(text: str) -> str:
    """A keyword that a terminal can show."""
    return "".join(each if each.isascii() and each.isprintable() else "?" for each in text)[:40]
