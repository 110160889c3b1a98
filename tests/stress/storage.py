"""Faults of disks, directories and files: full, removed, read-only, damaged.

Every function yields once per injection: what did not hold, in lines.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stress.sandbox import Run, Sandbox, SandboxFactory
from stress.trials import NotPossibleError, Violations
from zerocon.batch.journal import FILE, FOLDER
from zerocon.errors import NotWritableError

LONGEST = 4.0  # seconds of work before the fault is injected


def fill_disk(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """The output directory is on a file system with room for the journal and some results."""
    sandbox = sandboxes.create()
    with _mounted(sandbox.outputs, rng.randrange(150, 500)):
        violations = _check_refused(sandbox, sandbox.start())
        subprocess.run(["mount", "-o", "remount,size=64m", sandbox.outputs], check=True)
        violations += sandbox.check_complete(sandbox.start())
    yield sandbox.close(violations)


def fill_cache_disk(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """The cache is on a file system too small for one inversion."""
    sandbox = sandboxes.create()
    with _mounted(sandbox.cache, 100):
        run = sandbox.start()
        violations = sandbox.check_complete(run)
        violations += ["no warning"] * ("not cached" not in run.stderr())
    yield sandbox.close(violations)


def remove_outputs(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """The output directory is removed during the work."""
    sandbox = sandboxes.create()
    (run := sandbox.start()).advance(rng.uniform(0, LONGEST))
    while sandbox.outputs.exists():  # a file may appear in it while it is being removed
        shutil.rmtree(sandbox.outputs, ignore_errors=True)
    violations = _check_error(run) + ["the directory was created again"] * sandbox.outputs.exists()
    yield sandbox.close([*violations, *sandbox.check_complete(sandbox.start())])


def lock_outputs(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """No file can be created in the output directory; files that are open can be written."""
    sandbox = sandboxes.create()
    (run := sandbox.start()).advance(rng.uniform(0, LONGEST), done=1)
    folders = [sandbox.outputs, *(path for path in sandbox.outputs.rglob("*") if path.is_dir())]
    try:
        _immutable(folders, True)
        violations = _check_refused(sandbox, run)
    finally:
        _immutable(folders, False)
    yield sandbox.close([*violations, *sandbox.check_complete(sandbox.start())])


def damage_results(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """One finished result is truncated, one changed and one deleted, three times."""
    sandbox = sandboxes.create()
    first = sandbox.check_complete(sandbox.start())
    for _ in range(3):
        names = rng.sample(sorted(sandbox.expected), 3)
        truncated, changed, deleted = (sandbox.outputs / name for name in names)
        os.truncate(truncated, truncated.stat().st_size // 2)
        _flip_byte(changed)
        deleted.unlink()
        violations = sandbox.check_complete(run := sandbox.start("--resume", "--overwrite"))
        repeated = {Path(each["output"]).name for each in run.events("done")}
        violations += [f"repeated: {sorted(repeated)}"] * (repeated != set(names))
        yield from ([*first, *violations] for _ in names)
    sandbox.remove()


def damage_journal(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """The journal of a finished run is damaged in four ways, three times each."""
    sandbox = sandboxes.create()
    first = sandbox.check_complete(sandbox.start())
    journal, results = sandbox.outputs / FOLDER / FILE, sandbox.results()
    intact = journal.read_bytes()
    for _ in range(3):
        for damage in (_emptied, _truncated, _replaced, _overwritten):
            journal.write_bytes(damage(intact, rng))
            run = sandbox.start()
            violations = [*first] if run.finish() == 0 else [*first, *_check_error(run)]
            violations += ["results were changed"] * (sandbox.results() != results)
            yield [f"{damage.__name__}: {each}" for each in violations]
            shutil.rmtree(journal.parent)
            journal.parent.mkdir()
            journal.write_bytes(intact)
    sandbox.remove()


def _emptied(data: bytes, rng: random.Random) -> bytes:
    return b""


def _truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def _replaced(data: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(len(data))


def _overwritten(data: bytes, rng: random.Random) -> bytes:
    start, noise = rng.randrange(len(data)), rng.randbytes(len(data) // 4)
    return (data[:start] + noise + data[start + len(noise) :])[: len(data)]


def damage_cache(sandboxes: SandboxFactory, rng: random.Random) -> Iterator[Violations]:
    """A byte of every cached inversion is flipped, before and while another run reads them."""
    sandbox = sandboxes.create()
    first = sandbox.check_complete(sandbox.start())
    shutil.rmtree(sandbox.outputs)
    _flip_byte(*sandbox.cache.rglob("*.safetensors"))
    (run := sandbox.start()).advance(done=1)
    _flip_byte(*sandbox.cache.rglob("*.safetensors"))
    violations = sandbox.check_complete(run)
    violations += ["no warning"] * ("damaged" not in run.stderr())
    yield sandbox.close([*first, *violations])


def _check_error(run: Run) -> Violations:
    """A violation unless the run ends with exit code 2 and one line of error."""
    code = run.finish()
    lines = [line for line in run.stderr().splitlines() if not line.startswith("Warning: ")]
    good = code == NotWritableError.code and len(lines) == 1 and lines[0].startswith("Error: ")
    return [] if good else [f"exit code {code}: {run.stderr()[-500:]}"]


def _check_refused(sandbox: Sandbox, run: Run) -> Violations:
    return [*_check_error(run), *sandbox.check_partial()]


def _flip_byte(*paths: Path) -> None:
    """Invert the byte in the middle of each file."""
    for path in paths:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 255]))


@contextmanager
def _mounted(folder: Path, kilobytes: int) -> Iterator[None]:
    """An in-memory file system of this size, mounted at ``folder``."""
    folder.mkdir()
    size = f"size={kilobytes}k"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    _run_privileged(command)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _immutable(folders: Iterable[Path], value: bool) -> None:
    """Set or clear the immutable attribute of directories, which binds root too."""
    _run_privileged(["chattr", "+i" if value else "-i", *map(str, folders)])


def _run_privileged(command: list[str]) -> None:
    """Run a system program; ``NotPossibleError`` if it is missing or not permitted."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise NotPossibleError(f"there is no {command[0]}") from None
    except subprocess.CalledProcessError as error:
        raise NotPossibleError(" ".join(error.stderr.split())) from None
