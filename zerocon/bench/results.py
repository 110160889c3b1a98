"""The results file: one JSON line per row, written when it is done and never repeated."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TextIO, TypeVar

from zerocon.bench.native import NativeMeasurements
from zerocon.errors import FileFormatError, MismatchError, MissingFolderError, about_argument
from zerocon.storage.bounded import read_bytes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LONGEST = 64_000_000  # bytes of a file; a row has 1,500, one of a translation 10,000
MOST_VALUES = 5_000_000  # of its rows together; each takes up to 72 bytes of memory


class AnyRow(Protocol):
    """What the rows of every measurement have; they are frozen dataclasses."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def method(self) -> str: ...

    @property
    def recipe(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def setup(self) -> dict[str, str]: ...


R = TypeVar("R", bound=AnyRow)
D = TypeVar("D", bound="DataclassInstance")


@dataclass(frozen=True)
class MethodRecord:
    """Everything that determines a result except the scene.

    Attributes:
        setup: What all methods of a run share: weights, classifiers, version, ...
        settings: The settings of the method, as JSON values.
    """

    setup: dict[str, str]
    method: str
    settings: dict[str, Any]

    @property
    def hash(self) -> str:
        """Equal for equal records."""
        return digest(asdict(self))


@dataclass(frozen=True)
class ResultRow:
    """One edit: method, scene, cost and the fields of ``metrics.TaskMetrics``.

    ``recipe`` is the hash of its ``MethodRecord``; ``native`` has the measurements at the render
    size, None without one and if the method ignores the source.
    """

    method: str
    recipe: str
    seed: int
    kind: str
    caption: str
    target_caption: str
    success: bool
    preserved: bool | None
    psnr_inside: float | None
    psnr_outside: float | None
    errors: tuple[str, ...]
    evaluations: float
    seconds: float
    settings: dict[str, Any]
    setup: dict[str, str]
    native: NativeMeasurements | None = None

    @property
    def both(self) -> bool | None:
        """Edit success and preservation; None if the method ignores the source."""
        return None if self.preserved is None else self.success and self.preserved

    @property
    def has_render_size(self) -> bool:
        """Whether the run had ``--render``, so that edits were measured at that size."""
        return "render_size" in self.setup

    @property
    def summary(self) -> str:
        """One line for the contact sheet: the wrong predictions, or that all are correct."""
        return "; ".join(self.errors) or f"{self.kind}: correct"


def digest(value: Any) -> str:
    """A hash of a JSON value."""
    text = json.dumps(value, sort_keys=True)
    return blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class RowFormat(Generic[R]):
    """How rows of one kind are written: a JSON object a line, which begins with the schema.

    Attributes:
        schema: Its name, with a version.
        parse: The row of a JSON object without the schema; raises ``FileFormatError`` for others.
        old: Schemas of earlier versions, which are refused by name.
    """

    schema: str
    parse: Callable[[Any], R]
    old: tuple[str, ...] = ()

    def to_json(self, row: R) -> str:
        """A row as one line."""
        return json.dumps({"format": self.schema, **asdict(row)}, ensure_ascii=False)

    def from_json(self, line: str) -> R:
        """Parse a line of ``to_json``.

        Raises:
            FileFormatError: The line is something else, or a row of another version.
        """
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        version = values.pop("format", None) if isinstance(values, dict) else None
        if version in self.old:
            raise FileFormatError(
                f"rows of {version} cannot be read, only {self.schema}; run it again"
            )
        if version != self.schema:
            raise FileFormatError("not a row of zerocon bench")
        try:
            return self.parse(values)
        except TypeError:  # a field has another type
            raise FileFormatError("not a row of zerocon bench") from None

    def is_schema_of(self, path: Path) -> bool:
        """Whether a file begins with a row of this schema."""
        head = json.dumps({"format": self.schema})[:-1].encode()
        with path.open("rb") as file:
            return file.read(len(head)) == head

    @about_argument("path")
    def read(self, path: Path) -> list[R]:
        """The rows of a file; a truncated last line is ignored.

        Raises:
            FileFormatError: Something else is in the file, or rows of another version.
        """
        data, end = self._complete_lines(path)
        rows, values = list[R](), 0
        for number, line in enumerate(_lines(data[:end]), 1):
            try:
                values += sum(line.count(mark) for mark in ",[{")
                if values > MOST_VALUES:
                    raise FileFormatError(f"more than {MOST_VALUES} values up to here")
                rows.append(self.from_json(line))
            except FileFormatError as error:
                raise FileFormatError(f"{path}, line {number}: {error}") from error
        return rows

    @contextmanager
    def keeping(
        self,
        path: Path | None,
        accept: Callable[[Sequence[R]], None],
        *,
        overwrite: bool = False,
    ) -> Iterator[ResultsFile[R]]:
        """Open a results file to continue it; without ``path``, rows stay in memory.

        Args:
            path: The file; a truncated last line is removed from it.
            accept: Raises ``ValueError`` for existing rows that must not be continued; the file is
                then unchanged.
            overwrite: Start with an empty file.
        """
        if path is None:
            yield ResultsFile(self)
            return
        if not path.parent.is_dir():
            raise MissingFolderError(f"there is no directory {path.parent} to write {path.name} to")
        rows: list[R] = []
        if path.exists() and not overwrite:
            rows = self.read(path)
            try:
                accept(rows)
                check(rows)
            except ValueError as error:
                raise MismatchError(
                    f"{path}: {error}; name another file, or --overwrite it"
                ) from error
            os.truncate(path, self._complete_lines(path)[1])
        with path.open("w" if overwrite else "a", encoding="utf-8") as file:
            yield ResultsFile(self, rows, file)

    def _complete_lines(self, path: Path) -> tuple[bytes, int]:
        """The bytes of a file, and the end of its last complete line.

        What follows must be the beginning of a row: only a results file is ever truncated.
        """
        text = read_bytes(path, longest=LONGEST)
        end = text.rfind(b"\n") + 1
        rest, head = text[end:], json.dumps({"format": self.schema})[:-1].encode()
        if not (rest.startswith(head) or head.startswith(rest)):
            raise FileFormatError(f"{path} is not a results file of zerocon bench")
        return text, end


def _lines(data: bytes) -> Iterator[str]:
    """The lines of a text, one of them in memory at a time."""
    place = 0
    while place < len(data):
        end = data.index(b"\n", place) + 1
        yield data[place : end - 1].decode(errors="replace")
        place = end


class ResultsFile(Generic[R]):
    """Rows, and the open file that they are appended to, if there is one."""

    def __init__(
        self, form: RowFormat[R], rows: Iterable[R] = (), file: TextIO | None = None
    ) -> None:
        self._form, self.rows, self._file = form, list(rows), file

    def add(self, row: R) -> None:
        """Append a row, and write it to the disk before returning."""
        self.rows.append(row)
        if self._file is not None:
            self._file.write(self._form.to_json(row) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())


def check(rows: Iterable[AnyRow]) -> None:
    """Raise ``MismatchError`` for rows that must not be mixed in one table.

    They must have one setup, one recipe per method, and no edit twice.
    """
    setups: dict[str, str] = {}
    recipes: dict[str, str] = {}
    edits = set()
    for row in rows:
        if others := differing(setups or row.setup, row.setup):
            raise MismatchError(f"the rows are of different runs: different {', '.join(others)}")
        setups = row.setup
        if recipes.setdefault(row.method, row.recipe) != row.recipe:
            raise MismatchError(f"the rows of {row.method} have different settings")
        if (row.method, row.seed) in edits:
            raise MismatchError(f"scene {row.seed} appears twice with {row.method}")
        edits.add((row.method, row.seed))


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The names whose values differ between two setups."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def parse_fields(values: Any, cls: type[D]) -> D:
    """A dataclass from a JSON object with exactly its fields; ``FileFormatError`` for others."""
    if not isinstance(values, dict) or set(values) != {field.name for field in fields(cls)}:
        raise FileFormatError("not a row of zerocon bench")
    return cls(**values)


def _parse_edit(values: Any) -> ResultRow:
    row = parse_fields(values, ResultRow)
    native = None if row.native is None else parse_fields(row.native, NativeMeasurements)
    return replace(row, errors=tuple(row.errors), native=native)


EDITS = RowFormat(
    "zerocon.bench.row/3", _parse_edit, old=("zerocon.bench.row/1", "zerocon.bench.row/2")
)
