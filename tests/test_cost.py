"""What is foretold is what is spent."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tiny
import torch
from click.testing import CliRunner
from conftest import gradient

import zerocon
from zerocon.cli import main
from zerocon.diagnostics.cost import estimate_cost, evaluations, highest
from zerocon.evaluations import Evaluations
from zerocon.settings import FAST, Settings

WAYS: list[dict[str, Any]] = [
    {},
    FAST,
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


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kept", [None, "path", "all"])
def test_evaluations_are_those_of_the_edit(model, way, kept):
    settings, image = Settings(steps=6).overlay({"steps": 6} | way), gradient(48, 64)
    inversion, watched = None, ()
    if kept:
        inverted = settings if kept == "all" else settings.overlay({"cache_source": False})
        inversion = zerocon.invert(image, model, caption="a cat", settings=inverted)
        watched = inversion.layer_patterns
    edited = zerocon.edit(
        image, model=model, to="dog", caption="a cat", settings=settings, inversion=inversion
    )
    known = {"inverted": kept is not None, "watched": watched}
    told = evaluations(model.schedule(settings.steps), settings, **known)
    assert told == edited.evaluations


def test_the_papers_settings_cost_what_the_readme_says(model):
    assert evaluations(model.schedule(50), Settings()) == Evaluations(201, 50)


def test_operations_are_counted_by_hand_on_one_layer(model):
    """Twice as many evaluations, twice the operations; four times the pixels, at least four."""
    once = estimate_cost(model, Settings(steps=4, guidance=()), (64, 64))
    assert once.operations / once.evaluations.total == pytest.approx(_flops(model))
    large = tiny.model()
    large.size = 128
    assert estimate_cost(large, Settings(steps=4), (128, 128)).operations > 4 * once.operations


def _flops(model):
    """Of convolutions, linear layers and attention, added up by hooks while the network runs."""
    total = 0

    def add(module, given, out):
        nonlocal total
        if isinstance(module, torch.nn.Linear):
            total += 2 * given[0].numel() * module.out_features
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


def test_memory_grows_with_what_is_remembered_and_the_picture(model):
    def bytes_of(size=(64, 64), **settings):
        return estimate_cost(model, Settings(steps=6).overlay(settings), size)

    usual, again, long = bytes_of(), bytes_of(cache_source=False), bytes_of(steps=12)
    assert again.remembered < usual.remembered < long.remembered
    assert again.working > usual.working, "the source is looked at beside the edit"
    assert usual.weights == again.weights > 0
    assert bytes_of(guidance=()).working < usual.working
    assert bytes_of((64, 32)).working < usual.working


def test_what_is_remembered_is_what_an_inversion_holds(model):
    settings, image = Settings(steps=6), gradient(48, 64)
    kept = zerocon.invert(image, model, caption="a cat", settings=settings)
    parts = [p for seen in kept.seen for p in (*seen.maps.values(), *seen.features.values())]
    held = sum(p.nbytes for p in (*parts, kept.latents, kept.eps))
    assert estimate_cost(model, settings, image.size).remembered == held


@pytest.mark.parametrize(
    "way", [{}, {"cache_source": False}, {"guidance": ()}, {"guidance_prompt": "both"}]
)
def test_memory_is_nearly_what_an_edit_really_takes(model, way):
    """Tensors are added up while they come and go; guidances have a few of their own."""
    settings, image = Settings(steps=6).overlay(way), gradient(48, 64)
    ask = {"model": model, "to": "dog", "caption": "a cat", "settings": settings}
    taken = highest(lambda: zerocon.edit(image, **ask))
    told = estimate_cost(model, settings, image.size)
    assert 0.85 < (told.remembered + told.working) / taken < 1.05


def test_a_forecast_leaves_no_trace(model):
    image, settings = gradient(48, 64), Settings(steps=2)
    before = zerocon.edit(image, model=model, to="dog", settings=settings).image.tobytes()
    estimate_cost(model, settings, image.size)
    assert torch.get_default_dtype() is torch.float32
    after = zerocon.edit(image, model=model, to="dog", settings=settings).image.tobytes()
    assert before == after


def test_a_dry_run_tells_and_writes_nothing(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    gradient(48, 64).save("cat.png")
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    args = ["edit", "cat.png", "--to", "dog", "--steps", "6"]
    told = CliRunner().invoke(main, [*args, "--dry-run"])
    assert told.exit_code == 0 and told.stdout.startswith("cat-dog.png: 31.9 U-Net evaluations, ")
    assert [path.name for path in tmp_path.iterdir()] == ["cat.png"]
    told = json.loads(CliRunner().invoke(main, [*args, "-n", "--format", "json"]).stdout)
    done = json.loads(CliRunner().invoke(main, [*args, "--format", "json"]).stdout)
    assert told.pop("dry_run") is True and told.pop("operations") > 0
    assert set(told.pop("bytes")) == {"weights", "remembered", "working", "peak"}
    assert told == {name: done[name] for name in told}


def test_a_dry_run_beside_an_inversion(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    gradient(48, 64).save("cat.png")
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    CliRunner().invoke(main, ["invert", "cat.png", "--steps", "6"])
    args = ["edit", "cat.png", "--to", "dog", "--inversion", "cat.safetensors", "--format", "json"]
    told, done = (json.loads(CliRunner().invoke(main, [*args, *n]).stdout) for n in (["-n"], []))
    assert told["evaluations"] == done["evaluations"] and told["settings"] == done["settings"]
