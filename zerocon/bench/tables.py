"""Tables of results: means over kinds of edits with intervals, and paired differences."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import numpy as np

from zerocon.bench.results import ResultRow
from zerocon.bench.tasks import KINDS
from zerocon.errors import CommandError

REFERENCE = "default"  # the method that differences refer to
RESAMPLES = (
    2000  # of the bootstrap: the ends of an interval are then exact to about a fortieth of it
)
CONFIDENCE = 0.95

Groups = list[np.ndarray]  # values, one array for each kind of edit


class Column(NamedTuple):
    """One measurement: a field of ``ResultRow``, its heading and its unit."""

    name: str
    title: str
    unit: Literal["share", "dB", "cost"]


COLUMNS = (
    Column("success", "success", "share"),
    Column("preserved", "preserved", "share"),
    Column("both", "both", "share"),
    Column("psnr_inside", "PSNR inside", "dB"),
    Column("psnr_outside", "PSNR outside", "dB"),
    Column("evaluations", "evaluations", "cost"),
    Column("seconds", "seconds", "cost"),
)


class Estimate(NamedTuple):
    """A mean and its 95 % interval, None with too few values."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class TableLine:
    """A name, its number of scenes, and one estimate per column (None: not measured)."""

    name: str
    count: int
    cells: tuple[Estimate | None, ...]


@dataclass(frozen=True)
class Table:
    """A title, the heading ``head`` of the names, and lines; differences are ``signed``."""

    title: str
    head: str
    lines: tuple[TableLine, ...]
    signed: bool = False


def compare(rows: Sequence[ResultRow]) -> Table:
    """Every method's means over kinds of edits, in the order of the rows."""
    title = "Means over kinds of edits"
    return Table(title, "method", tuple(_line(m, part) for m, part in _by_method(rows).items()))


def differ(rows: Sequence[ResultRow]) -> Table | None:
    """Every method minus ``REFERENCE`` on the scenes of both; None without the reference."""
    methods = _by_method(rows)
    reference = {row.seed: row for row in methods.pop(REFERENCE, [])}
    if not reference or not methods:
        return None
    lines = []
    for name, part in methods.items():
        shared = [row for row in part if row.seed in reference]
        lines.append(_line(name, shared, lambda row: reference[row.seed]))
    return Table(f"Difference from {REFERENCE}, on the same scenes", "method", tuple(lines), True)


def by_kind(rows: Sequence[ResultRow], method: str) -> Table:
    """One method's means for every kind of edit; raises ``CommandError`` if it has no rows."""
    methods = _by_method(rows)
    if method not in methods:
        raise CommandError(f"there are no rows of {method}; there are: {', '.join(methods)}")
    part = methods[method]
    kinds = [(kind, [row for row in part if row.kind == kind]) for kind in KINDS]
    lines = [_line(kind, some) for kind, some in kinds if some]
    return Table(f"{method}, by kind of edit", "edit", (*lines, _line("mean over kinds", part)))


def estimate(groups: Groups) -> Estimate | None:
    """Mean of the groups' means, and its 95 % stratified bootstrap interval.

    Scenes are resampled within their kind, with a fixed seed. None without any values; no interval
    if a group has a single value, or without scipy.
    """
    groups = [group for group in groups if len(group)]
    if not groups:
        return None
    mean = float(_mean(*groups))
    if min(map(len, groups)) < 2 or not has_intervals():
        return Estimate(mean)
    from scipy.stats import bootstrap

    interval = bootstrap(
        groups,
        _mean,
        n_resamples=RESAMPLES,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(mean, float(interval.low), float(interval.high))


def has_intervals() -> bool:
    """Whether scipy is installed, which the intervals need."""
    return find_spec("scipy") is not None


def as_text(tables: Iterable[Table]) -> str:
    """Tables aligned for a terminal."""
    parts = []
    for table in tables:
        cells = _cells(table)
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in cells
        ]
        parts.append("\n".join([f"{table.title}:", "", *lines]))
    return "\n\n".join(parts)


def as_markdown(tables: Iterable[Table]) -> str:
    """Tables in Markdown."""
    parts = []
    for table in tables:
        head, *lines = [f"| {' | '.join(row)} |" for row in _cells(table)]
        rule = "|---" * (len(COLUMNS) + 2) + "|"
        parts.append("\n".join([f"{table.title}:", "", head, rule, *lines]))
    return "\n\n".join(parts)


def as_json(tables: Iterable[Table], rows: Sequence[ResultRow]) -> str:
    """Tables in the schema ``zerocon.bench.tables/2``; shares from 0 to 1, PSNR in dB."""
    record: dict[str, Any] = {
        "schema": "zerocon.bench.tables/2",
        "setup": rows[0].setup if rows else {},
        "settings": {row.method: row.settings for row in rows},
        "tables": [
            {"title": table.title, "lines": [_record(table, line) for line in table.lines]}
            for table in tables
        ],
    }
    return json.dumps(record, indent=2, ensure_ascii=False)


def _mean(*groups: np.ndarray, axis: int = -1) -> Any:
    return np.mean([group.mean(axis) for group in groups], axis=0)


def _by_method(rows: Iterable[ResultRow]) -> dict[str, list[ResultRow]]:
    methods: dict[str, list[ResultRow]] = {}
    for row in rows:
        methods.setdefault(row.method, []).append(row)
    return methods


def _line(
    name: str, rows: Sequence[ResultRow], less: Callable[[ResultRow], ResultRow] | None = None
) -> TableLine:
    """Estimates of every column; with ``less``, of the difference from the row that it returns."""
    cells = []
    for column in COLUMNS:
        groups: dict[str, list[float]] = {}
        for row in rows:
            values = [getattr(each, column.name) for each in ([row, less(row)] if less else [row])]
            if None not in values:
                value = float(values[0]) - sum(map(float, values[1:]))
                groups.setdefault(row.kind, []).append(value)
        cells.append(estimate([np.array(group) for group in groups.values()]))
    return TableLine(name, len(rows), tuple(cells))


def _cells(table: Table) -> list[list[str]]:
    """The cells of the table as text, the heading first."""
    rows = [[table.head, "n", *(column.title for column in COLUMNS)]]
    for line in table.lines:
        cells = zip(line.cells, COLUMNS, strict=True)
        values = [_format(cell, column, table.signed) for cell, column in cells]
        rows.append([line.name, str(line.count), *values])
    return rows


def _format(cell: Estimate | None, column: Column, signed: bool) -> str:
    if cell is None:
        return "-"
    factor, places = (100, 0) if column.unit == "share" else (1, 1)
    sign = "+" if signed else ""
    mean, *ends = [
        None if value is None else f"{round(factor * value, places) + 0.0:{sign}.{places}f}"
        for value in cell
    ]
    unit = " %" if column.unit == "share" else ""
    if None in ends or ends == [mean, mean]:
        return f"{mean}{unit}"
    return f"{mean}{unit} [{', '.join(map(str, ends))}]"


def _record(table: Table, line: TableLine) -> dict[str, Any]:
    cells = zip(COLUMNS, line.cells, strict=True)
    values = {column.name: None if cell is None else cell._asdict() for column, cell in cells}
    return {table.head: line.name, "n": line.count, **values}
