"""The transfer of an edit to its source image: a local affine map of the source's colors.

The model's output is blurred: it has the working size, and went through the autoencoder. Where an
edit keeps the structure of the source, it is therefore better described by *how colors change*
than by its pixels. At every position of the working image, with the decoded source ``a`` and the
decoded edit ``b``, a matrix ``K`` and an offset ``P`` are found so that ``K a + P`` is the edit;
applied to the source image itself, they carry the edit to its pixels and keep its edges:

    K = W A + (1 - W) G I,    P = W B + (1 - W) (b - G a)

``A, B`` is the least-squares fit of ``b`` by ``a`` in a window (the guided filter, arXiv
1505.00996, with the source as its guide), fitted to the difference ``b - a``, so that without a
change ``K`` is the identity. ``W`` falls from 1 to 0 as the fit fails: where shapes were replaced,
``b`` itself is used, with the part ``G`` of the source's detail ``S - a`` that still belongs to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]
Detail = Literal["kept", "strict", "replaced"]

# All windows are Gaussian; their sigma is in pixels of working size, values are in 0..1.
FIT_WINDOW = 3.0  # wide enough for both sides of an edge that the autoencoder blurred
FIT_NOISE = 1e-4  # variance below which a window has no color to fit; larger is smoother
FIT_ERROR = {"kept": 0.1, "strict": 0.025}  # error at which W is 1 / e
ERROR_WINDOW = 1.5
GATE_WINDOW = 1.5
GATE_NOISE = 1e-3  # variance of a window without structure
SAME = 0.06  # change up to which the detail is kept whatever the correlation
LARGEST_GAIN = 1.2  # of contrast
STRICT = 9  # pixels: where shapes are replaced, the gate is the least of a neighborhood this wide


@dataclass(frozen=True)
class Transfer:
    """A local affine map of colors at working size.

    Attributes:
        gain: ``K``, (height, width, 3, 3): output channel, then input channel.
        offset: ``P``, (height, width, 3), in 0..1.
    """

    gain: Array
    offset: Array


def find_transfer(before: Array, after: Array, detail: Detail) -> Transfer:
    """The transfer of an edit.

    Args:
        before: ``a``, (height, width, 3) in 0..1, without padding.
        after: ``b``, like ``before``.
        detail: "kept" for a change of colors or light, "strict" for one of shapes, which uses the
            fit only where it is nearly exact, and "replaced" for a style that repaints everything:
            one gate for the whole image, which is 1 only without a change, and no fit.
    """
    gate = detail_gate(before, after, detail)[..., None]
    replacement = after - gate * before
    identity = np.eye(3, dtype=np.float32)
    if detail == "replaced":
        return Transfer(gate[..., None] * identity, replacement)
    gain, offset = _fit(before, after - before)
    fitted = np.einsum("hwij,hwj->hwi", gain, before) + offset
    error = smooth(np.square(after - fitted), ERROR_WINDOW).mean(-1)
    weight = np.exp(-error / FIT_ERROR[detail] ** 2)[..., None]
    mixed = weight[..., None] * gain + ((1 - weight) * gate)[..., None] * identity
    return Transfer(mixed, weight * offset + (1 - weight) * replacement)


def detail_gate(before: Array, after: Array, detail: Detail) -> Array:
    """``G``: how much of the source's detail the edited image keeps, (height, width) in 0..1.2.

    In windows of both images: the gain of a regression of the edit on the source times their
    correlation, which is 1 where the structure is unchanged, 0 where another took its place, and
    between where its contrast changed. Where the images are equal it is 1 whatever the window
    holds.
    """
    from scipy import ndimage

    change = np.abs(smooth(after - before, 1.0)).max(-1)
    same = np.exp(-np.square(change / SAME))
    if detail == "replaced":
        most = float(np.percentile(change, 98))
        return np.full(same.shape, np.exp(-((most / SAME) ** 2)), np.float32)
    means = smooth(before, GATE_WINDOW), smooth(after, GATE_WINDOW)
    covariance = (smooth(before * after, GATE_WINDOW) - means[0] * means[1]).sum(-1)
    variances = [
        (smooth(each * each, GATE_WINDOW) - mean * mean).sum(-1).clip(0)
        for each, mean in zip((before, after), means, strict=True)
    ]
    correlation = covariance / np.sqrt(variances[0] * variances[1] + 1e-12)
    gain = ((covariance + GATE_NOISE) / (variances[0] + GATE_NOISE)).clip(0, LARGEST_GAIN)
    gate = np.maximum(gain * correlation, same)
    if detail == "strict":
        gate = ndimage.minimum_filter(gate, STRICT)
    return np.asarray(ndimage.gaussian_filter(gate, 0.7), np.float32)


def _fit(before: Array, change: Array) -> tuple[Array, Array]:
    """``A, B``: ``A a + B`` is nearest to ``a + change`` in every window."""
    slope, offset = linear_fit(before, change, FIT_WINDOW, FIT_NOISE)
    return np.eye(3, dtype=np.float32) + slope, offset


def linear_fit(guide: Array, values: Array, window: float, noise: float) -> tuple[Array, Array]:
    """Least-squares fit of ``values`` by a linear function of ``guide``, averaged over windows.

    Args:
        guide: (height, width, 3).
        values: (height, width, n).
        window: Sigma of the Gaussian windows, in pixels.
        noise: Variance that is added to the guide's, so that it is not fitted to noise.

    Returns:
        Slopes (height, width, n, 3) and offsets (height, width, n).
    """
    means = smooth(guide, window), smooth(values, window)
    squares, products = (
        smooth(guide[..., :, None] * each[..., None, :], window)
        - means[0][..., :, None] * mean[..., None, :]
        for each, mean in zip((guide, values), means, strict=True)
    )
    solved = np.linalg.solve(squares + noise * np.eye(3, dtype=np.float32), products)
    slope = np.swapaxes(solved, -1, -2)
    offset = means[1] - np.einsum("hwij,hwj->hwi", slope, means[0])
    return smooth(slope, window), smooth(offset, window)


def smooth(values: Array, sigma: float) -> Array:
    """Gaussian smoothing of every channel of (height, width, ...)."""
    from scipy import ndimage

    spread = (sigma, sigma, *[0.0] * (values.ndim - 2))
    return np.asarray(ndimage.gaussian_filter(values, spread), np.float32)
