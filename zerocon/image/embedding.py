"""Image files as bytes, with metadata that Pillow does not write as it was."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from PIL import Image

from zerocon.image import exif, kept
from zerocon.image.bounds import png_chunks
from zerocon.image.kept import Kept
from zerocon.image.metadata import KEYWORD

SEGMENT = 65533  # bytes of a JPEG segment after its length
LINE = 72  # digits in a line of a raw profile


class StoredExif(Image.Exif):
    """EXIF data that Pillow writes as they are, with an orientation that it reads."""

    def __init__(self, data: bytes, orientation: int) -> None:
        super().__init__()
        self.data = data
        self[exif.ORIENTATION] = orientation

    def tobytes(self, offset: int = 8) -> bytes:
        """The data themselves."""
        return self.data

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True)
class Parts:
    """What is written to a file next to its pixels.

    Attributes:
        options: Arguments of Pillow's ``save``.
        exif: As ``exif.patch`` returns them.
        orientation: 1..8.
        xmp: The packet, complete.
        recipe: Text chunk of a PNG.
        kept: The rest of the source's metadata.
        resolution: Whether a TIFF takes its resolution from ``exif``.
    """

    options: dict[str, Any]
    exif: bytes = b""
    orientation: int = 1
    xmp: bytes = b""
    recipe: str | None = None
    kept: Kept = field(default_factory=Kept)
    resolution: bool = False


def encoded(image: Image.Image, format: str, parts: Parts) -> bytes:
    """The bytes of a file.

    Args:
        image: In a mode that the format can hold.
        format: Pillow's name.
        parts: What to write next to the pixels.
    """
    options, file = dict(parts.options), BytesIO()
    if format == "AVIF":
        stored = StoredExif(exif.without_orientation(parts.exif), parts.orientation)
        options |= {"exif": stored} if parts.exif or parts.orientation != 1 else {}
    elif parts.exif and format != "TIFF":
        options["exif"] = parts.exif
    if parts.xmp and format not in ("TIFF", "PNG"):
        options["xmp"] = parts.xmp
    image.save(file, format=format, **options)
    data = file.getvalue()
    if format == "JPEG":
        return _with_segments(data, parts.kept)
    if format == "PNG":
        return _with_texts(data, parts)
    return _with_tags(data, parts) if format == "TIFF" else data


def _with_segments(jpeg: bytes, more: Kept) -> bytes:
    """With image resources and comments, after the other metadata."""
    place = 2
    for marker, _, stop in kept.jpeg_segments(jpeg):
        if not 0xE0 <= marker <= 0xEF:
            break
        place = stop
    size = SEGMENT - len(kept.PHOTOSHOP)
    resources = _cut(more.photoshop, size)
    segments = [b"\xff\xed" + _sized(kept.PHOTOSHOP + part) for part in resources]
    for comment in more.comments:
        segments += [b"\xff\xfe" + _sized(part) for part in _cut(comment, SEGMENT)]
    return jpeg[:place] + b"".join(segments) + jpeg[place:]


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _sized(content: bytes) -> bytes:
    return (len(content) + 2).to_bytes(2) + content


def _with_texts(png: bytes, parts: Parts) -> bytes:
    """With texts, recipe and XMP, before the pixels."""
    texts = list(parts.kept.texts)
    if kept.has_iptc(parts.kept.photoshop):
        texts.append(_raw_profile("iptc", parts.kept.photoshop))
    texts += [_comment(each) for each in parts.kept.comments]
    if parts.recipe is not None:
        texts.append(_international(KEYWORD, parts.recipe.encode()))
    if parts.xmp:
        texts.append(_international(kept.XMP_KEYWORD, parts.xmp))
    place = next(start - 8 for name, start, _ in png_chunks(png) if name == b"IDAT")
    return png[:place] + _chunks(texts) + png[place:]


def _chunks(contents: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join(
        len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)
        for name, data in contents
    )


def _international(keyword: str, text: bytes) -> tuple[bytes, bytes]:
    return b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text


def _comment(comment: bytes) -> tuple[bytes, bytes]:
    """A comment of another format as a text: UTF-8 if it is, else Latin-1."""
    text = comment.replace(b"\0", b"")
    try:
        return _international("Comment", text.decode().encode())
    except UnicodeDecodeError:
        return b"tEXt", b"Comment\0" + text


def _raw_profile(name: str, data: bytes) -> tuple[bytes, bytes]:
    """Binary data as the text that ImageMagick and ExifTool read and write."""
    digits = data.hex()
    lines = [digits[start : start + LINE] for start in range(0, len(digits), LINE)]
    text = "\n".join([f"\n{name}", f"{len(data):8}", *lines, ""])
    return b"zTXt", f"{kept.PROFILE}{name}".encode() + b"\0\0" + zlib.compress(text.encode())


def _with_tags(tiff: bytes, parts: Parts) -> bytes:
    more = []
    irb = parts.kept.photoshop
    for tag, kind, value in (
        (exif.XMP, exif.BYTE, parts.xmp),
        (exif.IPTC, exif.UNDEFINED, _iptc(irb)),
        (exif.PHOTOSHOP, exif.BYTE, irb),
    ):
        if value:
            more.append(exif.Entry(tag, kind, len(value), value))
    if not more and not parts.exif:
        return tiff
    return exif.graft(tiff, parts.exif, more, resolution=parts.resolution)


def _iptc(irb: bytes) -> bytes:
    return next((data for number, data, _ in kept.resources(irb) if number == kept.IPTC), b"")
