"""One line of JSON for every edit: written when it is done, never done twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any, TextIO

from zerocon.errors import FileFormatError, MismatchError, MissingFolderError

FORMAT = "zerocon.bench.row/1"
HEAD = json.dumps({"format": FORMAT})[:-1]  # how every line begins


@dataclass(frozen=True)
class MethodRecord:
    """All that decides an edit but its scene.

    ``setup`` is shared by the methods of one comparison (weights, classifiers, version, ...);
    ``settings`` are the method's own, as JSON has them.
    """

    setup: dict[str, str]
    method: str
    settings: dict[str, Any]

    @property
    def hash(self) -> str:
        """Equal for equal recipes."""
        return digest(asdict(self))


@dataclass(frozen=True)
class ResultRow:
    """One edit: its recipe, its scene, its cost and its ``verdicts.TaskMetrics``."""

    method: str
    recipe: str
    seed: int
    kind: str
    caption: str
    target_caption: str
    asked: bool
    kept: bool | None
    inside: float | None
    outside: float | None
    wrong: tuple[str, ...]
    evaluations: float
    seconds: float
    settings: dict[str, Any]
    setup: dict[str, str]

    @property
    def both(self) -> bool | None:
        """What was asked for is there, and the rest as it was; None for no edit of the source."""
        return None if self.kept is None else self.asked and self.kept

    @property
    def verdict(self) -> str:
        """In a few words."""
        return "; ".join(self.wrong) or f"{self.kind}: right"


def digest(value: Any) -> str:
    """A hash of anything JSON can say."""
    text = json.dumps(value, sort_keys=True)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def to_json(row: ResultRow) -> str:
    """One line."""
    return json.dumps({"format": FORMAT, **asdict(row)}, ensure_ascii=False)


def from_json(line: str) -> ResultRow:
    """What ``to_json`` wrote; anything else is a ``ValueError``."""
    values = json.loads(line)
    names = {field.name for field in fields(ResultRow)}
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT or set(values) != names:
        raise ValueError("no row of a comparison")
    return ResultRow(**{**values, "wrong": tuple(values["wrong"])})


def read(path: Path) -> list[ResultRow]:
    """The rows of a file; a last line that was torn off is none.

    Raises ``ValueError``, naming the line, if anything else is in it.
    """
    lines, _ = _whole(path)
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(from_json(line))
        except ValueError as error:
            raise FileFormatError(f"{path}, line {number}, is no row of zerocon bench") from error
    return found


class ResultsFile:
    """Rows, and the open file that keeps them if there is one."""

    def __init__(self, rows: Iterable[ResultRow] = (), file: TextIO | None = None) -> None:
        self.rows, self._file = list(rows), file

    def add(self, row: ResultRow) -> None:
        """Remember a row, and see it to the disk."""
        self.rows.append(row)
        if self._file is not None:
            self._file.write(to_json(row) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())


@contextmanager
def keeping(
    path: Path | None, accept: Callable[[list[ResultRow]], None], *, overwrite: bool = False
) -> Iterator[ResultsFile]:
    """A book that goes on where the file at ``path`` ends; without ``path`` it is in memory only.

    A last line that was torn off is dropped. ``accept`` raises ``ValueError`` for rows that must
    not be continued, and then nothing is changed; with ``overwrite`` the book begins empty.
    """
    if path is None:
        yield ResultsFile()
        return
    if not path.parent.is_dir():
        raise MissingFolderError(f"there is no folder {path.parent} to write {path.name} to")
    found: list[ResultRow] = []
    if path.exists() and not overwrite:
        found = read(path)
        try:
            accept(found)
            check(found)
        except ValueError as error:
            raise MismatchError(f"{path}: {error}; name another file, or --overwrite it") from error
        os.truncate(path, _whole(path)[1])
    with path.open("w" if overwrite else "a", encoding="utf-8") as file:
        yield ResultsFile(found, file)


def check(rows: Iterable[ResultRow]) -> None:
    """Raise ``ValueError`` for rows that cannot stand in one table.

    They must be of one setup, with one recipe for every method, and no edit may come twice.
    """
    setups: dict[str, str] = {}
    recipes: dict[str, str] = {}
    seen = set()
    for row in rows:
        if others := differing(setups or row.setup, row.setup):
            raise MismatchError(f"the rows are of different runs: other {', '.join(others)}")
        setups = row.setup
        if recipes.setdefault(row.method, row.recipe) != row.recipe:
            raise MismatchError(f"the rows of {row.method} were made with different settings")
        if (row.method, row.seed) in seen:
            raise MismatchError(f"scene {row.seed} comes twice with {row.method}")
        seen.add((row.method, row.seed))


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names under which two setups do not say the same."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _whole(path: Path) -> tuple[list[str], int]:
    """The lines of a file that end, and where the last of them does.

    What follows must look like the beginning of a row: nobody else's file is cut.
    """
    text = path.read_bytes()
    end = text.rfind(b"\n") + 1
    torn, head = text[end:], HEAD.encode()
    if not (torn.startswith(head) or head.startswith(torn)):
        raise FileFormatError(f"{path} is no file of rows of zerocon bench")
    return text[:end].decode(errors="replace").splitlines(), end
