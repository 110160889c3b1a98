"""Grids: one image edited with several values of one or two settings, from one inversion."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

from PIL import Image

from zerocon import api
from zerocon.diagnostics.cost import CostEstimate, evaluations
from zerocon.editing import Plan
from zerocon.errors import SettingError
from zerocon.evaluation_count import Evaluations
from zerocon.image.contact_sheet import sheet
from zerocon.request import EditRequest, parse_request
from zerocon.settings import Settings

if TYPE_CHECKING:
    from zerocon.api import Edit, OnWarning, Progress
    from zerocon.cache import Cache
    from zerocon.image.masks import UserMask
    from zerocon.model import Model
    from zerocon.trajectory import Inversion

OF_INVERSION = ("steps", "inverter", "size", "crop")  # settings that an inversion belongs to
SMALLEST_CELL, LARGEST_CELL = 256, 512  # pixels of an image's longer side on a sheet
WIDEST = 4096  # pixels of a sheet, where its cells can be made smaller than that
GAP = 8  # pixels between cells
ONE_ROW = 6  # cells; more are laid out in a square


@dataclass(frozen=True)
class Axis:
    """A setting and the values that it takes in a grid."""

    name: str
    values: tuple[Any, ...]

    def label(self, value: Any) -> str:
        """``guidance scale 7..3``"""
        text = "..".join(f"{each:g}" for each in value) if isinstance(value, tuple) else f"{value}"
        return f"{self.name.replace('_', ' ')} {text}"


@dataclass(frozen=True)
class EditGrid:
    """Edits of one image.

    Attributes:
        source: The source image.
        axes: One or two settings; the last one's values follow each other in ``edits``.
        edits: One edit for every combination of values.
        evaluations: U-Net evaluations of all edits and their inversion.
    """

    source: Image.Image
    axes: tuple[Axis, ...]
    edits: tuple[Edit, ...]
    evaluations: Evaluations

    def sheet(self) -> Image.Image:
        """The source and all edits with their values, below the two captions.

        One axis is a row, or a square if it has many values; of two axes the first has the rows and
        the second the columns.
        """
        captions = f'"{self.edits[0].caption}"\n-> "{self.edits[0].target_caption}"'
        images: list[Image.Image | None] = [self.source, *(each.image for each in self.edits)]
        texts = ["source", *_labels(self.axes)]
        columns = len(images) if len(images) <= ONE_ROW else ceil(sqrt(len(images)))
        if len(self.axes) == 2:
            columns = 1 + len(self.axes[1].values)
            for row in range(1, len(self.axes[0].values)):  # below the source
                images.insert(row * columns, None)
                texts.insert(row * columns, "")
        scaled = [None if image is None else _scaled(image, columns) for image in images]
        return sheet(scaled, texts, columns, title=captions, gap=GAP)


def edit_grid(
    image: Image.Image,
    axes: Sequence[Axis],
    *,
    model: Model,
    settings: Settings,
    inversion: Inversion | None = None,
    mask: UserMask | None = None,
    on_request: Callable[[EditRequest], None] | None = None,
    progress: Progress | None = None,
    on_warning: OnWarning | None = None,
    cache: Cache | None = None,
    caption: str | None = None,
    **prompt: Any,
) -> EditGrid:
    """Edit an image once for every combination of values.

    The image is inverted once, and once for every seed if the inverter draws random numbers; the
    seed should then be the first axis.

    Args:
        image: The source image.
        axes: One or two settings with their values.
        model: As for ``zerocon.edit``, as are all other arguments.
        progress: Called with (done, total) steps of all edits.
        on_warning: Called with a line for each warning about an edit, after the edit's values.

    Raises:
        SettingError: For a setting that the inversion depends on, or ``crop="auto"``, whose edits
            have inversions of their own; otherwise as ``zerocon.edit``.
    """
    _require_one_inversion(settings, axes)
    prepared = api.prepared_for(image, model, settings)
    if inversion is not None:
        caption, settings = api.settings_for(inversion, prepared, model, caption, settings)
    request = parse_request(image, model, caption=caption, settings=settings, **prompt)
    if on_request is not None:
        on_request(request)
    edits: list[Edit] = []
    variants, labels, given = list(cells(settings, axes)), _labels(axes), inversion
    for number, (chosen, again) in enumerate(variants):
        edits += api.edit_batch(
            [prepared], [request], model=model, settings=chosen, masks=[mask], cache=cache,
            inversion=edits[-1].inversion if again else given,
            on_warning=on_warning and _labeled(on_warning, labels[number]),
            progress=progress and _share(progress, number, len(variants), settings.steps),
        )  # fmt: skip
    spent = sum((edited.evaluations for edited in edits), Evaluations())
    return EditGrid(image, tuple(axes), tuple(edits), spent)


def estimate_grid(
    first: CostEstimate,
    model: Model,
    settings: Settings,
    axes: Sequence[Axis],
    changes: Collection[str] = (),
) -> CostEstimate:
    """The cost of a grid of edits with these kinds of change; ``first`` is the first edit's."""
    schedule, total = model.schedule(settings.steps), first.evaluations
    for number, (chosen, again) in enumerate(cells(settings, axes)):
        watched = Plan.of(chosen).cached_layers()
        if number:
            facts: Any = {"inverted": again, "watched": watched, "changes": changes}
            total += evaluations(schedule, chosen, **facts)
    each = first.operations / first.evaluations.total if first.evaluations.total else 0.0
    return replace(first, evaluations=total, operations=each * total.total)


def cells(settings: Settings, axes: Sequence[Axis]) -> Iterator[tuple[Settings, bool]]:
    """The settings of every edit, and whether it has the inversion of the one before."""
    seeds: list[int] = []
    for values in product(*(axis.values for axis in axes)):
        pairs = zip((axis.name for axis in axes), values, strict=True)
        chosen = settings.overlay(dict(pairs))
        again = bool(seeds) and (chosen.seed == seeds[-1] or not Plan.of(chosen).inverter_draws)
        seeds.append(chosen.seed)
        yield chosen, again


def _labels(axes: Sequence[Axis]) -> list[str]:
    """The values of every edit: ``strength 0.5, guidance scale 7..3``."""
    return [
        ", ".join(axis.label(value) for axis, value in zip(axes, values, strict=True))
        for values in product(*(axis.values for axis in axes))
    ]


def _labeled(on_warning: OnWarning, label: str) -> OnWarning:
    return lambda line: on_warning(f"{label}: {line}")


def _require_one_inversion(settings: Settings, axes: Sequence[Axis]) -> None:
    if len(axes) not in (1, 2):
        raise SettingError(f"a grid has one or two settings with several values, not {len(axes)}")
    for axis in axes:
        if axis.name in OF_INVERSION:
            raise SettingError(f"a grid has one inversion: it cannot have several {axis.name}")
    if settings.crop == "auto":
        raise SettingError('crop="auto" has an inversion for every edit: not with a grid')


def _share(progress: Progress, number: int, edits: int, steps: int) -> Progress:
    """The progress of edit ``number`` as a part of all ``edits`` and one inversion."""

    def report(done: int, total: int) -> None:
        before = 1 + steps + number * steps  # the inversion, and the edits before this one
        progress(before + done - (total - steps), 1 + steps * (1 + edits))

    return report


def _scaled(image: Image.Image, columns: int) -> Image.Image:
    """An image of a readable size: small ones are enlarged, large ones reduced."""
    longest = max(image.size)
    largest = max(SMALLEST_CELL // 2, min(LARGEST_CELL, WIDEST // columns))
    factor = min(largest / longest, max(1.0, min(SMALLEST_CELL, largest) / longest))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image if factor == 1 else image.resize(size, Image.Resampling.LANCZOS)
