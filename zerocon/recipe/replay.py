"""A folder of edited pictures: the recipes that they carry, their sources, and all made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from zerocon.errors import AnimatedImageError, ZeroconError
from zerocon.image.compare import ImageComparison
from zerocon.image.formats import ENDINGS
from zerocon.image.photo import READ, Photograph
from zerocon.recipe import Recipe
from zerocon.storage.hashing import image_hash

if TYPE_CHECKING:  # recipes are listed without torch
    from zerocon.direction import Direction
    from zerocon.model import Model
    from zerocon.trajectory import Inversion

Sources = Mapping[str, Sequence[Path]]  # files by the hash of their pixels: twins have one
REFUSALS = (ZeroconError, ValueError)  # what is said of one picture, and stops no other


@dataclass(frozen=True)
class RecipeFile:
    """A picture's file with the recipe in it, or the ``problem`` with reading either."""

    file: Path
    recipe: Recipe | None = None
    problem: str | None = None


@dataclass(frozen=True)
class RecipeFolder:
    """The pictures below ``folder``: those that carry a recipe, and how many ``others`` do not.

    One that cannot be read may have carried one, and is not among the others.
    """

    folder: Path
    carried: tuple[RecipeFile, ...]
    others: int

    @classmethod
    def of(cls, folder: Path) -> RecipeFolder:
        """Look at every picture below ``folder``, in the order of their names."""
        carried, others = [], 0
        for file in images(folder):
            try:
                text = Photograph.read(file).recipe
                if text is not None:
                    carried.append(RecipeFile(file, Recipe.from_json(text)))
                others += text is None
            except AnimatedImageError:  # which no edit has written
                others += 1
            except REFUSALS as error:
                carried.append(RecipeFile(file, problem=str(error)))
        return cls(folder, tuple(carried), others)


@dataclass(frozen=True)
class ReplayResult:
    """How a picture came out when it was made again of ``source``, or the ``problem`` with that.

    ``changed`` is what was not as in its recipe: ``torch 2.12 -> 2.13``.
    """

    file: Path
    source: Path | None = None
    comparison: ImageComparison | None = None
    changed: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def same(self) -> bool:
        """Whether the same bytes came out."""
        return self.comparison is not None and self.comparison.same


def images(folder: Path) -> list[Path]:
    """All files below ``folder`` that are called as pictures are, but for hidden ones; sorted."""
    known = {ending for ending, kind in Image.registered_extensions().items() if kind in READ}
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in known | ENDINGS.keys()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )


def find_sources(place: Path) -> tuple[Sources, list[str]]:
    """The pictures in a folder, or one file, by their pixels, and a line for each unreadable one.

    Raises ``ValueError`` if ``place`` is neither a folder nor a picture.
    """
    if not place.is_dir():
        return {image_hash(Photograph.read(place).image): [place]}, []
    found: dict[str, list[Path]] = {}
    problems = []
    for file in images(place):
        try:
            found.setdefault(image_hash(Photograph.read(file).image), []).append(file)
        except REFUSALS as error:
            problems.append(str(error))
    return found, problems


def repeat(
    album: RecipeFolder,
    sources: Sources,
    load: Callable[[Recipe], Model],
    *,
    directions: Sequence[Direction] = (),
    inversion: Inversion | None = None,
) -> Iterator[ReplayResult]:
    """Make every picture of ``album`` again, yielding how each came out.

    First come those that cannot be tried, then one model's after the other's: ``load`` is called
    once for each, and there is one in memory at a time. A picture takes of ``directions`` and
    ``inversion`` what its own recipe needs.
    """
    ready = []
    for each in album.carried:
        if each.recipe is None:
            yield ReplayResult(each.file, problem=each.problem)
        elif each.recipe.image not in sources:
            yield ReplayResult(
                each.file, problem="its source is not there: no picture has its pixels"
            )
        else:
            ready.append((each.file, each.recipe))
    ready.sort(key=lambda pair: _needs(pair[1]))
    for _, group in groupby(ready, key=lambda pair: _needs(pair[1])):
        yield from _repeat(list(group), sources, load, directions, inversion)


def _repeat(
    group: Sequence[tuple[Path, Recipe]],
    sources: Sources,
    load: Callable[[Recipe], Model],
    directions: Sequence[Direction],
    inversion: Inversion | None,
) -> Iterator[ReplayResult]:
    """Pictures of one model."""
    try:
        model = load(group[0][1])
    except REFUSALS as error:
        yield from (ReplayResult(file, problem=str(error)) for file, _ in group)
        return
    for file, recipe in group:
        own = [direction for direction in directions if recipe.uses(direction)]
        kept = inversion if inversion and recipe.uses(inversion) else None
        places = sources[recipe.image]
        try:
            image = Photograph.read(places[0]).image
            edited = recipe.repeat(image, model, directions=own, inversion=kept)
            # twins differ in what else their files say, and the edit kept that of one
            tried = [(ImageComparison.again(file, each, edited.image), each) for each in places]
        except REFUSALS as error:
            yield ReplayResult(file, problem=str(error))
            continue
        comparison, source = min(tried, key=lambda pair: not pair[0].same)
        now = Recipe.of(edited, image, model, kept)
        yield ReplayResult(file, source, comparison, tuple(recipe.differences(now)))


def _needs(recipe: Recipe) -> tuple[str, ...]:
    """What tells one model from another."""
    weights = recipe.weights or ""
    return recipe.model, weights, recipe.prediction, recipe.device, recipe.dtype
