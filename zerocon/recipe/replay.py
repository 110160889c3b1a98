"""Recipes of a folder of edited images, their sources, and a replay of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from zerocon.errors import AnimatedImageError, ZeroconError, classify
from zerocon.image import MEGAPIXELS
from zerocon.image.compare import ImageComparison
from zerocon.image.formats import ENDINGS
from zerocon.image.reading import READ, Photograph
from zerocon.recipe import Recipe
from zerocon.recipe.translation_recipe import TranslationRecipe, compare_replay, is_translation
from zerocon.storage.hashing import image_hash

if TYPE_CHECKING:  # recipes are listed without torch
    from zerocon.direction import Direction
    from zerocon.model import Model
    from zerocon.trajectory import Inversion

Sources = Mapping[str, Sequence[Path]]  # files by the hash of their pixels, which may be equal
FAILURES = (Exception,)  # of one image, whatever is wrong with it; the others are processed


@dataclass(frozen=True)
class RecipeFile:
    """An image file with its recipe, or the ``problem`` with reading either."""

    file: Path
    recipe: Recipe | TranslationRecipe | None = None
    problem: str | None = None

    @property
    def edit(self) -> Recipe | None:
        """The recipe of an edit; None for that of a translation, or none."""
        return self.recipe if isinstance(self.recipe, Recipe) else None


@dataclass(frozen=True)
class RecipeFolder:
    """The images below ``folder``.

    Attributes:
        folder: The directory that was searched.
        files: Images with a recipe, and those that cannot be read.
        without_recipe: Number of images without a recipe.
    """

    folder: Path
    files: tuple[RecipeFile, ...]
    without_recipe: int

    @classmethod
    def of(cls, folder: Path, *, max_megapixels: float = MEGAPIXELS) -> RecipeFolder:
        """Read every image below ``folder``, in the order of their names.

        ``max_megapixels`` is the limit of million pixels of each.
        """
        files, without_recipe = [], 0
        for file in images(folder):
            try:
                text = Photograph.read(file, max_megapixels=max_megapixels).recipe
                if text is not None:
                    files.append(RecipeFile(file, read_recipe(text)))
                without_recipe += text is None
            except AnimatedImageError:  # no edit writes one
                without_recipe += 1
            except FAILURES as error:
                files.append(RecipeFile(file, problem=problem_of(error)))
        return cls(folder, tuple(files), without_recipe)


@dataclass(frozen=True)
class ReplayResult:
    """The comparison of an edited image with its replay, or the ``problem`` that prevented it.

    ``changed`` are the differences from its recipe: ``torch 2.12 -> 2.13``.
    """

    file: Path
    source: Path | None = None
    comparison: ImageComparison | None = None
    changed: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def same(self) -> bool:
        """Whether the replayed file has the same bytes."""
        return self.comparison is not None and self.comparison.same


def read_recipe(text: str) -> Recipe | TranslationRecipe:
    """The recipe of an edit or of a translation; ``FileFormatError`` for anything else."""
    return TranslationRecipe.from_json(text) if is_translation(text) else Recipe.from_json(text)


def problem_of(error: Exception) -> str:
    """One line that ends in the error's id."""
    return f"{' '.join(str(error).split())} [{(classify(error) or ZeroconError).id}]"


def images(folder: Path) -> list[Path]:
    """Files below ``folder`` with the extension of an image, sorted; hidden ones are left out."""
    extensions = {ending for ending, kind in Image.registered_extensions().items() if kind in READ}
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in extensions | ENDINGS.keys()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )


def find_sources(path: Path, *, max_megapixels: float = MEGAPIXELS) -> tuple[Sources, list[str]]:
    """The images in a folder, or one file, by the hash of their pixels.

    Args:
        path: The folder or file.
        max_megapixels: Limit of million pixels of an image.

    Returns:
        The files, and a line for each image that cannot be read.

    Raises:
        InputError: ``path`` is one file, and not an image.
    """
    if not path.is_dir():
        image = Photograph.read(path, lenient=True, max_megapixels=max_megapixels).image
        return {image_hash(image): [path]}, []
    files: dict[str, list[Path]] = {}
    problems = []
    for file in images(path):
        try:
            image = Photograph.read(file, lenient=True, max_megapixels=max_megapixels).image
            files.setdefault(image_hash(image), []).append(file)
        except FAILURES as error:
            problems.append(problem_of(error))
    return files, problems


def repeat(
    folder: RecipeFolder,
    sources: Sources,
    load: Callable[[Recipe | TranslationRecipe], Model],
    *,
    directions: Sequence[Direction] = (),
    inversion: Inversion | None = None,
    max_megapixels: float = MEGAPIXELS,
) -> Iterator[ReplayResult]:
    """Repeat every edit of ``folder`` and compare it with its file.

    Yields first the results of images that cannot be replayed, then the others grouped by model:
    ``load`` is called once per group, and one model is in memory at a time. Each edit is given
    those of ``directions`` and ``inversion`` that its recipe names.
    """
    ready = []
    for each in folder.files:
        if each.recipe is None:
            yield ReplayResult(each.file, problem=each.problem)
        elif each.edit and each.edit.image not in sources:
            yield ReplayResult(each.file, problem="no source image has the pixels of its recipe")
        elif problem := _not_replayable(each.recipe):
            yield ReplayResult(each.file, problem=problem)
        else:
            ready.append((each.file, each.recipe))
    ready.sort(key=lambda pair: _model_key(pair[1]))
    for _, group in groupby(ready, key=lambda pair: _model_key(pair[1])):
        edits = list(group)
        yield from _repeat(edits, sources, load, directions, inversion, max_megapixels)


def _repeat(
    group: Sequence[tuple[Path, Recipe | TranslationRecipe]],
    sources: Sources,
    load: Callable[[Recipe | TranslationRecipe], Model],
    directions: Sequence[Direction],
    inversion: Inversion | None,
    max_megapixels: float,
) -> Iterator[ReplayResult]:
    """Images of one model."""
    try:
        model = load(group[0][1])
    except FAILURES as error:
        yield from (ReplayResult(file, problem=problem_of(error)) for file, _ in group)
        return
    compare = partial(ImageComparison.of_replay, max_megapixels=max_megapixels)
    for file, recipe in group:
        if isinstance(recipe, TranslationRecipe):
            yield _repeat_translation(file, recipe, sources, model, max_megapixels)
            continue
        used = [direction for direction in directions if recipe.uses(direction)]
        given = inversion if inversion and recipe.uses(inversion) else None
        files = sources[recipe.image]
        try:
            image = Photograph.read(files[0], lenient=True, max_megapixels=max_megapixels).image
            edited = recipe.repeat(image, model, directions=used, inversion=given)
            # files with equal pixels may have other metadata, which the edit took from one of them
            results = [(compare(file, each, edited.image), each) for each in files]
        except FAILURES as error:
            yield ReplayResult(file, problem=problem_of(error))
            continue
        comparison, source = min(results, key=lambda pair: not pair[0].same)
        replayed = Recipe.of(edited, model)
        yield ReplayResult(file, source, comparison, tuple(recipe.differences(replayed)))


def _repeat_translation(
    file: Path, recipe: TranslationRecipe, sources: Sources, model: Model, limit: float
) -> ReplayResult:
    read = partial(Photograph.read, lenient=True, max_megapixels=limit)
    try:
        condition, exemplars = recipe.find(sources)
        images = [read(each).image for each in (condition, *exemplars)]
        translation = recipe.repeat(images[0], images[1:], model)
        comparison = compare_replay(file, translation, max_megapixels=limit)
    except FAILURES as error:
        return ReplayResult(file, problem=problem_of(error))
    replayed = TranslationRecipe.of(translation, model)
    return ReplayResult(file, condition, comparison, tuple(recipe.differences(replayed)))


def _not_replayable(recipe: Recipe | TranslationRecipe) -> str:
    try:
        recipe.require_replayable()
    except FAILURES as error:
        return problem_of(error)
    return ""


def _model_key(recipe: Recipe | TranslationRecipe) -> tuple[str, ...]:
    """Edits with equal keys are replayed with one loaded model."""
    options = (f"{name}={value}" for name, value in recipe.load_options().items())
    return recipe.model, recipe.weights or "", *options
