"""The noise schedule and one reversible step: mathematics on tensors, no model."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """The levels of noise an edit walks through, from the picture (0) to noise (``steps``).

    ``times[i]`` is the time the U-Net is told at level ``i``; ``alphas[i]`` the cumulative product
    of ``1 - beta`` there (DDIM's alpha-bar), in (0, 1] and falling.
    """

    times: tuple[int, ...]
    alphas: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.times) != len(self.alphas) or len(self.times) < 2:
            raise ValueError("a schedule needs one alpha per time, and at least two levels")
        if not all(0 < a <= 1 for a in self.alphas):
            raise ValueError("alphas must lie in (0, 1]: a schedule with no signal left at its end")

    @property
    def steps(self) -> int:
        """Number of steps between the picture and the noisiest level."""
        return len(self.times) - 1


def ddim_step(x: Tensor, eps: Tensor, a: float, a_next: float) -> Tensor:
    """Move ``x`` from noise level ``a`` to ``a_next`` along ``eps``: DDIM, eq. 12 with eta 0.

    Swap the two levels and the same line inverts: up if ``a_next < a``, down if it is larger.
    """
    phi, psi = ddim_coefficients(a, a_next)
    return phi * x + psi * eps


def ddim_coefficients(a: float, a_next: float) -> tuple[float, float]:
    """``phi`` and ``psi`` of the step ``x_next = phi x + psi eps`` between two levels."""
    phi = sqrt(a_next / a)
    return phi, sqrt(1 - a_next) - phi * sqrt(1 - a)
