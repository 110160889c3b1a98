"""Measurements of an edit at the size of its source image, against the exact result.

Most are sums over one scene, so that a table can pool the scenes of a kind before it forms a ratio.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zerocon.bench.metrics import MAX_PSNR

MARGIN = 48 / 1024  # of the image side: how far an edit may reach beyond the region that changes
BLUR = 1 / 256  # of the image side: standard deviation of the blur that high-pass detail lacks
COLLINEAR = 1e-9  # below this 1 - r^2, source and truth have the same detail up to a factor

Samples: TypeAlias = NDArray[np.uint8]  # (height, width, 3), RGB
Region: TypeAlias = NDArray[np.bool_]  # (height, width)


@dataclass(frozen=True)
class NativeMeasurements:
    """Measurements of one result on its 8-bit RGB samples.

    The region is where source and truth differ; outside is what is left when it is grown by
    ``MARGIN``. ``h`` is the high-pass (image minus its blur) of the source S, the truth T and the
    result R; its sums are over the region and all channels.

    Attributes:
        inside_error: Sum of squared differences to the truth, in the region.
        inside_samples: Number of samples in the region.
        outside_error: Sum of squared differences to the source, outside.
        outside_samples: Number of samples outside.
        whole_error: Sum of squared differences to the truth, in the whole image.
        whole_samples: Number of samples of the image.
        equal: Share (0..1) of the samples outside that equal the source; None if there are none.
        detail_ss: Sum of h(S) h(S).
        detail_st: Sum of h(S) h(T).
        detail_tt: Sum of h(T) h(T).
        detail_sr: Sum of h(S) h(R).
        detail_tr: Sum of h(T) h(R).
        mask_iou: Intersection over union (0..1) of the method's mask and the region; None if the
            method has no mask.
    """

    inside_error: int
    inside_samples: int
    outside_error: int
    outside_samples: int
    whole_error: int
    whole_samples: int
    equal: float | None
    detail_ss: float
    detail_st: float
    detail_tt: float
    detail_sr: float
    detail_tr: float
    mask_iou: float | None


class NativeReference:
    """Source image and exact result of one task, with all that every result is compared with.

    Args:
        source: The source image S.
        truth: The exact result T, of the same size.
    """

    def __init__(self, source: Image.Image, truth: Image.Image) -> None:
        self._source, self._truth = _samples(source), _samples(truth)
        self.region: Region = (self._source != self._truth).any(-1)
        self.outside: Region = ~grow(self.region, round(MARGIN * max(source.size)))
        self._detail_s, self._detail_t = self._detail(self._source), self._detail(self._truth)

    def measure(
        self, result: Image.Image, mask: NDArray[np.float32] | None = None
    ) -> NativeMeasurements:
        """Measure ``result``, of the source's size, and the method's ``mask`` (height, width)."""
        samples = _samples(result)
        error = _squared(samples, self._truth)
        outside = samples[self.outside], self._source[self.outside]
        s, t, r = self._detail_s, self._detail_t, self._detail(samples)
        return NativeMeasurements(
            inside_error=_sum(error[self.region]),
            inside_samples=3 * int(self.region.sum()),
            outside_error=_sum(_squared(*outside)),
            outside_samples=outside[0].size,
            whole_error=_sum(error),
            whole_samples=error.size,
            equal=float((outside[0] == outside[1]).mean()) if outside[0].size else None,
            detail_ss=float(s @ s),
            detail_st=float(s @ t),
            detail_tt=float(t @ t),
            detail_sr=float(s @ r),
            detail_tr=float(t @ r),
            mask_iou=None if mask is None else _overlap(mask > 0.5, self.region),
        )

    def _detail(self, samples: Samples) -> NDArray[np.float64]:
        """High-pass values of the region, (values,)."""
        return high_pass(samples)[self.region].ravel().astype(np.float64)


def grow(region: Region, pixels: int) -> Region:
    """Every pixel with one of ``region`` in the square of ``pixels`` to each side around it."""
    width = 2 * pixels + 1
    for _ in range(2):  # down, then across; running sums cost the same for every width
        total = np.cumsum(np.pad(region, ((pixels + 1, pixels), (0, 0))), 0, dtype=np.int32)
        region = (total[width:] > total[:-width]).T
    return region


def high_pass(samples: Samples) -> NDArray[np.float32]:
    """``samples`` minus their Gaussian blur (``BLUR``, reflected at the border), by channel."""
    sigma = BLUR * max(samples.shape[:2])
    radius = ceil(4 * sigma)
    weights = np.exp(-np.square(np.arange(radius + 1) / sigma) / 2)
    weights = (weights / (2 * weights.sum() - weights[0])).astype(np.float32)
    blurred = samples.astype(np.float32)
    for _ in range(2):  # down, then across
        length, padding = len(blurred), ((radius, radius), (0, 0), (0, 0))
        padded = np.pad(blurred, padding, mode="reflect")
        total = weights[0] * padded[radius:][:length]
        for i in range(1, radius + 1):
            total += weights[i] * (padded[radius - i :][:length] + padded[radius + i :][:length])
        blurred = total.swapaxes(0, 1)
    return samples - blurred


def decibels(error: Any, samples: Any) -> Any:
    """PSNR in dB of sums of squared differences, at most ``MAX_PSNR``; NaN without samples."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.minimum(10 * np.log10(255**2 * np.divide(samples, error)), MAX_PSNR)


def old_detail(ss: Any, st: Any, tt: Any, sr: Any, tr: Any) -> Any:
    """``a`` of the least-squares fit h(R) = a h(S) + b h(T): the source's detail that is left.

    Args:
        ss: Sum of h(S) h(S); the others likewise, see ``NativeMeasurements``.

    Returns:
        0 for the exact result and 1 for the source; NaN if h(S) and h(T) are proportional.
    """
    return _divide(tt * sr - st * tr, ss, st, tt)


def true_detail(ss: Any, st: Any, tt: Any, sr: Any, tr: Any) -> Any:
    """``b`` of the fit of ``old_detail``: the share of the exact result's detail that is there."""
    return _divide(ss * tr - st * sr, ss, st, tt)


def _divide(numerator: Any, ss: Any, st: Any, tt: Any) -> Any:
    """Divide by the determinant of the normal equations; NaN if they have no single solution."""
    determinant = ss * tt - st * st
    determinant = np.where(determinant > COLLINEAR * ss * tt, determinant, np.nan)
    return numerator / determinant


def _samples(image: Image.Image) -> Samples:
    return np.asarray(image.convert("RGB"))


def _squared(one: Samples, other: Samples) -> NDArray[np.int32]:
    return np.square(np.subtract(one, other, dtype=np.int32))


def _sum(values: NDArray[np.int32]) -> int:
    return int(values.sum(dtype=np.int64))


def _overlap(mask: Region, region: Region) -> float:
    """Intersection over union; 1 if both are empty."""
    union = int((mask | region).sum())
    return float((mask & region).sum() / union) if union else 1.0
