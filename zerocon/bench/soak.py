"""Many edits in one process: does it keep what it should let go of, does it lose or double any?"""

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

from zerocon.batch import commit
from zerocon.batch.executor import BatchExecutor, shape_of
from zerocon.batch.job import Job
from zerocon.batch.journal import Journal
from zerocon.batch.worker import Worker
from zerocon.bench.stage import PROMPTS, SCENES, STEPS, draw, name_of
from zerocon.cache import Cache

if TYPE_CHECKING:
    from zerocon.model import Model

SETTLED = 50  # edits after which memory has been taken that is used again and again
PARTS = 10  # of a run, with the cache in every second
STRETCHES, SURE = 10, 2.306  # of which a line is fitted to the means; its 95 % interval, 8 free


@dataclass(frozen=True)
class SoakSample:
    """One edit: the process's memory after it in bytes, and the seconds since the first."""

    name: str
    memory: int
    seconds: float
    failure: str | None


@dataclass(frozen=True)
class SoakReport:
    """What became of it; ``slope`` and ``margin`` (95 %) are bytes in 100 edits once settled."""

    edits: int
    seconds: float
    settled: int
    last: int
    slope: float
    margin: float
    failed: int
    lost: int
    doubled: int


def repeat(model: Model, folder: Path, edits: int) -> Iterator[SoakSample]:
    """Edit through a journal, a worker and a studio, every second tenth of the work with a cache.

    Three pictures, two wishes, and seeds without end; results and cache go into ``folder``.
    """
    images, process, start = folder / "in", psutil.Process(), perf_counter()
    images.mkdir()
    draw(images)
    cache = Cache(folder / "cache")
    jobs = list(islice(_orders(images), edits))
    size = -(-edits // PARTS)
    for number in range(0, -(-edits // size)):
        part = jobs[number * size : (number + 1) * size]
        journal = Journal(folder / "out")
        run = journal.begin({})
        told = ((each, each.hash({}), shape_of(each.image, model)) for each in part)
        journal.add(run, commit.plan(journal.record, folder / "out", told)[0])
        executor = BatchExecutor(model, cache=cache if number % 2 else None)
        for done in Worker(journal, run, executor)():
            memory = process.memory_info().rss
            yield SoakSample(done.record.name, memory, perf_counter() - start, done.failure)
        journal.close()


def judge(laps: Sequence[SoakSample], folder: Path) -> SoakReport:
    """Count what is there, and fit a line to the memory after ``SETTLED`` edits."""
    made = {path.name for path in (folder / "out").glob("*.png")}
    names = Counter(lap.name for lap in laps)
    memory = np.array([lap.memory for lap in laps], float)
    settled = min(SETTLED, len(laps) - 1)
    slope, margin = trend(memory[settled:])
    return SoakReport(
        edits=len(laps),
        seconds=laps[-1].seconds,
        settled=laps[settled].memory,
        last=laps[-1].memory,
        slope=100 * slope,
        margin=100 * margin,
        failed=sum(lap.failure is not None for lap in laps),
        lost=sum(lap.name not in made for lap in laps if lap.failure is None),
        doubled=sum(names.values()) - len(names),
    )


def trend(values: np.ndarray) -> tuple[float, float]:
    """Slope from one value to the next, and how far off it may be (95 %); too few: infinitely.

    The line goes through the means of ten stretches, since neighbours are alike.
    """
    if len(values) < 2 * STRETCHES:
        return float("nan"), float("inf")
    parts = np.array_split(np.arange(len(values)), STRETCHES)
    x = np.array([part.mean() for part in parts])
    y = np.array([values[part].mean() for part in parts])
    slope, start = np.polyfit(x, y, 1)
    variance = ((y - slope * x - start) ** 2).sum() / (STRETCHES - 2)
    return float(slope), float(SURE * np.sqrt(variance / ((x - x.mean()) ** 2).sum()))


def table(found: SoakReport) -> list[tuple[str, str]]:
    """Heading and value of everything that was found."""
    mega = 1e6
    return [
        ("edits", str(found.edits)),
        ("minutes", f"{found.seconds / 60:.1f}"),
        (f"MB after {SETTLED}", f"{found.settled / mega:.0f}"),
        ("MB at the end", f"{found.last / mega:.0f}"),
        ("MB more in 100 edits", f"{found.slope / mega:.2f} +- {found.margin / mega:.2f}"),
        ("failed", str(found.failed)),
        ("lost", str(found.lost)),
        ("doubled", str(found.doubled)),
    ]


def as_text(found: SoakReport, form: str) -> str:
    """A line for each, or a row in Markdown."""
    rows = table(found)
    if form == "text":
        return "\n".join(f"{name:22}{said:>16}" for name, said in rows)
    head, said = zip(*rows, strict=True)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), said))


def _orders(images: Path) -> Iterator[Job]:
    for seed, (place, prompt) in (
        (s, each) for s in count() for each in product(range(len(SCENES)), PROMPTS)
    ):
        settings = {"steps": STEPS, "seed": seed}
        name = PurePosixPath(name_of(place, prompt, seed))
        yield Job(images / f"{place}.png", name, {"to": prompt}, settings)
