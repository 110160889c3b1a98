"""What a batch says: captions, warnings and failures, plans, status, review sheets, copies."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient
from PIL import ExifTags, Image, PdfParser

import zerocon
from zerocon import batch
from zerocon.batch import review_sheet
from zerocon.batch.commit import put, recover
from zerocon.batch.job import Job
from zerocon.batch.journal import FOLDER, JobRecord, Journal, Outcome
from zerocon.cli import main
from zerocon.cli.batch_report import BatchReport
from zerocon.image.reading import Photograph
from zerocon.model.stable_diffusion import StableDiffusion
from zerocon.world import VALIDATION, render, sample

Run = Callable[..., Result]
CAT, DOG = '"a cat on a bench"', '"a dog on a bench"'
SAME = "nothing would change [ZC-E042]"


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return tiny.model()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: StableDiffusion) -> Run:
    """The command in a directory with two images of cats and, by its caption file, one of a dog."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    Path("in/deep").mkdir(parents=True)
    gradient(64, 48).save("in/one.png")
    gradient(64, 48).rotate(180).save("in/two.jpg")
    gradient(48, 64).save("in/deep/same.png")
    Path("in/deep/same.txt").write_text("a dog on a bench")

    def invoke(*args: object, form: str = "json", code: int = 0) -> Result:
        more = ["--format", form] + ([] if "status" in args else ["--sidecars", "--steps", "2"])
        done = CliRunner().invoke(main, ["batch", *map(str, args), "-o", "out", *more])
        assert done.exit_code == code, (done.output, done.exception)
        return done

    return invoke


def record_of(done: Result) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def results() -> set[str]:
    files = (path for path in Path("out").rglob("*.*") if FOLDER not in path.parts)
    return {path.relative_to("out").as_posix() for path in files}


def states() -> dict[str, str]:
    journal = Journal(Path("out"))
    try:
        return {entry.name: entry.state for entry in journal.records()}
    finally:
        journal.close()


# Lines about each image


def test_every_image_has_its_captions_and_warnings(run: Run) -> None:
    Image.new("RGBA", (64, 64), (255, 0, 0, 9)).save("in/clear.png")
    lines = run("in", "--to", "dog", "--name", "{stem}.jpg", form="human").stderr.splitlines()
    assert f"[1/4] clear.jpg: {CAT} -> {DOG}" in lines
    warning = "Warning: clear.jpg: JPEG has no transparency: transparent pixels become white"
    assert lines.index(warning) > lines.index(f"[1/4] clear.jpg: {CAT} -> {DOG}")
    (unchanged,) = [line for line in lines if "same" in line]
    assert unchanged.startswith(f"[4/4] deep/same.jpg: unchanged: {DOG}: ")
    assert unchanged.endswith("[ZC-E042]")


def test_an_unreadable_image_is_named_once_for_all_its_prompts(run: Run) -> None:
    Path("in/broken.png").write_bytes(b"nonsense")
    done = run("in", "--to", "dog", "--to", "bus", form="human", code=1)
    for text in (done.stderr, done.stdout):
        (line,) = [line for line in text.splitlines() if "broken.png" in line]
        assert line.strip().endswith("[ZC-E021]") and str(Path.cwd()) not in line
    assert "failed    2 edits of 1 images\n" in done.stdout
    record = record_of(run("in", "--to", "dog", "--to", "bus", code=1))
    (failure,) = record["failures"]
    assert (record["failed"], failure["id"]) == (2, "ZC-E021")
    assert failure["outputs"] == ["out/broken-dog-0.png", "out/broken-bus-0.png"]


def test_a_failure_of_many_images_is_one_line_of_the_summary(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        gradient(64, 48).save(f"in/{number}.png")

    def refuse(*_: object) -> None:
        raise RuntimeError("an internal fault")

    monkeypatch.setattr("zerocon.batch.executor.BatchExecutor._edit_together", refuse)
    shown = run("in", "--to", "dog", form="human", code=1).stdout
    names = "0-dog-0.png, 1-dog-0.png, 2-dog-0.png and 2 more"
    assert f"          {names}: RuntimeError: an internal fault [ZC-E001]\n" in shown
    assert shown.count("internal fault") == 1


def test_quiet_leaves_failures_and_warnings(run: Run) -> None:
    Path("in/broken.png").write_bytes(b"nonsense")
    Image.new("RGBA", (64, 64), (255, 0, 0, 9)).save("in/clear.png")
    lines = run("in", "--to", "dog", "--name", "{stem}.jpg", "-q", form="human", code=1).stderr
    assert {line.partition(": ")[0] for line in lines.splitlines()} == {"Failed", "Warning"}
    assert "Failed: in/broken.png" in lines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The lines that are seen: text after a carriage return is written over the line."""
        lines = []
        for line in self.getvalue().split("\n"):
            seen = ""
            for part in line.split("\r"):
                seen = part + seen[len(part) :]
            lines.append(seen.rstrip())
        return lines


def test_on_a_terminal_lines_are_printed_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    job = Job(Path("/in/a.png"), PurePosixPath("a.png"), {"to": "dog"})
    files, report = (job, Path("out/a.png")), BatchReport("human", quiet=False)
    with report.bar():
        report(batch.BatchStarted(Path("out"), 4, 0, 0))
        report(batch.JobDone(*files, 1, 4, 0, "a cat", "a dog", warnings=("weak",)))
        report(batch.BatchWarning("the cache is full"))
        report(batch.JobUnchanged(*files, SAME, 2, 4, 0, "a dog"))
        report(batch.JobFailed(*files, "damaged [ZC-E020]", 3, 4, 1))
        report(batch.JobFailed(*files, "damaged [ZC-E020]", 4, 4, 2))
    *lines, bar, end = stream.screen()
    assert [line for line in lines if line] == [
        'a.png: "a cat" -> "a dog"',
        "Warning: a.png: weak",
        "Warning: the cache is full",
        f'a.png: unchanged: "a dog": {SAME}',
        "Failed: /in/a.png: damaged [ZC-E020]",
    ]
    assert bar.startswith("Editing, 2 failed") and "4/4" in bar and end == ""


# Images that are as the prompt describes already


def test_an_unchanged_image_is_no_failure_and_is_not_tried_again(run: Run) -> None:
    first = record_of(run("in", "--to", "dog"))
    assert (first["done"], first["unchanged"], first["failed"], first["left"]) == (2, 1, 0, 0)
    assert states()["deep/same-dog-0.png"] == "unchanged"
    assert "deep/same-dog-0.png" not in results()
    again = run("in", "--to", "dog", form="human")
    assert "2 of 3 are done already, 1 were unchanged" in again.stderr
    assert "[" not in again.stderr.replace("[ZC", "") and "unchanged 1, as the" in again.stdout
    retried = run("in", "--to", "dog", "--retry-failed", form="human").stderr
    assert "deep/same-dog-0.png: unchanged" in retried and "one-dog" not in retried
    Path("in/deep/same.txt").write_text("a cat on a bench")
    assert record_of(run("in", "--to", "dog"))["done"] == 3, (
        "with another caption it is another job"
    )


def test_copy_unchanged_puts_the_source_in_place_and_verifies_it(run: Run) -> None:
    source, copy = Path("in/deep/same.png"), Path("out/deep/same-dog-0.png")
    run("in", "--to", "dog")
    later = record_of(run("in", "--to", "dog", "--copy-unchanged"))
    assert (later["unchanged"], later["copied"], later["skipped"]) == (1, 1, 2)
    assert copy.read_bytes() == source.read_bytes()
    assert run("in", "--to", "dog", "--copy-unchanged", form="human").stderr.count("\n") == 1
    for damage in (lambda: copy.write_bytes(b"changed"), copy.unlink):
        damage()
        run("--resume", "--overwrite")
        assert copy.read_bytes() == source.read_bytes(), "the option belongs to the run"
    assert not list(Path("out", FOLDER).rglob("*.part"))


def test_a_copy_with_another_ending_is_encoded_again(run: Run) -> None:
    run("in/deep", "--to", "dog", "--copy-unchanged", "--name", "{stem}.tif")
    copy = Photograph.read(Path("out/same.tif"))
    pixels = np.asarray(Image.open("in/deep/same.png"))
    assert copy.kind == "TIFF" and (np.asarray(copy.image) == pixels).all()
    assert copy.recipe is None, "it is not marked as edited"


def test_run_copies_unchanged_images_from_python(run: Run, model: StableDiffusion) -> None:
    events: list[batch.BatchEvent] = []
    arguments = {"to": "cat", "output": "out", "model": model, "cache": False}
    summary = batch.run("in/one.png", **arguments, copy_unchanged=True, on_event=events.append)
    (event,) = [each for each in events if isinstance(each, batch.JobUnchanged)]
    assert (summary.complete, summary.unchanged, summary.copied) == (True, 1, 1)
    assert (event.id, event.copied, event.caption) == ("ZC-E042", True, "a cat on a bench")
    assert event.output.read_bytes() == Path("in/one.png").read_bytes()


def test_a_copy_of_a_worker_that_died_is_unchanged_and_not_done(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    job = Job(tmp_path / "a.png", PurePosixPath("b.png"), {"to": "dog"})
    run = journal.begin({}, [(None, JobRecord(job, "recipe", "", "", "queued"))])
    (record,) = journal.claim(run, "dead")
    outcome = Outcome("unchanged", SAME, ("a warning",), "a dog")
    put(journal, record, "dead", b"source", "", outcome)
    assert [each.state for each in journal.records(run)] == ["copying"]
    recover(journal)
    (record,) = journal.records(run)
    assert (record.state, record.copied, record.outcome) == ("unchanged", True, outcome)
    journal.close()


def test_a_journal_without_captions_is_read_and_its_failures_may_be_retried(run: Run) -> None:
    run("in", "--to", "dog")
    with sqlite3.connect("out/.zerocon/journal.sqlite") as base:
        base.execute("ALTER TABLE jobs DROP COLUMN caption")
        base.execute("ALTER TABLE jobs DROP COLUMN target_caption")
        base.execute("DROP TABLE sheets")
        base.execute(
            "UPDATE jobs SET state = 'failed', message = replace(message, 'E042', 'E040') "
            "WHERE state = 'unchanged'"
        )
    base.close()
    status = record_of(run("status"))
    assert (status["done"], status["failed"], status["failures"][0]["id"]) == (2, 1, "ZC-E040")
    assert record_of(run("in", "--to", "dog", code=1))["failed"] == 1
    retried = record_of(run("in", "--to", "dog", "--retry-failed", "--sheet", "sheet.png"))
    assert (retried["skipped"], retried["unchanged"], retried["failed"]) == (2, 1, 0)
    assert retried["sheet"]["shown"] == 2


def test_a_copy_drops_the_position_as_an_edit_does(run: Run) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    for keep in (False, True):
        folder = Path(f"gps-{keep}")
        folder.mkdir()
        gradient(64, 48).save(folder / "a.jpg", exif=exif)
        run(folder, "--to", "cat", "--copy-unchanged", "--overwrite", *["--keep-gps"] * keep)
        copy = Photograph.read(Path("out/a-cat-0.jpg"), keep_gps=True)
        assert copy.has_location == keep


def test_workers_read_images_as_the_options_say(run: Run) -> None:
    Path("cut").mkdir()
    gradient(64, 48).save(file := io.BytesIO(), "JPEG")
    Path("cut/a.jpg").write_bytes(file.getvalue()[:-40])
    strict = record_of(run("cut", "--to", "cat", "--copy-unchanged", code=1))
    assert "; --lenient reads what is there" in strict["failures"][0]["reason"]
    again = ("cut", "--to", "cat", "--copy-unchanged", "--lenient", "--retry-failed")
    small = record_of(run(*again, "--max-megapixels", "0.003", code=1))
    assert small["failures"][0]["id"] == "ZC-E024"  # 3072 pixels
    assert record_of(run(*again, "--max-megapixels", "0.0031"))["unchanged"] == 1
    assert Path("out/a-cat-0.jpg").read_bytes() == Path("cut/a.jpg").read_bytes()


# Dry runs


def test_a_dry_run_says_how_every_edit_is_understood(run: Run) -> None:
    Path("in/broken.png").write_bytes(b"nonsense")
    shown = run("in", "--to", "dog", "--to", "bus", "--dry-run", form="human").stdout
    *lines, end = shown.splitlines()
    change = f"{CAT} -> {DOG}: cat -> dog (object)"
    assert f"in/one.png -> out/one-dog-0.png: {change}" in lines
    (unchanged,) = [line for line in lines if "same-dog" in line]
    assert unchanged.startswith(f"in/deep/same.png -> out/deep/same-dog-0.png: unchanged: {DOG}: ")
    assert unchanged.endswith("[ZC-E042]")
    (broken,) = [line for line in lines if "broken" in line]
    assert broken.startswith("in/broken.png: refused: ") and broken.endswith("[ZC-E021]")
    assert end.startswith("5 edits of 3 images, 1 unchanged, 2 refused, 0 skipped as done: ")
    assert not Path("out").exists()


def test_the_json_of_a_dry_run_has_the_state_of_every_edit(run: Run) -> None:
    run("in/one.png", "--to", "dog")
    Path("in/broken.png").write_bytes(b"nonsense")
    plan = record_of(run("in", "--to", "dog", "--dry-run"))
    edits = {Path(each["input"]).name: each for each in plan["edits"]}
    planned = {name: (each["state"], each["id"]) for name, each in edits.items()}
    assert planned == {
        "one.png": ("done", None),
        "two.jpg": ("todo", None),
        "same.png": ("unchanged", "ZC-E042"),
        "broken.png": ("refused", "ZC-E021"),
    }
    assert edits["two.jpg"]["changes"] == [{"category": "object", "from": "cat", "to": "dog"}]
    assert edits["two.jpg"]["target_caption"] == edits["one.png"]["target_caption"] == DOG[1:-1]
    assert edits["same.png"]["caption"] == DOG[1:-1] and edits["broken.png"]["caption"] is None
    assert (plan["of"], plan["skipped"], plan["unchanged"], plan["refused"]) == (4, 1, 1, 1)
    run("in", "--to", "dog", code=1)
    after = record_of(run("in", "--to", "dog", "--dry-run"))
    assert sorted(each["state"] for each in after["edits"]) == [
        "done", "done", "failed", "unchanged",
    ]  # fmt: skip


def test_a_dry_run_inverts_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an image was inverted")

    for name in ("invert", "invert_batch", "edit_batch"):
        monkeypatch.setattr(f"zerocon.api.{name}", refuse)
    calls: list[tuple[int, int]] = []
    plan = batch.plan(
        "in", to="dog", output="out", steps=2, progress=lambda *pair: calls.append(pair)
    )
    assert plan.count("todo") == 3 and calls == [(1, 3), (2, 3), (3, 3)]


# The state of a run


def test_status_lists_states_and_failures(run: Run) -> None:
    Path("in/broken.png").write_bytes(b"nonsense")
    run("in", "--to", "dog", "--fail-fast", code=1)
    stopped = record_of(run("status"))
    assert stopped["of"] == 4 and stopped["left"] > 0
    run("in", "--to", "dog", code=1)
    status = record_of(run("status"))
    counts = [status[name] for name in ("of", "done", "unchanged", "failed", "left")]
    assert counts == [4, 2, 1, 1, 0]
    (failure,) = status["failures"]
    assert failure["input"].endswith("broken.png") and failure["id"] == "ZC-E021"
    shown = run("status", form="human").stdout
    assert shown.startswith("done      2 of 4\nunchanged 1\nfailed    1 edits of 1 images\n")
    assert "in/broken.png" in shown and "[ZC-E021]" in shown


def test_status_sums_the_shards_of_a_run(run: Run) -> None:
    for part in (1, 2, 3):
        run("in", "--to", "dog", "--shard", f"{part}/3")
    status = record_of(run("status"))
    assert (status["of"], status["done"], status["unchanged"]) == (3, 2, 1)


def test_status_of_a_directory_without_a_run_is_one_line(run: Run) -> None:
    done = run("status", code=2)
    assert done.stderr.startswith("Error: out has no run of zerocon batch")
    assert done.stderr.count("\n") == 1 and not Path("out").exists()


def test_status_is_a_command_and_a_directory_of_this_name_is_dot_status(run: Run) -> None:
    shutil.copytree("in", "status")
    assert "has no run" in run("status", code=2).stderr
    assert "is ./status" in run("in", "status", "--to", "dog", code=2).stderr.replace("\n", " ")
    done = CliRunner().invoke(main, ["batch", "./status", "-o", "out", "--to", "dog", "-n"])
    assert done.exit_code == 0 and "status/one.png -> out/one-dog-0.png" in done.stdout


def test_status_reads_the_configuration_as_batch_does(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("in", "--to", "dog")
    Path("zerocon.toml").write_text('format = "json"')
    done = CliRunner().invoke(main, ["batch", "status", "-o", "out"])
    assert record_of(done)["done"] == 2
    monkeypatch.setenv("ZEROCON_FORMAT", "human")
    shown = CliRunner().invoke(main, ["batch", "status", "-o", "out"]).stdout
    assert shown.startswith("done      2 of 3\n")


def test_status_imports_no_torch(run: Run) -> None:
    run("in", "--to", "dog")
    code = (
        "import sys\nfrom zerocon.cli import main\ntry:\n    main(['batch', 'status', '-o', 'out'])"
    )
    code += "\nexcept SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert printed.startswith("done ") and printed.endswith("\n0 False\n")


# Review sheets


@pytest.mark.parametrize("name", ["out/sheet.png", "sheet.jpg", "sheet.pdf"])
def test_a_sheet_shows_the_edits_and_is_replaced_by_the_next_run(run: Run, name: str) -> None:
    sheet = record_of(run("in/one.png", "--to", "dog", "--sheet", name))["sheet"]
    assert sheet == {"output": name, "shown": 1, "left_out": 0}
    first = Path(name).read_bytes()
    run("in/one.png", "--to", "dog", "--sheet", name)
    assert Path(name).read_bytes() == first, "the same edits give the same bytes"
    assert record_of(run("in", "--to", "dog", "--sheet", name))["sheet"]["shown"] == 2
    assert Path(name).read_bytes() != first
    Path(name).write_bytes(b"mine")
    refused = run("in", "--to", "dog", "--sheet", name, code=2).stderr
    assert "exists already" in refused and Path(name).read_bytes() == b"mine"
    run("in", "--to", "dog", "--sheet", name, "--overwrite")
    assert Path(name).read_bytes() != b"mine"


def test_a_sheet_has_source_and_edit_next_to_each_other(run: Run) -> None:
    run("in/one.png", "--to", "dog", "--sheet", "sheet.png")
    sheet = np.asarray(Image.open("sheet.png"), int)
    for number, file in enumerate(("in/one.png", "out/one-dog-0.png")):
        pixels = np.asarray(Image.open(file).convert("RGB"), int)
        left = 20 + 340 * number
        column = sheet[:, left : left + pixels.shape[1]]
        tops = [
            top
            for top in range(len(column) - len(pixels))
            if (column[top : top + len(pixels)] == pixels).all()
        ]
        assert len(tops) == 1, file
    assert (sheet[:, 700:] < 128).any(), "the captions are to the right"


def test_a_sheet_says_how_many_edits_it_leaves_out(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review_sheet, "ROWS", 2)
    monkeypatch.setattr(review_sheet, "PAGE_ROWS", 1)
    monkeypatch.setattr(review_sheet, "PAGES", 3)
    prompts = ["--to", "bus", "--to", "at night"]
    done = run("in", *prompts, "--sheet", "sheet.png", form="human")
    assert "sheet     sheet.png, 2 edits, 4 left out" in done.stdout
    record = record_of(run("in", *prompts, "--sheet", "sheet.pdf"))
    assert record["sheet"] == {"output": "sheet.pdf", "shown": 3, "left_out": 3}
    with PdfParser.PdfParser("sheet.pdf") as pdf:
        assert len(pdf.pages) == 3


def test_a_sheet_of_files_that_are_gone_is_written(run: Run) -> None:
    run("in", "--to", "dog")
    shutil.rmtree("in")
    journal = Journal(Path("out"))
    sheet = review_sheet.write_sheet(journal, 1, Path("sheet.png"), mark=True)
    journal.close()
    assert sheet.shown == 2 and Path("sheet.png").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sheet.gif", "sheet.gif must end in .png or .jpg"),
        ("out/one-dog-0.png", "is the file of a result"),
        ("in/two.jpg", "is an input of this command"),
        ("none/sheet.png", "the directory none of sheet.png does not exist"),
    ],
)
def test_a_sheet_that_cannot_be_written_is_refused_first(run: Run, name: str, message: str) -> None:
    done = run("in", "--to", "dog", "--sheet", name, "--overwrite", code=2)
    assert message in done.stderr and not Path("out").exists()


# Manifests


def test_all_invalid_rows_of_a_manifest_are_reported_together(run: Run) -> None:
    rows = ["one.png,dog,1", "two.jpg,,", "one.png,bus,x", ",dog,", "two.jpg,dog,2,3"]
    Path("in/a.csv").write_text("\n".join(["image,to,seed", *rows]))
    error = run("--manifest", "in/a.csv", code=2).stderr
    assert "in/a.csv has 4 invalid rows: row 2 (line 3), column to: no prompt; fill in to" in error
    assert (
        "; row 3 (line 4), column seed: seed must be an integer from 0 to 2**63 - 1, not 'x'; "
        in error
    )
    assert "; row 4 (line 5), column image: no image; row 5 (line 6): more cells than" in error
    assert error.count("\n") == 1 and not Path("out").exists()


def test_ten_invalid_rows_of_a_manifest_are_named(run: Run) -> None:
    Path("in/a.jsonl").write_text('{"image": "one.png"}\n\n' * 12)
    error = run("--manifest", "in/a.jsonl", code=2).stderr
    assert "in/a.jsonl has 12 invalid rows: row 1 (line 1), column to: no prompt" in error
    assert error.count("no prompt") == 10 and "row 10 (line 19)" in error
    assert "; and 2 more [ZC-E060]" in error


# A directory as people have them

BROKEN = {
    "a/broken.jpg": "ZC-E020",
    "cut.png": "ZC-E020",
    "b/moving.gif": "ZC-E022",
    "b/tiny.png": "ZC-E023",
    "text.png": "ZC-E021",
}


def fill_directory(folder: Path) -> None:
    """Sixty files: images of five formats, others, and ``BROKEN`` ones, in four directories."""
    folders = [folder, folder / "a", folder / "b", folder / "b/c"]
    for path in folders:
        path.mkdir()
    endings = (".png", ".jpg", ".webp", ".tif", ".bmp")
    for number in range(44):
        file = folders[number % 4] / f"{number}{endings[number % 5]}"
        render(sample(VALIDATION[number % 6]), 64).save(file)
    (folder / "0.txt").write_text("a blue cat on a bench at night")
    for number in range(10):
        (folders[number % 4] / f"notes-{number}.md").write_text("notes")
    (folder / "a/broken.jpg").write_bytes((folder / "a/1.jpg").read_bytes()[:200])
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:900])
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    frames[0].save(folder / "b/moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (8, 8)).save(folder / "b/tiny.png")
    (folder / "text.png").write_text("not an image")
    assert sum(path.is_file() for path in folder.rglob("*")) == 60


@pytest.mark.parametrize("name", ["tiny", pytest.param("mini", marks=pytest.mark.slow)])
def test_a_mixed_directory_ends_in_a_summary_to_act_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: StableDiffusion, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "tiny":
        monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    fill_directory(Path("in"))
    options = ["--to", "at night", "--to", "blue", "--model", "mini", "--fast", "--steps", "1"]
    command = ["batch", "in", "-o", "out", *options, "--sidecars", "--guidance", "none", "--format"]
    done = CliRunner().invoke(main, [*command, "json"])
    summary = record_of(done)
    assert (done.exit_code, summary["of"], summary["failed"]) == (1, 98, 10)
    listed = {
        Path(each["input"]).relative_to(tmp_path / "in").as_posix(): each["id"]
        for each in summary["failures"]
    }
    assert listed == BROKEN and len(summary["failures"]) == len(BROKEN)
    assert summary["unchanged"] >= 2 and summary["left"] == 0
    assert summary["done"] + summary["unchanged"] == 88 == len(results()) + summary["unchanged"]
    assert "left out: in/notes-0.md, in/notes-4.md, in/notes-8.md and 7 more\n" in done.stderr
    again = CliRunner().invoke(main, [*command, "human"])
    assert again.exit_code == 1 and "failed    10 edits of 5 images" in again.stdout
    assert all(again.stdout.count(f"in/{file} ") == 1 for file in BROKEN)
    assert f"unchanged {summary['unchanged']}, as the prompt describes already" in again.stdout
    for file in BROKEN:
        Path("in", file).unlink()
    repaired = CliRunner().invoke(main, [*command, "json"])
    summary = record_of(repaired)
    assert (repaired.exit_code, summary["failed"], summary["of"]) == (0, 0, 88)
