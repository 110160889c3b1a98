"""What is said of recipes: on a page, in a table, as records."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zerocon import Recipe
    from zerocon.recipe.replay import RecipeFile, RecipeFolder, ReplayResult

WIDTH, MARGIN = 100, 11


def asked(recipe: Recipe) -> str:
    """``from "cat", to "dog"``"""
    return ", ".join(f'{name} "{said}"' for name, said in recipe.words.items())


def page(recipe: Recipe) -> str:
    """A line or more for each thing there is, its name before it."""
    settings = asdict(recipe.settings).items()
    rows = [
        ("asked", asked(recipe)),
        *(("direction", f"{d.words}, weight {d.weight:g} ({d.hash})") for d in recipe.directions),
        ("caption", recipe.caption),
        ("target", recipe.target_caption),
        ("source", "{}, seen at {}x{}".format(recipe.image, *recipe.size)),
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


def table(album: RecipeFolder) -> str:
    """A row for each recipe, and how many pictures there are with and without one."""
    lines = ["| picture | wish | caption | model | seed |", "|---|---|---|---|---|"]
    for file, recipe in ((each.file, each.recipe) for each in album.carried):
        if recipe is not None:
            along = [f"{each.words} (direction x {each.weight:g})" for each in recipe.directions]
            prompt = ", ".join([*filter(None, [asked(recipe)]), *along])
            cells = (file, prompt, recipe.caption, recipe.model, recipe.settings.seed)
            lines.append(f"| {' | '.join(map(str, cells))} |")
    count = len(lines) - 2
    return "\n".join(
        [*(lines if count else []), f"with a recipe: {count}, without: {album.others}"]
    )


def carried(each: RecipeFile) -> dict[str, Any]:
    """The schema ``zerocon.carried/1``."""
    facts = {"schema": "zerocon.carried/1", "file": str(each.file)}
    return {**facts, "recipe": each.recipe and each.recipe.record(), "problem": each.problem}


def outcome(each: ReplayResult) -> str:
    """``dog.png: the same file, byte for byte``"""
    return "; ".join([f"{each.file}: {each.comparison or each.problem}", *each.changed])


def repeated(each: ReplayResult) -> dict[str, Any]:
    """The schema ``zerocon.repeated/1``."""
    found = asdict(each.comparison) if each.comparison else {}
    return {
        "schema": "zerocon.repeated/1",
        "file": str(each.file),
        "source": each.source and str(each.source),
        "problem": each.problem,
        "same": each.same,
        **{name: found.get(name) for name in ("pixels", "total", "largest", "shapes")},
        "changed": each.changed,
    }
