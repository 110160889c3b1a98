"""Masks given by the user: every kind of file, sizes, bad input."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import gradient
from PIL import Image, ImageOps

from zerocon.errors import ImageFormatError, InputError, MaskError, UnreadableImageError
from zerocon.image.masks import UserMask, read_mask
from zerocon.storage.hashing import image_hash

SIZE = (40, 30)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def box(mode: str = "L", white: Any = 255, black: Any = 0) -> Image.Image:
    """A mask of ``SIZE``: white from column 10 to 30 and row 5 to 25."""
    image = Image.new(mode, SIZE, black)
    image.paste(white, (10, 5, 30, 25))
    return image


def levels(mask: UserMask) -> np.ndarray[Any, Any]:
    return np.asarray(mask.image)


BOX = np.asarray(box())


# what a file contains


def paletted() -> Image.Image:
    """The palette's first entry is white."""
    image = Image.eval(box(), lambda value: 1 - value // 255).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    return image


def alpha(colors: Image.Image, opacity: Image.Image) -> Image.Image:
    image = colors.copy()
    image.putalpha(opacity)
    return image


GRADIENT = gradient(*SIZE).convert("L")  # not constant
WHITE, BLACK, ORANGE = (Image.new("RGB", SIZE, color) for color in ("white", "black", "orange"))

KINDS: dict[str, tuple[Image.Image, np.ndarray[Any, Any]]] = {
    "8-bit gray": (box(), BOX),
    "1-bit": (box("1", 1), BOX),
    "RGB": (box("RGB", "white"), BOX),
    "soft": (GRADIENT, np.asarray(GRADIENT)),
    "palette": (paletted(), BOX),
    "16-bit gray": (Image.fromarray(BOX.astype(np.uint16) * 257), BOX),
    "opaque alpha": (alpha(box("RGB", "white"), Image.new("L", SIZE, 255)), BOX),
    "white on nothing": (alpha(WHITE, box()), BOX),
    "black on nothing": (alpha(BLACK, box()), BOX),
    "orange on nothing": (alpha(ORANGE, box()), BOX),
    "black on transparent white": (
        alpha(box("RGB", "black", "white"), box()), BOX,
    ),
    "soft black on nothing": (alpha(BLACK, GRADIENT), np.asarray(GRADIENT)),
    "white box in transparent gradient": (
        alpha(box("RGB", "white"), Image.linear_gradient("L").resize(SIZE)),
        BOX // 255 * np.asarray(Image.linear_gradient("L").resize(SIZE)),
    ),
    "gray and alpha": (alpha(GRADIENT, box()), np.asarray(GRADIENT) * (BOX // 255)),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory", [False, True], ids=["file", "memory"])
def test_every_kind_of_image_is_a_mask(kind: str, memory: bool) -> None:
    image, expected = KINDS[kind]
    mask = read_mask(image if memory else encoded(image), SIZE)
    assert (mask.image.mode, mask.image.size, mask.warnings) == ("L", SIZE, ())
    assert np.array_equal(levels(mask), expected)
    assert mask.share == np.count_nonzero(expected) / expected.size
    assert mask.hash == image_hash(Image.fromarray(expected))


def test_colors_are_weighted_as_luminance() -> None:
    colors = Image.new("RGB", SIZE, (0, 255, 0))
    colors.paste((0, 0, 255), (0, 0, 20, 30))
    assert np.unique(levels(read_mask(colors, SIZE))).tolist() == [29, 150]


def test_a_transparent_palette_entry_is_kept() -> None:
    image = paletted()
    image.putpalette([255, 255, 255, 200, 200, 200])
    data = encoded(image, transparency=1)
    assert np.array_equal(levels(read_mask(data, SIZE)), BOX)


def test_a_cmyk_file_is_read_by_its_brightness() -> None:
    ink = box("CMYK", (0, 0, 0, 0), (0, 0, 0, 255))
    assert np.array_equal(levels(read_mask(encoded(ink, "TIFF"), SIZE)), BOX)


@pytest.mark.parametrize(
    "array", [BOX > 0, BOX, BOX / 255, (BOX / 255).astype(np.float32)], ids=lambda a: str(a.dtype)
)
def test_arrays_are_masks(array: np.ndarray[Any, Any]) -> None:
    assert np.array_equal(levels(read_mask(array, SIZE)), BOX)


def test_floats_are_rounded_to_255_levels() -> None:
    array = np.linspace(0, 1, 1200).reshape(30, 40)
    assert np.array_equal(levels(read_mask(array, SIZE)), np.round(array * 255))


def test_a_file_is_read_from_a_path_bytes_or_a_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(encoded(box()))
    with path.open("rb") as file:
        hashes = {read_mask(each, SIZE).hash for each in (path, str(path), encoded(box()), file)}
    assert hashes == {image_hash(box())}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_a_mask_is_turned_upright(kind: str, orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    corner = Image.new("L", SIZE)
    corner.paste(255, (0, 0, 24, 8))  # in blocks of 8 pixels, exact in JPEG
    data = encoded(corner, kind, exif=tags.tobytes())
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
    assert np.array_equal(levels(read_mask(data, upright.size)), upright)


# sizes


@pytest.mark.parametrize("factor", [0.5, 2, 3.7, 10])
def test_another_size_is_resized_and_constant_areas_keep_their_value(factor: float) -> None:
    size = (round(40 * factor), round(30 * factor))
    small = levels(read_mask(box(), size))
    assert small.shape == size[::-1]
    edge = int(max(1, factor)) + 1
    left, upper, right, lower = (round(each * factor) for each in (10, 5, 30, 25))
    assert (small[upper + edge : lower - edge, left + edge : right - edge] == 255).all()
    outside = small.copy()
    outside[upper - edge : lower + edge, left - edge : right + edge] = 0
    assert not outside.any()
    rows = small[small.shape[0] // 2].astype(int)
    assert (np.diff(rows[: len(rows) // 2]) >= 0).all(), "the edge rises without overshoot"


@pytest.mark.parametrize("level", [1, 127, 254, 255])
@pytest.mark.parametrize("size", [(64, 48), (1001, 751), (4000, 3000)])
def test_a_constant_mask_stays_constant(level: int, size: tuple[int, int]) -> None:
    mask = read_mask(np.full((600, 800), level, np.uint8), size)
    assert np.unique(levels(mask)).tolist() == [level]


@pytest.mark.parametrize(
    ("mask", "size", "fits"),
    [
        ((100, 50), (640, 480), False),
        ((480, 640), (640, 480), False),
        ((100, 67), (1000, 667), True),
        ((1000, 750), (1009, 750), True),
        ((1009, 750), (1000, 750), True),
        ((1000, 750), (1011, 750), False),
        ((1011, 750), (1000, 750), False),
        ((32, 24), (6000, 4500), True),
    ],
)
def test_the_aspect_ratio_must_be_that_of_the_image(
    mask: tuple[int, int], size: tuple[int, int], fits: bool
) -> None:
    white = np.ones(mask[::-1], bool)
    if fits:
        assert read_mask(white, size).image.size == size
        return
    with pytest.raises(MaskError) as caught:
        read_mask(white, size)
    assert str(caught.value) == (
        "the mask is {}x{}, the image {}x{}; give a mask of the image's size or aspect ratio"
    ).format(*mask, *size)
    assert (caught.value.id, caught.value.code) == ("ZC-E025", 2)


# doubtful and refused masks


def one_pixel(count: int = 1, level: int = 255) -> np.ndarray[Any, Any]:
    array = np.zeros((768, 1024), np.uint8)
    array.flat[:count] = level
    return array


@pytest.mark.parametrize(
    ("array", "warnings"),
    [
        (one_pixel(), ("the mask allows 1 of 786432 pixels to change",)),
        (one_pixel(63), ("the mask allows 63 of 786432 pixels to change",)),
        (one_pixel(64), ()),
        (
            one_pixel(64, 1),
            ("the brightest pixel of the mask is 1; 255 may change fully",),
        ),
        (one_pixel(786432), ("the mask is white everywhere: it restricts nothing",)),
        (one_pixel(786431), ()),
        (one_pixel(786432, 200), ()),
    ],
)
def test_doubtful_masks_are_accepted_with_a_warning(
    array: np.ndarray[Any, Any], warnings: tuple[str, ...]
) -> None:
    assert read_mask(array, (1024, 768)).warnings == warnings


def test_few_pixels_of_a_large_image_are_doubtful() -> None:
    array = np.zeros((3000, 4000), bool)
    array.flat[:119] = True
    (warning,) = read_mask(array, (4000, 3000)).warnings
    assert warning == "the mask allows 119 of 12000000 pixels to change"
    array.flat[119] = True
    assert read_mask(array, (4000, 3000)).warnings == ()


def test_warnings_of_the_file_are_passed_on() -> None:
    data = encoded(box("RGB", "white"), icc_profile=b"rubbish" * 40)
    (warning,) = read_mask(data, SIZE).warnings
    assert warning.startswith("the mask: the color profile is ignored")


NOTHING = "the mask is black everywhere: nothing may change; paint the part white"
BAD: dict[str, tuple[Any, type[InputError], str]] = {
    "black": (box("RGB", "black"), MaskError, NOTHING),
    "transparent": (encoded(alpha(WHITE, Image.new("L", SIZE))), MaskError, NOTHING),
    "false": (np.zeros(SIZE[::-1], bool), MaskError, NOTHING),
    "no image": (b"rubbish", ImageFormatError, "the mask is not an image of a supported format"),
    "empty file": (b"", UnreadableImageError, "the mask is empty, not an image"),
    "no file": ("gone.png", UnreadableImageError, "there is no file gone.png"),
    "floating point file": (
        encoded(Image.new("F", SIZE), "TIFF"), ImageFormatError, "the mask cannot be read as an "
    ),
    "floating point image": (Image.new("F", SIZE), ImageFormatError, "its mode F is not supported"),
    "three channels": (
        np.ones((30, 40, 3), np.uint8), MaskError,
        "a mask array must be (height, width) of bool, uint8 or float 0..1, not (30, 40, 3) of "
        "uint8",
    ),
    "integers": (
        np.ones((30, 40), np.int64), MaskError,
        "a mask array must be (height, width) of bool, uint8 or float 0..1, not (30, 40) of int64",
    ),
    "nothing": (np.ones((0, 40), bool), MaskError, "a mask array must be (height, width) of bool"),
    "0..255 as floats": (BOX.astype(float), MaskError, "a mask array of floats has values outside"),
    "negative": (-np.ones((30, 40)), MaskError, "a mask array of floats has values outside 0..1"),
    "NaN": (np.full((30, 40), np.nan), MaskError, "a mask array of floats has values outside 0..1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_mask_is_an_error_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source, error, message = BAD[name]
    with pytest.raises(error) as caught:
        read_mask(source, SIZE)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_the_given_image_is_not_changed() -> None:
    image = alpha(BLACK, box())
    before = image.tobytes(), image.size, dict(image.info)
    read_mask(image, (80, 60))
    assert (image.tobytes(), image.size, image.info) == before
