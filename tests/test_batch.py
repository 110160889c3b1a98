"""Many edits: what is asked becomes results, exactly once, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient
from PIL import Image

import zerocon
from zerocon.batch.commit import plan, put, recover
from zerocon.batch.executor import BatchExecutor, ExecutedJob
from zerocon.batch.job import Job
from zerocon.batch.journal import FOLDER, JobRecord, Journal
from zerocon.batch.worker import Worker
from zerocon.cli import main
from zerocon.model.stable_diffusion import StableDiffusion
from zerocon.storage.hashing import file_hash

Run = Callable[..., Result]
STEPS = 2


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return tiny.model()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: StableDiffusion) -> Run:
    """The command line in a folder with three pictures, one of them in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    Path("in/deep").mkdir(parents=True)
    gradient(64, 48).save("in/one.png")
    gradient(64, 48).rotate(180).save("in/two.jpg")
    gradient(48, 64).save("in/deep/three.png")

    def invoke(*args: object, form: str = "json", code: int = 0) -> Result:
        words = ["batch", *map(str, args), "--format", form]
        if "--steps" not in words:
            words += ["--steps", str(STEPS)]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == code, (done.output, done.exception)
        return done

    return invoke


def results(folder: str = "out") -> dict[str, bytes]:
    """Every file but the journal's."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and FOLDER not in path.parts
    }


def states(folder: str = "out") -> dict[str, str]:
    journal = Journal(Path(folder))
    try:
        return {entry.name: entry.state for entry in journal.entries()}
    finally:
        journal.close()


def said(done: Result) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def line(done: Result) -> str:
    """The one line of an error."""
    (text,) = [each for each in done.stderr.splitlines() if each.startswith("Error")]
    return text


# What is asked


def test_a_folder_becomes_a_folder_like_it_of_what_edit_makes(run: Run) -> None:
    before = {path: path.read_bytes() for path in Path("in").rglob("*.*")}
    summary = said(run("in", "-o", "out", "--to", "dog"))
    names = ["deep/three-dog-0.png", "one-dog-0.png", "two-dog-0.jpg"]
    assert list(results()) == names
    assert (summary["of"], summary["done"], summary["failed"], summary["left"]) == (3, 3, 0, 0)
    for source, name in (("in/one.png", "one-dog-0.png"), ("in/two.jpg", "two-dog-0.jpg")):
        ask = ["edit", source, "--to", "dog", "-o", f"alone{Path(name).suffix}", "--overwrite"]
        assert CliRunner().invoke(main, [*ask, "--steps", str(STEPS)]).exit_code == 0
        assert Path(f"alone{Path(name).suffix}").read_bytes() == results()[name]
    assert {path: path.read_bytes() for path in Path("in").rglob("*.*")} == before
    assert sorted(path.name for path in Path("out").iterdir() if path.is_file()) == names[1:]
    left = {path.name for path in Path("out", FOLDER).rglob("*") if path.is_file()}
    assert left == {"journal.sqlite"}


def test_every_wish_strength_and_seed_of_every_picture_pays_for_one_path_to_noise(run: Run) -> None:
    once = said(run("in/one.png", "-o", "one", "--to", "dog"))["evaluations"]
    again = said(run("in/one.png", "-o", "two", "--to", "dog", "--to", "bus"))["evaluations"]
    own = again - once
    assert own == pytest.approx(once - STEPS - 1), "all but the passes on the way to noise"
    many = ["--to", "dog", "--to", "bus", "--strength", 0.5, "--strength", 1]
    done = said(run("in/one.png", "-o", "four", *many, "--name", "{to}/{stem}-{strength}{suffix}"))
    assert sorted(results("four")) == [
        f"{prompt}/one-{strength}.png" for prompt in ("bus", "dog") for strength in (0.5, 1.0)
    ]
    assert done["evaluations"] == pytest.approx(once + 3 * own)


def test_pictures_of_one_shape_go_together_and_come_out_as_alone(run: Run) -> None:
    run("in", "-o", "alone", "--to", "dog", "--name", "{stem}.png")
    run("in", "-o", "together", "--to", "dog", "--name", "{stem}.png", "--batch-size", 4)
    for name in results("alone"):
        one, other = (
            np.asarray(Image.open(Path(folder, name)).convert("RGB"), int)
            for folder in ("alone", "together")
        )
        assert np.abs(one - other).max() <= 2


def test_lists_of_names(run: Run) -> None:
    Path("names").write_bytes(b"in/one.png\n\nin/two.jpg\n")
    run("--files-from", "names", "-o", "lines", "--to", "dog")
    Path("odd\nname.png").write_bytes(Path("in/one.png").read_bytes())
    Path("zeros").write_bytes(b"in/one.png\0odd\nname.png\0")
    run("--files-from", "zeros", "-0", "-o", "zeros-out", "--to", "dog")
    assert sorted(results("lines")) == ["one-dog-0.png", "two-dog-0.jpg"]
    assert sorted(results("zeros-out")) == ["odd\nname-dog-0.png", "one-dog-0.png"]


def test_patterns_are_for_shells_that_have_none(run: Run) -> None:
    run("in/**/*.png", "-o", "out", "--to", "dog")
    assert sorted(results()) == ["one-dog-0.png", "three-dog-0.png"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.csv", "picture,to,seed,name\none.png,dog,3,\ndeep/three.png,,,{to}.png\n"),
        (
            "a.jsonl",
            '{"picture": "one.png", "to": "dog", "seed": 3}\n\n'
            '{"picture": "deep/three.png", "name": "{to}.png"}\n',
        ),
        (
            "a.toml",
            '[[edits]]\npicture = "one.png"\nto = "dog"\nseed = 3\n'
            '[[edits]]\npicture = "deep/three.png"\nname = "{to}.png"\n',
        ),
    ],
)
def test_a_manifest_says_more_of_some(run: Run, file: str, text: str) -> None:
    Path("in", file).write_text(text)
    run("--manifest", Path("in", file), "-o", "out", "--to", "bus", "--strength", 0.5)
    assert sorted(results()) == ["deep/bus.png", "one-dog-3.png"]
    recipe = zerocon.Recipe.read(Path("out/one-dog-3.png"))
    assert (recipe.words, recipe.settings.seed) == ({"to": "dog"}, 3)
    assert zerocon.Recipe.read(Path("out/deep/bus.png")).settings.strength == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture,to\n,dog\n", "a.csv, row 1 names no picture"),
        ("picture,colour\none.png,red\n", 'a.csv, row 1: no column "colour"; there are: picture,'),
        ("picture,to,seed\none.png,dog,x\n", "a.csv, row 1: 'x' is not a valid integer"),
        ("picture,to,inverter\none.png,dog,no\n", "a.csv, row 1: "),
        ("picture,to\none.png,dog,red\n", "a.csv, row 1 has more cells than columns"),
    ],
)
def test_a_manifest_is_whole_or_refused(run: Run, text: str, message: str) -> None:
    Path("in/a.csv").write_text(text)
    done = run("--manifest", "in/a.csv", "-o", "out", code=2)
    assert message in line(done) and not Path("out").exists()


def test_captions_lie_beside_pictures(run: Run) -> None:
    Path("in/one.txt").write_text("a red\n bus\n")
    run("in", "-o", "out", "--to", "dog", "--sidecars")
    captions = {n: zerocon.Recipe.read(Path("out", n)).caption for n in results()}
    assert captions == {
        "one-dog-0.png": "a red bus",
        "two-dog-0.jpg": "a cat on a bench",
        "deep/three-dog-0.png": "a cat on a bench",
    }


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-o", "out"], "name pictures, folders or patterns, or give --manifest or --resume"),
        (["-o", "out", "--resume"], "out holds no journal to resume from"),
        (["nothing", "-o", "out", "--to", "dog"], "there is no file or folder nothing"),
        (["in/*.gif", "-o", "out", "--to", "dog"], "nothing is called in/*.gif"),
        (["in", "-o", "out"], "say what should be different"),
        (["in", "-o", "in", "--to", "dog"], "the output folder holds in; name another with -o"),
        (["in/deep", "-o", "in", "--to", "dog"], "the output folder holds in/deep"),
        (
            ["in", "-o", "out", "--to", "dog", "--name", "{size}"],
            "no field 'size'; there are: stem",
        ),
        (["in", "-o", "out", "--to", "dog", "--name", "../{stem}.png"], "leads out of the output"),
        (
            ["in", "-o", "out", "--to", "dog", "--strength", 1, "--strength", 2],
            "in/one.png would both become one-dog-0.png; tell them apart with --name",
        ),
        (["in", "-o", "out", "--to", "dog", "--batch-size", "0"], 'neither "auto" nor a number'),
        (["in", "-o", "out", "--to", "dog", "--shard", "3/2"], "'3/2' is not like 1/4"),
        (["in", "-o", "in/one.png", "--to", "dog"], "is a file"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_begins(
    run: Run, args: list[Any], message: str
) -> None:
    done = run(*args, code=2)
    assert message in line(done) and not Path("out").exists()


def test_names_that_differ_in_case_only_are_one_name_somewhere(run: Run) -> None:
    gradient(64, 64).save("in/ONE.png")
    if len(list(Path("in").glob("*.png"))) < 2:
        pytest.skip("this file system does not tell them apart")
    assert "would both become" in line(run("in", "-o", "out", "--to", "dog", code=2))


def test_results_inside_the_pictures_are_no_pictures(run: Run) -> None:
    for _ in range(2):
        assert said(run("in", "-o", "in/edited", "--to", "dog"))["of"] == 3


def test_links_that_lead_back_end(run: Run) -> None:
    Path("in/deep/again").symlink_to("..", target_is_directory=True)
    Path("in/gone.png").symlink_to("nowhere.png")
    done = said(run("in", "-o", "out", "--to", "dog", code=1))
    assert (done["of"], done["done"]) == (4, 3)
    assert "gone.png" in done["failures"][0]["input"]


@pytest.mark.parametrize(
    "name",
    ["قط", "猫", "🐈", "e\u0301", "-o", "a b", "new\nline", "{to}", "%s", os.fsdecode(b"\xff")],
)
def test_any_name(run: Run, name: str) -> None:
    Path("in/one.png").rename(Path("in", f"{name}.png"))
    done = said(run("in", "-o", "out", "--to", "dog"))
    assert done["done"] == 3 and len(results()) == 3
    assert said(run("in", "-o", "out", "--to", "dog"))["skipped"] == 3


# What is done stays done


def test_the_same_command_again_does_what_is_missing(run: Run) -> None:
    first = said(run("in", "-o", "out", "--to", "dog"))
    before = results()
    again = said(run("in", "-o", "out", "--to", "dog"))
    assert (again["skipped"], again["evaluations"]) == (3, 0) and first["evaluations"] > 0
    Path("out/one-dog-0.png").unlink()
    gradient(64, 64).save("in/new.png")
    os.utime("in/two.jpg")  # touched, and the same
    more = said(run("in", "-o", "out", "--to", "dog"))
    assert (more["of"], more["skipped"], more["done"]) == (4, 2, 4)
    assert results() | before == results()


def test_pictures_may_move_with_their_results(run: Run) -> None:
    run("in", "-o", "out", "--to", "dog")
    Path("in").rename("elsewhere")
    Path("out").rename("there")
    assert said(run("elsewhere", "-o", "there", "--to", "dog"))["skipped"] == 3


def test_a_resumed_run_trusts_no_file(run: Run) -> None:
    run("in", "-o", "out", "--to", "dog")
    before = results()
    Path("out/one-dog-0.png").write_bytes(before["one-dog-0.png"][:100])
    Path("out/two-dog-0.jpg").write_bytes(b"x" * len(before["two-dog-0.jpg"]))
    Path("out/deep/three-dog-0.png").unlink()
    assert said(run("in", "-o", "out", "--to", "dog"))["skipped"] == 2, "two are there"
    assert said(run("-o", "out", "--resume"))["skipped"] == 1
    assert results() == before
    assert said(run("-o", "out", "--resume"))["skipped"] == 3


def test_another_wish_for_the_same_names_replaces_nothing_unasked(run: Run) -> None:
    args = ("in", "-o", "out", "--to", "dog")
    run(*args)
    before = results()
    done = run(*args, "--steps", 3, code=2)
    assert "3 of the results exist already and were made otherwise" in line(done)
    assert results() == before
    assert said(run(*args, "--steps", 3, "--overwrite"))["done"] == 3
    assert all(results()[name] != data for name, data in before.items())


def test_without_ray_it_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run("in", "-o", "out", "--to", "dog", "--backend", "ray", code=3)
    assert 'pip install "zerocon[ray]" [ZC-E052]' in line(done)
    assert said(run("in", "-o", "out", "--to", "dog"))["done"] == 3


def test_files_of_others_are_never_replaced(run: Run) -> None:
    Path("out").mkdir()
    Path("out/one-dog-0.png").write_text("mine")
    assert "1 of the results exist" in line(run("in", "-o", "out", "--to", "dog", code=2))
    assert results() == {"one-dog-0.png": b"mine"}


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_no_result_replaces_an_input(run: Run, link: Callable[..., None] | None) -> None:
    before = {path: path.read_bytes() for path in Path("in").rglob("*.[pj]*")}
    args = ["in", "-o", "in2" if link else "in", "--to", "dog", "--name", "{stem}{suffix}"]
    if link:
        Path("in2").mkdir()
        link(Path("in/two.jpg").absolute(), "in2/two.jpg")
    else:
        args[0] = "in/one.png"
    refused = run(*args, "--overwrite", code=2)
    assert "is an input of this run" in line(refused) and line(refused).endswith("[ZC-E031]")
    assert {path: path.read_bytes() for path in Path("in").rglob("*.[pj]*")} == before
    assert not Path(args[2], FOLDER, "parts").exists()


def test_no_result_replaces_a_manifest_or_a_direction(run: Run, model: StableDiffusion) -> None:
    zerocon.Direction.of_words(model, "cat", "dog").save("one.png")
    Path("in/list.csv").write_text("picture,to\none.png,dog\n")
    text = Path("in/list.csv").read_bytes()
    args = ("--manifest", "in/list.csv", "-o", ".", "--overwrite", "--name")
    assert "[ZC-E031]" in line(run(*args, "in/list.csv", code=2))
    args = ("in/one.png", "-o", ".", "--overwrite", "--direction", "one.png", "--name")
    assert "[ZC-E031]" in line(run(*args, "{stem}{suffix}", code=2))
    assert Path("in/list.csv").read_bytes() == text


def test_a_changed_picture_is_another_one(run: Run) -> None:
    run("in", "-o", "out", "--to", "dog")
    gradient(48, 48).save("in/one.png")
    assert "1 of the results" in line(run("in", "-o", "out", "--to", "dog", code=2))


def test_a_dry_run_says_all_and_writes_nothing(run: Run) -> None:
    prompt = ("in", "-o", "out", "--to", "dog", "--to", "bus")
    planned = said(run(*prompt, "--dry-run"))
    assert not Path("out").exists()
    done = said(run(*prompt))
    assert planned["evaluations"]["total"] == pytest.approx(done["evaluations"])
    assert sorted(each["output"] for each in planned["edits"]) == [
        f"out/{name}" for name in sorted(results())
    ]
    assert planned["seconds"] > 0 and planned["bytes"] > 0
    assert said(run(*prompt, "--dry-run"))["skipped"] == 6
    assert "about 0:00:00" in run(*prompt, "--dry-run", form="human").stdout


# What fails


def test_what_fails_is_named_and_stops_nothing(run: Run) -> None:
    Path("in/broken.png").write_bytes(b"nonsense")
    Path("in/empty.png").touch()
    done = said(run("in", "-o", "out", "--to", "dog", code=1))
    assert (done["done"], done["failed"], done["left"]) == (3, 2, 0)
    assert [Path(each["input"]).name for each in done["failures"]] == ["broken.png", "empty.png"]
    assert all(each["reason"].endswith("]") for each in done["failures"])
    kept = said(run("in", "-o", "out", "--to", "dog", code=1))
    assert (kept["skipped"], kept["failed"], kept["evaluations"]) == (3, 2, 0)
    gradient(64, 64).save("in/broken.png")
    mended = said(run("in", "-o", "out", "--to", "dog", code=1))
    assert (mended["done"], mended["failed"]) == (4, 1)
    Path("in/empty.png").unlink()
    assert said(run("in", "-o", "out", "--to", "dog"))["of"] == 4


def test_failed_is_tried_again_when_asked(
    run: Run, monkeypatch: pytest.MonkeyPatch, model: StableDiffusion
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(BatchExecutor, "_together", refuse)
        done = said(run("in", "-o", "out", "--to", "dog", code=1))
    assert done["failures"][0]["reason"] == "RuntimeError: a fault of ours [ZC-E001]"
    assert said(run("in", "-o", "out", "--to", "dog", code=1))["failed"] == 3
    assert said(run("-o", "out", "--resume", code=1))["failed"] == 3
    assert said(run("in", "-o", "out", "--to", "dog", "--retry-failed"))["done"] == 3


def test_the_first_failure_may_be_the_last(run: Run) -> None:
    Path("in/broken.png").write_bytes(b"nonsense")
    done = said(run("in", "-o", "out", "--to", "dog", "--fail-fast", code=1))
    assert done["failed"] == 1 and done["left"] + done["done"] == 3
    assert set(states().values()) <= {"queued", "failed", "done"}
    assert said(run("in", "-o", "out", "--to", "dog", code=1))["done"] == 3


def test_what_fails_for_all_stops_the_run_and_fails_none(
    run: Run, monkeypatch: pytest.MonkeyPatch, model: StableDiffusion
) -> None:
    def blind(*_: object) -> list[str]:
        raise zerocon.errors.ModelNotFoundError("no captioner is here")

    with monkeypatch.context() as patch:
        patch.setattr(tiny.TinyCaptioner, "describe", blind)
        done = run("in", "-o", "out", "--to", "dog", code=3)
    assert "no captioner" in line(done) and set(states().values()) == {"queued"}
    assert said(run("in", "-o", "out", "--to", "dog"))["done"] == 3


def test_no_space_stops_the_run_and_loses_nothing(run: Run, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("zerocon.batch.commit.os.fsync", full)
        done = run("in", "-o", "out", "--to", "dog", code=2)
    assert "[ZC-E034]" in line(done) and results() == {}
    assert said(run("in", "-o", "out", "--to", "dog"))["done"] == 3
    assert not list(Path("out", FOLDER).rglob("*.part"))


# What interrupts


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    how: signal.Signals,
) -> None:
    make, calls = BatchExecutor.__call__, []
    if how == signal.SIGINT:  # which a shell lets a process in the background ignore
        before = signal.signal(how, signal.default_int_handler)
        request.addfinalizer(lambda: signal.signal(how, before))

    def interrupted(self: BatchExecutor, jobs: Any) -> Any:
        calls.append(jobs)
        if len(calls) == 3:
            os.kill(os.getpid(), how)
        return make(self, jobs)

    with monkeypatch.context() as patch:
        patch.setattr(BatchExecutor, "__call__", interrupted)
        done = run("in", "-o", "out", "--to", "dog", code=130)
    assert "2 of 3 are done; the same command goes on" in done.stderr
    assert sorted(states().values()) == ["done", "done", "queued"] and len(results()) == 2
    after = said(run("in", "-o", "out", "--to", "dog"))
    assert (after["skipped"], after["done"]) == (2, 3)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(tmp_path / "journal-out")
    yield found
    found.close()


def enter(journal: Journal, count: int) -> int:
    """A run of orders for one picture."""
    gradient(64, 64).save(journal.outputs / "picture.png")
    jobs = [
        Job(journal.outputs / "picture.png", Path(f"{i}.png"), {"to": str(i)})  # type: ignore[arg-type]
        for i in range(count)
    ]
    entered, kept = plan(journal.entry, journal.outputs, ((o, "recipe", "") for o in jobs))
    return journal.begin({}, entered, kept)


def test_orders_of_the_dead_are_queued_again_unless_their_file_is_whole(journal: Journal) -> None:
    run = enter(journal, 3)
    journal.take(run, "dead", 3)
    entries = journal.entries(run)
    put(journal, entries[0], "dead", b"whole", "")
    assert journal.place("1.png", "dead", "hash of what was never written", "")
    recover(journal)
    assert [entry.state for entry in journal.entries(run)] == ["done", "queued", "queued"]
    assert (journal.outputs / "0.png").read_bytes() == b"whole"


def test_orders_of_the_living_are_theirs(journal: Journal) -> None:
    run = enter(journal, 2)
    with journal.working() as name:
        journal.take(run, name, 1)
        recover(journal)
        assert [entry.state for entry in journal.entries(run)] == ["running", "queued"]
    recover(journal)
    assert [entry.state for entry in journal.entries(run)] == ["queued", "queued"]


def test_a_file_in_place_by_one_who_could_not_say_so_is_kept(journal: Journal) -> None:
    run = enter(journal, 1)
    (entry,) = journal.take(run, "me")
    (journal.outputs / "0.png").write_bytes(b"same")
    put(journal, entry, "me", b"same", "")
    with pytest.raises(FileExistsError):
        journal.put_back("me")
        (entry,) = journal.take(run, "me")
        put(journal, entry, "me", b"other", "")
    assert (journal.outputs / "0.png").read_bytes() == b"same"


def test_any_number_of_workers_do_everything_once(journal: Journal) -> None:
    run, made = enter(journal, 40), []

    def make(jobs: Any) -> list[ExecutedJob | Exception]:
        made.extend(job.name for job, _ in jobs)
        return [ValueError("as good as done")] * len(jobs)

    def work() -> None:
        own = Journal(journal.outputs)
        list(Worker(own, run, make, count=3)())
        own.close()

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == len(set(made)) == 40
    assert journal.counts(run) == {"failed": 40}


def test_a_run_begins_whole_or_not_at_all(journal: Journal) -> None:
    def broken() -> Iterator[tuple[None, JobRecord]]:
        job = Job(Path("a"), Path("0.png"), {})  # type: ignore[arg-type]
        yield None, JobRecord(job, "", "", "", "queued")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        journal.begin({}, broken())
    assert journal.last() is None and journal.entries() == []


def test_what_others_changed_meanwhile_stays(journal: Journal) -> None:
    run = enter(journal, 1)
    job = journal.entries(run)[0].job
    entered, _ = plan(journal.entry, journal.outputs, [(job, "another recipe", "")])
    journal.take(run, "me")
    journal.enter(run, entered)
    assert [entry.state for entry in journal.entries(run)] == ["running"]


def test_pictures_in_hand_come_first(journal: Journal) -> None:
    names = ["a", "b", "a", "b"]
    entries = [
        (None, JobRecord(Job(Path(n), Path(f"{i}.png"), {}), "", "", "", "queued"))  # type: ignore[arg-type]
        for i, n in enumerate(names)
    ]
    run = journal.begin({})
    journal.enter(run, entries)
    taken = [journal.take(run, "me", 1, beside)[0].name for beside in (None, *map(Path, "aab"))]
    assert taken == ["0.png", "2.png", "1.png", "3.png"]


def test_a_folder_that_is_gone_is_said(journal: Journal) -> None:
    run = enter(journal, 1)
    journal.file.unlink()
    with pytest.raises(ValueError, match="is gone"):
        journal.take(run, "me")


def test_what_is_no_journal_is_left_alone(run: Run) -> None:
    Path("out", FOLDER).mkdir(parents=True)
    Path("out", FOLDER, "journal.sqlite").write_bytes(b"not at all a database" * 100)
    done = run("in", "-o", "out", "--to", "dog", code=2)
    assert "file is not a database" in line(done)
    assert Path("out", FOLDER, "journal.sqlite").read_bytes() == b"not at all a database" * 100


# What is said


def test_a_line_for_every_event(run: Run) -> None:
    Path("in/broken.png").write_bytes(b"nonsense")
    lines = run("in", "-o", "out", "--to", "dog", form="jsonl", code=1).stdout.splitlines()
    *events, end = map(json.loads, lines)
    assert (events[0]["event"], end["schema"]) == ("begin", "zerocon.batch/1")
    assert sorted(each["event"] for each in events[1:]) == ["done", "done", "done", "failed"]
    finished = [each["finished"] for each in events[1:]]
    assert finished == sorted(finished) and finished[-1] == 4


def test_parts_are_all_and_apart(run: Run) -> None:
    for part in range(1, 9):  # some of them have nothing to do
        run("in", "-o", "out", "--to", "dog", "--to", "bus", "--shard", f"{part}/8")
    run("in", "-o", "whole", "--to", "dog", "--to", "bus")
    assert results() == results("whole")


def test_settings_come_from_the_file_as_for_edit(run: Run) -> None:
    Path("zerocon.toml").write_text("strength = 0.5\nseed = 12\nguidance_scale = 2.0\n")
    run("in/one.png", "-o", "out", "--to", "dog")
    assert list(results()) == ["one-dog-12.png"]
    settings = zerocon.Recipe.read(Path("out/one-dog-12.png")).settings
    assert (settings.strength, settings.seed, settings.guidance_scale) == (0.5, 12, 2.0)


def test_a_journal_is_a_database_anybody_can_read(run: Run) -> None:
    run("in", "-o", "out", "--to", "dog")
    with sqlite3.connect("out/.zerocon/journal.sqlite") as base:
        rows = dict(base.execute("SELECT name, result FROM orders").fetchall())
    assert rows == {name: file_hash(Path("out", name)) for name in results()}
