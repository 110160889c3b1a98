"""Settings: overlays, rules and their error messages of one line."""

from __future__ import annotations

import re
from typing import Any

import pytest

from zerocon.prompt.vocabulary import CATEGORIES
from zerocon.settings import CHANGES, Settings


def test_overlay_replaces_the_given_settings_only() -> None:
    settings = Settings().overlay({"steps": 20, "guidance_range": [0.0, 0.6], "guidance": []})
    assert settings == Settings(steps=20, guidance_range=(0.0, 0.6), guidance=())
    assert Settings().overlay({}) == Settings()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step": 3}, "no setting 'step'; there are: steps, inverter, guidance_scale"),
        ({"steps": 0}, "steps must be an integer from 1, not 0"),
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
        ({"attention": ""}, "attention must be a name, or none, not ''"),
        ({"attention": None}, "attention must be"),
        ({"begin": 1.0}, "begin must be a share of the steps, 0 <= X < 1, not 1.0"),
        ({"begin": -0.1}, "begin must be"),
        ({"begin": True}, "begin must be"),
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
    assert {*CHANGES} == {*CATEGORIES, "caption"}


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
