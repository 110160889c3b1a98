"""Noise levels and the step between two of them: arithmetic on tensors, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap
from math import isfinite, sqrt
from typing import NamedTuple

from torch import Tensor


class NoiseLevel(NamedTuple):
    """A timestep and how signal and noise are mixed there: ``x_t = alpha * x_0 + sigma * eps``.

    Attributes:
        time: What the U-Net takes as its timestep: an integer for Stable Diffusion.
        alpha: Scale of the signal, above 0. For a variance-preserving model it is the square root
            of DDPM's cumulative product alpha-bar.
        sigma: Scale of the noise, 0 or more.
    """

    time: float
    alpha: float
    sigma: float

    @classmethod
    def variance_preserving(cls, time: float, alpha_bar: float) -> NoiseLevel:
        """The level with the given alpha-bar in (0, 1]: ``alpha^2 + sigma^2 = 1``."""
        return cls(time, sqrt(alpha_bar), sqrt(1 - alpha_bar))


CLEAN = NoiseLevel(0, 1.0, 0.0)  # without noise


@dataclass(frozen=True)
class Schedule:
    """The noise levels of an edit, from the image (level 0) to the noisiest (level ``steps``).

    Attributes:
        levels: At least two; ``levels[i]`` gives timestep, alpha and sigma of level ``i``.
    """

    levels: tuple[NoiseLevel, ...]

    def __post_init__(self) -> None:
        if len(self.levels) < 2:
            raise ValueError("a schedule needs at least two levels")
        if not all(each.alpha > 0 and isfinite(each.alpha) for each in self.levels):
            raise ValueError("every alpha of a schedule must be above 0: signal must be left")
        if not all(each.sigma >= 0 and isfinite(each.sigma) for each in self.levels):
            raise ValueError("every sigma of a schedule must be 0 or more")

    @classmethod
    def of(
        cls, times: Sequence[float], alphas: Sequence[float], sigmas: Sequence[float]
    ) -> Schedule:
        """The schedule with these columns; ``ValueError`` if their lengths differ."""
        return cls(tuple(starmap(NoiseLevel, zip(times, alphas, sigmas, strict=True))))

    @property
    def steps(self) -> int:
        """Number of denoising steps."""
        return len(self.levels) - 1

    @property
    def times(self) -> tuple[float, ...]:
        """Timestep of every level."""
        return tuple(level.time for level in self.levels)

    @property
    def alphas(self) -> tuple[float, ...]:
        """Scale of the signal at every level."""
        return tuple(level.alpha for level in self.levels)

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Scale of the noise at every level."""
        return tuple(level.sigma for level in self.levels)


def ddim_step(x: Tensor, eps: Tensor, a: NoiseLevel, b: NoiseLevel) -> Tensor:
    """Move ``x`` from level ``a`` to level ``b`` along the predicted noise ``eps``.

    ``x_b = (alpha_b / alpha_a) x_a + (sigma_b - (alpha_b / alpha_a) sigma_a) eps``: keep the
    predicted ``x_0`` and ``eps``, and mix them as at ``b``. For variance-preserving models this is
    DDIM (arXiv 2010.02502, eq. 12 with eta 0); for flow models (``alpha = 1 - sigma``) it is the
    Euler step. Towards less noise it samples, towards more noise it inverts. ``b = CLEAN`` gives
    the predicted ``x_0``. The step is linear in ``x`` and ``eps`` together, so that it also moves
    differences of two trajectories.
    """
    phi, psi = ddim_coefficients(a, b)
    return phi * x + psi * eps


def ddim_coefficients(a: NoiseLevel, b: NoiseLevel) -> tuple[float, float]:
    """``phi`` and ``psi`` of the step ``x_b = phi x_a + psi eps``."""
    phi = b.alpha / a.alpha
    return phi, b.sigma - phi * a.sigma


def ddim_noise(x_a: Tensor, x_b: Tensor, a: NoiseLevel, b: NoiseLevel) -> Tensor:
    """The ``eps`` for which ``ddim_step`` moves ``x_a`` to ``x_b``."""
    phi, psi = ddim_coefficients(a, b)
    return (x_b - phi * x_a) / psi
