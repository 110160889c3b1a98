"""Does the bench of faults see what is wrong, and count it right?"""

import json
import os
import random
from pathlib import Path, PurePosixPath

import pytest
from click.testing import CliRunner

from zerocon.batch.commit import put
from zerocon.batch.executor import TaskSource
from zerocon.batch.job import Job
from zerocon.batch.journal import Entry, Journal
from zerocon.bench import hostile, stage, trials
from zerocon.bench.trials import Fault, InjectionRow, NotPossibleError
from zerocon.cli import main
from zerocon.errors import ZeroconError
from zerocon.storage.hashing import file_hash


class Ended:
    """A run that has ended with a code."""

    def __init__(self, code=0):
        self.code = code

    def end(self):
        return self.code

    def said(self):
        return "what it said"


@pytest.fixture
def finished(tmp_path):
    """A stage after a good run of two edits, made by hand."""
    made = stage.Sandbox(tmp_path / "stage", {}, [])
    stage.draw(made.images, 1)
    journal = Journal(made.outputs)
    run = journal.begin({})
    for name in ("a.png", "b.png"):
        job = Job(made.images / "0.png", PurePosixPath(name), {"to": "x"})
        journal.enter(run, [(None, Entry(job, "recipe", "stamp", "", "queued"))])
        with journal.working() as worker:
            (entry,) = journal.take(run, worker)
            put(journal, entry, worker, name.encode(), "content")
            journal.finish(name, worker)
    journal.close()
    (made.outputs / ".zerocon" / "parts").rmdir()
    made.wanted = {name: file_hash(made.outputs / name) for name in ("a.png", "b.png")}
    assert made.before
    return made


def test_a_good_run_has_nothing_wrong(finished):
    assert finished.whole(Ended()) == []
    assert finished.made() == finished.wanted and finished.strays() == []


@pytest.mark.parametrize(
    "harm, said",
    [
        (lambda s: (s.outputs / "a.png").unlink(), "a.png: done and not there"),
        (lambda s: (s.outputs / "a.png").write_bytes(b"a"), "a.png: not the bytes"),
        (lambda s: (s.outputs / "c.png").write_bytes(b"a"), "c.png: nobody wanted it"),
        (lambda s: (s.outputs / ".zerocon" / "worker-1.lock").touch(), "left behind"),
        (lambda s: (s.images / "0.png").unlink(), "the pictures were changed"),
        (lambda s: s.wanted.update({"d.png": "0"}), "the journal says None of d.png"),
    ],
)
def test_every_kind_of_harm_is_seen(finished, harm, said):
    harm(finished)
    assert any(said in line for line in finished.whole(Ended()))


def test_the_exit_code_counts(finished):
    assert finished.whole(Ended(2)) == ["exit code 2: what it said"]


def test_a_fault_happens_as_often_as_it_is_missing(tmp_path):
    def twice(workshop, rng):
        yield []
        yield ["torn"]

    def never(workshop, rng):
        raise NotPossibleError("no right to mount")
        yield []

    faults = {"twice": Fault(twice, 4, "all"), "never": Fault(never, 1, "all")}
    rows = list(trials.missing(faults, [InjectionRow("twice")], None, None))
    assert [row.fault for row in rows] == ["twice"] * 4 + ["never"]
    twice_line, never_line = trials.count(faults, rows)
    assert (twice_line.injected, twice_line.held) == (4, 2)
    assert (never_line.injected, never_line.impossible) == (0, "no right to mount")
    assert "| twice | 4 | all | 2 |" in trials.shown([twice_line], "markdown")
    trials.save(tmp_path / "rows.jsonl", rows)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"format": "zerocon.be')  # torn off
    assert trials.read(tmp_path / "rows.jsonl") == rows


def test_rows_of_somebody_else_are_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    done = CliRunner().invoke(main, ["bench", "faults", "--results", str(tmp_path / "rows.jsonl")])
    assert done.exit_code == 2 and "no file of rows" in done.stderr


def test_an_unknown_fault_is_refused_with_a_list():
    done = CliRunner().invoke(main, ["bench", "faults", "--only", "flood"])
    assert done.exit_code == 2 and "there are: kill -9" in done.stderr


def test_bad_pictures_are_refused_and_odd_ones_read(tmp_path):
    bad, odd = hostile.fill(tmp_path, random.Random(0))
    assert len(bad) >= 100
    for name in bad:
        assert isinstance(TaskSource.read(tmp_path / name).photograph, ZeroconError), name
    for name in odd:
        assert not isinstance(TaskSource.read(tmp_path / name).photograph, Exception), name


def test_names_can_be_given_to_files(tmp_path):
    for name in [*hostile.NAMES, hostile.TOO_LONG, *map(os.fsdecode, hostile.NO_TEXT)]:
        (tmp_path / f"{name}.png").touch()
    assert len(list(tmp_path.iterdir())) == len(hostile.NAMES) + 1 + len(hostile.NO_TEXT)


@pytest.mark.slow
def test_real_processes_lose_nothing(tmp_path):
    command = ["bench", "faults", "--work", str(tmp_path / "work"), "--kills", "2"]
    names = ("kill -9", "two batches at once", "odd name", "bad picture")
    chosen = [f"--only={name}" for name in names]
    rows: Path = tmp_path / "rows.jsonl"
    done = CliRunner().invoke(main, [*command, *chosen, "--results", str(rows), "--format", "json"])
    said = json.loads(done.stdout)
    assert said["schema"] == "zerocon.faults/1"
    assert [line["fault"] for line in said["faults"]] == list(names)
    assert all(line["held"] == line["injected"] for line in said["faults"])
    assert len(trials.read(rows)) == sum(line["injected"] for line in said["faults"])
