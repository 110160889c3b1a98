"""``zerocon replay``: repeat edits from their recipes, and compare."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from zerocon.errors import ExitCode, FileFormatError, MismatchError, about

from .. import options, recipe_view, render
from ..help import command as help_command
from ..progress import progress_bar, status

if TYPE_CHECKING:
    from zerocon import Direction, Inversion, Photograph
    from zerocon.recipe.replay import RecipeFolder
    from zerocon.recipe.translation_recipe import TranslationRecipe

FILE = click.Path(path_type=Path)


@help_command(
    "replay",
    examples=(
        "zerocon replay fox-dog.png --source fox.png",
        "zerocon replay edited/ --source photos/",
        "zerocon replay fox-dog.png --source fox.png -o again.png --device cpu",
    ),
)
@click.argument("file", type=FILE)
@cloup.option_group(
    "Input",
    click.option(
        "--source",
        metavar="PATH",
        type=FILE,
        required=True,
        help="Source image, or a directory of source images.",
    ),
    click.option(
        "--direction",
        "directions",
        type=FILE,
        multiple=True,
        metavar="FILE",
        help="Direction file that the edit used; its weight is in the recipe. Repeatable.",
    ),
    click.option(
        "--inversion", metavar="FILE", type=FILE, help="Inversion file that the edit was given."
    ),
    click.option("--mask", metavar="FILE", type=FILE, help="Mask that the edit was given."),
    click.option(
        "-e",
        "--exemplar",
        "exemplars",
        type=FILE,
        multiple=True,
        metavar="FILE",
        help="Exemplar of a translation; its weight is in the recipe. Repeatable.",
    ),
)
@cloup.option_group(
    "Output",
    options.output("Also save the replayed edit."),
    options.overwrite,
)
@cloup.option_group("Model", options.replay_model, options.network)
@options.max_megapixels
@options.output_format
@options.verbosity
def command(file: Path, source: Path, **values: Any) -> int:
    """Repeat an edit or translation and compare the bytes.

    FILE is an edited or translated image, or a directory of them: each is then replayed from the
    images with the pixels that its recipe names, all below --source. The source of a translation
    is its condition. Exit status 0 if all are identical, else 1.
    """
    if file.is_dir():
        return _replay_folder(file, source, values)
    if translation := _translation_recipe(file, values):
        return _replay_translation(file, source, translation, values)
    return _replay_edit(file, source, values)


def _replay_edit(file: Path, source: Path, values: Mapping[str, Any]) -> int:
    """Repeat an edit and compare; the exit status."""
    _require_no_translation(file, values)
    import zerocon
    from zerocon.image.compare import ImageComparison
    from zerocon.image.masks import read_mask
    from zerocon.image.metadata import Provenance
    from zerocon.image.saving import check_output

    output, quiet, limit = values["output"], options.is_quiet(), _limit(values)
    if output:
        inputs = options.input_files(values, file, source)
        check_output(output, overwrite=values["overwrite"], inputs=inputs)
    saved = zerocon.Photograph.read(file, keep_gps=True, **limit)
    recipe, with_gps = zerocon.Recipe.read(file, **limit), saved.has_location
    # lenient: the recipe's hash decides whether the pixels are those of the edit
    photograph = zerocon.Photograph.read(source, keep_gps=with_gps, lenient=True, **limit)
    _warn_of_losses(photograph, output)
    recipe.require_replayable()
    recipe.require_source(photograph.image)
    directions = [zerocon.Direction.load(each) for each in values["directions"]]
    recipe.weighted(directions)
    inversion = zerocon.Inversion.load(values["inversion"]) if values["inversion"] else None
    recipe.require_inversion(inversion)
    given = values["mask"]
    mask = read_mask(given, photograph.image.size, **limit) if given else None
    recipe.require_mask(mask)
    model = options.load_recipe_model(values, recipe)
    with status("Replaying ...", quiet), progress_bar("Replaying", quiet) as tick:
        edited = recipe.repeat(
            photograph.image, model, directions=directions, inversion=inversion, mask=mask,
            on_request=partial(render.print_request, quiet), progress=tick,
        )  # fmt: skip
    comparison = ImageComparison.of_replay(file, source, edited.image, **limit)
    now = zerocon.Recipe.of(edited, model)
    if output:
        saving = {"overwrite": values["overwrite"], "provenance": Provenance(now.to_json())}
        render.warn(photograph.save(edited.image, output, **saving))
    render.print_comparison(values["form"], file, comparison, recipe.differences(now))
    return ExitCode.OK if comparison.same else ExitCode.CHECK_FAILED


def _require_no_translation(file: Path, values: Mapping[str, Any]) -> None:
    """Raise for options that only a translation has."""
    for option, name in (("--exemplar", "exemplars"), ("--network", "network")):
        if values[name]:
            raise click.UsageError(f"{option} is for a translation; {file} is an edit")


def _require_no_edit(file: Path, values: Mapping[str, Any]) -> None:
    """Raise for options that only an edit has."""
    for name in ("directions", "inversion", "mask", "clip"):
        if values[name]:
            option = f"--{name.removesuffix('s')}"
            raise click.UsageError(f"{option} is for an edit; {file} is a translation")


def _translation_recipe(file: Path, values: Mapping[str, Any]) -> TranslationRecipe | None:
    """The recipe of a translation; None for the recipe of an edit, or none."""
    import zerocon
    from zerocon.recipe.translation_recipe import TranslationRecipe, is_translation

    text = zerocon.Photograph.read(file, **_limit(values)).recipe
    with about(file):
        return TranslationRecipe.from_json(text) if text and is_translation(text) else None


def _replay_translation(
    file: Path, source: Path, recipe: TranslationRecipe, values: Mapping[str, Any]
) -> int:
    """Repeat a translation and compare; the exit status."""
    import zerocon
    from zerocon.image.metadata import Provenance
    from zerocon.image.saving import check_output, save_image
    from zerocon.recipe.translation_recipe import TranslationRecipe, compare_replay

    output, quiet = values["output"], options.is_quiet()
    _require_no_edit(file, values)
    if output:
        inputs = options.input_files(values, file, source, *values["exemplars"])
        check_output(output, overwrite=values["overwrite"], inputs=inputs)
    recipe.require_replayable()
    files = (source, *values["exemplars"])
    condition, *exemplars = (
        zerocon.Photograph.read(each, lenient=True, **_limit(values)).image for each in files
    )
    recipe.require_condition(condition)
    recipe.weighted(exemplars)
    recipe.require_network(values["network"])
    model = options.load_recipe_model(values, recipe)
    with status("Replaying ...", quiet), progress_bar("Replaying", quiet) as tick:
        translation = recipe.repeat(
            condition, exemplars, model, network=values["network"], progress=tick
        )
    comparison = compare_replay(file, translation, **_limit(values))
    now = TranslationRecipe.of(translation, model)
    if output:
        provenance = Provenance(now.to_json())
        save_image(translation.image, output, overwrite=values["overwrite"], provenance=provenance)
    render.print_comparison(values["form"], file, comparison, recipe.differences(now))
    return ExitCode.OK if comparison.same else ExitCode.CHECK_FAILED


def _replay_folder(path: Path, source: Path, values: Mapping[str, Any]) -> int:
    """Replay all images below ``path`` and print each result as it comes; the exit status."""
    from zerocon.recipe.replay import RecipeFolder, find_sources, repeat

    for option, name in (("-o", "output"), ("--mask", "mask"), ("--exemplar", "exemplars")):
        if values[name]:
            raise click.UsageError(
                f"{option} is for the replay of one image; {path} is a directory"
            )
    form, limit = values["form"], _limit(values)
    folder = RecipeFolder.of(path, **limit)
    if not folder.files:
        raise FileFormatError(f"no image in {path} has a zerocon recipe")
    directions, inversion = _load_files(folder, values)
    sources, unreadable = find_sources(source, **limit)
    render.warn(unreadable)
    results, load = [], partial(options.load_recipe_model, values)
    given: dict[str, Any] = {"directions": directions, "inversion": inversion, **limit}
    for each in repeat(folder, sources, load, **given):
        results.append(each)
        if form != "json":
            render.print_result(
                form, recipe_view.replay_line(each), recipe_view.replay_record(each)
            )
    same = sum(each.same for each in results)
    facts = {"schema": "zerocon.replays/1", "folder": str(path), "others": folder.without_recipe}
    facts |= {"same": same == len(results)}
    facts |= {"images": [recipe_view.replay_record(each) for each in results]}
    if form != "jsonl":
        render.print_result(form, f"{same} of {len(results)} came out the same", facts)
    return ExitCode.OK if same == len(results) else ExitCode.CHECK_FAILED


def _warn_of_losses(photograph: Photograph, output: Path | None) -> None:
    """Say what of the source is missing, and what of it a saved replay does not keep."""
    from zerocon.image.formats import format_of

    lines = photograph.truncation
    if output:
        lines = photograph.warnings + photograph.format_warnings(format_of(output))
    render.warn(lines)


def _limit(values: Mapping[str, Any]) -> dict[str, Any]:
    """How all images are read."""
    return {"max_megapixels": values["max_megapixels"]}


def _load_files(
    folder: RecipeFolder, values: Mapping[str, Any]
) -> tuple[list[Direction], Inversion | None]:
    """Direction and inversion files; ``MismatchError`` for one that no recipe names."""
    import zerocon

    directions = [zerocon.Direction.load(file) for file in values["directions"]]
    inversion = zerocon.Inversion.load(values["inversion"]) if values["inversion"] else None
    loaded: list[Direction | Inversion] = [*directions, *([inversion] if inversion else [])]
    files = (*values["directions"], *([values["inversion"]] if inversion else []))
    for file, each in zip(files, loaded, strict=True):
        if not any(other.edit and other.edit.uses(each) for other in folder.files):
            raise MismatchError(f"no image in {folder.folder} was edited with {file}")
    return directions, inversion
