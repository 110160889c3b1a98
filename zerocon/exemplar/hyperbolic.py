"""The Poincare ball: embeddings, distances, and a similarity for ``info_nce``.

Points of the ball of curvature ``-k`` have ``|x| < 1 / sqrt(k)``. Clipping radius and curvature are
those of Hyp-ViT (arXiv 2203.10833). Half precision is computed in float32: close to the boundary
``1 - k |x|^2`` would round to zero.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

CURVATURE = 0.1
RADIUS = 2.3  # largest norm of a vector before it is mapped into the ball
MARGIN = 1e-3  # share of the ball's radius that points keep from its boundary
SMALLEST = 1e-5  # norms and distances from the boundary are at least this in denominators


def clip_norm(v: Tensor, radius: float = RADIUS) -> Tensor:
    """Shorten vectors to at most ``radius`` (feature clipping, arXiv 2107.11472).

    Args:
        v: (..., features).
        radius: Above 0.
    """
    v = _full(v)
    return v * (radius / _norm(v)).clamp_max(1.0)


def exp0(v: Tensor, k: float = CURVATURE) -> Tensor:
    """The exponential map at the origin: ``tanh(sqrt(k) |v|) v / (sqrt(k) |v|)``.

    Its distance from the origin is ``2 |v|``, up to the margin that is kept from the boundary.

    Args:
        v: Vectors in the tangent space, (..., features).
        k: Minus the curvature, above 0.
    """
    v = _full(v)
    norm = sqrt(_positive(k)) * _norm(v)
    return v * (norm.tanh().clamp_max(1 - MARGIN) / norm)


def distance(a: Tensor, b: Tensor, k: float = CURVATURE) -> Tensor:
    """Distances of pairs of points of the ball, (..., features) to (...).

    ``arcosh(1 + u) / sqrt(k)`` with ``u = 2 k |a - b|^2 / ((1 - k |a|^2) (1 - k |b|^2))``; as ``k``
    falls to 0 it becomes ``2 |a - b|``.
    """
    a, b = _full(a), _full(b)
    return _distance(torch.linalg.vector_norm(a - b, dim=-1), _factor(a, k), _factor(b, k), k)


def pairwise_distance(a: Tensor, b: Tensor, k: float = CURVATURE) -> Tensor:
    """Distances of all pairs, (..., n, features) and (..., m, features) to (..., n, m)."""
    a, b = _full(a), _full(b)
    # through a matrix product, distances of close points would be rounding errors
    euclidean = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return _distance(euclidean, _factor(a, k)[..., :, None], _factor(b, k)[..., None, :], k)


def poincare_similarity(q: Tensor, k: Tensor) -> Tensor:
    """Minus the distances of features that are clipped and mapped into the ball.

    A ``similarity`` for ``zerocon.guidance.info_nce``: queries (..., n, features) and keys
    (..., m, features) to (..., n, m).
    """
    return -pairwise_distance(exp0(clip_norm(q)), exp0(clip_norm(k)))


def _distance(euclidean: Tensor, one: Tensor, other: Tensor, k: float) -> Tensor:
    """The distance from ``|a - b|`` and both conformal factors.

    ``arcosh(1 + u) = 2 arsinh(sqrt(u / 2))`` has no square root of ``u``, so that its gradient is
    finite where both points are one.
    """
    return 2 / sqrt(k) * torch.asinh(sqrt(k) * euclidean * (one * other).rsqrt())


def _factor(x: Tensor, k: float) -> Tensor:
    """``1 - k |x|^2``, (..., features) to (...)."""
    return (1 - _positive(k) * x.square().sum(-1)).clamp_min(SMALLEST)


def _norm(v: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    return norm.clamp_min(SMALLEST)


def _full(v: Tensor) -> Tensor:
    return v if v.dtype == torch.float64 else v.float()


def _positive(k: float) -> float:
    if not k > 0:
        raise ValueError(f"k, minus the curvature, must be above 0, not {k}")
    return k
