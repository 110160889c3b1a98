"""A model with known answers: images are Gaussian, so the noise prediction is a formula."""

from __future__ import annotations

import torch
from torch import Tensor

from zerocon.conditioning import Conditioning
from zerocon.diffusion import NoiseLevel, Schedule
from zerocon.evaluation_count import count

SPREAD = 0.5  # standard deviation of the images around their mean


class GaussianWorld:
    """``x0 ~ N(mu, SPREAD^2)`` with one mean per channel, which is the conditioning."""

    name = "gaussian"
    unet = torch.nn.Identity()

    def schedule(self, steps: int) -> Schedule:
        """Levels evenly spaced in time over Stable Diffusion's schedule."""
        beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        alphas = (1 - beta).cumprod(0)
        times = torch.linspace(0, 999, steps + 1).round().int().tolist()
        return Schedule(tuple(NoiseLevel.variance_preserving(t, float(alphas[t])) for t in times))

    def say(self, *mu: float) -> Conditioning:
        """The conditioning under which channel i has mean ``mu[i]``."""
        tokens = torch.tensor(mu, dtype=torch.float64).view(1, 1, -1)
        return Conditioning(tokens, ((0,),), "gaussian")

    def eps(self, x: Tensor, t: float, c: Conditioning) -> Tensor:
        """The exact expectation of the noise in ``x``."""
        count(x)
        beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        a = float((1 - beta).cumprod(0)[int(t)])
        mu = c.tokens[:, 0, :, None, None]
        return (1 - a) ** 0.5 * (x - a**0.5 * mu) / (a * SPREAD**2 + 1 - a)

    @staticmethod
    def noise(x0: Tensor, mu: Tensor, level: NoiseLevel) -> Tensor:
        """Where the exact flow takes ``x0``: its quantile of the distribution never changes."""
        quantile = (x0 - mu) / SPREAD
        return level.alpha * mu + (level.alpha**2 * SPREAD**2 + level.sigma**2) ** 0.5 * quantile
