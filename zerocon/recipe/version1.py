"""Recipes written by zerocon 0.1 (schema ``zerocon.recipe/1``), in the names of schema 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCHEMA = "zerocon.recipe/1"
FIELDS = {"picture": "image", "words": "prompt"}
COMPUTE = ("device", "dtype")  # were fields of their own; other options were not recorded
SETTINGS = {
    "scheme": "inverter",
    "scale": "guidance_scale",
    "sentences": "direction_from",
    "positions": "direction_positions",
    "guided": "guidance_range",
    "half": "guidance_prompt",
    "looks": "reuse_prediction",
    "balance": "guidance_balance",
    "cap": "guidance_limit",
    "steady": "polyak_step",
    "corrected": "source_correction",
    "remember": "cache_source",
}
PROMPTS = {"edited": "target"}
LATER: Mapping[str, Any] = {  # did not exist
    "attention": [], "begin": 0.0, "push_limit": None, "difference_threshold": 0.0,
}  # fmt: skip
REUSE = {1: True, 2: False}  # U-Net evaluations per guided step


def convert(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of schema 1 with the names of schema 2; keys without a new name stay.

    Raises ``LookupError`` or ``AttributeError`` for a record that is no recipe.
    """
    named = {FIELDS.get(name, name): value for name, value in record.items()}
    named["compute"] = {name: named.pop(name) for name in COMPUTE}
    named["settings"] = _settings(record["settings"])
    named["directions"] = [
        {"change" if name == "words" else name: value for name, value in each.items()}
        for each in record["directions"]
    ]
    return named


def _settings(old: Mapping[str, Any]) -> dict[str, Any]:
    settings = {**LATER} | {SETTINGS.get(name, name): value for name, value in old.items()}
    if "reuse_prediction" in settings:
        settings["reuse_prediction"] = REUSE[settings["reuse_prediction"]]
    if "guidance_prompt" in settings:
        prompt = settings["guidance_prompt"]
        settings["guidance_prompt"] = PROMPTS.get(prompt, prompt)
    if "inverter" in settings:
        name, colon, options = settings["inverter"].partition(":")
        settings["inverter"] = {"picard": "fixed-point"}.get(name, name) + colon + options
    return settings
