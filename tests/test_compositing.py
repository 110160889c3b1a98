"""Native compositing: a formula with known answers, and pixels that stay bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zerocon.image.compositing import LEAST, ROWS, composite, enlarged_mask
from zerocon.image.support import (
    RULES,
    detail_gate,
    find_support,
    given_support,
    kind_of,
    rules_for,
)
from zerocon.prompt import Change


def noise(size, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def working(image, size):
    """The image at working size, (height, width, 3) in 0..1: a perfect autoencoder's output."""
    small = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(small, np.float32) / 255


def mask_of(values):
    return Image.fromarray(np.asarray(values, np.float32))


def ones(size):
    return np.ones((size[1], size[0]), np.float32)


SIZES = [
    ((300, 200), (48, 32)),
    ((200, 301), (32, 48)),
    ((16, 16), (64, 64)),
    ((517, 131), (64, 16)),
]


@pytest.mark.parametrize(("size", "small"), SIZES)
def test_an_edit_that_changes_nothing_returns_the_source(size, small):
    source, a = noise(size), working(noise(size), small)
    assert composite(source, a, a, mask_of(ones(small)), ones(small)).tobytes() == source.tobytes()


@pytest.mark.parametrize(("size", "small"), SIZES)
def test_samples_outside_the_mask_are_the_sources_own(size, small):
    source, a, b = noise(size), working(noise(size), small), working(noise(size, 1), small)
    left = ones(small)
    left[:, small[0] // 2 :] = 0
    result = np.asarray(composite(source, a, b, mask_of(left), 0 * ones(small)))
    mask = np.asarray(enlarged_mask(mask_of(left), size))
    before = np.asarray(source)
    assert 0.3 < (mask == 0).mean() < 0.7
    assert (result[mask == 0] == before[mask == 0]).all()
    assert (result[mask == 255] != before[mask == 255]).mean() > 0.9


def test_without_detail_the_edit_is_enlarged_and_with_all_of_it_the_difference_is_added():
    size, small = (256, 192), (64, 48)
    source, b = noise(size), working(noise(size, 1), small)
    a = working(source, small)
    every = mask_of(ones(small))
    enlarged = np.stack(
        [
            np.asarray(Image.fromarray(b[..., c]).resize(size, Image.Resampling.LANCZOS))
            for c in range(3)
        ],
        -1,
    )
    result = np.asarray(composite(source, a, b, every, 0 * ones(small)), np.float32)
    assert np.abs(result - 255 * enlarged.clip(0, 1)).max() <= 0.51
    lighter = a + np.float32(20 / 255)
    quiet = Image.fromarray((np.asarray(source) // 2 + 40).astype(np.uint8))
    a = working(quiet, small)
    result = composite(quiet, a, a + np.float32(20 / 255), every, ones(small))
    assert lighter.shape == a.shape
    assert np.abs(np.asarray(result, int) - np.asarray(quiet, int) - 20).max() <= 1


def test_strips_have_no_seams():
    size, small = (64, 4 * ROWS + 7), (16, 135)
    source = Image.new("RGB", size, (90, 120, 150))
    y = np.linspace(0, 1, small[1], dtype=np.float32)[:, None, None]
    a = np.zeros((small[1], small[0], 3), np.float32)
    result = composite(source, a, a + 0.5 * y, mask_of(ones(small)), 0 * ones(small))
    column = np.asarray(result)[:, 30, 0].astype(int)
    assert np.diff(column).min() >= 0
    assert np.diff(column).max() <= 2


@given(box=st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(16, 60)] * 2))
@settings(max_examples=25, deadline=None)
def test_a_crop_changes_only_its_box(box):
    left, upper, width, height = box
    size = (120, 120)
    right, lower = min(left + width, 120), min(upper + height, 120)
    source, small = noise(size), (32, 32)
    a, b = working(noise(size), small), working(noise(size, 1), small)
    part = composite(source, a, b, mask_of(ones(small)), ones(small), (left, upper, right, lower))
    changed = (np.asarray(part) != np.asarray(source)).any(-1)
    changed[upper:lower, left:right] = False
    assert not changed.any()


def test_a_given_mask_is_applied_as_it_is():
    size, small = (160, 120), (32, 24)
    source, a, b = noise(size), working(noise(size), small), working(noise(size, 1), small)
    values = np.zeros((120, 160), np.uint8)
    values[30:60, 40:90] = 255
    mask = Image.fromarray(values)
    result = np.asarray(composite(source, a, b, mask, 0 * ones(small)))
    changed = (result != np.asarray(source)).any(-1)
    assert not changed[values == 0].any()
    assert changed[values == 255].mean() > 0.95
    assert enlarged_mask(mask, size).tobytes() == mask.tobytes()


def test_faint_values_of_a_mask_are_zero():
    mask = enlarged_mask(mask_of(np.full((4, 4), 0.9 * LEAST)), (40, 40))
    assert mask.getextrema() == (0, 0)


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
    mask = np.asarray(support.mask)
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
    assert not np.asarray(find_support(a, b, [change]).mask).any()


def test_small_far_changes_are_left_out_of_a_local_support():
    a = scene()
    b, _ = changed_box(a)
    b[5:9, 110:114] += 0.4
    mask = np.asarray(find_support(a, b, [LOCAL[0]]).mask)
    assert not mask[:20, 100:].any()


@pytest.mark.parametrize("category", ["time", "style"])
def test_whole_image_changes_have_the_whole_image_as_support(category):
    a = scene()
    support = find_support(a, changed_box(a)[0], [Change(category, "day", "night")])
    assert np.asarray(support.mask).min() == 1
    assert (support.extent, support.share) == ("all", 1.0)


def test_the_subject_stays_when_the_place_changes():
    a = scene()
    b = scene(1)
    b[40:90, 40:90] = a[40:90, 40:90]
    b[60:62, 60:62] += 0.5  # a speck on the subject is part of it no more than of the background
    mask = np.asarray(find_support(a, b, [Change("place", "a beach", "a forest")]).mask)
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
        np.asarray(find_support(*pair, [LOCAL[0]]).mask.resize((128, 128), Image.Resampling.BOX))
        for pair in ((a, b), large)
    )
    assert ((small > 0.5) == (big > 0.5)).mean() > 0.97


# the gate of the detail


def test_detail_is_kept_where_nothing_changed_and_dropped_where_the_structure_did():
    a = scene()
    b = a.copy()
    b[:, 64:] = scene(5)[:, 64:]
    gate = detail_gate(a, b, "kept")
    assert gate[:, :50].min() > 0.99
    assert np.median(gate[:, 74:]) < 0.5
    assert detail_gate(a, b, "strict")[:, 74:].mean() < gate[:, 74:].mean()


def test_detail_follows_a_change_of_contrast():
    a = scene()
    gate = detail_gate(a, 0.3 + 0.5 * a, "kept")
    strong = np.asarray(a).std((0, 1)).mean() > 0.05
    assert strong
    assert 0.4 < np.median(gate) < 1.0


@pytest.mark.parametrize("detail", ["kept", "strict", "replaced"])
def test_equal_images_keep_all_detail(detail):
    assert detail_gate(scene(), scene(), detail) == pytest.approx(1, abs=1e-5)


def test_a_style_keeps_no_detail():
    assert detail_gate(scene(), scene(3), "replaced").max() < 0.01


def test_a_given_mask_is_the_support():
    a = scene()
    mask = Image.new("L", (256, 256), 255)
    support = given_support(mask, a, changed_box(a)[0], LOCAL[:1])
    assert (support.extent, support.share, str(support)) == (
        "given", 1.0, "100 % of the image (the given mask)",
    )  # fmt: skip
