"""``zerocon edit``: edit one image."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Any

import click
import cloup

from zerocon.image.naming import prompt_of, words_of

from .. import edit_outputs, options, render, stdio
from ..dry_run import print_edit_plan
from ..help import HelpCommand
from ..progress import progress_bar


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
@options.prompt
@edit_outputs.output_options
@options.method_with_mask
@options.model_with_reuse
@options.output_format
@options.verbosity
def command(image_path: Path, **values: Any) -> None:
    """Edit IMAGE, a file or - for stdin, as --to describes."""
    import zerocon

    prompt, files = {name: values[name] for name in options.PROMPT}, values["directions"]
    text = prompt_of(prompt["to"], prompt["from_"], prompt["to_caption"], optional=bool(files))
    photograph = stdio.read(image_path, keep_gps=values["keep_gps"])
    directions = [(zerocon.Direction.load(file), weight) for file, weight in files]
    text = f"{text} {words_of(each for each, _ in directions)}"
    outputs = edit_outputs.EditOutputs.of(image_path, photograph, text, values)
    inversion_steps = options.on_command_line("steps") or options.on_command_line("inverter")
    if values["inversion"] and inversion_steps:
        raise click.UsageError("--steps and --inverter are those of the --inversion; omit them")
    settings, cache = options.explicit_settings(values), options.cache(values, outputs.warn)
    if values["save_mask"] and settings.get("composite") == "model":
        raise click.UsageError("--composite model has no support to save; omit --save-mask")
    inversion = zerocon.Inversion.load(values["inversion"]) if values["inversion"] else None
    render.warn(outputs.warnings)
    mask = options.user_mask(values, photograph.image)
    for warning in mask.warnings if mask else ():
        outputs.warn(warning)
    model = options.load_model(values)
    request = prompt | {"directions": directions, "inversion": inversion, "cache": cache}
    request["mask"] = mask
    request["settings"] = model.settings.overlay(settings)
    if values["dry_run"]:
        return print_edit_plan(
            photograph.image, model, image_path, outputs.output, values, **request
        )
    outputs.begin(model, request["settings"])
    with progress_bar("Editing", options.is_quiet()) as tick:
        request["on_request"] = partial(render.print_request, options.is_quiet())
        request |= {"progress": tick, "on_step": outputs.on_step, "on_warning": outputs.warn}
        edited = zerocon.edit(photograph.image, model=model, **request)
    recipe = partial(zerocon.Recipe.of, edited, model)
    facts = outputs.write(edited, model, recipe)
    render.print_support(options.is_quiet(), edited)
    about = (edited.request, edited.settings, model.name, edited.evaluations)
    record = render.record(*about, edited.inversion_source, image_path, outputs.output, values)
    if outputs.output != stdio.PIPE:
        render.print_result(values["form"], str(outputs.output), record | facts)
