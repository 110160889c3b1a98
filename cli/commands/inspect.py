"""``zerocon inspect``: how a picture was made, as its file says."""

from __future__ import annotations

from pathlib import Path

import click

from zerocon.errors import FileFormatError

from .. import options, recipe_view, render, stdio
from . import folders


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@options.form
@options.talk
def command(file: Path, form: str) -> None:
    """Show the recipe that FILE, a picture of `zerocon edit`, carries.

    Of a folder, list every picture in it that carries one. `zerocon replay` makes the pictures
    again.
    """
    from zerocon.recipe import Recipe

    if file != stdio.PIPE and file.is_dir():
        return folders.inspect(file, form)
    text = stdio.read(file).recipe
    if text is None:
        raise FileFormatError(f"{file} carries no recipe of zerocon")
    recipe = Recipe.from_json(text)
    render.tell(form, recipe_view.page(recipe), recipe.record())
