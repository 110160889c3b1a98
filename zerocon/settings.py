"""How an edit is made: every default of the method has its home here, with its reason."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from zerocon.errors import SettingError

DEFAULT_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # the family of the papers
DEFAULT_CAPTIONER = "Salesforce/blip-image-captioning-base"  # the method captions with BLIP
DEFAULT_CLIP = "openai/clip-vit-large-patch14"  # its text half is Stable Diffusion 1's own
GUIDANCE_PROMPTS = ("target", "source", "both")
DIRECTION_POSITIONS = ("all", "changed")
DIRECTION_FROM = ("bank", "caption", "mean")
CHANGES = ("object", "attribute", "added", "place", "time", "style", "caption")  # kinds of change

# a third of the evaluations: fewer steps, one look at each, guidance while structure is made
FAST: Mapping[str, Any] = {"steps": 24, "reuse_prediction": True, "guidance_range": (0.0, 0.55)}
PRESETS: Mapping[str, Mapping[str, Any]] = {"fast": FAST}


@dataclass(frozen=True)
class Settings:
    """What an edit is made with; ``overlay`` changes some of it.

    A model's folder may carry measured defaults (``zerocon.json``), which lie over these; what
    a user asks for lies over both.

    Raises ``ValueError`` when a value has the wrong type or is out of its range.
    """

    steps: int = 50  # as in pix2pix-zero; inversion's error halves when the steps double
    inverter: str = "ddim"  # of the inversion: its evaluations are the ones an edit needs again
    guidance_scale: float | tuple[float, float] = (
        5.0  # as in pix2pix-zero's scripts; or from noise..picture
    )
    strength: float = 1.0  # of the edit direction, as it is; 0 asks for nothing
    guidance: tuple[str, ...] = ("cross-attention", "contrastive")  # the two losses of the method
    direction_from: str = "bank"  # pix2pix-zero's way; or from the "caption", or the "mean" of both
    direction_positions: str = (
        "all"  # where the direction is added: it is nearly one vector everywhere
    )
    guidance_range: tuple[float, float] = (
        0.0,
        1.0,
    )  # share of the steps, from noise: all, as published
    guidance_prompt: str = (
        "target"  # the sentence guidance reads under: the papers'; released code: source
    )
    reuse_prediction: bool = False  # guided steps take eps before the gradient step: one less
    guidance_balance: float | None = (
        None  # later guidances' pull in the first one's; none: absolute weights
    )
    # gradient's length in lengths of the latents, in a walk of 50 steps; none, as published. "0.01,
    # style=0.05" has another one for pictures whose change is of that kind
    guidance_limit: float | str | None = None
    polyak_step: bool = False  # Polyak's limit on the gradient; as published there is none
    source_correction: bool = True  # the difference form; false is plain DDIM, for comparison
    cache_source: bool = True  # the source's maps: memory instead of a second look, the same answer
    seed: int = 0  # places of the contrastive patches: the same seed, the same picture

    def __post_init__(self) -> None:
        _require(_whole(self.steps) and self.steps >= 1, "steps", "a whole number from 1", self)
        _require(isinstance(self.inverter, str) and self.inverter != "", "inverter", "a name", self)
        _require(
            _scale(self.guidance_scale),
            "guidance_scale",
            "a number, or two: from noise to picture",
            self,
        )
        _require(_number(self.strength), "strength", "a number", self)
        _require(_strings(self.guidance), "guidance", "names of guidance methods", self)
        _require(
            self.direction_from in DIRECTION_FROM,
            "direction_from",
            f"one of {', '.join(DIRECTION_FROM)}",
            self,
        )
        _require(
            self.direction_positions in DIRECTION_POSITIONS,
            "direction_positions",
            f"one of {', '.join(DIRECTION_POSITIONS)}",
            self,
        )
        _require(
            _share(self.guidance_range),
            "guidance_range",
            "two shares of the steps, 0 <= A < B <= 1",
            self,
        )
        _require(
            _cap(self.guidance_limit),
            "guidance_limit",
            f"above zero, or like 0.01,style=0.05 of {', '.join(CHANGES)}",
            self,
        )
        _require(
            self.guidance_prompt in GUIDANCE_PROMPTS,
            "guidance_prompt",
            f"one of {', '.join(GUIDANCE_PROMPTS)}",
            self,
        )
        _require(isinstance(self.reuse_prediction, bool), "reuse_prediction", "true or false", self)
        _require(
            self.guidance_balance is None or (_number(self.guidance_balance) and self.guidance_balance > 0),
            "guidance_balance", "above zero", self,
        )  # fmt: skip
        _require(isinstance(self.polyak_step, bool), "polyak_step", "true or false", self)
        _require(
            isinstance(self.source_correction, bool), "source_correction", "true or false", self
        )
        _require(isinstance(self.cache_source, bool), "cache_source", "true or false", self)
        _require(_whole(self.seed) and self.seed >= 0, "seed", "a whole number from 0", self)

    def overlay(self, values: Mapping[str, Any]) -> Settings:
        """A copy with ``values`` in place; lists (of JSON) become tuples.

        A guidance keeps the options that it has here and that ``values`` do not set: by name alone
        it means the one that was measured for the model.

        Raises ``ValueError`` for a name that is no setting, or for a bad value.
        """
        names = [field.name for field in fields(self)]
        for name in values:
            if name not in names:
                raise SettingError(f"no setting {name!r}; there are: {', '.join(names)}")
        given: dict[str, Any] = dict(values)
        for name, value in given.items():
            given[name] = tuple(value) if isinstance(value, list) else value
        if _strings(given.get("guidance")):
            given["guidance"] = tuple(_inherit(t, self.guidance) for t in given["guidance"])
        return replace(self, **given)

    def guidance_limit_for(self, changes: Collection[str]) -> float:
        """The cap where changes are of these kinds: the smallest of theirs, infinite for none."""
        if self.guidance_limit is None:
            return math.inf
        plain, *others = str(self.guidance_limit).split(",")
        caps = dict(other.split("=") for other in others)
        return min((float(caps.get(kind, plain)) for kind in changes), default=float(plain))


def _inherit(text: str, known: tuple[str, ...]) -> str:
    """``text`` ("name:key=value,...") over the options that ``known`` has for the same name."""
    name, _, asked = text.partition(":")
    for other in known:
        same, _, options = other.partition(":")
        if same == name and options:
            kept = [o for o in options.split(",") if f",{o.partition('=')[0]}=" not in f",{asked}"]
            return f"{name}:{','.join(filter(None, [*kept, asked]))}"
    return text


def _require(holds: bool, name: str, wanted: str, settings: Settings) -> None:
    if not holds:
        raise SettingError(f"{name} must be {wanted}, not {getattr(settings, name)!r}")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _cap(value: object) -> bool:
    """Whether it is nothing, a length, or a length and others for kinds of change."""
    if not isinstance(value, str):
        return value is None or (isinstance(value, int | float) and _number(value) and value > 0)
    plain, *others = value.split(",")
    pairs = [other.partition("=") for other in others]
    lengths = [plain, *(length for _, _, length in pairs)]
    try:
        return {kind for kind, _, _ in pairs} <= {*CHANGES} and all(
            0 < float(length) < math.inf for length in lengths
        )
    except ValueError:
        return False


def _strings(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) and name for name in value)


def _scale(value: object) -> bool:
    return _number(value) or (
        isinstance(value, tuple) and len(value) == 2 and all(map(_number, value))
    )


def _share(value: object) -> bool:
    if not (isinstance(value, tuple) and len(value) == 2 and all(map(_number, value))):
        return False
    return bool(0 <= value[0] < value[1] <= 1)
