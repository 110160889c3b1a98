"""Options that commands share. Defaults are read from where they live, never repeated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
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

if TYPE_CHECKING:
    from zerocon import Cache, Model, Recipe

VERBOSE = "zerocon.verbose"  # in the context's meta, where the group finds it after an error
QUIET = "zerocon.quiet"
MODEL = ("device", "dtype", "captioner", "clip", "prediction", "offload", "tile", "compile")
FORMS = ("human", "json", "jsonl", "quiet")

F = TypeVar("F", bound=Callable[..., Any])


def share(text: str) -> tuple[float, float]:
    """``A..B``, two numbers."""
    first, _, last = text.partition("..")
    try:
        return float(first), float(last)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not like 0..0.6") from None


def scale(text: str) -> float | tuple[float, float]:
    """A number, or ``A..B``."""
    if ".." in text:
        return share(text)
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a number nor like 7..3") from None


def length(text: str) -> float | str:
    """A number, or a number and others by name."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        Settings(guidance_limit=text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return text


def weighted(text: str) -> tuple[Path, float]:
    """``FILE``, or ``FILE:WEIGHT``."""
    name, colon, said = text.rpartition(":")
    if not colon or Path(text).is_file():
        return Path(text), 1.0
    try:
        weight = float(said)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise click.BadParameter(f"{text!r} is not FILE:WEIGHT: {said!r} is not a number")
    return Path(name), weight


def together(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options as one decorator, listed in this order by ``--help``."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _remember_verbose(ctx: click.Context, _: click.Parameter, verbose: bool) -> None:
    ctx.meta[VERBOSE] = verbose


def _remember_quiet(ctx: click.Context, _: click.Parameter, said: bool | str) -> bool | str:
    ctx.meta[QUIET] = ctx.meta.get(QUIET, False) or said in (True, "quiet")
    return said


def hushed() -> bool:
    """Whether the running command shall say nothing but results, warnings and errors."""
    return bool(click.get_current_context().meta.get(QUIET))


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the user really gave, checked; the others are the model's business."""
    said, values = values, config_file.merged(click.get_current_context(), values)
    kept = _settings_of(values.get("recipe"))
    # a recipe, like a preset, is above what the file and the environment say
    weak = {name for name in kept if not typed(name) and values.get(name) is said.get(name)}
    settings = {f.name: values.get(f.name) for f in fields(Settings) if f.name not in weak}
    named = {name: value for name, value in settings.items() if value not in (None, ())}
    return {**kept, **checked(named)}


def checked(named: dict[str, Any]) -> dict[str, Any]:
    """The same settings, if there are such settings and methods; "none" is no guidance."""
    if named.get("guidance") == ("none",):
        named = {**named, "guidance": ()}
    Settings().overlay(named)
    methods = [("guidance", text) for text in named.get("guidance", ())]
    methods += [("inverter", named["inverter"])] if "inverter" in named else []
    if methods:
        from zerocon.registry import available, parse  # needs torch, hence last

        for family, text in methods:
            parse(text, available(family), family)
    return named


def _settings_of(image: Path | None) -> dict[str, Any]:
    """Those in an edited picture's recipe."""
    if image is None:
        return {}
    from zerocon.recipe import Recipe

    return asdict(Recipe.read(image).settings)


def typed(name: str) -> bool:
    """Whether an option of the running command was given on the command line."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def load(values: Mapping[str, Any]) -> Model:
    """The model that the ``weights`` options name."""
    import zerocon

    return zerocon.load(values["model"], **{name: values[name] for name in MODEL})


def load_again(values: Mapping[str, Any], recipe: Recipe) -> Model:
    """The model of a recipe, in what the ``again`` options do not say otherwise."""
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
        said = "" if values["model"] else "; or say where the recipe's model is: --model"
        raise zerocon.MissingError(f"{error}{said}") from None
    recipe.require_model(model)
    return model


def cache(values: Mapping[str, Any], warn: Callable[[str], None]) -> Cache | None:
    """The cache of inversions, unless it is not wanted."""
    import zerocon

    return None if values["no_cache"] else zerocon.Cache(on_warning=warn)


def input_files(values: Mapping[str, Any], *others: Path | None) -> tuple[Path, ...]:
    """Every file that the options make the command read, and ``others``: none may be written."""
    files = [values.get(name) for name in ("inversion", "recipe", "manifest", "model")]
    directions = [
        each[0] if isinstance(each, tuple) else each for each in values.get("directions", ())
    ]
    return tuple(Path(file) for file in (*files, *directions, *others) if file is not None)


def _text(value: Any) -> str:
    return "..".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _default(name: str) -> str:
    return f"[default: {getattr(Settings, name)}]"


image_path = click.argument("image_path", type=click.Path(path_type=Path))

WORDS = ("to", "from_", "to_caption", "caption")

words = together(
    click.option("--to", metavar="WORDS", help='What should be there: "dog", "at night".'),
    click.option("--from", "from_", metavar="WORDS", help='What it replaces; --to "" removes it.'),
    click.option("--to-caption", metavar="SENTENCE", help="The wanted picture, described whole."),
    click.option(
        "--caption", metavar="SENTENCE", help="The picture as it is. [default: looked at]"
    ),
)

directions = click.option(
    "--direction",
    "directions",
    type=weighted,
    multiple=True,
    metavar="FILE[:WEIGHT]",
    help="What `zerocon direction` made, instead of --to or besides; repeat to add several.",
)

talk = together(
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_remember_quiet,
        help="Say only warnings and errors.",
    ),
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_remember_verbose,
        help="Show tracebacks of errors.",
    ),
)

form = click.option(
    "--format",
    "form",
    type=click.Choice(FORMS),
    default="human",
    callback=_remember_quiet,
    help="What is printed on stdout: for people; one JSON object, over many lines or on one "
    "(jsonl); or as for people, and nothing on stderr but warnings and errors (quiet).",
)

dry_run = click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="Say how the words are understood, how many evaluations of the U-Net and how much memory "
    "it would take, and stop.",
)

inversion = click.option(
    "--inversion", type=click.Path(exists=True, dir_okay=False), help="What `zerocon invert` made."
)

no_cache = click.option(
    "--no-cache",
    is_flag=True,
    help="Invert the picture anew, and keep nothing of it, see `zerocon cache`.",
)

overwrite = click.option("--overwrite", is_flag=True, help="Replace an output that exists.")

device = click.option(
    "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps. [default: best here]"
)

dtype = click.option(
    "--dtype", metavar="NAME", help="float32, float16, bfloat16. [default: device's]"
)

compiled = click.option(
    "--compile",
    is_flag=True,
    help="Compile the U-Net first: minutes at the first call, less for all later ones.",
)

weights = together(
    click.option(
        "-m",
        "--model",
        metavar="NAME",
        shell_complete=config_file.complete_model,
        help='"mini" (embedded, small, for drawings), a diffusers folder, a .safetensors file, or '
        "a hub id. "
        f"[default: $ZEROCON_MODEL, then {DEFAULT_MODEL}]",
    ),
    device,
    dtype,
    click.option(
        "--prediction",
        metavar="NAME",
        help="epsilon or v_prediction, where the model does not say. [default: model's]",
    ),
    click.option(
        "--captioner",
        metavar="NAME",
        help="BLIP model, where none lies beside the weights. " + f"[default: {DEFAULT_CAPTIONER}]",
    ),
    click.option(
        "--clip",
        metavar="NAME",
        help=f"CLIP model, where none lies beside the weights. [default: {DEFAULT_CLIP}]",
    ),
    click.option(
        "--offload",
        is_flag=True,
        help="Keep networks in the computer's memory until they are called; for small GPUs.",
    ),
    click.option("--tile", is_flag=True, help="Encode and decode in tiles; seams are blended."),
    compiled,
)

again = together(
    click.option(
        "--direction",
        "directions",
        type=click.Path(path_type=Path),
        multiple=True,
        metavar="FILE",
        help="One that the edit went along; the recipe knows its weight.",
    ),
    click.option(
        "--inversion", type=click.Path(path_type=Path), help="The one that the edit was given."
    ),
    click.option("--model", metavar="NAME", help="Where the weights are. [default: the recipe's]"),
    click.option("--device", metavar="NAME", help="Compute elsewhere. [default: the recipe's]"),
    click.option("--dtype", metavar="NAME", help="Compute in another. [default: the recipe's]"),
    click.option("--clip", metavar="NAME", help="CLIP model, where one was given."),
)

steps = click.option("--steps", type=int, help=f"Steps from noise to picture. {_default('steps')}")

strength = click.option(
    "--strength", type=float, help=f"Of the edit direction. {_default('strength')}"
)

seed = click.option("--seed", type=int, help=f"Of all chance there is. {_default('seed')}")

inverter = click.option(
    "--inverter",
    metavar="NAME:KEY=VALUE,...",
    help=f"How the picture is inverted, see `zerocon methods`. {_default('inverter')}",
)

guidance = click.option(
    "--guidance",
    multiple=True,
    metavar="NAME:KEY=VALUE,...",
    help="What keeps the rest of the picture; repeat to combine, see `zerocon methods`; or none. "
    f"[default: {' and '.join(Settings.guidance)}]",
)

cache_source = click.option(
    "--cache-source/--recompute-source",
    default=None,
    help="Keep what the source showed at every step in memory, or look at the source again beside "
    "the edit: the same picture, in less memory and more time. [default: remember]",
)

fast = click.option(
    "--fast",
    is_flag=True,
    help="A third of the evaluations: "
    f"{', '.join(f'{name} {_text(value)}' for name, value in FAST.items())}, unless you say.",
)

preset = click.option(
    "--preset",
    metavar="NAME",
    shell_complete=config_file.complete_preset,
    help=f"Options by one name: {', '.join(PRESETS)}, or [presets.NAME] of {config_file.FILE}; "
    "under those you give beside it.",
)

recipe = click.option(
    "--recipe",
    metavar="PICTURE",
    type=click.Path(path_type=Path),
    help="The settings, not the words, of a picture that zerocon edited; under those you give.",
)

manner = together(
    fast,
    preset,
    recipe,
    steps,
    inverter,
    click.option(
        "--guidance-scale",
        type=scale,
        metavar="W or A..B",
        help=f"Classifier-free guidance; A..B from noise to picture. {_default('guidance_scale')}",
    ),
    guidance,
    click.option(
        "--direction-from",
        metavar="NAME",
        help="What --to becomes a direction between: many sentences of a bank, the caption before "
        f"and after, or the mean of both ({', '.join(DIRECTION_FROM)}). {_default('direction_from')}",
    ),
    click.option(
        "--guidance-range",
        type=share,
        metavar="A..B",
        help="Share of the steps, counted from noise, on which guidance acts. "
        f"[default: {_text(Settings.guidance_range)}]",
    ),
    click.option(
        "--direction-positions",
        type=click.Choice(DIRECTION_POSITIONS),
        help="Add the direction at all positions of the caption, or not at words that stay. "
        f"{_default('direction_positions')}",
    ),
    click.option(
        "--guidance-prompt",
        type=click.Choice(GUIDANCE_PROMPTS),
        help="The sentence guidance reads the edit under: the wish, the caption as the released "
        f"pix2pix-zero does, or both. {_default('guidance_prompt')}",
    ),
    click.option(
        "--reuse-prediction/--recompute-prediction",
        default=None,
        help="Evaluations of a guided step: 1 saves one, and is a little less exact. "
        f"{_default('reuse_prediction')}",
    ),
    click.option(
        "--guidance-balance",
        type=float,
        help="Let later guidances pull this many times as hard as the first, measured once. "
        "[default: their own weights]",
    ),
    click.option(
        "--polyak-step/--no-polyak-step",
        default=None,
        help="Shorten guidance's gradient to a step that cannot swing. [default: as weighted]",
    ),
    click.option(
        "--source-correction/--no-source-correction",
        default=None,
        help="Walk as a difference from the source, or denoise as DDIM does. [default: corrected]",
    ),
    click.option(
        "--guidance-limit",
        type=length,
        metavar="C or C,CHANGE=C,...",
        help="Longest guidance gradient in lengths of the latents, for 50 steps: of fewer each may "
        f"be longer. By kind of change ({', '.join(CHANGES)}): 0.01,style=0.05. [default: no cap]",
    ),
    cache_source,
)

method = together(manner, strength, seed)
