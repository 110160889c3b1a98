"""The benchmark run: several methods on the same weights, scenes and captions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import torch
from PIL import Image

from zerocon import __version__
from zerocon.bench.inputs import MethodResult, MethodSettings, SourceBatch, TaskSource
from zerocon.bench.methods import pick
from zerocon.bench.metrics import CLEAR, MIN_CLEARNESS, evaluate
from zerocon.bench.native import NativeMeasurements
from zerocon.bench.results import AnyRow, MethodRecord, R, ResultRow, differing, digest
from zerocon.bench.tasks import Task
from zerocon.errors import MismatchError
from zerocon.image.contact_sheet import sheet

if TYPE_CHECKING:
    from zerocon.bench.classifiers import Classifiers
    from zerocon.model.stable_diffusion import StableDiffusion

Work = list[tuple[Task, list[str]]]

CELL = 256  # pixels: the longest side of an image on the contact sheet


class Cell(NamedTuple):
    """An image of the contact sheet, and the text below it."""

    image: Image.Image
    label: str


class HasSeed(Protocol):
    """What a task has in any benchmark."""

    @property
    def seed(self) -> int: ...


T = TypeVar("T", bound=HasSeed)


class ResumableRun:
    """Methods on tasks, one row for each: which rows belong to the run, and which are missing.

    Attributes:
        methods: Names, with options.
        setup: What all rows of this run share, for ``MethodRecord``.
    """

    methods: tuple[str, ...]
    setup: Any  # a dictionary of text; computed when needed

    def recipe(self, name: str) -> MethodRecord:
        """The record of one method; raises ``MethodError`` for an unknown name."""
        raise NotImplementedError

    def check(self, rows: Iterable[AnyRow]) -> None:
        """Raise ``MismatchError`` for a row that this run would have computed differently."""
        recipes: dict[str, str] = {}
        for row in rows:
            if others := differing(row.setup, self.setup):
                raise MismatchError(f"the rows are of another run: different {', '.join(others)}")
            if row.method not in recipes:
                recipes[row.method] = self.recipe(row.method).hash
            if row.recipe != recipes[row.method]:
                raise MismatchError(f"the rows of {row.method} have different settings")

    def work(self, tasks: Iterable[T], rows: Iterable[AnyRow] = ()) -> list[tuple[T, list[str]]]:
        """The tasks that are not complete, each with the methods that have no row yet."""
        done = {(row.seed, row.method) for row in rows}
        left = [(task, [m for m in self.methods if (task.seed, m) not in done]) for task in tasks]
        return [(task, names) for task, names in left if names]

    def among(self, rows: Iterable[R], tasks: Iterable[HasSeed]) -> list[R]:
        """The rows of this run's methods and tasks; a file may hold more."""
        seeds = {task.seed for task in tasks}
        return [row for row in rows if row.method in self.methods and row.seed in seeds]


class MethodsRun(ResumableRun):
    """Edits by methods on one model, and what their results depend on.

    Attributes:
        methods: Names, with options, as ``methods.pick`` reads them.
        true_captions: Use the scenes' true captions instead of the captioner's.
    """

    model: StableDiffusion
    settings: MethodSettings
    true_captions: bool

    def __post_init__(self) -> None:
        for name in self.methods:  # mistakes are reported before the work
            pick(name).recipe(self.settings)

    @property
    def conditions(self) -> dict[str, str]:
        """What results of this measurement depend on besides model, methods and captions."""
        return {}

    @cached_property
    def setup(self) -> dict[str, str]:
        """What all rows of this run share, for ``MethodRecord``."""
        model = self.model
        return {
            **model_setup(model),
            "settings": digest(asdict(self.settings.resolve())),
            "captions": "true" if self.true_captions else "generated",
            **self.conditions,
        }

    def recipe(self, name: str) -> MethodRecord:
        """The record of one method; raises ``MethodError`` for an unknown name."""
        settings = json.loads(json.dumps(pick(name).recipe(self.settings)))
        return MethodRecord(self.setup, name, settings)


@dataclass(frozen=True)
class BenchmarkRun(MethodsRun):
    """Several methods on one model, evaluated by the same classifiers.

    Attributes:
        batch_size: Tasks edited as one batch: faster, and equal up to rounding.
        render_size: Size of the tasks' images; edits are then measured at that size, against the
            source. With None they are measured against the source's reconstruction.
    """

    model: StableDiffusion
    classifiers: Classifiers
    methods: tuple[str, ...]
    settings: MethodSettings
    true_captions: bool = False
    batch_size: int = 1
    render_size: int | None = None

    @property
    def conditions(self) -> dict[str, str]:
        """Classifiers and their limits, batch size, and render size if there is one."""
        render_size = {} if self.render_size is None else {"render_size": str(self.render_size)}
        return {
            "classifiers": fingerprint(self.classifiers.network),
            "success": f"probability {CLEAR:g}, clearness {MIN_CLEARNESS:g}",
            "batch_size": str(self.batch_size),
            **render_size,
        }

    def run(self, work: Work) -> Iterator[tuple[ResultRow, Image.Image]]:
        """Edit and evaluate; yields row and image as soon as each edit is done.

        Consecutive tasks that need the same methods are edited in batches of ``batch_size``. The
        images of a batch are freed after it.
        """
        for names, group in groupby(work, lambda part: part[1]):
            tasks = [task for task, _ in group]
            for start in range(0, len(tasks), self.batch_size):
                part = tasks[start : start + self.batch_size]
                batch = SourceBatch(
                    [
                        TaskSource(task, self.model, true_captions=self.true_captions)
                        for task in part
                    ]
                )
                for name in names:
                    yield from self._rows(batch, name)
                for task in part:
                    task.free_images()

    def _rows(self, batch: SourceBatch, name: str) -> Iterator[tuple[ResultRow, Image.Image]]:
        recipe = self.recipe(name)
        for source, result in zip(batch.sources, pick(name)(batch, self.settings), strict=True):
            task = source.task
            reference, native = self._compare(source, result)
            shown = source.reconstruction, source.exact_reconstruction
            metrics = evaluate(task, result.image, reference, self.classifiers, shown)
            row = ResultRow(
                method=name,
                recipe=recipe.hash,
                seed=task.seed,
                kind=task.kind,
                caption=result.caption,
                target_caption=result.target_caption,
                evaluations=result.evaluations,
                seconds=round(result.seconds, 3),
                settings=recipe.settings,
                setup=recipe.setup,
                native=native,
                **asdict(metrics),
            )
            yield row, result.image

    def _compare(
        self, source: TaskSource, result: MethodResult
    ) -> tuple[Image.Image | None, NativeMeasurements | None]:
        """What ``result`` should preserve, and its measurements at the render size."""
        if not result.uses_source:
            return None, None
        if self.render_size is None:
            return source.reconstruction, None
        return source.image, source.native.measure(result.image, result.mask)


def share(tasks: Sequence[T], number: int, of: int) -> list[T]:
    """Shard ``number`` (from 1) of ``of``; the shards are disjoint and cover all tasks.

    A task is never divided, so that its methods can share one inversion.
    """
    return list(tasks[number - 1 :: of])


def cells(task: Task, row: ResultRow, result: Image.Image) -> list[Cell]:
    """Source image, edited image and exact result of a task, for ``page``."""
    images = (task.image, result, task.truth)
    labels = (row.caption, row.summary, row.target_caption)
    return [Cell(_reduced(image), label) for image, label in zip(images, labels, strict=True)]


def page(shown: Sequence[Cell]) -> Image.Image:
    """A contact sheet of the ``cells`` of all tasks, two tasks a row."""
    return sheet([cell.image for cell in shown], [cell.label for cell in shown], 6)


def _reduced(image: Image.Image) -> Image.Image:
    """A copy with at most ``CELL`` pixels a side."""
    small = image.copy()
    small.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return small


def model_setup(model: StableDiffusion) -> dict[str, str]:
    """What results depend on of a model, of where it computes, and of this package."""
    return {
        "version": __version__,
        "weights": fingerprint(model.unet, model.vae, model.text_encoder),
        "device": model.device.type,
        "dtype": str(model.unet.dtype).removeprefix("torch."),
    }


def fingerprint(*networks: torch.nn.Module) -> str:
    """A hash of the weights and buffers of networks, in their current dtype."""
    total = blake2b(digest_size=8)
    for network in networks:
        for name, values in sorted(network.state_dict().items()):
            total.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            total.update(values.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
