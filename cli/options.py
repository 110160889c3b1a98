"""Options that several commands share, and what they mean. Defaults are read from ``Settings``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import click
import cloup
from click.core import ParameterSource

from zerocon.errors import UntrustedReferenceError
from zerocon.image import MEGAPIXELS, METADATA_LEVELS, MOST_MEGAPIXELS
from zerocon.model.spec import LOAD_OPTIONS as LOAD_OPTIONS
from zerocon.settings import (
    DEFAULT_CAPTIONER,
    DEFAULT_CLIP,
    DEFAULT_MODEL,
    DEFAULT_SEGMENTER,
    NONE,
    PRESETS,
    Settings,
    option_of,
    without_none,
)

from . import config_file
from .collection import paused_collection
from .help import QUIET as QUIET
from .help import ExpertOption
from .progress import status

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon import Cache, Model, Recipe
    from zerocon.image.masks import UserMask
    from zerocon.recipe.translation_recipe import TranslationRecipe

VERBOSE = "zerocon.verbose"  # in the context's meta, where the group finds it after an error
FORMAT = "zerocon.format"
MODELS = ("model", "vae", "captioner", "clip", "segmenter")  # options that name one
FORMATS = ("human", "json", "jsonl", "quiet")
FORMAT_OPTION = re.compile("--format(=|$)")

F = TypeVar("F", bound=Callable[..., Any])


# values of options


def number_range(text: str) -> tuple[float, float]:
    """``A..B``, two numbers."""
    first, _, last = text.partition("..")
    try:
        return float(first), float(last)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a range A..B, such as 0..0.6") from None


def integer_or_none(text: Any) -> int | str:
    """An integer, or "none"."""
    return NONE if text == NONE else int(click.INT.convert(text, None, None))


def number_or_none(text: Any) -> float | str:
    """A number, or "none"."""
    return NONE if text == NONE else float(click.FLOAT.convert(text, None, None))


def number_or_range(text: str) -> float | str | tuple[float, float]:
    """A number, ``A..B``, or "none"."""
    if text == NONE:
        return text
    if ".." in text:
        return number_range(text)
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a number nor a range A..B, such as 7..3"
        ) from None


def number_by_change(text: str) -> float | str:
    """A number, "none", or a number and further ones for kinds of change: ``0.01,style=0.05``."""
    if text == NONE or "=" in text:
        return text  # validated with the setting
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a number nor numbers by kind of change, such as 0.01,style=0.05"
        ) from None


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


def positive_numbers(text: str) -> tuple[float, ...]:
    """Numbers above zero, separated by commas; each once."""
    try:
        numbers = tuple(dict.fromkeys(map(float, text.split(","))))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < each < math.inf for each in numbers):
        raise click.BadParameter(f"{text!r} is not a list of numbers above zero, such as 0.5,2")
    return numbers


# what the options of the running command mean


def together(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options as one decorator, listed in this order by ``--help``."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def metadata_level(help: str) -> Callable[[F], F]:
    """``--metadata``: what of the recipe and the mark a result has."""
    default = METADATA_LEVELS[0]
    return click.option(
        "--metadata",
        type=click.Choice(METADATA_LEVELS),
        default=default,
        metavar="LEVEL",
        help=f"{help} [default: {default}]",
    )


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
    from_recipe = _recipe_settings(values)
    # a recipe, like a preset, overrides the file and the environment
    overridden = {
        name
        for name in from_recipe
        if not on_command_line(name) and values.get(name) is options.get(name)
    }
    settings = {f.name: values.get(f.name) for f in fields(Settings) if f.name not in overridden}
    explicit = {name: value for name, value in settings.items() if value not in (None, ())}
    for option in click.get_current_context().command.params:
        if option.name in SEVERAL and option.name in explicit and option.multiple:
            explicit[option.name] = explicit[option.name][0]
    return {**from_recipe, **validated(explicit)}


def several(values: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The settings of which ``edit`` was given more than one value, with the values."""
    given = {name: tuple(dict.fromkeys(values[name])) for name in SEVERAL}
    for name, some in given.items():
        for value in some:
            validated({name: value})
    return {name: some for name, some in given.items() if len(some) > 1}


def validated(settings: dict[str, Any]) -> dict[str, Any]:
    """The same settings, if their values and methods exist; "none" is no method, or None."""
    settings = without_none(settings)
    checked = Settings().overlay(settings)
    methods = [("guidance", text) for text in settings.get("guidance", ())]
    methods += [("inverter", settings["inverter"])] if "inverter" in settings else []
    if "attention" in settings:
        methods += [("attention", text) for text in checked.attention_controls]
    if methods:
        from zerocon.registry import resolve  # imports torch, hence last

        for family, text in methods:
            resolve(family, text)
    return settings


def _recipe_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in the recipe of the edited image that ``--recipe`` names."""
    if values.get("recipe") is None:
        return {}
    from zerocon.recipe import Recipe

    limit = values.get("max_megapixels", MEGAPIXELS)  # `bench` reads no other images
    recipe = Recipe.read(values["recipe"], max_megapixels=limit)
    recipe.require_known_settings()
    recipe.require_within_limits()
    return asdict(recipe.settings)


def load_model(values: Mapping[str, Any]) -> Model:
    """The model that the ``model`` options name."""
    with loading(values["model"]):
        import zerocon

        return zerocon.load(values["model"], **{name: values.get(name) for name in LOAD_OPTIONS})


@contextmanager
def loading(name: str | None) -> Iterator[None]:
    """Show the name of a model on a terminal while it is loaded, and torch with it."""
    line = f"Loading {name or DEFAULT_MODEL} ..."
    owns_process = bool(click.get_current_context().find_root().obj)
    with status(line, is_quiet()), paused_collection(exempt=owns_process):
        yield


def load_recipe_model(values: Mapping[str, Any], recipe: Recipe | TranslationRecipe) -> Model:
    """The model of a recipe, except for what the ``replay_model`` options override."""
    import zerocon
    from zerocon.storage.paths import names_path

    if values["model"] is None and names_path(recipe.model):
        raise UntrustedReferenceError(
            f"the recipe names the model {recipe.model!r}, which is or could be a path; give the "
            "model: --model"
        )
    try:
        name, given = values["model"] or recipe.model, recipe.load_options()
        given |= {option: values[option] for option in ("device", "dtype", "vae") if values[option]}
        if not values["vae"] and "vae" in given and names_path(str(given["vae"]), part=True):
            raise UntrustedReferenceError(
                f"the recipe names the VAE {given['vae']!r}, which is or could be a path; give the "
                "VAE: --vae"
            )
        with loading(name):
            model: Model = zerocon.load(name, clip=values["clip"], **given)
    except zerocon.MissingError as error:
        hint = "" if values["model"] else "; or give the location of the recipe's model: --model"
        replaced = type(error)(f"{error}{hint}")
        replaced.path, replaced.hints = error.path, error.hints
        raise replaced from None
    recipe.require_model(model)
    return model


def user_mask(values: Mapping[str, Any], image: Image) -> UserMask | None:
    """The mask that the options give for an image; None where the edit finds its support."""
    from zerocon.image.masks import read_mask

    if values["mask"] and values["mask_text"]:
        raise click.UsageError("--mask and --mask-text both say what may change; give one of them")
    if values["mask"]:
        limit = values["max_megapixels"]
        return read_mask(values["mask"], image.size, max_megapixels=limit)
    if not values["mask_text"]:
        return None
    from zerocon.model.runtime import pick_device
    from zerocon.model.segmenter import Segmenter

    with loading(values["segmenter"] or DEFAULT_SEGMENTER):
        segmenter = Segmenter.load(values["segmenter"], device=pick_device(values["device"]))
        return read_mask(segmenter.mask(image, values["mask_text"]), image.size)


def cache(values: Mapping[str, Any], warn: Callable[[str], None]) -> Cache | None:
    """The cache of inversions, or None with ``--no-cache``."""
    import zerocon

    return None if values["no_cache"] else zerocon.Cache(on_warning=warn)


def input_files(values: Mapping[str, Any], *others: Path | None) -> tuple[Path, ...]:
    """Every file that the options make the command read, and ``others``: none may be written."""
    from zerocon.model.local_files import files_of

    names = ("inversion", "mask", "recipe", "manifest", "files_from")
    folder = values.get("network")
    files = [] if folder is None else [*folder.iterdir()]
    files += [Path(values[name]) for name in names if values.get(name) is not None]
    files += [
        Path(each[0] if isinstance(each, tuple) else each) for each in values.get("directions", ())
    ]
    files += [each for each in others if each is not None]
    config = click.get_current_context().meta.get(config_file.META)
    files += [config.path] if config and config.path else []
    return (*files, *files_of(*(values.get(name) for name in MODELS)))


def _store_verbose(ctx: click.Context, _: click.Parameter, verbose: bool) -> None:
    ctx.meta[VERBOSE] = verbose


def format_in(words: Sequence[str]) -> str | None:
    """The format that a command line names, also one that click cannot parse; None if none."""
    pairs = zip(words, [*words[1:], ""], strict=True)
    given = [word.partition("=")[2] or after for word, after in pairs if FORMAT_OPTION.match(word)]
    return given[-1] if given and given[-1] in FORMATS else None


def _store_format(ctx: click.Context, option: click.Parameter, value: str) -> str:
    ctx.meta[FORMAT] = value
    return str(_store_quiet(ctx, option, value))


def _store_quiet(ctx: click.Context, _: click.Parameter, value: bool | str) -> bool | str:
    ctx.meta[QUIET] = ctx.meta.get(QUIET, False) or value in (True, "quiet")
    return value


def _text(value: Any, unset: str) -> str:
    """A default as it is typed on the command line; methods as a list; ``unset`` for None."""
    if value in (None, ()):
        return unset
    if isinstance(value, tuple):
        return (" and " if isinstance(value[0], str) else "..").join(map(str, value))
    return str(value)


def _setting(name: str, *, repeated: bool = False) -> Callable[[F], F]:
    """The option of a field of ``Settings``, from the field's type, rule, help and default."""
    field, hint = Settings.__dataclass_fields__[name], get_type_hints(Settings)[name]
    option, flag = option_of(field), name.replace("_", "-")
    default = _text(field.default, option.unset)
    if hint is bool:
        default = f"--{flag}" if field.default else f"--{option.off}"
    return click.option(
        f"--{flag}/--{option.off}" if hint is bool else f"--{flag}",
        cls=cloup.Option if name in USUAL else ExpertOption,
        type=click.Choice(option.rule.choices) if option.rule.choices else TYPES[hint],
        default=None,
        multiple=repeated or hint == METHODS,
        metavar=option.metavar or METAVARS.get(hint),
        help=f"{option.help} [default: model's, else {default}]",
    )


METHODS = tuple[str, ...]
TYPES: Mapping[Any, Any] = {  # of a setting: what its option's value is read with
    bool: bool,
    int: int,
    int | None: integer_or_none,
    float: float,
    float | None: number_or_none,
    float | tuple[float, float] | None: number_or_range,
    tuple[float, float]: number_range,
    float | str | None: number_by_change,
    float | str: number_by_change,
    str: str,
    METHODS: str,
}
METAVARS: Mapping[Any, str] = {int: "N", int | None: "N", float: "X", float | None: "X"}
USUAL = ("strength", "steps", "seed", "guidance_scale", "guidance")  # listed by --help
REGION = ("lock", "crop", "composite")  # that decide which pixels change
NAMES = tuple(field.name for field in fields(Settings))
PER_JOB = ("strength", "seed")  # that a batch takes several values of
SEVERAL = ("seed", "strength", "guidance_scale")  # that an edit does with --grid, rows first


# kinds of options


def count(name: str, default: int, help: str, *, least: int = 1) -> Callable[[F], F]:
    """An option with a number of at least ``least``, whose help ends in its default."""
    return click.option(
        name, metavar="N", type=click.IntRange(least), default=default, show_default=True, help=help
    )


def written_file(
    *names: str, help: str, expert: bool = False, metavar: str = "FILE"
) -> Callable[[F], F]:
    """An option that names a file or directory to write."""
    return click.option(
        *names,
        cls=ExpertOption if expert else None,
        metavar=metavar,
        type=click.Path(path_type=Path),
        help=help,
    )


def output(help: str) -> Callable[[F], F]:
    """``-o``, the file that a command writes."""
    return written_file("-o", "--output", help=help)


# the options

image_path = click.argument("image_path", metavar="IMAGE", type=click.Path(path_type=Path))

lenient = click.option(
    "--lenient",
    cls=ExpertOption,
    is_flag=True,
    help="Read a JPEG or JPEG 2000 of which a part is missing; it is gray or black.",
)

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
    click.option(
        "--ask",
        cls=ExpertOption,
        is_flag=True,
        help="On a terminal, if the prompt is unclear, offer prompts that are understood.",
    ),
)

max_megapixels = click.option(
    "--max-megapixels",
    cls=ExpertOption,
    type=click.FloatRange(0, MOST_MEGAPIXELS, min_open=True),
    default=MEGAPIXELS,
    metavar="N",
    help=f"Limit of an image in million pixels. [default: {MEGAPIXELS:g}]",
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
    is_eager=True,  # an error of another option is printed in this format
    callback=_store_format,
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
    cls=ExpertOption,
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
    cls=ExpertOption,
    metavar="NAME",
    help="float32, float16, bfloat16. [default: float16 on GPUs, else float32]",
)

compiled = click.option(
    "--compile",
    is_flag=True,
    cls=ExpertOption,
    help="Compile the U-Net: minutes at the first call, less time per call later.",
)

prediction = click.option(
    "--prediction",
    cls=ExpertOption,
    metavar="NAME",
    help="epsilon or v_prediction, for weights that do not state it. [default: model's]",
)

offload = click.option(
    "--offload",
    cls=ExpertOption,
    is_flag=True,
    help="Keep networks in CPU memory until they run.",
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
    prediction,
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
    click.option(
        "--vae",
        cls=ExpertOption,
        metavar="NAME",
        help="VAE: a directory, a .safetensors file or a Hub id. [default: model's]",
    ),
    click.option(
        "--clip-skip",
        cls=ExpertOption,
        type=click.IntRange(min=0),
        metavar="N",
        help="Leave out the last N layers of the text encoder. [default: 0]",
    ),
)

network = click.option(
    "--network",
    cls=ExpertOption,
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Trained networks of a translation, of `zerocon train translate`. [default: package's]",
)

performance = (
    device,
    dtype,
    offload,
    click.option(
        "--tile",
        cls=ExpertOption,
        is_flag=True,
        help="Encode and decode in blended tiles, to save memory.",
    ),
    compiled,
)

model = together(model_names, cloup.option_group("Performance", *performance))

measured_model = (device, dtype, offload, prediction)  # what a measurement depends on

model_with_reuse = together(
    model_names,
    cloup.option_group("Performance", *performance[:2], inversion, no_cache, *performance[2:]),
)

replay_model = together(
    click.option("--model", metavar="NAME", help="Model to load. [default: recipe's]"),
    click.option("--device", metavar="NAME", help="Device to compute on. [default: recipe's]"),
    click.option("--dtype", metavar="NAME", help="Precision to compute in. [default: recipe's]"),
    click.option("--clip", metavar="NAME", help="CLIP model. [default: model's]"),
    click.option("--vae", metavar="NAME", help="VAE. [default: recipe's, else model's]"),
)

settings = {name: _setting(name) for name in dict.fromkeys((*USUAL, *NAMES))}

fast = click.option(
    "--fast",
    is_flag=True,
    help="Preset without guidance losses: attention control alone.",
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

_method = [name for name in settings if name not in REGION]
_edit_method = [
    _setting(name, repeated=True) if name in SEVERAL else settings[name] for name in _method
]

mask = click.option(
    "--mask",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Mask image: white where pixels may change.",
)

mask_text = (
    click.option(
        "--mask-text",
        metavar="TEXT",
        help='What may change, in words: "the hat".',
    ),
    click.option(
        "--segmenter",
        cls=ExpertOption,
        metavar="NAME",
        help=f"Segmentation model (CLIPSeg) for --mask-text. [default: {DEFAULT_SEGMENTER}]",
    ),
)

region = tuple(settings[name] for name in REGION)

common_method = together(
    cloup.option_group(
        "Method", fast, *(settings[name] for name in _method if name not in PER_JOB), preset, recipe
    ),
    cloup.option_group("Region", *mask_text, *region),
)

method = cloup.option_group("Method", fast, *settings.values(), preset, recipe)

method_with_mask = together(
    cloup.option_group("Method", fast, *_edit_method, preset, recipe),
    cloup.option_group("Region", mask, *mask_text, *region),
)
