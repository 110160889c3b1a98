"""Accidents that a batch did not survive once."""

import json
import os
import threading
from pathlib import Path, PurePosixPath

import click
from click.testing import CliRunner

from zerocon.batch.commit import recover
from zerocon.batch.job import Job
from zerocon.batch.journal import JobRecord, Journal
from zerocon.cli import render


def test_many_may_open_a_new_journal_at_one_moment(tmp_path):
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


def test_why_a_file_failed_whose_name_is_no_text_is_noted(tmp_path):
    journal, image = Journal(tmp_path), Path(os.fsdecode(b"/caf\xe9.png"))
    run, job = journal.begin({}), Job(image, PurePosixPath("a.png"), {"to": "dog"})
    journal.enter(run, [(None, JobRecord(job, "recipe", "stamp", "", "queued"))])
    with journal.working() as worker:
        journal.take(run, worker)
        journal.fail("a.png", worker, f"cannot read {image}")
    (entry,) = journal.entries(run, "failed")
    assert entry.reason == r"cannot read /caf\udce9.png" and entry.job.image == image
    journal.close()


def test_a_name_that_is_no_text_is_told_in_json_where_only_text_is_let_through():
    @click.command()
    def tell():
        render.print_result("jsonl", "", {"input": os.fsdecode(b"caf\xe9 \xe7\x8c\xab.png")})

    line = CliRunner(charset="utf-8").invoke(tell).stdout_bytes
    assert "猫".encode() in line
    assert os.fsencode(json.loads(line)["input"]) == b"caf\xe9 \xe7\x8c\xab.png"


def test_the_lock_of_a_worker_that_died_with_nothing_in_hand_goes(tmp_path):
    journal = Journal(tmp_path)
    (journal.folder / "worker-0123.lock").touch()
    with journal.working() as alive:
        recover(journal)
        assert [path.name for path in journal.folder.glob("*.lock")] == [f"worker-{alive}.lock"]
    journal.close()
