"""``zerocon edit``: a picture and a few words in, a picture out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from . import options, report
from .bar import progress
from .naming import name_output, wish_of, words_of


@click.command("edit")
@options.image
@options.words
@options.directions
@click.option("-o", "--output", type=click.Path(path_type=Path), help="[default: IMAGE-WORDS]")
@options.overwrite
@click.option("--compare", type=click.Path(path_type=Path), help="Also save both side by side.")
@click.option(
    "--inversion", type=click.Path(exists=True, dir_okay=False), help="What `zerocon invert` made."
)
@options.form
@options.talk
@options.method
@options.weights
def command(image: Path, output: Path | None, compare: Path | None, **values: Any) -> None:
    """Edit IMAGE by saying what should be different."""
    import zerocon
    from zerocon.images import check_output, open_picture, save_picture, sheet

    words, files = {name: values[name] for name in options.WORDS}, values["directions"]
    wish = wish_of(words["to"], words["source"], words["to_caption"], optional=bool(files))
    picture = open_picture(image)
    directions = [(zerocon.Direction.load(file), weight) for file, weight in files]
    output = output or name_output(image, f"{wish} {words_of(each for each, _ in directions)}")
    save = partial(save_picture, overwrite=values["overwrite"], source=image)
    for path in filter(None, (output, compare)):
        check_output(path, overwrite=values["overwrite"], source=image)
    if compare and compare.resolve() == output.resolve():
        raise click.UsageError("--compare and -o name the same file")
    if values["inversion"] and (values["steps"], values["scheme"]) != (None, None):
        raise click.UsageError("the inversion has its own steps and scheme; leave both out")
    given = options.given(values)

    kept = zerocon.Inversion.load(values["inversion"]) if values["inversion"] else None
    model = options.load(values)
    settings, talk = model.settings.overlay(given), partial(report.announce, values["quiet"])
    with progress("Editing", values["quiet"]) as tick:
        edited = zerocon.edit(
            picture, model=model, directions=directions, inversion=kept, settings=settings,
            announce=talk, progress=tick, **words,
        )  # fmt: skip
    save(edited.picture, output)
    if compare:
        save(sheet([picture, edited.picture], report.labels(edited.understanding), 2), compare)
    report.tell(values["form"], str(output), report.record(edited, image, output, words, files))
