"""Sensitivity: how far apart two results of one edit are that differ only in rounding.

Kernels add numbers in another order for another batch size, and for another number of threads. An
edit by gradients can amplify this, so that its result differs visibly.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

from zerocon.bench.inputs import MethodSettings, SourceBatch, TaskSource
from zerocon.bench.methods import pick
from zerocon.bench.metrics import MAX_PSNR, psnr
from zerocon.bench.results import RowFormat, parse_fields
from zerocon.bench.runner import MethodsRun, Work
from zerocon.bench.tasks import Task

if TYPE_CHECKING:
    from zerocon.model.stable_diffusion import StableDiffusion

THREADS = 2  # compared with 1
COMPARISONS = ("batch", "threads")  # fields of a row
HEADINGS = ("median dB", "worst dB", "identical", "levels")


@dataclass(frozen=True)
class Deviation:
    """How far two images are from each other.

    Attributes:
        psnr: In dB; ``MAX_PSNR`` for equal images.
        levels: Largest difference of two samples, in levels of 0..255.
    """

    psnr: float
    levels: int

    @classmethod
    def between(cls, image: Image.Image, other: Image.Image) -> Deviation:
        """The deviation of two images of one size."""
        a, b = (np.asarray(each, np.float64) for each in (image, other))
        decibels = psnr(a, b, np.ones(a.shape[:2], bool))
        return cls(MAX_PSNR if decibels is None else decibels, int(np.abs(a - b).max()))


@dataclass(frozen=True)
class SensitivityRow:
    """The deviations of one edit by one method.

    Attributes:
        recipe: Hash of the ``MethodRecord``.
        batch: Between the edit alone and in a batch with the mirror image, both with 1 thread.
        threads: Between the edit alone with 1 thread and with 2.
    """

    method: str
    recipe: str
    seed: int
    kind: str
    batch: Deviation
    threads: Deviation
    settings: dict[str, Any]
    setup: dict[str, str]


def _parse(values: Any) -> SensitivityRow:
    row = parse_fields(values, SensitivityRow)
    batch, threads = (parse_fields(each, Deviation) for each in (row.batch, row.threads))
    return replace(row, batch=batch, threads=threads)


ROWS = RowFormat("zerocon.bench.sensitivity-row/1", _parse)


@dataclass(frozen=True)
class SensitivityRun(MethodsRun):
    """Several methods on one model, each edit made three times."""

    model: StableDiffusion
    methods: tuple[str, ...]
    settings: MethodSettings
    true_captions: bool = False

    def run(self, work: Work) -> Iterator[SensitivityRow]:
        """Edit and compare; yields each row as soon as it is measured."""
        for task, names in work:
            with num_threads(1):
                caption = TaskSource(task, self.model, true_captions=self.true_captions).caption
            for name in names:
                yield self._row(task, name, caption)
            task.free_images()

    def _row(self, task: Task, name: str, caption: str) -> SensitivityRow:
        def edit(*images: Image.Image, threads: int = 1) -> Image.Image:
            """The result for the first image; nothing that is cached for another one is used."""
            sources = [TaskSource(task, self.model, image=each, caption=caption) for each in images]
            with num_threads(threads):
                return pick(name)(SourceBatch(sources), self.settings)[0].image

        recipe, alone = self.recipe(name), edit(task.image)
        return SensitivityRow(
            method=name,
            recipe=recipe.hash,
            seed=task.seed,
            kind=task.kind,
            batch=Deviation.between(alone, edit(task.image, ImageOps.mirror(task.image))),
            threads=Deviation.between(alone, edit(task.image, threads=THREADS)),
            settings=recipe.settings,
            setup=recipe.setup,
        )


class Summary(NamedTuple):
    """Deviations of many edits: PSNR in dB, a share from 0 to 1, and levels of 0..255."""

    median_psnr: float
    worst_psnr: float
    identical: float
    worst_levels: int

    @classmethod
    def of(cls, deviations: Sequence[Deviation]) -> Summary:
        """The summary of at least one deviation."""
        decibels = [each.psnr for each in deviations]
        levels = [each.levels for each in deviations]
        return cls(median(decibels), min(decibels), levels.count(0) / len(levels), max(levels))

    @property
    def cells(self) -> list[str]:
        """The numbers as text, under ``HEADINGS``."""
        decibels = [f"{each:.1f}" for each in (self.median_psnr, self.worst_psnr)]
        return [*decibels, f"{self.identical:.0%}".replace("%", " %"), str(self.worst_levels)]


def summarize(rows: Iterable[SensitivityRow]) -> dict[str, dict[str, Summary]]:
    """Of every method, in the order of the rows, the summary of each of ``COMPARISONS``."""
    by_method: dict[str, list[SensitivityRow]] = {}
    for row in rows:
        by_method.setdefault(row.method, []).append(row)
    return {
        method: {name: Summary.of([getattr(row, name) for row in part]) for name in COMPARISONS}
        for method, part in by_method.items()
    }


def cells(rows: Sequence[SensitivityRow]) -> list[list[str]]:
    """The table of ``summarize`` as text, the heading first."""
    counts = Counter(row.method for row in rows)
    head = [f"{name}: {heading}" for name in COMPARISONS for heading in HEADINGS]
    lines = [
        [method, str(counts[method]), *chain(*(each.cells for each in summaries.values()))]
        for method, summaries in summarize(rows).items()
    ]
    return [["method", "n", *head], *lines]


def as_json(rows: Sequence[SensitivityRow]) -> str:
    """The table in the schema ``zerocon.bench.sensitivity/1``."""
    counts = Counter(row.method for row in rows)
    record = {
        "schema": "zerocon.bench.sensitivity/1",
        "setup": rows[0].setup if rows else {},
        "settings": {row.method: row.settings for row in rows},
        "methods": [
            {"method": method, "n": counts[method]}
            | {name: summary._asdict() for name, summary in summaries.items()}
            for method, summaries in summarize(rows).items()
        ],
    }
    return json.dumps(record, indent=2, ensure_ascii=False)


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    """So many threads of torch's CPU kernels inside the block, and as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
