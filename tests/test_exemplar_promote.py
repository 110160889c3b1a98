"""Sampling of prior-guided translation, and the Brownian bridge beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from zerocon.diffusion import CLEAN, NoiseLevel, ddim_step
from zerocon.evaluation_count import count_evaluations
from zerocon.exemplar.encoders import Matcher, MatcherConfig
from zerocon.exemplar.networks import Matched, TranslationConfig, TranslationNetwork, unet_input
from zerocon.exemplar.prior import PRIORS, gamma, shifted_noise, without_shift
from zerocon.exemplar.promote import (
    bridge_mean,
    bridge_step,
    bridge_variance,
    match,
    sample,
    sample_bridge,
    sample_shifted,
    starting_noise,
)
from zerocon.model import Model, ModelSpec, load
from zerocon.sampling import denoise

SMALL = MatcherConfig(stem=8, width=16, inner=8, dilations=(1,), features=8, pooled=8)
SIZES: dict[str, Any] = {
    "features": 8,
    "pooled": 8,
    "stem": 8,
    "width": 16,
    "inner": 8,
    "dilations": (1,),
}


@pytest.fixture(scope="module")
def model() -> Model:
    return load(ModelSpec("mini", device="cpu", dtype="float32"))


def network(model: Model, *, trained: bool = True, **fields: Any) -> TranslationNetwork:
    """A small network that uses all of its inputs, or an untrained adapter of the model."""
    torch.manual_seed(0)
    channels = (16, 16) if trained else ()
    config = TranslationConfig(**SIZES, channels=channels, **fields)
    new = TranslationNetwork(model.unet, config).eval()
    new.requires_grad_(False)
    for name, tensor in new.named_parameters():
        if trained and not new.is_frozen(name):
            tensor += 0.05 * torch.randn_like(tensor)
    return new


def matched(batch: int = 2) -> Matched:
    torch.manual_seed(3)
    matcher = Matcher(SMALL).requires_grad_(False)
    pixels, exemplar = (torch.rand(batch, 3, 128, 128) * 2 - 1 for _ in range(2))
    found = match(matcher, pixels, [(exemplar, torch.randn(batch, 4, 16, 16))])
    return found._replace(start=torch.randn(batch, 4, 16, 16))


def run(model: Model, new: TranslationNetwork, steps: int = 3, **options: Any) -> Tensor:
    levels = model.schedule(steps).levels
    noise = starting_noise([5, 6], 16, 16)
    return sample(new, matched(), model.embed([""]).tokens, levels, noise, **options)


# the shifted process


def frozen(z: Tensor, a: NoiseLevel) -> Tensor:
    """A network that was trained without a prior."""
    return torch.tanh(z) * a.sigma + 0.1 * z.flip(3)


def test_without_a_shift_it_is_the_plain_sampler_to_the_bit(model: Model) -> None:
    """With an untrained adapter and no prior: ordinary sampling from the empty caption."""
    latents = run(model, network(model, trained=False, prior="none"))
    noise = starting_noise([5, 6], 16, 16)
    assert torch.equal(latents, denoise_once(model, noise, 3))


def denoise_once(model: Model, x: Tensor, steps: int) -> Tensor:
    levels = model.schedule(steps).levels
    c = model.embed(["", ""])
    for i in range(steps, 0, -1):
        x = ddim_step(x, model.eps(x, levels[i].time, c), levels[i], levels[i - 1])
    return x


def test_the_plain_sampler_is_that_of_the_embedded_model(model: Model) -> None:
    noise = starting_noise([5, 6], 16, 16)
    one = denoise(model, ["", ""], noise, 3, 1.0)
    assert one.allclose(denoise_once(model, noise, 3), atol=1e-4)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_network_without_prior_samples_the_same_through_the_shift(
    model: Model, prior: str
) -> None:
    """Called on ``z_t - b_t``, it gives the image of the unshifted sampler for any constant P."""
    levels = model.schedule(10).levels
    noise, P = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16)

    def predict(z: Tensor, a: NoiseLevel) -> Tensor:
        return shifted_noise(frozen(without_shift(z, P, a, prior), a), P, a, prior)

    plain = sample_shifted(frozen, noise, P, levels, "none")
    assert sample_shifted(predict, noise, P, levels, prior).allclose(plain, atol=2e-5)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_perfect_network_gives_the_clean_latents(model: Model, prior: str) -> None:
    z0, P = torch.randn(2, 2, 4, 16, 16)
    levels = (CLEAN, *model.schedule(5).levels[1:])

    def predict(z: Tensor, a: NoiseLevel) -> Tensor:
        return (z - a.alpha * z0) / a.sigma

    z = sample_shifted(predict, torch.randn(2, 4, 16, 16), P, levels, prior)
    assert z.allclose(z0, atol=1e-5)


def test_terminal_sampling_begins_around_the_prior(model: Model) -> None:
    levels = model.schedule(4).levels
    P, noise = torch.full((1, 4, 16, 16), 3.0), torch.randn(1, 4, 16, 16)
    seen: list[Tensor] = []

    def predict(z: Tensor, a: NoiseLevel) -> Tensor:
        seen.append(z)
        return torch.zeros_like(z)

    sample_shifted(predict, noise, P, levels, "terminal")
    assert seen[0].allclose(noise + gamma("terminal", levels[-1]) * P)
    assert gamma("terminal", levels[-1]) > 0.6


# guidance


@pytest.mark.parametrize(
    ("structure", "appearance", "evaluations"),
    [(1, 1, 1), (1, 0, 1), (0, 0, 1), (1, 2, 2), (2, 2, 2), (0, 1, 3), (1.5, 2, 3)],
)
def test_evaluations_of_a_step(
    model: Model, structure: float, appearance: float, evaluations: int
) -> None:
    new = network(model)
    with count_evaluations() as counted:
        latents = run(model, new, structure=structure, appearance=appearance)
    assert counted.per_image(2).forwards == 3 * evaluations
    assert latents.isfinite().all()


def test_scales_of_one_are_one_evaluation_with_everything(model: Model) -> None:
    """The same as calling the U-Net on condition and exemplar at every step."""
    new = network(model)
    levels, text = model.schedule(3).levels, model.embed([""]).tokens
    given = new.guide(matched(), text, torch.ones(2), torch.ones(2))

    def predict(z: Tensor, a: NoiseLevel) -> Tensor:
        return new.unet(unet_input(z, given), a.time, given.tokens).sample

    z = sample_shifted(predict, starting_noise([5, 6], 16, 16), given.prior, levels, "terminal")
    assert torch.equal(z, run(model, new))


@pytest.mark.parametrize("prior", PRIORS)
def test_guidance_combines_the_predicted_clean_latents(model: Model, prior: str) -> None:
    """One step to the clean latents: every branch on its own shifted latents."""
    new, text = network(model, prior=prior), model.embed([""]).tokens
    a, noise, inputs = model.schedule(2).levels[2], starting_noise([5, 6], 16, 16), matched()
    clean = []
    for c, r in ((0, 0), (1, 0), (1, 1)):
        given = new.guide(inputs, text, c * torch.ones(2), r * torch.ones(2))
        z = noise + gamma(prior, a) * given.prior
        eps = new.unet(unet_input(z, given), a.time, given.tokens).sample
        clean.append(ddim_step(z, eps, a, CLEAN))
    expected = clean[0] + 1.5 * (clean[1] - clean[0]) + 2.5 * (clean[2] - clean[1])
    options: dict[str, Any] = {"structure": 1.5, "appearance": 2.5}
    found = sample(new, inputs, text, (CLEAN, a), noise, **options)
    assert found.allclose(expected, atol=1e-3 * float(expected.abs().max()))


def test_without_exemplar_its_content_does_not_matter(model: Model) -> None:
    new, text = network(model), model.embed([""]).tokens
    levels, noise = model.schedule(2).levels, starting_noise([5, 6], 16, 16)
    one = matched()
    other = one._replace(warped=one.warped + 1, appearance=one.appearance + 1)
    for appearance, same in ((0.0, True), (1.0, False)):
        results = [
            sample(new, part, text, levels, noise, appearance=appearance) for part in (one, other)
        ]
        assert torch.equal(*results) == same


def test_an_image_does_not_depend_on_its_batch(model: Model) -> None:
    new, text, levels = network(model), model.embed([""]).tokens, model.schedule(2).levels
    inputs = matched()
    both = sample(new, inputs, text, levels, starting_noise([5, 6], 16, 16))
    second = Matched(*(part[1:] for part in inputs if part is not None))
    alone = sample(new, second, text, levels, starting_noise([6], 16, 16))
    assert alone.allclose(both[1:], atol=1e-4)


@pytest.mark.parametrize(
    ("span", "expected"),
    [((0.0, 1.0), lambda w, z0: w), ((1.0, 1.0), lambda w, z0: z0)],
)
def test_reinjection_replaces_the_result_by_a_confident_warp(
    model: Model, span: tuple[float, float], expected: Callable[[Tensor, Tensor], Tensor]
) -> None:
    new, text = network(model), model.embed([""]).tokens
    levels, noise = (CLEAN, *model.schedule(3).levels[1:]), starting_noise([5, 6], 16, 16)
    inputs = matched()
    inputs = inputs._replace(confidence=torch.ones_like(inputs.confidence))
    plain = sample(new, inputs, text, levels, noise)
    z = sample(new, inputs, text, levels, noise, reinjection=1.0, span=span)
    assert z.allclose(expected(inputs.warped, plain), atol=1e-4)


# matching


def test_several_exemplars_with_all_the_weight_on_one_of_them() -> None:
    matcher = Matcher(SMALL).requires_grad_(False)
    pixels, first, second = (torch.rand(1, 3, 64, 64) * 2 - 1 for _ in range(3))
    z = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    alone = match(matcher, pixels, [(first, z[0])])
    both = match(matcher, pixels, [(first, z[0]), (second, z[1])], (1.0, 1e-30))
    assert both.warped.allclose(alone.warped, atol=1e-5)
    assert both.appearance.allclose(alone.appearance, atol=1e-5)


def test_noise_depends_on_the_seed_of_its_image_only() -> None:
    noise = starting_noise([1, 2, 1], 16, 24)
    assert noise.shape == (3, 4, 16, 24)
    assert torch.equal(noise[0], noise[2]) and not torch.equal(noise[0], noise[1])
    assert torch.equal(noise[1:2], starting_noise([2], 16, 24))


# the bridge


def test_the_bridge_ends_at_the_image_and_begins_near_the_condition() -> None:
    assert bridge_mean(0.0) == 0 and bridge_mean(1.0) == pytest.approx(1, abs=2e-3)
    assert bridge_variance(0.0) == 0 and bridge_variance(1.0) < 3e-3
    assert bridge_variance(0.5) == pytest.approx(0.5, abs=1e-3)


def test_steps_of_the_bridge_keep_its_marginal() -> None:
    x0, y, t, s = torch.tensor(0.7), torch.tensor(-0.4), 0.8, 0.3
    noise = torch.randn(2, 100_000)
    x = (1 - bridge_mean(t)) * x0 + bridge_mean(t) * y + bridge_variance(t) ** 0.5 * noise[0]
    x = bridge_step(x, x0, y, t, s, noise[1])
    assert float(x.mean()) == pytest.approx(
        float((1 - bridge_mean(s)) * x0 + bridge_mean(s) * y), abs=0.01
    )
    assert float(x.var()) == pytest.approx(bridge_variance(s), rel=0.02)


def test_sampling_a_bridge(model: Model) -> None:
    new = network(model, bridge=True)
    text, inputs = model.embed([""]).tokens, matched()
    one, other = (sample_bridge(new, inputs, text, 3, seeds) for seeds in ([1, 2], [1, 3]))
    assert one.isfinite().all() and torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])
