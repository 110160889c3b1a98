"""Limits of image files, checked on their bytes before a decoder reads them.

Small files can take minutes or gigabytes to decode: pixels compress a thousandfold, and JPEG scans,
TIFF directories, comments and metadata can be repeated. Every limit is far above what cameras and
image programs write. The checks read headers and lengths only, in one pass without recursion.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from mmap import mmap
from struct import unpack_from
from typing import Any

from PIL import Image

from zerocon.errors import AnimatedImageError, ImageTooLargeError

PIPE_BYTES = 200_000_000  # of an image on stdin, which has no size to check in advance
METADATA = 32_000_000  # bytes of everything in a file but pixels
XMP_PARSED = 1_000_000  # bytes of XMP that is parsed; longer XMP is not kept
PROFILE = 8_000_000  # bytes of an ICC profile; those of printers have 1 to 4 million
EXIF = 1_000_000  # bytes of EXIF data outside TIFF; a JPEG's segment has 65 thousand
TAG_VALUES = 4_000_000  # bytes of numbers in TIFF tags; each becomes a Python object
SCANS = 64  # of a JPEG
USUAL_SCANS = 16  # progressive ones have about 10
SCANNED = 1_000_000_000  # pixels of all scans of a JPEG together, if there are more
SEGMENTS = 5_000  # of a JPEG's header
SKIPPED = 100_000  # bytes between the parts of a JPEG's header or of a GIF, skipped one by one
DIRECTORIES = 100  # of a TIFF
TAGS = 20_000  # of a TIFF's directories together, or of EXIF data
STRIPS = 100_000  # of a TIFF, or tiles
FRAMES = 1_000  # of a GIF
CHUNKS = 100_000  # of a PNG: IDAT chunks of 8192 bytes are usual
OTHER_CHUNKS = 2_000  # of a PNG without IDAT, of a WebP
BOXES = 4_000  # of JPEG 2000, AVIF and HEIC, in one box
META_BYTES = 4_000_000  # of the list of images of an AVIF or HEIC
ITEMS = 4_000  # of an AVIF or HEIC: tiles, thumbnails, metadata
HEADER = 8_192  # bytes of a PPM's header
TEXT_BYTES = 8_000_000  # of a PPM in decimal digits, decoded at 6 MB per second
RUN_BYTES = 6_000_000  # of a BMP with run lengths, decoded at 5 MB per second
GIF_BLOCKS = 600_000  # of at most 255 bytes
GIF_TEXTS = 1_000_000  # bytes of a GIF's extensions
CODE_BLOCKS = 500_000  # of a JPEG 2000, and its precincts and tiles

TILE_PARTS = 100_000  # of a JPEG 2000

Data = bytes | mmap

TAG_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
BIG_TAG_BYTES = {16: 8, 17: 8, 18: 8}
PPM_KINDS = [bytes([kind]) for kind in b"0123456fy"]  # that Pillow reads
POINTERS = (34665, 34853, 40965)  # TIFF tags: directories of EXIF, GPS and interoperability
TILE_WIDTH, TILE_LENGTH, WIDTH, LENGTH, SAMPLES = 322, 323, 256, 257, 277
OFFSETS = (273, 324)  # of strips and tiles
CODING_STYLE, START_OF_TILE, END_OF_CODESTREAM = 0xFF52, 0xFF90, b"\xff\xd9"  # of JPEG 2000
MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # of a JPEG, in entropy-coded data
COMMENT = re.compile(rb"#[^\r\n]*")
BLOCK = re.compile(rb"[\x21\x2c\x3b]")  # an extension, an image or the end of a GIF


@dataclass(frozen=True)
class TilePart:
    """A tile-part of a JPEG 2000.

    Attributes:
        tile: Number of its tile.
        number: Its number among the tile-parts of the tile.
        count: How many there are of the tile; 0 where that is not stated.
        start: Place of its SOT marker.
        end: Where it ends, or would end if the data did not end before.
    """

    tile: int
    number: int
    count: int
    start: int
    end: int


def file_limit(megapixels: float) -> int:
    """Bytes that the file of an image may have: 16-bit RGBA without compression, and metadata."""
    return round(megapixels * 8_000_000) + METADATA


def check_file(data: Data) -> None:
    """Check the bytes of an image file of any format.

    Raises:
        ImageTooLargeError: It has more parts or metadata than the limits of this module.
    """
    head = data[:12]
    if head[:2] == b"BM":
        _check_bmp(data)
    elif head[4:8] == b"ftyp" or head[4:8] == b"jP  ":
        _check_boxes(data)
    else:
        for magic, check in CHECKS.items():
            if head.startswith(magic):
                check(data)


def check_opened(image: Image.Image, megapixels: float) -> None:
    """Check an opened file: pixels, color profile, EXIF data.

    Raises:
        ImageTooLargeError: It exceeds a limit.
    """
    check_size(*image.size, megapixels)
    _limit(len(image.info.get("icc_profile") or b""), PROFILE, "bytes of color profile")
    exif = image.info.get("exif")
    if exif is None and isinstance(text := image.info.get("Raw profile type exif"), str):
        digits = "".join(text.split("\n")[3:])  # as Pillow reads it
        exif = bytes.fromhex(digits) if re.fullmatch(r"[0-9a-fA-F\s]*", digits) else b""
    if isinstance(exif, bytes):
        exif = exif.removeprefix(b"Exif\0\0")
        _limit(len(exif), EXIF, "bytes of EXIF")
        if exif[:4] in TIFF_HEADS:
            _check_tiff(exif)


def check_size(width: int, height: int, megapixels: float) -> None:
    """Raise ``ImageTooLargeError`` for an image of more than ``megapixels`` million pixels."""
    if width * height > megapixels * 1_000_000:
        raise ImageTooLargeError(
            f"it has {width}x{height} pixels, {width * height / 1e6:.0f} million; the limit is "
            f"{megapixels:g}, which --max-megapixels raises"
        )


def _limit(count: float, most: int, what: str) -> None:
    if count > most:
        raise ImageTooLargeError(f"it has more than {most:,} {what}")


def png_chunks(data: Data) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the content of each chunk of a PNG; the last end may be missing."""
    place = 8
    while place + 8 <= len(data):
        length, name = unpack_from(">I4s", data, place)
        yield name, place + 8, place + 8 + length
        place += 12 + length


def _check_png(data: Data) -> None:
    count = others = size = 0
    for name, start, end in png_chunks(data):
        count += 1
        if name not in (b"IDAT", b"fdAT"):
            others, size = others + 1, size + max(min(end, len(data)) - start, 0)
        _limit(count, CHUNKS, "chunks")
        _limit(others, OTHER_CHUNKS, "chunks other than IDAT")
        _limit(size, METADATA, "bytes of metadata")


def _check_jpeg(data: Data) -> None:
    place, scans, segments, size, exif, pixels, skipped = 0, 0, 0, 0, 0, 0, 0
    while marker := MARKER.search(data, place):
        skipped += 0 if scans else marker.start() - place
        _limit(skipped, SKIPPED, "bytes between its segments")
        place, name = marker.end(), marker[1][0]
        if name == 0xD9:  # end of the image
            return
        if name in (0xD8, 0x01) or place + 2 > len(data):
            continue
        (length,) = unpack_from(">H", data, place)
        segments += 1
        if 0xC0 <= name <= 0xCF and name not in (0xC4, 0xC8, 0xCC) and place + 7 <= len(data):
            height, width = unpack_from(">HH", data, place + 3)
            pixels = max(pixels, width * height)
        elif name == 0xDA:
            scans += 1
        elif name >= 0xE0:
            size += length
            exif += length * (data[place + 2 : place + 6] == b"Exif")
        _limit(scans, SCANS, "scans")
        if scans > USUAL_SCANS:
            _limit(scans * pixels, SCANNED, "pixels in all its scans together")
        _limit(segments, SEGMENTS, "segments")
        _limit(size, METADATA, "bytes of metadata")
        _limit(exif, EXIF, "bytes of EXIF")
        place += length
    _limit(0 if scans else skipped + len(data) - place, SKIPPED, "bytes between its segments")


class _Directories:
    """Reads the directories of TIFF or EXIF data, and adds up what their tags hold."""

    def __init__(self, data: Data) -> None:
        self.data, self.order = data, "<" if data[:2] == b"II" else ">"
        self.big = 43 in data[2:4]
        self.other = self.numbers = self.tags = 0

    def first(self) -> int:
        """Place of the first directory."""
        return self.number("Q", 8) if self.big else self.number("I", 4)

    def number(self, form: str, place: int) -> int:
        size = {"H": 2, "I": 4, "Q": 8}[form]
        if place + size > len(self.data):
            return 0
        return int(unpack_from(self.order + form, self.data, place)[0])

    def read(self, place: int) -> tuple[dict[int, int], int]:
        """Values of the tags with one value, and the place of the next directory."""
        form, head, entry, room = ("Q", 8, 20, 8) if self.big else ("H", 2, 12, 4)
        count = self.number(form, place)
        self.tags += min(count, max(len(self.data) - place, 0) // entry)
        _limit(self.tags, TAGS, "tags")
        values, place = {}, place + head
        for at in range(place, min(place + count * entry, len(self.data)), entry):
            tag, kind = self.number("H", at), self.number("H", at + 2)
            many = self.number("Q" if self.big else "I", at + 4)
            at += entry - room
            values[tag] = self.number("H" if kind == 3 else "Q" if kind in (16, 18) else "I", at)
            _limit(many if tag in OFFSETS else 0, STRIPS, "strips or tiles")
            self._count(many, kind, room)
        return values, self.number("Q" if self.big else "I", place + count * entry)

    def _count(self, many: int, kind: int, room: int) -> None:
        size = many * (TAG_BYTES | BIG_TAG_BYTES).get(kind, 0)
        if size <= room or size > len(self.data):  # more than there is cannot be read
            return
        if kind in (1, 2, 6, 7):
            self.other += size
            _limit(self.other, len(self.data) + METADATA, "bytes in its tags")
        else:
            self.numbers += size
            _limit(self.numbers, TAG_VALUES, "bytes of numbers in its tags")


def _check_tiff(data: Data) -> None:
    directories = _Directories(data)
    place, count = directories.first(), 0
    while 0 < place < len(data):
        count += 1
        if count > DIRECTORIES:
            raise AnimatedImageError(f"it has more than {DIRECTORIES} pages; give a still image")
        values, following = directories.read(place)
        for pointer in POINTERS:
            if pointer in values:
                inner, _ = directories.read(values[pointer])
                if POINTERS[2] in inner:
                    directories.read(inner[POINTERS[2]])
        area = values.get(WIDTH, 0) * values.get(LENGTH, 0)
        tile = values.get(TILE_WIDTH, 0) * values.get(TILE_LENGTH, 0)
        if TILE_WIDTH in values and tile > 4 * area:
            _limit(tile * max(values.get(SAMPLES, 1), 1), 4_000_000, "samples in a tile")
        place = following


def _check_ppm(data: Data) -> None:
    if data[1:2] not in PPM_KINDS:  # another format that begins with P
        return
    needed = 2 if data[1:2] in b"14" else 3
    if not re.match(rb"\S+(\s+\S+){%d}\s" % needed, COMMENT.sub(b" ", data[:HEADER])):
        _limit(len(data), HEADER, "bytes of header")
    if data[1:2] in b"123":
        _limit(len(data), TEXT_BYTES, "bytes of decimal digits")


def _check_gif(data: Data) -> None:
    flags = data[10:11] or b"\0"
    place = 13 + _colors(flags[0])
    frames = blocks = texts = skipped = 0
    # other bytes between the blocks are skipped, as Pillow does
    while place < len(data):
        mark = BLOCK.search(data, place)
        skipped += (mark.start() if mark else len(data)) - place
        _limit(skipped, SKIPPED, "bytes between its blocks")
        if mark is None or (kind := mark[0][0]) == 0x3B:
            return
        place = mark.end()
        if kind == 0x2C and place + 9 <= len(data):
            frames += 1
            _limit(frames, FRAMES, "frames")
            place += 9 + _colors(data[place + 8]) + 1
        elif kind == 0x21:
            place += 1
        while place < len(data) and (length := data[place]):
            place += 1 + length
            blocks += 1
            texts += length * (kind == 0x21)
            _limit(blocks, GIF_BLOCKS, "blocks")
            _limit(texts, GIF_TEXTS, "bytes of extensions")
        place += 1


def _colors(flags: int) -> int:
    """Bytes of a GIF's color table."""
    return 3 << ((flags & 7) + 1) if flags & 128 else 0


def _check_riff(data: Data) -> None:
    place, count, size = 12, 0, 0
    while place + 8 <= len(data):
        name, length = unpack_from("<4sI", data, place)
        count += 1
        if name not in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF"):
            size += min(length, len(data) - place)
        _limit(count, OTHER_CHUNKS, "chunks")
        _limit(size, METADATA, "bytes of metadata")
        place += 8 + length + length % 2


def _check_bmp(data: Data) -> None:
    if len(data) >= 34 and unpack_from("<I", data, 30)[0] in (1, 2):  # RLE8, RLE4
        _limit(len(data), RUN_BYTES, "bytes of run lengths")


def boxes(data: Data, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte, end) of the boxes between two places of a JP2, AVIF or HEIC file.

    Raises:
        ImageTooLargeError: There are more than ``BOXES``.
    """
    count = 0
    while place + 8 <= end:
        count += 1
        _limit(count, BOXES, "boxes in a box")
        length, name = unpack_from(">I4s", data, place)
        start = place + 8
        if length == 1 and start + 8 <= end:
            (length,) = unpack_from(">Q", data, start)
            start += 8
        length = length or end - place
        if length < start - place:
            return
        yield name, start, min(place + length, end)
        place += length


def _check_boxes(data: Data) -> None:
    for name, start, end in boxes(data, 0, len(data)):
        if name in (b"meta", b"jp2h", b"moov", b"uuid", b"xml "):
            _limit(end - start, METADATA, "bytes of metadata")
        if name == b"jp2h":
            _limit(end - start, PROFILE, "bytes of header")
            for _ in boxes(data, start, end):  # counts them
                pass
        if name == b"meta":
            _limit(end - start, META_BYTES, "bytes of metadata")
            content = bytes(data[start:end])
            _limit(content.count(b"infe"), ITEMS, "items")
            _limit(content.count(b"ispe"), ITEMS, "items")
        elif name == b"jp2c":
            _check_codestream(data, start)


def _check_codestream(data: Data, start: int = 0) -> None:
    """Check a JPEG 2000 codestream (ISO/IEC 15444-1, A.5 and A.6)."""
    if not is_codestream(data, start):
        return
    right, lower, left, upper, tile_width, tile_height = unpack_from(">6I", data, start + 8)
    (channels,) = unpack_from(">H", data, start + 40)
    width, height = max(right - left, 0), max(lower - upper, 0)
    tiles = _parts(width, tile_width) * _parts(height, tile_height)
    _limit(tiles * max(channels, 1), CODE_BLOCKS // 10, "tiles")
    place = start
    for count, (name, place, end) in enumerate(codestream_segments(data, start)):
        _limit(count, OTHER_CHUNKS, "segments")
        if name == CODING_STYLE:
            _check_coding(data[place:end], width, height, channels, tiles)
    for count, _ in enumerate(tile_parts(data, place - 4, len(data)), 1):
        _limit(count, TILE_PARTS, "tile-parts")


def is_codestream(data: Data, start: int = 0) -> bool:
    """Whether a JPEG 2000 codestream with the segment of its size begins here."""
    return start + 42 <= len(data) and data[start : start + 4] == b"\xff\x4f\xff\x51"


def codestream_segments(data: Data, start: int) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the content of the segments before the first tile-part, and of it.

    The last one is the SOT marker of the tile-part, unless the data end before.
    """
    place, name = start + 2, 0
    while place + 4 <= len(data) and name != START_OF_TILE:
        name, length = unpack_from(">HH", data, place)
        yield name, place + 4, place + 2 + length
        place += 2 + length


def tile_parts(data: Data, place: int, end: int) -> Iterator[TilePart]:
    """The tile-parts of a JPEG 2000 codestream from the SOT marker of one on; A.4.2."""
    while place + 12 <= end and unpack_from(">H", data, place)[0] == START_OF_TILE:
        tile, length, number, count = unpack_from(">HIBB", data, place + 4)
        if length == 0:  # up to the end of the codestream, a marker that no packet contains
            marker = data.find(END_OF_CODESTREAM, place + 12, end)
            length = (marker if marker >= 0 else end + 1) - place
        if length < 12:
            return
        yield TilePart(tile, number, count, place, place + length)
        place += length


def _check_coding(style: bytes, width: int, height: int, channels: int, tiles: int) -> None:
    """Check the blocks, precincts and layers that a COD segment, without its head, asks for."""
    if len(style) < 10:
        return
    (layers,) = unpack_from(">H", style, 2)
    block_width, block_height = (1 << min(each + 2, 10) for each in style[6:8])
    blocks = _parts(width, block_width) * _parts(height, block_height) * channels
    _limit(blocks, CODE_BLOCKS, "code blocks")
    precincts = 0
    if style[0] & 1:
        for level, packed in enumerate(reversed(style[10:43])):
            across = _parts(width >> level, 1 << (packed & 15))
            precincts += channels * across * _parts(height >> level, 1 << (packed >> 4))
    levels = channels * tiles * (style[5] + 1)
    _limit(precincts + levels, CODE_BLOCKS, "precincts")
    _limit(layers * (precincts + levels), 2 * CODE_BLOCKS, "packets")


def _parts(length: int, part: int) -> int:
    return -(-length // max(part, 1))


TIFF_HEADS = (b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"II+\0", b"MM\0+")  # as Pillow accepts
CHECKS: dict[bytes, Callable[[Any], None]] = {
    b"\x89PNG\r\n\x1a\n": _check_png,
    b"\xff\xd8": _check_jpeg,
    b"GIF8": _check_gif,
    b"RIFF": _check_riff,
    b"\xff\x4f\xff\x51": _check_codestream,
    **dict.fromkeys(TIFF_HEADS, _check_tiff),
    b"P": _check_ppm,
}
