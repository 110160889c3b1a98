"""A folder in which one ``zerocon batch`` after the other is disturbed, and what is true there."""

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

SCENES = (0, 2, 3)  # of the drawn world
SIZE = 128  # pixels a side
PROMPTS = ("at night", "in snow")  # that none of them fulfils already
SEEDS = 4
STEPS = 2
LARGEST = 10**9  # bytes of a file that is read
LIMIT = 600.0  # seconds after which a process hangs
LOOK = 0.02  # seconds between looks at what a process has said


class Run:
    """A ``zerocon batch`` at work: what it says goes to files, so that nobody has to listen."""

    def __init__(self, arguments: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        number = len(list(folder.glob("*.events")))
        self.out, self.err = (folder / f"{number}.{kind}" for kind in ("events", "said"))
        with self.out.open("wb") as out, self.err.open("wb") as err:
            command = [sys.executable, "-m", "zerocon.cli", "batch", *arguments]
            self.process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=err)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What has happened so far, or what of one kind."""
        lines = self.out.read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [each for each in found if kind in (None, each["event"])]

    def said(self) -> str:
        """Everything on stderr."""
        return self.err.read_text(errors="replace")

    def work(self, seconds: float = 0.0, *, done: int = 0) -> bool:
        """Let it begin, finish so many edits, and go on for ``seconds``; whether it still does."""
        end = monotonic() + LIMIT
        while not self.events("begin") or len(self.events("done")) < done:
            if self.process.poll() is not None or monotonic() > end:
                return False
            sleep(LOOK)
        sleep(seconds)
        return self.process.poll() is None

    def end(self, number: signal.Signals | None = None) -> int:
        """Its exit code, after a signal if one is named; ``TimeoutError`` for what hangs."""
        if number is not None:
            self.process.send_signal(number)
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise TimeoutError(f"no end after {LIMIT:.0f} s") from None


@dataclass
class Sandbox:
    """Pictures, the results that are ``wanted`` of them (hashes by name), and a cache.

    ``options`` say what is wanted beside the pictures of ``folder``.
    """

    folder: Path
    wanted: Mapping[str, str]
    options: Sequence[str]
    more: dict[str, str] = field(default_factory=dict)  # of the environment

    def __post_init__(self) -> None:
        self.images, self.outputs = self.folder / "in", self.folder / "out"
        self.cache = self.folder / "cache"
        self.images.mkdir(parents=True)

    @cached_property
    def before(self) -> dict[str, str]:
        """Hashes of what lies among the pictures, as it was when first looked at."""
        return _hashes(self.images)

    def start(self, *more: str) -> Run:
        """Begin, or go on: the same command each time but for ``more``."""
        assert self.before is not None
        own = {"ZEROCON_CACHE": str(self.cache), "HF_HUB_OFFLINE": "1", **self.more}
        # strict, as where a language is set: names that are no text must be told even so
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8:strict", **own}
        env.pop("ZEROCON_NO_CACHE", None)
        common = ["-o", "out", "--model", "mini", "--device", "cpu", "--steps", str(STEPS)]
        return Run([*common, "-q", "--format", "jsonl", *self.options, *more], self.folder, env)

    def made(self) -> dict[str, str]:
        """Hashes of all results that are there, by name."""
        found = _hashes(self.outputs)
        return {name: found[name] for name in found if not name.startswith(FOLDER)}

    def strays(self) -> list[str]:
        """What lies beside the journal where nobody works."""
        return [name for name in _hashes(self.outputs / FOLDER) if name != FILE]

    def entries(self) -> dict[str, tuple[str, str | None, str | None]]:
        """State, reason and the result's hash of every order in the journal, by name."""
        copy = self.folder / "copy"  # a reader leaves files beside what it reads
        copy.mkdir(exist_ok=True)
        for file in (self.outputs / FOLDER).glob(f"{FILE}*"):
            shutil.copy(file, copy)
        with closing(sqlite3.connect(copy / FILE)) as base:
            (sound,) = base.execute("PRAGMA integrity_check").fetchone()
            if sound != "ok":
                raise sqlite3.DatabaseError(sound)
            rows = base.execute("SELECT name, state, message, result_hash FROM jobs").fetchall()
        shutil.rmtree(copy)
        return {name: (state, reason, result) for name, state, reason, result in rows}

    def halfway(self) -> Iterator[str]:
        """What must not be, whenever a process has ended and however it did."""
        made = self.made()
        yield from (f"{name}: nobody wanted it" for name in made.keys() - self.wanted.keys())
        for name in made.keys() & self.wanted.keys():
            if made[name] != self.wanted[name]:
                yield f"{name}: not the bytes of a run that nobody disturbs"
        for name, (state, reason, _) in self.entries().items():
            if state == "done" and name not in made:
                yield f"{name}: done and not there"
            if state == "failed" and not reason:
                yield f"{name}: failed for no reason"
        if _hashes(self.images) != self.before:
            yield "the pictures were changed"

    def whole(self, run: Run, *, code: int = 0, failed: frozenset[str] = frozenset()) -> list[str]:
        """What is wrong after a ``run`` to the end: nothing, if all is as it should be."""
        wrong = [] if (got := run.end()) == code else [f"exit code {got}: {run.said()[-500:]}"]
        wrong += self.halfway()
        wrong += [f"{name}: missing" for name in self.wanted.keys() - self.made().keys()]
        wrong += [f"{name}: left behind" for name in self.strays()]
        states = {name: state for name, (state, _, _) in self.entries().items()}
        told = dict.fromkeys(self.wanted, "done") | dict.fromkeys(failed, "failed")
        if states != told:
            odd = [name for name in states | told if states.get(name) != told.get(name)]
            wrong.append(f"the journal says {states.get(odd[0])} of {odd[0]}")
        return wrong

    def settle(self, wrong: list[str]) -> list[str]:
        """Remove the stage unless something is ``wrong``, which is given back."""
        if not wrong:
            self.clear()
        return wrong

    def clear(self) -> None:
        """Remove it."""
        shutil.rmtree(self.folder)


class SandboxFactory:
    """Where stages are made, and what comes out where nothing happens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def stage(self, seeds: int = 2, *, images: int = len(SCENES)) -> Sandbox:
        """A new one: ``images`` times two wishes times ``seeds``."""
        kinds = product(range(images), PROMPTS, range(seeds))
        chosen = [name_of(*each) for each in kinds]
        stage = self._empty(seeds, {name: self.undisturbed[name] for name in chosen})
        draw(stage.images, images)
        return stage

    @cached_property
    def undisturbed(self) -> dict[str, str]:
        """Hashes of all results, by name, of one run that is left alone."""
        stage = self._empty(SEEDS, {})
        draw(stage.images)
        if code := (run := stage.start()).end():
            raise ZeroconError(f"even an undisturbed run ends with {code}: {run.said()}")
        made = stage.made()
        stage.clear()
        return made

    def _empty(self, seeds: int, wanted: Mapping[str, str]) -> Sandbox:
        options = [f"--to={prompt}" for prompt in PROMPTS] + [
            f"--seed={seed}" for seed in range(seeds)
        ]
        numbers = [int(path.name) for path in self.folder.iterdir() if path.name.isdecimal()]
        return Sandbox(self.folder / str(max(numbers, default=0) + 1), wanted, ["in", *options])


def name_of(place: int, prompt: str, seed: int) -> str:
    """What a result is called."""
    return f"{place}-{prompt.replace(' ', '-')}-{seed}.png"


def draw(folder: Path, count: int = len(SCENES)) -> None:
    """Pictures 0.png, 1.png and so on."""
    for place, seed in enumerate(SCENES[:count]):
        render(sample(seed), SIZE).save(folder / f"{place}.png")


def _hashes(folder: Path) -> dict[str, str]:
    """Of all files below; of what cannot be read, its size."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"link to {os.readlink(path)}"
        elif path.is_file() and path.stat().st_size < LARGEST:
            found[str(path.relative_to(folder))] = file_hash(path)
        elif not path.is_dir():
            found[str(path.relative_to(folder))] = f"{path.stat().st_size} bytes"
    return found
