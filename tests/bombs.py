"""Small image files that take minutes or gigabytes to decode, made in code; twelve of each kind."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable

from PIL import Image

PIXELS = 14_000  # per side: 196 million


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    image.save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def small(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (64, 64), (200, 30, 90)).convert(mode)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_after_header(*chunks: bytes) -> bytes:
    data = encoded(small(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


# pixels


def png(depth: int, color: int, width: int, height: int) -> bytes:
    """A complete PNG of zeros."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    row = 1 + (width * channels * depth + 7) // 8
    packer, parts = zlib.compressobj(9), []
    block, rest = bytes(1 << 20), row * height
    while rest > 0:
        parts.append(packer.compress(block[:rest]))
        rest -= len(block)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    palette = chunk(b"PLTE", bytes(6)) if color == 3 else b""
    data = chunk(b"IDAT", b"".join(parts) + packer.flush())
    return b"\x89PNG\r\n\x1a\n" + head + palette + data + chunk(b"IEND", b"")


def resized(kind: str, form: str, old: tuple[int, ...], new: tuple[int, ...]) -> bytes:
    """A small image whose header states another size."""
    data = encoded(small("P" if kind == "GIF" else "RGB"), kind)
    return data.replace(struct.pack(form, *old), struct.pack(form, *new))


def pixels(number: int) -> bytes:
    side = PIXELS
    return [
        lambda: png(8, 6, side, side),
        lambda: png(16, 0, side, side),
        lambda: png(8, 2, 200_000, 1_000),
        lambda: png(1, 0, 30_000, 30_000),
        lambda: png(8, 3, side, side),
        lambda: png(16, 6, 10_001, 10_000),
        lambda: resized("JPEG", ">HH", (64, 64), (65_000, 65_000)),
        lambda: resized("GIF", "<HH", (64, 64), (65_000, 65_000)),
        lambda: resized("BMP", "<ii", (64, 64), (60_000, 60_000)),
        lambda: resized("JPEG2000", ">II", (64, 64), (side, side)),
        lambda: resized("AVIF", ">II", (64, 64), (side, side)),
        lambda: b"P6 20000 20000 255\n" + bytes(1000),
    ][number]()


# parts of files


def scans(number: int) -> bytes:
    """A progressive JPEG whose last scans are repeated."""
    count = [600, 65, 100, 200, 5_000, 70, 600, 90, 65, 1_000, 300, 600][number]
    size = [(3000, 2000), (64, 64), (5000, 5000), (1000, 1000)][number % 4]
    data = encoded(Image.new("RGB" if number % 3 else "L", size, 77), "JPEG", progressive=True)
    starts = [match.start() for match in re.finditer(rb"\xff\xda", data)]
    tail = data[data.rfind(b"\xff\xc4", 0, starts[-1]) : -2]
    return data[:-2] + tail * count + b"\xff\xd9"


def directories(number: int) -> bytes:
    """A TIFF or BigTIFF with many directories, or one that follows itself."""
    count = [40_000, 200_000, 101, 1_000, 300_000, 5_000, 0, 40_000, 200_000, 500, 9_000, 0][number]
    order, big = "<>"[number % 2], number >= 7
    link, entry = ("Q", 20) if big else ("I", 12)
    body = _directory(order, big)
    start, size = (16, 8 + entry * 9 + 8) if big else (8, 2 + entry * 9 + 4)
    mark = b"II" if order == "<" else b"MM"
    data = bytearray(mark + struct.pack(order + "H", 43 if big else 42))
    data += struct.pack(order + "HHQ", 8, 0, 16) if big else struct.pack(order + "I", 8)
    for index in range(max(count, 1)):
        following = start + size * (index + 1) if index + 1 < count else 0
        following = start if count == 0 else following
        data += body + struct.pack(order + link, following)
    return bytes(data) + bytes(64 * 64)


def _directory(order: str, big: bool) -> bytes:
    tags = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 64, 279: 4096}
    body = struct.pack(order + ("Q" if big else "H"), len(tags))
    for tag, value in tags.items():
        body += struct.pack(order + ("HHQQ" if big else "HHII"), tag, 16 if big else 4, 1, value)
    return body


def headers(number: int) -> bytes:
    """A PPM with megabytes of comments or white space, or decimal digits, in its header."""
    size = [50_000_000, 10_000, 5_000_000, 9_000_000][number % 4]
    magic = [b"P6", b"P5", b"P4", b"P3", b"P2", b"P1"][number % 6]
    filling = [b"#" + b"a" * size + b"\n", b"\n" * size, b"#\n" * (size // 2)][number % 3]
    parts = [magic, b"64", b"64", *([] if magic in (b"P1", b"P4") else [b"255"])]
    place = 1 + number % (len(parts) - 1)
    parts[place] = filling + parts[place]
    return b"\n".join(parts) + b"\n" + b"0 " * (64 * 64 * 3)


def metadata(number: int) -> bytes:
    """XMP, EXIF, ICC profiles and texts of many megabytes, in several formats."""
    many = 100_000_000
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + b"<a/>" * (many // 4) + b"</x:xmpmeta>"
    text = b"XML:com.adobe.xmp\0\0\0\0\0"
    app = b"\xff\xe1" + struct.pack(">H", 65_000)
    jpeg = encoded(small(), "JPEG")
    webp = encoded(small(), "WEBP")
    riff = webp[:8] + webp[8:] + b"XMP " + struct.pack("<I", many) + xmp[:many]
    return [
        lambda: png_after_header(chunk(b"iTXt", text + xmp)),
        lambda: png_after_header(*[chunk(b"tEXt", b"a\0" + bytes(10_000))] * 5_000),
        lambda: png_after_header(*[chunk(b"tEXt", b"a\0")] * 1_000_000),
        lambda: png_after_header(chunk(b"eXIf", b"II*\0" + bytes(40_000_000))),
        lambda: png_after_header(chunk(b"eXIf", overlapping(60_000))),
        lambda: jpeg[:2] + (app + b"Exif\0\0" + bytes(64_992)) * 500 + jpeg[2:],
        lambda: jpeg[:2] + (app + b"http://ns.adobe.com/xap/1.0/\0" + bytes(64_969)) * 900
        + jpeg[2:],
        lambda: jpeg[:2] + b"\xff\xfe\0\2" * 2_000_000 + jpeg[2:],
        lambda: riff,
        lambda: encoded(small(), "TIFF", tiffinfo={65_000: tuple([2**31] * 2_000_000)}),
        lambda: png_after_header(*[chunk(b"IDAT", b"")] * 2_000_000),
        lambda: gif_comments(50_000_000),
    ][number]()  # fmt: skip


def overlapping(count: int) -> bytes:
    """EXIF data of which every tag has all bytes, as numbers."""
    tags = b"".join(struct.pack("<HHII", tag, 4, 12 * count // 4, 8) for tag in range(count))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + tags + bytes(4)


def gif_comments(size: int) -> bytes:
    data = encoded(small("P"), "GIF")
    comment = b"\x21\xfe" + (b"\xff" + b"a" * 255) * (size // 256) + b"\0"
    place = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 128 else 0)
    return data[:place] + comment + data[place:]


def structures(number: int) -> bytes:
    """Tiles, items, boxes, frames and run lengths without end."""
    jp2 = encoded(small(), "JPEG2000", no_jp2=True)
    avif = encoded(small(), "AVIF")
    gif = encoded(small("P"), "GIF")
    frame = gif[gif.index(b"\x2c\0\0\0\0") : -1]
    siz = jp2.index(b"\xff\x51")
    cod = jp2.index(b"\xff\x52")

    def changed(place: int, form: str, *values: int) -> bytes:
        size = struct.calcsize(form)
        return jp2[:place] + struct.pack(form, *values) + jp2[place + size :]

    tiled = struct.pack(">8I", 9_000, 9_000, 0, 0, 1, 1, 0, 0)
    return [
        lambda: jp2[: siz + 6] + tiled + jp2[siz + 38 :],
        lambda: changed(siz + 6, ">8I", 9_000, 9_000, 0, 0, 40, 40, 0, 0),
        lambda: blocks(changed(siz + 6, ">8I", 9_000, 9_000, 0, 0, 9_000, 9_000, 0, 0), cod),
        lambda: layered(jp2, cod),
        lambda: items(avif, 60_000),
        lambda: avif[: avif[3]] + struct.pack(">I4s", 8, b"free") * 300_000 + avif[avif[3] :],
        lambda: gif[:-1] + frame * 2_000 + b";",
        lambda: gif[: -len(frame) - 1] + frame[:11] + b"\1\0" * 700_000 + b"\0;",
        lambda: encoded(small(), "WEBP") + struct.pack("<4sI", b"JUNK", 0) * 500_000,
        lambda: runs(20_000_000),
        lambda: tile_of_gigabytes(),
        lambda: jp2[:cod] + b"\xff\x64\0\4\0\1" * 300_000 + jp2[cod:],
    ][number]()


def blocks(jp2: bytes, cod: int) -> bytes:
    return jp2[: cod + 10] + b"\0\0" + jp2[cod + 12 :]  # code blocks of 4 x 4


def layered(jp2: bytes, cod: int) -> bytes:
    return jp2[: cod + 6] + struct.pack(">H", 65_535) + b"\1" + b"\x20" + jp2[cod + 10 :]


def items(avif: bytes, count: int) -> bytes:
    place = avif.index(b"iinf") - 4
    (size,) = struct.unpack_from(">I", avif, place)
    (outer,) = struct.unpack_from(">I", avif, avif.index(b"meta") - 4)
    entry = struct.pack(">I4sIHH4sB", 21, b"infe", 2 << 24, 9, 0, b"av01", 0)
    more = entry * count
    data = bytearray(avif[: place + size] + more + avif[place + size :])
    struct.pack_into(">I", data, place, size + len(more))
    struct.pack_into(">H", data, place + 12, count + 1)
    struct.pack_into(">I", data, avif.index(b"meta") - 4, outer + len(more))
    return bytes(data)


def runs(size: int) -> bytes:
    """A BMP with run lengths that end a line at once, again and again."""
    head = struct.pack("<IiiHHIIiiII", 40, 9_000, 9_000, 1, 8, 1, size, 0, 0, 0, 0)
    return (
        b"BM"
        + struct.pack("<IHHI", 0, 0, 0, 54 + 1024)
        + head
        + bytes(1024)
        + b"\0\2\0\0" * (size // 4)
    )


def tile_of_gigabytes() -> bytes:
    """A TIFF of 64 x 64 pixels in one tile of 40,000 x 40,000 zeros."""
    packed = zlib.compress(bytes(1_000_000), 9)
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1}
    tags |= {322: 40_000, 323: 40_000, 324: 8 + 2 + 12 * 10 + 4, 325: len(packed)}
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    data += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return data + bytes(4) + packed


def repetitions(number: int) -> bytes:
    """Bytes, tags, strips and boxes that decoders skip or read one by one."""
    many = 20_000_000
    jpeg, gif, jp2 = (
        encoded(small(), "JPEG"),
        encoded(small("P"), "GIF"),
        encoded(small(), "JPEG2000"),
    )
    avif, header = encoded(small(), "AVIF"), jp2.index(b"jp2h") - 4
    free = struct.pack(">I4s", 8, b"free")
    return [
        lambda: jpeg[:2] + b"\xff" * many + jpeg[2:],
        lambda: jpeg[:2] + b"\xff\0" * (many // 2) + jpeg[2:],
        lambda: jpeg[: jpeg.index(b"\xff\xda")] + bytes(many),
        lambda: jpeg[:2] + b"\xff" * many + b"\0" + jpeg[2:],
        lambda: gif[:-1] + bytes(many) + b";",
        lambda: gif[:-1] + bytes(many),
        lambda: strips(450_000),
        lambda: tags(1, 60_000),
        lambda: tags(90, 60_000),
        lambda: png_after_header(chunk(b"eXIf", tags(1, 60_000))),
        lambda: within(jp2, header, free * 1_000_000),
        lambda: within(avif, avif.index(b"meta") - 4, free * 1_000_000),
    ][number]()


def strips(count: int) -> bytes:
    """A TIFF of one row in each strip."""
    start = 8 + 2 + 12 * 9 + 4
    values = {256: 16, 257: count, 258: 8, 259: 1, 262: 1, 273: start, 277: 1, 278: 1}
    values[279] = start + 4 * count
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(values))
    for tag, value in values.items():
        number = count if tag in (273, 279) else 1
        data += struct.pack("<HHII", tag, 4, number, value)
    offsets = struct.pack("<I", start + 8 * count) * count
    return data + bytes(4) + offsets + struct.pack("<I", 16) * count + bytes(16)


def tags(directories: int, each: int) -> bytes:
    """A TIFF whose directories have many tags."""
    usual = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 64, 279: 4096}
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in usual.items())
    body += b"".join(
        struct.pack("<HHII", tag, 4, 1, 1) for tag in range(1000, 1000 + each - len(usual))
    )
    data, size = b"II*\0\x08\0\0\0", 2 + 12 * each + 4
    for number in range(directories):
        following = 8 + size * (number + 1) if number + 1 < directories else 0
        data += struct.pack("<H", each) + body + struct.pack("<I", following)
    return data + bytes(64 * 64)


def within(data: bytes, place: int, more: bytes) -> bytes:
    """A file with further bytes at the end of the box at ``place``."""
    (size,) = struct.unpack_from(">I", data, place)
    longer = struct.pack(">I", size + len(more))
    return data[:place] + longer + data[place + 4 : place + size] + more + data[place + size :]


def just_allowed(number: int) -> bytes:
    """Files that the limits allow, and whose reading is not to take longer than linear time."""
    gif, jp2 = encoded(small("P"), "GIF"), encoded(small(), "JPEG2000", no_jp2=True)
    frame = gif[gif.index(b"\x2c\0\0\0\0") : -1]
    png = encoded(small(), "PNG")
    size = struct.pack(">8I", 9_000, 9_000, 0, 0, 100, 100, 0, 0)
    siz = jp2.index(b"\xff\x51") + 6
    return [
        lambda: with_xmp(b" " * 900_000),
        lambda: with_xmp(b"<exif:GPSx b='>'/>" * 50_000),
        lambda: with_xmp(b"<a/>" * 240_000),
        lambda: with_xmp(b"<a " + b" ".join(b'b%d=""' % i for i in range(90_000)) + b"/>"),
        lambda: png_after_header(chunk(b"eXIf", covering(60_000))),
        lambda: png_after_header(chunk(b"eXIf", pointing(9_000))),
        lambda: png_after_header(chunk(b"eXIf", tags(1, 19_000)[:-4096])),
        lambda: strips(95_000),
        lambda: png[:33] + chunk(b"IDAT", b"") * 99_000 + png[33:],
        lambda: gif[: -len(frame) - 1] + frame[:11] + b"\1\0" * 590_000 + b"\0;",
        lambda: runs(5_900_000),
        lambda: jp2[:siz] + size + jp2[siz + 32 :],
    ][number]()


def with_xmp(content: bytes) -> bytes:
    """A PNG with elements in an XMP packet that has properties of the IPTC and of EXIF."""
    names = (
        b'xmlns:exif="http://ns.adobe.com/exif/1.0/" '
        b'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    )
    rdf = b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description ' + names
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + rdf + b">" + content
    packet += b"</r:Description></r:RDF></x:xmpmeta>"
    return png_after_header(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))


def covering(count: int) -> bytes:
    """EXIF data of a thumbnail in as many strips, each of which is all of the data."""
    make = struct.pack("<HHII", 0x010F, 2, 4, 0)
    first = struct.pack("<H", 1) + make + struct.pack("<I", 26)
    second = struct.pack("<HHHII", 2, 273, 4, count, 56)
    second += struct.pack("<HHII", 279, 4, count, 56 + 4 * count) + bytes(4)
    places = struct.pack("<I", 8) * count + struct.pack("<I", 8 * count) * count
    return b"II*\0\x08\0\0\0" + first + second + places


def pointing(count: int) -> bytes:
    """EXIF data with as many directories in the first one."""
    start = 8 + 2 + 12 * count + 4
    entries = [struct.pack("<HHII", 0x8769, 4, 1, start + 18 * i) for i in range(count)]
    inner = struct.pack("<HHHII", 1, 0x010F, 2, 4, 0) + bytes(4)
    return (
        b"II*\0\x08\0\0\0" + struct.pack("<H", count) + b"".join(entries) + bytes(4) + inner * count
    )


def tile_parts(number: int) -> bytes:
    """A JPEG 2000 of empty tile-parts without end, of one tile or of all of them."""
    data = encoded(small(), "JPEG2000", no_jp2=True, tile_size=(32, 32))
    start, head = data.index(b"\xff\x90"), b"\xff\x90\0\x0a"
    tiles = range(4) if number % 2 else [0]
    parts = b"".join(head + struct.pack(">HIBB", tile, 14, 0, 0) + b"\xff\x93" for tile in tiles)
    return data[:start] + parts * (100_001 * (number + 1) // len(tiles) + 1) + b"\xff\xd9"


KINDS: dict[str, Callable[[int], bytes]] = {
    each.__name__: each
    for each in (pixels, scans, directories, headers, metadata, structures, repetitions, tile_parts)
}
EACH = 12
