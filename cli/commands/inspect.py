"""``zerocon inspect``: show the recipes that edited images carry."""

from __future__ import annotations

from pathlib import Path

import click

from zerocon.errors import FileFormatError, about
from zerocon.image.read_options import ReadOptions

from .. import options, recipe_view, render, stdio
from ..help import command as help_command


@help_command(
    "inspect",
    examples=(
        "zerocon inspect fox-dog.png",
        "zerocon inspect edited/",
        "zerocon inspect edited/ --format jsonl",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@options.max_megapixels
@options.output_format
@options.verbosity
def command(file: Path, form: str, max_megapixels: float) -> None:
    """Show the recipe of an edited or translated image.

    Or of all images in a directory. A recipe holds prompt, captions, settings, model and versions
    of an edit, or what a translation was made from, and `zerocon replay` repeats it.
    """
    from zerocon.recipe.replay import read_recipe

    if file != stdio.PIPE and file.is_dir():
        return _print_folder(file, form, max_megapixels)
    text = stdio.read(file, ReadOptions(max_megapixels=max_megapixels)).recipe
    with about(file):
        if text is None:
            raise FileFormatError(f"{file} has no zerocon recipe")
        recipe = read_recipe(text)
    render.print_result(form, recipe_view.page(recipe), recipe.record())


def _print_folder(path: Path, form: str, max_megapixels: float) -> None:
    """The images below ``path`` with a recipe; as JSON lines, one for each."""
    from zerocon.recipe.replay import RecipeFolder

    folder = RecipeFolder.of(path, max_megapixels=max_megapixels)
    problems = {each.file: each.problem for each in folder.files if each.problem}
    render.warn(text if str(file) in text else f"{file}: {text}" for file, text in problems.items())
    records = [recipe_view.file_record(each) for each in folder.files]
    if form == "jsonl":
        for record in records:
            render.print_result(form, "", record)
        return
    facts = {"schema": "zerocon.recipes/1", "folder": str(path), "others": folder.without_recipe}
    render.print_result(form, recipe_view.table(folder), {**facts, "images": records})
