"""Metrics of translated images on images and features whose values are known."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np
import pytest

import zerocon
from zerocon.bench import translation_metrics as metrics
from zerocon.bench.metrics import MAX_PSNR
from zerocon.bench.translation_metrics import (
    ClassRegions,
    FeatureEncoder,
    ImageFeatures,
    PatchDistance,
    TranslationReference,
)
from zerocon.world import VALIDATION, render, sample

SIDE = 32  # of hand-made images: one level of the pyramid below it


def flat(*color: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), color, np.uint8)


def halves(left: Any, right: Any) -> np.ndarray:
    """An array whose left and right halves have one value each."""
    columns = [left] * (SIDE // 2) + [right] * (SIDE // 2)
    return np.array([columns] * SIDE, np.uint8)


class GivenFeatures:
    """An encoder with a grid of 2 x 2 tokens, which have the colors of the image's quarters."""

    grid = 2

    def __call__(self, pixels: np.ndarray) -> ImageFeatures:
        half = SIDE // 2
        quarters = pixels.reshape(2, half, 2, half, 3).mean((1, 3)).reshape(4, 3).astype(float)
        return ImageFeatures(quarters, quarters[:, ::-1], quarters, quarters.mean(0) / 255)


def reference(target: np.ndarray, exemplar: np.ndarray, classes: Any, others: Any) -> Any:
    edges = np.zeros((SIDE, SIDE), bool)
    encoder: Any = GivenFeatures()
    return TranslationReference(target, exemplar, edges, classes, others, encoder)


def decibels(error: float) -> float:
    return float(10 * np.log10(255**2 / error**2))


def test_psnr_is_that_of_matched_pixels_and_of_the_rest() -> None:
    target, exemplar = flat(100, 100, 100), flat(50, 50, 50)
    result = halves((110, 110, 110), (140, 140, 140))
    of = reference(target, exemplar, halves(1, 2), halves(1, 3)).measure(result)
    assert of.psnr_matched == pytest.approx(decibels(10))
    assert of.psnr_rest == pytest.approx(decibels(40))
    assert of.psnr == pytest.approx(decibels(sqrt((10**2 + 40**2) / 2)))
    every = reference(target, exemplar, halves(1, 3), halves(1, 3)).measure(result)
    assert every.psnr_matched == every.psnr and every.psnr_rest is None
    none = reference(target, exemplar, halves(1, 2), halves(3, 4)).measure(result)
    assert none.psnr_rest == none.psnr
    assert (none.psnr_matched, none.color_error, none.texture_relevance) == (None, None, None)


def test_the_copy_score_is_positive_for_a_copy_only() -> None:
    target, exemplar = flat(100, 100, 100), flat(140, 140, 140)
    of = reference(target, exemplar, halves(1, 2), halves(1, 2)).measure
    assert of(exemplar).copy_score == pytest.approx(MAX_PSNR - decibels(40))
    assert of(target).copy_score == pytest.approx(decibels(40) - MAX_PSNR)
    assert of(flat(110, 110, 110)).copy_score == pytest.approx(decibels(30) - decibels(10))


def test_color_errors_are_means_over_pixels_of_classes_that_both_have() -> None:
    black, white = (0, 0, 0), (255, 255, 255)
    exemplar, others = halves(black, white), halves(1, 2)
    classes = np.full((SIDE, SIDE), 1, np.uint8)
    classes[: SIDE // 4] = 2  # a quarter should be white, and three quarters black
    of = reference(exemplar, exemplar, classes, others).measure
    assert of(flat(*black)).color_error == pytest.approx(25, abs=0.01)
    assert of(flat(*white)).color_error == pytest.approx(75, abs=0.01)
    classes[SIDE // 2 :] = 3  # the exemplar has no such class: a half and a half are left
    of = reference(exemplar, exemplar, classes, others).measure
    assert of(flat(*black)).color_error == pytest.approx(50, abs=0.01)


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0, 0)),
        ((5, 5, 5), (1.37, 0, 0)),  # in the linear part
    ],
)
def test_lab_is_that_of_cie(rgb: Any, expected: Any) -> None:
    assert metrics.lab(np.array([[rgb]], float))[0, 0] == pytest.approx(expected, abs=0.05)


def test_region_cosines_compare_mean_features() -> None:
    """The quarters' colors are the features: a right angle on one half, none on the other."""
    red, green, blue = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    target, exemplar = halves(red, green), halves(blue, green)
    of = reference(target, exemplar, halves(1, 2), halves(1, 2)).measure
    assert of(target).semantic_consistency == pytest.approx(1)
    assert of(halves(red, blue)).semantic_consistency == pytest.approx(0.5)
    assert of(halves((100, 100, 0), green)).semantic_consistency == pytest.approx(0.5 + sqrt(1 / 8))
    assert of(target).texture_relevance == pytest.approx(0.5)
    assert of(exemplar).texture_relevance == pytest.approx(1)
    swapped = reference(target, exemplar, halves(2, 1), halves(1, 2)).measure
    assert swapped(halves(green, blue)).texture_relevance == pytest.approx(1)


def test_tokens_count_by_the_share_of_the_class_in_them() -> None:
    classes = np.zeros((4, 4), np.uint8)
    classes[:2, :2] = 1  # all of the first token
    classes[0, 2] = 1  # a quarter of the second
    tokens = np.array([[8.0], [3.0], [0.0], [0.0]])
    means = ClassRegions(classes).token_means(tokens, 2)
    assert means[1] == pytest.approx((4 * 8 + 1 * 3) / 5)
    assert means[0] == pytest.approx(3 * 3 / 11)


def test_ssim_of_flat_images_compares_their_means() -> None:
    a, b = (np.full((SIDE, SIDE, 3), value, float) for value in (100, 110))
    c = (0.01 * 255) ** 2
    assert metrics.ssim(a, b) == pytest.approx((2 * 100 * 110 + c) / (100**2 + 110**2 + c))
    noise = np.random.default_rng(0).uniform(0, 255, (SIDE, SIDE, 3))
    assert metrics.ssim(noise, noise) == pytest.approx(1)
    assert metrics.ssim(noise, 255 - noise) < -0.8
    inner = noise.copy()
    inner[:5] = inner[:, -5:] = 0  # their own windows leave the image, but not all that see them
    assert 0.3 < metrics.ssim(noise, inner) < 1


def noise_image(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(60, 190, (128, 128, 3)).astype(np.uint8)


def test_the_patch_distance_of_a_shift_is_known() -> None:
    """Only the smallest level has a mean; a shift of all its samples by c deviations moves a
    projection by c times the sum of its direction, which is normally distributed."""
    target = noise_image(0)
    distance = PatchDistance(target)
    assert distance(target) == 0
    *_, smallest = metrics.sample_patches(target)
    assert (smallest.std((0, 1)) < metrics.LEAST_DEVIATION).all(), "noise cancels"
    shift = 20 / 255 / metrics.LEAST_DEVIATION
    expected = 1000 * shift * sqrt(2 / pi) / 4  # one of four levels
    assert distance(target + np.uint8(20)) == pytest.approx(expected, rel=0.1)


def test_the_patch_distance_sees_blur_and_not_another_draw() -> None:
    from scipy.ndimage import gaussian_filter

    target = noise_image(0)
    distance = PatchDistance(target)
    blurred = gaussian_filter(target.astype(float), (1, 1, 0)).astype(np.uint8)
    assert distance(blurred) > 1.5 * distance(noise_image(1)) > 0


def test_the_pyramid_adds_up_to_the_image() -> None:
    image = np.random.default_rng(0).random((128, 128, 3), np.float32)
    levels = metrics.laplacian_pyramid(image)
    assert [len(level) for level in levels] == [128, 64, 32, 16]
    flat_levels = metrics.laplacian_pyramid(np.full((64, 64, 3), 0.3, np.float32))
    assert [float(np.abs(level - value).max()) for level, value in zip(
        flat_levels, (0, 0, 0.3), strict=True)] == pytest.approx([0, 0, 0], abs=1e-6)  # fmt: skip
    # the finest level is what its own reduction does not explain
    assert np.abs(levels[0].mean()) < 0.01 < levels[0].std()


def test_patches_are_the_same_for_equal_sizes() -> None:
    one, other = (metrics.sample_patches(noise_image(2)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert [patches.shape for patches in one] == [(128, 49, 3)] * 4
    pixels = noise_image(2).reshape(-1, 3) / np.float32(255)
    spread = one[0].std((0, 1)) / pixels.std(0)
    assert (spread < 1).all() and (spread > 0.5).all(), "the Laplacian of noise is most of it"


def test_edges_are_found_where_colors_change() -> None:
    found = metrics.find_edges(halves((0, 0, 0), (255, 255, 255)))
    columns = np.flatnonzero(found.any(0))
    assert found[:, columns].all() and set(columns) == {15, 16}
    equal_luminance = halves((200, 0, 0), (0, 102, 0))
    assert metrics.find_edges(equal_luminance).any()
    assert not metrics.find_edges(flat(7, 80, 200)).any()


def test_f1_allows_a_displacement_of_one_pixel() -> None:
    def column(*places: int) -> np.ndarray:
        edges = np.zeros((SIDE, SIDE), bool)
        edges[:, list(places)] = True
        return edges

    expected, nothing = column(10, 20), np.zeros((SIDE, SIDE), bool)
    assert metrics.edge_f1(expected, expected) == metrics.edge_f1(column(11, 19), expected) == 1
    assert metrics.edge_f1(column(12, 22), expected) == 0
    assert metrics.edge_f1(column(10), expected) == pytest.approx(2 / 3), "half is found"
    assert metrics.edge_f1(column(10, 20, 5, 28), expected) == pytest.approx(2 / 3), "half is wrong"
    assert metrics.edge_f1(nothing, nothing) == 1
    assert metrics.edge_f1(nothing, expected) == metrics.edge_f1(expected, nothing) == 0


def test_self_similarity_ignores_rotations_of_the_features() -> None:
    tokens = np.array([[2.0, 0], [0, 3], [1, 1]])
    expected = [[1, 0, sqrt(0.5)], [0, 1, sqrt(0.5)], [sqrt(0.5), sqrt(0.5), 1]]
    assert metrics.self_similarity(tokens) == pytest.approx(np.array(expected))
    turned = tokens @ np.array([[0.6, 0.8], [-0.8, 0.6]])
    assert metrics.self_similarity(turned) == pytest.approx(np.array(expected))


def test_the_frechet_distance_of_normal_distributions_is_known() -> None:
    x = np.random.default_rng(0).normal(size=(5000, 3))
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet_distance(x, x + np.array([3, 4, 0])) == pytest.approx(25)
    scaled = metrics.frechet_distance(x, x * [2, 1, 0.5])
    assert scaled == pytest.approx(1 + 0.25, rel=0.1)
    few = np.random.default_rng(1).normal(size=(4, 16))  # of a singular covariance
    assert metrics.frechet_distance(few, few) == pytest.approx(0, abs=1e-6)


def test_warp_accuracy_is_of_pure_tokens_of_shared_classes() -> None:
    classes = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 1, 2], [3, 3, 1, 1]], np.uint8)
    assert metrics.token_classes(classes, (2, 2)).tolist() == [1, 2, 3, -1]
    exemplar = np.array([[1, 2], [1, 1]], np.uint8)  # without class 3
    for warped, accuracy in (([1, 2, 9, 9], 1), ([1, 1, 3, 1], 0.5), ([2, 1, 3, 1], 0)):
        assert metrics.warp_accuracy(np.array(warped), classes, exemplar, (2, 2)) == accuracy
    assert (
        metrics.warp_accuracy(np.zeros(4, int), classes, np.full((2, 2), 7, np.uint8), (2, 2))
        is None
    )


# of the shipped model's CLIP


@pytest.fixture(scope="module")
def model() -> Any:
    return zerocon.load("mini", device="cpu")


def test_features_are_those_of_clip(model: Any) -> None:
    image = render(sample(VALIDATION[0]))
    encoder = FeatureEncoder(model.scorer)
    features = encoder(np.asarray(image))
    texts = ["a cat", "a house"]
    expected = model.scorer.similarity(image, texts)
    with model.scorer.in_use() as device:
        rows = model.scorer._embed_texts(texts, device).double().numpy()
    assert rows @ features.embedding == pytest.approx(expected, abs=1e-5)
    assert features.shallow.shape == features.deep.shape == (encoder.grid**2, 144)
    assert not model.scorer.network.vision_model.encoder.layers[-1].self_attn.k_proj._forward_hooks


def test_the_exact_target_has_the_best_values_of_all(model: Any) -> None:
    target, exemplar = (np.asarray(render(sample(VALIDATION[i]))) for i in (3, 4))
    classes = np.zeros((128, 128), np.uint8)
    edges = metrics.find_edges(target)
    compare = TranslationReference(
        target, exemplar, edges, classes, classes, FeatureEncoder(model.scorer)
    )
    best, copy = compare.measure(target), compare.measure(exemplar)
    assert (best.psnr, best.swd, best.edge_f1) == (MAX_PSNR, 0, 1)
    assert best.ssim == pytest.approx(1) and best.semantic_consistency == pytest.approx(1)
    assert best.self_similarity == pytest.approx(0, abs=1e-9) and best.copy_score < 0
    assert best.embedding == compare.target_embedding
    assert copy.color_error == pytest.approx(0) and copy.texture_relevance == pytest.approx(1)
    assert copy.psnr < best.psnr and copy.swd > 100 and copy.copy_score > 0
    assert copy.edge_f1 < 0.9 and copy.semantic_consistency < 0.99 and copy.self_similarity > 10
