"""The journal is untrusted: what it names stays in its place, and nothing is lost in silence."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient

import zerocon
from zerocon.batch import signing
from zerocon.batch.commit import plan
from zerocon.batch.job import Job
from zerocon.batch.journal import FOLDER, JobRecord, Journal
from zerocon.cli import main
from zerocon.errors import MismatchError
from zerocon.model.fingerprint import cache_folder

Run = Callable[..., Result]
BRIEF = ("--steps", "2", "--guidance", "none")
VICTIM = b"the only copy"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Arguments with which models were loaded."""
    calls: list[dict[str, Any]] = []
    model = tiny.model()

    def load(name: str | None = None, **options: Any) -> Any:
        calls.append({"name": name, **options})
        return model

    monkeypatch.setattr(zerocon, "load", load, raising=False)
    return calls


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[dict[str, Any]]) -> Run:
    """The command in a directory with two images, an edited directory, and a victim outside."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "doc.png").write_bytes(VICTIM)
    (tmp_path / "here" / "in").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    gradient(64, 48).save("in/one.png")
    gradient(64, 48).rotate(180).save("in/two.png")

    def invoke(*args: object, code: int = 0, id: str = "") -> Result:
        done = CliRunner().invoke(main, ["batch", *map(str, args)])
        assert done.exit_code == code, (done.output, done.exception)
        if code:
            (message,) = [each for each in done.stderr.splitlines() if each.startswith("Error")]
            assert done.stderr.rstrip().endswith(message), done.stderr
            assert message.endswith(f"[{id}]"), message
        return done

    invoke("in", "-o", "out", "--to", "dog", *BRIEF)
    loaded.clear()
    return invoke


def tamper(*statements: tuple[str, tuple[Any, ...]], queue: bool = True) -> None:
    """Change the journal as an attacker does, who can write SQL but has no key."""
    connection = sqlite3.connect(f"out/{FOLDER}/journal.sqlite")
    with connection:
        for statement in statements:
            connection.execute(*statement)
        if queue:
            connection.execute("UPDATE jobs SET state = 'queued', overwrite = 1")
    connection.close()


def job(**changes: Any) -> str:
    """The record of the first job, with changes, as JSON."""
    connection = sqlite3.connect(f"out/{FOLDER}/journal.sqlite")
    (line,) = connection.execute("SELECT job FROM jobs WHERE name = 'one-dog-0.png'").fetchone()
    connection.close()
    return json.dumps({**json.loads(line), **changes}, sort_keys=True)


def set_job(**changes: Any) -> tuple[str, tuple[Any, ...]]:
    return "UPDATE jobs SET job = ? WHERE name = 'one-dog-0.png'", (job(**changes),)


def set_parameters(**changes: Any) -> tuple[str, tuple[Any, ...]]:
    connection = sqlite3.connect(f"out/{FOLDER}/journal.sqlite")
    (line,) = connection.execute("SELECT parameters FROM runs").fetchone()
    connection.close()
    return "UPDATE runs SET parameters = ?", (json.dumps({**json.loads(line), **changes}),)


def untouched() -> bool:
    files = [path for path in Path("../victim").rglob("*") if path.is_file()]
    return [path.read_bytes() for path in files] == [VICTIM]


ESCAPES = ["../../victim/doc.png", "{victim}/doc.png", "x/../../../victim/doc.png", "..\\doc.png"]
ESCAPES += ["C:/doc.png", "C:doc.png", ".zerocon/doc.png", "CON.png", "NUL/doc.png", "", ".", "a\0"]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("form", [["--resume"], ["in", "--resume"], ["in", "--to", "dog"]])
def test_a_journal_writes_only_below_its_directory(run: Run, name: str, form: list[str]) -> None:
    name = name.format(victim=Path("../victim").resolve())
    line = job(name=name)
    rename = "UPDATE {} SET name = ? WHERE name = 'one-dog-0.png'"
    tamper(
        ("UPDATE jobs SET job = ? WHERE name = 'one-dog-0.png'", (line,)),
        (rename.format("jobs"), (name,)),
        (rename.format("run_jobs"), (name,)),
    )
    if "--to" in form:  # a new command, which has no use for that row
        Path("out/one-dog-0.png").unlink()
        Path("out/two-dog-0.png").unlink()
        run(*form, "-o", "out", *BRIEF)
    else:
        run(*form, "-o", "out", code=2, id="ZC-E060")
    assert untouched()


def test_a_row_whose_job_has_another_name_is_refused(run: Run) -> None:
    tamper(set_job(name="two-dog-0.png"))
    run("-o", "out", "--resume", code=2, id="ZC-E060")
    run("in", "-o", "out", "--to", "dog", *BRIEF, code=2, id="ZC-E060")


@pytest.mark.parametrize("what", ["image", "mask", "direction"])
def test_files_outside_need_the_command_line_s_word(run: Run, what: str) -> None:
    victim = str(Path("../victim/doc.png").resolve())
    changes: dict[str, Any] = {what: victim}
    if what == "direction":
        changes = {"directions": [[victim, 1.0]]}
    tamper(set_job(**changes), queue=False)
    run("-o", "out", "--resume", code=2, id="ZC-E064")
    done = run("in", "-o", "out", "--resume", code=2, id="ZC-E064")
    assert victim in done.stderr and "zerocon batch DIR -o out --resume" in done.stderr
    link = Path("in/link.png")
    link.symlink_to(victim)
    tamper(set_job(image=str(link.absolute())), queue=False)
    run("in", "-o", "out", "--resume", code=2, id="ZC-E064")
    assert untouched()


def test_a_stranger_s_journal_is_resumed_where_its_directories_are_named(run: Run) -> None:
    before = Path("out/one-dog-0.png").read_bytes()
    Path("out/one-dog-0.png").unlink()
    (cache_folder() / signing.FILE).unlink()  # as if another user had written the journal
    run("-o", "out", "--resume", code=2, id="ZC-E064")
    run("in", "-o", "out", "--resume")
    assert Path("out/one-dog-0.png").read_bytes() == before
    Path("out/one-dog-0.png").unlink()
    run("-o", "out", "--resume")  # the run is this user's own now
    assert Path("out/one-dog-0.png").read_bytes() == before


MODELS = [("model", "./evil"), ("model", "evil"), ("model", "../victim"), ("model", "evil/model")]
MODELS += [("model", "~/evil"), ("model", "\\\\host\\share"), ("model", "x.safetensors")]
MODELS += [
    (name, path) for name in ("captioner", "clip", "segmenter", "vae") for path in ("evil", "mini")
]


@pytest.mark.parametrize(("option", "path"), MODELS)
def test_models_of_a_stranger_s_journal_need_the_command_line_s_word(
    run: Run, loaded: list[dict[str, Any]], option: str, path: str
) -> None:
    for name in ("evil/model", "mini"):
        Path(name).mkdir(parents=True)
    inner = {option: path}
    changes = inner if option in ("model", "segmenter") else {"load": inner}
    tamper(set_parameters(**changes), queue=False)
    done = run("in", "-o", "out", "--resume", code=2, id="ZC-E064")
    assert f"give --{option}" in done.stderr and loaded == []
    named = {"model": "mini"}.get(option, "owner/part")
    run("in", "-o", "out", "--resume", "--overwrite", f"--{option}", named)
    assert path not in [value for call in loaded for value in call.values()]


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("keep_gps", True, ["--keep-gps"]),
        ("metadata", "none", ["--metadata", "none"]),
        ("max_megapixels", 5000, ["--max-megapixels", "200"]),
    ],
)
def test_less_privacy_and_larger_images_need_the_command_line_s_word(
    run: Run, loaded: list[dict[str, Any]], option: str, value: Any, word: list[str]
) -> None:
    tamper(set_parameters(**{option: value}), queue=False)
    done = run("in", "-o", "out", "--resume", code=2, id="ZC-E064")
    assert f"give {word[0]}" in done.stderr and loaded == []
    run("in", "-o", "out", "--resume", "--overwrite", *word)


def test_hub_ids_and_mini_may_be_named_by_a_journal(run: Run, loaded: list[dict[str, Any]]) -> None:
    tamper(set_parameters(model="mini", load={"captioner": "owner/part"}), queue=False)
    run("in", "-o", "out", "--resume", "--overwrite")
    assert (loaded[0]["name"], loaded[0]["captioner"]) == ("mini", "owner/part")


BROKEN = [
    ("UPDATE jobs SET job = ?", ("{",)),
    ("UPDATE jobs SET job = ?", ("[1]",)),
    ("UPDATE jobs SET job = ?", ("[" * 100_000,)),
    ("UPDATE jobs SET job = ?", ('{"image": 1}',)),
    ("UPDATE jobs SET state = ?", ("finished",)),
    ("UPDATE runs SET parameters = ?", ("[]",)),
    ("UPDATE runs SET parameters = ?", ('{"load": 3}',)),
    ("UPDATE runs SET parameters = ?", ('{"max_megapixels": NaN}',)),
    ("UPDATE runs SET parameters = ?", ('{"max_megapixels": 1e308}',)),
    ("UPDATE runs SET parameters = ?", ('{"load": {"evil": 3}}',)),
    ("UPDATE runs SET parameters = ?", ('{"metadata": "everything"}',)),
    ("UPDATE runs SET parameters = ?", ('{"trust": true}',)),
    ("UPDATE runs SET parameters = ?", ("\x00",)),
    ("DROP TABLE runs", ()),
    ("CREATE TRIGGER t AFTER INSERT ON jobs BEGIN DELETE FROM run_jobs; END", ()),
    ("CREATE VIEW v AS SELECT 1", ()),
    ("UPDATE jobs SET state = 'running', worker = ?", ("../../../victim/doc",)),
    ("UPDATE jobs SET state = 'running', worker = NULL", ()),
]


@pytest.mark.parametrize("statement", BROKEN)
def test_a_broken_journal_is_one_line(run: Run, statement: tuple[str, tuple[Any, ...]]) -> None:
    tamper(statement, queue=False)
    done = CliRunner().invoke(main, ["batch", "in", "-o", "out", "--resume"])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1, (done.stderr, done.exception)
    assert done.stderr.startswith("Error: ") and "[ZC-E" in done.stderr
    status = CliRunner().invoke(main, ["batch", "status", "-o", "out"])
    assert status.exit_code in (0, 2) and "Traceback" not in status.output
    assert untouched()


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"steps": 10**9}}, {"settings": {"evil": 1}}, {"settings": {"guidance": "x"}},
        {"settings": {"guidance": ["contrastive"] * 9}}, {"prompt": {"evil": "x"}},
        {"prompt": {"to": 3}}, {"settings": []}, {"directions": [["a"]]}, {"mask": 3},
        {"directions": [["in/one.png", float("nan")]]}, {"evil": 1}, {"image": "in/one.png\0"},
        {"settings": {"inverter": "fixed-point:rounds=1000000000"}},
    ],
)  # fmt: skip
def test_values_of_jobs_are_checked(run: Run, changes: dict[str, Any]) -> None:
    tamper(set_job(**changes))
    done = CliRunner().invoke(main, ["batch", "in", "-o", "out", "--resume"])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1, (done.stderr, done.exception)


@pytest.mark.parametrize("place", ["", "/journal.sqlite", "/journal.sqlite-wal", "/parts"])
def test_no_part_of_a_journal_is_a_link(run: Run, place: str) -> None:
    path = Path(f"out/{FOLDER}{place}")
    if path.exists():
        path.rename("moved")
    path.symlink_to(Path("moved" if Path("moved").exists() else "../victim").absolute())
    run("in", "-o", "out", "--to", "dog", *BRIEF, code=2, id="ZC-E032")
    assert untouched()


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_lock_that_is_another_file_is_not_emptied(
    run: Run, link: Callable[[Path, str], None]
) -> None:
    link(Path("../victim/doc.png").absolute(), f"out/{FOLDER}/worker-{'a' * 32}.lock")
    run("in", "-o", "out", "--to", "dog", *BRIEF, code=2, id="ZC-E060")
    assert untouched()


def test_the_database_of_another_program_is_left_alone(run: Run) -> None:
    Path(f"new/{FOLDER}").mkdir(parents=True)
    other = sqlite3.connect(f"new/{FOLDER}/journal.sqlite")
    with other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    before = Path(f"new/{FOLDER}/journal.sqlite").read_bytes()
    run("in", "-o", "new", "--to", "dog", *BRIEF, code=2, id="ZC-E060")
    assert Path(f"new/{FOLDER}/journal.sqlite").read_bytes()[100:] == before[100:]


# What may be overwritten


def test_a_hand_edited_result_is_kept_and_said(run: Run) -> None:
    Path("out/one-dog-0.png").write_bytes(b"retouched by hand")
    for _ in range(2):
        done = run("-o", "out", "--resume")
        line = "out/one-dog-0.png: the file was changed since it was written, and is kept"
        assert line in done.stderr and "two-dog" not in done.stderr
        assert Path("out/one-dog-0.png").read_bytes() == b"retouched by hand"
    run("-o", "out", "--resume", "--overwrite")
    assert Path("out/one-dog-0.png").read_bytes() != b"retouched by hand"


def test_a_journal_s_licence_to_overwrite_counts_for_nothing(run: Run) -> None:
    Path("out/one-dog-0.png").write_bytes(b"not of this journal")
    tamper()  # all jobs are queued, and may overwrite
    tamper(set_parameters(overwrite=True), queue=False)
    run("in", "-o", "out", "--resume", code=2, id="ZC-E030")
    run("in", "-o", "out", "--to", "dog", *BRIEF, code=2, id="ZC-E030")
    assert Path("out/one-dog-0.png").read_bytes() == b"not of this journal"


def test_an_interrupted_overwriting_run_leaves_no_licence(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zerocon.batch.executor import BatchExecutor

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    Path("out/one-dog-0.png").write_bytes(b"another edit")
    with monkeypatch.context() as patch:
        patch.setattr(BatchExecutor, "__call__", interrupt)
        other = ["in", "-o", "out", "--to", "dog", "--steps", "3", "--guidance", "none"]
        done = CliRunner().invoke(main, ["batch", *other, "--overwrite"])
        assert done.exit_code == 130
    run("-o", "out", "--resume", code=2, id="ZC-E030")
    assert Path("out/one-dog-0.png").read_bytes() == b"another edit"
    run("-o", "out", "--resume", "--overwrite")
    assert Path("out/one-dog-0.png").read_bytes() != b"another edit"


# Two batches at once


def records(folder: Path, recipe: str) -> list[tuple[None, JobRecord]]:
    names = ("a.png", "b.png")
    jobs = [Job(folder / "image.png", Path(name), {"to": recipe}) for name in names]  # type: ignore[arg-type]
    return [(None, JobRecord(each, recipe, "1 1", "", "queued")) for each in jobs]


@pytest.mark.parametrize("recipes", [("one", "two"), ("one", "one")])
def test_of_two_batches_that_enter_at_once_one_is_refused_unless_they_agree(
    tmp_path: Path, recipes: tuple[str, str]
) -> None:
    barrier, ended = Barrier(2), Barrier(2)
    outcomes: list[object] = []

    def enter(recipe: str) -> None:
        journal = Journal(tmp_path)
        try:
            with journal.worker() as session:
                barrier.wait()
                try:
                    outcomes.append(journal.begin({}, records(tmp_path, recipe), session=session))
                except MismatchError as error:
                    outcomes.append(error)
                ended.wait()
        finally:
            journal.close()

    threads = [Thread(target=enter, args=(recipe,)) for recipe in recipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    refused = [each for each in outcomes if isinstance(each, MismatchError)]
    assert len(outcomes) == 2 and len(refused) == (recipes[0] != recipes[1])
    assert all("another batch works in" in str(each) for each in refused)


def test_a_batch_replaces_no_job_of_one_that_is_still_working(tmp_path: Path) -> None:
    working, other = Journal(tmp_path), Journal(tmp_path)
    try:
        with working.worker() as session:
            number = working.begin({}, records(tmp_path, "one"), session=session)
            found = [other.record(name) for name in ("a.png", "b.png")]
            changes = list(zip(found, [new for _, new in records(tmp_path, "two")], strict=True))
            with pytest.raises(MismatchError), other.worker() as second:
                other.begin({}, changes, session=second)
            assert [each.recipe_hash for each in working.records(number)] == ["one", "one"]
        with other.worker() as second:  # the first has ended: its queued jobs are dropped
            other.begin({}, changes, session=second)
        assert [each.recipe_hash for each in other.records()] == ["two", "two"]
    finally:
        working.close()
        other.close()


def test_two_processes_with_different_settings(tmp_path: Path) -> None:
    gradient(64, 48).save(tmp_path / "one.png")
    gradient(64, 48).rotate(180).save(tmp_path / "two.png")
    shared = ["batch", "one.png", "two.png", "-o", "out", "--to", "watercolor", "--model", "mini"]
    commands = [[*shared, "--guidance", "none", "--steps", steps] for steps in ("2", "3")]
    started = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "zerocon.cli", *command, "--no-cache"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for command in commands
    ]  # fmt: skip
    output = [each.communicate(timeout=400) for each in started]
    codes = [each.returncode for each in started]
    assert sorted(codes) == [0, 2], output
    message = output[codes.index(2)][1]
    assert "[ZC-E061]" in message or "[ZC-E030]" in message, message
    steps = {str(zerocon.Recipe.read(file).settings.steps) for file in tmp_path.glob("out/*.png")}
    assert steps == {commands[codes.index(0)][-1]} and len(list(tmp_path.glob("out/*.png"))) == 2


def test_planning_keeps_what_the_journal_says_of_a_job_out_of_it(tmp_path: Path) -> None:
    """A row with the right hashes but another image is known by its end, not by its job."""
    gradient(64, 48).save(tmp_path / "image.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"result")
    from zerocon.storage.hashing import file_hash

    job = Job(tmp_path / "image.png", Path("a.png"), {"to": "dog"})  # type: ignore[arg-type]
    elsewhere = Job(tmp_path / "secret.png", Path("a.png"), {"to": "x"})  # type: ignore[arg-type]
    old = JobRecord(
        elsewhere, "recipe", "", "", "done", result_hash=file_hash(tmp_path / "out" / "a.png"),
        image_hash=file_hash(tmp_path / "image.png"),
    )  # fmt: skip
    changes, kept = plan(lambda _: old, tmp_path / "out", [(job, "recipe", "")])
    assert kept == [] and [(new.job, new.state) for _, new in changes] == [(job, "done")]
