import pytest
import tiny
import torch
from gaussian import GaussianWorld

from zerocon.activations import Observer
from zerocon.diffusion import ddim_step
from zerocon.editing import Plan, edit
from zerocon.evaluation_count import count_evaluations
from zerocon.inversion import DDIM, INVERTERS, FixedPoint, Virtual, autocorrelation, divergence
from zerocon.settings import Settings
from zerocon.trajectory import Inversion


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def invert(model, x, c, inverter, steps=5, seeds=None):
    schedule = model.schedule(steps)
    levels = inverter(Observer(model, c), x, schedule, seeds or tuple(range(len(x))))
    return Inversion.from_observations(
        levels, schedule=schedule, captions=("",), model="t", recipe={}
    )


EACH = [DDIM(), DDIM(rounds=2), FixedPoint(), FixedPoint(rounds=3), Virtual()]


@pytest.mark.parametrize("inverter", EACH)
def test_along_any_trajectory_a_direction_of_zero_returns_the_source(model, inverter):
    x, c = torch.randn(2, 4, 8, 6), model.embed(["a cat", "the red bus"])
    inversion = invert(model, x, c, inverter)
    assert len(inversion.latents) == 6 and torch.equal(inversion.latents[0], x)
    *_, last = edit(
        model, inversion, c, c, Plan(Settings(guidance_scale=5.0, cache_source=False), inverter)
    )
    assert torch.equal(last.latents, x)


@pytest.mark.parametrize("inverter", EACH)
def test_the_recorded_noise_of_a_level_is_the_prediction_at_its_latents(model, inverter):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    inversion = invert(model, x, c, inverter)
    for level in range(1, 6):
        with torch.no_grad():
            eps = model.eps(inversion.latents[level], inversion.schedule.times[level], c)
        assert torch.equal(eps, inversion.eps[level])


@pytest.mark.parametrize("inverter", EACH)
def test_a_batch_gives_the_trajectories_of_its_images_alone(model, inverter):
    x, c = torch.randn(2, 4, 8, 8), model.embed(["a cat", "the bus"])
    both = invert(model, x, c, inverter, seeds=(3, 4))
    second = invert(model, x[1:], model.embed(["the bus"]), inverter, seeds=(4,))
    assert torch.allclose(both.latents[:, 1:], second.latents, atol=1e-4)


@pytest.mark.parametrize(
    ("inverter", "forwards"),
    [
        (DDIM(), 6),
        (DDIM(rounds=5), 6),
        (FixedPoint(), 11),
        (FixedPoint(rounds=3), 21),
        (Virtual(), 6),
    ],
)
def test_the_evaluations_of_each_inverter(model, inverter, forwards):
    with count_evaluations() as spent:
        invert(model, torch.randn(1, 4, 8, 8), model.embed(["a cat"]), inverter)
    assert (spent.forwards, spent.backwards) == (forwards, 0)


def test_more_rounds_of_fixed_point_come_closer_to_the_inverse_of_ddim():
    world = GaussianWorld()
    c, x = world.say(0.3, -0.2), torch.randn(1, 2, 4, 4, dtype=torch.float64)

    def error(inverter):
        inversion = invert(world, x, c, inverter, steps=10)
        back, levels = inversion.latents[-1], inversion.schedule.levels
        for level in range(10, 0, -1):
            eps = world.eps(back, levels[level].time, c)
            back = ddim_step(back, eps, levels[level], levels[level - 1])
        return float((back - x).norm())

    errors = [error(inverter) for inverter in (DDIM(), FixedPoint(1), FixedPoint(2), FixedPoint(6))]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.1 * errors[1]


def test_the_virtual_trajectory_is_the_image_under_one_noise(model):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    inversion = invert(model, x, c, Virtual())
    noises = [
        (latents - level.alpha * x) / level.sigma
        for latents, level in zip(inversion.latents[1:], inversion.schedule.levels[1:], strict=True)
    ]
    assert all(torch.allclose(noise, noises[0], atol=1e-4) for noise in noises)
    again = invert(model, x, c, Virtual(), seeds=(1,))
    assert not torch.allclose(again.latents[-1], inversion.latents[-1])


def test_regularization_measures_and_reduces_autocorrelation():
    white = torch.randn(1, 4, 32, 32)
    blurred = torch.nn.functional.avg_pool2d(white, 3, 1, 1) * 3
    assert autocorrelation(blurred, "k") > 10 * autocorrelation(white, "k")
    assert divergence(2 * white) > divergence(white)
    regularized = DDIM(rounds=5)._regularized(blurred, 0, (0,))
    assert autocorrelation(regularized, "other") < autocorrelation(blurred, "other")
    assert torch.equal(DDIM()._regularized(blurred, 0, (0,)), blurred)


def test_inverters_depend_on_their_seeds_and_not_on_torchs_global_state(model):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    for inverter in EACH:
        torch.manual_seed(0)
        state = torch.get_rng_state()
        first = invert(model, x, c, inverter)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(1)
        assert torch.equal(first.latents, invert(model, x, c, inverter).latents)


def test_inverters_reject_invalid_options():
    with pytest.raises(ValueError, match="rounds"):
        DDIM(rounds=-1)
    with pytest.raises(ValueError, match="rounds"):
        FixedPoint(rounds=0)
    assert all(inverter.__doc__ for inverter in INVERTERS.values())
