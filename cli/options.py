"""Options that several commands share, and what they mean. Defaults are read from ``Settings``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import cloup
from click.core import ParameterSource

from zerocon.settings import (
    CHANGES,
    DEFAULT_CAPTIONER,
    DEFAULT_CLIP,
    DEFAULT_MODEL,
    DIRECTION_FROM,
    DIRECTION_POSITIONS,
    FAST,
    GUIDANCE_PROMPTS,
    PRESETS,
    Settings,
)

from . import config_file
from .help import ExpertOption

if TYPE_CHECKING:
    from zerocon import Cache, Model, Recipe

VERBOSE = "zerocon.verbose"  # in the context's meta, where the group finds it after an error
QUIET = "zerocon.quiet"
LOAD_OPTIONS = (
    "device", "dtype", "captioner", "clip", "prediction", "offload", "tile", "compile",
)  # fmt: skip
FORMATS = ("human", "json", "jsonl", "quiet")

F = TypeVar("F", bound=Callable[..., Any])


# values of options


def number_range(text: str) -> tuple[float, float]:
    """``A..B``, two numbers."""
    first, _, last = text.partition("..")
    try:
        return float(first), float(last)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a range A..B, such as 0..0.6") from None


def number_or_range(text: str) -> float | tuple[float, float]:
    """A number, or ``A..B``."""
    if ".." in text:
        return number_range(text)
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a number nor a range A..B, such as 7..3"
        ) from None


def limit_by_change(text: str) -> float | str:
    """A number, or a number and further ones for kinds of change: ``0.01,style=0.05``."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        Settings(guidance_limit=text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return text


def weighted_file(text: str) -> tuple[Path, float]:
    """``FILE``, or ``FILE:WEIGHT``."""
    name, colon, number = text.rpartition(":")
    if not colon or Path(text).is_file():
        return Path(text), 1.0
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise click.BadParameter(f"{text!r} is not FILE:WEIGHT: {number!r} is not a number")
    return Path(name), weight


def shard(text: str) -> tuple[int, int]:
    """``I/N``, I from 1 to N."""
    part, count = map(int, text.split("/")) if re.fullmatch(r"\d+/\d+", text) else (0, 0)
    if not 1 <= part <= count:
        raise click.BadParameter(f"{text!r} is not I/N with I from 1 to N, such as 1/4")
    return part, count


# what the options of the running command mean


def together(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options as one decorator, listed in this order by ``--help``."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def is_quiet() -> bool:
    """Whether the running command prints only results, warnings and errors."""
    return bool(click.get_current_context().meta.get(QUIET))


def on_command_line(name: str) -> bool:
    """Whether an option of the running command was given on the command line."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def explicit_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that options, environment, file, preset or recipe set, validated.

    All others are left to the model's defaults.
    """
    options = values
    values = config_file.with_presets(click.get_current_context(), options)
    from_recipe = _recipe_settings(values.get("recipe"))
    # a recipe, like a preset, overrides the file and the environment
    overridden = {
        name
        for name in from_recipe
        if not on_command_line(name) and values.get(name) is options.get(name)
    }
    settings = {f.name: values.get(f.name) for f in fields(Settings) if f.name not in overridden}
    explicit = {name: value for name, value in settings.items() if value not in (None, ())}
    return {**from_recipe, **validated(explicit)}


def validated(settings: dict[str, Any]) -> dict[str, Any]:
    """The same settings, if their values and methods exist; "none" is no guidance."""
    if settings.get("guidance") == ("none",):
        settings = {**settings, "guidance": ()}
    Settings().overlay(settings)
    methods = [("guidance", text) for text in settings.get("guidance", ())]
    methods += [("inverter", settings["inverter"])] if "inverter" in settings else []
    if methods:
        from zerocon.registry import resolve  # imports torch, hence last

        for family, text in methods:
            resolve(family, text)
    return settings


def _recipe_settings(image: Path | None) -> dict[str, Any]:
    """The settings in an edited image's recipe."""
    if image is None:
        return {}
    from zerocon.recipe import Recipe

    return asdict(Recipe.read(image).settings)


def load_model(values: Mapping[str, Any]) -> Model:
    """The model that the ``model`` options name."""
    import zerocon

    return zerocon.load(values["model"], **{name: values[name] for name in LOAD_OPTIONS})


def load_recipe_model(values: Mapping[str, Any], recipe: Recipe) -> Model:
    """The model of a recipe, except for what the ``replay_model`` options override."""
    import zerocon

    try:
        model: Model = zerocon.load(
            values["model"] or recipe.model,
            device=values["device"] or recipe.device,
            dtype=values["dtype"] or recipe.dtype,
            clip=values["clip"],
            prediction=recipe.prediction,
        )
    except zerocon.MissingError as error:
        hint = "" if values["model"] else "; or give the location of the recipe's model: --model"
        raise zerocon.MissingError(f"{error}{hint}") from None
    recipe.require_model(model)
    return model


def cache(values: Mapping[str, Any], warn: Callable[[str], None]) -> Cache | None:
    """The cache of inversions, or None with ``--no-cache``."""
    import zerocon

    return None if values["no_cache"] else zerocon.Cache(on_warning=warn)


def input_files(values: Mapping[str, Any], *others: Path | None) -> tuple[Path, ...]:
    """Every file that the options make the command read, and ``others``: none may be written."""
    files = [values.get(name) for name in ("inversion", "recipe", "manifest", "model")]
    directions = [
        each[0] if isinstance(each, tuple) else each for each in values.get("directions", ())
    ]
    return tuple(Path(file) for file in (*files, *directions, *others) if file is not None)


def _store_verbose(ctx: click.Context, _: click.Parameter, verbose: bool) -> None:
    ctx.meta[VERBOSE] = verbose


def _store_quiet(ctx: click.Context, _: click.Parameter, value: bool | str) -> bool | str:
    ctx.meta[QUIET] = ctx.meta.get(QUIET, False) or value in (True, "quiet")
    return value


def _text(value: Any) -> str:
    return "..".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _default(name: str, text: str | None = None) -> str:
    """The default of a setting; a model's own (``zerocon.json``) overrides it."""
    return f"[default: model's, else {text or _text(getattr(Settings, name))}]"


def _switch(on: str, off: str, text: str) -> Callable[[F], F]:
    """An expert option with two names, one for each value of a setting."""
    setting = on.replace("-", "_")
    default = on if getattr(Settings, setting) else off
    return click.option(
        f"--{on}/--{off}",
        cls=ExpertOption,
        default=None,
        help=f"{text} {_default(setting, f'--{default}')}",
    )


# the options

image_path = click.argument("image_path", metavar="IMAGE", type=click.Path(path_type=Path))

PROMPT = ("to", "from_", "to_caption", "caption")

caption = click.option(
    "--caption",
    metavar="TEXT",
    help="Source caption. [default: from the captioner]",
)

directions = click.option(
    "--direction",
    "directions",
    type=weighted_file,
    multiple=True,
    metavar="FILE[:W]",
    help="Edit direction of `zerocon direction`; repeatable.",
)

prompt = cloup.option_group(
    "Prompt",
    click.option("--to", metavar="TEXT", help='New content or style: "dog", "at night", "sketch".'),
    click.option(
        "--from", "from_", metavar="TEXT", help='Content to replace; removed if --to is "".'
    ),
    click.option("--to-caption", metavar="TEXT", help="Target caption, instead of --to."),
    caption,
    directions,
)

verbosity = together(
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_store_quiet,
        help="Print only results, warnings and errors.",
    ),
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_store_verbose,
        help="Print tracebacks of errors.",
    ),
)

output_format = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="human",
    metavar="NAME",
    callback=_store_quiet,
    help="Result as human, json, jsonl or quiet. [default: human]",
)

dry_run = click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="Print the parsed prompt and the cost only.",
)

inversion = click.option(
    "--inversion",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Inversion of `zerocon invert` to start from.",
)

no_cache = click.option("--no-cache", is_flag=True, help="Do not use the cache of inversions.")

overwrite = click.option("--overwrite", is_flag=True, help="Replace existing output files.")

device = click.option(
    "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. [default: best available]"
)

dtype = click.option(
    "--dtype",
    metavar="NAME",
    help="float32, float16, bfloat16. [default: float16 on GPUs, else float32]",
)

compiled = click.option(
    "--compile",
    is_flag=True,
    cls=ExpertOption,
    help="Compile the U-Net: minutes at the first call, less time per call later.",
)

cache_source = _switch(
    "cache-source",
    "recompute-source",
    "Cache the source's activations of every step, or recompute them: less memory, more time.",
)

model_names = cloup.option_group(
    "Model",
    click.option(
        "-m",
        "--model",
        metavar="NAME",
        shell_complete=config_file.complete_model,
        help=f"mini, a directory, a .safetensors file or a Hub id. [default: {DEFAULT_MODEL}]",
    ),
    click.option(
        "--prediction",
        cls=ExpertOption,
        metavar="NAME",
        help="epsilon or v_prediction, for weights that do not state it. [default: model's]",
    ),
    click.option(
        "--captioner",
        cls=ExpertOption,
        metavar="NAME",
        help=f"Captioning model (BLIP). [default: model's, else {DEFAULT_CAPTIONER}]",
    ),
    click.option(
        "--clip",
        cls=ExpertOption,
        metavar="NAME",
        help=f"CLIP model. [default: model's, else {DEFAULT_CLIP}]",
    ),
)

_performance = (
    device,
    dtype,
    click.option(
        "--offload",
        is_flag=True,
        help="Keep networks in CPU memory until they run.",
    ),
    click.option(
        "--tile",
        cls=ExpertOption,
        is_flag=True,
        help="Encode and decode in blended tiles, to save memory.",
    ),
    compiled,
)

model = together(model_names, cloup.option_group("Performance", *_performance))

model_with_reuse = together(
    model_names,
    cloup.option_group("Performance", *_performance[:2], inversion, no_cache, *_performance[2:]),
)

replay_model = together(
    click.option("--model", metavar="NAME", help="Model to load. [default: recipe's]"),
    click.option("--device", metavar="NAME", help="Device to compute on. [default: recipe's]"),
    click.option("--dtype", metavar="NAME", help="Precision to compute in. [default: recipe's]"),
    click.option("--clip", metavar="NAME", help="CLIP model. [default: model's]"),
)

steps = click.option("--steps", type=int, metavar="N", help=f"Denoising steps. {_default('steps')}")

strength = click.option(
    "--strength",
    type=float,
    metavar="S",
    help=f"Scale of the edit direction. {_default('strength')}",
)

seed = click.option("--seed", type=int, metavar="N", help=f"Random seed. {_default('seed')}")

inverter = click.option(
    "--inverter",
    cls=ExpertOption,
    metavar="METHOD",
    help=f"Inversion method of `zerocon methods`, NAME[:KEY=VALUE,...]. {_default('inverter')}",
)

guidance = click.option(
    "--guidance",
    multiple=True,
    metavar="METHOD",
    help="Guidance loss of `zerocon methods`, NAME[:KEY=VALUE,...]; repeatable; or none. "
    f"{_default('guidance', ' and '.join(Settings.guidance))}",
)

fast = click.option(
    "--fast",
    is_flag=True,
    help=f"Preset with a third of the evaluations ({FAST['steps']} steps).",
)

preset = click.option(
    "--preset",
    metavar="NAME",
    shell_complete=config_file.complete_preset,
    help=f"{', '.join(PRESETS)}, or [presets.NAME] of {config_file.FILE}.",
)

recipe = click.option(
    "--recipe",
    cls=ExpertOption,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Take the settings, but not the prompt, from an image that zerocon edited.",
)

guidance_scale = click.option(
    "--guidance-scale",
    type=number_or_range,
    metavar="W",
    help=f"Classifier-free guidance; or A..B, from noise to image. {_default('guidance_scale')}",
)

expert_method = together(
    inverter,
    click.option(
        "--direction-from",
        cls=ExpertOption,
        metavar="NAME",
        help=f"Sentences that the edit direction is estimated from: {', '.join(DIRECTION_FROM)}. "
        f"{_default('direction_from')}",
    ),
    click.option(
        "--direction-positions",
        cls=ExpertOption,
        type=click.Choice(DIRECTION_POSITIONS),
        help="Token positions that the direction is added to. " + _default("direction_positions"),
    ),
    click.option(
        "--guidance-range",
        cls=ExpertOption,
        type=number_range,
        metavar="A..B",
        help="Fraction of the steps, from noise to image, in which guidance acts. "
        + _default("guidance_range"),
    ),
    click.option(
        "--guidance-prompt",
        cls=ExpertOption,
        type=click.Choice(GUIDANCE_PROMPTS),
        help="Caption under which guidance evaluates the edit. " + _default("guidance_prompt"),
    ),
    click.option(
        "--guidance-balance",
        cls=ExpertOption,
        type=float,
        metavar="R",
        help="Gradient norm of later guidances, relative to the first. "
        + _default("guidance_balance", "their weights"),
    ),
    click.option(
        "--guidance-limit",
        cls=ExpertOption,
        type=limit_by_change,
        metavar="C[,CHANGE=C,...]",
        help="Largest gradient step, in norms of the latents at 50 steps; by kind of change "
        f"({', '.join(CHANGES)}): 0.01,style=0.05. {_default('guidance_limit', 'unlimited')}",
    ),
    _switch(
        "polyak-step",
        "no-polyak-step",
        "Limit the gradient step to Polyak's step size.",
    ),
    _switch(
        "reuse-prediction",
        "recompute-prediction",
        "Reuse the noise prediction of before the gradient step: one evaluation less per step.",
    ),
    _switch(
        "source-correction",
        "no-source-correction",
        "Denoise by the difference from the source, or by plain DDIM.",
    ),
    cache_source,
)

common_method = cloup.option_group(
    "Method", fast, preset, steps, guidance_scale, guidance, recipe, expert_method
)

method = cloup.option_group(
    "Method", fast, strength, steps, seed, guidance_scale, guidance, preset, recipe, expert_method
)
