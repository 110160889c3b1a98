"""Recipes and results of replays: as a page, as a table, as records."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from zerocon.storage.escaping import markdown_row, one_line

if TYPE_CHECKING:
    from zerocon import Recipe
    from zerocon.recipe.replay import RecipeFile, RecipeFolder, ReplayResult
    from zerocon.recipe.translation_recipe import TranslationRecipe

WIDTH, MARGIN = 100, 11
LONGEST = 20_000  # characters of a field


def prompt(recipe: Recipe) -> str:
    """``from "cat", to "dog"``"""
    return ", ".join(f'{name} "{text}"' for name, text in recipe.prompt.items())


def page(recipe: Recipe | TranslationRecipe) -> list[str]:
    """The lines of a page: one field a line or more, after its name."""
    from zerocon.recipe.translation_recipe import TranslationRecipe

    settings = asdict(recipe.settings).items()
    rows = _of_translation(recipe) if isinstance(recipe, TranslationRecipe) else _of_edit(recipe)
    rows += [
        ("model", f"{recipe.model}, {recipe.prediction}"),
        ("weights", recipe.weights or "unknown: the model was not loaded from files"),
        ("settings", " ".join(f"{name}={_value(value)}" for name, value in settings)),
        ("computed", _computed(recipe.compute)),
        ("versions", ", ".join(f"{name}\xa0{number}" for name, number in recipe.versions.items())),
        ("unknown", json.dumps(recipe.unknown, sort_keys=True) if recipe.unknown else ""),
    ]
    if old := getattr(recipe, "converted_from", None):
        rows.append(("schema", f"{old}, cannot be replayed"))
    fill = textwrap.TextWrapper(
        WIDTH, subsequent_indent=" " * MARGIN, break_long_words=False, break_on_hyphens=False
    )
    texts = (f"{name:{MARGIN}}{one_line(text, LONGEST)}" for name, text in rows if text)
    # no line ends between a name and its version
    return [line.replace("\xa0", " ") for text in texts for line in fill.wrap(text)]


def _of_edit(recipe: Recipe) -> list[tuple[str, str]]:
    """What only the recipe of an edit has."""
    return [
        ("prompt", prompt(recipe)),
        *(("direction", f"{d.change}, weight {d.weight:g} ({d.hash})") for d in recipe.directions),
        ("caption", recipe.caption),
        ("target", recipe.target_caption),
        ("source", "{}, resized to {}x{}".format(recipe.image, *recipe.size)),
        ("inversion", recipe.inversion or ""),
    ]


def _of_translation(recipe: TranslationRecipe) -> list[tuple[str, str]]:
    """What only the recipe of a translation has."""
    return [
        ("condition", "{}, resized to {}x{}".format(recipe.condition, *recipe.size)),
        *(("exemplar", f"{each.hash}, weight {each.weight:g}") for each in recipe.exemplars),
        ("network", recipe.network or ""),
    ]


def _value(value: Any) -> str:
    """JSON, whose lines end between texts only."""
    return json.dumps(value, separators=(",", ":")).replace('","', '", "')


def _computed(compute: Mapping[str, Any]) -> str:
    """``on cpu in float32, tiled, threads 2``: what is false or null is left out."""
    facts = dict(compute)
    place = f"on {facts.pop('device')} in {facts.pop('dtype')}"
    flags = (key if value is True else f"{key} {value}" for key, value in facts.items() if value)
    return ", ".join([place, *(flag.replace("_", " ") for flag in flags)])


def table(folder: RecipeFolder) -> list[str]:
    """The lines of a table of recipes, then the number of images with and without one."""
    from zerocon.recipe.translation_recipe import TranslationRecipe

    lines = ["| image | prompt | caption | model | seed |", "|---|---|---|---|---|"]
    for file, recipe in ((each.file, each.recipe) for each in folder.files):
        if isinstance(recipe, TranslationRecipe):
            settings = recipe.settings
            words = (f"translation, {settings.method}", f"({settings.condition})")
            lines.append(markdown_row(file, *words, recipe.model, settings.seed))
        elif recipe is not None:
            directions = [f"{d.change} (direction x {d.weight:g})" for d in recipe.directions]
            prompts = ", ".join([*filter(None, [prompt(recipe)]), *directions])
            cells = (file, prompts, recipe.caption, recipe.model, recipe.settings.seed)
            lines.append(markdown_row(*cells))
    count = len(lines) - 2
    end = f"with a recipe: {count}, without: {folder.without_recipe}"
    return [*(lines if count else []), end]


def file_record(each: RecipeFile) -> dict[str, Any]:
    """The schema ``zerocon.carried/1``."""
    facts = {"schema": "zerocon.carried/1", "file": str(each.file)}
    return {**facts, "recipe": each.recipe and each.recipe.record(), "problem": each.problem}


def replay_line(each: ReplayResult) -> str:
    """``dog.png: identical, byte for byte``"""
    return "; ".join([f"{each.file}: {each.comparison or each.problem}", *each.changed])


def replay_record(each: ReplayResult) -> dict[str, Any]:
    """The schema ``zerocon.repeated/1``."""
    comparison = asdict(each.comparison) if each.comparison else {}
    return {
        "schema": "zerocon.repeated/1",
        "file": str(each.file),
        "source": each.source and str(each.source),
        "problem": each.problem,
        "same": each.same,
        **{name: comparison.get(name) for name in ("pixels", "total", "largest", "shapes")},
        "changed": each.changed,
    }
