"""Batch: every job has one result, exactly once, whatever interrupts the run."""

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
from zerocon.batch.executor import BatchExecutor, ExecutedJob, NoResult
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
    """Run the command in a directory with three images, one of them in a subdirectory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    Path("in/deep").mkdir(parents=True)
    gradient(64, 48).save("in/one.png")
    gradient(64, 48).rotate(180).save("in/two.jpg")
    gradient(48, 64).save("in/deep/three.png")

    def invoke(*args: object, form: str = "json", code: int = 0) -> Result:
        arguments = ["batch", *map(str, args), "--format", form]
        if "--steps" not in arguments:
            arguments += ["--steps", str(STEPS)]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == code, (done.output, done.exception)
        return done

    return invoke


def results(folder: str = "out") -> dict[str, bytes]:
    """Content of every file except the journal's."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and FOLDER not in path.parts
    }


def states(folder: str = "out") -> dict[str, str]:
    journal = Journal(Path(folder))
    try:
        return {entry.name: entry.state for entry in journal.records()}
    finally:
        journal.close()


def record_of(done: Result) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def line(done: Result) -> str:
    """The line of the error."""
    (text,) = [each for each in done.stderr.splitlines() if each.startswith("Error")]
    return text


# Inputs, prompts and names


def test_results_equal_those_of_edit_in_the_same_directories(run: Run) -> None:
    before = {path: path.read_bytes() for path in Path("in").rglob("*.*")}
    summary = record_of(run("in", "-o", "out", "--to", "dog"))
    names = ["deep/three-dog-0.png", "one-dog-0.png", "two-dog-0.jpg"]
    assert list(results()) == names
    assert (summary["of"], summary["done"], summary["failed"], summary["left"]) == (3, 3, 0, 0)
    for source, name in (("in/one.png", "one-dog-0.png"), ("in/two.jpg", "two-dog-0.jpg")):
        arguments = [
            "edit",
            source,
            "--to",
            "dog",
            "-o",
            f"alone{Path(name).suffix}",
            "--overwrite",
        ]
        assert CliRunner().invoke(main, [*arguments, "--steps", str(STEPS)]).exit_code == 0
        assert Path(f"alone{Path(name).suffix}").read_bytes() == results()[name]
    assert {path: path.read_bytes() for path in Path("in").rglob("*.*")} == before
    assert sorted(path.name for path in Path("out").iterdir() if path.is_file()) == names[1:]
    left = {path.name for path in Path("out", FOLDER).rglob("*") if path.is_file()}
    assert left == {"journal.sqlite"}


def test_all_prompts_strengths_and_seeds_of_an_image_share_one_inversion(run: Run) -> None:
    once = record_of(run("in/one.png", "-o", "one", "--to", "dog"))["evaluations"]
    again = record_of(run("in/one.png", "-o", "two", "--to", "dog", "--to", "bus"))["evaluations"]
    each = again - once
    assert each == pytest.approx(once - STEPS - 1), "all but the evaluations of the inversion"
    many = ["--to", "dog", "--to", "bus", "--strength", 0.5, "--strength", 1]
    done = record_of(
        run("in/one.png", "-o", "four", *many, "--name", "{to}/{stem}-{strength}{suffix}")
    )
    assert sorted(results("four")) == [
        f"{prompt}/one-{strength}.png" for prompt in ("bus", "dog") for strength in (0.5, 1.0)
    ]
    assert done["evaluations"] == pytest.approx(once + 3 * each)


def test_a_batch_of_images_of_one_shape_equals_single_edits(run: Run) -> None:
    run("in", "-o", "alone", "--to", "dog", "--name", "{stem}.png")
    run("in", "-o", "together", "--to", "dog", "--name", "{stem}.png", "--batch-size", 4)
    for name in results("alone"):
        one, other = (
            np.asarray(Image.open(Path(folder, name)).convert("RGB"), int)
            for folder in ("alone", "together")
        )
        assert np.abs(one - other).max() <= 2


def test_files_from_reads_lines_or_zero_separated_names(run: Run) -> None:
    Path("names").write_bytes(b"in/one.png\n\nin/two.jpg\n")
    run("--files-from", "names", "-o", "lines", "--to", "dog")
    Path("odd\nname.png").write_bytes(Path("in/one.png").read_bytes())
    Path("zeros").write_bytes(b"in/one.png\0odd\nname.png\0")
    run("--files-from", "zeros", "-0", "-o", "zeros-out", "--to", "dog")
    assert sorted(results("lines")) == ["one-dog-0.png", "two-dog-0.jpg"]
    assert sorted(results("zeros-out")) == ["odd\nname-dog-0.png", "one-dog-0.png"]


def test_files_from_reads_stdin(run: Run) -> None:
    arguments = ["batch", "--files-from", "-", "-0", "-o", "out", "--to", "dog", "--steps", "1"]
    done = CliRunner().invoke(main, arguments, input=b"in/one.png\0in/two.jpg\0")
    assert done.exit_code == 0, done.output
    assert sorted(results()) == ["one-dog-0.png", "two-dog-0.jpg"]


def test_glob_patterns(run: Run) -> None:
    run("in/**/*.png", "-o", "out", "--to", "dog")
    assert sorted(results()) == ["one-dog-0.png", "three-dog-0.png"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.csv", "image,to,seed,name\none.png,dog,3,\ndeep/three.png,,,{to}.png\n"),
        (
            "a.jsonl",
            '{"image": "one.png", "to": "dog", "seed": 3}\n\n'
            '{"image": "deep/three.png", "name": "{to}.png"}\n',
        ),
        (
            "a.toml",
            '[[edits]]\nimage = "one.png"\nto = "dog"\nseed = 3\n'
            '[[edits]]\nimage = "deep/three.png"\nname = "{to}.png"\n',
        ),
    ],
)
def test_a_manifest_row_overrides_options(run: Run, file: str, text: str) -> None:
    Path("in", file).write_text(text)
    run("--manifest", Path("in", file), "-o", "out", "--to", "bus", "--strength", 0.5)
    assert sorted(results()) == ["deep/bus.png", "one-dog-3.png"]
    recipe = zerocon.Recipe.read(Path("out/one-dog-3.png"))
    assert (recipe.prompt, recipe.settings.seed) == ({"to": "dog"}, 3)
    assert zerocon.Recipe.read(Path("out/deep/bus.png")).settings.strength == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,to\n,dog\n", "a.csv, row 1 (line 2), column image: no image"),
        ("image,colour\none.png,red\n", 'a.csv, line 1: no column "colour"; available: image,'),
        ("file,to\none.png,dog\n", 'a.csv, line 1: no column "image"; the first line names the'),
        ("image,to,to\none.png,dog,bus\n", 'a.csv, line 1: two columns "to"'),
        (
            "image,to,seed\n\n\none.png,dog,x\n",
            "a.csv, row 1 (line 4), column seed: seed must be an integer from 0 to 2**63 - 1, not",
        ),
        ("image,to,inverter\none.png,dog,no\n", "a.csv, row 1 (line 2), column inverter: "),
        ("image,to\none.png,dog,red\n", "a.csv, row 1 (line 2): more cells than columns"),
        ('image,to\n"one\n.png",\n', "a.csv, row 1 (line 2), column to: no prompt; fill in to"),
        (
            "image,to,to_caption\none.png,dog,a dog\n",
            "a.csv, row 1 (line 2), column to_caption: the row has a to too; give one of them",
        ),
        ("image,to,name\none.png,dog,../x.png\n", "a.csv, row 1 (line 2), column name: --name"),
        ('image,to\none.png,"dog\n', "a.csv, line 2 is not valid CSV"),
    ],
)
def test_an_invalid_manifest_is_refused_with_its_row(run: Run, text: str, message: str) -> None:
    Path("in/a.csv").write_text(text)
    done = run("--manifest", "in/a.csv", "-o", "out", code=2)
    assert message in line(done) and not Path("out").exists()


def test_captions_are_read_from_sidecars(run: Run) -> None:
    Path("in/one.txt").write_text("a red\n bus\n")
    run("in", "-o", "out", "--to", "dog", "--sidecars")
    captions = {n: zerocon.Recipe.read(Path("out", n)).caption for n in results()}
    assert captions == {
        "one-dog-0.png": "a red bus",
        "two-dog-0.jpg": "a cat on a bench",
        "deep/three-dog-0.png": "a cat on a bench",
    }


def test_lists_and_captions_have_a_longest_size(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerocon.batch.discovery.LONGEST", 20)
    Path("list").write_text("in/one.png\n" * 2)
    done = run("--files-from", "list", "-o", "out", "--to", "dog", code=2)
    assert line(done) == "Error: list has more than 20 bytes [ZC-E060]"
    args = ["batch", "--files-from", "-", "-o", "out", "--to", "dog"]
    done = CliRunner().invoke(main, args, input="in/one.png\n" * 2)
    assert line(done) == "Error: stdin has more than 20 bytes [ZC-E060]"
    for text in (b"a" * 200_000, b"\xff"):
        Path("in/one.txt").write_bytes(text)
        done = run("in", "-o", "out", "--to", "dog", "--sidecars", code=2)
        assert "one.txt" in line(done) and line(done).endswith("[ZC-E060]")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-o", "out"], "name images, directories or patterns, or use --manifest or --resume"),
        (["-o", "out", "--resume"], "out has no journal to resume from"),
        (["nothing", "-o", "out", "--to", "dog"], "no such file or directory: nothing"),
        (["in/*.gif", "-o", "out", "--to", "dog"], "no file matches the pattern in/*.gif"),
        (["in", "-o", "out"], "the prompt is missing"),
        (
            ["in", "-o", "in", "--to", "dog"],
            "the output directory contains the input in; choose another one with -o",
        ),
        (["in/deep", "-o", "in", "--to", "dog"], "the output directory contains the input in/deep"),
        (
            ["in", "-o", "out", "--to", "dog", "--name", "{size}"],
            "no field 'size'; there are: stem",
        ),
        (["in", "-o", "out", "--to", "dog", "--name", "../{stem}.png"], "leads out of the output"),
        (
            ["in", "-o", "out", "--to", "dog", "--strength", 1, "--strength", 2],
            "in/one.png would both be saved as one-dog-0.png; make the names distinct with --name",
        ),
        (["in", "-o", "out", "--to", "dog", "--batch-size", "0"], 'neither "auto" nor a number'),
        (["in", "-o", "out", "--to", "dog", "--shard", "3/2"], "'3/2' is not I/N"),
        (["in", "-o", "in/one.png", "--to", "dog"], "is a file"),
    ],
)
def test_invalid_arguments_fail_before_any_edit(run: Run, args: list[Any], message: str) -> None:
    done = run(*args, code=2)
    assert message in line(done) and not Path("out").exists()


def test_names_that_differ_only_in_case_are_refused(run: Run) -> None:
    gradient(64, 64).save("in/ONE.png")
    if len(list(Path("in").glob("*.png"))) < 2:
        pytest.skip("this file system does not distinguish them")
    assert "would both be saved as" in line(run("in", "-o", "out", "--to", "dog", code=2))


def test_an_output_directory_inside_the_input_is_not_an_input(run: Run) -> None:
    for _ in range(2):
        assert record_of(run("in", "-o", "in/edited", "--to", "dog"))["of"] == 3


def test_loops_of_links_end(run: Run) -> None:
    Path("in/deep/again").symlink_to("..", target_is_directory=True)
    Path("in/gone.png").symlink_to("nowhere.png")
    done = record_of(run("in", "-o", "out", "--to", "dog", code=1))
    assert (done["of"], done["done"]) == (4, 3)
    assert "gone.png" in done["failures"][0]["input"]


@pytest.mark.parametrize(
    "name",
    ["قط", "猫", "🐈", "e\u0301", "-o", "a b", "new\nline", "{to}", "%s", os.fsdecode(b"\xff")],
)
def test_any_file_name(run: Run, name: str) -> None:
    Path("in/one.png").rename(Path("in", f"{name}.png"))
    done = record_of(run("in", "-o", "out", "--to", "dog"))
    assert done["done"] == 3 and len(results()) == 3
    assert record_of(run("in", "-o", "out", "--to", "dog"))["skipped"] == 3


# Resuming and existing results


def test_the_same_command_again_runs_only_missing_jobs(run: Run) -> None:
    first = record_of(run("in", "-o", "out", "--to", "dog"))
    before = results()
    again = record_of(run("in", "-o", "out", "--to", "dog"))
    assert (again["skipped"], again["evaluations"]) == (3, 0) and first["evaluations"] > 0
    Path("out/one-dog-0.png").unlink()
    gradient(64, 64).save("in/new.png")
    os.utime("in/two.jpg")  # touched, and the same
    more = record_of(run("in", "-o", "out", "--to", "dog"))
    assert (more["of"], more["skipped"], more["done"]) == (4, 2, 4)
    assert results() | before == results()


def test_inputs_and_outputs_may_be_moved(run: Run) -> None:
    run("in", "-o", "out", "--to", "dog")
    Path("in").rename("elsewhere")
    Path("out").rename("there")
    assert record_of(run("elsewhere", "-o", "there", "--to", "dog"))["skipped"] == 3


def test_resume_verifies_results_by_their_hashes(run: Run) -> None:
    run("in", "-o", "out", "--to", "dog")
    before = results()
    Path("out/one-dog-0.png").write_bytes(before["one-dog-0.png"][:100])
    Path("out/two-dog-0.jpg").write_bytes(b"x" * len(before["two-dog-0.jpg"]))
    Path("out/deep/three-dog-0.png").unlink()
    assert record_of(run("in", "-o", "out", "--to", "dog"))["skipped"] == 2, "two files exist"
    damaged = results()
    done = run("-o", "out", "--resume")
    assert results() | {"deep/three-dog-0.png": b""} == damaged | {"deep/three-dog-0.png": b""}
    assert done.stderr.count("the file was changed since it was written, and is kept") == 2
    warnings = record_of(done)["warnings"]
    kept = [each["output"] for each in warnings if "was changed" in " ".join(each["warnings"])]
    assert kept == ["out/one-dog-0.png", "out/two-dog-0.jpg"]
    assert results()["deep/three-dog-0.png"] == before["deep/three-dog-0.png"]
    assert record_of(run("-o", "out", "--resume", "--overwrite"))["skipped"] == 1
    assert results() == before
    assert record_of(run("-o", "out", "--resume"))["skipped"] == 3


def test_another_edit_of_the_same_name_needs_overwrite(run: Run) -> None:
    args = ("in", "-o", "out", "--to", "dog")
    run(*args)
    before = results()
    done = run(*args, "--steps", 3, code=2)
    assert "3 of the results exist already and are not of the same edit" in line(done)
    assert results() == before
    assert record_of(run(*args, "--steps", 3, "--overwrite"))["done"] == 3
    assert all(results()[name] != data for name, data in before.items())


def test_without_ray_the_error_says_how_to_install_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run("in", "-o", "out", "--to", "dog", "--backend", "ray", code=3)
    assert 'pip install ".[ray]" [ZC-E052]' in line(done)
    assert record_of(run("in", "-o", "out", "--to", "dog"))["done"] == 3


def test_other_files_are_not_replaced(run: Run) -> None:
    Path("out").mkdir()
    Path("out/one-dog-0.png").write_text("text")
    assert "1 of the results exist" in line(run("in", "-o", "out", "--to", "dog", code=2))
    assert results() == {"one-dog-0.png": b"text"} and not Path("out", FOLDER).exists()


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
    assert "is an input of this command" in line(refused) and line(refused).endswith("[ZC-E031]")
    assert {path: path.read_bytes() for path in Path("in").rglob("*.[pj]*")} == before
    assert not Path(args[2], FOLDER).exists(), "a refused run has no journal"


def test_no_result_replaces_a_manifest_or_a_direction(run: Run, model: StableDiffusion) -> None:
    zerocon.Direction.of_words(model, "cat", "dog").save("one.png")
    Path("in/list.csv").write_text("image,to\none.png,dog\n")
    text = Path("in/list.csv").read_bytes()
    args = ("--manifest", "in/list.csv", "-o", ".", "--overwrite", "--name")
    assert "[ZC-E031]" in line(run(*args, "in/list.csv", code=2))
    args = ("in/one.png", "-o", ".", "--overwrite", "--direction", "one.png", "--name")
    assert "[ZC-E031]" in line(run(*args, "{stem}{suffix}", code=2))
    assert Path("in/list.csv").read_bytes() == text and not Path(FOLDER).exists()


def test_a_changed_image_is_a_different_job(run: Run) -> None:
    run("in", "-o", "out", "--to", "dog")
    gradient(48, 48).save("in/one.png")
    assert "1 of the results" in line(run("in", "-o", "out", "--to", "dog", code=2))


def test_a_dry_run_lists_jobs_and_cost_and_writes_nothing(run: Run) -> None:
    prompt = ("in", "-o", "out", "--to", "dog", "--to", "bus")
    planned = record_of(run(*prompt, "--dry-run"))
    assert not Path("out").exists()
    done = record_of(run(*prompt))
    assert planned["evaluations"]["total"] == pytest.approx(done["evaluations"])
    assert sorted(each["output"] for each in planned["edits"]) == [
        f"out/{name}" for name in sorted(results())
    ]
    assert planned["seconds"] > 0 and planned["bytes"] > 0
    assert record_of(run(*prompt, "--dry-run"))["skipped"] == 6
    assert "about 0:00:00" in run(*prompt, "--dry-run", form="human").stdout


# Failures


def test_failed_jobs_are_listed_and_the_others_go_on(run: Run) -> None:
    Path("in/broken.png").write_bytes(b"nonsense")
    Path("in/empty.png").touch()
    done = record_of(run("in", "-o", "out", "--to", "dog", code=1))
    assert (done["done"], done["failed"], done["left"]) == (3, 2, 0)
    assert [Path(each["input"]).name for each in done["failures"]] == ["broken.png", "empty.png"]
    assert all(each["reason"].endswith("]") for each in done["failures"])
    second = record_of(run("in", "-o", "out", "--to", "dog", code=1))
    assert (second["skipped"], second["failed"], second["evaluations"]) == (3, 2, 0)
    gradient(64, 64).save("in/broken.png")
    repaired = record_of(run("in", "-o", "out", "--to", "dog", code=1))
    assert (repaired["done"], repaired["failed"]) == (4, 1)
    Path("in/empty.png").unlink()
    assert record_of(run("in", "-o", "out", "--to", "dog"))["of"] == 4


def test_failed_jobs_run_again_with_retry_failed(
    run: Run, monkeypatch: pytest.MonkeyPatch, model: StableDiffusion
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("an internal fault")

    with monkeypatch.context() as patch:
        patch.setattr(BatchExecutor, "_edit_together", refuse)
        done = record_of(run("in", "-o", "out", "--to", "dog", code=1))
    assert done["failures"][0]["reason"] == "RuntimeError: an internal fault [ZC-E001]"
    assert record_of(run("in", "-o", "out", "--to", "dog", code=1))["failed"] == 3
    assert record_of(run("-o", "out", "--resume", code=1))["failed"] == 3
    assert record_of(run("in", "-o", "out", "--to", "dog", "--retry-failed"))["done"] == 3


def test_fail_fast_stops_at_the_first_failure(run: Run) -> None:
    Path("in/broken.png").write_bytes(b"nonsense")
    done = record_of(run("in", "-o", "out", "--to", "dog", "--fail-fast", code=1))
    assert done["failed"] == 1 and done["left"] + done["done"] == 3
    assert set(states().values()) <= {"queued", "failed", "done"}
    assert record_of(run("in", "-o", "out", "--to", "dog", code=1))["done"] == 3


def test_an_error_common_to_all_jobs_stops_the_run_and_fails_none(
    run: Run, monkeypatch: pytest.MonkeyPatch, model: StableDiffusion
) -> None:
    def missing(*_: object) -> list[str]:
        raise zerocon.errors.ModelNotFoundError("no captioner is here")

    with monkeypatch.context() as patch:
        patch.setattr(tiny.TinyCaptioner, "describe", missing)
        done = run("in", "-o", "out", "--to", "dog", code=3)
    assert "no captioner" in line(done) and set(states().values()) == {"queued"}
    assert record_of(run("in", "-o", "out", "--to", "dog"))["done"] == 3


def test_a_full_disk_stops_the_run_and_loses_nothing(run: Run, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("zerocon.batch.commit.os.fsync", full)
        done = run("in", "-o", "out", "--to", "dog", code=2)
    assert "[ZC-E034]" in line(done) and results() == {}
    assert record_of(run("in", "-o", "out", "--to", "dog"))["done"] == 3
    assert not list(Path("out", FOLDER).rglob("*.part"))


# Interruptions and workers


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_continues(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    how: signal.Signals,
) -> None:
    execute, calls = BatchExecutor.__call__, []
    if how == signal.SIGINT:  # which a shell lets a process in the background ignore
        before = signal.signal(how, signal.default_int_handler)
        request.addfinalizer(lambda: signal.signal(how, before))

    def interrupted(self: BatchExecutor, jobs: Any) -> Any:
        calls.append(jobs)
        if len(calls) == 3:
            os.kill(os.getpid(), how)
        return execute(self, jobs)

    with monkeypatch.context() as patch:
        patch.setattr(BatchExecutor, "__call__", interrupted)
        done = run("in", "-o", "out", "--to", "dog", code=130)
    assert "2 of 3 are done; the same command continues" in done.stderr
    assert sorted(states().values()) == ["done", "done", "queued"] and len(results()) == 2
    after = record_of(run("in", "-o", "out", "--to", "dog"))
    assert (after["skipped"], after["done"]) == (2, 3)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal-out")
    yield opened
    opened.close()


def add_jobs(journal: Journal, count: int) -> int:
    """Add ``count`` jobs for one image to a new run."""
    gradient(64, 64).save(journal.output / "image.png")
    jobs = [
        Job(journal.output / "image.png", Path(f"{i}.png"), {"to": str(i)})  # type: ignore[arg-type]
        for i in range(count)
    ]
    changes, unchanged = plan(journal.record, journal.output, ((o, "recipe", "") for o in jobs))
    return journal.begin({}, changes, unchanged)


def test_jobs_of_dead_workers_are_queued_again_unless_their_file_is_complete(
    journal: Journal,
) -> None:
    run = add_jobs(journal, 3)
    journal.claim(run, "dead", 3)
    entries = journal.records(run)
    put(journal, entries[0], "dead", b"whole", "")
    assert journal.place("1.png", "dead", "hash of a file never written", "")
    recover(journal)
    assert [entry.state for entry in journal.records(run)] == ["done", "queued", "queued"]
    assert (journal.output / "0.png").read_bytes() == b"whole"


def test_jobs_of_live_workers_are_not_queued_again(journal: Journal) -> None:
    run = add_jobs(journal, 2)
    with journal.worker() as name:
        journal.claim(run, name, 1)
        recover(journal)
        assert [entry.state for entry in journal.records(run)] == ["running", "queued"]
    recover(journal)
    assert [entry.state for entry in journal.records(run)] == ["queued", "queued"]


def test_the_same_file_of_a_worker_that_died_is_kept(journal: Journal) -> None:
    run = add_jobs(journal, 1)
    (entry,) = journal.claim(run, "worker")
    (journal.output / "0.png").write_bytes(b"same")
    put(journal, entry, "worker", b"same", "")
    with pytest.raises(FileExistsError):
        journal.release("worker")
        (entry,) = journal.claim(run, "worker")
        put(journal, entry, "worker", b"other", "")
    assert (journal.output / "0.png").read_bytes() == b"same"


def test_several_workers_execute_every_job_once(journal: Journal) -> None:
    run, executed = add_jobs(journal, 40), []

    def execute(jobs: Any) -> list[ExecutedJob | NoResult]:
        executed.extend(job.name for job, _ in jobs)
        return [NoResult(ValueError("failed"))] * len(jobs)

    def work() -> None:
        connection = Journal(journal.output)
        list(Worker(connection, run, execute, batch_size=3)())
        connection.close()

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(executed) == len(set(executed)) == 40
    assert journal.counts(run) == {"failed": 40}


def test_a_run_is_recorded_completely_or_not_at_all(journal: Journal) -> None:
    def broken() -> Iterator[tuple[None, JobRecord]]:
        job = Job(Path("a"), Path("0.png"), {})  # type: ignore[arg-type]
        yield None, JobRecord(job, "", "", "", "queued")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        journal.begin({}, broken())
    assert journal.last_run() is None and journal.records() == []


def test_a_record_changed_by_another_process_stays(journal: Journal) -> None:
    run = add_jobs(journal, 1)
    job = journal.records(run)[0].job
    changes, _ = plan(journal.record, journal.output, [(job, "another recipe", "")])
    journal.claim(run, "worker")
    with pytest.raises(ValueError, match="another batch works in"):
        journal.add(run, changes)
    assert [entry.state for entry in journal.records(run)] == ["running"]


def test_jobs_of_the_worker_s_image_are_claimed_first(journal: Journal) -> None:
    names = ["a", "b", "a", "b"]
    entries = [
        (None, JobRecord(Job(Path(n), Path(f"{i}.png"), {}), "", "", "", "queued"))  # type: ignore[arg-type]
        for i, n in enumerate(names)
    ]
    run = journal.begin({})
    journal.add(run, entries)
    claimed = [
        journal.claim(run, "worker", 1, image)[0].name for image in (None, *map(Path, "aab"))
    ]
    assert claimed == ["0.png", "2.png", "1.png", "3.png"]


def test_a_removed_journal_is_an_error(journal: Journal) -> None:
    run = add_jobs(journal, 1)
    journal.file.unlink()
    with pytest.raises(ValueError, match="was removed"):
        journal.claim(run, "worker")


def test_a_file_that_is_not_a_journal_is_not_changed(run: Run) -> None:
    Path("out", FOLDER).mkdir(parents=True)
    Path("out", FOLDER, "journal.sqlite").write_bytes(b"not a database" * 100)
    done = run("in", "-o", "out", "--to", "dog", code=2)
    assert "file is not a database" in line(done)
    assert Path("out", FOLDER, "journal.sqlite").read_bytes() == b"not a database" * 100


# Output


def test_jsonl_has_a_line_for_every_event(run: Run) -> None:
    Path("in/broken.png").write_bytes(b"nonsense")
    lines = run("in", "-o", "out", "--to", "dog", form="jsonl", code=1).stdout.splitlines()
    *events, end = map(json.loads, lines)
    assert (events[0]["event"], end["schema"]) == ("begin", "zerocon.batch/1")
    assert sorted(each["event"] for each in events[1:]) == ["done", "done", "done", "failed"]
    finished = [each["finished"] for each in events[1:]]
    assert finished == sorted(finished) and finished[-1] == 4


def test_shards_are_disjoint_and_complete(run: Run) -> None:
    for part in range(1, 9):  # some have no jobs
        run("in", "-o", "out", "--to", "dog", "--to", "bus", "--shard", f"{part}/8")
    run("in", "-o", "whole", "--to", "dog", "--to", "bus")
    assert results() == results("whole")


def test_settings_are_read_from_the_configuration_as_for_edit(run: Run) -> None:
    Path("zerocon.toml").write_text("strength = 0.5\nseed = 12\nguidance_scale = 2.0\n")
    run("in/one.png", "-o", "out", "--to", "dog")
    assert list(results()) == ["one-dog-12.png"]
    settings = zerocon.Recipe.read(Path("out/one-dog-12.png")).settings
    assert (settings.strength, settings.seed, settings.guidance_scale) == (0.5, 12, 2.0)


def test_a_journal_is_an_sqlite_database(run: Run) -> None:
    run("in", "-o", "out", "--to", "dog")
    with sqlite3.connect("out/.zerocon/journal.sqlite") as base:
        rows = dict(base.execute("SELECT name, result_hash FROM jobs").fetchall())
    assert rows == {name: file_hash(Path("out", name)) for name in results()}
