"""Settings of the method: every default has its one home here, with its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, NamedTuple

from zerocon import registry
from zerocon.errors import SettingError
from zerocon.storage.escaping import one_line

DEFAULT_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # the family of the papers
DEFAULT_CAPTIONER = "Salesforce/blip-image-captioning-base"  # the method captions with BLIP
DEFAULT_CLIP = "openai/clip-vit-large-patch14"  # its text encoder is Stable Diffusion 1's own
DEFAULT_SEGMENTER = "CIDAS/clipseg-rd64-refined"  # the authors' better one of CLIPSeg
# Kinds of change; "several" is more than one of them in one edit.
CHANGES = (
    "object", "attribute", "added", "removed", "place", "time", "style", "action", "caption",
    "several",
)  # fmt: skip

DIRECTION_FROM = ("bank", "caption", "mean")
DIRECTION_POSITIONS = ("all", "changed")
GUIDANCE_PROMPTS = ("target", "source", "both")
COMPOSITES = ("native", "model")
LOCKS = ("off", "latent", "pixel")
CROPS = ("off", "auto")
CROP = re.compile(r"(\d+),(\d+),(\d+),(\d+)")  # left, upper, width, height in pixels

# By kind of change; an edit takes the first that fits. See the table in docs/method.md.
ATTENTION = (
    "injection:self=0.5,cross=0",
    "several=injection:self=0.3,cross=0",
    "object=injection:self=0.3,cross=0",
    "attribute=injection:self=1,cross=0.8",
    "removed=injection:self=0.8,cross=0.25",
    "place=injection:self=0.5,cross=0.8",
    "time=injection:self=0.5,cross=0.8",
    "style=injection:self=0.15,cross=0",
)
# Attention control alone: no gradient, so that rounding is not amplified.
FAST: Mapping[str, Any] = {"guidance": ()}
# pix2pix-zero and pix2pix-zeroCon to the letter, but for the guidance scale, which is the model's
# (published for Stable Diffusion 1: 5).
PAPER: Mapping[str, Any] = {
    "steps": 50,
    "direction_from": "bank",
    "guidance": ("cross-attention:weight=0.1", "contrastive:weight=5.4,targets=hard"),
    "guidance_range": (0.0, 1.0),
    "guidance_prompt": "target",
    "guidance_balance": None,
    "guidance_limit": None,
    "push_limit": None,
    "difference_threshold": 0.0,
    "polyak_step": False,
    "reuse_prediction": False,
    "attention": (),
    "begin": 0.0,
}
NONE = "none"  # no method, or no value, in texts
PRESETS: Mapping[str, Mapping[str, Any]] = {"default": {}, "fast": FAST, "paper": PAPER}

# Values come from recipes and manifests of others, too.
MOST_STEPS = 10_000  # no model has been trained with more; each says how many it takes
LARGEST_NUMBER = 1e6
MOST_METHODS, LONGEST_METHOD = 64, 1000  # of a setting, and characters of one

# Below 64 pixels Stable Diffusion's deepest layer has a single position; 2048 is 16 times the area
# that it was trained on, where content repeats and self-attention takes 256 times as long.
SMALLEST_SIZE, LARGEST_SIZE = 64, 2048
LARGEST_SEED = 2**63  # of torch's generators


class Rule(NamedTuple):
    """What values a setting takes: a predicate, and the end of the sentence "NAME must be ..."."""

    accepts: Callable[[object], bool]
    wanted: str
    choices: tuple[str, ...] = ()


class Option(NamedTuple):
    """How a setting is shown on the command line; part of its field's metadata."""

    rule: Rule
    help: str
    metavar: str = ""
    off: str = ""  # of a flag: the name of its negative option
    unset: str = ""  # what None means


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and _is_int(value) and 1 <= value <= MOST_STEPS


def _is_seed(value: object) -> bool:
    return isinstance(value, int) and _is_int(value) and 0 <= value < LARGEST_SEED


def _is_size(value: object) -> bool:
    return value is None or (
        isinstance(value, int) and _is_int(value) and SMALLEST_SIZE <= value <= LARGEST_SIZE
    )


def _is_factor(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and _is_number(value) and value > 0)


def _is_number(value: object) -> bool:
    """Whether it is a number that float32 can hold, with room for products."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= LARGEST_NUMBER  # false for NaN
    )


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))


def _is_range(value: object) -> bool:
    return isinstance(value, tuple) and _is_pair(value) and bool(0 <= value[0] < value[1] <= 1)


def _are_names(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) <= MOST_METHODS
        and all(isinstance(name, str) and 0 < len(name) <= LONGEST_METHOD for name in value)
    )


def _are_controls(value: object) -> bool:
    """Whether they are names, the later ones for kinds of change: ``"time=none"``."""
    if not isinstance(value, tuple) or not _are_names(value):
        return False
    kinds = [split_change(text)[0] for text in value]
    return kinds[:1] in ([], [""]) and "" not in kinds[1:]


def split_change(text: str) -> tuple[str, str]:
    """Kind of change and value of ``CHANGE=VALUE``; "" and the text where it names no kind."""
    kind, _, value = text.partition("=")
    return (kind, value) if kind in CHANGES else ("", text)


def _is_loss(value: object) -> bool:
    """Whether it is a guidance loss, see ``zerocon.guidance.Guidance``."""
    return callable(value) and hasattr(value, "weight") and hasattr(value, "layer_patterns")


def _by_change(accepts: Callable[[float], bool]) -> Callable[[object], bool]:
    """Whether a value is a number, or a number and others by kind of change, as text."""

    def accepted(value: object) -> bool:
        if not isinstance(value, str):
            return isinstance(value, int | float) and _is_number(value) and accepts(value)
        default, *others = value.split(",")
        pairs = [other.partition("=") for other in others]
        try:
            numbers = [float(each) for each in (default, *(number for _, _, number in pairs))]
        except ValueError:
            return False
        return all(kind in CHANGES for kind, _, _ in pairs) and all(
            math.isfinite(each) and accepts(each) for each in numbers
        )

    return accepted


_is_share = _by_change(lambda value: 0 <= value < 1)
_is_positive = _by_change(lambda value: value > 0)
_is_threshold = _by_change(lambda value: value >= 0)


def _is_limit(value: object) -> bool:
    return value is None or _is_positive(value)


def _is_crop(value: object) -> bool:
    """Whether it is "off", "auto", or a box "X,Y,W,H" in whole pixels."""
    return isinstance(value, str) and (value in CROPS or CROP.fullmatch(value) is not None)


def _one_of(*choices: str) -> Rule:
    return Rule(lambda value: value in choices, f"one of {', '.join(choices)}", choices)


FLAG = Rule(lambda value: isinstance(value, bool), "true or false")
NUMBER = Rule(_is_number, f"a number up to {LARGEST_NUMBER:.0f}")


def _setting(
    default: Any, rule: Rule, help: str, metavar: str = "", off: str = "", unset: str = "none"
) -> Any:
    return field(default=default, metadata={"option": Option(rule, help, metavar, off, unset)})


@dataclass(frozen=True)
class Settings:
    """All settings of the method; immutable, ``overlay`` makes a changed copy.

    A model's directory may bring measured defaults (``zerocon.json``), which lie over these; what a
    user gives lies over both. ``guidance`` takes loss objects too: they are registered for this
    process and kept as text.

    Raises:
        SettingError: for a value of the wrong type or out of its range.
    """

    # with attention control more steps gained nothing; 20 to 30 are usual for Stable Diffusion
    steps: int = _setting(
        24,
        Rule(_is_count, f"an integer from 1 to {MOST_STEPS}"),
        "Denoising steps.",
    )
    # its U-Net evaluations are the ones that the edit needs again
    inverter: str = _setting(
        "ddim",
        Rule(lambda name: isinstance(name, str) and name != "", "a name"),
        "Inversion method, NAME[:KEY=VALUE,...], see `zerocon methods`.",
        "METHOD",
    )
    # how strongly a U-Net answers to captions differs between checkpoints
    guidance_scale: float | tuple[float, float] | None = _setting(
        None,
        Rule(
            lambda w: w is None or _is_number(w) or _is_pair(w),
            "a number, or two: from noise to image",
        ),
        "Classifier-free guidance scale; A..B changes it linearly from noise to image.",
        "W",
        unset="measured once",
    )
    strength: float = _setting(
        1.0, NUMBER, "Scale of the edit direction (1.0 = as estimated, 0 = no edit)."
    )
    # the two losses of pix2pix-zeroCon
    guidance: tuple[str, ...] = _setting(
        ("cross-attention", "contrastive"),
        Rule(_are_names, "names of guidance losses"),
        "Guidance loss, NAME[:KEY=VALUE,...], see `zerocon methods`; repeatable; or none.",
        "METHOD",
    )
    # the bank, pix2pix-zero's way, had fewer successes on the drawn world
    direction_from: str = _setting(
        "caption",
        _one_of(*DIRECTION_FROM),
        "Estimate the edit direction from a sentence bank, from the two captions, or the mean.",
    )
    # the direction is nearly the same vector at every position
    direction_positions: str = _setting(
        "all",
        _one_of(*DIRECTION_POSITIONS),
        "Add the direction at all token positions, or only where the captions differ.",
    )
    # later gradients add noise, in half precision above all
    guidance_range: tuple[float, float] = _setting(
        (0.0, 0.35),
        Rule(_is_range, "two shares of the steps, 0 <= A < B <= 1"),
        "Share of the steps, counted from noise, in which guidance acts.",
        "A..B",
    )
    # the papers'; the released code of pix2pix-zero observes under the source caption
    guidance_prompt: str = _setting(
        "target",
        _one_of(*GUIDANCE_PROMPTS),
        "Caption under which the edited image is observed for guidance.",
    )
    reuse_prediction: bool = _setting(
        False,
        FLAG,
        "In guided steps, reuse the guidance pass's noise prediction: one evaluation less.",
        off="recompute-prediction",
    )
    # both losses alike, whatever their magnitudes on this checkpoint
    guidance_balance: float | None = _setting(
        1.0,
        Rule(_is_factor, "above zero"),
        "Scale later losses' gradients to this many times the first's, measured once.",
    )
    # no limit, as published
    guidance_limit: float | str | None = _setting(
        None,
        Rule(_is_limit, f"above zero, or like 0.01,style=0.05 of {', '.join(CHANGES)}"),
        "Largest guidance gradient, in norms of the latents, for 50 steps; by kind of change as in "
        "0.01,style=0.05.",
        "C[,CHANGE=C,...]",
    )
    # larger ones amplify rounding: the same image alone and in a batch differ
    push_limit: float | str | None = _setting(
        0.3,
        Rule(_is_limit, f"above zero, or like 0.5,style=0.2 of {', '.join(CHANGES)}"),
        "Guide by Polyak's step, at most this share of what the prompt moves the latents at that "
        "step; by kind of change as in 0.5,style=0.2.",
        "C[,CHANGE=C,...]",
    )
    # no limit, as published
    polyak_step: bool = _setting(
        False,
        FLAG,
        "Limit guidance's gradient to Polyak's step, which cannot oscillate.",
        off="no-polyak-step",
    )
    # new things need attention of their own; colors, places and times all of the source's layout
    attention: tuple[str, ...] = _setting(
        ATTENTION,
        Rule(_are_controls, f"names of attention controls, or CHANGE=NAME of {', '.join(CHANGES)}"),
        "Attention control, NAME[:KEY=VALUE,...], see `zerocon methods`; or none; repeatable for "
        "kinds of change as in added=NAME.",
        "[CHANGE=]METHOD",
    )
    # the noisiest steps change the background as much as what is edited
    begin: float | str = _setting(
        "0,several=0,object=0.1,attribute=0.1,added=0.1,removed=0.1,style=0.1",
        Rule(
            _is_share,
            f"a share of the steps, 0 <= X < 1, or like 0,style=0.3 of {', '.join(CHANGES)}",
        ),
        "Share of the steps, counted from noise, before the edit begins; by kind of change as in "
        "0,style=0.3.",
        "X[,CHANGE=X,...]",
    )
    # allows a larger guidance scale: what the prompt moves elsewhere is mostly small
    difference_threshold: float | str = _setting(
        "0.3,several=0.15,attribute=0.2,place=0.2,time=0.2,style=0",
        Rule(_is_threshold, f"from zero, or like 0.3,style=0 of {', '.join(CHANGES)}"),
        "While denoising remove differences from the source below T, in part up to 2T, in units of "
        "their 90th percentile; by kind of change as in 0.3,style=0.",
        "T[,CHANGE=T,...]",
    )
    source_correction: bool = _setting(
        True,
        FLAG,
        "Correct each step by the source's own inversion error; off is plain DDIM.",
        off="no-source-correction",
    )
    cache_source: bool = _setting(
        True,
        FLAG,
        "Keep the source's activations in memory, or recompute them: same image, less memory.",
        off="recompute-source",
    )
    # an enlarged working image replaces every pixel of a photograph
    composite: str = _setting(
        "native",
        _one_of(*COMPOSITES),
        "Apply the change at the image's own size (native), or enlarge the model's output (model).",
    )
    # "latent" changed less outside the support and no success; inside it lost 0.1 dB
    lock: str = _setting(
        "pixel",
        _one_of(*LOCKS),
        "Outside the support keep the source's pixels, also its latents in the steps, or neither.",
    )
    # measured on no model that was trained on crops
    crop: str = _setting(
        "off",
        Rule(_is_crop, "off, auto or X,Y,W,H in pixels"),
        "Edit a part at the working size: X,Y,W,H in pixels; auto finds a small support first.",
        "BOX",
    )
    # as trained; a larger size preserves more of the source, but content may repeat
    size: int | None = _setting(
        None,
        Rule(_is_size, f"an integer from {SMALLEST_SIZE} to {LARGEST_SIZE}"),
        "Working size in pixels: square root of the area; for mini the longest side.",
        unset="size of its training images",
    )
    seed: int = _setting(
        0,
        Rule(_is_seed, "an integer from 0 to 2**63 - 1"),
        "Random seed.",
    )

    def __post_init__(self) -> None:
        texts = self.guidance
        if isinstance(texts, tuple):
            texts = tuple(
                registry.register("guidance", each) if _is_loss(each) else each for each in texts
            )
            object.__setattr__(self, "guidance", texts)
        for each in fields(self):
            rule, value = option_of(each).rule, getattr(self, each.name)
            if not rule.accepts(value):
                shown = one_line(repr(value), 200)
                raise SettingError(f"{each.name} must be {rule.wanted}, not {shown}")

    def overlay(self, values: Mapping[str, Any]) -> Settings:
        """A copy with ``values`` in place; lists (of JSON) become tuples.

        A guidance loss or attention control keeps the options that it has here and that ``values``
        do not set: its name alone means the one that was tuned for the model.

        Raises:
            SettingError: for an unknown name, or a bad value.
        """
        names = [each.name for each in fields(self)]
        for name in values:
            if name not in names:
                raise SettingError(f"no setting {name!r}; there are: {', '.join(names)}")
        changed: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        if isinstance(changed.get("guidance"), tuple):
            changed["guidance"] = tuple(_inherit(t, self.guidance) for t in changed["guidance"])
        if isinstance(changed.get("attention"), tuple):
            changed["attention"] = tuple(_inherit(t, self.attention) for t in changed["attention"])
        return replace(self, **changed)

    @property
    def scale(self) -> float | tuple[float, float]:
        """``guidance_scale``, once it is known.

        Raises:
            SettingError: if it must be measured on the model first.
        """
        if self.guidance_scale is None:
            raise SettingError("no guidance_scale: zerocon.api.with_guidance_scale measures one")
        return self.guidance_scale

    @property
    def earliest_begin(self) -> float:
        """The smallest ``begin_for`` of any kind of change."""
        return min(self.begin_for([kind]) for kind in ("", *CHANGES))

    def begin_for(self, changes: Collection[str]) -> float:
        """Share of the steps before an edit with changes of these kinds begins.

        That is ``begin``, but the last two steps always edit: else few steps would return the
        source. Two, since the last one moves nothing where it starts at timestep 1, as with
        ``timestep_spacing="leading"``.
        """
        return min(number_for(self.begin, changes), max(0.0, 1 - 2 / self.steps))

    @property
    def attention_controls(self) -> tuple[str, ...]:
        """The attention controls for changes of every kind, without "none" and repetitions."""
        texts = dict.fromkeys(split_change(each)[1] for each in self.attention)
        return tuple(text for text in texts if text != NONE)

    def attention_for(self, changes: Collection[str]) -> str:
        """The attention control for an edit with changes of these kinds; "none" for no control."""
        return _first(dict(map(split_change, self.attention)), changes)


def number_for(value: float | str | None, changes: Collection[str]) -> float:
    """The number that a setting has for an edit with changes of these kinds.

    Of ``"0.01,place=0.03,style=0.02"`` the first named kind that is among ``changes`` counts, and
    the first number where none is. None, no limit, is infinity.
    """
    if not isinstance(value, str):
        return math.inf if value is None else value
    default, *others = value.split(",")
    by_kind = {"": default} | dict(split_change(other) for other in others)
    return float(_first(by_kind, changes))


def _first(values: Mapping[str, str], changes: Collection[str]) -> str:
    """The value of the first kind that is among ``changes``, else that of the kind ""."""
    kind = next((kind for kind in values if kind in changes), "")
    return values.get(kind, NONE)


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, with "none" as None, or of methods as the empty tuple."""

    def read(name: str, value: Any) -> Any:
        if value == (NONE,):
            return ()
        field = Settings.__dataclass_fields__.get(name)
        optional = field is not None and option_of(field).rule.accepts(None)
        return None if optional and isinstance(value, str) and value == NONE else value

    return {name: read(name, value) for name, value in values.items()}


def option_of(setting: Field[Any]) -> Option:
    """Rule and help of one field of ``Settings``."""
    option: Option = setting.metadata["option"]
    return option


def _inherit(method: object, base: tuple[str, ...]) -> object:
    """``method`` ("name:key=value,...") over the options that ``base`` has for the same name."""
    if not isinstance(method, str):
        return method
    name, _, options = method.partition(":")
    for other in base:
        same, _, inherited = other.partition(":")
        if same == name and inherited:
            kept = [
                o for o in inherited.split(",") if f",{o.partition('=')[0]}=" not in f",{options}"
            ]
            return f"{name}:{','.join(filter(None, [*kept, options]))}"
    return method
