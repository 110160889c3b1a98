"""Cross-Image Attention and tokens of diffusion features: training-free, on any model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from torch import Tensor

from zerocon import registry, world
from zerocon.activations import observe
from zerocon.bench.random_weights import SHAPES, random_model
from zerocon.errors import MethodError
from zerocon.exemplar.correspondence import correspond
from zerocon.exemplar.cross_image import CrossImageAttention, adain, exemplar_attention
from zerocon.exemplar.dift import DiffusionFeatures
from zerocon.guidance import Contrastive
from zerocon.image.transforms import prepare
from zerocon.model import ModelSpec, load
from zerocon.model.attention import change_layers

ALL = CrossImageAttention()
PLAIN = CrossImageAttention(guard=0)
SCENES = [world.sample(seed) for seed in world.VALIDATION[:2]]


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def mini():
    return load(ModelSpec("mini"))


@pytest.fixture(scope="module")
def drawn(mini) -> dict[str, Tensor]:
    """Latents of a pair of scenes, and their translations with the guard and without."""
    one, other = SCENES
    images = {"structure": one, "exemplar": other, "target": world.dress(one, other)}
    latents = {
        name: mini.encode(prepare(world.render(scene), mini.working_size).pixels)
        for name, scene in images.items()
    }
    x, r = latents["structure"], latents["exemplar"]
    return latents | {
        "guarded": translated(ALL, mini, x, [r], 8),
        "plain": translated(PLAIN, mini, x, [r], 8),
    }


def translated(
    method, model, x: Tensor, exemplars: list[Tensor], steps: int = 3, weights=()
) -> Tensor:
    c = model.embed([""] * len(x))
    *_, last = method(model, x, exemplars, c, steps=steps, weights=weights)
    return last


# the translation


@pytest.mark.parametrize("method", [ALL, replace(PLAIN, inverter="virtual")])
def test_an_exemplar_that_is_the_structure_image_returns_it(model, method):
    x = torch.randn(1, 4, 8, 8)
    assert torch.allclose(translated(method, model, x, [x]), x, atol=1e-3)


def test_without_appearance_and_statistics_the_exemplar_has_no_effect(model):
    x, r = torch.randn(2, 1, 4, 8, 8)
    method = CrossImageAttention(appearance=0, statistics=(0, 0))
    assert torch.allclose(translated(method, model, x, [r]), x, atol=1e-4)


def test_the_result_has_the_exemplars_statistics(model):
    x, r = torch.randn(1, 4, 8, 8), 2 * torch.randn(1, 4, 8, 8) + 1
    out = translated(PLAIN, model, x, [r])
    assert torch.allclose(out.mean((2, 3)), r.mean((2, 3)), atol=1e-4)
    assert torch.allclose(out.std((2, 3)), r.std((2, 3)), atol=1e-4)
    assert not torch.allclose(out, adain(x, [r]), atol=0.1)


def test_the_same_input_gives_the_same_bits(model):
    x, r = torch.randn(2, 1, 4, 8, 8)
    assert torch.equal(translated(ALL, model, x, [r]), translated(ALL, model, x, [r]))


def test_exemplars_may_have_any_size_and_number(model):
    x, r, wide = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 12)
    for exemplars in ([wide], [r, wide]):
        assert translated(PLAIN, model, x, exemplars).isfinite().all()
    twice = translated(PLAIN, model, x, [r, r])  # attention over the same positions, twice
    assert torch.allclose(twice, translated(PLAIN, model, x, [r]), atol=1e-3)


def test_a_batch_is_each_translation_by_itself(model):
    x, r = torch.randn(2, 2, 4, 8, 8)
    alone = [translated(PLAIN, model, x[i : i + 1], [r[i : i + 1]]) for i in range(2)]
    assert torch.allclose(translated(PLAIN, model, x, [r]), torch.cat(alone), atol=1e-3)


def test_the_guard_moves_the_result_towards_the_structure_image(mini, drawn):
    loss, c = Contrastive(), mini.embed([""])
    source, guarded, plain = (
        observe(mini, drawn[name], 1, c, loss.layer_patterns, (0,))
        for name in ("structure", "guarded", "plain")
    )
    assert loss(source, guarded) < 0.95 * loss(source, plain)


def test_on_the_drawn_world_it_is_nearer_to_the_target_than_either_image(mini, drawn):
    target = drawn["target"]
    for name in ("guarded", "plain"):
        error, *baselines = (
            float((mini.decode(drawn[each]) - mini.decode(target)).square().mean())
            for each in (name, "structure", "exemplar")
        )
        assert error < 0.9 * min(baselines), name


def test_it_runs_on_networks_of_the_shape_of_stable_diffusion():
    model = random_model(SHAPES["sd1"].tiny(), torch.device("cpu"), torch.float32)
    x, r = torch.randn(2, 1, 4, 16, 16)
    assert translated(ALL, model, x, [r], 2).isfinite().all()


# attention


def test_only_the_decoders_self_attention_of_the_sizes_is_changed(model):
    r, c = torch.randn(1, 4, 8, 8), model.embed([""])
    fine, coarse = (exemplar_attention(model, [r], 1, c, {size}).names for size in (1, 2))
    assert {name.split(".")[1] for name in fine} == {"1"}
    assert {name.split(".")[1] for name in coarse} == {"0"}
    assert all(name.startswith("up_blocks.") and ".attn1" in name for name in {*fine, *coarse})


def test_the_network_is_as_before_afterwards(model):
    x, r = torch.randn(2, 1, 4, 8, 8)
    c = model.embed([""])
    before = model.eps(x, 500, c)
    swap = exemplar_attention(model, [r], 500, c, {1, 2})
    with change_layers(model.unet, swap.names, swap.change(model.unet, 1.5)):
        assert not torch.allclose(model.eps(x, 500, c), before, atol=1e-3)
    assert torch.equal(model.eps(x, 500, c), before)


@pytest.mark.parametrize("contrast", [1.0, 1.67])
def test_the_layer_is_attention_of_its_queries_to_the_exemplar(model, contrast):
    r, c = torch.randn(1, 4, 8, 12), model.embed([""])
    swap = exemplar_attention(model, [r], 500, c, {1})
    name = next(name for name in sorted(swap.names) if name.endswith("attn1"))
    layer = model.unet.get_submodule(name)
    states = torch.randn(1, 64, layer.to_q.in_features)
    q, k, v = (
        layer.head_to_batch_dim(part)
        for part in (
            layer.to_q(states),
            swap.projections[f"{name}.to_k"],
            swap.projections[f"{name}.to_v"],
        )
    )
    maps = (q @ k.mT * layer.scale).softmax(-1)
    maps = maps.mean(-1, keepdim=True) + contrast * (maps - maps.mean(-1, keepdim=True))
    expected = layer.to_out[0](layer.batch_to_head_dim(maps @ v))
    with change_layers(model.unet, swap.names, swap.change(model.unet, contrast)):
        assert torch.allclose(layer(states), expected, atol=1e-5)


def test_a_size_without_self_attention_is_an_error(model):
    with pytest.raises(MethodError, match="no self-attention"):
        exemplar_attention(model, [torch.randn(1, 4, 8, 8)], 1, model.embed([""]), {8})


def test_statistics_are_the_weighted_mean_of_those_of_the_exemplars():
    x, r, s = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 2, 2), 3 * torch.randn(1, 4, 3, 5) + 3
    for weights, shares in (
        ((), (0.5, 0.5)),
        ((3.0, 1.0), (0.75, 0.25)),
        ((1e308, 1e-308), (1, 0)),
    ):
        out = adain(x, [r, s], weights)
        for statistic in (torch.mean, lambda t, dim: t.std(dim, correction=0)):
            mixed = sum(n * statistic(t, (2, 3)) for n, t in zip(shares, (r, s), strict=True))
            assert torch.allclose(statistic(out, (2, 3)), mixed, atol=1e-5)
    flat = torch.ones(1, 4, 8, 8)
    assert torch.allclose(adain(flat, [r]).mean((2, 3)), r.mean((2, 3)), atol=1e-5)


# several exemplars


@pytest.mark.parametrize("contrast", [1.0, 1.67])
def test_a_layer_takes_positions_of_an_exemplar_as_often_as_it_has_weight(model, contrast):
    c, weights = model.embed([""]), (1.0, 3.0)
    r, s = torch.randn(1, 4, 8, 12), torch.randn(1, 4, 8, 8)
    one, other, both = (
        exemplar_attention(model, each, 500, c, {1}, weights[: len(each)])
        for each in ([r], [s], [r, s])
    )
    name = next(name for name in sorted(both.names) if name.endswith("attn1"))
    layer = model.unet.get_submodule(name)
    # the exemplar with the weight 3 three times, without weights
    k, v = (
        torch.cat([one.projections[n], *[other.projections[n]] * 3], 1)
        for n in (f"{name}.to_k", f"{name}.to_v")
    )
    states = torch.randn(1, 64, layer.to_q.in_features)
    q, k, v = (layer.head_to_batch_dim(part) for part in (layer.to_q(states), k, v))
    maps = (q @ k.mT * layer.scale).softmax(-1)
    maps = maps.mean(-1, keepdim=True) + contrast * (maps - maps.mean(-1, keepdim=True))
    expected = layer.to_out[0](layer.batch_to_head_dim(maps @ v))
    with change_layers(model.unet, both.names, both.change(model.unet, contrast), both.key_bias):
        assert torch.allclose(layer(states), expected, atol=1e-5)
    assert not torch.allclose(layer(states), expected, atol=1e-3)


@pytest.mark.parametrize("method", [ALL, replace(PLAIN, contrast=1.67)])
def test_weights_of_equal_exemplars_have_no_effect(model, method):
    x, r = torch.randn(2, 1, 4, 8, 8)
    alone = translated(method, model, x, [r])
    assert torch.allclose(translated(method, model, x, [r, r], weights=(3, 1)), alone, atol=1e-3)


@pytest.mark.parametrize("method", [ALL, replace(PLAIN, contrast=1.67)])
def test_an_exemplar_of_hardly_any_weight_is_left_out(model, method):
    x, r, other = torch.randn(3, 1, 4, 8, 8)
    alone = translated(method, model, x, [r])
    given = translated(method, model, x, [r, other], weights=(1.0, 1e-300))
    assert torch.allclose(given, alone, atol=1e-3)
    equal, more = (translated(method, model, x, [r, other], weights=w) for w in ((), (1.0, 3.0)))
    assert not torch.allclose(equal, alone, atol=0.01)
    assert not torch.allclose(equal, more, atol=0.01)


def test_equal_weights_are_no_bias(model):
    r, s = torch.randn(2, 1, 4, 8, 8)
    swap = exemplar_attention(model, [r, s], 500, model.embed([""]), {1}, (2.0, 2.0))
    assert not swap.key_bias


def test_options_are_read_from_text():
    text = "attention:appearance=3.5,finest=0.2+0.8,inverter=virtual"
    method = registry.parse(text, {"attention": CrossImageAttention})
    assert method == CrossImageAttention(3.5, finest=(0.2, 0.8), inverter="virtual")
    with pytest.raises(MethodError, match="two shares"):
        registry.parse("attention:half=0.7+0.1", {"attention": CrossImageAttention})
    with pytest.raises(MethodError, match="guard must be 0 or more"):
        registry.parse("attention:guard=-1", {"attention": CrossImageAttention})
    with pytest.raises(MethodError, match="guard=0 is no guard"):
        registry.parse("attention:guard_range=0.5+0.5", {"attention": CrossImageAttention})


# diffusion features


@pytest.mark.parametrize("features", ["keys", "block"])
def test_tokens_are_centered_and_of_length_one_on_the_latents_grid(model, features):
    x, c = torch.randn(2, 4, 8, 12), model.embed(["", ""])
    tokens, pooled, grid = DiffusionFeatures(draws=2, features=features)(model, x, c)
    assert grid == (8, 12) and tokens.shape[:2] == (2, 96) and pooled.shape[0] == 2
    assert torch.allclose(tokens.norm(dim=-1), torch.ones(2, 96), atol=1e-5)
    assert tokens.mean(-1).abs().max() < 1e-6


@pytest.mark.parametrize("features", ["keys", "block"])
def test_tokens_are_a_function_of_image_and_seed(model, features):
    x, c = torch.randn(1, 4, 8, 8), model.embed([""])
    dift = DiffusionFeatures(draws=2, features=features)
    tokens = dift(model, x, c).tokens
    assert torch.equal(dift(model, x, c).tokens, tokens)
    assert not torch.equal(dift(model, x, c, seed=1).tokens, tokens)
    assert not any(block._forward_hooks for block in model.unet.up_blocks)


def test_more_draws_are_the_mean_of_their_features(model):
    x, c = torch.randn(1, 4, 8, 8), model.embed([""])
    one, two = (DiffusionFeatures(draws=n)(model, x, c).pooled for n in (1, 2))
    assert not torch.allclose(one, two, atol=1e-5)
    again = DiffusionFeatures(draws=2, time=259)(model, x, c).pooled  # the nearest level is 261
    assert torch.equal(again, two)


def test_on_the_drawn_world_the_subject_matches_the_subject(mini, drawn):
    """More of its tokens than at the same positions."""
    of_one, of_other = (world.masks(each)["subject"][4::8, 4::8].ravel() for each in SCENES)
    dift, c = DiffusionFeatures(draws=2), mini.embed([""])
    f_c, f_r = (dift(mini, drawn[name], c) for name in ("structure", "exemplar"))
    found = correspond(
        f_c.tokens,
        f_r.tokens,
        drawn["exemplar"].flatten(2).mT,
        temperature=dift.temperature,
        grid_c=f_c.grid,
        grid_r=f_r.grid,
    )
    matched = of_other[found.match[0].numpy()][of_one].mean()
    assert matched > of_other[of_one].mean() + 0.15


@pytest.mark.parametrize(
    "options", [{"time": 0}, {"draws": 0}, {"temperature": 0.0}, {"features": "queries"}]
)
def test_bad_options_of_diffusion_features_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DiffusionFeatures(**options)
