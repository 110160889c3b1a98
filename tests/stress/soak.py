"""Soak test: many edits in one process; does memory grow, is any edit lost or duplicated?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, product
from pathlib import Path, PurePosixPath
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import psutil

from stress.sandbox import PROMPTS, SCENES, STEPS, draw, name_of
from zerocon.batch import commit
from zerocon.batch.executor import BatchExecutor, shape_of
from zerocon.batch.job import Job
from zerocon.batch.journal import Journal
from zerocon.batch.worker import Worker
from zerocon.cache import Cache

if TYPE_CHECKING:
    from zerocon.model import Model

WARMUP = 50  # edits after which memory that is used again and again has been allocated
PARTS = 10  # of a run, with the cache in every second
SECTIONS, QUANTILE = 10, 2.306  # of the line fit; 97.5 % quantile of Student's t for 8 degrees


@dataclass(frozen=True)
class SoakSample:
    """One edit: the resident memory after it in bytes, and the seconds since the start."""

    name: str
    memory: int
    seconds: float
    failure: str | None


@dataclass(frozen=True)
class SoakReport:
    """Counts and memory of a soak test.

    Attributes:
        after_warmup: Resident bytes after ``WARMUP`` edits.
        at_end: Resident bytes after the last edit.
        slope: Growth after the warm-up, in bytes per 100 edits.
        margin: Half the 95 % interval of ``slope``.
    """

    edits: int
    seconds: float
    after_warmup: int
    at_end: int
    slope: float
    margin: float
    failed: int
    lost: int
    duplicated: int


def repeat(model: Model, folder: Path, edits: int) -> Iterator[SoakSample]:
    """Run ``edits`` jobs through journal, worker and executor; every second tenth with the cache.

    Three source images, two prompts and ever new seeds; results and cache go into ``folder``.
    """
    images, process, start = folder / "in", psutil.Process(), perf_counter()
    images.mkdir()
    draw(images)
    cache = Cache(folder / "cache")
    jobs = list(islice(_jobs(images), edits))
    size = -(-edits // PARTS)
    for number in range(0, -(-edits // size)):
        part = jobs[number * size : (number + 1) * size]
        journal = Journal(folder / "out")
        run = journal.begin({})
        planned = (
            (each, each.hash({}), shape_of(each.image, model, model.settings)) for each in part
        )
        journal.add(run, commit.plan(journal.record, folder / "out", planned)[0])
        executor = BatchExecutor(model, cache=cache if number % 2 else None)
        for result in Worker(journal, run, executor)():
            memory = process.memory_info().rss
            yield SoakSample(result.record.name, memory, perf_counter() - start, result.failure)
        journal.close()


def evaluate(samples: Sequence[SoakSample], folder: Path) -> SoakReport:
    """Count the results in ``folder`` and fit a line to the memory after the warm-up."""
    results = {path.name for path in (folder / "out").glob("*.png")}
    names = Counter(sample.name for sample in samples)
    memory = np.array([sample.memory for sample in samples], float)
    first = min(WARMUP, len(samples) - 1)
    slope, margin = trend(memory[first:])
    return SoakReport(
        edits=len(samples),
        seconds=samples[-1].seconds,
        after_warmup=samples[first].memory,
        at_end=samples[-1].memory,
        slope=100 * slope,
        margin=100 * margin,
        failed=sum(sample.failure is not None for sample in samples),
        lost=sum(each.name not in results for each in samples if each.failure is None),
        duplicated=sum(names.values()) - len(names),
    )


def trend(values: np.ndarray) -> tuple[float, float]:
    """Slope per value of a fitted line, and half its 95 % interval (infinite for too few values).

    The line is fitted to the means of ten sections, since neighboring values are correlated.
    """
    if len(values) < 2 * SECTIONS:
        return float("nan"), float("inf")
    parts = np.array_split(np.arange(len(values)), SECTIONS)
    x = np.array([part.mean() for part in parts])
    y = np.array([values[part].mean() for part in parts])
    slope, start = np.polyfit(x, y, 1)
    variance = ((y - slope * x - start) ** 2).sum() / (SECTIONS - 2)
    return float(slope), float(QUANTILE * np.sqrt(variance / ((x - x.mean()) ** 2).sum()))


def as_markdown(report: SoakReport) -> str:
    """A table of one row."""
    mega = 1e6
    cells = [
        ("edits", str(report.edits)),
        ("minutes", f"{report.seconds / 60:.1f}"),
        (f"MB after {WARMUP}", f"{report.after_warmup / mega:.0f}"),
        ("MB at the end", f"{report.at_end / mega:.0f}"),
        ("MB per 100 edits", f"{report.slope / mega:.2f} +- {report.margin / mega:.2f}"),
        ("failed", str(report.failed)),
        ("lost", str(report.lost)),
        ("duplicated", str(report.duplicated)),
    ]
    head, values = zip(*cells, strict=True)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), values))


def _jobs(images: Path) -> Iterator[Job]:
    for seed, (image, prompt) in (
        (s, each) for s in count() for each in product(range(len(SCENES)), PROMPTS)
    ):
        settings = {"steps": STEPS, "seed": seed}
        name = PurePosixPath(name_of(image, prompt, seed))
        yield Job(images / f"{image}.png", name, {"to": prompt}, settings)
