"""Inverters: from an image to noise, as a trajectory that the edit follows.

An inverter is a frozen dataclass that is called as ``inverter(observer, x, schedule, seeds)`` and
yields an observation at every noise level, the image ``x`` (level 0) first. The edit is exact for
any trajectory, since it is a difference from it; a trajectory matters only for how well one can
edit along it. An inverter whose trajectory does not depend on the seeds may set ``stochastic`` to
False; a cache then finds it under any seed.

To add one: a class, a line in ``INVERTERS`` at the end of this file, a test, a row in the docs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F

from zerocon.activations import Observation, Observer
from zerocon.diffusion import Schedule, ddim_step
from zerocon.rng import seeded_generator
from zerocon.tensor_types import Latents, Scalar

Seeds = tuple[int, ...]  # of the edits, one per image

ROUNDS = 1000  # at most; a recipe of someone else may name an inverter
COARSEST = 8  # smallest side of the pyramid of the noise regularization, in latent positions


class Inverter(Protocol):
    """What ``zerocon.invert`` needs of an inverter."""

    def __call__(
        self, observer: Observer, x: Latents, schedule: Schedule, seeds: Seeds = (0,)
    ) -> Iterator[Observation]:
        """Invert a batch of images.

        Args:
            observer: Calls the U-Net at latents and a timestep.
            x: Latents of the images, (images, channels, height, width).
            schedule: The noise levels, from the image to noise.
            seeds: One per image.

        Yields:
            The observation at each level, 0 to ``schedule.steps``; layers are recorded from 1 on.
        """
        ...


@dataclass(frozen=True)
class DDIM:
    """DDIM inversion with epsilon at (x_s, s), where the edit needs the source's prediction.

    ``x_t = ddim_step(x_s, eps(x_s, s))`` (arXiv 2010.02502, eq. 12 reversed). Less accurate than
    epsilon at (x_s, t), but no prediction is computed twice. One U-Net evaluation per level.

    Attributes:
        rounds: Rounds of pix2pix-zero's noise regularization (arXiv 2302.03027, sec. 3.2), 5 in
            its code, 0 for none: the epsilon of the step is moved towards white noise. Recorded is
            always the U-Net's own prediction.
        autocorrelation: Weight of the autocorrelation, spread over the rounds.
        divergence: Weight of the divergence from a standard normal distribution, applied once.
    """

    rounds: int = 0
    autocorrelation: float = 20.0
    divergence: float = 20.0

    def __post_init__(self) -> None:
        if not 0 <= self.rounds <= ROUNDS:
            raise ValueError(f"rounds must be from 0 to {ROUNDS}, not {self.rounds}")

    @property
    def stochastic(self) -> bool:
        """The noise regularization draws random shifts."""
        return self.rounds > 0

    def __call__(
        self, observer: Observer, x: Latents, schedule: Schedule, seeds: Seeds = (0,)
    ) -> Iterator[Observation]:
        levels = schedule.levels
        for i, level in enumerate(levels):
            # the layers of level 0 are never used: the edit ends there
            observation = observer(x, level.time, record=i > 0)
            yield observation
            if i < schedule.steps:
                eps = self._regularized(observation.eps, i, seeds)
                x = ddim_step(x, eps, level, levels[i + 1])

    def _regularized(self, eps: Latents, level: int, seeds: Seeds) -> Latents:
        for turn in range(self.rounds):
            keys = [f"{seed}/{level}/{turn}" for seed in seeds]
            eps = eps - self.autocorrelation / self.rounds * _gradient(autocorrelation, eps, keys)
        return eps - self.divergence * _gradient(divergence, eps, seeds) if self.rounds else eps


@dataclass(frozen=True)
class FixedPoint:
    """DDIM inversion with epsilon at (x_t, t), by fixed-point iteration: more exact, more costly.

    ``x_t <- ddim_step(x_s, eps(x_t, t))``, ``rounds`` times from ``x_s`` (AIDI, arXiv 2309.04907);
    one round is the inversion of diffusers and of null-text inversion (arXiv 2211.09794).
    ``rounds + 1`` U-Net evaluations per level.
    """

    rounds: int = 1

    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= ROUNDS:
            raise ValueError(f"rounds must be from 1 to {ROUNDS}, not {self.rounds}")

    def __call__(
        self, observer: Observer, x: Latents, schedule: Schedule, seeds: Seeds = (0,)
    ) -> Iterator[Observation]:
        levels = schedule.levels
        yield observer(x, levels[0].time, record=False)
        for i in range(1, schedule.steps + 1):
            x_s = x
            for _ in range(self.rounds):
                eps = observer(x, levels[i].time, record=False).eps
                x = ddim_step(x_s, eps, levels[i - 1], levels[i])
            yield observer(x, levels[i].time)


@dataclass(frozen=True)
class Virtual:
    """No inversion: the image under the same noise at every level (InfEdit, arXiv 2312.04965).

    ``x_t = alpha_t x_0 + sigma_t noise``. One U-Net evaluation per level.
    """

    def __call__(
        self, observer: Observer, x: Latents, schedule: Schedule, seeds: Seeds = (0,)
    ) -> Iterator[Observation]:
        rows = [
            torch.randn(1, *x.shape[1:], generator=seeded_generator(f"{seed}")) for seed in seeds
        ]
        noise = torch.cat(rows).to(x)
        yield observer(x, schedule.levels[0].time, record=False)
        for level in schedule.levels[1:]:
            yield observer(level.alpha * x + level.sigma * noise, level.time)


def autocorrelation(eps: Latents, key: str) -> Scalar:
    """Autocorrelation of one image's noise at a random shift (arXiv 2302.03027, sec. 3.2).

    Squared mean product with a shifted copy, in rows and columns, summed over the channels and
    the levels of an average-pooling pyramid; zero in expectation for white noise.

    Args:
        eps: (1, channels, height, width).
        key: Seeds the shifts, from 1 to half a side.
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
    """Divergence of one image's noise from mean 0 and variance 1: twice the KL of Gaussians."""
    mean, var = eps.mean(), eps.var()
    return var + mean.square() - 1 - (var + 1e-7).log()


def _gradient(
    loss: Callable[[Latents, Any], Scalar], eps: Latents, keys: Collection[Any]
) -> Latents:
    """Gradient of a loss of single images, each with a key of its own."""
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
