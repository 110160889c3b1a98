"""Copies of source images: the same bytes where the format allows it, never over an input."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import gradient
from PIL import ExifTags, Image

from zerocon.errors import OutputExistsError, OutputIsInputError, UnreadableImageError
from zerocon.image.formats import NAMED
from zerocon.image.reading import Photograph
from zerocon.image.writing import copied_file, copy_image

COMMENT = b"a comment that the normal writer does not keep"


def jpeg(path: Path, *, gps: bool = False) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Author"
    if gps:
        exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (52.0, 31.0, 0.0)}
    gradient(96, 64).save(path, exif=exif, comment=COMMENT)
    return path


def test_a_copy_in_the_same_format_has_the_same_bytes(tmp_path: Path) -> None:
    source = jpeg(tmp_path / "cat.jpg")
    copy_image(source, tmp_path / "same.jpeg")
    assert (tmp_path / "same.jpeg").read_bytes() == source.read_bytes()
    assert copied_file(source.read_bytes(), NAMED["JPEG"]) == source.read_bytes()


def test_a_copy_in_another_format_keeps_pixels_and_metadata(tmp_path: Path) -> None:
    source = jpeg(tmp_path / "cat.jpg")
    copy_image(source, tmp_path / "cat.png")
    with Image.open(tmp_path / "cat.png") as copy, Image.open(source) as image:
        assert copy.format == "PNG"
        assert np.array_equal(copy, image)
        assert copy.getexif()[ExifTags.Base.Artist] == "A. Author"
    assert Photograph.read(tmp_path / "cat.png").recipe is None


@pytest.mark.parametrize("keep", [True, False])
def test_the_gps_position_is_copied_only_on_request(tmp_path: Path, keep: bool) -> None:
    source, output = jpeg(tmp_path / "cat.jpg", gps=True), tmp_path / "copy.jpg"
    copy_image(source, output, keep_gps=keep)
    copy = Photograph.read(output, keep_gps=True)
    assert copy.has_location == keep
    assert (output.read_bytes() == source.read_bytes()) == keep
    with Image.open(output) as image:
        assert image.getexif()[ExifTags.Base.Artist] == "A. Author"


def test_a_position_in_xmp_is_not_copied_either() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a exif:GPSLatitude="52,31N"/></x:xmpmeta>'
    gradient(32, 32).save(file := io.BytesIO(), "JPEG", xmp=xmp)
    assert b"GPSLatitude" not in copied_file(file.getvalue(), NAMED["JPEG"])
    assert copied_file(file.getvalue(), NAMED["JPEG"], keep_gps=True) == file.getvalue()


def test_no_file_is_replaced_unless_that_is_allowed_and_an_input_never(tmp_path: Path) -> None:
    source, taken = jpeg(tmp_path / "cat.jpg"), tmp_path / "taken.jpg"
    taken.write_bytes(b"before")
    with pytest.raises(OutputExistsError):
        copy_image(source, taken)
    with pytest.raises(OutputIsInputError):
        copy_image(source, taken, overwrite=True, inputs=[taken])
    with pytest.raises(OutputIsInputError):
        copy_image(source, source, overwrite=True)
    assert taken.read_bytes() == b"before"
    copy_image(source, taken, overwrite=True)
    assert taken.read_bytes() == source.read_bytes()


def test_what_is_not_an_image_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("")
    with pytest.raises(UnreadableImageError, match=r"text\.png is empty"):
        copy_image(tmp_path / "text.png", tmp_path / "copy.png")
    assert {path.name for path in tmp_path.iterdir()} == {"text.png"}
