"""The diffusion process that a prior shifts: simulated, and against closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import tiny
import torch
from torch import Tensor

from zerocon.diffusion import CLEAN, NoiseLevel, ddim_step
from zerocon.exemplar.prior import (
    PRIORS,
    NoiseLevels,
    gamma,
    noised,
    posterior,
    shifted_ddim_step,
    shifted_noise,
    transition,
    without_shift,
)
from zerocon.rng import seeded_generator

SHIFTED = PRIORS[:-1]
BETAS = torch.linspace(0.02, 0.3, 12, dtype=torch.float64)  # a chain of few, large steps
CHAIN = [
    NoiseLevel.variance_preserving(i, float(each)) for i, each in enumerate((1 - BETAS).cumprod(0))
]


def latents(count: int, *shape: int) -> Tensor:
    return torch.randn(count, *shape, dtype=torch.float64)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_scale_of_the_prior_at_known_levels(prior):
    level = NoiseLevel(0, 0.6, 0.8)
    expected = {"quadratic": 0.24, "terminal": 0.4, "noise": 0.8 * 0.018125, "none": 0.0}
    assert gamma(prior, level) == pytest.approx(expected[prior], abs=1e-12)
    assert gamma(prior, CLEAN) == 0


def test_the_table_of_stable_diffusions_schedule():
    model = tiny.model()
    alpha_bar = model.scheduler.alphas_cumprod.double()
    times = (249, 499, 749, 999)
    levels = [NoiseLevel.variance_preserving(t, float(alpha_bar[t])) for t in times]
    table = {"quadratic": (0.26, 0.29, 0.19, 0.06), "terminal": (0.31, 0.56, 0.79, 0.93)}
    for prior, row in table.items():
        ratios = [gamma(prior, each) / each.sigma for each in levels]
        assert ratios == pytest.approx(row, abs=0.006)
    every = NoiseLevels.variance_preserving(alpha_bar)
    assert gamma("quadratic", every).max().item() == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_batch_of_levels_is_each_level_by_itself(prior):
    z0, P, eps = latents(3, 4, 4, 2, 2)
    bars = torch.tensor([0.9, 0.5, 0.2, 0.01], dtype=torch.float64)
    batch, alone = NoiseLevels.variance_preserving(bars), []
    for row, bar in enumerate(bars):
        level = NoiseLevel.variance_preserving(0, float(bar))
        z, one = noised(z0, P, eps, level, prior), shifted_noise(eps, P, level, prior)
        alone.append((z[row], one[row], without_shift(z, P, level, prior)[row]))
    z = noised(z0, P, eps, batch, prior)
    together = z, shifted_noise(eps, P, batch, prior), without_shift(z, P, batch, prior)
    for joined, rows in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.allclose(joined, torch.stack(rows), atol=1e-12)


def test_an_unknown_prior_is_refused():
    with pytest.raises(ValueError, match='quadratic or terminal or noise or none, not "cubic"'):
        gamma("cubic", CLEAN)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_simulated_chain_has_the_marginal_and_the_posterior(prior):
    """Mean and variance at the end; the regression of the level before on it is the posterior."""
    count, z0, P = 400_000, 0.7, -1.3
    generator = seeded_generator(f"chain {prior}")
    z, before = torch.full((count,), z0, dtype=torch.float64), None
    for a, b in pairwise([CLEAN, *CHAIN]):
        step = transition(a, b, prior)
        eps = torch.randn(count, dtype=torch.float64, generator=generator)
        z, before = step.scale * z + step.shift * P + step.sigma * eps, z
    a, b = CHAIN[-2:]
    error = 5 / math.sqrt(count)
    mean = b.alpha * z0 + gamma(prior, b) * P
    assert z.mean().item() == pytest.approx(mean, abs=error)
    assert z.var().item() == pytest.approx(b.sigma**2, abs=2 * error)
    expected = posterior(a, b, prior)
    slope = torch.cov(torch.stack([before, z]))[0, 1] / z.var()
    assert slope.item() == pytest.approx(expected.noisy, abs=error)
    intercept = (before - expected.noisy * z).mean().item()
    assert intercept == pytest.approx(expected.clean * z0 + expected.shift * P, abs=error)
    rest = (before - expected.noisy * z).std().item()
    assert rest == pytest.approx(expected.sigma, abs=error)


@pytest.mark.parametrize("prior", PRIORS)
def test_transitions_compose_to_the_marginal(prior):
    scale, shift, variance = 1.0, 0.0, 0.0
    for a, b in pairwise([CLEAN, *CHAIN]):
        step = transition(a, b, prior)
        scale, shift = step.scale * scale, step.scale * shift + step.shift
        variance = step.scale**2 * variance + step.sigma**2
    end = CHAIN[-1]
    assert (scale, shift) == pytest.approx((end.alpha, gamma(prior, end)), abs=1e-12)
    assert variance == pytest.approx(end.sigma**2, abs=1e-12)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize(("a", "b"), [*pairwise(CHAIN)])
def test_marginal_and_posterior_have_one_joint_distribution(prior, a, b):
    """Bayes: posterior and marginal of ``b`` give mean, variance and covariance of ``a``."""
    backward, forward = posterior(a, b, prior), transition(a, b, prior)
    assert backward.noisy * b.sigma**2 == pytest.approx(forward.scale * a.sigma**2, abs=1e-12)
    variance = backward.sigma**2 + backward.noisy**2 * b.sigma**2
    assert variance == pytest.approx(a.sigma**2, abs=1e-12)
    assert backward.clean + backward.noisy * b.alpha == pytest.approx(a.alpha, abs=1e-12)
    shift = backward.shift + backward.noisy * gamma(prior, b)
    assert shift == pytest.approx(gamma(prior, a), abs=1e-12)


def test_a_transition_to_less_noise_is_refused():
    with pytest.raises(ValueError, match="noisier"):
        transition(CHAIN[3], CHAIN[2], "none")
    with pytest.raises(ValueError, match="noisier"):
        posterior(CLEAN, CLEAN, "none")


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize(
    ("a", "b"), [(CHAIN[9], CHAIN[3]), (CHAIN[0], CLEAN), (CHAIN[2], CHAIN[7])]
)
def test_the_step_is_the_closed_form(prior, a, b):
    """The exact noise moves latents along the marginal, for a prior that varies."""
    z0, P_a, P_b, eps = latents(4, 1, 4, 2, 2)
    z = noised(z0, P_a, eps, a, prior)
    moved = shifted_ddim_step(z, shifted_noise(eps, P_a, a, prior), a, b, P_a, P_b, prior)
    assert torch.allclose(moved, noised(z0, P_b, eps, b, prior), atol=1e-12)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_step_from_the_image_begins_without_a_shift(prior):
    z0, P, eps = latents(3, 1, 4, 2, 2)
    moved = shifted_ddim_step(z0, shifted_noise(eps, P, CLEAN, prior), CLEAN, CHAIN[5], P, P, prior)
    assert torch.allclose(moved, noised(z0, P, eps, CHAIN[5], prior), atol=1e-12)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_ordinary_step_to_the_image_finds_it(prior):
    z0, P, eps = latents(3, 1, 4, 2, 2)
    z, shifted = noised(z0, P, eps, CHAIN[8], prior), shifted_noise(eps, P, CHAIN[8], prior)
    assert torch.allclose(ddim_step(z, shifted, CHAIN[8], CLEAN), z0, atol=1e-12)


def test_without_a_prior_every_result_is_the_ordinary_one_to_the_bit():
    z0, P, eps = torch.randn(3, 1, 4, 8, 8)
    P = P * torch.inf  # what is not used may hold anything
    a, b = CHAIN[9], CHAIN[2]
    z = noised(z0, P, eps, a, "none")
    assert torch.equal(z, a.alpha * z0 + a.sigma * eps)
    assert shifted_noise(eps, P, a, "none") is eps
    assert without_shift(z, P, a, "none") is z
    assert torch.equal(shifted_ddim_step(z, eps, a, b, P, P, "none"), ddim_step(z, eps, a, b))


@pytest.mark.parametrize("prior", SHIFTED)
def test_a_network_without_the_prior_samples_the_same_image_along_the_shifted_process(prior):
    model, steps = tiny.model(), 6
    levels, c = model.schedule(steps).levels, model.embed(["a"])
    x, P = torch.randn(2, 1, 4, 8, 8)
    z = x + gamma(prior, levels[steps]) * P
    with torch.no_grad():
        for i in range(steps, 0, -1):
            a, b = levels[i], levels[i - 1]
            x = ddim_step(x, model.eps(x, a.time, c), a, b)
            eps = shifted_noise(model.eps(without_shift(z, P, a, prior), a.time, c), P, a, prior)
            z = shifted_ddim_step(z, eps, a, b, P, P, prior)
    assert torch.allclose(without_shift(z, P, levels[0], prior), x, atol=1e-4)
