"""Pictures in and out: what is refused, what comes back, what is never left behind."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zerocon import images
from zerocon.images import check_output, fit, open_picture, save_picture, sheet, unfit


def test_png_and_jpeg_are_read_as_rgb(tmp_path: Path, picture: Image.Image) -> None:
    for name in ("a.png", "a.jpg", "misnamed.txt"):
        picture.save(tmp_path / name, format="JPEG" if name == "a.jpg" else "PNG")
        read = open_picture(tmp_path / name)
        assert (read.mode, read.size) == ("RGB", picture.size)
        assert np.abs(np.asarray(read, int) - np.asarray(picture, int)).mean() < 3


def test_every_orientation_of_a_camera_ends_upright(tmp_path: Path, picture: Image.Image) -> None:
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me a quarter to the right"
    turned.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(open_picture(tmp_path / "turned.png"), picture)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = Image.new("L", (20, 20), 255)
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 20), 257 * 255, np.uint16))
    else:
        image = grey.convert("RGB").convert(mode) if mode == "CMYK" else grey.convert(mode)
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    image.save(path)
    assert np.asarray(open_picture(path)).min() == 255


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_picture(tmp_path / "clear.png").getpixel((3, 3)) == (255, 255, 255)


def _bad_pictures(folder: Path) -> dict[str, bytes]:
    gradient(200, 150).save(folder / "good.png")
    gradient(200, 150).save(folder / "good.jpg")
    gradient(15, 300).save(folder / "thin.png")
    frames = [gradient(32, 32), gradient(32, 32).rotate(90)]
    frames[0].save(folder / "two.gif", save_all=True, append_images=frames[1:])
    png, jpeg = (folder / "good.png").read_bytes(), (folder / "good.jpg").read_bytes()
    return {
        "is empty": b"",
        "is not a picture": b"Once upon a time\n" * 50,
        "cannot be read as a picture: image file is truncated": jpeg[: len(jpeg) // 2],
        "cannot be read as a picture: ": png[: len(png) // 2],
        "cannot be read as a picture: broken": png[:100] + bytes(60) + png[160:],
        "is 15x300; a picture needs 16": (folder / "thin.png").read_bytes(),
        "it has 2 frames; give a still": (folder / "two.gif").read_bytes(),
    }


def test_a_bad_picture_is_one_line(tmp_path: Path) -> None:
    cases = _bad_pictures(tmp_path)
    for number, (message, content) in enumerate(cases.items()):
        path = tmp_path / f"bad{number}.png"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            open_picture(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_no_file_a_folder_and_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match="there is no file"):
        open_picture(tmp_path / "nothing.png")
    with pytest.raises(ValueError, match="is a folder, not a picture"):
        open_picture(tmp_path)
    with pytest.raises(ValueError, match="is no file, not a picture"):
        open_picture(tmp_path / "pipe.png")


def test_a_bomb_is_refused(
    tmp_path: Path, picture_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="decompression bomb"):
        open_picture(picture_file)


sides = st.integers(1, 90)


@settings(deadline=None, max_examples=60)
@given(sides, sides, st.sampled_from([16, 64, 100, 128]), st.sampled_from([8, 16, 64]))
def test_fit_pads_to_the_multiple_and_unfit_gives_the_size_back(
    width: int, height: int, size: int, multiple: int
) -> None:
    fitted = fit(gradient(width, height), size, multiple)
    pixels, inner = fitted.pixels, fitted.frame.inner
    assert pixels.shape[:2] == (1, 3)
    assert pixels.dtype == torch.float32
    assert -1 <= pixels.min() and pixels.max() <= 1
    assert max(inner) == size
    assert min(inner) == max(1, round(min(width, height) * size / max(width, height)))
    for padded, side in zip(reversed(pixels.shape[2:]), inner, strict=True):
        assert padded % multiple == 0 and side <= padded < side + multiple
    assert unfit(pixels[0], fitted.frame).size == (width, height)


def test_at_the_working_size_nothing_is_lost() -> None:
    source = gradient(128, 96)
    fitted = fit(source, 128, 64)
    assert np.array_equal(unfit(fitted.pixels[0], fitted.frame), source)


def test_padding_is_the_picture_reflected() -> None:
    pixels = fit(gradient(128, 100), 128, 64).pixels[0]
    assert torch.equal(pixels[:, 100:128], pixels[:, 71:99].flip(1))


def test_unfit_stays_in_range() -> None:
    fitted = fit(gradient(64, 64), 64, 64)
    assert np.array_equal(
        np.unique(unfit(fitted.pixels[0].sign() * 7, fitted.frame)), np.array([0, 255])
    )


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.JPEG"])
def test_save_then_open(tmp_path: Path, picture: Image.Image, name: str) -> None:
    save_picture(picture, tmp_path / name)
    difference = np.asarray(open_picture(tmp_path / name), int) - np.asarray(picture, int)
    assert np.abs(difference).max() <= (0 if name == "out.png" else 12)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_output_that_is_refused(tmp_path: Path, picture: Image.Image) -> None:
    source = tmp_path / "source.png"
    picture.save(source)
    (tmp_path / "hard.png").hardlink_to(source)
    (tmp_path / "soft.png").symlink_to(source)
    (tmp_path / "other.png").write_bytes(b"precious")
    (tmp_path / "folder.png").mkdir()
    before = source.read_bytes()
    for name, overwrite, message in [
        ("source.png", True, "is the picture itself"),
        ("hard.png", True, "is the picture itself"),
        ("soft.png", True, "is the picture itself"),
        ("other.png", False, "exists already; give --overwrite"),
        ("folder.png", True, "is a folder"),
        ("away/out.png", False, "there is no folder"),
        ("out.webp", False, "must end in .png or .jpg or .jpeg"),
        ("out", False, "must end in"),
    ]:
        with pytest.raises(ValueError, match=message):
            check_output(tmp_path / name, overwrite=overwrite, source=source)
        with pytest.raises(ValueError, match=message):
            save_picture(picture, tmp_path / name, overwrite=overwrite, source=source)
    assert source.read_bytes() == before
    assert (tmp_path / "other.png").read_bytes() == b"precious"


def test_overwrite_replaces(tmp_path: Path, picture: Image.Image) -> None:
    (tmp_path / "out.png").write_bytes(b"old")
    save_picture(picture, tmp_path / "out.png", overwrite=True)
    assert open_picture(tmp_path / "out.png").size == picture.size


def test_a_failed_save_leaves_nothing(
    tmp_path: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Image.Image, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half a pic")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save_picture(picture, tmp_path / "out.png")
    assert list(tmp_path.iterdir()) == []


def test_sheet_has_a_cell_for_each_and_room_for_the_words() -> None:
    pictures = [Image.new("RGB", (60, 40), colour) for colour in ("red", "lime", "blue")]
    page = sheet(pictures, ["one", "two", "a label much too long for so small a picture"], 2)
    assert page.width == 120
    assert page.height % 2 == 0 and page.height > 80
    assert page.getpixel((30, 20)) == (255, 0, 0)
    assert page.getpixel((90, 20)) == (0, 255, 0)
    assert page.getpixel((30, page.height // 2 + 20)) == (0, 0, 255)
    words = np.asarray(page.crop((0, 40, 60, page.height // 2)).convert("L"))
    assert words.min() < 128 and words.max() == 255
    empty = page.crop((60, page.height // 2, 120, page.height))
    assert np.asarray(empty).min() == 255


def test_a_label_is_shortened_to_what_fits() -> None:
    assert images._shortened("a fox", lambda text: len(text) <= 8) == "a fox"
    assert images._shortened("a fox in the snow", lambda text: len(text) <= 8) == "a fox..."
