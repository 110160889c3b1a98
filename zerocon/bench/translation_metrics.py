"""Metrics of a translated image against the exact target, the exemplar and the condition.

Nothing here needs weights of others: features are those of the embedded model's CLIP, so that no
number can be compared with an FID or LPIPS of a paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import convolve1d, gaussian_filter, maximum_filter

from zerocon.bench.metrics import psnr
from zerocon.rng import seeded_generator

if TYPE_CHECKING:
    from zerocon.model.clip import ClipScorer

Values: TypeAlias = NDArray[np.float64]
Pixels8: TypeAlias = NDArray[np.uint8]  # (height, width, 3), RGB
ClassMap: TypeAlias = NDArray[np.uint8]  # (height, width), a class index per pixel

SSIM_SIGMA, SSIM_MARGIN = 1.5, 5  # pixels: of the Gaussian window, and half of its 11
SSIM_CONSTANTS = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)

PATCH, PATCHES = 7, 128  # side of a patch of the SWD in pixels, and their number for each level
DIRECTIONS = 4 * 128  # of the SWD's projections
SMALLEST_LEVEL = 16  # pixels: the last level of the Laplacian pyramid
LEAST_DEVIATION = 5 / 255  # of a level: below, 8-bit rounding would count as a difference
BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16

# pixels, and change per pixel where 1 is the range of values: of those that were tried, the values
# at which targets and images of another structure differ most, on 40 validation scenes
EDGE_SIGMA, EDGE_THRESHOLD = 0.7, 0.1
EDGE_TOLERANCE = 1  # pixels by which an edge may be displaced

RGB_TO_XYZ = np.array(  # of linear sRGB, IEC 61966-2-1
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)


@dataclass(frozen=True)
class TranslationMetrics:
    """Metrics of one result; None where there is nothing to measure.

    Matched pixels are those of the condition whose class the exemplar has too.

    Attributes:
        psnr: PSNR in dB to the target.
        ssim: Structural similarity to the target, -1..1.
        psnr_matched: PSNR in dB to the target, over matched pixels.
        psnr_rest: PSNR in dB to the target, over all other pixels.
        color_error: Distance of the mean colors of a class in the result and in the exemplar
            (CIE 1976 delta E), mean over matched pixels.
        semantic_consistency: Cosine of a class's mean features (last layer) in the result and in
            the target, mean over pixels.
        texture_relevance: Cosine of a class's mean features (first layer) in the result and in the
            exemplar, mean over matched pixels.
        swd: Sliced Wasserstein distance to the target, times 1000.
        edge_f1: F1 score of the result's edges against those of the structure.
        self_similarity: Mean squared difference of the self-similarity to the target's, times 1000.
        copy_score: PSNR to the exemplar minus PSNR to the target, in dB: positive for a result that
            copies the exemplar.
        embedding: CLIP's embedding, of unit length.
    """

    psnr: float
    ssim: float
    psnr_matched: float | None
    psnr_rest: float | None
    color_error: float | None
    semantic_consistency: float
    texture_relevance: float | None
    swd: float
    edge_f1: float
    self_similarity: float
    copy_score: float
    embedding: tuple[float, ...]


class ImageFeatures(NamedTuple):
    """What the image encoder of CLIP computes for an image of ``tokens`` patches.

    Attributes:
        shallow: Output of the first layer, (tokens, features).
        deep: Output of the last layer, (tokens, features).
        keys: Keys of the last layer's self-attention, (tokens, features).
        embedding: Projected output, of unit length, (features,).
    """

    shallow: Values
    deep: Values
    keys: Values
    embedding: Values


class FeatureEncoder:
    """The image encoder of CLIP, of which the metrics use more than the embedding.

    Attributes:
        network: CLIP.
        grid: Number of tokens per side of an image.
    """

    def __init__(self, scorer: ClipScorer) -> None:
        self._scorer, self.network = scorer, scorer.network
        vision = scorer.network.vision_model
        self.grid: int = vision.config.image_size // vision.config.patch_size
        self._last = vision.encoder.layers[-1].self_attn.k_proj

    @torch.no_grad()
    def __call__(self, pixels: Pixels8) -> ImageFeatures:
        """The features of an image of any size."""
        network, keys = self.network, list[torch.Tensor]()
        hook = self._last.register_forward_hook(lambda *call: keys.append(call[-1]))
        try:
            with self._scorer.in_use() as device:
                image = self._scorer.images(Image.fromarray(pixels), return_tensors="pt")
                inputs = image.pixel_values.to(device, network.dtype)
                output = network.vision_model(pixel_values=inputs, output_hidden_states=True)
                embedding = network.visual_projection(output.pooler_output)[0]
        finally:
            hook.remove()
        layers = output.hidden_states  # of the input, then of every layer
        # the first token is the class token
        shallow, deep, last = (_to_values(each[0, 1:]) for each in (layers[1], layers[-1], keys[0]))
        return ImageFeatures(shallow, deep, last, _unit(_to_values(embedding)))


class ClassRegions:
    """The regions of a map of classes.

    Attributes:
        names: The classes in it, ascending.
        pixels: Number of pixels of each.
    """

    def __init__(self, classes: ClassMap) -> None:
        self.names, self.pixels = np.unique(classes, return_counts=True)
        self._inside = (classes == self.names[:, None, None]).astype(np.float64)

    def means(self, values: Values) -> Values:
        """Mean of ``values`` (height, width, features) in each region, (regions, features)."""
        return np.asarray(np.tensordot(self._inside, values, 2) / self.pixels[:, None])

    def token_means(self, tokens: Values, grid: int) -> Values:
        """Mean of ``tokens`` (grid * grid, features), weighted by each region's share of them."""
        count, height, width = self._inside.shape
        blocks = self._inside.reshape(count, grid, height // grid, grid, width // grid)
        shares = blocks.sum((2, 4)).reshape(count, -1) / self.pixels[:, None]
        return np.asarray(shares @ tokens)

    def mean_of_shared(
        self,
        compare: Callable[[Values, Values], Values],
        values: Values,
        others: Values,
        regions: ClassRegions,
    ) -> float | None:
        """Mean over the pixels of classes that ``regions`` has too; None without any.

        Args:
            compare: One number for each of the rows of two arrays.
            values: What is compared, a row for each region of these.
            others: With what, a row for each region of ``regions``.
            regions: Of another image.
        """
        _, here, there = np.intersect1d(self.names, regions.names, return_indices=True)
        if not here.size:
            return None
        return float(np.average(compare(values[here], others[there]), weights=self.pixels[here]))


class TranslationReference:
    """What the results for one condition and exemplar are compared with.

    Args:
        target: The exact result.
        exemplar: The exemplar, of the target's size.
        edges: The structure's edges, (height, width).
        classes: Class of every pixel of the condition.
        exemplar_classes: Class of every pixel of the exemplar.
        encoder: Computes the features; the sides of all images are multiples of its grid.

    Attributes:
        target_embedding: CLIP's embedding of the target.
    """

    def __init__(
        self,
        target: Pixels8,
        exemplar: Pixels8,
        edges: NDArray[np.bool_],
        classes: ClassMap,
        exemplar_classes: ClassMap,
        encoder: FeatureEncoder,
    ) -> None:
        self._target, self._exemplar = target.astype(np.float64), exemplar.astype(np.float64)
        self._regions, self._others = ClassRegions(classes), ClassRegions(exemplar_classes)
        self._matched: NDArray[np.bool_] = np.isin(classes, exemplar_classes)
        self._edges, self._encoder = edges, encoder
        target_features, features = encoder(target), encoder(exemplar)
        self.target_embedding = _rounded(target_features.embedding)
        self._target_similarity = self_similarity(target_features.keys)
        self._deep = self._regions.token_means(target_features.deep, encoder.grid)
        self._shallow = self._others.token_means(features.shallow, encoder.grid)
        self._colors = self._others.means(lab(self._exemplar))
        self._patches = PatchDistance(target)

    def measure(self, result: Pixels8) -> TranslationMetrics:
        """The metrics of ``result``, of the target's size."""
        values, features = result.astype(np.float64), self._encoder(result)
        to_target, to_exemplar = _psnr(values, self._target), _psnr(values, self._exemplar)
        regions, others, grid = self._regions, self._others, self._encoder.grid
        deep, shallow = (
            regions.token_means(tokens, grid) for tokens in (features.deep, features.shallow)
        )
        change = self_similarity(features.keys) - self._target_similarity
        return TranslationMetrics(
            psnr=to_target,
            ssim=ssim(values, self._target),
            psnr_matched=psnr(values, self._target, self._matched),
            psnr_rest=psnr(values, self._target, ~self._matched),
            color_error=regions.mean_of_shared(
                _distances, regions.means(lab(values)), self._colors, others
            ),
            semantic_consistency=float(
                np.average(_cosines(deep, self._deep), weights=regions.pixels)
            ),
            texture_relevance=regions.mean_of_shared(_cosines, shallow, self._shallow, others),
            swd=self._patches(result),
            edge_f1=edge_f1(find_edges(result), self._edges),
            self_similarity=1000 * float(np.square(change).mean()),
            copy_score=to_exemplar - to_target,
            embedding=_rounded(features.embedding),
        )


def ssim(values: Values, others: Values) -> float:
    """Structural similarity of two images in 0..255 (Wang et al. 2004), mean over the channels.

    With a Gaussian window of 11 pixels; pixels whose window leaves the image are left out.
    """

    def blur(x: Values) -> Any:
        return gaussian_filter(x, (SSIM_SIGMA, SSIM_SIGMA, 0), radius=(SSIM_MARGIN,) * 2 + (0,))

    a, b = blur(values), blur(others)
    aa, bb, ab = blur(values**2) - a**2, blur(others**2) - b**2, blur(values * others) - a * b
    c1, c2 = SSIM_CONSTANTS
    index = (2 * a * b + c1) * (2 * ab + c2) / ((a**2 + b**2 + c1) * (aa + bb + c2))
    inner = slice(SSIM_MARGIN, -SSIM_MARGIN)
    return float(index[inner, inner].mean())


def lab(values: Values) -> Values:
    """CIE 1976 L*a*b* of sRGB samples in 0..255, for the white point D65, (height, width, 3)."""
    encoded = values / 255
    linear = np.where(encoded > 0.04045, ((encoded + 0.055) / 1.055) ** 2.4, encoded / 12.92)
    relative = linear @ RGB_TO_XYZ.T / RGB_TO_XYZ.sum(1)
    f = np.where(
        relative > (6 / 29) ** 3, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29
    )
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


class PatchDistance:
    """Sliced Wasserstein distance of an image to a reference, times 1000 (arXiv 1710.10196).

    Patches of 7 x 7 pixels at 128 random places of every level of the Laplacian pyramid, down to 16
    pixels, in 4 x 128 random directions; the mean over the levels. Places and directions are the
    same for every image. The paper pools the patches of all images and normalizes each of the two
    sets by itself; here the reference is the exact target of one image, so that a set has its
    patches, and both are normalized by the reference's mean and deviation of each channel: a wrong
    color and a lack of contrast count too.
    """

    def __init__(self, reference: Pixels8) -> None:
        self._levels = []
        for patches in sample_patches(reference):
            mean = patches.mean((0, 1))
            deviation = patches.std((0, 1)).clip(min=LEAST_DEVIATION)
            self._levels.append((mean, deviation, self._project((patches - mean) / deviation)))

    def __call__(self, image: Pixels8) -> float:
        """The distance of an image of the reference's size."""
        distances = [
            np.abs(self._project((patches - mean) / deviation) - reference).mean()
            for patches, (mean, deviation, reference) in zip(
                sample_patches(image), self._levels, strict=True
            )
        ]
        return 1000 * float(np.mean(distances))

    def _project(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sorted projections of the patches in every direction, (patches, directions)."""
        values = patches.reshape(len(patches), -1) @ _directions()
        return np.sort(values, 0)


@lru_cache(maxsize=1)
def _directions() -> NDArray[np.float32]:
    """Unit vectors, (samples of a patch, directions)."""
    generator = seeded_generator("directions of the sliced Wasserstein distance")
    directions = torch.randn(3 * PATCH**2, DIRECTIONS, generator=generator).numpy()
    return np.asarray(directions / np.linalg.norm(directions, axis=0), np.float32)


@lru_cache(maxsize=8)
def _places(height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Upper and left sides of the patches of a level."""
    generator = seeded_generator(f"patches of {height}x{width} pixels")
    draws = torch.rand(2, PATCHES, generator=generator, dtype=torch.float64).numpy()
    rows, columns = (draws * np.array([[height], [width]]) - draws * (PATCH - 1)).astype(int)
    return rows, columns


def sample_patches(image: Pixels8) -> list[NDArray[np.float32]]:
    """Patches of every level of the Laplacian pyramid, (patches, samples, 3) in units of 255."""
    levels = []
    for level in laplacian_pyramid(image.astype(np.float32) / np.float32(255)):
        windows = sliding_window_view(level, (PATCH, PATCH), (0, 1))
        patches = windows[_places(*level.shape[:2])]  # (patches, 3, PATCH, PATCH)
        levels.append(patches.reshape(PATCHES, 3, -1).swapaxes(1, 2))
    return levels


def laplacian_pyramid(values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Differences between sizes that halve, and the smallest image; (height, width, 3) each.

    Sides must be divisible by 2 as often as they are halved.
    """
    levels = []
    while min(values.shape[:2]) >= 2 * SMALLEST_LEVEL:
        small = _smooth(values)[::2, ::2]
        large = np.zeros_like(values)
        large[::2, ::2] = small
        levels.append(values - 4 * _smooth(large))
        values = small
    return [*levels, values]


def _smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    for axis in (0, 1):
        values = convolve1d(values, BINOMIAL, axis, mode="mirror")
    return values


def find_edges(image: Pixels8) -> NDArray[np.bool_]:
    """Where the colors of a smoothed image change by more than ``EDGE_THRESHOLD`` per pixel."""
    values = image.astype(np.float32) / 255
    gradients = [
        gaussian_filter(values, (EDGE_SIGMA, EDGE_SIGMA, 0), order=order)
        for order in ((1, 0, 0), (0, 1, 0))
    ]
    strength = np.sqrt(sum(np.square(each).sum(-1) for each in gradients))
    return np.asarray(strength > EDGE_THRESHOLD)


def edge_f1(detected: NDArray[np.bool_], expected: NDArray[np.bool_]) -> float:
    """F1 score of edges, which may be displaced by ``EDGE_TOLERANCE`` pixels; (height, width).

    Precision is the share of detected edges near expected ones, recall that of expected edges near
    detected ones. 1 if there are neither.
    """
    if not detected.any() or not expected.any():
        return float(detected.any() == expected.any())
    size = 2 * EDGE_TOLERANCE + 1
    precision = maximum_filter(expected, size)[detected].mean()
    recall = maximum_filter(detected, size)[expected].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def self_similarity(tokens: Values) -> Values:
    """Cosines of all pairs of tokens (arXiv 2201.00424, section 3.1), (tokens, tokens)."""
    unit = _unit(tokens)
    return unit @ unit.T


def frechet_distance(embeddings: Values, others: Values) -> float:
    """Fréchet distance of the normal distributions of two sets, (images, features) each.

    With CLIP's embeddings of unit length this is FD-mini, which is no FID. It is biased upwards
    for few images: only sets of one size compare.
    """
    means = embeddings.mean(0) - others.mean(0)
    a, b = (np.cov(each, rowvar=False) for each in (embeddings, others))
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    # the trace of (a b)^1/2, of a symmetric matrix with the same eigenvalues
    shared = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    return max(0.0, float(means @ means + np.trace(a) + np.trace(b) - 2 * shared))


def token_classes(classes: ClassMap, grid: tuple[int, int]) -> NDArray[np.int64]:
    """The class of every token of a grid (rows, columns), -1 where its pixels have several."""
    rows, columns = grid
    height, width = classes.shape
    blocks = classes.reshape(rows, height // rows, columns, width // columns).swapaxes(1, 2)
    flat = blocks.reshape(rows * columns, -1).astype(np.int64)
    return np.where((flat == flat[:, :1]).all(1), flat[:, 0], -1)


def warp_accuracy(
    warped: NDArray[np.int64], classes: ClassMap, exemplar_classes: ClassMap, grid: tuple[int, int]
) -> float | None:
    """Share of tokens to which a correspondence brings their own class of the exemplar.

    Only tokens of one class that the exemplar has too; None without any.

    Args:
        warped: The class that was brought to every token, (tokens,).
        classes: Of the condition.
        exemplar_classes: Of the exemplar.
        grid: Rows and columns of tokens.
    """
    expected = token_classes(classes, grid)
    counted = np.isin(expected, exemplar_classes)
    return float((warped == expected)[counted].mean()) if counted.any() else None


def _rounded(embedding: Values) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in embedding)


def _psnr(values: Values, others: Values) -> float:
    error = psnr(values, others, np.ones(values.shape[:2], bool))
    assert error is not None  # there are pixels
    return error


def _distances(values: Values, others: Values) -> Values:
    return np.asarray(np.linalg.norm(values - others, axis=-1))


def _cosines(values: Values, others: Values) -> Values:
    return np.asarray((_unit(values) * _unit(others)).sum(-1))


def _unit(values: Values) -> Values:
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True).clip(1e-12))


def _to_values(tensor: torch.Tensor) -> Values:
    return np.asarray(tensor.double().cpu())
