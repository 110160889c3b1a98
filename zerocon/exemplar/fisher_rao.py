"""Distances of categorical distributions, given as logarithms of their probabilities.

All are over the last dimension, whose probabilities sum to 1, as ``log_softmax`` gives them.
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

LEAST = -100.0  # logarithm of the smallest probability that differs from 0


def distance(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The Fisher-Rao distance ``2 arccos(sum_v sqrt(p_v q_v))``, from 0 to pi.

    Square roots of probabilities are points of the unit sphere, and it is twice the angle between
    them. The angle is computed from the chord, which is exact where the points are close; there
    the derivative of the arccosine is infinite, and the gradient NaN.

    Args:
        log_p: (..., values).
        log_q: In the same shape.

    Returns:
        One distance for each of the leading dimensions.
    """
    roots = (log_p / 2).exp() - (log_q / 2).exp()
    chord = torch.linalg.vector_norm(roots, dim=-1)
    return 4 * torch.asin((chord / 2).clamp_max(0.5**0.5))  # the chord is at most sqrt(2)


def squared_distance(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The square of ``distance``, whose gradient is zero where both are equal.

    For close distributions it is eight times the Jensen-Shannon divergence.
    """
    return distance(log_p, log_q).square()


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The Jensen-Shannon divergence in nats, from 0 to log 2; arguments as of ``distance``."""
    log_p, log_q = log_p.clamp_min(LEAST), log_q.clamp_min(LEAST)  # 0 times infinity is NaN
    log_m = torch.logaddexp(log_p, log_q) - log(2)
    terms = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return terms.sum(-1) / 2
