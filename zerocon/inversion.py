"""Ways from a picture to noise: the paths that an edit walks beside.

A scheme is a frozen dataclass that can be called as ``inverter(observer, x, schedule, seeds)`` and yields
what the network showed at every level, the picture ``x`` (level 0) first. Exactness comes from the
difference form, not from here: any path will do, and it matters only how well one can edit beside
it. One whose path is the same whatever the seeds may say so by ``stochastic = False``; a cache then
finds it under any seed.

To add one: a class, a line in ``INVERTERS`` at the foot, a test, a row in the README.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F

from zerocon.diffusion import Schedule, ddim_step
from zerocon.observation import Observation, Observer
from zerocon.rng import seeded_generator
from zerocon.shapes import Latents, Scalar

Seeds = tuple[int, ...]  # of the edits, one per picture

COARSEST = 8  # latent rows or columns at which the pyramid of the noise regularisation ends


class Inverter(Protocol):
    """What an inversion asks of a scheme."""

    def __call__(
        self, observer: Observer, x: Latents, schedule: Schedule, seeds: Seeds = (0,)
    ) -> Iterator[Observation]: ...


@dataclass(frozen=True)
class DDIM:
    """Epsilon at (x_s, s): each evaluation stands where the edit will need the source again.

    Less accurate as an inverse than epsilon at (x_s, t), but nothing is ever computed twice.
    ``rounds`` of pix2pix-zero's noise regularisation (5 in its code, 0 for none) bend the epsilon
    that leads on towards white noise; what is remembered of a level stays what the network said.
    """

    rounds: int = 0
    autocorrelation: float = 20.0  # weight, spread over the rounds, as in pix2pix-zero's code
    divergence: float = 20.0  # weight of the divergence from a normal distribution, applied once

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise ValueError(f"rounds must be 0 or more, not {self.rounds}")

    @property
    def stochastic(self) -> bool:
        """The noise regularisation shifts noise at random."""
        return self.rounds > 0

    def __call__(
        self, observer: Observer, x: Latents, schedule: Schedule, seeds: Seeds = (0,)
    ) -> Iterator[Observation]:
        for level, here in enumerate(schedule.levels):
            # the picture itself is never edited: what it shows at level 0 is of no use to anyone
            seen = observer(x, here.time, watch=level > 0)
            yield seen
            if level < schedule.steps:
                x = ddim_step(
                    x, self._regular(seen.eps, level, seeds), here, schedule.levels[level + 1]
                )

    def _regular(self, eps: Latents, level: int, seeds: tuple[int, ...]) -> Latents:
        for turn in range(self.rounds):
            keys = [f"{seed}/{level}/{turn}" for seed in seeds]
            eps = eps - self.autocorrelation / self.rounds * _slope(autocorrelation, eps, keys)
        return eps - self.divergence * _slope(divergence, eps, seeds) if self.rounds else eps


@dataclass(frozen=True)
class FixedPoint:
    """Epsilon at (x_t, t), found by fixed-point rounds: a truer inverse of DDIM, at more cost.

    ``x_t <- phi x_s + psi eps(x_t, t)``, ``rounds`` times from ``x_s``; one round is the inversion
    of diffusers and of null-text inversion. ``rounds + 1`` evaluations a level.
    """

    rounds: int = 1

    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds must be 1 or more, not {self.rounds}")

    def __call__(
        self, observer: Observer, x: Latents, schedule: Schedule, seeds: Seeds = (0,)
    ) -> Iterator[Observation]:
        yield observer(x, schedule.times[0], watch=False)
        for level in range(1, schedule.steps + 1):
            t, below = schedule.times[level], x
            for _ in range(self.rounds):
                eps = observer(x, t, watch=False).eps
                x = ddim_step(below, eps, schedule.levels[level - 1], schedule.levels[level])
            yield observer(x, t)


@dataclass(frozen=True)
class Virtual:
    """No inversion at all: the picture under ever more of one and the same noise (InfEdit)."""

    def __call__(
        self, observer: Observer, x: Latents, schedule: Schedule, seeds: Seeds = (0,)
    ) -> Iterator[Observation]:
        noise = torch.cat(
            [torch.randn(1, *x.shape[1:], generator=seeded_generator(f"{seed}")) for seed in seeds]
        ).to(x)
        yield observer(x, schedule.times[0], watch=False)
        for t, alpha, sigma in schedule.levels[1:]:
            yield observer(alpha * x + sigma * noise, t)


def autocorrelation(eps: Latents, key: str) -> Scalar:
    """How much one picture's noise (1, channels, h, w) resembles itself, shifted (pix2pix-zero).

    Squared mean product with a shifted copy, rows and columns, for every channel and every level
    of a pyramid of averages; white noise has none. ``key`` fixes the shifts, from 1 to half a side.
    """
    generator, losses = seeded_generator(key), []
    for channel in eps.chunk(eps.shape[1], dim=1):
        noise = channel
        while True:
            for dim in (2, 3):
                shift = torch.randint(1, max(2, noise.shape[dim] // 2), (), generator=generator)
                losses.append((noise * noise.roll(int(shift), dim)).mean().square())
            if min(noise.shape[2:]) <= COARSEST:
                break
            noise = F.avg_pool2d(noise, 2)
    return torch.stack(losses).sum()


def divergence(eps: Latents, _: object = None) -> Scalar:
    """How far one picture's noise is from mean 0 and variance 1 (twice the Gaussian KL)."""
    mean, var = eps.mean(), eps.var()
    return var + mean.square() - 1 - (var + 1e-7).log()


def _slope(loss: Callable[[Latents, Any], Scalar], eps: Latents, keys: Collection[Any]) -> Latents:
    """Gradient of a loss of single pictures, each with a key of its own."""
    with torch.enable_grad():
        eps = eps.detach().requires_grad_()
        rows = zip(eps.chunk(len(eps)), keys, strict=True)
        total = torch.stack([loss(row, key) for row, key in rows]).sum()
        (gradient,) = torch.autograd.grad(total, eps)
    return gradient


INVERTERS: Mapping[str, type[Inverter]] = {
    "ddim": DDIM,
    "fixed-point": FixedPoint,
    "virtual": Virtual,
}
