"""Cost estimates against the real cost of edits."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import tiny
import torch
from click.testing import CliRunner
from conftest import gradient

import zerocon
from zerocon.activations import Observation
from zerocon.cli import main
from zerocon.diagnostics.cost import SMALL, CostEstimate, estimate_cost, evaluations, highest
from zerocon.evaluation_count import Evaluations
from zerocon.model.attention import is_watched
from zerocon.settings import FAST, PAPER, Settings

BASE = replace(tiny.SETTINGS, steps=6)
SETTINGS: list[dict[str, Any]] = [
    {},
    FAST,
    PAPER,
    {"reuse_prediction": True, "guidance_range": (0.2, 0.7)},
    {"cache_source": False},
    {"guidance_prompt": "both", "guidance_balance": 1.0},
    {"guidance": (), "source_correction": False},
    {"inverter": "fixed-point:rounds=2"},
    {"inverter": "virtual", "guidance": ("contrastive",), "cache_source": False},
]


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.mark.parametrize("changes", SETTINGS)
@pytest.mark.parametrize("kept", [None, "trajectory", "all"])
def test_estimated_evaluations_are_those_of_the_edit(model, changes, kept):
    settings, image = BASE.overlay({**changes, "steps": 6}), gradient(48, 64)
    inversion, watched = None, ()
    if kept:
        inverted = settings if kept == "all" else settings.overlay({"cache_source": False})
        inversion = zerocon.invert(image, model, caption="a cat", settings=inverted)
        watched = inversion.layer_patterns
    edited = zerocon.edit(
        image, model=model, to="dog", caption="a cat", settings=settings, inversion=inversion
    )
    given = {"inverted": kept is not None, "watched": watched, "changes": edited.request.kinds}
    estimate = evaluations(model.schedule(settings.steps), settings, **given)
    assert estimate == edited.evaluations


def test_evaluations_of_the_papers_settings(model):
    assert evaluations(model.schedule(50), Settings(**PAPER)) == Evaluations(201, 50)


def test_operations_agree_with_a_count_by_hooks(model):
    """Proportional to evaluations; four times the pixels cost at least four times as much."""
    once = estimate_cost(model, replace(BASE, steps=4, guidance=()), (64, 64))
    assert once.operations / once.evaluations.total == pytest.approx(_flops(model))
    large = estimate_cost(model, replace(BASE, steps=4, size=128), (128, 128))
    assert large.operations > 4 * once.operations


def _flops(model):
    """Operations of convolutions, linear layers and attention, counted by forward hooks."""
    total = 0

    def add(module, inputs, out):
        nonlocal total
        if isinstance(module, torch.nn.Linear):
            total += 2 * inputs[0].numel() * module.out_features
        if isinstance(module, torch.nn.Conv2d):
            each = module.weight[0].numel()
            total += 2 * out.numel() * each
        if type(module).__name__ == "Attention":
            pixels, features = out.shape[-2:]
            words = pixels if module.to_k.in_features == features and not module.is_cross else 16
            total += 4 * pixels * words * features

    for name, module in model.unet.named_modules():
        if type(module).__name__ == "Attention":
            module.is_cross = name.endswith("attn2")
    hooks = [module.register_forward_hook(add) for module in model.unet.modules()]
    x = torch.zeros(1, 4, 8, 8)
    model.unet(x, 0, torch.zeros(1, tiny.POSITIONS, 16))
    for hook in hooks:
        hook.remove()
    return total


def test_memory_grows_with_cached_activations_and_image_size(model):
    def bytes_of(**settings):
        return estimate_cost(model, BASE.overlay(settings), (64, 64))

    usual, recomputed, long = bytes_of(), bytes_of(cache_source=False), bytes_of(steps=12)
    assert recomputed.cached < usual.cached < long.cached
    assert recomputed.working > usual.working, "the source is computed in the same batch"
    assert usual.weights == recomputed.weights > 0
    assert bytes_of(guidance=()).working < usual.working
    assert bytes_of(size=96).working > usual.working
    assert bytes_of(size=96).cached > usual.cached


@pytest.mark.parametrize(
    "changes", [{}, {"guidance_range": (0.6, 1.0), "attention": ("injection:self=0.5",)}]
)
def test_cached_memory_is_that_of_an_inversion(model, changes):
    settings, image = BASE.overlay(changes), gradient(48, 64)
    kept = zerocon.invert(image, model, caption="a cat", settings=settings)
    parts = [
        p for each in kept.observations for p in (*each.maps.values(), *each.features.values())
    ]
    held = sum(p.nbytes for p in (*parts, kept.latents, kept.eps))
    assert estimate_cost(model, settings, image.size).cached == held


@pytest.mark.parametrize("size", [(64, 64), (48, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cache_source": False},
        {"guidance": ()},
        {"guidance_prompt": "both"},
        {"guidance_range": (0.0, 0.5)},
        {"guidance": (), "attention": ("injection",)},
        {"guidance": ("cross-attention",), "attention": ("injection",)},
        {"guidance": ("contrastive",)},
        {"guidance": ("contrastive",), "cache_source": False},
        {"guidance": ("cross-attention", "contrastive:features=encoder,sizes=1")},
    ],
)
def test_estimated_memory_is_close_to_that_of_an_edit(changes, dtype, size):
    """Within 10 percent; the tensors of the contrastive loss are float32 in any precision."""
    model = tiny.model()
    for network in (model.unet, model.vae, model.text_encoder):
        network.to(dtype)
    settings, image = BASE.overlay(changes), gradient(*size)
    arguments = {"model": model, "to": "dog", "caption": "a cat", "settings": settings}
    taken = highest(lambda: zerocon.edit(image, **arguments))
    estimate = estimate_cost(model, settings, image.size)
    assert 0.9 < (estimate.cached + estimate.working) / taken < 1.1


@dataclass(frozen=True)
class WithoutLayers:
    """A loss of predictions that depends on their values, as one of another package may."""

    weight: float = 1.0
    layer_patterns: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, source: Observation, edited: Observation) -> torch.Tensor:
        assert float(edited.eps.detach().abs().sum()) > 0
        return (edited.eps - source.eps).square().sum((1, 2, 3))


@pytest.mark.parametrize("small", [SMALL, 0])
def test_memory_of_an_edit_with_a_loss_without_layers(monkeypatch, model, small):
    monkeypatch.setattr("zerocon.diagnostics.cost.SMALL", small)
    settings, image = BASE.overlay({"guidance": (WithoutLayers(),)}), gradient(64, 64)
    arguments = {"model": model, "to": "dog", "caption": "a cat", "settings": settings}
    taken = highest(lambda: zerocon.edit(image, **arguments))
    estimate = estimate_cost(model, settings, image.size)
    assert 0.9 < (estimate.cached + estimate.working) / taken < 1.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("changes", [{}, {"cache_source": False, "guidance_prompt": "both"}])
def test_small_and_large_networks_are_measured_in_the_same_way(monkeypatch, changes, dtype):
    """On real tensors or on fake ones; kernels with data may allocate a little more."""
    model = tiny.model()
    for network in (model.unet, model.vae, model.text_encoder):
        network.to(dtype)
    calls, settings = [], BASE.overlay(changes)
    hook = model.unet.register_forward_hook(lambda *call: calls.append(call))
    small = estimate_cost(model, settings, (64, 48), changes=["object"])
    assert len(calls) == 4 and not is_watched(model.unet)
    monkeypatch.setattr("zerocon.diagnostics.cost.SMALL", 0)
    large = estimate_cost(model, settings, (64, 48), changes=["object"])
    assert large.working == pytest.approx(small.working, rel=0.01)
    assert replace(large, working=small.working) == small
    hook.remove()
    assert len(calls) == 4


def test_captioner_and_clip_are_in_the_peak_where_they_are_in_the_same_memory():
    model = zerocon.load("mini")
    before = estimate_cost(model, Settings(steps=2), (64, 64))
    loaded = [model.scorer, model.captioner]
    after = estimate_cost(model, Settings(steps=2), (64, 64))
    companions = sum(p.nbytes for each in loaded for p in each.network.parameters())
    assert after.peak - before.peak == after.companions == companions > 0
    apart = CostEstimate(Evaluations(), 0, 10, 20, 5, companions=30, apart=True)
    assert apart.peak == 40 and replace(apart, companions=7).peak == 35


@pytest.mark.parametrize("size", [None, 96])
@pytest.mark.parametrize("source", [(64, 64), (48, 64), (90, 40), (200, 50)])
def test_an_estimate_has_the_size_of_the_edit(model, source, size):
    settings = replace(tiny.PLAIN, steps=1, size=size)
    inversion = zerocon.invert(gradient(*source), model, caption="a cat", settings=settings)
    held = inversion.latents.nbytes + inversion.eps.nbytes
    assert estimate_cost(model, settings, source).cached == held


def test_an_estimate_is_shown_in_a_line():
    estimate = CostEstimate(Evaluations(25, 6), 3e12, 10**9, 10**9, 5 * 10**8)
    assert repr(estimate) == "CostEstimate(31.9 U-Net evaluations, 3 TFLOP, 2.50 GB)"


def test_an_estimate_leaves_no_global_state(model):
    image, settings = gradient(48, 64), replace(BASE, steps=2)
    before = zerocon.edit(image, model=model, to="dog", settings=settings).image.tobytes()
    estimate_cost(model, settings, image.size)
    assert torch.get_default_dtype() is torch.float32
    after = zerocon.edit(image, model=model, to="dog", settings=settings).image.tobytes()
    assert before == after


def test_a_dry_run_prints_the_estimate_and_writes_nothing(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    gradient(48, 64).save("cat.png")
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    args = ["edit", "cat.png", "--to", "dog", "--steps", "6"]
    dry = CliRunner().invoke(main, [*args, "--preset", "paper", "--dry-run"])
    assert dry.exit_code == 0 and dry.stdout.startswith("cat-dog.png: 31.9 U-Net evaluations, ")
    assert "; at 55x74 pixels, enlarged 1.2 times; changes " in dry.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["cat.png"]
    dry = json.loads(CliRunner().invoke(main, [*args, "-n", "--format", "json"]).stdout)
    done = json.loads(CliRunner().invoke(main, [*args, "--format", "json"]).stdout)
    assert (dry.pop("state"), done.pop("state")) == ("planned", "edited")
    assert dry.pop("dry_run") is True and dry.pop("operations") > 0
    assert set(dry.pop("bytes")) == {"weights", "cached", "working", "peak"}
    assert (dry.pop("working_size"), dry.pop("reduction")) == ([55, 74], 0.86)
    assert dry.pop("result") is None and done.pop("result") is not None
    assert dry.pop("support") == {**done["support"], "share": None}
    # of random weights, the latents of an edit are out of range; a dry run cannot know
    seen = [each for each in done["warnings"] if each.startswith("probably damaged")]
    assert [*seen, *dry["warnings"]] == done.pop("warnings") and len(seen) < 2
    del dry["warnings"]
    assert dry == {name: done[name] for name in dry}


def test_a_dry_run_with_a_given_inversion(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    gradient(48, 64).save("cat.png")
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    CliRunner().invoke(main, ["invert", "cat.png", "--steps", "6"])
    args = ["edit", "cat.png", "--to", "dog", "--inversion", "cat.safetensors", "--format", "json"]
    dry, done = (json.loads(CliRunner().invoke(main, [*args, *n]).stdout) for n in (["-n"], []))
    assert dry["evaluations"] == done["evaluations"] and dry["settings"] == done["settings"]
