"""What became of every order: one SQLite file beside the results, and the only truth about them."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Literal, TypeVar
from uuid import uuid4

from filelock import FileLock, Timeout

from zerocon.batch.job import Job
from zerocon.errors import FileFormatError, NoSpaceError, NotWritableError

FOLDER, FILE = ".zerocon", "journal.sqlite"
PATIENCE = 60.0  # seconds to wait for another process's write
PAUSE = 0.02  # seconds between tries
VERSION = 1
T = TypeVar("T")
State = Literal["queued", "running", "placing", "done", "failed"]
SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    name TEXT PRIMARY KEY,      -- of the result, below the output folder
    said TEXT NOT NULL,         -- the order, as JSON
    recipe TEXT NOT NULL,       -- hash of all that decides the result but the picture
    picture TEXT NOT NULL,      -- its file
    stamp TEXT NOT NULL,        -- its size and time, as they were
    shape TEXT NOT NULL,        -- in which the model sees it: those of one go through it together
    state TEXT NOT NULL,
    replace_it INTEGER NOT NULL,  -- whether the result may take the place of a file
    result TEXT,                -- hash of the result's bytes, known before they are put in place
    content TEXT,               -- hash of the picture's bytes, as they were read
    reason TEXT,                -- why it failed, with the error's id; done, what is doubtful
    worker TEXT                 -- who has it
) STRICT;
CREATE INDEX IF NOT EXISTS by_state ON orders (state, picture);
CREATE TABLE IF NOT EXISTS runs (run INTEGER PRIMARY KEY, said TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS wanted (
    run INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
"""
COLUMNS = "said, recipe, stamp, shape, state, replace_it, result, content, reason, worker"


@dataclass(frozen=True)
class JobRecord:
    """An order, and how far it is."""

    job: Job
    recipe: str
    stamp: str
    shape: str
    state: State
    replace: bool = False
    result: str | None = None
    content: str | None = None
    reason: str | None = None
    worker: str | None = None

    @property
    def name(self) -> str:
        """Of the result, below the output folder."""
        return str(self.job.name)


class Journal:
    """The orders of one output folder; any number of processes and threads may use it at once.

    Nothing here asks a clock. Who has taken an order holds a lock of the operating system, which
    ends with the process, however that ends.
    """

    def __init__(self, outputs: Path, file: str = FILE) -> None:
        """Open the journal of ``outputs``, made if need be.

        Raises ``ValueError`` where none can be made, or for a file that is no journal.
        """
        self.outputs, self.folder = outputs, outputs / FOLDER
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NotWritableError(f"cannot write to {outputs}: {error.strerror}") from error
        self.file, self.guard = self.folder / file, threading.RLock()
        with self._plainly():
            self.base = sqlite3.connect(
                self.file, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._log_ahead()
            self.base.execute("PRAGMA synchronous = FULL")  # what is noted survives a power cut
            (version,) = self.base.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise FileFormatError(f"{self.file} is of another version of zerocon")
            self.base.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;"
            )
        self.state = self.file.stat()

    def close(self) -> None:
        """Let go of the file."""
        with self.guard:
            self.base.close()

    def begin(
        self,
        said: Mapping[str, Any],
        entries: Iterable[tuple[JobRecord | None, JobRecord]] = (),
        kept: Iterable[str] = (),
    ) -> int:
        """The number of a new run, told all that its workers must know.

        It wants ``entries``, put in as by ``enter``, and ``kept``, names of orders that are there:
        either all of it is noted or nothing, so that no run is resumed that wants only a part.
        """
        with self._writing():
            row = self.base.execute("INSERT INTO runs (said) VALUES (?)", (json.dumps(said),))
            run = int(row.lastrowid or 0)
            self._enter(run, entries)
            self._want(run, kept)
        return run

    def last(self) -> tuple[int, dict[str, Any]] | None:
        """The last run and what it was told; None before the first."""
        with self._plainly():
            row = self.base.execute(
                "SELECT run, said FROM runs ORDER BY run DESC LIMIT 1"
            ).fetchone()
        return None if row is None else (int(row[0]), _parsed(row[1], json.loads))

    def told(self, run: int) -> dict[str, Any]:
        """What a run was told."""
        with self._plainly():
            row = self.base.execute("SELECT said FROM runs WHERE run = ?", (run,)).fetchone()
        told: dict[str, Any] = _parsed(row[0], json.loads)
        return told

    def enter(self, run: int, entries: Iterable[tuple[JobRecord | None, JobRecord]]) -> None:
        """Put orders into the journal for a run to want, each in place of what was known of it.

        What somebody else has changed meanwhile stays, and is wanted as it is.
        """
        with self._writing():
            self._enter(run, entries)

    def take(
        self, run: int, worker: str, count: int = 1, beside: Path | None = None
    ) -> list[JobRecord]:
        """Up to ``count`` queued orders of a run, now the worker's own: nobody else gets them.

        First those of the picture ``beside``, whose path to noise the worker knows; otherwise of
        the first one in the queue, then of others that the model sees in its shape.
        """
        queued = (
            "FROM orders JOIN wanted USING (name) WHERE run = ? AND state = 'queued' "
            "ORDER BY picture != ?"
        )
        with self._writing():
            first = self.base.execute(
                f"SELECT picture, shape {queued}, orders.rowid LIMIT 1",
                (run, "" if beside is None else _text(beside)),
            ).fetchone()
            if first is None:
                return []
            rows = self.base.execute(
                "UPDATE orders SET state = 'running', worker = ? WHERE name IN "
                f"(SELECT name {queued}, shape != ?, picture, orders.rowid LIMIT ?) "
                f"RETURNING {COLUMNS}",
                (worker, run, first[0], first[1], count),
            ).fetchall()
        return [_entry(row) for row in rows]

    def place(self, name: str, worker: str, result: str, content: str) -> bool:
        """Note the hashes of a result about to be put in place, and of the picture it is made of.

        False if the order is not the worker's any more.
        """
        with self._writing():
            row = self.base.execute(
                "UPDATE orders SET state = 'placing', result = ?, content = ? "
                "WHERE name = ? AND worker = ? AND state = 'running'",
                (result, content, name, worker),
            )
        return row.rowcount == 1

    def finish(self, name: str, worker: str, remarks: str | None = None) -> None:
        """Note that a worker's result is in place, and what is doubtful about it."""
        self._set(name, worker, "done", remarks)

    def fail(self, name: str, worker: str, reason: str) -> None:
        """Note why a worker cannot carry an order out."""
        self._set(name, worker, "failed", reason)

    def put_back(self, worker: str) -> None:
        """Queue again what a worker has taken and not finished."""
        with self._writing():
            self.base.execute(
                "UPDATE orders SET state = 'queued', worker = NULL "
                "WHERE worker = ? AND state IN ('running', 'placing')",
                (worker,),
            )

    def entries(self, run: int | None = None, *states: State) -> list[JobRecord]:
        """Orders in some states, or in any, of a run or of all, in the order in which they came."""
        return [_entry(row) for row in self._select(COLUMNS, run, states)]

    def names(self, run: int, *states: State) -> list[str]:
        """Names of orders in some states; of many, much faster than ``entries``."""
        return [name for (name,) in self._select("name", run, states)]

    def entry(self, name: str) -> JobRecord | None:
        """What is known of the order of one result."""
        with self._plainly():
            row = self.base.execute(
                f"SELECT {COLUMNS} FROM orders WHERE name = ?", (name,)
            ).fetchone()
        return None if row is None else _entry(row)

    def counts(self, run: int) -> dict[str, int]:
        """How many orders of a run are in every state that there is."""
        with self._plainly():
            rows = self.base.execute(
                "SELECT state, count(*) FROM orders JOIN wanted USING (name) WHERE run = ? "
                "GROUP BY state",
                (run,),
            ).fetchall()
        return dict(rows)

    def workers(self) -> list[str]:
        """Everybody who has an order or has left a lock behind, alive or not."""
        with self._plainly():
            rows = self.base.execute(
                "SELECT DISTINCT worker FROM orders WHERE state IN ('running', 'placing')"
            ).fetchall()
        locks = (path.stem.removeprefix("worker-") for path in self.folder.glob("worker-*.lock"))
        return sorted({*(worker for (worker,) in rows), *locks})

    @contextmanager
    def working(self) -> Iterator[str]:
        """The name of a new worker, alive for everybody to see until the block or process ends."""
        worker = uuid4().hex
        lock = FileLock(self._lock(worker))
        with lock:
            try:
                yield worker
            finally:
                self._let_go(worker)

    def dead(self, workers: Collection[str]) -> list[str]:
        """Those of ``workers`` whose processes have ended without a word."""
        found = []
        for worker in workers:
            try:
                with FileLock(self._lock(worker), timeout=0):
                    found.append(worker)
            except Timeout:
                continue
            self._let_go(worker)
        return found

    def require_here(self) -> None:
        """Raise ``ValueError`` if the folder was removed: what is noted now would be lost."""
        try:
            here = self.file.stat()
        except OSError as error:
            raise NotWritableError(f"the journal {self.file} is gone: {error.strerror}") from error
        if (here.st_dev, here.st_ino) != (self.state.st_dev, self.state.st_ino):
            raise NotWritableError(f"the journal {self.file} was replaced by another one")

    def _enter(self, run: int, entries: Iterable[tuple[JobRecord | None, JobRecord]]) -> None:
        for known, each in entries:
            if self.entry(each.name) == known:
                self.base.execute(
                    "INSERT OR REPLACE INTO orders (name, said, recipe, picture, stamp, shape, "
                    "state, replace_it) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        each.name, each.job.to_json(), each.recipe, _text(each.job.image),
                        each.stamp, each.shape, each.state, each.replace,
                    ),
                )  # fmt: skip
            self._want(run, [each.name])

    def _want(self, run: int, names: Iterable[str]) -> None:
        self.base.executemany(
            "INSERT OR IGNORE INTO wanted VALUES (?, ?)", ((run, name) for name in names)
        )

    def _lock(self, worker: str) -> Path:
        return self.folder / f"worker-{worker}.lock"

    def _let_go(self, worker: str) -> None:
        with suppress(OSError):  # where nothing may be written any more; the next one tidies up
            self._lock(worker).unlink()

    def _set(self, name: str, worker: str, state: State, reason: str | None) -> None:
        reason = reason and _text(reason)  # it may name a file
        with self._writing():
            self.base.execute(
                "UPDATE orders SET state = ?, reason = ?, worker = NULL "
                "WHERE name = ? AND worker = ?",
                (state, reason, name, worker),
            )

    def _select(self, columns: str, run: int | None, states: Collection[State]) -> list[Any]:
        query, values = f"SELECT {columns} FROM orders", list[Any](states)
        if run is not None:
            query, values = f"{query} JOIN wanted USING (name)", [run, *values]
        terms = ["run = ?"] * (run is not None)
        terms += [f"state IN ({', '.join('?' * len(states))})"] * bool(states)
        where = f" WHERE {' AND '.join(terms)}" if terms else ""
        with self._plainly():
            return self.base.execute(f"{query}{where} ORDER BY orders.rowid", values).fetchall()

    def _log_ahead(self) -> None:
        """Let readers not wait for a writer; SQLite does not wait itself where others do so too."""
        end = monotonic() + PATIENCE
        while True:
            try:
                self.base.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > end:
                    raise
                sleep(PAUSE)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """All or nothing, and alone: what is read inside holds until it is written."""
        with self._plainly():
            self.require_here()
            self.base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.base.execute("COMMIT")
            except BaseException:
                if self.base.in_transaction:
                    self.base.execute("ROLLBACK")
                raise

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """SQLite's errors as our own; one thread at a time."""
        try:
            with self.guard:
                yield
        except sqlite3.Error as error:
            said = f"the journal {self.file} cannot be used: {error}"
            if "full" in str(error):
                raise NoSpaceError(said) from error
            if "not a database" in str(error) or "malformed" in str(error):
                raise FileFormatError(said) from error
            raise NotWritableError(said) from error
        except UnicodeDecodeError as error:  # of what should be text, while SQLite says so
            raise FileFormatError(f"the journal {self.file} is damaged") from error


def _text(said: Path | str) -> str:
    """As text: some names of files are none."""
    return str(said).encode("utf-8", "backslashreplace").decode()


def _entry(row: tuple[Any, ...]) -> JobRecord:
    said, recipe, stamp, shape, state, replace, *others = row
    job = _parsed(said, Job.from_json)
    return JobRecord(job, recipe, stamp, shape, state, bool(replace), *others)


def _parsed(line: str, parse: Callable[[str], T]) -> T:
    """What a line says that was written here; SQLite does not notice bytes that changed in it."""
    try:
        return parse(line)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise FileFormatError(f"the journal is damaged: it says {line[:60]!r}") from error
