"""Images at the model's working size and back, refused outputs, contact sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zerocon.image import SizeRule, contact_sheet, transforms
from zerocon.image.contact_sheet import sheet
from zerocon.image.reading import Photograph
from zerocon.image.saving import check_output, save_image
from zerocon.image.transforms import Prepared, Size, WorkingSize, prepare

SMALL = WorkingSize(64, 16, "longest")

sides = st.integers(1, 90)


SIZES = [  # source, scaled by area to 512 pixels, scaled by the longest side to 128 pixels
    ((512, 512), (512, 512), (128, 128)),
    ((3000, 3000), (512, 512), (128, 128)),
    ((8000, 6000), (591, 443), (128, 96)),
    ((6000, 8000), (443, 591), (96, 128)),
    ((4000, 2250), (683, 384), (128, 72)),
    ((2250, 4000), (384, 683), (72, 128)),
    ((900, 400), (768, 341), (128, 57)),  # 9:4, the longest that is scaled by its area
    ((3000, 1000), (768, 256), (128, 43)),
    ((1000, 3000), (256, 768), (43, 128)),
    ((4000, 400), (768, 77), (128, 13)),
    ((400, 4000), (77, 768), (13, 128)),
    ((16, 16), (512, 512), (128, 128)),
    ((3, 1), (768, 256), (128, 43)),
    ((1, 2000), (1, 768), (1, 128)),
]


@pytest.mark.parametrize(("source", "by_area", "by_longest"), SIZES)
def test_working_sizes_by_both_rules(source: Size, by_area: Size, by_longest: Size) -> None:
    area, longest = WorkingSize(512, 64, "area"), WorkingSize(128, 16, "longest")
    assert (area.scaled(source), longest.scaled(source)) == (by_area, by_longest)
    for working, scaled in ((area, by_area), (longest, by_longest)):
        padded = working.padded(source)
        assert all(side % working.multiple == 0 for side in padded)
        assert all(
            0 <= more - side < working.multiple for more, side in zip(padded, scaled, strict=True)
        )
    prepared = prepare(Image.new("L", source), area)
    assert (prepared.frame.inner, prepared.size) == (by_area, area.padded(source))
    assert longest.with_size(512) == WorkingSize(512, 16, "longest")
    assert longest.with_size(None) == longest


@settings(deadline=None, max_examples=200)
@given(st.integers(16, 9000), st.integers(16, 9000), st.sampled_from([64, 512, 768, 2048]))
def test_the_area_is_that_of_the_size_unless_the_longest_side_is_limited(
    width: int, height: int, size: int
) -> None:
    scaled = WorkingSize(size, 64, "area").scaled((width, height))
    if max(width, height) > 2.25 * min(width, height):
        assert max(scaled) == 1.5 * size
    else:
        assert scaled[0] * scaled[1] == pytest.approx(size**2, rel=0.03)
        assert max(scaled) <= 1.5 * size
    exact = max(scaled) * min(width, height) / max(width, height)
    assert abs(min(scaled) - max(1, exact)) <= 1  # both sides are rounded


@settings(deadline=None, max_examples=60)
@given(
    sides,
    sides,
    st.sampled_from([16, 64, 100, 128]),
    st.sampled_from([8, 16, 64]),
    st.sampled_from(["area", "longest"]),
)
def test_padding_reaches_the_multiple_and_the_source_size_comes_back(
    width: int, height: int, size: int, multiple: int, rule: SizeRule
) -> None:
    prepared = prepare(gradient(width, height), WorkingSize(size, multiple, rule))
    pixels, inner = prepared.pixels, prepared.frame.inner
    assert pixels.shape == (1, 3, *reversed(prepared.size))
    assert pixels.dtype == torch.float32
    assert -1 <= pixels.min() and pixels.max() <= 1
    if rule == "longest":
        assert max(inner) == size
        assert min(inner) == max(1, round(min(width, height) * size / max(width, height)))
    for padded, side in zip(reversed(pixels.shape[2:]), inner, strict=True):
        assert padded % multiple == 0 and side <= padded < side + multiple
    assert prepared.to_image(pixels[0]).size == (width, height)


def test_an_image_of_the_working_size_comes_back_exactly() -> None:
    source = gradient(128, 96)
    prepared = prepare(source, WorkingSize(128, 64, "longest"))
    assert np.array_equal(prepared.to_image(prepared.pixels[0]), source)


def test_padding_reflects_the_image() -> None:
    pixels = prepare(gradient(128, 100), WorkingSize(128, 64, "longest")).pixels[0]
    assert torch.equal(pixels[:, 100:128], pixels[:, 71:99].flip(1))


def test_padding_beyond_the_reflection_repeats_the_last_row() -> None:
    pixels = prepare(gradient(300, 30), WorkingSize(128, 64, "longest")).pixels[0]  # 128x13
    assert torch.equal(pixels[:, 13:25], pixels[:, :12].flip(1))
    assert (pixels[:, 25:] == pixels[:, 24:25]).all()


def test_pixels_out_of_range_are_clamped() -> None:
    prepared = prepare(gradient(64, 64), WorkingSize(64, 64, "longest"))
    clamped = prepared.to_image(prepared.pixels[0].sign() * 7)
    assert np.array_equal(np.unique(clamped), np.array([0, 255]))


def test_a_crop_is_prepared_like_an_image_of_its_own() -> None:
    image, box = gradient(90, 70), (10, 20, 74, 52)
    crop, alone = prepare(image, SMALL, box), prepare(image.crop(box), SMALL)
    assert torch.equal(crop.pixels, alone.pixels)
    assert (crop.frame, crop.size) == (alone.frame, alone.size)
    assert crop.hash == prepare(image, SMALL).hash != alone.hash  # identity of the whole image


def test_keys_differ_where_the_image_at_working_size_does() -> None:
    image = gradient(90, 70)
    working = [
        prepare(image, SMALL),
        prepare(image, SMALL, (0, 0, 90, 60)),
        prepare(image, SMALL, (0, 10, 90, 70)),  # as large, another part
        prepare(image, SMALL.with_size(63)),  # padded to the same size
        prepare(image, WorkingSize(64, 16, "area")),
        prepare(image, WorkingSize(64, 100, "longest")),
        prepare(gradient(90, 69), SMALL),
    ]
    assert len({each.key for each in working}) == len(working)
    assert prepare(image.copy(), SMALL, (0, 0, 90, 70)).key == working[0].key, "all of the image"


def test_an_image_is_hashed_and_resized_at_most_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    hashed, resized = transforms.image_hash, Image.Image.resize
    monkeypatch.setattr(
        transforms, "image_hash", lambda image: calls.append("hash") or hashed(image)
    )
    monkeypatch.setattr(
        Image.Image, "resize", lambda *args: calls.append("resize") or resized(*args)
    )
    prepared: Prepared = prepare(gradient(60, 50), SMALL)
    assert calls == []
    for _ in range(2):
        assert prepared.hash and prepared.pixels.shape == (1, 3, 64, 64)
    assert sorted(calls) == ["hash", "resize"]


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.JPEG", "out.webp", "out.tif"])
def test_save_then_open(tmp_path: Path, image: Image.Image, name: str) -> None:
    save_image(image, tmp_path / name)
    difference = np.asarray(Photograph.read(tmp_path / name).image, int) - np.asarray(image, int)
    assert np.abs(difference).max() <= (0 if name in ("out.png", "out.tif") else 12)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_invalid_outputs_are_rejected(tmp_path: Path, image: Image.Image) -> None:
    source = tmp_path / "source.png"
    image.save(source)
    (tmp_path / "hard.png").hardlink_to(source)
    (tmp_path / "soft.png").symlink_to(source)
    (tmp_path / "other.png").write_bytes(b"other")
    (tmp_path / "folder.png").mkdir()
    before = source.read_bytes()
    for name, overwrite, message in [
        ("source.png", True, "is an input"),
        ("hard.png", True, "is an input"),
        ("soft.png", True, "is an input"),
        ("other.png", False, "exists already; add --overwrite"),
        ("folder.png", True, "is a directory"),
        ("away/out.png", False, "the directory .* does not exist"),
        ("out.gif", False, "must end in .png or .jpg or .jpeg"),
        ("out", False, "must end in"),
    ]:
        with pytest.raises(ValueError, match=message):
            check_output(tmp_path / name, overwrite=overwrite, inputs=[source])
        with pytest.raises(ValueError, match=message):
            save_image(image, tmp_path / name, overwrite=overwrite, inputs=[source])
    assert source.read_bytes() == before
    assert (tmp_path / "other.png").read_bytes() == b"other"


def test_overwrite_replaces(tmp_path: Path, image: Image.Image) -> None:
    (tmp_path / "out.png").write_bytes(b"old")
    save_image(image, tmp_path / "out.png", overwrite=True)
    assert Photograph.read(tmp_path / "out.png").size == image.size


def test_a_failed_save_leaves_nothing(
    tmp_path: Path, image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, data: bytes) -> None:
        path.write_text("half a pic")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(KeyboardInterrupt):
        save_image(image, tmp_path / "out.png")
    assert list(tmp_path.iterdir()) == []


def test_sheet_has_a_cell_for_each_and_room_for_the_words() -> None:
    images = [Image.new("RGB", (60, 40), color) for color in ("red", "lime", "blue")]
    page = sheet(images, ["one", "two", "a label that is too long for a small image"], 2)
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
    assert contact_sheet._shortened("a fox", lambda text: len(text) <= 8) == "a fox"
    assert contact_sheet._shortened("a fox in the snow", lambda text: len(text) <= 8) == "a fox..."
