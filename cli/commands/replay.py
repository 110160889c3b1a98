"""``zerocon replay``: a picture made again from the recipe it carries, and compared."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from .. import options, render
from ..progress import progress_bar
from . import folders

FILE = click.Path(path_type=Path)


@click.command("replay")
@click.argument("file", type=FILE)
@click.option("--source", type=FILE, required=True, help="What it was made of.")
@click.option("-o", "--output", type=FILE, help="Also write the picture that comes out.")
@options.overwrite
@options.again
@options.form
@options.talk
def command(file: Path, source: Path, **values: Any) -> int:
    """Make FILE again from the recipe that it carries, and compare the files byte by byte.

    Exit code 0 if they agree, 1 if not. Nothing is written without -o. Of a folder, every picture
    in it that carries a recipe is made again, of the one in --source with its source's pixels.
    """
    if file.is_dir():
        return folders.replay(file, source, values)
    import zerocon
    from zerocon.image.compare import ImageComparison
    from zerocon.image.metadata import Provenance
    from zerocon.image.saving import check_output

    output, kept, quiet = values["output"], values["inversion"], options.hushed()
    if output:
        inputs = options.input_files(values, file, source)
        check_output(output, overwrite=values["overwrite"], inputs=inputs)
    saved, recipe = zerocon.Photograph.read(file, keep_gps=True), zerocon.Recipe.read(file)
    photograph = zerocon.Photograph.read(source, keep_gps=saved.located)
    recipe.require_picture(photograph.image)
    directions = [zerocon.Direction.load(each) for each in values["directions"]]
    recipe.along(directions)
    inversion = zerocon.Inversion.load(kept) if kept else None
    recipe.require_inversion(inversion)
    model = options.load_again(values, recipe)
    with progress_bar("Replaying", quiet) as tick:
        edited = recipe.repeat(
            photograph.image, model, directions=directions, inversion=inversion,
            on_request=partial(render.announce, quiet), progress=tick,
        )  # fmt: skip
    found = ImageComparison.again(file, source, edited.image)
    now = zerocon.Recipe.of(edited, photograph.image, model, inversion)
    if output:
        more = {"overwrite": values["overwrite"], "provenance": Provenance(now.to_json())}
        photograph.save(edited.image, output, **more)
    render.compared(values["form"], file, found, recipe.differences(now))
    return 0 if found.same else 1
