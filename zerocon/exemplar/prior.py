"""A diffusion process that a structural prior shifts: marginal, transition, posterior, DDIM step.

    z_t = alpha_t z_0 + sigma_t eps + gamma_t P

``P`` is an estimate of the clean latents ``z_0`` that the denoiser is given too. Shifts of this
kind are those of ShiftDDPMs (arXiv 2302.02373) and ContextDiff (arXiv 2402.16627); PROMOTE's own
are not published.

If ``P`` does not depend on ``z_0``, then ``z_t - gamma_t P`` is an ordinary diffusion process: the
shift is another parameterization of it, with the same optimum.
"""

from __future__ import annotations

from typing import NamedTuple, overload

import torch
from torch import Tensor

from zerocon.diffusion import NoiseLevel, ddim_step
from zerocon.tensor_types import Latents

PRIORS = ("quadratic", "terminal", "noise", "none")
OFFSET = 0.018125  # gamma / sigma of "noise", as in the released code of ContextDiff for videos


class NoiseLevels(NamedTuple):
    """One noise level for each image of a batch: ``NoiseLevel`` in columns.

    Attributes:
        alpha: Scales of the signal, (batch, 1, 1, 1).
        sigma: Scales of the noise, above 0.
    """

    alpha: Tensor
    sigma: Tensor

    @classmethod
    def variance_preserving(cls, alpha_bar: Tensor) -> NoiseLevels:
        """The levels with the given values of alpha-bar, (batch,), in (0, 1)."""
        column = alpha_bar[:, None, None, None]
        return cls(column.sqrt(), (1 - column).sqrt())


Level = NoiseLevel | NoiseLevels


@overload
def gamma(prior: str, level: NoiseLevel) -> float: ...
@overload
def gamma(prior: str, level: NoiseLevels) -> Tensor: ...
def gamma(prior: str, level: Level) -> float | Tensor:
    """Scale of the prior at a noise level; 0 without noise.

    Args:
        prior: ``"quadratic"``: ``alpha (1 - alpha)``, at most 1/4 and nearly 0 in pure noise.
            ``"terminal"``: ``1 - alpha``, so that sampling begins around the prior. ``"noise"``:
            proportional to ``sigma``. ``"none"``: 0.
        level: One level, or one for each image.

    Raises:
        ValueError: for another prior.
    """
    if prior == "quadratic":
        return level.alpha * (1 - level.alpha)
    if prior == "terminal":
        return 1 - level.alpha
    if prior == "noise":
        return OFFSET * level.sigma
    if prior == "none":
        return 0.0 if isinstance(level, NoiseLevel) else torch.zeros_like(level.alpha)
    raise ValueError(f'prior must be {" or ".join(PRIORS)}, not "{prior}"')


def noised(z0: Latents, P: Latents, eps: Latents, level: Level, prior: str) -> Latents:
    """The forward marginal: ``alpha z_0 + sigma eps + gamma P``."""
    return _plus(level.alpha * z0 + level.sigma * eps, gamma(prior, level), P)


def without_shift(z: Latents, P: Latents, level: Level, prior: str) -> Latents:
    """``z - gamma P``: what a network that was trained without the prior is called on."""
    return _plus(z, -gamma(prior, level), P)


def shifted_noise(eps: Latents, P: Latents, level: Level, prior: str) -> Latents:
    """What the denoiser predicts: ``eps + (gamma / sigma) P = (z_t - alpha z_0) / sigma``.

    With it the ordinary step to ``CLEAN`` gives the right ``z_0``. A ``NoiseLevel`` without noise
    has no shift, and gives ``eps``.
    """
    if isinstance(level, NoiseLevel) and level.sigma == 0:
        return eps
    return _plus(eps, gamma(prior, level) / level.sigma, P)


def shifted_ddim_step(
    z: Latents,
    eps: Latents,
    a: NoiseLevel,
    b: NoiseLevel,
    P_a: Latents,
    P_b: Latents,
    prior: str,
) -> Latents:
    """``ddim_step`` of the shifted process: the ordinary step plus a correction.

    ``ddim_step(z, eps, a, b) + gamma_b P_b - gamma_a (sigma_b / sigma_a) P_a``

    Args:
        z: Latents at level ``a``, with its shift.
        eps: The predicted shifted noise, see ``shifted_noise``.
        a: The level of ``z``.
        b: The level to move to.
        P_a: The prior at level ``a``, (batch, channels, rows, columns).
        P_b: The prior at level ``b``; the same tensor where it does not depend on the level.
        prior: See ``gamma``; with ``"none"`` it is ``ddim_step`` to the bit.
    """
    z = _plus(ddim_step(z, eps, a, b), gamma(prior, b), P_b)
    return z if a.sigma == 0 else _plus(z, -gamma(prior, a) * b.sigma / a.sigma, P_a)


class Transition(NamedTuple):
    """``q(z_b | z_a, P) = N(scale z_a + shift P, sigma^2)``, from less noise to more."""

    scale: float
    shift: float
    sigma: float


def transition(a: NoiseLevel, b: NoiseLevel, prior: str) -> Transition:
    """The transition from level ``a`` to the noisier level ``b``, for one and the same prior.

    Raises:
        ValueError: if ``b`` is not noisier than ``a``.
    """
    scale = b.alpha / a.alpha
    variance = b.sigma**2 - scale**2 * a.sigma**2
    if variance <= 0:
        raise ValueError("a transition leads to a noisier level")
    return Transition(scale, gamma(prior, b) - scale * gamma(prior, a), variance**0.5)


class Posterior(NamedTuple):
    """``q(z_a | z_b, z_0, P) = N(clean z_0 + noisy z_b + shift P, sigma^2)``."""

    clean: float
    noisy: float
    shift: float
    sigma: float


def posterior(a: NoiseLevel, b: NoiseLevel, prior: str) -> Posterior:
    """The posterior at level ``a`` given the noisier level ``b`` and the clean latents.

    ``A z_0 + B (z_b - gamma_b P) + gamma_a P`` with DDPM's coefficients (arXiv 2006.11239, eq. 7).

    Raises:
        ValueError: if ``b`` is not noisier than ``a``.
    """
    forward = transition(a, b, prior)
    noisy = forward.scale * a.sigma**2 / b.sigma**2
    return Posterior(
        clean=a.alpha * forward.sigma**2 / b.sigma**2,
        noisy=noisy,
        shift=gamma(prior, a) - noisy * gamma(prior, b),
        sigma=forward.sigma * a.sigma / b.sigma,
    )


def _plus(z: Latents, scale: float | Tensor, P: Latents) -> Latents:
    """``z + scale P``; ``z`` itself, whatever ``P`` is, for the number zero."""
    return z if isinstance(scale, float) and scale == 0 else z + scale * P
