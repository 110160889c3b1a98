"""Image files before and after an edit: size, mode, orientation, color space, alpha, metadata.

Every file is made in code and read back by Pillow.
"""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient
from PIL import Image, ImageOps, JpegImagePlugin

import zerocon
from zerocon.cli import main, stdio
from zerocon.errors import MissingError, OutputFormatError, UnreadableImageError
from zerocon.image.color import FADE, ColorSpace, off_white, on_white
from zerocon.image.formats import FORMATS, NAMED, format_named
from zerocon.image.reading import Photograph, peek

ORIENTATION, MAKE, GPS, EXPOSURE = 0x0112, 0x010F, 0x8825, 0x829A
EXACT: dict[str, dict[str, Any]] = {
    "PNG": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True, "exact": True},
}


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def decoded(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    """Pixel values; palettes as RGBA."""
    return np.asarray(image.convert("RGBA") if image.mode == "P" else image)


def noise(mode: str, width: int = 30, height: int = 20) -> Image.Image:
    """Random values of the whole range, with opaque, transparent and partial alpha."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    values[:5, :, 3], values[5:10, :, 3] = 0, 255
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (height, width), dtype=np.uint16))
    image = Image.fromarray(values)
    if mode == "PA":
        return image.quantize(50)
    if mode == "P":
        return image.convert("RGB").quantize(50)
    return image.convert("RGB").convert(mode) if mode == "CMYK" else image.convert(mode)


def exif(orientation: int = 1) -> bytes:
    data = Image.Exif()
    data[ORIENTATION], data[MAKE] = orientation, "Camera"
    data.get_ifd(0x8769)[EXPOSURE] = 0.01
    data.get_ifd(GPS)[1] = "N"
    data.get_ifd(GPS)[2] = (10.0, 20.0, 30.0)
    return data.tobytes()


def wide() -> bytes:
    """An ICC profile with a wider gamut than sRGB (Adobe RGB's primaries, gamma 2.2)."""

    def fixed(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, 563)
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + bytes(79),
        b"wtpt": fixed(0.9642, 1, 0.8249),
        b"rXYZ": fixed(0.60974, 0.31111, 0.01947),
        b"gXYZ": fixed(0.20528, 0.62567, 0.06087),
        b"bXYZ": fixed(0.14919, 0.06322, 0.74457),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4x", start + len(body)) + b"\x02\x40\0\0mntrRGB XYZ " + bytes(12)
    head += b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)[8:]
    return head.ljust(128, b"\0") + table + body


# pixels


@pytest.mark.parametrize("profile", [None, wide()], ids=["plain", "wide"])
@pytest.mark.parametrize(
    ("kind", "mode"),
    [(kind, mode) for kind in EXACT for mode in NAMED[kind].modes],
)
def test_an_unchanged_image_is_written_with_the_same_pixels(
    kind: str, mode: str, profile: bytes | None
) -> None:
    source = noise(mode)
    options = EXACT[kind] | ({"icc_profile": profile} if profile else {})
    photograph = Photograph.read(encoded(source, kind, **options))
    assert (photograph.mode, photograph.image.mode) == (mode, "RGB")
    back = decoded(photograph.encode(photograph.image, NAMED[kind]))
    assert (back.mode, back.size) == (source.mode, source.size)
    assert np.array_equal(pixels(back), pixels(source))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_an_image_is_edited_upright_and_written_in_its_orientation(
    kind: str, orientation: int
) -> None:
    options = EXACT[kind] if kind == "WEBP" else {}
    data = encoded(gradient(96, 64), kind, exif=exif(orientation), **options)
    photograph = Photograph.read(data)
    upright = ImageOps.exif_transpose(decoded(data))
    assert np.array_equal(photograph.image, upright.convert("RGB"))
    edited = ImageOps.invert(photograph.image)
    back = photograph.encode(edited, NAMED[kind])
    with Image.open(io.BytesIO(back)) as image, Image.open(io.BytesIO(data)) as before:
        assert image.size == before.size
        if kind == "TIFF":  # Pillow reports the size after turning it upright
            assert (image.tag_v2[256], image.tag_v2[257]) == (96, 64)
        else:
            assert image.size == (96, 64)
        assert image.getexif().get(ORIENTATION, 1) == orientation
    written = ImageOps.exif_transpose(decoded(back)).convert("RGB")
    assert np.abs(np.asarray(written, int) - np.asarray(edited, int)).mean() < 3


@pytest.mark.parametrize("orientation", [*range(1, 9), 99])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_the_header_tells_the_size_of_the_upright_image(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    path = tmp_path / "cat"
    path.write_bytes(encoded(gradient(96, 64), kind, exif=exif(orientation)))
    assert peek(path) == Photograph.read(path).image.size
    assert sorted(peek(path) or ()) == [64, 96]


def stored_place(photograph: Photograph, box: tuple[int, int, int, int]) -> np.ndarray[Any, Any]:
    """Whether each stored pixel is in a box of the upright image."""
    numbers = Image.fromarray(np.arange(np.prod(photograph.size), dtype=np.int32).reshape(
        photograph.size[::-1]
    ))  # fmt: skip
    numbers.getexif()[ORIENTATION] = photograph.orientation
    inside = np.asarray(ImageOps.exif_transpose(numbers).crop(box))
    return np.isin(np.asarray(numbers), inside)


def samples(image: Image.Image) -> tuple[bytes, list[int] | None, dict[str | tuple[int, int], Any]]:
    """Everything that an image consists of."""
    return image.tobytes(), image.getpalette(), image.info


FILES = [
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16")),
    *(("TIFF", mode) for mode in NAMED["TIFF"].modes),
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("profile", [None, wide()], ids=["plain", "wide"])
@pytest.mark.parametrize(("kind", "mode"), FILES)
def test_outside_the_edit_every_stored_sample_is_kept(
    kind: str, mode: str, profile: bytes | None, orientation: int
) -> None:
    options = EXACT.get(kind, {}) | ({"icc_profile": profile} if profile else {})
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    photograph = Photograph.read(encoded(noise(mode), kind, exif=tags.tobytes(), **options))
    assert photograph.mode == mode and photograph.orientation == orientation
    stored, edited = photograph.stored, photograph.image.copy()
    edited.info["comment"] = "of the edit"
    info = dict(edited.info)
    assert samples(photograph.restore(edited)) == samples(stored)

    box = (3, 4, 16, 11)
    edited.paste(ImageOps.invert(edited.crop(box)), box)
    edited.putpixel((5, 6), photograph.image.getpixel((5, 6)))
    back = photograph.restore(edited)
    assert (back.mode, back.size) == (stored.mode, stored.size)
    inside = stored_place(photograph, box) & ~stored_place(photograph, (5, 6, 6, 7))
    before, after = np.asarray(stored), np.asarray(back)
    assert np.array_equal(before[~inside], after[~inside])
    assert not np.array_equal(before[inside], after[inside])
    assert np.array_equal(pixels(stored)[~inside], pixels(back)[~inside])
    assert edited.info == info


SIZES = [(16, 16), (17, 170), (170, 17), (101, 67)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("kind", "mode"), [(f.name, mode) for f in FORMATS if f.name != "HEIF" for mode in f.modes]
)
def test_an_edited_image_has_the_size_and_mode_of_its_source(
    kind: str, mode: str, size: tuple[int, int]
) -> None:
    photograph = Photograph.read(encoded(noise(mode, *size), kind))
    edited = gradient(*size)
    back = Photograph.read(photograph.encode(edited, NAMED[kind]))
    assert (back.kind, back.mode, back.size) == (kind, photograph.mode, size)
    if mode == "RGB":
        assert np.abs(np.asarray(back.image, int) - np.asarray(edited, int)).mean() < 3
    if kind in ("PNG", "TIFF") and mode in ("RGBA", "LA", "PA"):
        alpha = [each.stored.convert("RGBA").getchannel("A") for each in (back, photograph)]
        assert np.array_equal(*alpha)


def test_a_large_photograph() -> None:
    large = gradient(60, 40).resize((6000, 4000))
    photograph = Photograph.read(encoded(large, "JPEG", exif=exif(8)))
    assert photograph.image.size == (4000, 6000)
    assert decoded(photograph.encode(photograph.image, NAMED["JPEG"])).size == (6000, 4000)


# metadata


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("keep", [False, True])
def test_metadata_is_kept_and_the_gps_position_only_on_request(kind: str, keep: bool) -> None:
    data = encoded(gradient(40, 30), kind, exif=exif(6), icc_profile=wide(), dpi=(300, 300))
    photograph = Photograph.read(data, keep_gps=keep)
    back = photograph.encode(photograph.image, NAMED[kind])
    with Image.open(io.BytesIO(back)) as image:
        tags = image.getexif()
        assert (tags[MAKE], tags.get_ifd(0x8769)[EXPOSURE]) == ("Camera", 0.01)
        assert tags.get_ifd(GPS) == ({1: "N", 2: (10.0, 20.0, 30.0)} if keep else {})
        assert (b"GPS" in back, image.info["icc_profile"]) == (False, wide())
        if kind in ("PNG", "JPEG", "TIFF"):
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_the_thumbnail_is_removed() -> None:
    ifd = struct.pack(">HHHII", 1, MAKE, 2, 4, int.from_bytes(b"Cam\0")) + struct.pack(">I", 26)
    small = encoded(gradient(16, 16), "JPEG")
    entries = [(0x0103, 3, 1, 6 << 16), (0x0201, 4, 1, 68), (0x0202, 4, 1, len(small))]
    second = struct.pack(">H", 3) + b"".join(struct.pack(">HHII", *each) for each in entries)
    data = b"Exif\0\0MM\0*\0\0\0\x08" + ifd + second + bytes(4)
    data = data.ljust(6 + 68, b"\0") + small
    source = encoded(gradient(40, 30), "JPEG", exif=data)
    assert small in source
    photograph = Photograph.read(source)
    back = photograph.encode(photograph.image, NAMED["JPEG"])
    assert small not in back and b"Cam" in back


def test_a_tiff_written_as_jpeg_keeps_its_exif_without_the_layout_tags() -> None:
    photograph = Photograph.read(encoded(gradient(40, 30), "TIFF", exif=exif(6)))
    back = decoded(photograph.encode(photograph.image, NAMED["JPEG"]))
    tags = back.getexif()
    assert (tags[MAKE], tags[ORIENTATION], back.size) == ("Camera", 6, (40, 30))
    assert set(tags) == {MAKE, ORIENTATION, 0x8769}


def test_a_tiff_is_compressed_also_with_exif_directories() -> None:
    for data, compression in ((exif(), "tiff_adobe_deflate"), (b"", "tiff_adobe_deflate")):
        photograph = Photograph.read(encoded(gradient(40, 30), "PNG", exif=data))
        assert photograph.format_warnings(NAMED["TIFF"]) == ()
        back = photograph.encode(photograph.image, NAMED["TIFF"])
        with Image.open(io.BytesIO(back)) as image:
            assert image.info["compression"] == compression
            assert image.getexif().get_ifd(0x8769).get(EXPOSURE) == (0.01 if data else None)


@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [40, 92])
def test_a_jpeg_keeps_its_quality_and_subsampling(quality: int, sampling: int) -> None:
    data = encoded(gradient(64, 48), "JPEG", quality=quality, subsampling=sampling)
    photograph = Photograph.read(data)
    with (
        Image.open(io.BytesIO(data)) as before,
        Image.open(io.BytesIO(photograph.encode(photograph.image, NAMED["JPEG"]))) as after,
    ):
        assert isinstance(before, JpegImagePlugin.JpegImageFile)
        assert isinstance(after, JpegImagePlugin.JpegImageFile)
        assert after.quantization == before.quantization
        assert JpegImagePlugin.get_sampling(after) == sampling


def test_a_lossless_file_stays_lossless() -> None:
    source = noise("RGB")
    for options, exact in (({"lossless": True}, True), ({}, False)):
        photograph = Photograph.read(encoded(source, "WEBP", exif=exif(), **options))
        back = decoded(photograph.encode(source, NAMED["WEBP"]))
        assert np.array_equal(back, source) == exact
    photograph = Photograph.read(encoded(noise("1"), "TIFF", compression="group4"))
    back = decoded(photograph.encode(photograph.image, NAMED["TIFF"]))
    assert back.info["compression"] == "group4"


# colors


def test_a_color_profile_is_applied_in_both_directions() -> None:
    stored = Image.new("RGB", (20, 20), (0, 200, 0))
    photograph = Photograph.read(encoded(stored, "PNG", icc_profile=wide()))
    red, green, _ = photograph.image.getpixel((3, 3))
    assert red == 0 and green > 200  # outside the gamut of sRGB
    edited = Image.new("RGB", (20, 20), (200, 100, 50))
    back = photograph.encode(edited, NAMED["PNG"])
    assert decoded(back).getpixel((3, 3)) != (200, 100, 50)
    read_back = np.asarray(Photograph.read(back).image, int)
    assert np.abs(read_back - np.asarray(edited, int)).max() <= 2
    # another format keeps the profile
    jpeg = Photograph.read(photograph.encode(edited, NAMED["JPEG"]))
    assert jpeg.profile == wide()
    assert np.abs(np.asarray(jpeg.image, int) - np.asarray(edited, int)).max() <= 4


def test_out_of_gamut_colors_fade_to_the_edit_without_a_step() -> None:
    space = ColorSpace(wide(), "RGB")
    stored = Image.new("RGB", (FADE + 1, 1), (0, 200, 0))
    srgb = np.asarray(space.to_srgb(stored)).copy()
    edited = srgb.copy()
    edited[0, :, 2] = srgb[0, :, 2] + np.arange(FADE + 1)
    carried = np.asarray(space.carry(stored, Image.fromarray(edited)), int)
    assert carried[0, 0].tolist() == [0, 200, 0]
    last = space.from_srgb(Image.fromarray(edited[:, -1:])).getpixel((0, 0))
    assert carried[0, -1].tolist() == list(last)
    assert np.abs(np.diff(carried[0], axis=0)).max() <= 8  # no step


def test_16_bit_gray_keeps_its_levels_where_little_changes() -> None:
    ramp = np.tile(np.arange(30000, 30000 + 600, dtype=np.uint16), (20, 1))
    photograph = Photograph.read(encoded(Image.fromarray(ramp), "PNG"))
    brighter = photograph.image.point(lambda value: value + 1)
    back = np.asarray(decoded(photograph.encode(brighter, NAMED["PNG"])), int)
    assert (np.diff(back[0]) >= 0).all() and len(np.unique(back)) > 300
    assert np.abs(back - ramp - 257).max() <= 257 / FADE + 1


def test_cmyk_is_edited_in_srgb_and_written_as_cmyk() -> None:
    ink = Image.new("CMYK", (20, 20), (0, 0, 0, 255))
    photograph = Photograph.read(encoded(ink, "TIFF"))
    assert photograph.image.getpixel((3, 3)) == (0, 0, 0)
    assert photograph.restore(photograph.image).getpixel((3, 3)) == (0, 0, 0, 255)
    white = photograph.restore(Image.new("RGB", (20, 20), "white"))
    assert white.getpixel((3, 3)) == (0, 0, 0, 0)
    assert photograph.format_warnings(NAMED["JPEG"]) == ()
    assert photograph.format_warnings(NAMED["PNG"]) == ("CMYK is converted to sRGB in PNG",)
    assert decoded(photograph.encode(photograph.image, NAMED["PNG"])).mode == "RGB"


def test_an_unusable_profile_is_ignored_with_a_warning() -> None:
    for mode, profile, word in (
        ("RGB", b"rubbish" * 40, "damaged"),
        ("CMYK", wide(), "RGB profile"),
    ):
        photograph = Photograph.read(encoded(noise(mode), "TIFF", icc_profile=profile))
        (warning,) = photograph.warnings
        assert word in warning and photograph.profile is None
    gray = Photograph.read(encoded(noise("L"), "PNG", icc_profile=wide()))
    assert (gray.warnings, gray.profile) == ((), wide())


# alpha


def test_transparent_images_are_edited_on_white_and_keep_their_alpha() -> None:
    logo = np.zeros((20, 30, 4), np.uint8)
    logo[..., 0], logo[:, :10, 3], logo[:, 10:20, 3] = 200, 255, 128  # red; then half; then none
    photograph = Photograph.read(encoded(Image.fromarray(logo), "PNG"))
    assert photograph.image.getpixel((25, 3)) == (255, 255, 255)
    blue = Image.new("RGB", (10, 20), (0, 0, 200))
    edited = photograph.image.copy()
    edited.paste(blue, (0, 0))
    edited.paste(on_white(blue, Image.new("L", blue.size, 128)), (10, 0))
    edited.paste("black", (20, 0, 30, 20))  # no effect on transparent pixels
    back = np.asarray(decoded(photograph.encode(edited, NAMED["PNG"])), int)
    assert np.array_equal(back[..., 3], logo[..., 3])
    assert np.abs(back[:, :20, :3] - (0, 0, 200)).max() <= 1
    assert (back[:, 20:, :3] == (200, 0, 0)).all()


def test_off_white_is_the_inverse_of_on_white() -> None:
    colors, alpha = noise("RGB"), noise("RGBA").getchannel("A")
    assert np.array_equal(off_white(on_white(colors, alpha), colors, alpha), colors)


def test_transparency_written_as_jpeg_becomes_white_with_a_warning() -> None:
    photograph = Photograph.read(encoded(Image.new("RGBA", (20, 20), (9, 9, 9, 0)), "PNG"))
    assert photograph.format_warnings(NAMED["JPEG"]) == (
        "JPEG has no transparency: transparent pixels become white",
    )
    back = decoded(photograph.encode(photograph.image, NAMED["JPEG"]))
    assert (back.mode, back.getpixel((3, 3))) == ("RGB", (255, 255, 255))
    for kind in ("WEBP", "TIFF", "AVIF"):
        assert photograph.format_warnings(NAMED[kind]) == ()
        assert decoded(photograph.encode(photograph.image, NAMED[kind])).mode == "RGBA"


@pytest.mark.parametrize(("mode", "key"), [("RGB", (9, 9, 9)), ("L", 9), ("1", 0)])
def test_a_transparent_color_becomes_alpha(mode: str, key: Any) -> None:
    image = Image.new(mode, (20, 20), 1)
    image.paste(key, (0, 0, 10, 20))
    photograph = Photograph.read(encoded(image, "PNG", transparency=key))
    assert photograph.mode == ("RGBA" if mode == "RGB" else "LA")
    alpha = np.asarray(photograph.stored.getchannel("A"))
    assert (alpha[:, :10] == 0).all() and (alpha[:, 10:] == 255).all()


# palettes


def indexed(colors: list[tuple[int, ...]], rows: list[list[int]]) -> Photograph:
    """A PNG of these RGB or RGBA palette entries; each index covers 16x16 pixels."""
    image = Image.fromarray(np.kron(rows, np.ones((16, 16))).astype(np.uint8)).convert("P")
    image.putpalette([value for color in colors for value in color[:3]])
    alpha = {"transparency": bytes(color[3] for color in colors)} if len(colors[0]) == 4 else {}
    return Photograph.read(encoded(image, "PNG", **alpha))


def restored(photograph: Photograph, *patches: tuple[Any, tuple[int, int]]) -> Image.Image:
    """``restore`` after painting patches of 16x16 pixels, each a color and its (column, row)."""
    edited = photograph.image.copy()
    for color, (column, row) in patches:
        patch = color if isinstance(color, Image.Image) else Image.new("RGB", (16, 16), color)
        edited.paste(patch, (16 * column, 16 * row))
    return photograph.restore(edited)


def entries(image: Image.Image) -> list[list[int]]:
    """A palette's entries, RGB or RGBA."""
    colors = np.reshape(image.getpalette(), (-1, 3))
    alpha = image.info.get("transparency")
    if alpha is None:
        return colors.tolist()
    full = alpha.ljust(len(colors), b"\xff")
    return np.column_stack([colors, np.frombuffer(full, np.uint8)]).tolist()


RED, GREEN, BLUE, GRAY, PINK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (99, 99, 99), (255, 99, 255)


def test_a_new_color_gets_a_new_entry_and_the_other_pixels_keep_their_index() -> None:
    # two entries are the same color, and one is unused
    photograph = indexed([RED, GREEN, RED, BLUE], [[0, 1], [2, 1]])
    back = restored(photograph, (PINK, (1, 0)))
    assert np.asarray(back)[::16, ::16].tolist() == [[0, 4], [2, 1]]
    assert entries(back) == [list(each) for each in (RED, GREEN, RED, BLUE, PINK)]


def test_a_color_that_is_in_the_palette_needs_no_entry() -> None:
    photograph = indexed([RED, GREEN, BLUE], [[0, 1], [0, 1]])
    back = restored(photograph, (BLUE, (0, 0)), (GREEN, (0, 1)))
    assert np.asarray(back)[::16, ::16].tolist() == [[2, 1], [1, 1]]
    assert entries(back) == entries(photograph.stored)


def test_in_a_full_palette_entries_without_pixels_are_replaced() -> None:
    ramp = [(value, value, 0) for value in range(256)]
    photograph = indexed(ramp, [[value, value + 1] for value in range(254)])  # 255 is unused
    two = restored(photograph, (PINK, (0, 9)))
    assert (two.getpixel((0, 9 * 16)), entries(two)[255]) == (255, list(PINK))
    # with 0 and 254 painted over, they are free too
    three = restored(photograph, (PINK, (0, 0)), (BLUE, (1, 253)), (GREEN, (0, 5)))
    assert np.array_equal(three.convert("RGB").getpixel((0, 0)), PINK)
    assert np.array_equal(three.convert("RGB").getpixel((16, 253 * 16)), BLUE)
    assert np.array_equal(three.convert("RGB").getpixel((0, 5 * 16)), GREEN)
    assert entries(three)[1:254] == [list(color) for color in ramp[1:254]]
    kept = np.ones((254, 2), bool)
    kept[0, 0] = kept[253, 1] = kept[5, 0] = False
    before, after = (np.asarray(each)[::16, ::16] for each in (photograph.stored, three))
    assert np.array_equal(before[kept], after[kept])


def test_without_a_free_entry_the_nearest_one_is_taken() -> None:
    ramp = [(value, value, 0) for value in range(256)]
    photograph = indexed(ramp, [[value, value] for value in range(256)])
    back = restored(photograph, ((101, 100, 5), (0, 200)), ((255, 255, 255), (1, 7)))
    assert back.getpixel((0, 200 * 16)) == 100 and back.getpixel((16, 7 * 16)) == 255
    assert entries(back) == entries(photograph.stored)


def test_more_new_colors_than_free_entries_are_reduced_to_those() -> None:
    photograph = indexed([RED, GREEN, BLUE], [[0, 1], [2, 1]])
    many = noise("RGB", 16, 16).point(lambda value: value // 4)  # dark
    many.putpixel((0, 0), GREEN)
    back = restored(photograph, (many, (1, 0)))
    assert len(entries(back)) == 256 and entries(back)[:3] == entries(photograph.stored)
    assert back.getpixel((16, 0)) == 1
    difference = np.asarray(back.convert("RGB"), int)[:16, 16:] - np.asarray(many, int)
    assert 0 < np.abs(difference).mean() < 3
    whole, ideal = photograph.restore(gradient(32, 32)), gradient(32, 32).quantize(256)
    errors = [
        np.abs(np.asarray(each.convert("RGB"), int) - np.asarray(gradient(32, 32))).mean()
        for each in (whole, ideal)
    ]
    assert errors[0] < 1.1 * errors[1]


def test_every_level_of_alpha_has_entries_of_its_own() -> None:
    clear, half, solid = (*RED, 0), (*GREEN, 128), (*GREEN, 255)
    photograph = indexed([clear, half, solid], [[0, 1], [2, 2]])
    onto_white = on_white(Image.new("RGB", (16, 16), BLUE), Image.new("L", (16, 16), 128))
    back = restored(photograph, (PINK, (0, 0)), (onto_white, (1, 0)), (BLUE, (0, 1)))
    assert back.getpixel((0, 0)) == 0, "transparent pixels have no color to edit"
    assert np.asarray(back)[::16, ::16].tolist()[1][1] == 2
    assert entries(back)[:3] == entries(photograph.stored)
    values = np.asarray(back.convert("RGBA"), int)
    assert np.abs(values[0, 16] - (*BLUE, 128)).max() <= 1
    assert values[16, 0].tolist() == [*BLUE, 255]
    saved = decoded(photograph.encode(onto_white.resize((32, 32)), "PNG"))
    alpha = np.asarray(saved.convert("RGBA").getchannel("A"))
    assert alpha[::16, ::16].tolist() == [[0, 128], [255, 255]]


def test_a_single_transparent_entry_stays_the_transparent_one() -> None:
    photograph = indexed([(*RED, 255), (*GREEN, 0), (*RED, 255)], [[0, 1], [2, 2]])
    assert photograph.stored.info == {"transparency": 1}
    back = restored(photograph, (PINK, (0, 1)), (PINK, (1, 0)))
    assert np.asarray(back)[::16, ::16].tolist() == [[0, 1], [3, 2]]
    assert back.info == {"transparency": 1}
    saved = decoded(photograph.encode(gradient(32, 32), "PNG")).convert("RGBA")
    assert np.asarray(saved.getchannel("A"))[::16, ::16].tolist() == [[255, 0], [255, 255]]


def test_levels_of_alpha_share_the_free_entries_of_a_large_palette() -> None:
    colors = [(value, 255 - value, 0, 255 if value % 2 else 128) for value in range(200)]
    photograph = indexed(colors, [[i, i + 1] for i in range(0, 200, 2)])
    edited = gradient(32, 1600)
    back = photograph.restore(edited)
    before, after = (np.asarray(each.convert("RGBA"), int) for each in (photograph.stored, back))
    assert np.array_equal(before[..., 3], after[..., 3])
    rgba = back.convert("RGBA")
    composite = np.asarray(on_white(rgba.convert("RGB"), rgba.getchannel("A")), int)
    opaque = before[..., 3] == 255
    assert np.abs(composite - np.asarray(edited, int))[opaque].mean() < 6


@pytest.mark.parametrize("seed", range(8))
def test_any_edit_of_a_palette_keeps_what_it_does_not_change(seed: int) -> None:
    rng = np.random.default_rng(seed)
    number = int(rng.integers(1, 257))
    alpha = rng.choice([0, 7, 128, 255], number)
    colors = [(*rng.integers(0, 256, 3), level) for level in alpha]
    photograph = indexed(colors, rng.integers(0, number, (5, 7)).tolist())
    edited = np.array(photograph.image)
    painted = rng.random(edited.shape[:2]) < rng.random()
    edited[painted] = rng.integers(0, 256, (painted.sum(), 3))
    back = photograph.restore(Image.fromarray(edited))
    before, after = photograph.stored, back
    same = (edited == np.asarray(photograph.image)).all(-1)
    assert np.array_equal(np.asarray(before)[same], np.asarray(after)[same])
    values = [np.asarray(each.convert("RGBA")) for each in (before, after)]
    assert np.array_equal(values[0][same], values[1][same])
    assert np.array_equal(values[0][..., 3], values[1][..., 3])


def test_one_bit_images_are_thresholded_without_dithering() -> None:
    photograph = Photograph.read(encoded(Image.new("1", (40, 40), 1), "PNG"))
    back = photograph.restore(Image.new("RGB", (40, 40), (200, 200, 200)))
    assert (back.mode, np.asarray(back).all()) == ("1", True)


def test_another_size_is_refused() -> None:
    photograph = Photograph.read(encoded(gradient(40, 30), "PNG"))
    with pytest.raises(ValueError, match="the edited image is"):
        photograph.restore(gradient(30, 40))


# rejected files


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bad_images() -> dict[str, tuple[bytes, str]]:
    frames = {"save_all": True, "append_images": [gradient(32, 32).rotate(90)]}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("cat.png", encoded(gradient(32, 32), "PNG"))
    good = encoded(gradient(200, 150), "PNG")
    return {
        "empty": (b"", "is empty"),
        "text": (b"Once upon a time\n" * 50, "is not an image of a supported format"),
        "svg": (
            b'<svg xmlns="http://www.w3.org/2000/svg"/>',
            "is not an image of a supported format",
        ),
        "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image of a"),
        "zip": (archive.getvalue(), "is not an image of a supported format"),
        "broken": (good[:100] + bytes(60) + good[160:], "cannot be read as an image: "),
        "thin": (encoded(gradient(15, 300), "PNG"), "is 15x300; an image needs 16"),
        "bomb": (
            png(20000, 20000, 8, 2, b""),
            "it has 20000x20000 pixels, 400 million; the limit is 100",
        ),
        "float": (encoded(Image.new("F", (20, 20)), "TIFF"), "its mode F is not supported"),
        "pages": (encoded(gradient(32, 32), "TIFF", **frames), "it has 2 frames; give a still"),
    } | {
        f"moving {kind}": (encoded(gradient(32, 32), kind, **frames), "it has 2 frames")
        for kind in ("GIF", "PNG", "WEBP", "AVIF")
    }


@pytest.mark.parametrize("name", bad_images())
def test_a_rejected_image_is_reported_in_one_line(name: str) -> None:
    data, message = bad_images()[name]
    with pytest.raises(ValueError, match=message) as caught:
        Photograph.read(data, name="stdin")
    assert str(caught.value).startswith("stdin ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP"])
def test_a_truncated_file_is_rejected(kind: str) -> None:
    data = encoded(noise("RGB", 90, 60), kind)
    for share in (0.3, 0.9):
        with pytest.raises(ValueError, match="image") as caught:
            Photograph.read(data[: int(share * len(data))])
        assert "\n" not in str(caught.value)


def test_missing_files_directories_and_pipes_are_rejected(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in (
        ("nothing.png", "there is no file"),
        ("", "is a directory, not an image"),
        ("pipe.png", "is not a regular file, not an image"),
    ):
        with pytest.raises(ValueError, match=message):
            Photograph.read(tmp_path / name)


def test_16_bit_colors_are_read_as_8_with_a_warning() -> None:
    rows = b"".join(b"\0" + bytes([10, 0] * 3 * 20) for _ in range(20))
    photograph = Photograph.read(png(20, 20, 16, 2, rows))
    assert photograph.image.getpixel((3, 3)) == (10, 10, 10)
    assert photograph.warnings == ("16 bits per channel are reduced to 8",)


def test_damaged_exif_is_dropped() -> None:
    data = encoded(gradient(40, 30), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 90)
    photograph = Photograph.read(data)
    assert photograph.orientation == 1
    assert decoded(photograph.encode(photograph.image, NAMED["JPEG"])).size == (40, 30)


def test_a_format_that_cannot_hold_the_image_is_rejected_before_the_edit() -> None:
    photograph = Photograph.read(encoded(Image.new("RGB", (16400, 16)), "PNG"))
    with pytest.raises(ValueError, match="cannot write this image as WEBP: "):
        photograph.format_warnings(NAMED["WEBP"])


def test_heic_without_pillow_heif_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingError, match="pip install pillow-heif"):
        Photograph.read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))


def test_heic_keeps_its_orientation() -> None:
    pytest.importorskip("pillow_heif")
    NAMED["HEIF"].require()
    data = encoded(gradient(96, 64), "HEIF", exif=exif(6), quality=90)
    photograph = Photograph.read(data)
    assert (photograph.size, photograph.image.size, photograph.orientation) == (
        (96, 64), (64, 96), 6,
    )  # fmt: skip
    back = Photograph.read(photograph.encode(photograph.image, NAMED["HEIF"]))
    assert (back.size, back.orientation, back.kind) == ((96, 64), 6, "HEIF")
    assert np.abs(np.asarray(back.image, int) - np.asarray(photograph.image, int)).mean() < 3


# Python


def test_paths_bytes_and_binary_files_are_read_alike(tmp_path: Path) -> None:
    data, path = encoded(gradient(40, 30), "PNG"), tmp_path / "cat.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        sources = [path, str(path), data, io.BytesIO(data), file]
        images = [Photograph.read(source).image for source in sources]
    assert all(image == images[0] for image in images)
    with path.open(encoding="latin-1") as text, pytest.raises(UnreadableImageError) as caught:
        Photograph.read(text)  # type: ignore[arg-type]
    assert str(caught.value) == f"{path} is open in text mode; open it in binary mode"
    with pytest.raises(UnreadableImageError, match="the upload is empty"):
        Photograph.read(io.BytesIO(), name="the upload")


@pytest.mark.parametrize("name", ["JPEG", "jpeg", "jpg", ".JPG"])
def test_a_format_is_named_in_any_usual_way(name: str) -> None:
    photograph = Photograph.read(encoded(gradient(40, 30), "PNG"))
    assert Photograph.read(photograph.encode(photograph.image, name)).kind == "JPEG"
    assert format_named(".webp") is NAMED["WEBP"] and format_named("heic") is NAMED["HEIF"]
    with pytest.raises(OutputFormatError, match="no image format 'gif'; there are: PNG, JPEG"):
        photograph.encode(photograph.image, "gif")


def test_a_photograph_is_shown_in_a_line_and_in_a_notebook() -> None:
    photograph = Photograph.read(encoded(noise("RGBA"), "WEBP", exif=exif(6)))
    assert repr(photograph) == "Photograph(WEBP, RGBA, 20x30)"
    assert np.array_equal(decoded(photograph._repr_png_()), photograph.image)


# zerocon edit

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line with a model of a few thousand random weights, in an empty directory."""
    model = tiny.model()
    monkeypatch.setattr(zerocon, "load", lambda name, **options: model, raising=False)
    monkeypatch.chdir(tmp_path)

    def invoke(*args: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(main, list(args), input=stdin)

    return invoke


EDIT = ["edit", "--to", "dog", "--steps", "1", "--guidance", "none", "--begin", "0"]


def test_a_jpeg_of_a_camera_keeps_its_metadata(run: Run, tmp_path: Path) -> None:
    source = encoded(gradient(96, 64), "JPEG", exif=exif(6), icc_profile=wide(), subsampling=2)
    (tmp_path / "cat.jpg").write_bytes(source)
    assert run(*EDIT, "cat.jpg").stdout == "cat-dog.jpg\n"
    assert run(*EDIT, "cat.jpg", "--keep-gps", "-o", "there.jpg").exit_code == 0
    with Image.open("cat-dog.jpg") as edited, Image.open("there.jpg") as there:
        assert (edited.size, edited.getexif()[ORIENTATION]) == ((96, 64), 6)
        assert edited.info["icc_profile"] == wide()
        assert (edited.getexif().get_ifd(GPS), there.getexif().get_ifd(GPS)[1]) == ({}, "N")


def test_orientation_profile_and_alpha_are_kept_together(run: Run, tmp_path: Path) -> None:
    cut = Image.fromarray(np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1)))
    image = gradient(96, 64).convert("RGBA")
    image.putalpha(cut)
    (tmp_path / "cut.png").write_bytes(
        encoded(image, "PNG", exif=exif(8), icc_profile=wide(), dpi=(300, 300))
    )
    assert run(*EDIT, "cut.png").exit_code == 0
    with Image.open("cut.png") as before, Image.open("cut-dog.png") as after:
        assert (after.size, after.mode) == (before.size, "RGBA") == ((96, 64), "RGBA")
        assert after.getexif()[ORIENTATION] == 8 and after.info["icc_profile"] == wide()
        assert np.array_equal(*(np.asarray(each.getchannel("A")) for each in (before, after)))
        assert after.tobytes() != before.tobytes(), "the colors are edited"


def test_from_stdin_to_stdout(run: Run, tmp_path: Path) -> None:
    for kind in ("PNG", "WEBP"):
        done = run(*EDIT, "-", "-o", "-", stdin=encoded(noise("RGBA"), kind))
        assert done.exit_code == 0, done.stderr
        edited = Photograph.read(done.stdout_bytes)
        assert (edited.kind, edited.mode, edited.size) == (kind, "RGBA", (30, 20))
    assert list(tmp_path.iterdir()) == []
    assert run("caption", "-", stdin=encoded(noise("P"), "GIF")).stdout == "a cat on a bench\n"


def test_an_inversion_matches_the_image_from_stdin_and_from_a_file(
    run: Run, tmp_path: Path
) -> None:
    source = encoded(noise("RGBA"), "PNG", exif=exif(5), icc_profile=wide())
    assert run("invert", "-", "--steps", "1", "-o", "kept.safetensors", stdin=source).exit_code == 0
    (tmp_path / "cat.png").write_bytes(source)
    args = ["edit", "cat.png", "--to", "dog", "--inversion", "kept.safetensors"]
    assert run(*args, "--guidance", "none").stdout == "cat-dog.png\n"


def test_the_extension_of_the_output_is_its_format(run: Run, tmp_path: Path) -> None:
    noise("RGBA").save(tmp_path / "cat.png")
    done = run(*EDIT, "cat.png", "-o", "dog.jpg")
    assert "Warning: JPEG has no transparency: transparent pixels become white\n" in done.stderr
    assert Photograph.read("dog.jpg").mode == "RGB"
    assert "white" not in run(*EDIT, "cat.png", "-o", "dog.webp").stderr
    assert Photograph.read("dog.webp").mode == "RGBA"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-"], "an image from stdin has no name"),
        (["-", "-o", "-", "--format", "json"], "would both write to stdout"),
        (["-", "-o", "dog.gif"], "must end in"),
        (["-", "-o", "-", "--explain", "-"], "- must end in"),
    ],
)
def test_invalid_use_of_stdin_and_stdout_is_reported_in_one_line(
    run: Run, args: list[str], message: str
) -> None:
    done = run(*EDIT, *args, stdin=encoded(gradient(40, 30), "PNG"))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stdout == "" or json.loads(done.stdout)["schema"] == "zerocon.error/1"
    assert message in done.stderr


def test_no_image_is_read_from_or_written_to_a_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    streams = SimpleNamespace(stdin=Terminal(), stdout=Terminal(), stderr=sys.stderr)
    monkeypatch.setattr(stdio, "sys", streams)
    assert "stdin is a terminal" in run(*EDIT, "-", "-o", "-").stderr
    gradient(40, 30).save("cat.png")
    done = run(*EDIT, "cat.png", "-o", "-")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "stdout is a terminal" in done.stderr


def test_a_long_and_narrow_image_is_edited(run: Run) -> None:
    gradient(16, 160).save("cat.png")
    assert run(*EDIT, "cat.png").exit_code == 0
    assert Photograph.read("cat-dog.png").size == (16, 160)
