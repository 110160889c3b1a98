"""Settings of a translation: every default has its one home here, with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from zerocon.errors import SettingError
from zerocon.settings import LARGEST_SEED, MOST_STEPS, Rule
from zerocon.storage.escaping import has_control_characters, one_line

DEFAULT_TRANSLATION_MODEL = "mini"  # the shipped weights are its own
KINDS = ("edge", "label", "sketch", "image")  # of a condition
AUTO = "auto"
MATCHERS = ("trained", "dift", "position")
COLOR_MATCHES = ("none", "global")
LARGEST_SCALE = 20.0  # of guidance; far above, latents leave the range of the decoder
LONGEST_TEXT = 1000  # characters of a method or prompt


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


def _is_whole(value: object, least: int, end: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < end


def _is_range(value: object) -> bool:
    pair = isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))
    return pair and 0 <= value[0] < value[1] <= 1  # type: ignore[index]


def _is_text(value: object) -> bool:
    text = isinstance(value, str) and len(value) <= LONGEST_TEXT
    return text and not has_control_characters(value)  # type: ignore[arg-type]


def _one_of(*choices: str) -> Rule:
    return Rule(lambda value: value in choices, f"one of {', '.join(choices)}", choices)


NAME = Rule(lambda value: _is_text(value) and value != "", "a method, see zerocon methods")
SCALE = Rule(
    lambda value: _is_number(value) and 0 <= value <= LARGEST_SCALE,  # type: ignore[operator]
    f"a number from 0 to {LARGEST_SCALE:g}",
)


TEXT = f"a text of at most {LONGEST_TEXT} characters, without control characters"


def _setting(default: Any, rule: Rule) -> Any:
    return field(default=default, metadata={"rule": rule})


@dataclass(frozen=True)
class TranslationSettings:
    """All settings of a translation, but for the model.

    Attributes:
        method: Name and options of a translator, see ``zerocon methods``.
        matcher: What compares condition and exemplar: "trained" encoders, "dift" features of the
            model's U-Net, or the same "position".
        condition: Kind of the condition, one of ``KINDS``, or "auto".
        steps: Denoising steps.
        seed: Of the initial noise.
        structure: Scale of the condition's influence; 1 is the method's own.
        appearance: Scale of the exemplar's influence; 1 is the method's own.
        range: Share of the steps, counted from noise, at which the warped exemplar is blended in.
        color_match: "global" gives the result's latents the exemplar's mean and deviation.
        prompt: Caption of the result, for methods with a text encoder.

    Raises:
        SettingError: for a value of the wrong type or out of its range.
    """

    method: str = _setting("promote", NAME)  # the method of the paper
    matcher: str = _setting("trained", _one_of(*MATCHERS))
    condition: str = _setting(AUTO, _one_of(AUTO, *KINDS))
    steps: int = _setting(
        20,  # 20 to 50 are usual for DDIM; more gave nothing on drawn scenes
        Rule(lambda n: _is_whole(n, 1, MOST_STEPS + 1), f"an integer from 1 to {MOST_STEPS}"),
    )
    seed: int = _setting(
        0, Rule(lambda n: _is_whole(n, 0, LARGEST_SEED), f"an integer from 0 to {LARGEST_SEED - 1}")
    )
    structure: float = _setting(1.0, SCALE)
    appearance: float = _setting(1.0, SCALE)
    range: tuple[float, float] = _setting(
        (0.0, 1.0), Rule(_is_range, "two numbers A..B with 0 <= A < B <= 1")
    )
    color_match: str = _setting("none", _one_of(*COLOR_MATCHES))
    prompt: str = _setting("", Rule(_is_text, TEXT))

    def __post_init__(self) -> None:
        for each in fields(self):
            value, rule = getattr(self, each.name), each.metadata["rule"]
            if not rule.accepts(value):
                shown = one_line(repr(value), 80)
                raise SettingError(f"{each.name} must be {rule.wanted}, not {shown}")

    @property
    def method_name(self) -> str:
        """Name of the method, without its options."""
        return self.method.partition(":")[0].strip()

    @property
    def uses_shipped_model(self) -> bool:
        """Whether the method is one whose weights belong to the embedded model."""
        return self.method_name == "promote"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TranslationSettings:
        """Settings from their values by name, those of JSON included, where a range is a list.

        Raises:
            SettingError: for an unknown name, or a bad value.
        """
        names = [each.name for each in fields(cls)]
        for name in values:
            if name not in names:
                shown = one_line(repr(name), 80)
                raise SettingError(f"no setting {shown}; there are: {', '.join(names)}")
        decoded: dict[str, Any] = dict(values)
        if isinstance(decoded.get("range"), list):
            decoded["range"] = tuple(decoded["range"])
        return cls(**decoded)
