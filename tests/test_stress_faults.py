"""The harness of tests/stress: it sees every kind of violation and counts it right."""

import os
import random
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
from stress import files, sandbox, trials
from stress.faults import FAULTS
from stress.trials import Fault, Injection, NotPossibleError

from zerocon.batch.commit import put
from zerocon.batch.executor import SourceImage
from zerocon.batch.job import Job
from zerocon.batch.journal import JobRecord, Journal
from zerocon.errors import FileFormatError, ZeroconError
from zerocon.storage.hashing import file_hash

ROOT = Path(__file__).parent.parent


class FinishedRun:
    """A run that has ended with an exit code."""

    def __init__(self, code=0):
        self.code = code

    def finish(self):
        return self.code

    def stderr(self):
        return "text on stderr"


@pytest.fixture
def finished(tmp_path):
    """A sandbox after a run of two edits without faults, its journal written directly."""
    box = sandbox.Sandbox(tmp_path / "sandbox", {}, [])
    sandbox.draw(box.images, 1)
    journal = Journal(box.outputs)
    run = journal.begin({})
    for name in ("a.png", "b.png"):
        job = Job(box.images / "0.png", PurePosixPath(name), {"to": "x"})
        journal.add(run, [(None, JobRecord(job, "recipe", "stamp", "", "queued"))])
        with journal.worker() as worker:
            (record,) = journal.claim(run, worker)
            put(journal, record, worker, name.encode(), "content")
            journal.finish(name, worker)
    journal.close()
    (box.outputs / ".zerocon" / "parts").rmdir()
    box.expected = {name: file_hash(box.outputs / name) for name in ("a.png", "b.png")}
    assert box.original_images
    return box


def test_a_run_without_faults_has_no_violations(finished):
    assert finished.check_complete(FinishedRun()) == []
    assert finished.results() == finished.expected and finished.leftovers() == []


@pytest.mark.parametrize(
    "damage, violation",
    [
        (lambda s: (s.outputs / "a.png").unlink(), "a.png: done, but the file does not exist"),
        (lambda s: (s.outputs / "a.png").write_bytes(b"a"), "a.png: not the bytes"),
        (lambda s: (s.outputs / "c.png").write_bytes(b"a"), "c.png: unexpected"),
        (lambda s: (s.outputs / ".zerocon" / "worker-1.lock").touch(), "left behind"),
        (lambda s: (s.images / "0.png").unlink(), "the source images were changed"),
        (lambda s: s.expected.update({"d.png": "0"}), "the journal has d.png as None"),
    ],
)
def test_every_kind_of_violation_is_detected(finished, damage, violation):
    damage(finished)
    assert any(violation in line for line in finished.check_complete(FinishedRun()))


def test_a_wrong_exit_code_is_a_violation(finished):
    assert finished.check_complete(FinishedRun(2)) == ["exit code 2: text on stderr"]


def test_events_are_read_as_the_command_prints_them(tmp_path):
    """The lines of a complete run: events and a summary; a partial line is ignored."""
    lines = (
        '{"schema": "zerocon.batch-event/1", "event": "begin", "of": 1}\n',
        '{"schema": "zerocon.batch-event/1", "event": "done", "output": "out/a.png"}\n',
        '{"schema": "zerocon.batch/1", "of": 1, "done": 1}\n',
        '{"schema": "zerocon.ba',
    )
    run = sandbox.Run(["--help"], tmp_path, dict(os.environ))
    assert run.finish() == 0 and run.stderr() == ""
    run.out.write_text("".join(lines))
    assert [event["event"] for event in run.events()] == ["begin", "done", "end"]
    assert run.events("done")[0]["output"] == "out/a.png" and run.events("end")[0]["done"] == 1


def test_a_fault_is_injected_as_often_as_it_is_missing(tmp_path):
    def twice(sandboxes, rng):
        yield []
        yield ["partial"]

    def never(sandboxes, rng):
        raise NotPossibleError("no right to mount")
        yield []

    faults = {"twice": Fault(twice, 4, "all"), "never": Fault(never, 1, "all")}
    injections = [Injection("twice")]
    for name, fault in faults.items():
        injections += trials.inject_missing(name, fault, injections, None)
    assert [each.fault for each in injections[1:]] == ["twice"] * 4 + ["never"]
    twice_count, never_count = trials.count(faults, injections[1:])
    assert (twice_count.injected, twice_count.held) == (4, 2)
    assert (never_count.injected, never_count.not_possible) == (0, "no right to mount")
    assert "| twice | 4 | all | 2 |" in trials.as_markdown([twice_count])
    assert "| not possible here: no right to mount |" in trials.as_markdown([never_count])
    trials.save(tmp_path / "injections.jsonl", injections)
    with (tmp_path / "injections.jsonl").open("a") as file:
        file.write('{"format": "zerocon.str')  # truncated
    assert trials.read(tmp_path / "injections.jsonl") == injections


def test_the_number_of_kills_can_be_chosen():
    def once(sandboxes, rng):
        yield []

    for name, injected in ((trials.KILL, 2), ("other", 1)):
        done = trials.inject_missing(name, Fault(once, 1, "all"), [], None, kills=2)
        assert len(list(done)) == injected


def test_a_file_of_another_format_is_refused(tmp_path):
    (tmp_path / "injections.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(FileFormatError, match="not a results file of pytest -m stress"):
        trials.read(tmp_path / "injections.jsonl")


def pytest_stress(*arguments):
    """Run pytest on tests/stress in a process, with the options that a user has."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/stress", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_pytest_prints_the_table_and_injects_nothing_that_is_in_the_results_file(tmp_path):
    """The command of docs/batch.md, resumed where nothing is missing but one row has failed."""
    path = tmp_path / "injections.jsonl"
    injections = [
        Injection(name, ("partial",) if name == "SIGTERM" else ())
        for name, fault in FAULTS.items()
        for _ in range(fault.times)
    ]
    trials.save(path, injections)
    before = path.read_bytes()
    done = pytest_stress("-m", "stress", "-k", "test_fault", "--stress-results", str(path))
    assert done.returncode == 1 and "1 failed, 17 passed" in done.stdout, done.stdout
    for name, fault in FAULTS.items():
        held = 0 if name == "SIGTERM" else fault.times
        row = f"| {name} | {fault.times} | {fault.expectation} | {held} |"
        assert row in done.stdout.splitlines()
    assert path.read_bytes() == before


def test_stress_tests_do_not_run_by_default():
    done = pytest_stress("-q", "--collect-only")
    collected = [line for line in done.stdout.splitlines() if "::" in line]
    assert collected == [  # the slice of the fuzz test that belongs to the usual tests
        "tests/stress/test_fuzz.py::test_a_few_mutated_images",
        "tests/stress/test_fuzz.py::test_a_seed_gives_one_image",
    ]
    fuzz = ("fuzz", "model_files", "mutations")
    ignored = [f"--ignore=tests/stress/test_{name}.py" for name in fuzz]
    done = pytest_stress("-q", "--collect-only", *ignored)
    assert "no tests collected" in done.stdout and f"({len(FAULTS) + 1} deselected)" in done.stdout


def test_bad_images_are_refused_and_odd_ones_read(tmp_path):
    bad, odd = files.write_all(tmp_path, random.Random(0))
    assert len(bad) >= 100
    for name in bad:
        assert isinstance(SourceImage.read(tmp_path / name).photograph, ZeroconError), name
    for name in odd:
        assert not isinstance(SourceImage.read(tmp_path / name).photograph, Exception), name


def test_odd_names_are_valid_names_of_files(tmp_path):
    names = [*files.NAMES, files.TOO_LONG, *map(os.fsdecode, files.NOT_TEXT)]
    for name in names:
        (tmp_path / f"{name}.png").touch()
    assert len(list(tmp_path.iterdir())) == len(files.NAMES) + 1 + len(files.NOT_TEXT)


@pytest.mark.slow
def test_real_processes_lose_nothing(tmp_path):
    names = ("kill -9", "two batches at once", "odd name", "bad image")
    sandboxes, injections = sandbox.SandboxFactory(tmp_path / "work"), []
    for name in names:
        injections += trials.inject_missing(name, FAULTS[name], injections, sandboxes, kills=2)
    counts = trials.count(FAULTS, injections)
    assert [each.fault for each in counts] == list(names)
    assert all(each.held == each.injected > 0 for each in counts)
    assert len(injections) == sum(each.injected for each in counts)
