"""Measurements at the size of the source image, on arrays with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from zerocon.bench.metrics import MAX_PSNR
from zerocon.bench.native import (
    NativeMeasurements,
    NativeReference,
    decibels,
    grow,
    high_pass,
    old_detail,
    true_detail,
)

SIDE = 128  # the margin is 6 pixels at this size
SQUARE = (slice(40, 50), slice(60, 70))  # where source and truth differ
OUTSIDE = SIDE**2 - 22**2  # pixels outside the square grown by 6


def image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8))


def noise(seed: int) -> np.ndarray:
    """Even values, so that the mean of two images is exact."""
    return 2 * np.random.default_rng(seed).integers(0, 128, (SIDE, SIDE, 3))


def textured() -> tuple[np.ndarray, np.ndarray]:
    """Source and truth: noise, and other noise in the square."""
    source = noise(1)
    truth = source.copy()
    truth[SQUARE] = noise(2)[SQUARE]
    return source, truth


def measure(source: np.ndarray, truth: np.ndarray, result: np.ndarray) -> NativeMeasurements:
    return NativeReference(image(source), image(truth)).measure(image(result))


def detail(measured: NativeMeasurements) -> tuple[float, float]:
    """The source's detail and the truth's."""
    names = ("detail_ss", "detail_st", "detail_tt", "detail_sr", "detail_tr")
    sums = [getattr(measured, name) for name in names]
    return float(old_detail(*sums)), float(true_detail(*sums))


def test_the_source_has_its_own_detail_and_equals_itself_outside() -> None:
    source, truth = textured()
    measured = measure(source, truth, source)
    assert detail(measured) == pytest.approx((1, 0))
    assert measured.equal == 1.0
    assert decibels(measured.outside_error, measured.outside_samples) == MAX_PSNR
    assert decibels(measured.inside_error, measured.inside_samples) < 15
    assert measured.inside_error == measured.whole_error


def test_the_truth_has_the_true_detail_and_no_error() -> None:
    source, truth = textured()
    measured = measure(source, truth, truth)
    assert detail(measured) == pytest.approx((0, 1))
    assert measured.equal == 1.0
    assert measured.inside_error == measured.outside_error == measured.whole_error == 0
    assert decibels(measured.inside_error, measured.inside_samples) == MAX_PSNR


def test_the_mean_of_source_and_truth_has_half_of_either_detail() -> None:
    source, truth = textured()
    assert detail(measure(source, truth, (source + truth) // 2)) == pytest.approx((0.5, 0.5))
    assert detail(measure(source, truth, (source + truth) // 2 + 1)) == pytest.approx((0.5, 0.5))


def test_an_image_without_texture_has_no_detail() -> None:
    source, truth = textured()
    assert detail(measure(source, truth, np.full_like(source, 90))) == pytest.approx((0, 0))


def test_sums_and_counts_by_region() -> None:
    source = np.full((SIDE, SIDE, 3), 100)
    truth = source.copy()
    truth[(*SQUARE, 0)] = 120  # in one channel only
    measured = measure(source, truth, np.full_like(source, 113))
    assert measured.inside_samples == 300
    assert measured.inside_error == 100 * 7**2 + 200 * 13**2
    assert measured.outside_samples == 3 * OUTSIDE
    assert measured.outside_error == 3 * OUTSIDE * 13**2
    assert measured.whole_samples == 3 * SIDE**2
    assert measured.whole_error == 100 * 7**2 + (3 * SIDE**2 - 100) * 13**2
    assert measured.equal == 0.0


def test_equal_is_a_share_of_samples_outside_the_grown_region() -> None:
    source, truth = textured()
    near, far = source.copy(), source.copy()
    near[34, 60] = 255 - near[34, 60]  # 6 pixels above the square
    far[33, 60, 1] = 255 - far[33, 60, 1]  # one sample, 7 pixels above it
    assert measure(source, truth, near).equal == 1.0
    assert measure(source, truth, far).equal == pytest.approx(1 - 1 / (3 * OUTSIDE), abs=1e-12)


def test_an_edit_of_every_pixel_has_no_outside() -> None:
    source = noise(1)
    measured = measure(source, source + 1, source)
    assert (measured.outside_samples, measured.equal) == (0, None)
    assert np.isnan(decibels(measured.outside_error, measured.outside_samples))
    assert measured.inside_samples == measured.whole_samples == measured.whole_error


def test_proportional_details_cannot_be_told_apart() -> None:
    """A truth that is brighter everywhere has the source's detail."""
    source = noise(1)
    assert np.isnan(detail(measure(source, source + 1, source))).all()


def test_the_overlap_of_a_mask_with_the_region() -> None:
    source, truth = textured()
    reference = NativeReference(image(source), image(truth))
    mask = np.zeros((SIDE, SIDE), np.float32)

    def overlap() -> float | None:
        return reference.measure(image(source), mask).mask_iou

    assert overlap() == 0.0
    mask[40:50, 65:75] = 0.9  # half of the square, and as much outside
    assert overlap() == pytest.approx(50 / 150)
    mask[...] = 0.5  # not more than a half: not changed
    mask[SQUARE] = 0.51
    assert overlap() == 1.0
    assert reference.measure(image(source)).mask_iou is None


@pytest.mark.parametrize(("side", "margin"), [(128, 6), (256, 12), (1024, 48)])
def test_the_margin_grows_with_the_image(side: int, margin: int) -> None:
    source = np.zeros((side, side, 3))
    truth = source.copy()
    truth[side // 2, side // 2] = 9
    outside = NativeReference(image(source), image(truth)).outside
    assert (~outside).sum() == (2 * margin + 1) ** 2


def test_a_region_grows_by_a_square_up_to_the_border() -> None:
    region = np.zeros((9, 12), bool)
    region[1, 2] = region[6, 11] = True
    expected = np.zeros((9, 12), bool)
    expected[0:4, 0:5] = expected[4:9, 9:12] = True
    assert (grow(region, 2) == expected).all()
    assert (grow(region, 0) == region).all()
    assert not grow(np.zeros((5, 5), bool), 3).any()


def test_the_high_pass_of_a_wave_is_what_a_gaussian_leaves_of_it() -> None:
    """The blur multiplies cos(wx) by exp(-(w sigma)^2 / 2); sigma is 1 at 256 pixels."""
    frequency = 2 * np.pi / 8
    wave = np.cos(frequency * np.arange(256))
    samples = np.broadcast_to(128 + 100 * wave[:, None, None], (256, 256, 3)).round()
    left = 100 * (1 - np.exp(-(frequency**2) / 2)) * wave
    values = high_pass(samples.astype(np.uint8))
    assert values.shape == samples.shape
    assert np.abs(values[8:-8, :, 1] - left[8:-8, None]).max() < 1
    assert np.abs(high_pass(np.full((64, 80, 3), 77, np.uint8))).max() < 1e-4
