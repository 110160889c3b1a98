"""Settings: overlays, rules and their error messages of one line."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest

from zerocon.editing import Plan
from zerocon.prompt.vocabulary import CATEGORIES
from zerocon.settings import CHANGES, PRESETS, Settings, number_for


def test_overlay_replaces_the_given_settings_only() -> None:
    settings = Settings().overlay({"steps": 20, "guidance_range": [0.0, 0.6], "guidance": []})
    assert settings == Settings(steps=20, guidance_range=(0.0, 0.6), guidance=())
    assert Settings().overlay({}) == Settings()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step": 3}, "no setting 'step'; there are: steps, inverter, guidance_scale"),
        ({"steps": 0}, "steps must be an integer from 1 to 10000, not 0"),
        ({"steps": True}, "steps must be"),
        ({"steps": 2.0}, "steps must be"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a number"),
        (
            {"guidance_scale": "5"},
            "guidance_scale must be a number, or two: from noise to image, not '5'",
        ),
        ({"strength": float("inf")}, "strength must be"),
        ({"guidance": "contrastive"}, "guidance must be"),
        ({"guidance": [3]}, "guidance must be"),
        ({"direction_from": "up"}, "direction_from must be one of bank, caption, mean, not 'up'"),
        ({"guidance_range": [0.6, 0.2]}, "guidance_range must be"),
        ({"guidance_range": [0.0, 1.2]}, "guidance_range must be"),
        ({"guidance_range": [0.0]}, "guidance_range must be"),
        (
            {"difference_threshold": -0.1},
            "difference_threshold must be from zero, or like 0.3,style=0",
        ),
        ({"difference_threshold": "0.3,styl=0"}, "difference_threshold must be"),
        ({"guidance_limit": 0}, "guidance_limit must be above zero"),
        (
            {"guidance_limit": "0.1,styl=0.2"},
            "guidance_limit must be above zero, or like 0.01,style=0.05 of object, att",
        ),
        ({"guidance_limit": "style=0.2"}, "guidance_limit must be"),
        ({"guidance_limit": "0.1,style=0"}, "guidance_limit must be"),
        ({"guidance_limit": "0.1,style"}, "guidance_limit must be"),
        ({"guidance_limit": ""}, "guidance_limit must be"),
        ({"guidance_scale": [7.0]}, "guidance_scale must be a number"),
        ({"inverter": ""}, "inverter must be a name"),
        ({"reuse_prediction": 1}, "reuse_prediction must be true or false"),
        ({"guidance_prompt": "left"}, "guidance_prompt must be one of target, source, both"),
        ({"guidance_balance": -1}, "guidance_balance must be above zero"),
        ({"direction_positions": "some"}, "direction_positions must be one of all, changed"),
        ({"source_correction": "no"}, "source_correction must be true or false"),
        ({"polyak_step": 1}, "polyak_step must be true or false"),
        ({"attention": ""}, "attention must be names of attention controls, or CHANGE=NAME of obj"),
        ({"attention": None}, "attention must be"),
        ({"attention": [""]}, "attention must be"),
        ({"attention": ["style=injection"]}, "attention must be"),
        ({"attention": ["none", "injection"]}, "attention must be"),
        ({"push_limit": 0}, "push_limit must be above zero, or like 0.5,style=0.2 of object, att"),
        ({"push_limit": "0.5,styl=1"}, "push_limit must be"),
        (
            {"begin": 1.0},
            "begin must be a share of the steps, 0 <= X < 1, or like 0,style=0.3 of",
        ),
        ({"begin": -0.1}, "begin must be"),
        ({"begin": True}, "begin must be"),
        ({"begin": "0,style=1"}, "begin must be"),
        ({"begin": "style=0.3"}, "begin must be"),
        ({"cache_source": 1}, "cache_source must be true or false"),
        ({"size": 63}, "size must be an integer from 64 to 2048, not 63"),
        ({"size": 128.0}, "size must be"),
        ({"seed": -1}, "seed must be"),
        ({"seed": None}, "seed must be"),
    ],
)
def test_a_bad_value_is_an_error_of_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)) as caught:
        Settings().overlay(values)
    assert "\n" not in str(caught.value)


def test_kinds_of_change_are_those_of_the_prompt_package() -> None:
    assert {*CHANGES} == {*CATEGORIES, "caption", "removed", "several"}


def test_zero_is_a_valid_value() -> None:
    assert Settings().overlay({"seed": 0, "strength": 0, "guidance_scale": 0.0}).strength == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("contrastive", "contrastive:weight=2,sizes=1"),
        ("contrastive:temperature=0.1", "contrastive:weight=2,sizes=1,temperature=0.1"),
        ("contrastive:weight=3", "contrastive:sizes=1,weight=3"),
        ("cross-attention", "cross-attention"),
        ("contrastive-too", "contrastive-too"),
    ],
)
def test_a_guidance_by_name_keeps_the_options_measured_for_the_model(
    text: str, expected: str
) -> None:
    measured = Settings(guidance=("contrastive:weight=2,sizes=1", "cross-attention"))
    assert measured.overlay({"guidance": (text,)}).guidance == (expected,)


# by kind of change


@pytest.mark.parametrize(
    ("value", "changes", "expected"),
    [
        (None, ("style",), math.inf),
        (0.25, ("style",), 0.25),
        ("0.5", ("style",), 0.5),
        ("0.5,style=0.2", (), 0.5),
        ("0.5,style=0.2", ("object",), 0.5),
        ("0.5,style=0.2", ("object", "style"), 0.2),
        ("0.5,several=0.1,style=0.2", ("style", "several", "object"), 0.1),
        ("0.5,style=0.2,several=0.1", ("style", "several", "object"), 0.2),
    ],
)
def test_of_a_number_by_kind_of_change_the_first_that_fits_counts(
    value: float | str | None, changes: tuple[str, ...], expected: float
) -> None:
    assert number_for(value, changes) == expected
    assert number_for(value, {*changes}) == expected  # whatever the order of the changes


@pytest.mark.parametrize(
    ("attention", "changes", "expected"),
    [
        ((), ("style",), "none"),
        (("injection",), ("style",), "injection"),
        (("none", "style=injection"), (), "none"),
        (("none", "style=injection"), ("object", "style"), "injection"),
        (("injection", "style=none"), ("style",), "none"),
        (("injection", "several=none", "style=injection:self=1"), ("style", "several"), "none"),
        (
            ("injection", "style=injection:self=1", "several=none"),
            ("style", "several"),
            "injection:self=1",
        ),
    ],
)
def test_of_attention_by_kind_of_change_the_first_that_fits_counts(
    attention: tuple[str, ...], changes: tuple[str, ...], expected: str
) -> None:
    settings = Settings(attention=attention)
    assert settings.attention_for(changes) == expected
    assert settings.attention_for({*changes}) == expected


def test_the_controls_of_all_kinds_are_listed_once() -> None:
    texts = ("injection", "style=none", "time=injection", "place=injection:self=1")
    assert Settings(attention=texts).attention_controls == ("injection", "injection:self=1")
    assert Settings(begin="0.4,style=0.2,time=0.6").earliest_begin == 0.2
    assert Settings(begin=0.3).earliest_begin == 0.3


@pytest.mark.parametrize("kind", ["", *CHANGES])
def test_an_edit_with_any_kind_of_change_has_a_plan_in_every_preset(kind: str) -> None:
    for values in PRESETS.values():
        settings = Settings().overlay(values)
        plan = Plan.of(settings, [(kind,)])
        (image,) = plan.images
        assert 0 <= settings.earliest_begin <= image.begin < 1
        assert image.attention is None or image.attention in plan.controls
        assert image.push_limit > 0 and image.guidance_limit > 0


def test_the_preset_of_the_papers_is_pix2pix_zerocon() -> None:
    paper = Settings().overlay(PRESETS["paper"])
    assert paper.guidance == ("cross-attention:weight=0.1", "contrastive:weight=5.4,targets=hard")
    assert (paper.steps, paper.guidance_range, paper.attention) == (50, (0.0, 1.0), ())
    assert (paper.begin, paper.push_limit, paper.guidance_limit) == (0.0, None, None)
    assert Settings().overlay(PRESETS["fast"]) == replace(Settings(), guidance=())
    assert PRESETS["default"] == {}
