"""Directories in which ``zerocon batch`` is run and disturbed, and the checks of what is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from zerocon.batch.journal import FILE, FOLDER
from zerocon.errors import ZeroconError
from zerocon.storage.hashing import file_hash
from zerocon.world import render, sample

SCENES = (0, 2, 3)  # seeds of the drawn world
SIZE = 128  # pixels a side
PROMPTS = ("at night", "in snow")  # neither is true of any of the scenes already
SEEDS = 4
STEPS = 2
LARGEST = 10**9  # bytes of the largest file that is hashed
TIMEOUT = 600.0  # seconds after which a process counts as hanging
POLL_INTERVAL = 0.02  # seconds between reads of a process's output
# read directly, so that a mistake in the code of the journal cannot hide itself
QUERY = "SELECT name, state, message, result_hash FROM jobs"


class Run:
    """A ``zerocon batch`` process; its output goes to files, so that no pipe can fill up."""

    def __init__(self, arguments: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        number = len(list(folder.glob("*.events")))
        self.out, self.err = (folder / f"{number}.{kind}" for kind in ("events", "stderr"))
        with self.out.open("wb") as out, self.err.open("wb") as err:
            command = [sys.executable, "-m", "zerocon.cli", "batch", *arguments]
            self.process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=err)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The events of ``--format jsonl`` so far, of all kinds or of one; the summary is "end"."""
        lines = self.out.read_text().splitlines(keepends=True)
        events = [{"event": "end", **json.loads(line)} for line in lines if line.endswith("\n")]
        return [event for event in events if kind in (None, event["event"])]

    def stderr(self) -> str:
        """All of stderr so far."""
        return self.err.read_text(errors="replace")

    def advance(self, seconds: float = 0.0, *, done: int = 0) -> bool:
        """Wait for the first event, ``done`` finished edits and then ``seconds``.

        Returns:
            Whether the process is still running.
        """
        end = monotonic() + TIMEOUT
        while not self.events("begin") or len(self.events("done")) < done:
            if self.process.poll() is not None or monotonic() > end:
                return False
            sleep(POLL_INTERVAL)
        sleep(seconds)
        return self.process.poll() is None

    def finish(self, number: signal.Signals | None = None) -> int:
        """Send a signal, if one is given, and wait for the exit code.

        Raises:
            TimeoutError: The process hangs; it is killed.
        """
        if number is not None:
            self.process.send_signal(number)
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise TimeoutError(f"still running after {TIMEOUT:.0f} s") from None


@dataclass
class Sandbox:
    """A directory with source images, an output directory and a cache.

    Attributes:
        expected: Hashes of the results that the command must produce, by name.
        options: Arguments of ``zerocon batch`` that name the images and the edits.
        environment: Variables set for the command.
    """

    folder: Path
    expected: Mapping[str, str]
    options: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.images, self.outputs = self.folder / "in", self.folder / "out"
        self.cache = self.folder / "cache"
        self.images.mkdir(parents=True)

    @cached_property
    def original_images(self) -> dict[str, str]:
        """Hashes of the files among the source images, taken at the first access."""
        return _hashes(self.images)

    def start(self, *more: str) -> Run:
        """Start the command, the same each time but for the arguments ``more``."""
        assert self.original_images is not None
        isolated = {"ZEROCON_CACHE": str(self.cache), "HF_HUB_OFFLINE": "1", **self.environment}
        # strict, as where a locale is set: file names that are not text must be reported even so
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8:strict", **isolated}
        env.pop("ZEROCON_NO_CACHE", None)
        common = ["-o", "out", "--model", "mini", "--device", "cpu", "--steps", str(STEPS)]
        return Run([*common, "-q", "--format", "jsonl", *self.options, *more], self.folder, env)

    def results(self) -> dict[str, str]:
        """Hashes of all results in the output directory, by name."""
        files = _hashes(self.outputs)
        return {name: files[name] for name in files if not name.startswith(FOLDER)}

    def leftovers(self) -> list[str]:
        """Files next to the journal that must not exist while no process is running."""
        return [name for name in _hashes(self.outputs / FOLDER) if name != FILE]

    def entries(self) -> dict[str, tuple[str, str | None, str | None]]:
        """State, reason and hash of the result of every job in the journal, by name."""
        copy = self.folder / "copy"  # a reader of SQLite leaves files next to what it reads
        copy.mkdir(exist_ok=True)
        for file in (self.outputs / FOLDER).glob(f"{FILE}*"):
            shutil.copy(file, copy)
        with closing(sqlite3.connect(copy / FILE)) as base:
            (integrity,) = base.execute("PRAGMA integrity_check").fetchone()
            if integrity != "ok":
                raise sqlite3.DatabaseError(integrity)
            rows = base.execute(QUERY).fetchall()
        shutil.rmtree(copy)
        return {name: (state, reason, result) for name, state, reason, result in rows}

    def check_partial(self) -> Iterator[str]:
        """Violations of what must hold after a process has ended, however it ended."""
        results = self.results()
        yield from (f"{name}: unexpected" for name in results.keys() - self.expected.keys())
        for name in results.keys() & self.expected.keys():
            if results[name] != self.expected[name]:
                yield f"{name}: not the bytes of an undisturbed run"
        for name, (state, reason, _) in self.entries().items():
            if state == "done" and name not in results:
                yield f"{name}: done, but the file does not exist"
            if state == "failed" and not reason:
                yield f"{name}: failed without a reason"
        if _hashes(self.images) != self.original_images:
            yield "the source images were changed"

    def check_complete(
        self, run: Run, *, code: int = 0, failed: frozenset[str] = frozenset()
    ) -> list[str]:
        """Wait for the end of ``run``; violations of what must hold then, empty if all holds."""
        status = run.finish()
        violations = [] if status == code else [f"exit code {status}: {run.stderr()[-500:]}"]
        violations += self.check_partial()
        violations += [f"{name}: missing" for name in self.expected.keys() - self.results().keys()]
        violations += [f"{name}: left behind" for name in self.leftovers()]
        states = {name: state for name, (state, _, _) in self.entries().items()}
        correct = dict.fromkeys(self.expected, "done") | dict.fromkeys(failed, "failed")
        if states != correct:
            odd = [name for name in states | correct if states.get(name) != correct.get(name)]
            violations.append(f"the journal has {odd[0]} as {states.get(odd[0])}")
        return violations

    def close(self, violations: list[str]) -> list[str]:
        """Remove the directory unless there are ``violations``, which are returned."""
        if not violations:
            self.remove()
        return violations

    def remove(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.folder)


class SandboxFactory:
    """Creates sandboxes below a directory; knows the results of an undisturbed run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def create(self, seeds: int = 2, *, images: int = len(SCENES)) -> Sandbox:
        """A new sandbox: ``images`` source images times two prompts times ``seeds``."""
        names = [name_of(*each) for each in product(range(images), PROMPTS, range(seeds))]
        sandbox = self._empty(seeds, {name: self.reference[name] for name in names})
        draw(sandbox.images, images)
        return sandbox

    @cached_property
    def reference(self) -> dict[str, str]:
        """Hashes of all results, by name, of one undisturbed run."""
        sandbox = self._empty(SEEDS, {})
        draw(sandbox.images)
        if code := (run := sandbox.start()).finish():
            raise ZeroconError(f"even an undisturbed run ends with {code}: {run.stderr()}")
        results = sandbox.results()
        sandbox.remove()
        return results

    def _empty(self, seeds: int, expected: Mapping[str, str]) -> Sandbox:
        options = [f"--to={prompt}" for prompt in PROMPTS] + [
            f"--seed={seed}" for seed in range(seeds)
        ]
        numbers = [int(path.name) for path in self.folder.iterdir() if path.name.isdecimal()]
        return Sandbox(self.folder / str(max(numbers, default=0) + 1), expected, ["in", *options])


def name_of(image: int, prompt: str, seed: int) -> str:
    """The file name of a result."""
    return f"{image}-{prompt.replace(' ', '-')}-{seed}.png"


def draw(folder: Path, count: int = len(SCENES)) -> None:
    """Write source images 0.png, 1.png and so on."""
    for number, seed in enumerate(SCENES[:count]):
        render(sample(seed), SIZE).save(folder / f"{number}.png")


def _hashes(folder: Path) -> dict[str, str]:
    """Hashes of all files below a directory; sizes of those that cannot be read."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            hashes[name] = f"link to {os.readlink(path)}"
        elif path.is_file() and path.stat().st_size < LARGEST:
            hashes[name] = file_hash(path)
        elif not path.is_dir():
            hashes[name] = f"{path.stat().st_size} bytes"
    return hashes
