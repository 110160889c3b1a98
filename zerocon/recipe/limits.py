"""Limits of settings that come from a file: recipes and journals may be those of a stranger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from zerocon.errors import MismatchError
from zerocon.registry import resolve
from zerocon.settings import Settings

STEPS = 1000  # what diffusion models are trained with
METHODS = 8  # guidance losses
LARGEST = 100_000  # of any integer option of a method: patches, rounds


def require_within_limits(settings: Settings) -> None:
    """Check that an edit with these settings ends in a reasonable time.

    Raises:
        MismatchError: More than 1000 steps or 8 guidance losses, or an integer option of a method
            above 100,000.
        MethodError: For an unknown method or option.
    """
    if settings.steps > STEPS:
        raise MismatchError(
            f"{settings.steps} steps are more than the {STEPS} of a file's settings"
        )
    if len(settings.guidance) > METHODS:
        raise MismatchError(
            f"{len(settings.guidance)} guidance losses are more than the {METHODS} of a file's "
            "settings"
        )
    for method, name, value in _integers(settings):
        if abs(value) > LARGEST:
            raise MismatchError(
                f"{name}={value} of {method:.60} is more than the {LARGEST} of a file's settings"
            )


def _integers(settings: Settings) -> Iterator[tuple[str, str, int]]:
    """Every integer option of the methods: method, name and value."""
    methods = [("guidance", text) for text in settings.guidance]
    methods += [("inverter", settings.inverter)]
    methods += [("attention", text) for text in settings.attention_controls]
    for family, text in methods:
        method: Any = resolve(family, text)
        for each in fields(method):
            value = getattr(method, each.name)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int) and not isinstance(number, bool):
                    yield text, each.name, number
