"""Backends with several processes: one is killed during a run, and every job runs exactly once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from zerocon.batch.journal import FOLDER, Journal
from zerocon.world import VALIDATION, render, sample

pytestmark = pytest.mark.slow
ARGUMENTS = ("images", "--to", "blue", "--to", "at night", "--model", "mini", "--steps", "6")
TIMEOUT = 500  # seconds, on a busy machine


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with rendered images, and the results of one process."""
    folder = tmp_path_factory.mktemp("backends")
    (folder / "images").mkdir()
    for number in range(6):
        render(sample(VALIDATION[number]), 128).save(folder / "images" / f"{number}.png")
    done = subprocess.run(command("alone"), cwd=folder, env=environment(), timeout=TIMEOUT)
    assert done.returncode in (0, 1)  # some are blue or at night already
    return folder


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}


def command(output: str, *more: str, start: tuple[str, ...] = ("-m", "zerocon.cli")) -> list[str]:
    return [sys.executable, *start, "batch", *ARGUMENTS, "-o", output, *more, "--format", "jsonl"]


def results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def run_and_kill(arguments: list[str], folder: Path, victims: str) -> list[dict[str, object]]:
    """Run a batch, and after its second edit kill a process of this name; return its events."""
    events: list[dict[str, object]] = []
    killed = False
    with subprocess.Popen(
        arguments, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True
    ) as batch:
        assert batch.stdout is not None
        for line in batch.stdout:
            events.append(json.loads(line))
            if not killed and sum(each.get("event") == "done" for each in events) == 2:
                os.kill(next(named(batch.pid, victims)), signal.SIGKILL)
                killed = True
        assert batch.wait(TIMEOUT) in (0, 1)
    assert killed
    return events


def named(parent: int, name: str) -> Iterator[int]:
    """Yield descendants of ``parent`` whose command line contains ``name``, the last one first."""
    for child in reversed(psutil.Process(parent).children(recursive=True)):
        if name in " ".join(child.cmdline()) and "distributed" not in " ".join(child.cmdline()):
            yield child.pid


def require_the_same(folder: Path, output: str) -> None:
    """Check that every result exists once with the bytes of a single process, and nothing else."""
    assert results(folder / output) == results(folder / "alone")
    journals = [Journal(folder / name) for name in (output, "alone")]
    states = [{each.name: each.state for each in journal.records()} for journal in journals]
    for journal in journals:
        journal.close()
    assert states[0] == states[1] and set(states[0].values()) <= {"done", "failed"}
    left = {path.name for path in (folder / output / FOLDER).rglob("*") if path.is_file()}
    assert left == {"journal.sqlite"}


def test_two_processes_one_of_which_is_killed(place: Path) -> None:
    events = run_and_kill(command("processes", "--devices", "2"), place, "--join")
    require_the_same(place, "processes")
    done = [each["output"] for each in events if each.get("event") == "done"]
    assert len(done) == len(set(done)) == len(results(place / "alone"))


@pytest.mark.parametrize("backend", [["--devices", "2"], ["--backend", "ray", "--devices", "1"]])
def test_no_module_of_the_working_directory_is_run(
    place: Path, tmp_path: Path, backend: list[str]
) -> None:
    if "ray" in backend:
        pytest.importorskip("ray", reason="Ray is an extra: pip install zerocon[ray]")
    (tmp_path / "images").symlink_to(place / "images")
    for name in ("torch", "accelerate", "zerocon", "click", "json"):
        (tmp_path / f"{name}.py").write_text(
            "open('was-run', 'w').write(__name__)\nraise SystemExit(9)"
        )
    arguments = command("safe", *backend, start=("-P", "-m", "zerocon.cli"))
    done = subprocess.run(arguments, cwd=tmp_path, env=environment(), timeout=TIMEOUT)
    assert done.returncode in (0, 1) and not (tmp_path / "was-run").exists()
    assert results(tmp_path / "safe") == results(place / "alone")


def test_accelerate_launch_by_hand(place: Path) -> None:
    launch = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")
    more = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
    arguments = command("by-hand", start=(*launch, *more, "-m", "zerocon.cli"))
    subprocess.run(arguments, cwd=place, env=environment(), timeout=TIMEOUT)
    require_the_same(place, "by-hand")


def test_a_local_ray_cluster_one_actor_of_which_is_killed(place: Path) -> None:
    pytest.importorskip("ray", reason="Ray is an extra: pip install zerocon[ray]")
    arguments = command("ray", "--backend", "ray", "--devices", "2")
    events = run_and_kill(arguments, place, "ray::RayExecutor")
    require_the_same(place, "ray")
    done = [each["output"] for each in events if each.get("event") == "done"]
    assert len(done) == len(set(done)) == len(results(place / "alone"))
