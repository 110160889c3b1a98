"""The journal: one SQLite file in the output directory with the state of every job."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from time import monotonic, sleep
from typing import Any, Literal, TypeVar, get_args
from uuid import uuid4

from filelock import FileLock, Timeout

from zerocon.batch import signing
from zerocon.batch.job import Job
from zerocon.errors import FileFormatError, MismatchError, NoSpaceError, NotWritableError
from zerocon.storage.hashing import hash_of

FOLDER, FILE = ".zerocon", "journal.sqlite"
TIMEOUT = 60.0  # seconds to wait for another process's transaction
PAUSE = 0.02  # seconds between attempts
VERSION = 2
# A journal may be of another user, and anything may be in it.
LONGEST_VALUE = 1_000_000  # bytes of a row, and of a text in one
LONGEST_DEFINITION, MOST_DEFINITIONS = 20_000, 2_000  # bytes of one table's, and SQLite's steps
CACHE = 4_000  # kilobytes of pages in memory, whatever the file says
MOST_FOREIGN = 24_000_000  # characters of the jobs that are read of another user's run
MOST_FOREIGN_ROWS = 100_000
MOST_WORKERS = 10_000  # each has a file, which is opened
FORMAT_FAULTS = ("not a database", "malformed", "interrupted", "too big")  # in SQLite's errors
PAGE = 1_000  # rows that are read at a time
T = TypeVar("T")
State = Literal["queued", "running", "placing", "copying", "done", "unchanged", "failed"]
End = Literal["done", "unchanged", "failed"]
PLACED: Mapping[State, End] = {"placing": "done", "copying": "unchanged"}  # once the file is there
STATES = get_args(State)
WORKER = re.compile(r"\w{1,64}")
ENDED: tuple[End, ...] = ("done", "unchanged", "failed")
CLAIMED = "('running', 'placing', 'copying')"  # states of jobs that are a worker's
SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    name TEXT PRIMARY KEY,      -- of the result, below the output directory
    job TEXT NOT NULL,          -- as JSON
    recipe_hash TEXT NOT NULL,  -- of everything that determines the result except the image
    image TEXT NOT NULL,        -- its file
    stamp TEXT NOT NULL,        -- its size and modification time
    shape TEXT NOT NULL,        -- its size in the model: jobs of one shape are edited together
    state TEXT NOT NULL,
    overwrite INTEGER NOT NULL, -- whether the result may replace an existing file
    result_hash TEXT,           -- of the result's bytes, recorded before they are in place
    image_hash TEXT,            -- of the image's bytes, as they were read
    message TEXT,               -- failed, unchanged: the reason, with the error's id; then warnings
    worker TEXT,                -- that has claimed the job
    caption TEXT,               -- of the source image, where it is known
    target_caption TEXT         -- of the edited image
) STRICT;
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, image);
CREATE TABLE IF NOT EXISTS runs (run INTEGER PRIMARY KEY, parameters TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS run_jobs (
    run INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS signatures (run INTEGER PRIMARY KEY, signature TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS sessions (run INTEGER PRIMARY KEY, worker TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS sheets (file TEXT PRIMARY KEY, hash TEXT NOT NULL) STRICT;
"""
ADDED = ("caption", "target_caption")  # columns that older journals do not have
COLUMNS = (
    "name, job, recipe_hash, stamp, shape, state, overwrite, result_hash, image_hash, message, "
    "worker, caption, target_caption"
)


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        state: "done", "unchanged" (the image is as the prompt describes it already) or "failed".
        reason: Why there is no edit; one line that ends in an error id.
        warnings: What is doubtful about the result, one line each.
        caption: Source caption, where it is known.
        target_caption: Target caption of an edit.
    """

    state: End
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    caption: str | None = None
    target_caption: str | None = None

    @property
    def message(self) -> str | None:
        """Reason and warnings as one text, as the journal keeps them."""
        lines = [*([self.reason] if self.reason else []), *self.warnings]
        return "\n".join(" ".join(line.split()) for line in lines) or None


DONE = Outcome("done")


@dataclass(frozen=True)
class JobRecord:
    """A job and its state; the fields are the columns of the journal."""

    job: Job
    recipe_hash: str
    stamp: str
    shape: str
    state: State
    overwrite: bool = False
    result_hash: str | None = None
    image_hash: str | None = None
    message: str | None = None
    worker: str | None = None
    caption: str | None = None
    target_caption: str | None = None

    @property
    def name(self) -> str:
        """Path of the result below the output directory."""
        return str(self.job.name)

    @property
    def copied(self) -> bool:
        """Whether the source of an unchanged image was copied to the output."""
        return self.state == "unchanged" and self.result_hash is not None

    def is_edit_of(self, other: JobRecord) -> bool:
        """Whether both are the same edit of the same image; a moved or touched one is hashed."""
        if self.recipe_hash != other.recipe_hash:
            return False
        if (self.job.image, self.stamp) == (other.job.image, other.stamp):
            return True
        return self.image_hash is not None and self.image_hash == hash_of(other.job.image)

    @property
    def outcome(self) -> Outcome | None:
        """How the job ended, or will have ended when its file is in place; None before."""
        state = PLACED.get(self.state, self.state)
        if state not in ENDED:
            return None
        lines = self.message.split("\n") if self.message else []
        reason = lines.pop(0) if lines and state != "done" else None
        return Outcome(state, reason, tuple(lines), self.caption, self.target_caption)


class Journal:
    """The jobs of one output directory; any number of processes and threads may use it at once.

    A journal may come from another user: every row is checked when it is read, and results lie
    in the output directory. Whether a run is this user's own is known by its signature.

    Nothing depends on a clock. A worker that has claimed jobs holds a lock of the operating system,
    which ends with the process, however that ends.
    """

    def __init__(self, output: Path, file: str = FILE) -> None:
        """Open the journal of ``output``, and create it if it does not exist.

        Raises:
            ValueError: If it cannot be created, or the file is not a journal of this version.
        """
        self.output, self.folder = output, output / FOLDER
        self._require_no_links(file)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NotWritableError(f"cannot write to {output}: {error.strerror}") from error
        self.file, self.lock = self.folder / file, threading.RLock()
        with self._sqlite_errors():
            self.connection = sqlite3.connect(
                self.file, timeout=TIMEOUT, isolation_level=None, check_same_thread=False
            )
            self._read_definitions()
            self.connection.execute("PRAGMA synchronous = FULL")  # survives a power cut
            self.connection.execute("PRAGMA trusted_schema = OFF")
            self.connection.execute(f"PRAGMA cache_size = -{CACHE}")
            self.connection.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;"
            )
        self.stat = self.file.stat()
        self._add_columns()

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self.connection.close()

    def begin(
        self,
        parameters: Mapping[str, Any],
        changes: Iterable[tuple[JobRecord | None, JobRecord]] = (),
        unchanged: Iterable[JobRecord] = (),
        *,
        session: str | None = None,
    ) -> int:
        """Begin a run; all of it is recorded or nothing, so that no partial run is resumed.

        Args:
            parameters: What the workers have to know, as JSON values.
            changes: Pairs of the record expected in the journal and its replacement, as for
                ``add``.
            unchanged: Records that belong to the run as they are.
            session: The name of ``worker`` that is registered while this run lasts: until then no
                other run may have other edits of the same names.

        Returns:
            The number of the run.

        Raises:
            MismatchError: Another batch works, or has begun meanwhile, on other edits of a name.
        """
        with self._transaction():
            row = self.connection.execute(
                "INSERT INTO runs (parameters) VALUES (?)", (json.dumps(parameters),)
            )
            run = int(row.lastrowid or 0)
            self._add(run, changes)
            for each in unchanged:
                self._require_agreement(self.record(each.name), each)
                self._include(run, [each.name])
            if session is not None:
                self.connection.execute("INSERT INTO sessions VALUES (?, ?)", (run, session))
            if signature := signing.sign(self._digest(run)):
                self.connection.execute("INSERT INTO signatures VALUES (?, ?)", (run, signature))
        return run

    def digest(self, run: int) -> str:
        """A hash of the parameters and jobs of a run, but not of their states."""
        with self._sqlite_errors():
            return self._digest(run)

    def is_own(self, run: int) -> bool:
        """Whether this user, on this machine, has begun the run with these parameters and jobs."""
        with self._sqlite_errors():
            row = self.connection.execute(
                "SELECT signature FROM signatures WHERE run = ?", (run,)
            ).fetchone()
            return row is not None and signing.verify(self._digest(run), row[0])

    def last_run(self) -> tuple[int, dict[str, Any]] | None:
        """Return number and parameters of the last run; None before the first."""
        with self._sqlite_errors():
            row = self.connection.execute(
                "SELECT run, parameters FROM runs ORDER BY run DESC LIMIT 1"
            ).fetchone()
        return None if row is None else (int(row[0]), _parsed(row[1], json.loads))

    def parameters(self, run: int) -> dict[str, Any]:
        """Return the parameters of a run."""
        with self._sqlite_errors():
            row = self.connection.execute(
                "SELECT parameters FROM runs WHERE run = ?", (run,)
            ).fetchone()
        if row is None:
            raise FileFormatError(f"the journal {self.file} has no run {run}")
        parameters: dict[str, Any] = _parsed(row[0], json.loads)
        return parameters

    def add(self, run: int, changes: Iterable[tuple[JobRecord | None, JobRecord]]) -> None:
        """Add jobs to a run, each in place of the record that is expected in the journal.

        A record that another process has changed in between belongs to the run as it is.

        Raises:
            MismatchError: The record has a different edit; see ``begin``.
        """
        with self._transaction():
            self._add(run, changes)

    def claim(
        self, run: int, worker: str, count: int = 1, image: Path | None = None
    ) -> list[JobRecord]:
        """Claim up to ``count`` queued jobs of a run for a worker; no other worker gets them.

        Jobs of ``image`` come first, since the worker has its inversion; else those of the first
        image in the queue, then of others of the same shape.
        """
        queued = (
            "FROM jobs JOIN run_jobs USING (name) WHERE run = ? AND state = 'queued' "
            "ORDER BY image != ?"
        )
        with self._transaction():
            first = self.connection.execute(
                f"SELECT image, shape {queued}, jobs.rowid LIMIT 1",
                (run, "" if image is None else _text(image)),
            ).fetchone()
            if first is None:
                return []
            rows = self.connection.execute(
                "UPDATE jobs SET state = 'running', worker = ? WHERE name IN "
                f"(SELECT name {queued}, shape != ?, image, jobs.rowid LIMIT ?) "
                f"RETURNING {COLUMNS}",
                (worker, run, first[0], first[1], count),
            ).fetchall()
        return [_record(row) for row in rows]

    def place(
        self, name: str, worker: str, result_hash: str, image_hash: str, outcome: Outcome = DONE
    ) -> bool:
        """Record the hashes of a file about to be put in place, and of its source image.

        Args:
            name: Path of the result below the output directory.
            worker: The worker that has claimed the job.
            result_hash: Hash of the file's bytes: an edit, or a copy of an unchanged source.
            image_hash: Hash of the source image's bytes.
            outcome: What ``finish`` will record.

        Returns:
            False if the job is no longer the worker's.
        """
        state = next(state for state, end in PLACED.items() if end == outcome.state)
        with self._transaction():
            row = self.connection.execute(
                "UPDATE jobs SET state = ?, result_hash = ?, image_hash = ?, message = ?, "
                "caption = ?, target_caption = ? WHERE name = ? AND worker = ? "
                "AND state = 'running'",
                (state, result_hash, image_hash, *_texts(outcome), name, worker),
            )
        return row.rowcount == 1

    def finish(
        self, name: str, worker: str, outcome: Outcome = DONE, image_hash: str | None = None
    ) -> None:
        """Record how a worker's job ended; a file that belongs to it is in place."""
        with self._transaction():
            self.connection.execute(
                "UPDATE jobs SET state = ?, message = ?, caption = ?, target_caption = ?, "
                "image_hash = coalesce(?, image_hash), worker = NULL WHERE name = ? AND worker = ?",
                (outcome.state, *_texts(outcome), image_hash, name, worker),
            )

    def release(self, worker: str) -> None:
        """Queue the jobs again that a worker has claimed and not finished."""
        with self._transaction():
            self.connection.execute(
                "UPDATE jobs SET state = 'queued', result_hash = NULL, worker = NULL "
                f"WHERE worker = ? AND state IN {CLAIMED}",
                (worker,),
            )

    def sheet_hash(self, file: Path) -> str | None:
        """Return the hash of a review sheet as it was written; None for a file that is none."""
        with self._sqlite_errors():
            row = self.connection.execute(
                "SELECT hash FROM sheets WHERE file = ?", (self._sheet_name(file),)
            ).fetchone()
        return None if row is None else str(row[0])

    def record_sheet(self, file: Path, digest: str) -> None:
        """Record the hash of a review sheet, so that the next run may replace it."""
        with self._transaction():
            self.connection.execute(
                "INSERT OR REPLACE INTO sheets VALUES (?, ?)", (self._sheet_name(file), digest)
            )

    def records(self, run: int | None = None, *states: State) -> list[JobRecord]:
        """Return records in some states (none: all), of a run or of all, in order of insertion.

        Raises:
            FileFormatError: They are damaged; or too many or too long, and not of a run of this
                user's own.
        """
        records, size = list[JobRecord](), 0
        ((count,),) = self._select("count(*)", run, states)
        trusted = count > MOST_FOREIGN_ROWS and self._require_own(run)
        for row in self._select(COLUMNS, run, states):
            size += sum(len(each) for each in row if isinstance(each, str))
            trusted = trusted or (size > MOST_FOREIGN and self._require_own(run))
            records.append(_record(row))
        return records

    def names(self, run: int, *states: State) -> list[str]:
        """Return names of jobs in some states; for many jobs much faster than ``records``."""
        return [name for (name,) in self._select("name", run, states)]

    def record(self, name: str) -> JobRecord | None:
        """Return the record of one result; None if there is none."""
        with self._sqlite_errors():
            row = self.connection.execute(
                f"SELECT {COLUMNS} FROM jobs WHERE name = ?", (name,)
            ).fetchone()
        return None if row is None else _record(row)

    def counts(self, run: int) -> dict[str, int]:
        """Return the number of a run's jobs in every state that occurs."""
        with self._sqlite_errors():
            rows = self.connection.execute(
                "SELECT state, count(*) FROM jobs JOIN run_jobs USING (name) WHERE run = ? "
                "GROUP BY state",
                (run,),
            ).fetchmany(len(STATES) + 1)
        if not {state for state, _ in rows} <= {*STATES}:
            raise FileFormatError(f"the journal {self.file} is damaged: it has unknown states")
        return dict(rows)

    def workers(self) -> list[str]:
        """Return all workers that have claimed a job or left a lock file, alive or not."""
        with self._sqlite_errors():
            rows = self.connection.execute(
                f"SELECT DISTINCT worker FROM jobs WHERE state IN {CLAIMED}"
            ).fetchmany(MOST_WORKERS + 1)
        locks = (path.stem.removeprefix("worker-") for path in self.folder.glob("worker-*.lock"))
        workers = {*(worker for (worker,) in rows), *islice(locks, MOST_WORKERS + 1)}
        self._require_workers(workers)
        return sorted(workers)

    def _require_workers(self, workers: Collection[object]) -> None:
        if len(workers) > MOST_WORKERS:
            raise FileFormatError(f"the journal {self.file} names more than {MOST_WORKERS} workers")
        if not all(isinstance(each, str) and WORKER.fullmatch(each) for each in workers):
            raise FileFormatError(f"the journal {self.file} is damaged: it names no workers")

    @contextmanager
    def worker(self) -> Iterator[str]:
        """Register a new worker; it counts as alive until the block or the process ends."""
        worker = uuid4().hex
        lock = FileLock(self._lock_file(worker))
        with lock:
            try:
                yield worker
            finally:
                self._remove_lock(worker)

    def dead(self, workers: Collection[str]) -> list[str]:
        """Return those of ``workers`` whose processes have ended, and remove their lock files."""
        ended = []
        for worker in workers:
            self._require_lock(worker)
            try:
                with FileLock(self._lock_file(worker), timeout=0):
                    ended.append(worker)
            except Timeout:
                continue
            self._remove_lock(worker)
        return ended

    def require_exists(self) -> None:
        """Check that the file was not removed or replaced: what is recorded would be lost.

        Raises:
            NotWritableError: If it was.
        """
        try:
            stat = self.file.stat()
        except OSError as error:
            raise NotWritableError(
                f"the journal {self.file} was removed: {error.strerror}"
            ) from error
        if (stat.st_dev, stat.st_ino) != (self.stat.st_dev, self.stat.st_ino):
            raise NotWritableError(f"the journal {self.file} was replaced by another one")

    def _require_version(self) -> None:
        self.connection.execute("BEGIN")  # both are read before or after another worker's schema
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        foreign = "type IN ('trigger', 'view')" if version else "name NOT LIKE 'sqlite_%'"
        row = self.connection.execute(f"SELECT 1 FROM sqlite_master WHERE {foreign}").fetchone()
        self.connection.execute("COMMIT")
        if version not in (0, VERSION):
            self.connection.close()
            raise FileFormatError(
                f"{self.file} is a journal of format {version}, this version of zerocon uses "
                f"format {VERSION}; use another output directory, or remove that file"
            )
        if row is not None:  # a trigger would change what is recorded
            self.connection.close()
            raise FileFormatError(f"{self.file} is a database, but not a journal of zerocon")

    def _require_no_links(self, file: str) -> None:
        """Check that nothing of the journal is elsewhere: SQLite would write there."""
        names = (file, *(f"{file}-{end}" for end in ("wal", "shm", "journal")), "parts")
        for path in (self.folder, *(self.folder / name for name in names)):
            if path.is_symlink():
                raise NotWritableError(f"{path} is a symbolic link; remove it")

    def _require_lock(self, worker: str) -> None:
        """Check that a lock file is one: opening it for a lock empties it."""
        path = self._lock_file(worker)
        with suppress(FileNotFoundError):
            stat = path.lstat()
            if not S_ISREG(stat.st_mode) or stat.st_nlink > 1 or stat.st_size:
                raise FileFormatError(f"{path} is not a lock of zerocon; remove it")

    def _add_columns(self) -> None:
        """Add what the table of an older version does not have; its jobs keep their states."""

        def missing() -> list[str]:
            with self._sqlite_errors():
                columns = self.connection.execute(
                    "SELECT name FROM pragma_table_info('jobs')"
                ).fetchall()
            return [name for name in ADDED if (name,) not in columns]

        if missing():
            with self._transaction():
                for name in missing():  # another process may have added it since
                    self.connection.execute(f"ALTER TABLE jobs ADD COLUMN {name} TEXT")

    def _add(self, run: int, changes: Iterable[tuple[JobRecord | None, JobRecord]]) -> None:
        active = self._active_runs()
        for expected, new in changes:
            current = self.record(new.name)
            if current is not None and (current != expected or self._is_in(active, new.name)):
                self._require_agreement(current, new)
            if current == expected:
                self._insert(new)
            self._include(run, [new.name])

    def _insert(self, new: JobRecord) -> None:
        columns = f"{COLUMNS}, image"
        values = (
            new.name, new.job.to_json(), new.recipe_hash, new.stamp, new.shape, new.state,
            new.overwrite, new.result_hash, new.image_hash, new.message, new.worker,
            new.caption, new.target_caption, _text(new.job.image),
        )  # fmt: skip
        places = ", ".join("?" * len(values))
        self.connection.execute(
            f"INSERT OR REPLACE INTO jobs ({columns}) VALUES ({places})", values
        )

    def _require_agreement(self, current: JobRecord | None, new: JobRecord) -> None:
        """Check that the record of a name is that of the same edit."""
        if current is None or not current.is_edit_of(new):
            raise MismatchError(
                f"another batch works in {self.output} with other settings or images (on "
                f"{new.name}); wait until it ends, or use another -o or --name"
            )

    def _active_runs(self) -> set[int]:
        """Runs whose sessions have not ended."""
        query = "SELECT run, worker FROM sessions"
        rows = self.connection.execute(query).fetchmany(MOST_WORKERS + 1)
        self._require_workers([worker for _, worker in rows])
        dead = set(self.dead([worker for _, worker in rows]))
        self.connection.executemany(
            "DELETE FROM sessions WHERE worker = ?", [(worker,) for worker in dead]
        )
        return {int(run) for run, worker in rows if worker not in dead}

    def _is_in(self, runs: Collection[int], name: str) -> bool:
        """Whether a result belongs to one of these runs."""
        query = "SELECT 1 FROM run_jobs WHERE run = ? AND name = ?"
        return any(self.connection.execute(query, (run, name)).fetchone() for run in runs)

    def _digest(self, run: int) -> str:
        parameters = "SELECT parameters FROM runs WHERE run = ?"
        jobs = "SELECT name, job FROM jobs JOIN run_jobs USING (name) WHERE run = ? ORDER BY name"
        digest = blake2b(digest_size=16)
        for number, query in enumerate((parameters, jobs)):  # as repr of both lists of rows
            digest.update(b", [" if number else b"[[")
            for place, row in enumerate(self.connection.execute(query, (run,))):
                digest.update((", " if place else "").encode() + repr(row).encode())
            digest.update(b"]")
        digest.update(b"]")
        return digest.hexdigest()

    def _include(self, run: int, names: Iterable[str]) -> None:
        self.connection.executemany(
            "INSERT OR IGNORE INTO run_jobs VALUES (?, ?)", ((run, name) for name in names)
        )

    def _sheet_name(self, file: Path) -> str:
        """Path of a sheet, relative to the output directory if it is in it: that may be moved."""
        file, output = file.absolute(), self.output.absolute()
        return _text(file.relative_to(output) if file.is_relative_to(output) else file)

    def _lock_file(self, worker: str) -> Path:
        return self.folder / f"worker-{worker}.lock"

    def _remove_lock(self, worker: str) -> None:
        with suppress(OSError):  # a directory that became read-only; the next worker removes it
            self._lock_file(worker).unlink()

    def _select(
        self, columns: str, run: int | None, states: Collection[State]
    ) -> Iterator[tuple[Any, ...]]:
        """Rows in order of insertion, ``PAGE`` of them in memory at a time."""
        query, values = f"SELECT {columns} FROM jobs", list[Any](states)
        if run is not None:
            query, values = f"{query} JOIN run_jobs USING (name)", [run, *values]
        terms = ["run = ?"] * (run is not None)
        terms += [f"state IN ({', '.join('?' * len(states))})"] * bool(states)
        where = f" WHERE {' AND '.join(terms)}" if terms else ""
        with self._sqlite_errors():
            cursor = self.connection.execute(f"{query}{where} ORDER BY jobs.rowid", values)
            rows = cursor.fetchmany(PAGE)
        while rows:
            yield from rows
            with self._sqlite_errors():
                rows = cursor.fetchmany(PAGE)

    def _require_own(self, run: int | None) -> bool:
        if run is None or not self.is_own(run):
            raise FileFormatError(
                f"the journal {self.file} has more than {MOST_FOREIGN_ROWS} jobs, or "
                f"{MOST_FOREIGN} characters of them, and was not written by you"
            )
        return True

    def _read_definitions(self) -> None:
        """Let SQLite read the tables' definitions, which it keeps in memory: not without end."""
        length = sqlite3.SQLITE_LIMIT_LENGTH
        self.connection.setlimit(length, LONGEST_DEFINITION)
        self.connection.set_progress_handler(lambda: 1, MOST_DEFINITIONS)
        self._enable_wal()
        self._require_version()
        self.connection.set_progress_handler(None, 0)
        self.connection.setlimit(length, LONGEST_VALUE)

    def _enable_wal(self) -> None:
        """Let readers not wait for a writer; SQLite's own timeout does not cover this statement."""
        end = monotonic() + TIMEOUT
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > end:
                    raise
                sleep(PAUSE)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """An exclusive transaction: what is read inside holds until it is committed."""
        with self._sqlite_errors():
            self.require_exists()
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        """Raise SQLite's errors as this package's; one thread at a time."""
        try:
            with self.lock:
                yield
        except sqlite3.Error as error:
            message = f"the journal {self.file} cannot be used: {error}"
            if "full" in str(error):
                raise NoSpaceError(message) from error
            if "interrupted" in str(error):  # see ``_read_definitions``
                message = f"{self.file} is a database, but not a journal of zerocon"
            if any(text in str(error) for text in FORMAT_FAULTS):
                raise FileFormatError(message) from error
            raise NotWritableError(message) from error
        except UnicodeDecodeError as error:  # SQLite does not check that text is valid UTF-8
            raise FileFormatError(f"the journal {self.file} is damaged") from error


def _texts(outcome: Outcome) -> tuple[str | None, ...]:
    """Message and captions of an outcome; a message may contain a file name."""
    texts = (outcome.message, outcome.caption, outcome.target_caption)
    return tuple(text and _text(text) for text in texts)


def _text(value: Path | str) -> str:
    """As valid UTF-8, which some file names are not."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _record(row: tuple[Any, ...]) -> JobRecord:
    name, job, recipe_hash, stamp, shape, state, overwrite, *others = row
    texts = (
        name,
        job,
        recipe_hash,
        stamp,
        shape,
        state,
        *(each for each in others if each is not None),
    )
    if not all(isinstance(each, str) for each in texts) or state not in STATES:
        raise FileFormatError(f"the journal is damaged: the row of {name!r} has other types")
    parsed = _parsed(job, Job.from_json)
    if str(parsed.name) != name:
        raise FileFormatError(f"the journal is damaged: the row of {name!r} has a different name")
    return JobRecord(parsed, recipe_hash, stamp, shape, state, bool(overwrite), *others)


def _parsed(line: str, parse: Callable[[str], T]) -> T:
    """Parse a line that was written here; SQLite does not detect bytes that changed in it."""
    try:
        return parse(line)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = "" if isinstance(error, json.JSONDecodeError) else f" ({error})"
        raise FileFormatError(
            f"the journal is damaged: it contains {str(line)[:60]!r}{reason}"
        ) from error
