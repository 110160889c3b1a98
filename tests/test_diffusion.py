import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from gaussian import GaussianWorld

from zerocon.diffusion import Schedule, ddim_coefficients, ddim_step
from zerocon.inversion import DDIM
from zerocon.observation import Observer

STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def test_there_and_back_is_where_you_were():
    x, eps = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)
    there = ddim_step(x, eps, 0.98, 0.01)
    assert torch.allclose(ddim_step(there, eps, 0.01, 0.98), x, atol=1e-12)


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DDIMInverseScheduler])
def test_a_step_is_the_schedulers_own(scheduler):
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
        ours = ddim_step(x, eps, float(here), float(there))
        assert torch.allclose(ours, peer.step(eps, t, x).prev_sample, atol=1e-5)


def test_coefficients_of_the_papers_schedule():
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = (1 - beta).cumprod(0)
    assert math.isclose(
        ddim_coefficients(float(alphas[1]), float(alphas[21]))[1], 0.0992, abs_tol=1e-4
    )
    assert math.isclose(
        ddim_coefficients(float(alphas[0]), float(alphas[981]))[0], 0.076, abs_tol=1e-3
    )


def test_inversion_error_halves_when_the_steps_double():
    world, c = GaussianWorld(), GaussianWorld().say(1.0, -1.0)
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    mu = c.tokens[:, 0, :, None, None]
    errors = []
    for steps in (50, 100, 200):
        schedule = world.schedule(steps)
        *_, last = DDIM()(Observer(world, c), x, schedule)
        start = world.noise(x, mu, 1.0) / world.noise(x, mu, 1.0) * x  # the picture itself
        exact = world.noise(start, mu, schedule.alphas[-1])
        errors.append(float((last.x - exact).norm() / exact.norm()))
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(0.8 < slope < 1.2 for slope in slopes), errors


@pytest.mark.parametrize(
    ("times", "alphas", "complaint"),
    [
        ((0,), (1.0,), "two levels"),
        ((0, 1), (1.0,), "one alpha"),
        ((0, 1), (1.0, 0.0), "no signal"),
    ],
)
def test_impossible_schedules_are_refused(times, alphas, complaint):
    with pytest.raises(ValueError, match=complaint):
        Schedule(times, alphas)
