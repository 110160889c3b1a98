"""Tables of translation rows: metrics with intervals, spread over seeds, effect of corruption."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from zerocon.bench.tables import Column, Estimate, Table, TableLine, columns_of, line, record
from zerocon.bench.translation_metrics import TranslationMetrics, frechet_distance
from zerocon.bench.translation_row import TranslationRow
from zerocon.errors import CommandError
from zerocon.training.triplet_scenes import CONDITIONS

REFERENCE = "warp"  # the method that differences refer to
LEAST_IMAGES = 2  # of a Fréchet distance
CORRUPTION = re.compile(r",?corruption=[^,]*")

FD_MINI = Column("fd_mini", "FD-mini", "score")
FIDELITY = (
    *columns_of("dB", psnr="PSNR", psnr_matched="PSNR matched", psnr_rest="PSNR rest"),
    *columns_of("score", ssim="SSIM"),
    *columns_of("cost", swd="SWD"),
)
COPYING = (*columns_of("dB", copy_score="copy score"), *columns_of("share", copied="copied"))
CORRESPONDENCE = (
    *columns_of("score", edge_f1="edge F1"),
    *columns_of(
        "cost", self_similarity="self-similarity distance", color_error="region color error"
    ),
    *columns_of(
        "score",
        semantic_consistency="semantic consistency",
        texture_relevance="texture relevance",
    ),
    *columns_of("share", warp_accuracy="warp accuracy"),
)
COST = (
    *columns_of("cost", evaluations="evaluations"),
    *columns_of("ratio", seconds="seconds", gigabytes="GB"),
)
COLUMNS = (*FIDELITY, FD_MINI, *COPYING, *CORRESPONDENCE, *COST)
PER_SAMPLE = (*FIDELITY, FD_MINI, *COPYING, *CORRESPONDENCE[:-1])  # what a seed changes

Samples = Callable[[TranslationRow], Sequence[TranslationMetrics]]


def tables(rows: Sequence[TranslationRow], by_kind: Sequence[str] = ()) -> list[Table]:
    """All tables of one run.

    Args:
        rows: Of the run.
        by_kind: Methods of which there is a table by kind of condition too.

    Raises:
        CommandError: One of these methods has no rows.
    """
    methods = _by_method(rows)
    lines = [each for name, part in methods.items() for each in _lines(name, part)]
    every = [
        _select("Fidelity to the exact target", lines, (*FIDELITY, FD_MINI, *COPYING)),
        _select("Structure, appearance and correspondence", lines, CORRESPONDENCE),
        _select("Cost of one image", lines, COST),
        _spread(methods),
        _differences(f"Difference from {REFERENCE}, on the same tasks", methods, _reference),
        _differences("Effect of corruption, on the same tasks", methods, uncorrupted),
        *(_by_kind(methods, name) for name in by_kind),
    ]
    return [table for table in every if table.lines]


def as_json(shown: Iterable[Table], rows: Sequence[TranslationRow]) -> str:
    """Tables in the schema ``zerocon.bench.tables/3``."""
    setup = rows[0].setup if rows else {}
    return record(shown, setup, {row.method: row.settings for row in rows})


def uncorrupted(method: str) -> str | None:
    """The name of the same method without its ``corruption``; None for one that has none."""
    name, _, options = method.partition(":")
    rest = CORRUPTION.sub("", options).strip(",")
    if rest == options:
        return None
    return f"{name}:{rest}" if rest else name


def _reference(method: str) -> str | None:
    return REFERENCE if method != REFERENCE else None


def _by_method(rows: Iterable[TranslationRow]) -> dict[str, list[TranslationRow]]:
    methods: dict[str, list[TranslationRow]] = {}
    for row in rows:
        methods.setdefault(row.method, []).append(row)
    return methods


def _lines(name: str, rows: Sequence[TranslationRow]) -> list[TableLine]:
    """Estimates of ``COLUMNS``, a second line for the mean image of methods that sample."""
    lines = [_line(name, rows, _samples)]
    averaged = [row for row in rows if row.mean_image is not None]
    if averaged:
        count = int(averaged[0].setup["mean_of"])
        lines.append(_line(f"{name}, mean of {count}", averaged, _mean_image, images=count))
    return lines


def _samples(row: TranslationRow) -> Sequence[TranslationMetrics]:
    return row.samples


def _sample(number: int) -> Samples:
    return lambda row: row.samples[number : number + 1]


def _mean_image(row: TranslationRow) -> Sequence[TranslationMetrics]:
    return () if row.mean_image is None else (row.mean_image,)


def _line(
    name: str, rows: Sequence[TranslationRow], samples: Samples, *, images: int = 1
) -> TableLine:
    """Estimates of ``COLUMNS``, for results that cost as much as so many ``images``."""
    estimates = line(name, [_values(row, samples(row), images) for row in rows], COLUMNS)
    cells = list(estimates.cells)
    distances = _fd_mini([samples(row) for row in rows], rows)
    cells[COLUMNS.index(FD_MINI)] = Estimate(float(np.mean(distances))) if distances else None
    return replace(estimates, cells=tuple(cells))


def _values(
    row: TranslationRow, samples: Sequence[TranslationMetrics], images: int = 1
) -> SimpleNamespace:
    """What the columns read of a row: means over ``samples``, None if one has no value."""
    fields = [asdict(sample) | {"copied": sample.copy_score >= 0} for sample in samples]
    means = {
        name: None if any(each[name] is None for each in fields) else _mean(fields, name)
        for name in fields[0]
        if name != "embedding"
    }
    gigabytes = None if row.memory is None else row.memory / 1e9
    return SimpleNamespace(
        kind=row.kind,
        seed=row.seed,
        warp_accuracy=row.warp_accuracy,
        evaluations=images * row.evaluations,
        seconds=images * row.seconds,
        gigabytes=gigabytes,
        **means,
    )


def _mean(fields: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.mean([each[name] for each in fields]))


def _fd_mini(
    samples: Sequence[Sequence[TranslationMetrics]], rows: Sequence[TranslationRow]
) -> list[float]:
    """FD-mini of each sampling seed's images to the targets; empty with too few images."""
    if len(rows) < LEAST_IMAGES:
        return []
    targets = np.array([row.target_embedding for row in rows])
    return [
        frechet_distance(np.array([each.embedding for each in seed]), targets)
        for seed in zip(*samples, strict=True)
    ]


def _select(title: str, lines: Iterable[TableLine], columns: Sequence[Column]) -> Table:
    """A table of some of ``COLUMNS``."""
    numbers = [COLUMNS.index(column) for column in columns]
    chosen = [replace(each, cells=tuple(each.cells[i] for i in numbers)) for each in lines]
    return Table(title, "method", tuple(columns), tuple(chosen))


def _spread(methods: Mapping[str, Sequence[TranslationRow]]) -> Table:
    """Standard deviation between sampling seeds of the mean over all tasks."""
    lines = []
    for name, rows in methods.items():
        count = len(rows[0].samples)
        if count < 2:
            continue
        seeds = [_line(name, rows, _sample(number)) for number in range(count)]
        columns = zip(*(each.cells for each in seeds), strict=True)
        cells = [
            None if any(cell is None for cell in column) else _deviation(column)
            for column in columns
        ]
        lines.append(TableLine(name, len(rows), tuple(cells)))
    title = "Standard deviation between sampling seeds, of the mean over all tasks"
    return _select(title, lines, PER_SAMPLE)


def _deviation(cells: Iterable[Any]) -> Estimate:
    return Estimate(float(np.std([cell.mean for cell in cells], ddof=1)))


def _differences(
    title: str,
    methods: Mapping[str, Sequence[TranslationRow]],
    base: Callable[[str], str | None],
) -> Table:
    """Every method minus another one, ``base(name)``, on the tasks of both."""
    columns = tuple(column for column in (*FIDELITY, *COPYING[:1], *CORRESPONDENCE))
    lines = []
    for name, rows in methods.items():
        other = {row.seed: row for row in methods.get(base(name) or "", ())}
        shared = [row for row in rows if row.seed in other]
        if shared:
            values = {seed: _values(row, row.samples) for seed, row in other.items()}
            measured = [_values(row, row.samples) for row in shared]
            lines.append(line(name, measured, columns, partial(_of_task, values)))
    return Table(title, "method", columns, tuple(lines), signed=True)


def _of_task(values: Mapping[int, SimpleNamespace], row: SimpleNamespace) -> SimpleNamespace:
    return values[row.seed]


def _by_kind(methods: Mapping[str, Sequence[TranslationRow]], name: str) -> Table:
    """One method's estimates for every kind of condition."""
    if name not in methods:
        raise CommandError(f"there are no rows of {name}; there are: {', '.join(methods)}")
    columns = tuple(column for column in COLUMNS if column not in COST)
    kinds = [(kind, [row for row in methods[name] if row.kind == kind]) for kind in CONDITIONS]
    lines = [_line(kind, rows, _samples) for kind, rows in kinds if rows]
    selected = _select(f"{name}, by kind of condition", lines, columns)
    return replace(selected, head="condition")
