"""``zerocon inspect``: how a picture was made, as its file says."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zerocon.errors import ForeignFileError

from . import options, pictures, report

if TYPE_CHECKING:
    from zerocon import Recipe

WIDTH, MARGIN = 100, 11


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@options.form
@options.talk
def command(file: Path, form: str) -> None:
    """Show the recipe that FILE, a picture of `zerocon edit`, carries.

    `zerocon replay` makes the picture again from it.
    """
    from zerocon.recipe import Recipe

    text = pictures.read(file).recipe
    if text is None:
        raise ForeignFileError(f"{file} carries no recipe of zerocon")
    recipe = Recipe.from_json(text)
    report.tell(form, page(recipe), recipe.record())


def page(recipe: Recipe) -> str:
    """A line or more for each thing there is, its name before it."""
    settings = asdict(recipe.settings).items()
    rows = [
        ("asked", ", ".join(f'{name} "{said}"' for name, said in recipe.words.items())),
        *(("direction", f"{d.words}, weight {d.weight:g} ({d.hash})") for d in recipe.directions),
        ("caption", recipe.caption),
        ("target", recipe.target_caption),
        ("source", "{}, seen at {}x{}".format(recipe.picture, *recipe.size)),
        ("inversion", recipe.inversion or ""),
        ("model", f"{recipe.model}, {recipe.prediction}"),
        ("weights", recipe.weights or "not known: made in memory"),
        ("settings", " ".join(f"{k}={json.dumps(v, separators=(',', ':'))}" for k, v in settings)),
        ("computed", f"on {recipe.device} in {recipe.dtype}"),
        ("versions", ", ".join(f"{name} {said}" for name, said in recipe.versions.items())),
    ]
    fill = textwrap.TextWrapper(
        WIDTH, subsequent_indent=" " * MARGIN, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(fill.fill(f"{name:{MARGIN}}{said}") for name, said in rows if said)
