"""``zerocon edit``: edit one image."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from zerocon.errors import NothingToChangeError, UnclearPromptError
from zerocon.image.naming import output_name, prompt_of, words_of
from zerocon.image.read_options import ReadOptions

from .. import edit_outputs, options, render, stdio
from ..dry_run import print_edit_plan
from ..edit_outputs import EditOutputs
from ..help import HelpCommand
from ..progress import progress_bar, status

if TYPE_CHECKING:
    from zerocon import Model
    from zerocon.diagnostics.grid import Axis
    from zerocon.image.reading import Photograph


READING = "Captioning the image and parsing the prompt ..."  # with models that are loaded for it
NO_EDIT = {"strength", "guidance_scale"}  # settings whose warning says that nothing is edited
IDLE: tuple[tuple[str, str, Callable[[Mapping[str, Any]], bool]], ...] = (
    ("segmenter", "has no effect without --mask-text", lambda values: not values["mask_text"]),
    (
        "captioner",
        "has no effect with a given caption",
        lambda values: values["caption"] is not None or values["inversion"] is not None,
    ),
    (
        "direction_from",
        "has no effect without a prompt",
        lambda values: values["to"] is None and values["to_caption"] is None,
    ),
)  # options that are no settings of the method, or whose effect depends on others


class EditCommand(HelpCommand):
    """Explains what to do with further arguments: they are prompts or images."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            if ctx.params["to"] is not None or Path(rest[0]).exists():
                raise click.UsageError(
                    f'unexpected argument "{rest[0]}"; for several images use zerocon batch'
                )
            prompt = shlex.quote(" ".join(rest))
            raise click.UsageError(
                f'unexpected argument "{rest[0]}"; the prompt is an option: --to {prompt}'
            )
        return rest


@cloup.command(
    "edit",
    cls=EditCommand,
    examples=(
        "zerocon edit fox.png --to dog --model mini",
        'zerocon edit cat.jpg --to "a red hat" --strength 1.2 -o hat.png',
        'zerocon edit cat.jpg --from "a hat" --to ""',
        "zerocon edit cat.jpg --to dog --fast --compare both.png",
    ),
)
@options.image_path
@options.lenient
@options.prompt
@edit_outputs.output_options
@options.method_with_mask
@options.model_with_reuse
@options.max_megapixels
@options.output_format
@options.verbosity
def command(image_path: Path, **values: Any) -> None:
    """Edit IMAGE, a file or - for stdin, as --to describes."""
    with options.loading(values["model"]):  # else silent until torch is imported
        run = EditRun.of(image_path, values)
    while True:
        try:
            return run()
        except NothingToChangeError as error:
            return run.report_unchanged(error)
        except UnclearPromptError as error:
            run.change_prompt(_choose(error, values))


@dataclass
class EditRun:
    """One run of the command: what it reads, its outputs, and the arguments of ``zerocon.edit``.

    Attributes:
        source: The image's file, or the bytes from stdin.
        axes: Settings with several values, for ``--grid``.
        idle: Options that were warned of, since they cannot change the result.
    """

    image_path: Path
    values: dict[str, Any]
    source: Path | bytes
    photograph: Photograph
    outputs: EditOutputs
    model: Model
    request: dict[str, Any]
    axes: list[Axis]
    idle: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, image_path: Path, values: dict[str, Any]) -> EditRun:
        """Read all inputs and check all outputs, then load the model."""
        import zerocon
        from zerocon.diagnostics.grid import Axis

        text, several = _prompt(values), _several(values)
        source = stdio.contents(image_path)
        photograph = stdio.parse(source, ReadOptions.of(values))
        directions = [(zerocon.Direction.load(file), w) for file, w in values["directions"]]
        text = f"{text} {words_of(each for each, _ in directions)}"
        outputs = EditOutputs.of(image_path, photograph, text, values)
        settings, cache = _settings(values), options.cache(values, outputs.warn)
        inversion = zerocon.Inversion.load(values["inversion"]) if values["inversion"] else None
        render.warn(outputs.warnings)
        mask = options.user_mask(values, photograph.image)
        for warning in mask.warnings if mask else ():
            outputs.warn(warning)
        model = options.load_model(values)
        request = {name: values[name] for name in options.PROMPT}
        request |= {"directions": directions, "inversion": inversion, "cache": cache, "mask": mask}
        request["settings"] = model.settings.overlay(settings)
        axes = [Axis(name, some) for name, some in several.items()]
        run = cls(image_path, values, source, photograph, outputs, model, request, axes)
        run.idle = run.warn_of_ineffective()
        return run

    def __call__(self) -> None:
        """Do what the options say."""
        if self.values["dry_run"]:
            self.plan()
        elif self.axes:
            self.edit_grid()
        else:
            self.edit()

    def change_prompt(self, text: str) -> None:
        """Take another ``--to``, and name the output after it if it has no name of its own."""
        self.values["to"] = self.request["to"] = text
        if not self.values["output"] and not self.values["grid"]:
            words = words_of(each for each, _ in self.request["directions"])
            self.outputs.output = output_name(self.image_path, f"{text} {words}")
            self.outputs.check()

    def plan(self) -> None:
        """Print what the edit would do and cost."""
        place, warnings = (self.image_path, self.outputs.output), self.outputs.warnings
        image, request = self.photograph.image, self.request
        with status(READING, options.is_quiet()):
            print_edit_plan(image, self.model, *place, self.values, warnings, self.axes, **request)

    def edit(self) -> None:
        """Edit the image, write all outputs, print the result."""
        import zerocon
        from zerocon.finishing import UNCHANGED

        outputs, model, quiet = self.outputs, self.model, options.is_quiet()
        outputs.begin(model, self.request["settings"])

        def warn(line: str) -> None:
            if line != UNCHANGED or not self.idle & NO_EDIT:  # else it is said already
                outputs.warn(line)

        with status(READING, quiet), progress_bar("Editing", quiet) as tick:
            edited = zerocon.edit(
                self.photograph.image, model=model, **self.request,
                on_request=partial(render.print_request, quiet),
                progress=tick, on_step=outputs.step_callback, on_warning=warn,
            )  # fmt: skip
        facts = outputs.write(edited, model, partial(zerocon.Recipe.of, edited, model))
        render.print_support(quiet, edited)
        about = (edited.request, edited.settings, model.name, edited.evaluations)
        place = (self.image_path, outputs.output)
        record = render.record(*about, edited.inversion_source, *place, self.values)
        if outputs.output != stdio.PIPE:
            render.print_result(self.values["form"], str(outputs.output), record | facts)

    def edit_grid(self) -> None:
        """Edit the image with all values of the axes, and write the sheet."""
        from zerocon.diagnostics.grid import edit_grid

        outputs, model, quiet = self.outputs, self.model, options.is_quiet()
        outputs.begin(model, self.request["settings"])
        with status(READING, quiet), progress_bar("Editing", quiet) as tick:
            grid = edit_grid(
                self.photograph.image, self.axes, model=model, **self.request,
                on_request=partial(render.print_request, quiet),
                progress=tick, on_warning=outputs.warn,
            )  # fmt: skip
        outputs.write_grid(grid.sheet())
        first = grid.edits[0]
        about = (first.request, first.settings, model.name, grid.evaluations)
        place = (self.image_path, outputs.output)
        record = render.record(*about, first.inversion_source, *place, self.values)
        record |= {"warnings": [*outputs.warnings, *first.request.warnings]}
        record |= render.region(first) | render.grid(grid)
        render.print_result(self.values["form"], str(outputs.output), record)

    def warn_of_ineffective(self) -> set[str]:
        """Warn of options on the command line that cannot change the result; their names."""
        from zerocon import api
        from zerocon.diagnostics.effects import find_ineffective
        from zerocon.diagnostics.grid import cells

        settings, values = self.request["settings"], self.values
        image = api.prepared_for(self.photograph.image, self.model, settings)
        given = {"inverted": self.request["inversion"], "masked": self.request["mask"]}
        facts: Any = {name: value is not None for name, value in given.items()}
        of_cells = [
            find_ineffective(chosen, image, self.model.vae_scale_factor, **facts)
            for chosen, _ in cells(settings, self.axes)
        ]
        edited = [each for each in of_cells if not each.keys() & NO_EDIT] or of_cells
        shared = set.intersection(*map(set, edited))
        reasons = {name: reason for name, reason in edited[0].items() if name in shared}
        reasons |= {name: reason for name, reason, applies in IDLE if applies(values)}
        idle = {name for name in reasons if options.on_command_line(name)}
        for name in sorted(idle):
            self.outputs.warn(f"--{name.replace('_', '-')} {reasons[name]}")
        return idle

    def report_unchanged(self, error: NothingToChangeError) -> None:
        """Say why there is no edit; with ``--copy-unchanged`` the output is the source image."""
        outputs, values = self.outputs, self.values
        copied = values["copy_unchanged"] and not values["dry_run"]
        if copied:
            outputs.copy(self.source, ReadOptions.of(values))
        about = (self.request["settings"], self.model.name, self.image_path)
        caption = error.caption or values["caption"]
        record = render.unchanged(*about, outputs.output if copied else None, values, caption)
        record |= {"message": str(error), "warnings": [*outputs.warnings]}
        render.print_unchanged(error, copied=copied)
        if copied and outputs.output != stdio.PIPE:
            render.print_result(values["form"], str(outputs.output), record)
        elif values["form"] in render.JSON:
            render.print_result(values["form"], "", record)


def _prompt(values: Mapping[str, Any]) -> str:
    """The prompt as one phrase; ``PromptError`` if there is neither prompt nor direction."""
    prompt = (values["to"], values["from_"], values["to_caption"])
    return prompt_of(*prompt, optional=bool(values["directions"]))


def _choose(error: UnclearPromptError, values: Mapping[str, Any]) -> str:
    """The prompt that the user chooses of the error's hints; raises it where none can be chosen."""
    prompts = [hint for hint in error.hints if not hint.startswith("-")]
    if not (values["ask"] and values["to"] and prompts and stdio.is_interactive()):
        raise error
    render.print_message(str(error))
    for number, prompt in enumerate(prompts, 1):
        render.print_message(f"  {number}  {prompt}")
    choice = click.IntRange(0, len(prompts))
    number = click.prompt("Number of a prompt, or 0 to stop", type=choice, err=True)
    if not number:
        raise error
    return prompts[number - 1]


def _several(values: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The settings with several values, if ``--grid`` and the other outputs agree with them."""
    axes = options.several(values)
    flags = [f"--{name.replace('_', '-')}" for name in axes]
    if axes and not values["grid"]:
        raise click.UsageError(
            f"several values of {' and '.join(flags)} need --grid FILE, a sheet of all edits; "
            "or give one"
        )
    if not values["grid"]:
        return {}
    if not 1 <= len(axes) <= 2:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in options.SEVERAL)
        raise click.UsageError(f"--grid needs several values of one or two of {names}")
    for name in ("output", "compare", "explain", "save_mask", "steps_dir", "copy_unchanged"):
        if values[name]:
            flag = name.replace("_", "-")
            raise click.UsageError(f"--grid writes only its sheet; omit --{flag}")
    return axes


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are given, if they fit the other options."""
    steps = options.on_command_line("steps") or options.on_command_line("inverter")
    if values["inversion"] and steps:
        raise click.UsageError("--steps and --inverter are those of the --inversion; omit them")
    settings = options.explicit_settings(values)
    if values["save_mask"] and settings.get("composite") == "model":
        raise click.UsageError("--composite model has no support to save; omit --save-mask")
    return settings
