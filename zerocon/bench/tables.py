"""Tables of results: means over kinds of edits with intervals, and paired differences."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np

from zerocon.bench.native import decibels, old_detail, true_detail
from zerocon.bench.results import ResultRow
from zerocon.bench.tasks import KINDS
from zerocon.errors import CommandError

REFERENCE = "default"  # the method that differences refer to
RESAMPLES = (
    2000  # of the bootstrap: the ends of an interval are then exact to about a fortieth of it
)
CONFIDENCE = 0.95

Groups = Sequence[np.ndarray]  # (terms, scenes) or (scenes,), one array for each kind of edit
Statistic = Callable[..., Any]  # of one number or array for each term
Unit = Literal["share", "precise share", "dB", "ratio", "score", "cost"]

FORMATS = {  # factor, decimal places and sign of a column's unit
    "share": (100, 0, " %"),
    "precise share": (100, 2, " %"),
    "dB": (1, 1, ""),
    "ratio": (1, 2, ""),
    "score": (1, 3, ""),
    "cost": (1, 1, ""),
}


def only(value: Any) -> Any:
    """The statistic of a plain mean: the mean of the only term."""
    return value


class HasKind(Protocol):
    """What a line is made of: values of the columns as attributes, grouped by kind."""

    @property
    def kind(self) -> str: ...


H = TypeVar("H", bound=HasKind)


class Column(NamedTuple):
    """One measurement: the name of its cells, its heading and its unit.

    Attributes:
        terms: Fields of ``ResultRow.native``; none for the row's field ``name``.
        statistic: Computed from the mean of each term over the scenes of a kind, so that a ratio is
            pooled: one of sums, not the mean of ratios.
    """

    name: str
    title: str
    unit: Unit
    terms: tuple[str, ...] = ()
    statistic: Statistic = only

    def read(self, row: Any) -> tuple[float, ...] | None:
        """The terms of one scene; None if it has no such measurement."""
        source, names = (row.native, self.terms) if self.terms else (row, (self.name,))
        values = [getattr(source, name, None) for name in names]
        numbers = tuple(float(value) for value in values if value is not None)
        if len(numbers) < len(values) or np.isnan(self.statistic(*numbers)):
            return None
        return numbers


def columns_of(unit: Unit, **headings: str) -> tuple[Column, ...]:
    """Columns of one unit, each with its heading."""
    return tuple(Column(name, heading, unit) for name, heading in headings.items())


SUCCESS = columns_of("share", success="success", preserved="preserved", both="both")
COST = columns_of("cost", evaluations="evaluations", seconds="seconds")
COLUMNS = (
    *SUCCESS,
    *columns_of("dB", psnr_inside="PSNR inside", psnr_outside="PSNR outside"),
    *COST,
)
DETAIL = ("detail_ss", "detail_st", "detail_tt", "detail_sr", "detail_tr")
NATIVE_COLUMNS = (  # of rows with a render size
    *SUCCESS,
    Column("inside", "inside dB", "dB", ("inside_error", "inside_samples"), decibels),
    Column("outside", "outside dB", "dB", ("outside_error", "outside_samples"), decibels),
    Column("whole", "whole dB", "dB", ("whole_error", "whole_samples"), decibels),
    Column("equal", "byte-equal", "precise share", ("equal",)),
    Column("old_detail", "old detail", "ratio", DETAIL, old_detail),
    Column("true_detail", "true detail", "ratio", DETAIL, true_detail),
    Column("mask_iou", "mask IoU", "ratio", ("mask_iou",)),
    *COST,
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
    columns: tuple[Column, ...]
    lines: tuple[TableLine, ...]
    signed: bool = False


def compare(rows: Sequence[ResultRow]) -> Table:
    """Every method's means over kinds of edits, in the order of the rows."""
    title, columns = "Means over kinds of edits", _columns(rows)
    lines = [line(method, part, columns) for method, part in _by_method(rows).items()]
    return Table(title, "method", columns, tuple(lines))


def differ(rows: Sequence[ResultRow]) -> Table | None:
    """Every method minus ``REFERENCE`` on the scenes of both; None without the reference."""
    methods = _by_method(rows)
    reference = {row.seed: row for row in methods.pop(REFERENCE, [])}
    if not reference or not methods:
        return None
    lines, columns = [], _columns(rows)
    for name, part in methods.items():
        shared = [row for row in part if row.seed in reference]
        lines.append(line(name, shared, columns, lambda row: reference[row.seed]))
    title = f"Difference from {REFERENCE}, on the same scenes"
    return Table(title, "method", columns, tuple(lines), signed=True)


def by_kind(rows: Sequence[ResultRow], method: str) -> Table:
    """One method's means for every kind of edit; raises ``CommandError`` if it has no rows."""
    methods = _by_method(rows)
    if method not in methods:
        raise CommandError(f"there are no rows of {method}; there are: {', '.join(methods)}")
    part, columns = methods[method], _columns(rows)
    kinds = [(kind, [row for row in part if row.kind == kind]) for kind in KINDS]
    lines = [line(kind, some, columns) for kind, some in kinds if some]
    lines.append(line("mean over kinds", part, columns))
    return Table(f"{method}, by kind of edit", "edit", columns, tuple(lines))


def line(
    name: str,
    rows: Sequence[H],
    columns: Sequence[Column],
    less: Callable[[H], H] | None = None,
) -> TableLine:
    """Estimates of every column; with ``less``, of the difference from the row that it returns.

    Args:
        name: In the first column.
        rows: One per scene.
        columns: What is estimated.
        less: The row that a row is compared with, of the same scene.
    """
    cells = []
    for column in columns:
        statistic = column.statistic
        groups: dict[str, list[tuple[float, ...]]] = {}
        for row in rows:
            terms = column.read(row)
            if terms is not None and less is not None:
                others = column.read(less(row))
                terms = None if others is None else _pair(terms, others, statistic)
            if terms is not None:
                groups.setdefault(row.kind, []).append(terms)
        if less is not None and statistic is not only:
            statistic = _difference(statistic)
        cells.append(estimate([np.array(group).T for group in groups.values()], statistic))
    return TableLine(name, len(rows), tuple(cells))


def estimate(groups: Groups, statistic: Statistic = only) -> Estimate | None:
    """Mean over the groups of ``statistic``, and its 95 % stratified bootstrap interval.

    Scenes are resampled within their kind, with a fixed seed, and the statistic is computed again
    from the means of the terms. None without any values; no interval if a group has a single value.
    """
    groups = [np.atleast_2d(group) for group in groups if group.size]
    if not groups:
        return None
    mean = np.mean([statistic(*group.mean(-1)) for group in groups])
    if min(group.shape[-1] for group in groups) < 2:
        return Estimate(float(mean))
    rng, means = np.random.default_rng(0), []
    for group in groups:
        scenes = group.shape[-1]
        resampled = group[:, rng.integers(0, scenes, (RESAMPLES, scenes))]
        means.append(statistic(*resampled.mean(-1)))
    below = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.mean(means, axis=0), [below, 1 - below])
    return Estimate(float(mean), float(low), float(high))


def as_text(tables: Iterable[Table]) -> str:
    """Tables aligned for a terminal."""
    return "\n\n".join(f"{table.title}:\n\n{aligned(_cells(table))}" for table in tables)


def as_markdown(tables: Iterable[Table]) -> str:
    """Tables in Markdown."""
    return "\n\n".join(f"{table.title}:\n\n{markdown(_cells(table))}" for table in tables)


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Lines of cells, the heading first, in columns."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in cells]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """Lines of cells, the heading first, as a table in Markdown."""
    head, *lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([head, "|---" * len(cells[0]) + "|", *lines])


def as_json(tables: Iterable[Table], rows: Sequence[ResultRow]) -> str:
    """Tables of one run in the schema ``zerocon.bench.tables/3``."""
    setup = rows[0].setup if rows else {}
    return record(tables, setup, {row.method: row.settings for row in rows})


def record(
    tables: Iterable[Table], setup: Mapping[str, str], settings: Mapping[str, Mapping[str, Any]]
) -> str:
    """Tables in the schema ``zerocon.bench.tables/3``; shares from 0 to 1, PSNR in dB.

    Args:
        tables: The tables.
        setup: What all rows share.
        settings: Of every method or model, by name.
    """
    values: dict[str, Any] = {
        "schema": "zerocon.bench.tables/3",
        "setup": setup,
        "settings": settings,
        "tables": [
            {"title": table.title, "lines": [_record(table, each) for each in table.lines]}
            for table in tables
        ],
    }
    return json.dumps(values, indent=2, ensure_ascii=False)


def _columns(rows: Iterable[ResultRow]) -> tuple[Column, ...]:
    return NATIVE_COLUMNS if any(row.has_render_size for row in rows) else COLUMNS


def _by_method(rows: Iterable[ResultRow]) -> dict[str, list[ResultRow]]:
    methods: dict[str, list[ResultRow]] = {}
    for row in rows:
        methods.setdefault(row.method, []).append(row)
    return methods


def _pair(
    terms: tuple[float, ...], others: tuple[float, ...], statistic: Statistic
) -> tuple[float, ...]:
    """Terms of the difference of one scene's measurements by two methods."""
    if statistic is only:  # the same as the difference of means, without rounding of shares
        return (terms[0] - others[0],)
    return (*terms, *others)


def _difference(statistic: Statistic) -> Statistic:
    """``statistic`` of the first half of the terms minus that of the second half."""

    def difference(*terms: Any) -> Any:
        half = len(terms) // 2
        return statistic(*terms[:half]) - statistic(*terms[half:])

    return difference


def _cells(table: Table) -> list[list[str]]:
    """The cells of the table as text, the heading first."""
    rows = [[table.head, "n", *(column.title for column in table.columns)]]
    for line in table.lines:
        cells = zip(line.cells, table.columns, strict=True)
        values = [_format(cell, column, table.signed) for cell, column in cells]
        rows.append([line.name, str(line.count), *values])
    return rows


def _format(cell: Estimate | None, column: Column, signed: bool) -> str:
    if cell is None:
        return "-"
    factor, places, unit = FORMATS[column.unit]
    sign = "+" if signed else ""
    mean, *ends = [
        None if value is None else f"{round(factor * value, places) + 0.0:{sign}.{places}f}"
        for value in cell
    ]
    if None in ends or ends == [mean, mean]:
        return f"{mean}{unit}"
    return f"{mean}{unit} [{', '.join(map(str, ends))}]"


def _record(table: Table, line: TableLine) -> dict[str, Any]:
    cells = zip(table.columns, line.cells, strict=True)
    values = {column.name: None if cell is None else cell._asdict() for column, cell in cells}
    return {table.head: line.name, "n": line.count, **values}
