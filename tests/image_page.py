"""The page "Image files" (docs/images.md), whose tables are what edits of the sweep's files kept.

``python tests/image_page.py`` writes it; test_image_page.py compares it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from image_cases import METADATA, PARTS, SECRET, THUMBNAIL, Case, Seen, edited, file, seen
from test_photograph import wide

from zerocon.image import kept
from zerocon.image.formats import NAMED
from zerocon.image.metadata import Provenance
from zerocon.image.reading import Photograph

PAGE = Path(__file__).parent.parent / "docs" / "images.md"
SHOWN = {"HEIF": "HEIC", "WEBP": "WebP", "JPEG2000": "JPEG 2000"}
IDENTICAL = {
    "EXIF tags: text in any encoding, maker notes, both byte orders": ("exif II", "tags"),
    "EXIF tags next to a damaged one": ("bad tag", "tags"),
    "orientation": ("orientation 6", "orientation"),
    "XMP": ("xmp", "xmp"),
    "IPTC": ("iptc", "iptc"),
    "comment": ("comment", "comment"),
    "texts, such as `parameters` and Copyright": ("texts", "texts"),
    "color profile (ICC)": ("icc", "icc"),
    "resolution": ("resolution", "dpi"),
}
CONVERTED = {  # a part of the metadata, and a word of the warning if it is not kept
    "EXIF tags": ("tags", "exif", "EXIF"),
    "orientation": ("orientation", "exif", "orientation"),
    "XMP": ("xmp", "xmp", "XMP"),
    "IPTC": ("iptc", "iptc", "IPTC"),
    "comment of a JPEG": ("comment", "comment", "comment"),
    "texts of a PNG": ("texts", "texts", "texts"),
    "color profile (ICC)": ("icc", "icc", "profile"),
    "resolution": ("dpi", "dpi", "resolution"),
}
LINES = (
    kept.GAIN_MAP, kept.DEPTH_MAP, kept.MOTION, kept.FURTHER, kept.THUMBNAIL_PAGE, kept.LAYERS,
    kept.AUXILIARY, kept.EXTENDED, kept.CREDENTIALS,
)  # fmt: skip

INTRODUCTION = """\
# Image files

What an edit keeps of a file, and what it cannot keep. The tables are measured: each cell is an
edit that changes nothing, of a file made for it, compared tag by tag. The tests do the same with
over 400 files of all formats and pixel modes, and compare every sample.

## Same format
"""
CONVERSION = """
EXIF data are not decoded: except for orientation, GPS position and thumbnail their bytes are
those of the file. A damaged tag is left out, with a warning, and an orientation of an unusual
type (text, byte, ratio) is used and written as a number. The GPS position is also removed from
XMP and from texts; other places, such as the name of a city in IPTC or the coordinates of a
GeoTIFF, are kept. Thumbnails are removed because they show the source. zerocon's label and
[recipe](provenance.md) are added to the source's XMP. If an encoder refuses a part of the
metadata, the image is written without it, with a warning.

## Another format

`-o` with another extension converts. A file of every format with all metadata gives (columns are
the output):
"""
LOSSES = """
## What cannot be kept

One warning for each of these; the image itself is edited:
"""
READING = """
GIF, BMP, PPM and JPEG 2000 are read and written as PNG, with a warning. Animations are refused,
and so is a TIFF of several pages, unless the others are its thumbnails. 16-bit colors are reduced
to 8 bits, with a warning; 16-bit gray keeps its levels, also with a transparent one in a PNG.
JPEG files keep quantization tables and chroma subsampling, and TIFF files a lossless compression;
BigTIFF becomes TIFF. A JPEG may have any name: `.jfif`, `.jpe`, `photo.jpg_large` or no extension
stay JPEG.

A JPEG whose end is missing is refused, since its lower part is gray, and so is a JPEG 2000 of which
tiles are missing, since they are black:

zerocon edit cut.jpg --to "a dog" --lenient

edits what is there, with a warning. `--lenient` is also an option of `batch`, `caption` and
`invert`.
"""


def page() -> str:
    """The text of the page."""
    return "\n".join([*_lines(), ""])


def _lines() -> Iterator[str]:
    formats = list(NAMED)
    yield INTRODUCTION
    yield from _head("Metadata", formats)
    for name, (metadata, part) in IDENTICAL.items():
        yield _row(name, (same_format(kind, metadata, part) for kind in formats))
    for name, test in (("GPS position", position), ("EXIF thumbnail", thumbnail)):
        yield _row(name, map(test, formats))
    yield CONVERSION
    for source in ("JPEG", "PNG", "TIFF"):
        yield from _head(f"From {source}", formats)
        for name, (part, kind, word) in CONVERTED.items():
            if kind in PARTS[source]:
                yield _row(name, (converted(source, to, part, word) for to in formats))
        yield ""
    yield LOSSES.strip("\n")
    yield ""
    yield from (f"- {line}" for line in LINES)
    yield READING.rstrip("\n")


def _head(first: str, formats: list[str]) -> Iterator[str]:
    yield _row(first, (SHOWN.get(each, each) for each in formats))
    yield "|---" * (1 + len(formats)) + "|"


def _row(name: str, cells: Iterator[str] | map[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def same_format(kind: str, metadata: str, part: str) -> str:
    """What an edit of a file with this kind of metadata keeps of a part of it."""
    if not set(METADATA[metadata]) <= PARTS[kind]:
        return "-"
    if (kind, metadata) == ("AVIF", "bad tag"):  # Pillow cannot make such a file
        metadata = "exif II"
    source = file(Case(kind, "RGB", metadata), wide())
    data, _ = edited(source)
    return "kept" if _equal(seen(source), seen(data), part) else "lost"


def converted(source: str, kind: str, part: str, word: str) -> str:
    """The same for a file with all metadata, written in another format."""
    data = file(Case(source, "RGB", "all"), wide())
    result, warnings = edited(data, NAMED[kind])
    if _equal(seen(data), seen(result), part):
        return "kept"
    return "warning" if any(word in line for line in warnings) else "lost"


def position(kind: str) -> str:
    """Whether the position is removed, and kept on request."""
    data = file(Case(kind, "RGB", "gps"), wide())
    photograph = Photograph.read(data, keep_gps=True)
    asked = photograph.encode(photograph.image, kind, Provenance())
    removed = SECRET not in edited(data)[0]
    return "removed; kept with `--keep-gps`" if removed and SECRET in asked else "lost"


def thumbnail(kind: str) -> str:
    """Whether the thumbnail is removed."""
    if kind == "TIFF":  # has pages instead
        return "-"
    return (
        "removed"
        if THUMBNAIL not in edited(file(Case(kind, "RGB", "thumbnail"), wide()))[0]
        else "lost"
    )


def _equal(before: Seen, after: Seen, part: str) -> bool:
    values: list[Callable[[Seen], object]] = [lambda each: getattr(each, part)]
    if part == "tags":
        values = [lambda each: {k: v for k, v in each.tags.items() if k in TAGS}]
    if part == "xmp":
        values = [lambda each: "Zoë".encode() in each.xmp]
    return all(value(before) == value(after) for value in values)


TAGS = {
    *(("first", tag) for tag in (0x010E, 0x010F, 0x013B, 0x8298, 0x4746)),
    *(("exif", tag) for tag in (0x829A, 0x9000, 0x9204, 0x927C, 0x9286)),
}

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
