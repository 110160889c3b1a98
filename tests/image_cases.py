"""Image files of every format, mode and kind of metadata, made in code, and what an edit keeps.

EXIF data are written and read here byte by byte, apart from the code that is tested.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image, IptcImagePlugin, JpegImagePlugin, PngImagePlugin

from zerocon.image.formats import NAMED, Format
from zerocon.image.metadata import Provenance
from zerocon.image.reading import Photograph

RECIPE = '{"schema":"zerocon.recipe/2"}'
SIZE = (30, 20)
ORIENTATION, EXIF, GPS, MAKER_NOTE = 0x0112, 0x8769, 0x8825, 0x927C
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8, 12: 8}
BAD, BEYOND = 0x9C9B, 0x7FFFFFFF  # an entry, and the offset of its value
SECRET = struct.pack("<6I", 52, 1, 31, 1, 0x5EC12E7, 977)  # a position
UTF8, SHIFT_JIS = "Zoë Ä. 写真 ©".encode(), "写真".encode("shift_jis")
IIM = b"\x1c\x02\x19\0\x03fox" + b"\x1c\x02\x50\0\x04Zo\xc3\xab"  # keywords, byline
RESOURCES = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IIM)) + IIM + bytes(len(IIM) % 2)
THUMBNAIL = b"\xff\xd8 the thumbnail \xff\xd9"
XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"{more}>
<dc:creator><rdf:Seq><rdf:li>Zoë</rdf:li></rdf:Seq></dc:creator>{inside}
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""
PLAIN_XMP = XMP.format(more="", inside="").encode()
LOCATED_XMP = XMP.format(
    more=' xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="52,31N"',
    inside="\n<exif:GPSLongitude>13,24E</exif:GPSLongitude>",
).encode()

Value = tuple[int, int, bytes]  # type, count, bytes
Tags = dict[tuple[str, int], Value]


# EXIF data


@dataclass(frozen=True)
class Exif:
    """Tags of the first directory and of those inside it, in a byte order: "<" or ">"."""

    order: str = "<"
    first: tuple[tuple[int, int, bytes], ...] = ()  # tag, type, value
    exif: tuple[tuple[int, int, bytes], ...] = ()
    gps: tuple[tuple[int, int, bytes], ...] = ()
    thumbnail: bytes = b""
    bad: bool = False  # one entry whose value lies outside the data

    def encode(self) -> bytes:
        """The bytes, as in a JPEG."""
        head = b"II*\0\x08\0\0\0" if self.order == "<" else b"MM\0*\0\0\0\x08"
        return b"Exif\0\0" + head + self.directories(8)

    def directories(self, begin: int, more: Mapping[int, bytes] = MappingProxyType({})) -> bytes:
        """The directories at an offset, with ``more`` entries as they are in a file."""
        entries = list(self.first)
        inner = {EXIF: self.exif, GPS: self.gps}
        entries += [(tag, 4, b"") for tag, part in inner.items() if part]
        entries += [(BAD, 1, b"bad value")] * self.bad
        entries += [(tag, 0, b"") for tag in more]
        entries.sort()
        body, table = b"", struct.pack(self.order + "H", len(entries))
        end = begin + 2 + 12 * len(entries) + 4
        for tag, kind, value in entries:
            if tag in more:
                table += more[tag]
                continue
            if inner.get(tag):
                place = end + len(body)
                body += self._directory(inner[tag], place)
                value = struct.pack(self.order + "I", place)
            stored = value.ljust(4, b"\0")
            if len(value) > 4:
                place = BEYOND if tag == BAD else end + len(body)
                stored = struct.pack(self.order + "I", place)
                body += value + bytes(len(value) % 2)
            table += struct.pack(self.order + "HHI", tag, kind, len(value) // WIDTHS[kind]) + stored
        following = end + len(body) if self.thumbnail else 0
        if self.thumbnail:
            start = following + 2 + 12 * 2 + 4
            numbers = [(513, 4, start), (514, 4, len(self.thumbnail))]
            parts = [struct.pack(self.order + "HHII", tag, k, 1, n) for tag, k, n in numbers]
            body += struct.pack(self.order + "H", 2) + b"".join(parts) + bytes(4) + self.thumbnail
        return table + struct.pack(self.order + "I", following) + body

    def for_tiff(self) -> Exif:
        """The same tags as a TIFF of Pillow has them: little-endian, without a thumbnail."""
        parts = {
            name: tuple(
                (tag, kind, swapped(value, kind) if self.order == ">" else value)
                for tag, kind, value in getattr(self, name)
            )
            for name in ("first", "exif", "gps")
        }
        return replace(self, order="<", thumbnail=b"", **parts)

    def _directory(self, entries: tuple[tuple[int, int, bytes], ...], start: int) -> bytes:
        end = start + 2 + 12 * len(entries) + 4
        table, body = struct.pack(self.order + "H", len(entries)), b""
        for tag, kind, value in entries:
            stored = value.ljust(4, b"\0")
            if len(value) > 4:
                stored = struct.pack(self.order + "I", end + len(body))
                body += value + bytes(len(value) % 2)
            table += struct.pack(self.order + "HHI", tag, kind, len(value) // WIDTHS[kind]) + stored
        return table + bytes(4) + body


def tags(exif: bytes) -> Tags:
    """The tags of EXIF data or of a TIFF, by directory, with values in little-endian order."""
    data = exif.removeprefix(b"Exif\0\0")
    if not data:
        return {}
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack(order + "I", data[4:8])
    result: Tags = {}
    _collect(data, order, start, "first", result)
    return result


def _collect(data: bytes, order: str, start: int, name: str, result: Tags) -> None:
    (count,) = struct.unpack_from(order + "H", data, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", data, place)
        length = number * WIDTHS.get(kind, 1)
        (offset,) = struct.unpack_from(order + "I", data, place + 8)
        if tag in (EXIF, GPS):
            _collect(data, order, offset, "exif" if tag == EXIF else "gps", result)
            continue
        value = data[offset : offset + length] if length > 4 else data[place + 8 :][:length]
        result[name, tag] = (kind, number, swapped(value, kind) if order == ">" else value)


def swapped(value: bytes, kind: int) -> bytes:
    """A value in the other byte order."""
    unit = {3: 2, 4: 4, 5: 4, 9: 4, 10: 4, 12: 8}.get(kind, 1)
    return b"".join(value[at : at + unit][::-1] for at in range(0, len(value), unit))


def camera(order: str) -> Exif:
    """Tags of every usual type, with text in several encodings and notes of a maker."""
    pack = struct.pack
    return Exif(
        order,
        (
            (0x010E, 2, SHIFT_JIS + b"\0"), (0x010F, 2, b"Cam\0"), (0x013B, 2, UTF8 + b"\0"),
            (0x8298, 2, b"\xa9 Zo\xeb\0"), (0x4746, 3, pack(order + "H", 4)),
        ),
        (
            (0x829A, 5, pack(order + "2I", 1, 100)), (0x9000, 7, b"0232"),
            (0x9204, 10, pack(order + "2i", -1, 3)), (MAKER_NOTE, 7, bytes(range(7, 60))),
            (0x9286, 7, b"UNICODE\0" + "写真".encode("utf-16-le")),
        ),
    )  # fmt: skip


# files


@dataclass(frozen=True)
class Case:
    """A file: its format, mode and kind of metadata."""

    kind: str
    mode: str
    metadata: str

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.mode}-{self.metadata}"


METADATA: dict[str, dict[str, Any]] = {
    "none": {},
    "exif II": {"exif": camera("<")},
    "exif MM": {"exif": camera(">")},
    "gps": {"exif": replace(camera("<"), gps=((1, 2, b"N\0"), (2, 5, SECRET)))},
    "gps MM": {"exif": replace(camera(">"), gps=((1, 2, b"N\0"), (2, 5, SECRET)))},
    "thumbnail": {"exif": replace(camera("<"), thumbnail=THUMBNAIL)},
    "bad tag": {"exif": replace(camera(">"), bad=True)},
    "orientation 3": {"exif": Exif(">", ((ORIENTATION, 3, b"\0\x03"),))},
    "orientation 6": {"exif": Exif("<", ((ORIENTATION, 3, b"\x06\0"),))},
    "orientation 7": {"exif": Exif(">", ((ORIENTATION, 3, b"\0\x07"),))},
    "orientation as text": {"exif": Exif(">", ((ORIENTATION, 2, b"6\0"),))},
    "orientation as ratio": {"exif": Exif("<", ((ORIENTATION, 5, struct.pack("<2I", 8, 1)),))},
    "orientation as byte": {"exif": Exif(">", ((ORIENTATION, 1, b"\3"),))},
    "orientation undefined": {"exif": Exif(">", ((ORIENTATION, 7, b"\6\0\0\0"),))},
    "xmp": {"xmp": PLAIN_XMP},
    "xmp gps": {"xmp": LOCATED_XMP},
    "iptc": {"iptc": RESOURCES},
    "comment": {"comment": UTF8},
    "texts": {"texts": {"parameters": "a fox, seed: 1", "Copyright": "Zoë 写真"}},
    "icc": {"icc": True},
    "resolution": {"dpi": (300, 300)},
    "all": {
        "exif": replace(
            camera(">"), first=(*camera(">").first, (ORIENTATION, 3, b"\0\6")),
            gps=((2, 5, SECRET),), thumbnail=THUMBNAIL,
        ),
        "xmp": LOCATED_XMP, "iptc": RESOURCES, "comment": UTF8, "icc": True, "dpi": (300, 300),
        "texts": {"parameters": "a fox, seed: 1"},
    },
}  # fmt: skip
PARTS = {  # kinds of metadata that a format can have
    "PNG": {"exif", "xmp", "iptc", "texts", "icc", "dpi"},
    "JPEG": {"exif", "xmp", "iptc", "comment", "icc", "dpi"},
    "WEBP": {"exif", "xmp", "icc"},
    "TIFF": {"exif", "xmp", "iptc", "icc", "dpi"},
    "AVIF": {"exif", "xmp", "icc"},
    "HEIF": {"exif", "xmp", "icc"},
    "GIF": {"comment"}, "BMP": set(), "PPM": set(), "JPEG2000": set(),
}  # fmt: skip
MODES = {
    **{name: format.modes for name, format in NAMED.items()},
    "PNG": (*NAMED["PNG"].modes, "I;16 key"),
    "WEBP": ("RGB", "RGBA", "RGB lossy"),
    "GIF": ("P",), "BMP": ("1", "L", "P", "RGB"), "PPM": ("1", "L", "RGB", "I;16"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA"),
}  # fmt: skip
LOSSY = {"JPEG", "AVIF", "HEIF"}


# encoders take it from the EXIF data and write it elsewhere, where it has one type
CONTAINED = {"AVIF", "HEIF"}
TYPED = {name for name in METADATA if name.startswith("orientation ") and not name[-1].isdigit()}


# TIFF is little-endian here, and Pillow encodes the EXIF data of AVIF again
UNMADE = {("TIFF", "exif MM"), ("TIFF", "gps MM"), ("TIFF", "thumbnail"), ("AVIF", "bad tag")}


def cases(*, heic: bool) -> Iterator[Case]:
    """All files; ``heic`` where they can be written."""
    for kind, modes in MODES.items():
        for mode in modes if heic or kind != "HEIF" else ():
            for name, parts in METADATA.items():
                if (kind in CONTAINED and name in TYPED) or (kind, name) in UNMADE:
                    continue
                if set(parts) <= PARTS[kind] or (name == "all" and len(PARTS[kind]) > 1):
                    yield Case(kind, mode, name)


def noise(mode: str) -> Image.Image:
    """Random samples of the whole range, with opaque, transparent and partial alpha."""
    rng, (width, height) = np.random.default_rng(0), SIZE
    values = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    values[:5, :, 3], values[5:10, :, 3] = 0, 255
    if mode.startswith("I;16"):
        deep = rng.integers(0, 65536, (height, width), dtype=np.uint16)
        deep[0, 0] = 777
        return Image.fromarray(deep)
    image = Image.fromarray(values)
    if mode == "PA":
        return image.quantize(50)
    if mode == "P":
        return image.convert("RGB").quantize(50)
    mode = mode.removesuffix(" lossy")
    return image.convert("RGB").convert(mode) if mode == "CMYK" else image.convert(mode)


def file(case: Case, profile: bytes) -> bytes:
    """The bytes of a file; ``profile`` is an ICC profile for RGB and gray."""
    parts = {n: v for n, v in METADATA[case.metadata].items() if n in PARTS[case.kind]}
    image, options = noise(case.mode), _options(case)
    if "icc" in parts and case.mode != "CMYK":
        options["icc_profile"] = profile
    options |= {name: parts[name] for name in ("dpi",) if name in parts}
    if case.kind == "TIFF":
        return _tiff(image, parts, **options)
    if "exif" in parts:
        options["exif"] = parts["exif"].encode()
    if "comment" in parts:
        options["comment"] = parts["comment"]
    if case.kind == "PNG":
        options["pnginfo"] = _texts(parts)
    elif "xmp" in parts:
        options["xmp"] = parts["xmp"]
    if case.kind == "JPEG" and "iptc" in parts:
        content = b"Photoshop 3.0\0" + parts["iptc"]
        options["extra"] = b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
    return _saved(image, case.kind, **options)


def _options(case: Case) -> dict[str, Any]:
    if case.kind == "WEBP":
        return {} if "lossy" in case.mode else {"lossless": True, "exact": True}
    if case.kind == "JPEG2000":
        return {"irreversible": False}
    return {"transparency": 777} if case.mode == "I;16 key" else {}


def _texts(parts: dict[str, Any]) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for keyword, text in parts.get("texts", {}).items():
        chunks.add_itxt(keyword, text)
        chunks.add_text(f"{keyword} 2", "compressed", zip=True)
    if "xmp" in parts:
        chunks.add_itxt("XML:com.adobe.xmp", parts["xmp"].decode())
    if "iptc" in parts:
        digits = parts["iptc"].hex()
        chunks.add_text("Raw profile type iptc", f"\niptc\n {len(parts['iptc'])}\n{digits}\n")
    return chunks


def _tiff(image: Image.Image, parts: dict[str, Any], **options: Any) -> bytes:
    """A TIFF of Pillow with a new first directory at its end."""
    data = _saved(image, "TIFF", **options)
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    places = range(start + 2, start + 2 + 12 * count, 12)
    layout = {
        struct.unpack_from("<H", data, place)[0]: data[place : place + 12] for place in places
    }
    exif = parts.get("exif", Exif()).for_tiff()
    packets = [(700, 1, parts["xmp"])] if "xmp" in parts else []
    packets += [(33723, 7, IIM), (34377, 1, parts["iptc"])] if "iptc" in parts else []
    data += bytes(len(data) % 2)
    exif = replace(exif, first=(*exif.first, *packets))
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + exif.directories(len(data), layout)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    NAMED[kind].require() if kind in NAMED else None
    image.save(data := io.BytesIO(), format=kind, **options)
    return data.getvalue()


# comparison


@dataclass(frozen=True)
class Seen:
    """What a file contains, read by Pillow and ``tags``."""

    samples: np.ndarray[Any, Any]
    mode: str
    tags: Tags
    xmp: bytes
    iptc: dict[tuple[int, int], Any]
    comment: bytes
    texts: dict[str, str]
    icc: bytes | None
    dpi: tuple[float, float] | None
    orientation: int


OWN_TEXTS = {"zerocon", "XML:com.adobe.xmp", "Raw profile type iptc", "Comment"}


def seen(data: bytes) -> Seen:
    """The content of a file, which may be damaged."""
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
        exif = _raw_exif(image, data)
        texts = dict(getattr(image, "text", {}))
        stored = Photograph.read(data, keep_gps=True)
        iptc = IptcImagePlugin.getiptcinfo(image) or {}
        if "Raw profile type iptc" in texts:
            irb = bytes.fromhex("".join(texts["Raw profile type iptc"].split()[2:]))
            iptc = _iptc_of(irb)
        packet = image.info.get("xmp") or texts.get("XML:com.adobe.xmp", "").encode()
        comment = image.info.get("comment") or texts.get("Comment", "").encode()
        dpi = image.info.get("dpi")
        return Seen(
            samples(image), stored.mode, tags(exif), packet, dict(iptc), comment,
            {name: str(text) for name, text in texts.items() if name not in OWN_TEXTS},
            image.info.get("icc_profile"), dpi and tuple(round(float(x)) for x in dpi),
            stored.orientation,
        )  # fmt: skip


def samples(image: Image.Image) -> np.ndarray[Any, Any]:
    """The samples of a file as Pillow decodes it; palettes as RGBA."""
    image.load()
    pixels = image.convert("RGBA") if image.mode == "P" else image
    return np.asarray(pixels).astype(np.int64)


def _raw_exif(image: Image.Image, data: bytes) -> bytes:
    if image.format == "TIFF":
        return data
    if image.format == "AVIF":  # Pillow encodes ``info``'s again
        return bytes(image._decoder.get_info()[4] or b"")  # type: ignore[attr-defined]
    return bytes(image.info.get("exif") or b"")


def _iptc_of(irb: bytes) -> dict[tuple[int, int], Any]:
    content = b"Photoshop 3.0\0" + irb
    extra = b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
    data = _saved(Image.new("L", (16, 16)), "JPEG", extra=extra)
    with Image.open(io.BytesIO(data)) as image:
        return dict(IptcImagePlugin.getiptcinfo(image) or {})


def edited(data: bytes, format: Format | None = None) -> tuple[bytes, tuple[str, ...]]:
    """A file after an edit that changes nothing, as the commands write it, and the warnings."""
    photograph = Photograph.read(data)
    format = format or NAMED.get(photograph.kind, NAMED["PNG"])
    before = photograph.warnings + photograph.format_warnings(format)
    written = photograph.write(photograph.image, format, Provenance(RECIPE))
    return written.data, before + written.warnings


def expected_samples(case: Case, source: bytes) -> np.ndarray[Any, Any]:
    """The samples of the source, encoded once more where the format is lossy."""
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(source)) as image:
        stored = Photograph.read(source).stored
        lossy = case.kind in LOSSY or "lossy" in case.mode
        if not lossy:
            return seen(source).samples
        options = dict(NAMED[case.kind].options)
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            sampling = max(JpegImagePlugin.get_sampling(image), 0)
            options = {"qtables": image.quantization, "subsampling": sampling}
        if case.kind == "HEIF" and "exif" in METADATA[case.metadata]:
            options["exif"] = METADATA[case.metadata]["exif"].encode()  # turns the image
        if stored.mode == "L":
            options.pop("subsampling", None) if case.kind == "AVIF" else None
        again = _saved(stored, case.kind, **options)
    with Image.open(io.BytesIO(again)) as image:
        return samples(image)
