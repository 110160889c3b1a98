"""Noise levels, schedules and the DDIM step: known answers, without a network."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from gaussian import GaussianWorld

from zerocon.activations import Observer
from zerocon.diffusion import CLEAN, NoiseLevel, Schedule, ddim_coefficients, ddim_step
from zerocon.inversion import DDIM

STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def vp(alpha_bar: float) -> NoiseLevel:
    return NoiseLevel.variance_preserving(0, float(alpha_bar))


def flow(sigma: float) -> NoiseLevel:
    return NoiseLevel(1000 * sigma, 1 - sigma, sigma)


@pytest.mark.parametrize(
    ("a", "b"), [(vp(0.98), vp(0.01)), (flow(0.1), flow(0.9)), (CLEAN, vp(0.5))]
)
def test_a_step_and_its_inverse_give_the_same_latents(a, b):
    x, eps = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)
    assert torch.allclose(ddim_step(ddim_step(x, eps, a, b), eps, b, a), x, atol=1e-12)


@pytest.mark.parametrize(("a", "b"), [(vp(0.3), vp(0.8)), (flow(0.9), flow(0.2))])
def test_a_step_mixes_the_same_image_and_noise_as_the_other_level_does(a, b):
    x0, eps = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)
    x = a.alpha * x0 + a.sigma * eps
    assert torch.allclose(ddim_step(x, eps, a, b), b.alpha * x0 + b.sigma * eps, atol=1e-12)
    assert torch.allclose(ddim_step(x, eps, a, CLEAN), x0, atol=1e-12)


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DDIMInverseScheduler])
def test_for_variance_preserving_models_it_is_the_ddim_step_of_diffusers(scheduler):
    peer = scheduler(**STABLE_DIFFUSION)
    peer.set_timesteps(50)
    x, eps = torch.randn(2, 1, 4, 8, 8)
    alphas = peer.alphas_cumprod
    for t in peer.timesteps:
        t = int(t)
        if scheduler is DDIMScheduler:
            here, there = alphas[t], alphas[t - 20] if t >= 20 else peer.final_alpha_cumprod
        else:  # its times name the level being reached
            here, there = alphas[t - 20] if t >= 20 else peer.initial_alpha_cumprod, alphas[t]
        ours = ddim_step(x, eps, vp(here), vp(there))
        assert torch.allclose(ours, peer.step(eps, t, x).prev_sample, atol=1e-5)


def test_for_flow_models_it_is_the_euler_step_of_diffusers():
    """A flow model predicts the velocity ``eps - x0``, from which eps follows at every level."""
    peer = FlowMatchEulerDiscreteScheduler()
    peer.set_timesteps(20)
    x, velocity = torch.randn(2, 1, 4, 8, 8)
    for t, (a, b) in zip(peer.timesteps, pairwise(peer.sigmas.tolist()), strict=True):
        eps = x + (1 - a) * velocity
        theirs = peer.step(velocity, t, x).prev_sample
        if a < 1:
            assert torch.allclose(ddim_step(x, eps, flow(a), flow(b)), theirs, atol=1e-5)
        x = theirs


def test_coefficients_of_the_papers_schedule():
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = (1 - beta).cumprod(0)
    assert math.isclose(ddim_coefficients(vp(alphas[1]), vp(alphas[21]))[1], 0.0992, abs_tol=1e-4)
    assert math.isclose(ddim_coefficients(vp(alphas[0]), vp(alphas[981]))[0], 0.076, abs_tol=1e-3)


def test_inversion_error_halves_when_the_steps_double():
    world, c = GaussianWorld(), GaussianWorld().say(1.0, -1.0)
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    mu = c.tokens[:, 0, :, None, None]
    errors = []
    for steps in (50, 100, 200):
        schedule = world.schedule(steps)
        *_, last = DDIM()(Observer(world, c), x, schedule)
        exact = world.noise(x, mu, schedule.levels[-1])
        errors.append(float((last.x - exact).norm() / exact.norm()))
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(0.8 < slope < 1.2 for slope in slopes), errors


def test_a_schedule_gives_its_columns():
    schedule = Schedule.of((0, 10, 20), (1.0, 0.8, 0.5), (0.0, 0.6, 0.9))
    assert schedule.steps == 2 and schedule.times == (0, 10, 20)
    assert (schedule.alphas, schedule.sigmas) == ((1.0, 0.8, 0.5), (0.0, 0.6, 0.9))
    assert schedule.levels[1] == NoiseLevel(10, 0.8, 0.6)


@pytest.mark.parametrize(
    ("times", "alphas", "sigmas", "complaint"),
    [
        ((0,), (1.0,), (0.0,), "two levels"),
        ((0, 1), (1.0,), (0.0, 1.0), "shorter"),
        ((0, 1), (1.0, 0.0), (0.0, 1.0), "signal must be left"),
        ((0, 1), (1.0, math.inf), (0.0, 1.0), "every alpha"),
        ((0, 1), (1.0, 0.5), (0.0, -0.1), "every sigma"),
    ],
)
def test_impossible_schedules_are_refused(times, alphas, sigmas, complaint):
    with pytest.raises(ValueError, match=complaint):
        Schedule.of(times, alphas, sigmas)
