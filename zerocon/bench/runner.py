"""Edits of drawn scenes: methods side by side on the same weights, scenes and captions."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from PIL import Image

from zerocon import __version__
from zerocon.bench.inputs import MethodSettings, SourceBatch, TaskSource
from zerocon.bench.methods import pick
from zerocon.bench.metrics import judge
from zerocon.bench.results import MethodRecord, ResultRow, differing, digest
from zerocon.bench.tasks import Task
from zerocon.errors import MismatchError
from zerocon.image.contact_sheet import sheet

if TYPE_CHECKING:
    from zerocon.bench.classifiers import Classifiers
    from zerocon.model.stable_diffusion import StableDiffusion

Work = list[tuple[Task, list[str]]]


@dataclass(frozen=True)
class BenchmarkRun:
    """Methods, by what they are called, on one model and before the same judges.

    ``told`` gives the true captions instead of asking the captioner. ``batch_size`` cases are
    edited together: faster, and the same but for rounding.
    """

    model: StableDiffusion
    classifiers: Classifiers
    methods: tuple[str, ...]
    asked: MethodSettings
    told: bool = False
    batch_size: int = 1

    def __post_init__(self) -> None:
        for name in self.methods:  # what is wrong is said before time is spent
            pick(name).recipe(self.asked)

    @cached_property
    def setup(self) -> dict[str, str]:
        """What all rows of this comparison share, for ``MethodRecord``."""
        model = self.model
        return {
            "version": __version__,
            "weights": fingerprint(model.unet, model.vae, model.text_encoder),
            "classifiers": fingerprint(self.classifiers.network),
            "settings": digest(asdict(self.asked.settings())),
            "captions": "told" if self.told else "read",
            "batch_size": str(self.batch_size),
            "device": model.device.type,
            "dtype": str(model.unet.dtype).removeprefix("torch."),
        }

    def recipe(self, name: str) -> MethodRecord:
        """Of one method; ``ValueError`` if there is none of that name."""
        settings = json.loads(json.dumps(pick(name).recipe(self.asked)))
        return MethodRecord(self.setup, name, settings)

    def check(self, rows: Iterable[ResultRow]) -> None:
        """Raise ``ValueError`` for a row that this comparison would have made differently."""
        recipes: dict[str, str] = {}
        for row in rows:
            if others := differing(row.setup, self.setup):
                raise MismatchError(f"the rows there are of another run: other {', '.join(others)}")
            if row.method not in recipes:
                recipes[row.method] = self.recipe(row.method).hash
            if row.recipe != recipes[row.method]:
                raise MismatchError(f"the rows of {row.method} there were made with other settings")

    def work(self, tasks: Iterable[Task], rows: Iterable[ResultRow] = ()) -> Work:
        """What is left to do: the cases, each with the methods whose row is not there yet."""
        done = {(row.seed, row.method) for row in rows}
        left = [(task, [m for m in self.methods if (task.seed, m) not in done]) for task in tasks]
        return [(task, names) for task, names in left if names]

    def among(self, rows: Iterable[ResultRow], tasks: Iterable[Task]) -> list[ResultRow]:
        """The rows of these methods and cases: a file may hold more."""
        seeds = {task.seed for task in tasks}
        return [row for row in rows if row.method in self.methods and row.seed in seeds]

    def run(self, work: Work) -> Iterator[tuple[ResultRow, Image.Image]]:
        """Edit and judge, yielding as soon as each edit is done.

        Neighbours that need the same methods are edited together, ``batch_size`` at most.
        """
        for names, group in groupby(work, lambda part: part[1]):
            sources = [TaskSource(task, self.model, told=self.told) for task, _ in group]
            for start in range(0, len(sources), self.batch_size):
                batch = SourceBatch(sources[start : start + self.batch_size])
                for name in names:
                    yield from self._rows(batch, name)

    def _rows(self, batch: SourceBatch, name: str) -> Iterator[tuple[ResultRow, Image.Image]]:
        recipe = self.recipe(name)
        for source, result in zip(batch.sources, pick(name)(batch, self.asked), strict=True):
            task, kept = source.task, source.kept if result.edits else None
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
                **asdict(judge(task, result.image, kept, self.classifiers)),
            )
            yield row, result.image


def share(tasks: Sequence[Task], number: int, of: int) -> list[Task]:
    """Part ``number`` (from 1) of ``of``: together they are all, and no two have one in common.

    A case stays whole, so that its methods can share what they have in common.
    """
    return list(tasks[number - 1 :: of])


def page(tasks: Sequence[Task], done: Collection[tuple[ResultRow, Image.Image]]) -> Image.Image:
    """Source, edit and truth of every case side by side, to be looked at."""
    images, labels = [], []
    for task, (row, result) in zip(tasks, done, strict=True):
        images += [task.image, result, task.truth]
        labels += [row.caption, row.verdict, row.target_caption]
    return sheet(images, labels, 6)


def fingerprint(*networks: torch.nn.Module) -> str:
    """A hash of their weights, buffers included, in the dtype they have here."""
    total = blake2b(digest_size=8)
    for network in networks:
        for name, values in sorted(network.state_dict().items()):
            total.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            total.update(values.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
