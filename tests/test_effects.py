"""Settings without effect: what is said of them is true, and is said on one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient
from PIL import Image

import zerocon
from zerocon.cli import main
from zerocon.diagnostics.cost import evaluations
from zerocon.diagnostics.effects import find_ineffective
from zerocon.guidance import Contrastive, CrossAttention
from zerocon.image.transforms import prepare
from zerocon.settings import Settings

Run = Callable[..., Result]
BASE = replace(tiny.SETTINGS, steps=3)
WHITE = Image.new("L", (96, 64), 255)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.model()


def edit(model: Any, image: Image.Image, settings: Settings, **options: Any) -> zerocon.Edit:
    return zerocon.edit(image, model=model, to="dog", settings=settings, **options)


def ineffective(model: Any, image: Image.Image, settings: Settings, **facts: Any) -> set[str]:
    prepared = prepare(image, model.working_size.with_size(settings.size))
    facts = {"changes": {"object"}, **facts}
    return set(find_ineffective(settings, prepared, model.vae_scale_factor, **facts))


# Settings, and what the value of one setting that has no effect with them may be changed to.
NO_EFFECT: list[tuple[dict[str, Any], str, Any]] = [
    ({}, "seed", 7),
    ({"guidance": ()}, "seed", 7),
    ({"inverter": "fixed-point"}, "seed", 7),
    ({"guidance": ("contrastive:sizes=4+2,patches=4",), "guidance_range": (0.99, 1.0)}, "seed", 7),
    ({"guidance": ()}, "guidance_range", (0.0, 0.5)),
    ({"guidance": ()}, "guidance_prompt", "both"),
    ({"guidance": ()}, "guidance_limit", 0.01),
    ({"guidance": ()}, "push_limit", None),
    ({"guidance": ()}, "polyak_step", True),
    ({"guidance": ()}, "reuse_prediction", True),
    ({"push_limit": 0.3}, "polyak_step", True),
    ({"guidance_range": (0.99, 1.0)}, "guidance_limit", 0.01),
    ({"guidance": ("cross-attention",)}, "guidance_balance", 2.0),
    ({"steps": 1, "begin": 0.0, "difference_threshold": 0.3}, "difference_threshold", 0.0),
    ({"composite": "model"}, "lock", "off"),
    ({"crop": "auto"}, "crop", "off"),
    ({"crop": "auto", "composite": "model"}, "crop", "off"),
]


@pytest.mark.parametrize(("base", "name", "value"), NO_EFFECT)
def test_a_setting_without_effect_gives_the_same_image(
    model: Any, image: Image.Image, base: dict[str, Any], name: str, value: Any
) -> None:
    settings = BASE.overlay(base)
    assert name in ineffective(model, image, settings)
    first, second = (
        edit(model, image, each) for each in (settings, replace(settings, **{name: value}))
    )
    assert first.image.tobytes() == second.image.tobytes()


def test_the_lock_has_no_effect_with_a_mask(model: Any, image: Image.Image) -> None:
    settings = replace(BASE, steps=2)
    assert "lock" in ineffective(model, image, settings, masked=True)
    pixel, off = (
        edit(model, image, replace(settings, lock=lock), mask=WHITE) for lock in ("pixel", "off")
    )
    assert pixel.image.tobytes() == off.image.tobytes()


# Settings, and a setting that has an effect with them.
EFFECT: list[tuple[dict[str, Any], str]] = [
    ({"guidance": ("contrastive:patches=4",)}, "seed"),
    ({"inverter": "virtual", "guidance": ()}, "seed"),
    ({"inverter": "ddim:rounds=1", "guidance": ()}, "seed"),
    ({}, "guidance_limit"),
    ({}, "push_limit"),
    ({"push_limit": None}, "polyak_step"),
    ({}, "guidance_balance"),
    ({"difference_threshold": 0.3}, "difference_threshold"),
    ({}, "lock"),
    ({"lock": "latent", "composite": "model"}, "lock"),
    ({"guidance": (), "guidance_scale": 2.0}, "guidance_scale"),
]


@pytest.mark.parametrize(("base", "name"), EFFECT)
def test_nothing_is_said_of_a_setting_that_has_an_effect(
    model: Any, image: Image.Image, base: dict[str, Any], name: str
) -> None:
    assert name not in ineffective(model, image, BASE.overlay(base))


def test_a_seed_that_is_drawn_from_changes_the_image(model: Any, image: Image.Image) -> None:
    settings = replace(BASE, guidance=("contrastive:patches=4,weight=200",))
    one, two = (edit(model, image, replace(settings, seed=seed)) for seed in (0, 1))
    assert one.image.tobytes() != two.image.tobytes()


def test_with_a_given_inversion_the_inverter_draws_nothing(model: Any, image: Image.Image) -> None:
    settings = replace(BASE, inverter="virtual", guidance=())
    assert "seed" in ineffective(model, image, settings, inverted=True)


@pytest.mark.parametrize(
    ("loss", "latents", "draws"),
    [
        (CrossAttention(), (64, 64), False),
        (Contrastive(), (16, 16), False),
        (Contrastive(), (16, 17), True),
        (Contrastive(sizes=(2, 4)), (32, 33), False),
        (Contrastive(patches=4), (2, 3), True),
    ],
)
def test_patches_are_drawn_where_there_are_more_than_are_compared(
    loss: CrossAttention | Contrastive, latents: tuple[int, int], draws: bool
) -> None:
    assert loss.draws(latents) == draws


# an edit of strength 0


def test_no_step_is_computed_at_strength_zero(model: Any, image: Image.Image) -> None:
    settings = replace(BASE, strength=0.0)
    edited = edit(model, image, settings)
    assert edited.image.tobytes() == image.tobytes()
    assert (edited.evaluations.forwards, edited.evaluations.backwards) == (4, 0)
    again = edit(model, image, settings, inversion=zerocon.invert(image, model, settings=settings))
    assert again.image.tobytes() == image.tobytes() and again.evaluations.total == 0
    assert evaluations(model.schedule(3), settings).forwards == 4
    assert evaluations(model.schedule(3), settings, inverted=True).total == 0


def test_its_inversion_serves_further_edits(model: Any, image: Image.Image) -> None:
    settings = BASE
    nothing = edit(model, image, replace(settings, strength=0.0))
    further = edit(model, image, settings, inversion=nothing.inversion)
    assert further.image.tobytes() == edit(model, image, settings).image.tobytes()


def test_steps_that_are_reported_are_computed_and_agree(model: Any, image: Image.Image) -> None:
    steps: list[Any] = []
    edited = edit(model, image, replace(BASE, strength=0.0), on_step=steps.append)
    assert len(steps) == 3 and edited.image.tobytes() == image.tobytes()


@pytest.mark.parametrize(
    "base",
    [
        {"guidance": ("contrastive:targets=hard",)},  # has a gradient at the source too
        {"source_correction": False},
        {"strength": 0.5},
    ],
)
def test_steps_are_computed_where_the_result_is_not_the_source(
    model: Any, image: Image.Image, base: dict[str, Any]
) -> None:
    settings = BASE.overlay({"strength": 0.0} | base)
    assert edit(model, image, settings).evaluations.forwards > 4
    assert ineffective(model, image, settings).isdisjoint({"strength"})


# on the command line


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    gradient(96, 64).save("cat.png")
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


LINES = [
    ("--seed 3", "--seed has no effect: nothing random is drawn with these settings"),
    ("--strength 0", "--strength 0 edits nothing: the result is the source image"),
    ("--guidance none --polyak-step", "--polyak-step has no effect without guidance"),
    ("--guidance none --guidance-scale 0", "--guidance-scale 0 edits nothing"),
    ("--segmenter x", "--segmenter has no effect without --mask-text"),
    ("--captioner x --caption cats", "--captioner has no effect with a given caption"),
    ("--crop auto", "--crop auto has no effect: the image is not over 3 times the working size"),
]


@pytest.mark.parametrize(("line", "warning"), LINES)
@pytest.mark.parametrize("dry", [True, False])
def test_an_option_without_effect_is_one_warning(
    run: Run, line: str, warning: str, dry: bool
) -> None:
    brief = ["--to", "dog", "--steps", "2", *line.split(), *(["--dry-run"] if dry else [])]
    done = run("edit", "cat.png", *brief, "--format", "json")
    assert done.exit_code == 0, done.output
    warnings = [each for each in done.stderr.splitlines() if each.startswith("Warning: --")]
    assert len(warnings) == 1 and warnings[0].startswith(f"Warning: {warning}")
    assert warnings[0].removeprefix("Warning: ") in json.loads(done.stdout)["warnings"]
    assert "changed nothing" not in done.stderr or "edits nothing" not in done.stderr


def test_values_that_are_not_on_the_command_line_are_not_warned_of(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROCON_SEED", "3")
    assert "--seed" not in run("edit", "cat.png", "--to", "dog", "--steps", "2").stderr


@pytest.mark.parametrize(("inverter", "warned"), [("ddim", True), ("virtual", False)])
def test_invert_warns_of_a_seed_without_effect(run: Run, inverter: str, warned: bool) -> None:
    line = ["--steps", "2", "--inverter", inverter, "--seed", "3", "--format", "json"]
    done = run("invert", "cat.png", *line)
    assert ("--seed has no effect" in done.stderr) == warned
    assert len(json.loads(done.stdout)["warnings"]) == warned


def test_the_shipped_settings_of_mini_draw_nothing() -> None:
    """As the warning says: two seeds, one image."""
    mini, image = zerocon.load("mini"), gradient(128, 128)
    settings = mini.settings.overlay({"steps": 3})
    assert "seed" in ineffective(mini, image, settings)
    one, two = (
        zerocon.edit(image, to="dog", caption="a cat", model=mini, settings=settings, seed=seed)
        for seed in (0, 1)
    )
    assert np.array_equal(one.image, two.image)
    assert "seed" not in ineffective(mini, image, settings.overlay({"size": 256}))
