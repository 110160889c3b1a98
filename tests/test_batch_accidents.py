"""Regression tests of the journal: races, file names that are not valid UTF-8, stale locks."""

import json
import os
import threading
from pathlib import Path, PurePosixPath

import click
from click.testing import CliRunner

from zerocon.batch.commit import recover
from zerocon.batch.job import Job
from zerocon.batch.journal import JobRecord, Journal, Outcome
from zerocon.cli import render


def test_a_new_journal_may_be_opened_by_several_threads_at_once(tmp_path):
    ready, errors = threading.Barrier(4), []

    def begin():
        for number in range(15):
            ready.wait()
            try:
                journal = Journal(tmp_path / str(number))
                journal.begin({})
                journal.close()
            except ValueError as error:
                errors.append(error)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_failure_of_a_file_whose_name_is_not_utf8_is_recorded(tmp_path):
    journal, image = Journal(tmp_path), Path(os.fsdecode(b"/caf\xe9.png"))
    run, job = journal.begin({}), Job(image, PurePosixPath("a.png"), {"to": "dog"})
    journal.add(run, [(None, JobRecord(job, "recipe", "stamp", "", "queued"))])
    with journal.worker() as worker:
        journal.claim(run, worker)
        journal.finish("a.png", worker, Outcome("failed", f"cannot read {image}"))
    (record,) = journal.records(run, "failed")
    assert record.message == r"cannot read /caf\udce9.png" and record.job.image == image
    journal.close()


def test_a_file_name_that_is_not_utf8_is_valid_json_on_a_strict_stdout():
    @click.command()
    def show():
        render.print_result("jsonl", "", {"input": os.fsdecode(b"caf\xe9 \xe7\x8c\xab.png")})

    line = CliRunner(charset="utf-8").invoke(show).stdout_bytes
    assert "猫".encode() in line
    assert os.fsencode(json.loads(line)["input"]) == b"caf\xe9 \xe7\x8c\xab.png"


def test_the_lock_of_a_dead_worker_without_jobs_is_removed(tmp_path):
    journal = Journal(tmp_path)
    (journal.folder / "worker-0123.lock").touch()
    with journal.worker() as alive:
        recover(journal)
        assert [path.name for path in journal.folder.glob("*.lock")] == [f"worker-{alive}.lock"]
    journal.close()
