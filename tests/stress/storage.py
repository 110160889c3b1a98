"""Disks, folders and files around ``zerocon batch`` that fail or change: each a function.

It yields once for everything it has done: what did not hold, in lines.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zerocon.batch.journal import FILE, FOLDER
from stress.sandbox import Run, Sandbox, SandboxFactory
from stress.trials import NotPossibleError, Wrong
from zerocon.errors import NotWritableError

LONGEST = 4.0  # seconds of work after which it happens


def disk_full(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """A file system with room for the journal and some of the results."""
    stage = workshop.stage()
    with _mounted(stage.outputs, rng.randrange(150, 500)):
        wrong = _refused(stage, stage.start())
        subprocess.run(["mount", "-o", "remount,size=64m", stage.outputs], check=True)
        wrong += stage.whole(stage.start())
    yield stage.settle(wrong)


def cache_full(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """A file system too small for one inversion."""
    stage = workshop.stage()
    with _mounted(stage.cache, 100):
        run = stage.start()
        wrong = stage.whole(run) + ["no warning"] * ("not cached" not in run.said())
    yield stage.settle(wrong)


def removed(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """The folder is gone in the middle of the work."""
    stage = workshop.stage()
    (run := stage.start()).work(rng.uniform(0, LONGEST))
    while stage.outputs.exists():  # a file may appear in it while it goes
        shutil.rmtree(stage.outputs, ignore_errors=True)
    wrong = _told(run) + ["the folder came back"] * stage.outputs.exists()
    yield stage.settle([*wrong, *stage.whole(stage.start())])


def readonly(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """No file can be made in the folder any more; files that are open can be written."""
    stage = workshop.stage()
    (run := stage.start()).work(rng.uniform(0, LONGEST), done=1)
    folders = [stage.outputs, *(path for path in stage.outputs.rglob("*") if path.is_dir())]
    try:
        _immutable(folders, True)
        wrong = _refused(stage, run)
    finally:
        _immutable(folders, False)
    yield stage.settle([*wrong, *stage.whole(stage.start())])


def damaged(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """Some of the finished results are not what they were."""
    stage = workshop.stage()
    first = stage.whole(stage.start())
    for _ in range(3):
        names = rng.sample(sorted(stage.wanted), 3)
        cut, changed, gone = (stage.outputs / name for name in names)
        _cut(cut)
        _flip(changed)
        gone.unlink()
        wrong = stage.whole(run := stage.start("--resume"))
        again = {Path(each["output"]).name for each in run.events("done")}
        wrong += [f"made again: {sorted(again)}"] * (again != set(names))
        yield from ([*first, *wrong] for _ in names)
    stage.clear()


def garbage(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """The journal of a finished run is not what it was."""
    stage = workshop.stage()
    first = stage.whole(stage.start())
    journal, made = stage.outputs / FOLDER / FILE, stage.made()
    sound = journal.read_bytes()
    for _ in range(3):
        for harm in (_emptied, _shortened, _replaced, _overwritten):
            journal.write_bytes(harm(sound, rng))
            run = stage.start()
            wrong = [*first] if run.end() == 0 else [*first, *_told(run)]
            wrong += ["results were changed"] * (stage.made() != made)
            yield [f"{harm.__name__}: {each}" for each in wrong]
            shutil.rmtree(journal.parent)
            journal.parent.mkdir()
            journal.write_bytes(sound)
    stage.clear()


def _emptied(data: bytes, rng: random.Random) -> bytes:
    return b""


def _shortened(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def _replaced(data: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(len(data))


def _overwritten(data: bytes, rng: random.Random) -> bytes:
    start, noise = rng.randrange(len(data)), rng.randbytes(len(data) // 4)
    return (data[:start] + noise + data[start + len(noise) :])[: len(data)]


def cache_changed(workshop: SandboxFactory, rng: random.Random) -> Iterator[Wrong]:
    """Bytes flip in all that is kept of an earlier run, before and while another reads it."""
    stage = workshop.stage()
    first = stage.whole(stage.start())
    shutil.rmtree(stage.outputs)
    _flip(*stage.cache.rglob("*.safetensors"))
    (run := stage.start()).work(done=1)
    _flip(*stage.cache.rglob("*.safetensors"))
    wrong = stage.whole(run)
    wrong += ["no warning"] * ("damaged" not in run.said())
    yield stage.settle([*first, *wrong])


def _told(run: Run) -> Wrong:
    """Anything but exit code 2 and one line."""
    code = run.end()
    lines = [line for line in run.said().splitlines() if not line.startswith("Warning: ")]
    good = code == NotWritableError.code and len(lines) == 1 and lines[0].startswith("Error: ")
    return [] if good else [f"exit code {code}: {run.said()[-500:]}"]


def _refused(stage: Sandbox, run: Run) -> Wrong:
    return [*_told(run), *stage.halfway()]


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(*paths: Path) -> None:
    """Change a byte in the middle of each."""
    for path in paths:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 255]))


@contextmanager
def _mounted(folder: Path, kilobytes: int) -> Iterator[None]:
    """A file system of that size in memory at ``folder``."""
    folder.mkdir()
    size = f"size={kilobytes}k"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    _allowed(command)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _immutable(folders: Iterable[Path], yes: bool) -> None:
    """Let nobody, root included, make or remove files in ``folders``; or let them again."""
    _allowed(["chattr", "+i" if yes else "-i", *map(str, folders)])


def _allowed(command: list[str]) -> None:
    """Run a program of the system; ``NotPossibleError`` where that is not for us to do."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise NotPossibleError(f"there is no {command[0]}") from None
    except subprocess.CalledProcessError as error:
        raise NotPossibleError(" ".join(error.stderr.split())) from None
