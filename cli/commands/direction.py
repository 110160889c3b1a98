"""``zerocon direction``: a direction between words or sentences, kept in a file for many edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zerocon.image.naming import slug

from .. import options, render
from . import account, likeness, profile

KEPT = ".safetensors"
FILE, GIVEN = click.Path(path_type=Path), click.core.ParameterSource.COMMANDLINE


@click.group("direction", invoke_without_command=True)
@click.option("--from", "from_", metavar="WORDS", help='What there is: "cat", "by day".')
@click.option("--to", "target", metavar="WORDS", help='What it becomes: "dog", "at night".')
@click.option("--from-file", type=FILE, help="Your own sentences of the one, one a line.")
@click.option("--to-file", type=FILE, help="Your own sentences of the other.")
@click.option("-o", "--output", type=FILE, help=f"[default: WORDS-to-WORDS{KEPT}, here]")
@options.overwrite
@options.form
@options.talk
@options.weights
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:
    """Make a direction, to be looked at, tried, and used in any number of edits.

    It leads from the mean of a bank's sentences of the one to that of the other, or of your own
    (UTF-8, # comments); words beside a file only name it. Then: `edit IMAGE --direction FILE`.
    """
    if ctx.invoked_subcommand:
        if any(ctx.get_parameter_source(name) is GIVEN for name in values):
            raise click.UsageError(f"options come after {ctx.invoked_subcommand}, not before it")
        return
    import zerocon
    from zerocon.image.saving import check_output
    from zerocon.prompt.sentence_bank import about, read

    words, files = (values["from_"], values["target"]), (values["from_file"], values["to_file"])
    if not all(file or (said or "").strip() for said, file in zip(words, files, strict=True)):
        raise click.UsageError("give both sides: --from cat --to dog, or --from-file and --to-file")
    named = (words[0] or files[0].stem, words[1] or files[1].stem)
    output = values["output"] or Path(f"{slug(' to '.join(named))}{KEPT}")
    inputs = options.input_files(values, *files)
    check_output(output, overwrite=values["overwrite"], inputs=inputs, endings=(KEPT,))
    sides = [read(file) if file else about(said) for said, file in zip(named, files, strict=True)]
    model, make = options.load(values), zerocon.Direction
    own = any(files)
    made = make.between(model, *sides, words=named) if own else make.of_words(model, *named)
    made.save(output, overwrite=values["overwrite"])
    if not options.hushed():
        click.echo(account.summary(made), err=True)
    render.tell(values["form"], str(output), {"output": str(output), **account.record(made)})


command.add_command(profile.command)
command.add_command(likeness.command)
