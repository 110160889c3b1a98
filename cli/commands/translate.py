"""``zerocon translate``: the structure of one image in the appearance of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import cloup

from zerocon.exemplar.translation_settings import (
    AUTO,
    COLOR_MATCHES,
    DEFAULT_TRANSLATION_MODEL,
    KINDS,
    MATCHERS,
    TranslationSettings,
)
from zerocon.image.naming import slug
from zerocon.image.read_options import ReadOptions

from .. import options, render, stdio
from ..help import ExpertOption
from ..help import command as help_command
from ..progress import progress_bar, status

if TYPE_CHECKING:
    from zerocon import Model, Translation
    from zerocon.exemplar.condition import Condition
    from zerocon.exemplar.translation_checks import Exemplar

F = TypeVar("F", bound=Callable[..., Any])

DEFAULTS = TranslationSettings
RANGE = "{:g}..{:g}".format(*DEFAULTS.range)
NAMES = {"edge": "edge map", "label": "label map", "sketch": "sketch", "image": "image"}


def setting(name: str, metavar: str, help: str, **more: Any) -> Callable[[F], F]:
    """The option of a setting, with its default."""
    default = more.setdefault("default", getattr(DEFAULTS, name))
    more.setdefault("type", type(default))
    shown = f"{default:g}" if isinstance(default, float) else "none" if default == "" else default
    text = f"{help} [default: {shown}]"
    return click.option(f"--{name.replace('_', '-')}", metavar=metavar, help=text, **more)


inputs = cloup.option_group(
    "Input",
    click.option(
        "-e",
        "--exemplar",
        "exemplars",
        type=options.weighted_file,
        multiple=True,
        required=True,
        metavar="FILE[:W]",
        help="Image that gives the appearance, with its weight; repeatable.",
    ),
    setting(
        "condition",
        "KIND",
        f"What CONDITION is: {', '.join(KINDS)}, or {AUTO}.",
        type=click.Choice((AUTO, *KINDS)),
    ),
    options.lenient,
)

outputs = cloup.option_group(
    "Output",
    options.output("Translated image; - is stdout. [default: CONDITION-EXEMPLAR.png]"),
    options.overwrite,
    click.option(
        "-n",
        "--dry-run",
        is_flag=True,
        help="Print the kind of the condition and the cost only.",
    ),
    options.written_file(
        "--compare", help="Also save condition, exemplars and result side by side."
    ),
    options.written_file(
        "--save-warp", help="Also save the exemplars, moved to where they match the condition."
    ),
    options.written_file(
        "--save-confidence",
        help="Also save the confidence of the match: white where it is certain.",
    ),
    options.metadata_level("full (mark of AI images and recipe), minimal (the mark) or none."),
)

method = cloup.option_group(
    "Method",
    setting(
        "method",
        "METHOD",
        "promote, attention, warp or adain, NAME[:KEY=VALUE,...], see `zerocon methods`.",
    ),
    setting("structure", "X", "Scale of the condition's influence."),
    setting("appearance", "X", "Scale of the exemplar's influence."),
    setting("steps", "N", "Denoising steps."),
    setting("seed", "N", "Random seed."),
    setting("prompt", "TEXT", "Caption of the result."),
    setting(
        "color_match",
        "NAME",
        "global: the exemplar's mean color and contrast; or none.",
        type=click.Choice(COLOR_MATCHES),
    ),
    setting(
        "matcher",
        "NAME",
        "What compares condition and exemplar: trained encoders, dift (features of the model's "
        "U-Net) or position.",
        type=click.Choice(MATCHERS),
        cls=ExpertOption,
    ),
    setting(
        "range",
        "A..B",
        "Share of the steps, from noise, at which the warp is blended in, of --method "
        "promote:reinjection=X.",
        type=options.number_range,
        default=RANGE,
        cls=ExpertOption,
    ),
)

model_options = cloup.option_group(
    "Model",
    click.option(
        "-m",
        "--model",
        metavar="NAME",
        help="As in `zerocon edit`, for all methods but promote. "
        f"[default: {DEFAULT_TRANSLATION_MODEL}]",
    ),
    options.network,
    options.prediction,
    options.device,
    options.dtype,
)


@help_command(
    "translate",
    examples=(
        "zerocon translate labels.png --exemplar fox.png",
        "zerocon translate edges.png --exemplar fox.png --exemplar owl.png:0.5 -o out.png",
        "zerocon translate photo.jpg --exemplar painting.jpg --method attention --model NAME",
        "zerocon translate labels.png --exemplar fox.png --save-warp warp.png --compare all.png",
    ),
)
@click.argument("condition_path", metavar="CONDITION", type=click.Path(path_type=Path))
@inputs
@outputs
@method
@model_options
@options.max_megapixels
@options.output_format
@options.verbosity
def command(condition_path: Path, **values: Any) -> None:
    """Give the structure of CONDITION the appearance of an exemplar.

    CONDITION is an edge map, a label map, a sketch or an image, - for stdin. Each part of the
    result is dressed like the part of the exemplar that matches it.
    """
    with options.loading(values["model"] or DEFAULT_TRANSLATION_MODEL):
        run = TranslationRun.of(condition_path, values)
    run.plan() if values["dry_run"] else run()


@dataclass
class TranslationRun:
    """One run of the command: what it reads, its outputs, and the model.

    Attributes:
        warnings: Lines that were printed.
    """

    condition_path: Path
    values: dict[str, Any]
    condition: Condition
    exemplars: list[Exemplar]
    settings: TranslationSettings
    model: Model
    outputs: TranslationOutputs
    warnings: list[str]

    @classmethod
    def of(cls, condition_path: Path, values: dict[str, Any]) -> TranslationRun:
        """Read all inputs and check all outputs, then load the model."""
        from zerocon.exemplar.condition import read_condition
        from zerocon.exemplar.translation_checks import Exemplar, checked_weight, file_warnings

        if any(path == stdio.PIPE for path, _ in values["exemplars"]):
            raise click.UsageError("only CONDITION can be read from stdin; name the exemplar")
        reading, settings, references = ReadOptions.of(values), settings_of(values), []
        photograph = stdio.read(condition_path, reading)
        for path, weight in values["exemplars"]:
            read, name = stdio.parse(path, reading), str(path)
            doubts = file_warnings(read, name)
            references.append(Exemplar(read.image, checked_weight(weight), name, doubts))
        outputs = TranslationOutputs.of(condition_path, values)
        doubts = file_warnings(photograph, str(stdio.source(condition_path) or "stdin"))
        condition = read_condition(photograph.image, settings.condition, doubts)
        warnings = ineffective(settings, values)
        render.warn(warnings)
        given = dict(values)
        if settings.uses_shipped_model or given["model"] is None:
            given["model"] = DEFAULT_TRANSLATION_MODEL
        model = options.load_model(given)
        facts = (condition, references, settings, model, outputs, warnings)
        return cls(condition_path, values, *facts)

    def __call__(self) -> None:
        """Translate the image, write all outputs, print the result."""
        from zerocon.exemplar.translation import translate_condition

        quiet = options.is_quiet()
        with status("Translating ...", quiet), progress_bar("Translating", quiet) as tick:
            translation = translate_condition(
                self.condition, self.exemplars, self.settings,
                model=self.model, network=self.values["network"], progress=tick,
                on_condition=partial(print_condition, quiet), on_warning=self.warn,
            )  # fmt: skip
        facts = self.outputs.write(translation, self.model, self.warn)
        record = self.record("translated", translation.settings) | facts
        record |= {"evaluations": render.cost(translation.evaluations)}
        record |= {"mean_confidence": translation.mean_confidence, "warnings": self.warnings}
        if self.outputs.output != stdio.PIPE:
            render.print_result(self.values["form"], str(self.outputs.output), record)

    def plan(self) -> None:
        """Print what the translation would do and cost."""
        from zerocon.diagnostics.translation_cost import estimate_translation
        from zerocon.exemplar.translation import inputs_of, resolved
        from zerocon.exemplar.translation_checks import check_inputs

        quiet, settings = options.is_quiet(), resolved(self.settings, self.condition)
        print_condition(quiet, self.condition)
        prepared = self.condition.prepare(self.model.working_size)
        for line in check_inputs(self.condition, self.exemplars, prepared):
            self.warn(line)
        given = {"model": self.model, "network": self.values["network"]}
        cost = estimate_translation(inputs_of(self.condition, self.exemplars, settings, **given))
        record = self.record("planned", settings) | self.outputs.record()
        record |= {"evaluations": render.cost(cost.evaluations), "mean_confidence": None}
        record |= {"operations": cost.operations, "bytes": render.memory(cost)}
        record |= {"warnings": self.warnings, "dry_run": True}
        line = f"{self.outputs.output}: {render.plan(cost)}; {render.working_size(prepared.frame)}"
        render.print_result(self.values["form"], line, record)

    def warn(self, line: str) -> None:
        """Print a warning, and keep it for the record."""
        render.warn([line])
        self.warnings.append(line)

    def record(self, state: str, settings: TranslationSettings) -> dict[str, Any]:
        """What a translation, done or planned, has in the schema ``zerocon.translation/1``."""
        detected = self.condition.detected
        frame = self.condition.prepare(self.model.working_size).frame
        return {
            "schema": "zerocon.translation/1",
            "state": state,
            "input": str(self.condition_path),
            "exemplars": [
                {"file": str(path), "weight": weight} for path, weight in self.values["exemplars"]
            ],
            "condition": {
                "kind": settings.condition,
                "detected": detected is not None,
                "reason": detected and detected.reason,
            },
            "model": self.model.name,
            "settings": asdict(settings),
            "seed": settings.seed,
            "working_size": frame.inner,
            "reduction": round(frame.reduction, 2),
        }


@dataclass(frozen=True)
class TranslationOutputs:
    """The files of a translation: checked before a model is loaded, written when it is done."""

    output: Path
    compare: Path | None
    save_warp: Path | None
    save_confidence: Path | None
    overwrite: bool
    metadata: str

    @classmethod
    def of(cls, condition_path: Path, values: Mapping[str, Any]) -> TranslationOutputs:
        """The files that the options name; raises if one of them cannot be written."""
        output = values["output"] or default_output(condition_path, values["exemplars"][0][0])
        if output == stdio.PIPE and (form := values["form"]).startswith("json"):
            raise click.UsageError(
                f"-o - and --format {form} would both write to stdout; name the output: -o FILE"
            )
        if output == stdio.PIPE:
            stdio.require_pipe()
        result = cls(output, **{name: values[name] for name in [f.name for f in fields(cls)[1:]]})
        files = [Path(path) for path, _ in values["exemplars"]]
        result.check(options.input_files(values, stdio.source(condition_path), *files))
        return result

    def check(self, inputs: tuple[Path, ...]) -> None:
        """Raise for any file that cannot be written."""
        from zerocon.image.saving import check_output
        from zerocon.storage.paths import folded

        named = {f"--{n.replace('_', '-')}": getattr(self, n) for n in EXTRA}
        named["-o"] = None if self.output == stdio.PIPE else self.output
        files = {option: path for option, path in named.items() if path}
        for path in files.values():
            check_output(path, overwrite=self.overwrite, inputs=inputs)
        for (one, path), (other, same) in combinations(files.items(), 2):
            if folded(path.resolve()) == folded(same.resolve()):
                raise click.UsageError(f"{other} and {one} name the same file")

    def record(self) -> dict[str, Any]:
        """The names of the files, as fields of the schema ``zerocon.translation/1``."""
        names = {"output": self.output, "compare": self.compare}
        names |= {"warp": self.save_warp, "confidence": self.save_confidence}
        return {name: path and str(path) for name, path in names.items()}

    def write(
        self, translation: Translation, model: Model, warn: Callable[[str], object]
    ) -> dict[str, Any]:
        """Write all files; returns their names for the record."""
        from zerocon.image.formats import NAMED, format_of
        from zerocon.image.metadata import Provenance
        from zerocon.image.saving import encode_image, save_image
        from zerocon.recipe.translation_recipe import TranslationRecipe

        recipe = partial(TranslationRecipe.of, translation, model)
        complete = Provenance.at(self.metadata, lambda: recipe().to_json())
        mark = None if complete is None else Provenance()
        save = partial(save_image, overwrite=self.overwrite)
        pipe = self.output == stdio.PIPE
        format = NAMED["PNG"] if pipe else format_of(self.output)
        for line in complete.format_warnings(format.name) if complete else ():
            warn(line)
        if pipe:
            stdio.send(encode_image(translation.image, format, complete))
        else:
            save(translation.image, self.output, provenance=complete)
        if self.compare:
            save(comparison(translation), self.compare, provenance=mark)
        if self.save_warp and translation.warped:
            save(translation.warped, self.save_warp, provenance=mark)
        if self.save_confidence and translation.confidence:
            save(translation.confidence.convert("RGB"), self.save_confidence)
        return self.record()


EXTRA = ("compare", "save_warp", "save_confidence")


def settings_of(values: Mapping[str, Any]) -> TranslationSettings:
    """The settings that the options give; a ``UsageError`` if the outputs do not fit them."""
    from zerocon.exemplar.translators import translator_of

    names = [each.name for each in fields(TranslationSettings)]
    settings = TranslationSettings(**{name: values[name] for name in names})
    for name in EXTRA[1:]:
        if values[name] and "matcher" not in translator_of(settings).USES:
            flag = name.replace("_", "-")
            raise click.UsageError(
                f"--method {settings.method} matches nothing that --{flag} could save; omit it"
            )
    return settings


def ineffective(settings: TranslationSettings, values: Mapping[str, Any]) -> list[str]:
    """Warnings about options on the command line that cannot change the result."""
    from zerocon.exemplar.translators import translator_of, uses_network

    used, why = translator_of(settings).USES, f"has no effect with --method {settings.method}"
    if settings.matcher == "dift" and "matcher" in used:
        used = used | {"seed", "prompt"}
    idle = [name for name in OPTIONAL if name not in used and options.on_command_line(name)]
    lines = [f"--{name.replace('_', '-')} {why}" for name in idle]
    if settings.uses_shipped_model and options.on_command_line("model"):
        lines.append(f"--model {why}, whose weights belong to {DEFAULT_TRANSLATION_MODEL}")
    blends = getattr(translator_of(settings), "reinjection", 1)
    if "range" in used and not blends and options.on_command_line("range"):
        lines.append("--range has no effect without promote:reinjection=X")
    if options.on_command_line("network") and not uses_network(settings):
        lines.append(f"--network {why} and --matcher {settings.matcher}")
    weights = {weight for _, weight in values["exemplars"]}
    if len(weights) > 1 and "weights" not in used:
        lines.append(f"the weight of an exemplar {why}")
    return lines


OPTIONAL = ("matcher", "structure", "appearance", "steps", "seed", "prompt", "range")


def default_output(condition_path: Path, exemplar: Path) -> Path:
    """``labels-fox.png`` for ``labels.jpg`` and ``fox.png``, next to the condition."""
    path = stdio.require_name(condition_path)
    return path.with_name(f"{path.stem}-{slug(exemplar.stem) or 'translated'}.png")


def print_condition(quiet: bool, condition: Condition) -> None:
    """Which kind the condition was detected to be, and by what, on one line."""
    if condition.detected is None or quiet:
        return
    kind = NAMES[condition.detected.kind]
    others = " or ".join(each for each in KINDS if each != condition.detected.kind)
    render.print_message(
        f"Condition: {kind} ({condition.detected.reason}); if it is none: --condition {others}"
    )


def comparison(translation: Translation) -> Any:
    """The sheet of ``--compare``: condition, exemplars in its size, result."""
    from PIL import ImageOps

    from zerocon.image.contact_sheet import sheet

    exemplars, size = translation.exemplars, translation.image.size
    images = [ImageOps.contain(each.image, size) for each in exemplars]
    images = [translation.condition.source, *images, translation.image]
    labels = [NAMES[translation.condition_kind]]
    labels += [f"exemplar{f' x {e.weight:g}' if e.weight != 1 else ''}" for e in exemplars]
    labels.append(translation.settings.method)
    return sheet(images, labels, len(images))
