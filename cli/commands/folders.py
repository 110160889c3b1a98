"""Whole folders of edited pictures: listed, and made again."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerocon.errors import FileFormatError, MismatchError

from .. import options, recipe_view, render

if TYPE_CHECKING:
    from zerocon import Direction, Inversion
    from zerocon.recipe.replay import RecipeFolder


def inspect(folder: Path, form: str) -> None:
    """List the pictures below ``folder`` that carry a recipe; as JSON lines, one for each."""
    from zerocon.recipe.replay import RecipeFolder

    album = RecipeFolder.of(folder)
    render.warn(each.problem for each in album.carried if each.problem)
    found = [recipe_view.carried(each) for each in album.carried]
    if form == "jsonl":
        for each in found:
            render.tell(form, "", each)
        return
    facts = {"schema": "zerocon.recipes/1", "folder": str(folder), "others": album.others}
    render.tell(form, recipe_view.table(album), {**facts, "images": found})


def replay(folder: Path, source: Path, values: Mapping[str, Any]) -> int:
    """Make all of them again, and say of each, when it is done, whether its bytes came out.

    The exit code: 0 if all of them did, else 1.
    """
    from zerocon.recipe.replay import RecipeFolder, find_sources, repeat

    if values["output"]:
        raise click.UsageError(f"-o is for one picture made again, and {folder} is a folder")
    album, form = RecipeFolder.of(folder), values["form"]
    if not album.carried:
        raise FileFormatError(f"no picture in {folder} carries a recipe of zerocon")
    directions, inversion = _given(album, values)
    sources, unreadable = find_sources(source)
    render.warn(unreadable)
    found, load = [], partial(options.load_again, values)
    for each in repeat(album, sources, load, directions=directions, inversion=inversion):
        found.append(each)
        if form != "json":
            render.tell(form, recipe_view.outcome(each), recipe_view.repeated(each))
    same = sum(each.same for each in found)
    facts = {"schema": "zerocon.replays/1", "folder": str(folder), "others": album.others}
    more = {"same": same == len(found), "images": [recipe_view.repeated(each) for each in found]}
    if form != "jsonl":
        render.tell(form, f"{same} of {len(found)} came out the same", facts | more)
    return 0 if same == len(found) else 1


def _given(
    album: RecipeFolder, values: Mapping[str, Any]
) -> tuple[list[Direction], Inversion | None]:
    """The files that edits were given; a ``ValueError`` for one that none of them was."""
    import zerocon

    directions = [zerocon.Direction.load(file) for file in values["directions"]]
    inversion = zerocon.Inversion.load(values["inversion"]) if values["inversion"] else None
    made: list[Direction | Inversion] = [*directions, *([inversion] if inversion else [])]
    files = (*values["directions"], *([values["inversion"]] if inversion else []))
    for file, each in zip(files, made, strict=True):
        if not any(other.recipe and other.recipe.uses(each) for other in album.carried):
            raise MismatchError(f"no picture in {album.folder} was made with {file}")
    return directions, inversion
