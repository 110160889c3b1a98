"""Native compositing: a formula with known answers, and pixels that stay bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from zerocon.image.compositing import LEAST, ROWS, Mask, Matte, composite
from zerocon.image.support import (
    RULES,
    detail_of,
    expected_support,
    find_support,
    kind_of,
    rules_for,
)
from zerocon.image.transfer import Transfer, detail_gate, find_transfer, linear_fit
from zerocon.prompt import Change


def noise(size, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def working(image, size):
    """The image at working size, (height, width, 3) in 0..1: a perfect autoencoder's output."""
    small = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(small, np.float32) / 255


def mask_of(values):
    return Mask(Image.fromarray(np.asarray(values, np.float32)))


def ones(size):
    return np.ones((size[1], size[0]), np.float32)


SIZES = [
    ((300, 200), (48, 32)),
    ((200, 301), (32, 48)),
    ((16, 16), (64, 64)),
    ((517, 131), (64, 16)),
]


def replaced(b):
    """The transfer that puts ``b`` in place of the source."""
    return Transfer(np.zeros((*b.shape, 3), np.float32), b)


def added(difference):
    """The transfer that adds ``difference`` to the source."""
    identity = np.broadcast_to(np.eye(3, dtype=np.float32), (*difference.shape, 3))
    return Transfer(identity, difference)


@pytest.mark.parametrize("detail", ["kept", "strict", "replaced"])
@pytest.mark.parametrize(("size", "small"), SIZES)
def test_an_edit_that_changes_nothing_returns_the_source(size, small, detail):
    source, a = noise(size), working(noise(size), small)
    same = find_transfer(a, a.copy(), detail)
    assert composite(source, same, mask_of(ones(small))).tobytes() == source.tobytes()


@pytest.mark.parametrize(("size", "small"), SIZES)
def test_samples_outside_the_mask_are_the_sources_own(size, small):
    source, b = noise(size), working(noise(size, 1), small)
    left = ones(small)
    left[:, small[0] // 2 :] = 0
    result = np.asarray(composite(source, replaced(b), mask_of(left)))
    mask = np.asarray(mask_of(left).enlarged(source))
    before = np.asarray(source)
    assert 0.3 < (mask == 0).mean() < 0.7
    assert (result[mask == 0] == before[mask == 0]).all()
    assert (result[mask == 255] != before[mask == 255]).mean() > 0.9


def test_a_gain_of_zero_enlarges_the_offset():
    size, small = (256, 192), (64, 48)
    source, b = noise(size), working(noise(size, 1), small)
    enlarged = np.stack(
        [
            np.asarray(Image.fromarray(b[..., c]).resize(size, Image.Resampling.LANCZOS))
            for c in range(3)
        ],
        -1,
    )
    result = np.asarray(composite(source, replaced(b), mask_of(ones(small))), np.float32)
    assert np.abs(result - 255 * enlarged.clip(0, 1)).max() <= 0.51


def test_the_identity_adds_the_offset_and_a_matrix_mixes_the_channels():
    size, small = (256, 192), (64, 48)
    quiet = Image.fromarray((np.asarray(noise(size)) // 2 + 40).astype(np.uint8))
    every = mask_of(ones(small))
    lighter = composite(quiet, added(np.full((48, 64, 3), 20 / 255, np.float32)), every)
    assert np.abs(np.asarray(lighter, int) - np.asarray(quiet, int) - 20).max() <= 1
    swap = np.broadcast_to(np.eye(3, dtype=np.float32)[[2, 1, 0]], (48, 64, 3, 3))
    swapped = composite(quiet, Transfer(swap, np.zeros((48, 64, 3), np.float32)), every)
    assert np.array_equal(np.asarray(swapped), np.asarray(quiet)[..., ::-1])


def test_half_a_mask_is_half_an_edit():
    source = Image.new("RGB", (40, 40), (100, 100, 100))
    b = np.full((10, 10, 3), 200 / 255, np.float32)
    half = composite(source, replaced(b), mask_of(0.5 * ones((10, 10))))
    assert half.getpixel((20, 20)) == (150, 150, 150)


def test_strips_have_no_seams():
    size, small = (64, 4 * ROWS + 7), (16, 135)
    source = Image.new("RGB", size, (90, 120, 150))
    ramp = np.linspace(0, 0.5, small[1], dtype=np.float32)[:, None, None]
    ramp = np.broadcast_to(ramp, (small[1], small[0], 3))
    result = composite(source, replaced(ramp), mask_of(ones(small)))
    column = np.asarray(result)[:, 30, 0].astype(int)
    assert np.diff(column).min() >= 0
    assert np.diff(column).max() <= 2


@given(box=st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(16, 60)] * 2))
@settings(max_examples=25, deadline=None)
def test_a_crop_changes_only_its_box(box):
    left, upper, width, height = box
    right, lower = min(left + width, 120), min(upper + height, 120)
    source, small = noise((120, 120)), (32, 32)
    b = working(noise((120, 120), 1), small)
    part = composite(source, replaced(b), mask_of(ones(small)), (left, upper, right, lower))
    changed = (np.asarray(part) != np.asarray(source)).any(-1)
    assert changed[upper:lower, left:right].mean() > 0.9
    changed[upper:lower, left:right] = False
    assert not changed.any()


def test_a_given_mask_is_applied_as_it_is():
    size, small = (160, 120), (32, 24)
    source, b = noise(size), working(noise(size, 1), small)
    values = np.zeros((120, 160), np.uint8)
    values[30:60, 40:90] = 255
    mask = Image.fromarray(values)
    result = composite(source, replaced(b), Mask(mask))
    changed = (np.asarray(result) != np.asarray(source)).any(-1)
    assert not changed[values == 0].any()
    assert changed[values == 255].mean() > 0.95
    assert Mask(mask).enlarged(source).tobytes() == mask.tobytes()


def test_faint_values_of_a_mask_are_zero():
    mask = mask_of(np.full((4, 4), 0.9 * LEAST)).enlarged(noise((40, 40)))
    assert mask.getextrema() == (0, 0)


def test_a_matte_ends_at_the_outline_of_the_source():
    """A disc in the source, and a mask that is too large by four pixels of working size."""
    y, x = np.mgrid[:512, :512]
    disc = np.hypot(x - 256, y - 256) < 120
    source = Image.fromarray(np.where(disc[..., None], 200, 60).astype(np.uint8).repeat(3, -1))
    a = working(source, (128, 128))
    y, x = np.mgrid[:128, :128]
    large = gaussian_filter((np.hypot(x - 64, y - 64) < 34).astype(np.float32), 1)
    gain, offset = linear_fit(a, large[..., None], 6.0, 1e-3)
    plain, sharp = (
        Mask(Image.fromarray(large)),
        Mask(Image.fromarray(large), Matte(gain[..., 0, :], offset[..., 0], 0 * large)),
    )
    wrong = [((np.asarray(each.enlarged(source)) > 127) != disc).mean() for each in (plain, sharp)]
    assert wrong[1] < 0.25 * wrong[0]


def test_a_faded_mask_is_zero_at_its_end():
    fade = np.ones((16, 16), np.float32) * (np.arange(16, dtype=np.float32) / 8).clip(0, 1)
    mask = Mask(Image.new("F", (16, 16), 1.0), fade=Image.fromarray(fade))
    values = np.asarray(mask.enlarged(noise((160, 80))))
    assert values[:, 0].max() <= 3 and (values[:, 100:] == 255).all()


# the support


def scene(seed=0, side=128):
    """A smooth image with structure, (side, side, 3) in 0..1."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(60, 200, (12, 12, 3), dtype=np.uint8))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255


def changed_box(a, box=(40, 50, 80, 90), amount=0.5):
    b = a.copy()
    left, upper, right, lower = box
    b[upper:lower, left:right] = (b[upper:lower, left:right] + amount) % 1
    region = np.zeros(a.shape[:2], bool)
    region[upper:lower, left:right] = True
    return b, region


LOCAL = [
    Change("object", "cat", "dog"),
    Change("attribute", "red", "blue"),
    Change("added", "", "a hat"),
    Change("added", "a hat", ""),
]


@pytest.mark.parametrize("change", LOCAL, ids=kind_of)
def test_a_local_change_is_located(change):
    a = scene()
    b, region = changed_box(a)
    support = find_support(a, b, [change])
    mask = np.asarray(support.mask.image)
    inside, overlap = mask > 0.5, (mask > 0.5) & region
    assert overlap.sum() / (inside | region).sum() > 0.75
    assert (mask[:30] == 0).all(), "far from the change the source stays"
    assert support.extent == "local"
    assert 0.05 < support.share < 0.2


def test_a_removed_object_is_not_an_added_one():
    assert [kind_of(change) for change in LOCAL] == ["object", "attribute", "added", "removed"]


@pytest.mark.parametrize("change", LOCAL, ids=kind_of)
@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-3])
def test_rounding_errors_are_no_support(change, size):
    a = scene()
    b = a + np.float32(size) * np.random.default_rng(0).standard_normal(a.shape).astype(np.float32)
    assert not np.asarray(find_support(a, b, [change]).mask.image).any()


def test_small_far_changes_are_left_out_of_a_local_support():
    a = scene()
    b, _ = changed_box(a)
    b[5:9, 110:114] += 0.4
    mask = np.asarray(find_support(a, b, [LOCAL[0]]).mask.image)
    assert not mask[:20, 100:].any()


@pytest.mark.parametrize("category", ["time", "style"])
def test_whole_image_changes_have_the_whole_image_as_support(category):
    a = scene()
    support = find_support(a, changed_box(a)[0], [Change(category, "day", "night")])
    assert np.asarray(support.mask.image).min() == 1
    assert (support.extent, support.share) == ("all", 1.0)


def test_the_subject_stays_when_the_place_changes():
    a = scene()
    b = scene(1)
    b[40:90, 40:90] = a[40:90, 40:90]
    b[60:62, 60:62] += 0.5  # a speck on the subject is part of it no more than of the background
    mask = np.asarray(find_support(a, b, [Change("place", "a beach", "a forest")]).mask.image)
    assert (mask[48:82, 48:82] == 0).all()
    assert mask[:30].min() > 0.9


def test_several_changes_share_a_support():
    a = scene()
    b, _ = changed_box(a)
    both = find_support(a, b, LOCAL[:2])
    assert both.extent == "local"
    assert [rule.extent for rule in rules_for({"object", "time"})] == ["all"]
    assert [rule.extent for rule in rules_for({"object", "place"})] == ["changed"]
    assert rules_for(set()) == [RULES["caption"]]


def test_the_mask_of_a_larger_image_has_the_same_shape():
    a, b = scene(), changed_box(scene())[0]
    large = [
        np.stack([np.kron(x[..., c], np.ones((3, 3), np.float32)) for c in range(3)], -1)
        for x in (a, b)
    ]
    small, big = (
        np.asarray(
            find_support(*pair, [LOCAL[0]]).mask.image.resize((128, 128), Image.Resampling.BOX)
        )
        for pair in ((a, b), large)
    )
    assert ((small > 0.5) == (big > 0.5)).mean() > 0.97


def test_an_expected_support_is_known_before_the_edit():
    assert expected_support([Change("time", "day", "night")], "pixel")[0] == "all"
    assert expected_support(LOCAL[:1], "pixel") == ("local", "only the replaced object")
    assert expected_support(LOCAL[:1], "off")[0] == "all"
    assert expected_support(LOCAL[:1], "off", given=True)[0] == "given"


# the transfer


def test_a_change_of_colors_is_carried_to_every_detail():
    """The edit is blurred; the colors of the source, exact. The result has both."""
    small = (128, 128)
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 2, (16, 16)).repeat(32, 0).repeat(32, 1).astype(bool)
    before = np.where(blocks[..., None], (30, 60, 200), (220, 215, 210)).astype(np.uint8)
    after = np.where(blocks[..., None], (200, 40, 30), (220, 215, 210)).astype(np.uint8)
    a, b = (
        gaussian_filter(working(Image.fromarray(each), small), (1.5, 1.5, 0))
        for each in (before, after)
    )
    source, every = Image.fromarray(before), mask_of(ones(small))
    result = composite(source, find_transfer(a, b, "kept"), every)
    enlarged = composite(source, replaced(b), every)
    errors = [np.abs(np.asarray(each, float) - after).mean() for each in (result, enlarged)]
    assert errors[0] < 0.2 * errors[1]


def test_detail_is_kept_where_nothing_changed_and_dropped_where_the_structure_did():
    a = scene()
    b = a.copy()
    b[:, 64:] = scene(5)[:, 64:]
    gate = detail_gate(a, b, "kept")
    assert gate[:, :50].min() > 0.99
    assert np.median(gate[:, 74:]) < 0.5
    assert detail_gate(a, b, "strict")[:, 74:].mean() < gate[:, 74:].mean()
    gain = find_transfer(a, b, "strict").gain
    assert np.abs(gain[:, :50] - np.eye(3)).max() < 0.01
    assert np.abs(gain[:, 80:120] - np.eye(3)).mean() > 0.2


@pytest.mark.parametrize("detail", ["kept", "strict", "replaced"])
def test_equal_images_give_the_identity(detail):
    transfer = find_transfer(scene(), scene(), detail)
    assert np.abs(transfer.gain - np.eye(3)).max() < 1e-5
    assert np.abs(transfer.offset).max() < 1e-5


@pytest.mark.parametrize("detail", ["kept", "strict", "replaced"])
@pytest.mark.parametrize("size", [1e-4, 1e-3])
def test_the_transfer_is_continuous_in_the_difference(detail, size):
    a = scene()
    d = np.random.default_rng(1).standard_normal(a.shape).astype(np.float32)
    transfer = find_transfer(a, a + np.float32(size) * d, detail)
    result = np.einsum("hwij,hwj->hwi", transfer.gain, a) + transfer.offset
    assert np.abs(result - a).max() < 6 * size


def test_a_style_keeps_no_detail():
    transfer = find_transfer(scene(), scene(3), "replaced")
    assert np.abs(transfer.gain).max() < 0.01
    assert transfer.offset == pytest.approx(scene(3), abs=0.01)
    assert detail_of([Change("style", "", "watercolor"), LOCAL[1]]) == "replaced"
    assert detail_of(LOCAL[:2]) == "strict"
    assert detail_of(LOCAL[1:2]) == "kept"
