"""A picture goes in and comes out: its size, mode, turn, colours, alpha and what is written on it.

Every file here is made in code and read back by Pillow.
"""

from __future__ import annotations

import io
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
from zerocon.errors import MissingError
from zerocon.image.color import FADE, ColorSpace, off_white, on_white, paletted
from zerocon.image.formats import FORMATS, NAMED
from zerocon.image.photo import Photograph

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
    """The pixels' values; of palettes the colours, since entries may be put in another order."""
    return np.asarray(image.convert("RGBA") if image.mode == "P" else image)


def noise(mode: str, width: int = 30, height: int = 20) -> Image.Image:
    """Every value there is, all kinds of alpha among them."""
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
    """An ICC profile with far more colours than sRGB (Adobe RGB's primaries, gamma 2.2)."""

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


# what comes back


@pytest.mark.parametrize("profile", [None, wide()], ids=["plain", "wide"])
@pytest.mark.parametrize(
    ("kind", "mode"),
    [(kind, mode) for kind in EXACT for mode in NAMED[kind].modes],
)
def test_an_edit_that_changes_nothing_gives_the_files_own_pixels(
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
def test_edited_upright_and_turned_back(kind: str, orientation: int) -> None:
    options = EXACT[kind] if kind == "WEBP" else {}
    data = encoded(gradient(96, 64), kind, exif=exif(orientation), **options)
    photograph = Photograph.read(data)
    upright = ImageOps.exif_transpose(decoded(data))
    assert np.array_equal(photograph.image, upright.convert("RGB"))
    edited = ImageOps.invert(photograph.image)
    back = photograph.encode(edited, NAMED[kind])
    with Image.open(io.BytesIO(back)) as image, Image.open(io.BytesIO(data)) as before:
        assert image.size == before.size
        if kind == "TIFF":  # Pillow says the size it would have upright
            assert (image.tag_v2[256], image.tag_v2[257]) == (96, 64)
        else:
            assert image.size == (96, 64)
        assert image.getexif().get(ORIENTATION, 1) == orientation
    seen = ImageOps.exif_transpose(decoded(back)).convert("RGB")
    assert np.abs(np.asarray(seen, int) - np.asarray(edited, int)).mean() < 3


SIZES = [(16, 16), (17, 170), (170, 17), (101, 67)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("kind", "mode"), [(f.name, mode) for f in FORMATS if f.name != "HEIF" for mode in f.modes]
)
def test_an_edited_picture_has_the_size_and_mode_of_its_source(
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


# what is written on it


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("keep", [False, True])
def test_what_the_file_says_is_kept_but_not_the_place_unless_asked(kind: str, keep: bool) -> None:
    data = encoded(gradient(40, 30), kind, exif=exif(6), icc_profile=wide(), dpi=(300, 300))
    photograph = Photograph.read(data, keep_gps=keep)
    back = photograph.encode(photograph.image, NAMED[kind])
    with Image.open(io.BytesIO(back)) as image:
        said = image.getexif()
        assert (said[MAKE], said.get_ifd(0x8769)[EXPOSURE]) == ("Camera", 0.01)
        assert said.get_ifd(GPS) == ({1: "N", 2: (10.0, 20.0, 30.0)} if keep else {})
        assert (b"GPS" in back, image.info["icc_profile"]) == (False, wide())
        if kind in ("PNG", "JPEG", "TIFF"):
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_the_thumbnail_goes_since_it_shows_the_source() -> None:
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


def test_a_tiff_says_in_a_jpeg_what_it_said_and_nothing_of_its_own_bytes() -> None:
    photograph = Photograph.read(encoded(gradient(40, 30), "TIFF", exif=exif(6)))
    back = decoded(photograph.encode(photograph.image, NAMED["JPEG"]))
    said = back.getexif()
    assert (said[MAKE], said[ORIENTATION], back.size) == ("Camera", 6, (40, 30))
    assert set(said) == {MAKE, ORIENTATION, 0x8769}


def test_a_tiff_is_compressed_unless_that_would_cost_its_exif() -> None:
    for said, compression in ((exif(), "raw"), (b"", "tiff_adobe_deflate")):
        photograph = Photograph.read(encoded(gradient(40, 30), "PNG", exif=said))
        assert photograph.format_warnings(NAMED["TIFF"]) == ()
        back = photograph.encode(photograph.image, NAMED["TIFF"])
        with Image.open(io.BytesIO(back)) as image:
            assert image.info["compression"] == compression
            assert image.getexif().get_ifd(0x8769).get(EXPOSURE) == (0.01 if said else None)


@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [40, 92])
def test_a_jpeg_is_compressed_as_it_was(quality: int, sampling: int) -> None:
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


def test_what_was_lossless_stays_so() -> None:
    source = noise("RGB")
    for options, exact in (({"lossless": True}, True), ({}, False)):
        photograph = Photograph.read(encoded(source, "WEBP", exif=exif(), **options))
        back = decoded(photograph.encode(source, NAMED["WEBP"]))
        assert np.array_equal(back, source) == exact
    photograph = Photograph.read(encoded(noise("1"), "TIFF", compression="group4"))
    back = decoded(photograph.encode(photograph.image, NAMED["TIFF"]))
    assert back.info["compression"] == "group4"


# colours


def test_a_profile_is_followed_there_and_back() -> None:
    stored = Image.new("RGB", (20, 20), (0, 200, 0))
    photograph = Photograph.read(encoded(stored, "PNG", icc_profile=wide()))
    red, green, _ = photograph.image.getpixel((3, 3))
    assert red == 0 and green > 200  # more green than sRGB has
    edited = Image.new("RGB", (20, 20), (200, 100, 50))
    back = photograph.encode(edited, NAMED["PNG"])
    assert decoded(back).getpixel((3, 3)) != (200, 100, 50)
    seen = np.asarray(Photograph.read(back).image, int)
    assert np.abs(seen - np.asarray(edited, int)).max() <= 2
    # as another kind of file, too: the profile goes with the colours
    jpeg = Photograph.read(photograph.encode(edited, NAMED["JPEG"]))
    assert jpeg.profile == wide()
    assert np.abs(np.asarray(jpeg.image, int) - np.asarray(edited, int)).max() <= 4


def test_what_srgb_cannot_say_fades_as_the_edit_grows() -> None:
    space = ColorSpace(wide(), "RGB")
    stored = Image.new("RGB", (FADE + 1, 1), (0, 200, 0))
    seen = np.asarray(space.seen(stored)).copy()
    edited = seen.copy()
    edited[0, :, 2] = seen[0, :, 2] + np.arange(FADE + 1)
    carried = np.asarray(space.carry(stored, Image.fromarray(edited)), int)
    assert carried[0, 0].tolist() == [0, 200, 0]
    last = space.unseen(Image.fromarray(edited[:, -1:])).getpixel((0, 0))
    assert carried[0, -1].tolist() == list(last)
    assert np.abs(np.diff(carried[0], axis=0)).max() <= 8  # and nowhere is a step


def test_16_bit_grey_keeps_its_fine_steps_where_little_changes() -> None:
    ramp = np.tile(np.arange(30000, 30000 + 600, dtype=np.uint16), (20, 1))
    photograph = Photograph.read(encoded(Image.fromarray(ramp), "PNG"))
    brighter = photograph.image.point(lambda value: value + 1)
    back = np.asarray(decoded(photograph.encode(brighter, NAMED["PNG"])), int)
    assert (np.diff(back[0]) >= 0).all() and len(np.unique(back)) > 300
    assert np.abs(back - ramp - 257).max() <= 257 / FADE + 1


def test_cmyk_is_seen_and_comes_back() -> None:
    ink = Image.new("CMYK", (20, 20), (0, 0, 0, 255))
    photograph = Photograph.read(encoded(ink, "TIFF"))
    assert photograph.image.getpixel((3, 3)) == (0, 0, 0)
    assert photograph.restore(photograph.image).getpixel((3, 3)) == (0, 0, 0, 255)
    white = photograph.restore(Image.new("RGB", (20, 20), "white"))
    assert white.getpixel((3, 3)) == (0, 0, 0, 0)
    assert photograph.format_warnings(NAMED["JPEG"]) == ()
    assert photograph.format_warnings(NAMED["PNG"]) == ("as PNG, CMYK becomes sRGB",)
    assert decoded(photograph.encode(photograph.image, NAMED["PNG"])).mode == "RGB"


def test_a_profile_that_cannot_be_used_is_left_out_and_said() -> None:
    for mode, profile, word in (("RGB", b"rubbish" * 40, "damaged"), ("CMYK", wide(), "of RGB")):
        photograph = Photograph.read(encoded(noise(mode), "TIFF", icc_profile=profile))
        (doubt,) = photograph.warnings
        assert word in doubt and photograph.profile is None
    gray = Photograph.read(encoded(noise("L"), "PNG", icc_profile=wide()))
    assert (gray.warnings, gray.profile) == ((), wide())


# alpha and palettes


def test_an_edit_is_made_on_white_and_put_back_under_the_alpha() -> None:
    logo = np.zeros((20, 30, 4), np.uint8)
    logo[..., 0], logo[:, :10, 3], logo[:, 10:20, 3] = 200, 255, 128  # red; then half; then none
    photograph = Photograph.read(encoded(Image.fromarray(logo), "PNG"))
    assert photograph.image.getpixel((25, 3)) == (255, 255, 255)
    blue = Image.new("RGB", (10, 20), (0, 0, 200))
    edited = photograph.image.copy()
    edited.paste(blue, (0, 0))
    edited.paste(on_white(blue, Image.new("L", blue.size, 128)), (10, 0))
    edited.paste("black", (20, 0, 30, 20))  # where there is nothing, it does nothing
    back = np.asarray(decoded(photograph.encode(edited, NAMED["PNG"])), int)
    assert np.array_equal(back[..., 3], logo[..., 3])
    assert np.abs(back[:, :20, :3] - (0, 0, 200)).max() <= 1
    assert (back[:, 20:, :3] == (200, 0, 0)).all()


def test_off_white_undoes_on_white() -> None:
    colors, alpha = noise("RGB"), noise("RGBA").getchannel("A")
    assert np.array_equal(off_white(on_white(colors, alpha), colors, alpha), colors)


def test_a_jpeg_of_a_logo_lies_on_white_and_says_so() -> None:
    photograph = Photograph.read(encoded(Image.new("RGBA", (20, 20), (9, 9, 9, 0)), "PNG"))
    assert photograph.format_warnings(NAMED["JPEG"]) == (
        "as JPEG, what is transparent is put on white",
    )
    back = decoded(photograph.encode(photograph.image, NAMED["JPEG"]))
    assert (back.mode, back.getpixel((3, 3))) == ("RGB", (255, 255, 255))
    for kind in ("WEBP", "TIFF", "AVIF"):
        assert photograph.format_warnings(NAMED[kind]) == ()
        assert decoded(photograph.encode(photograph.image, NAMED[kind])).mode == "RGBA"


@pytest.mark.parametrize(("mode", "key"), [("RGB", (9, 9, 9)), ("L", 9), ("1", 0)])
def test_a_colour_that_stands_for_nothing_becomes_alpha(mode: str, key: Any) -> None:
    image = Image.new(mode, (20, 20), 1)
    image.paste(key, (0, 0, 10, 20))
    photograph = Photograph.read(encoded(image, "PNG", transparency=key))
    assert photograph.mode == ("RGBA" if mode == "RGB" else "LA")
    alpha = np.asarray(photograph.stored.getchannel("A"))
    assert (alpha[:, :10] == 0).all() and (alpha[:, 10:] == 255).all()


def test_a_palette_has_room_for_new_colours_and_every_alpha() -> None:
    colors = gradient(300, 200)
    cover = np.full((200, 300), 255, np.uint8)
    cover[:100], cover[100:104] = 0, 128
    made = paletted(colors, Image.fromarray(cover))
    seen = np.asarray(made.convert("RGBA"), int)
    assert made.mode == "P" and np.array_equal(seen[..., 3], cover)
    assert np.abs(seen[104:, :, :3] - np.asarray(colors, int)[104:]).mean() < 6


def test_a_drawing_in_black_and_white_gets_no_dots() -> None:
    photograph = Photograph.read(encoded(Image.new("1", (40, 40), 1), "PNG"))
    back = photograph.restore(Image.new("RGB", (40, 40), (200, 200, 200)))
    assert (back.mode, np.asarray(back).all()) == ("1", True)


def test_another_size_is_refused() -> None:
    photograph = Photograph.read(encoded(gradient(40, 30), "PNG"))
    with pytest.raises(ValueError, match="cannot become"):
        photograph.restore(gradient(30, 40))


# what is refused


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bad_pictures() -> dict[str, tuple[bytes, str]]:
    frames = {"save_all": True, "append_images": [gradient(32, 32).rotate(90)]}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("cat.png", encoded(gradient(32, 32), "PNG"))
    good = encoded(gradient(200, 150), "PNG")
    return {
        "empty": (b"", "is empty"),
        "text": (b"Once upon a time\n" * 50, "is not a picture of a known kind"),
        "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is not a picture of a known kind"),
        "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture of a"),
        "zip": (archive.getvalue(), "is not a picture of a known kind"),
        "broken": (good[:100] + bytes(60) + good[160:], "cannot be read as a picture: "),
        "thin": (encoded(gradient(15, 300), "PNG"), "is 15x300; a picture needs 16"),
        "bomb": (png(20000, 20000, 8, 2, b""), r"400000000 pixels\) exceeds limit of 178956970"),
        "float": (encoded(Image.new("F", (20, 20)), "TIFF"), "its pixels are F; give"),
        "pages": (encoded(gradient(32, 32), "TIFF", **frames), "it has 2 frames; give a still"),
    } | {
        f"moving {kind}": (encoded(gradient(32, 32), kind, **frames), "it has 2 frames")
        for kind in ("GIF", "PNG", "WEBP", "AVIF")
    }


@pytest.mark.parametrize("name", bad_pictures())
def test_a_bad_picture_is_one_line(name: str) -> None:
    data, message = bad_pictures()[name]
    with pytest.raises(ValueError, match=message) as caught:
        Photograph.read(data, name="stdin")
    assert str(caught.value).startswith("stdin ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP"])
def test_half_a_file_is_refused(kind: str) -> None:
    data = encoded(noise("RGB", 90, 60), kind)
    for share in (0.3, 0.9):
        with pytest.raises(ValueError, match="image") as caught:
            Photograph.read(data[: int(share * len(data))])
        assert "\n" not in str(caught.value)


def test_no_file_a_folder_and_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in (
        ("nothing.png", "there is no file"),
        ("", "is a folder, not a picture"),
        ("pipe.png", "is no file, not a picture"),
    ):
        with pytest.raises(ValueError, match=message):
            Photograph.read(tmp_path / name)


def test_16_bit_colours_are_read_as_8_and_it_says_so() -> None:
    rows = b"".join(b"\0" + bytes([10, 0] * 3 * 20) for _ in range(20))
    photograph = Photograph.read(png(20, 20, 16, 2, rows))
    assert photograph.image.getpixel((3, 3)) == (10, 10, 10)
    assert photograph.warnings == ("of 16 bits a channel, 8 are read and written",)


def test_damaged_exif_is_left_out_and_said() -> None:
    data = encoded(gradient(40, 30), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 90)
    photograph = Photograph.read(data)
    assert photograph.orientation == 1
    assert decoded(photograph.encode(photograph.image, NAMED["JPEG"])).size == (40, 30)


def test_what_a_kind_cannot_hold_is_found_before_the_work() -> None:
    photograph = Photograph.read(encoded(Image.new("RGB", (16400, 16)), "PNG"))
    with pytest.raises(ValueError, match="cannot be written as WEBP: "):
        photograph.format_warnings(NAMED["WEBP"])


def test_heic_without_its_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingError, match=r'pip install "zerocon\[heic\]"'):
        Photograph.read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))


def test_heic_comes_back_turned() -> None:
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


# through the front door

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Edit on a network of a few thousand random weights, in a folder of its own."""
    model = tiny.model()
    monkeypatch.setattr(zerocon, "load", lambda name, **options: model, raising=False)
    monkeypatch.chdir(tmp_path)

    def invoke(*args: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(main, list(args), input=stdin)

    return invoke


EDIT = ["edit", "--to", "dog", "--steps", "1", "--guidance", "none"]


def test_a_camera_s_jpeg_comes_back_as_one(run: Run, tmp_path: Path) -> None:
    source = encoded(gradient(96, 64), "JPEG", exif=exif(6), icc_profile=wide(), subsampling=2)
    (tmp_path / "cat.jpg").write_bytes(source)
    assert run(*EDIT, "cat.jpg").stdout == "cat-dog.jpg\n"
    assert run(*EDIT, "cat.jpg", "--keep-gps", "-o", "there.jpg").exit_code == 0
    with Image.open("cat-dog.jpg") as edited, Image.open("there.jpg") as there:
        assert (edited.size, edited.getexif()[ORIENTATION]) == ((96, 64), 6)
        assert edited.info["icc_profile"] == wide()
        assert (edited.getexif().get_ifd(GPS), there.getexif().get_ifd(GPS)[1]) == ({}, "N")


def test_turn_profile_and_alpha_come_back_together(run: Run, tmp_path: Path) -> None:
    """On its side, in wide colours, half transparent: shown as before, where nothing was asked."""
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
        assert after.tobytes() != before.tobytes(), "the colours are edited"


def test_from_stdin_to_stdout(run: Run, tmp_path: Path) -> None:
    for kind in ("PNG", "WEBP"):
        done = run(*EDIT, "-", "-o", "-", stdin=encoded(noise("RGBA"), kind))
        assert done.exit_code == 0, done.stderr
        edited = Photograph.read(done.stdout_bytes)
        assert (edited.kind, edited.mode, edited.size) == (kind, "RGBA", (30, 20))
    assert list(tmp_path.iterdir()) == []
    assert run("caption", "-", stdin=encoded(noise("P"), "GIF")).stdout == "a cat on a bench\n"


def test_an_inversion_is_of_the_picture_as_it_is_read(run: Run, tmp_path: Path) -> None:
    source = encoded(noise("RGBA"), "PNG", exif=exif(5), icc_profile=wide())
    assert run("invert", "-", "--steps", "1", "-o", "kept.safetensors", stdin=source).exit_code == 0
    (tmp_path / "cat.png").write_bytes(source)
    args = ["edit", "cat.png", "--to", "dog", "--inversion", "kept.safetensors"]
    assert run(*args, "--guidance", "none").stdout == "cat-dog.png\n"


def test_another_ending_is_another_kind(run: Run, tmp_path: Path) -> None:
    noise("RGBA").save(tmp_path / "cat.png")
    done = run(*EDIT, "cat.png", "-o", "dog.jpg")
    assert "Warning: as JPEG, what is transparent is put on white\n" in done.stderr
    assert Photograph.read("dog.jpg").mode == "RGB"
    assert "white" not in run(*EDIT, "cat.png", "-o", "dog.webp").stderr
    assert Photograph.read("dog.webp").mode == "RGBA"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-"], "a picture from stdin gives no name"),
        (["-", "-o", "-", "--format", "json"], "would both be on stdout"),
        (["-", "-o", "dog.gif"], "must end in"),
        (["-", "-o", "-", "--explain", "-"], "- must end in"),
    ],
)
def test_a_mistake_with_pipes_is_one_line(run: Run, args: list[str], message: str) -> None:
    done = run(*EDIT, *args, stdin=encoded(gradient(40, 30), "PNG"))
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr


def test_no_picture_is_written_to_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(stdio, "sys", SimpleNamespace(stdin=Terminal(), stdout=Terminal()))
    assert "stdin is a terminal" in run(*EDIT, "-", "-o", "-").stderr
    gradient(40, 30).save("cat.png")
    done = run(*EDIT, "cat.png", "-o", "-")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "stdout is a terminal" in done.stderr


def test_a_long_and_narrow_picture_is_edited(run: Run) -> None:
    gradient(16, 160).save("cat.png")
    assert run(*EDIT, "cat.png").exit_code == 0
    assert Photograph.read("cat-dog.png").size == (16, 160)
