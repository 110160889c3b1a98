"""Batches with masks and crops: what may change in each image, and which edits share what."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient
from PIL import Image

import zerocon
from zerocon import batch
from zerocon.batch.executor import (
    BatchExecutor,
    SourceImage,
    cropped,
    shape,
    shape_of,
)
from zerocon.batch.expansion import expand
from zerocon.batch.job import Job
from zerocon.batch.journal import FILE, FOLDER, Journal
from zerocon.batch.parameters import BatchOptions
from zerocon.cli import main
from zerocon.direction import Direction
from zerocon.errors import CommandError, CropError
from zerocon.image.masks import read_mask
from zerocon.model.segmenter import Segmenter
from zerocon.model.stable_diffusion import StableDiffusion
from zerocon.settings import Settings
from zerocon.world import VALIDATION, render, sample

Run = Callable[..., Result]
NAME = ("--name", "{stem}.png")


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return tiny.model()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: StableDiffusion) -> Run:
    """The command in a directory with three images of one size, and masks for two of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    Path("in/masks").mkdir(parents=True)
    for number, name in enumerate("abc"):
        gradient(96, 64).rotate(180 * (number % 2)).save(f"in/{name}.png")
    save_mask("in/masks/a.png", (0, 0, 40, 64))
    save_mask("in/masks/b.png", (40, 0, 96, 64))

    def invoke(*args: object, form: str = "json", code: int = 0) -> Result:
        arguments = ["--steps", "2", "--guidance", "none", "--format", form]
        done = CliRunner().invoke(main, ["batch", *map(str, args), "-o", "out", *arguments])
        assert done.exit_code == code, (done.output, done.exception)
        return done

    return invoke


def save_mask(file: str, box: tuple[int, int, int, int], size: tuple[int, int] = (96, 64)) -> None:
    mask = Image.new("L", size)
    mask.paste(255, box)
    mask.save(file)


def write_manifest(text: str, file: str = "in/edits.csv") -> tuple[str, str]:
    Path(file).write_text(text)
    return "--manifest", file


MASKED = "image,to,mask\na.png,dog,masks/a.png\nb.png,dog,masks/b.png\nc.png,dog,\n"


def record_of(done: Result) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def reasons(done: Result) -> dict[str, str]:
    return {Path(each["output"]).stem: each["reason"] for each in record_of(done)["failures"]}


def pixels(path: Path | str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), int)


def edit_alone(name: str, *options: object) -> bytes:
    arguments = [f"in/{name}.png", "--to", "dog", "-o", f"alone-{name}.png", "--overwrite"]
    more = ["--steps", 2, "--guidance", "none", *options]
    done = CliRunner().invoke(main, ["edit", *arguments, *map(str, more)])
    assert done.exit_code == 0, done.output
    return Path(f"alone-{name}.png").read_bytes()


# Masks from files


def test_on_mini_pixels_outside_the_masks_are_the_source_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scene = render(sample(VALIDATION[0]), 128).resize((320, 240))
    boxes = {"left": (0, 0, 160, 240), "right": (160, 0, 320, 240)}
    lines = ["image,name,mask"]
    for name, box in boxes.items():
        scene.save(f"{name}.png")
        save_mask(f"{name}-mask.png", box, scene.size)
        lines.append(f"{name}.png,{name}.png,{name}-mask.png")
    manifest = write_manifest("\n".join(lines), "edits.csv")
    options = ["--to", "at night", "-m", "mini", "--fast", "--steps", "4", "-o", "out"]
    done = CliRunner().invoke(main, ["batch", *manifest, *options])
    assert done.exit_code == 0, done.output
    before = np.asarray(scene, int)
    for name, (left, _, right, _) in boxes.items():
        change = np.abs(pixels(f"out/{name}.png") - before).max(-1)
        inside = np.zeros(change.shape, bool)
        inside[:, left:right] = True
        assert not change[~inside].any(), "outside the mask the samples are the source's"
        assert (change[inside] > 0).mean() > 0.5, "inside the image is edited"
        mask = read_mask(f"{name}-mask.png", scene.size)
        assert zerocon.Recipe.read(f"out/{name}.png").mask == mask.hash


def test_a_masked_result_equals_that_of_edit(run: Run) -> None:
    run(*write_manifest(MASKED), *NAME)
    for name in "ab":
        assert Path(f"out/{name}.png").read_bytes() == edit_alone(
            name, "--mask", f"in/masks/{name}.png"
        )
    assert Path("out/c.png").read_bytes() == edit_alone("c")


def test_images_with_different_masks_are_edited_in_one_batch(run: Run) -> None:
    run(*write_manifest(MASKED), *NAME, "--batch-size", 4)
    for name, kept in {"a": slice(41, 96), "b": slice(0, 39)}.items():
        assert (pixels(f"out/{name}.png") == pixels(f"in/{name}.png"))[:, kept].all()
        assert (pixels(f"out/{name}.png") != pixels(f"in/{name}.png")).any()


def test_a_changed_mask_file_is_another_edit(run: Run) -> None:
    command = (*write_manifest(MASKED), *NAME)
    run(*command)
    before = {name: Path(f"out/{name}.png").read_bytes() for name in "abc"}
    assert record_of(run(*command))["skipped"] == 3
    save_mask("in/masks/a.png", (60, 0, 96, 64))
    refused = run(*command, code=2)
    assert "1 of the results exist already and are not of the same edit (out/a.png)" in (
        refused.stderr
    )
    again = record_of(run(*command, "--overwrite"))
    assert (again["skipped"], again["done"]) == (2, 3)
    after = {name: Path(f"out/{name}.png").read_bytes() for name in "abc"}
    assert [name for name in "abc" if after[name] != before[name]] == ["a"]


def test_a_mask_is_read_with_the_limit_of_pixels_of_the_images(run: Run) -> None:
    save_mask("in/masks/a.png", (0, 0, 99, 99), (192, 128))  # of four times as many pixels
    command = (*write_manifest("image,to,mask\na.png,dog,masks/a.png\n"), "--max-megapixels")
    (failure,) = json.loads(run(*command, 0.02, code=1).stdout)["failures"]
    assert "it has 192x128 pixels" in failure["reason"] and failure["id"] == "ZC-E024"
    assert json.loads(run(*command, 0.03, "--retry-failed").stdout)["done"] == 1


def test_a_direction_is_read_once_and_again_where_its_file_has_changed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model()
    pairs = {"red": "blue", "cat": "dog"}
    for one, other in pairs.items():
        Direction.of_words(model, one, other).save(f"{one}.safetensors")
    read: list[str] = []
    load = Direction.load
    monkeypatch.setattr(Direction, "load", lambda file: (read.append(file), load(file))[1])
    directions = tuple((f"{one}.safetensors", 1.0) for one in pairs)
    job = Job(Path("in/a.png"), PurePosixPath("a.png"), {"caption": "a red cat"}, {}, directions)
    sources = [(job, SourceImage.read(job.image))] * 3
    executor = BatchExecutor(model)
    before = [each.request.directions for each in executor.prepare(sources)]
    assert read == [file for file, _ in directions] and len(before) == 3
    Direction.of_words(model, "cat", "bird").save("cat.safetensors", overwrite=True)
    (after,) = executor.prepare(sources[:1])
    assert read[2:] == ["cat.safetensors"] and str(after.request.directions[1][0]) == "cat -> bird"


def test_a_mask_that_does_not_fit_fails_its_job_alone(run: Run) -> None:
    save_mask("in/masks/a.png", (0, 0, 9, 9), (64, 64))
    save_mask("in/masks/b.png", (0, 0, 0, 0))
    command = (*write_manifest(f"{MASKED}c.png,hen,masks/gone.png\n"), "--batch-size", 4)
    failed = reasons(run(*command, "--name", "{stem}-{to}.png", code=1))
    assert failed == {
        "a-dog": "the mask is 64x64, the image 96x64; give a mask of the image's size or aspect "
        "ratio [ZC-E025]",
        "b-dog": "the mask is black everywhere: nothing may change; paint the part white [ZC-E025]",
        "c-hen": f"there is no file {Path('in/masks/gone.png').absolute()} [ZC-E020]",
    }
    assert [path.name for path in Path("out").glob("*.png")] == ["c-dog.png"]
    save_mask("in/masks/a.png", (0, 0, 40, 64))
    save_mask("in/masks/gone.png", (0, 0, 40, 64))
    repaired = run(*command, "--name", "{stem}-{to}.png", code=1)
    assert [*reasons(repaired)] == ["b-dog"], "another mask is another job"


def test_warnings_about_a_mask_are_those_of_its_job(run: Run) -> None:
    save_mask("in/masks/a.png", (0, 0, 96, 64))
    done = run(*write_manifest(MASKED), "--batch-size", 4, form="jsonl")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    warned = {Path(e["input"]).stem: e["warnings"] for e in events if e.get("event") == "done"}
    assert "the mask is white everywhere: it restricts nothing" in warned["a"]
    assert not any("white everywhere" in line for line in warned["b"] + warned["c"])
    with sqlite3.connect(Path("out", FOLDER, FILE)) as base:
        (message,) = base.execute("SELECT message FROM jobs WHERE name LIKE 'a%'").fetchone()
    assert "white everywhere" in message


def test_warnings_about_a_result_are_those_of_its_job(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, lines = zerocon.api.finish, iter(("one", "two", "three"))
    monkeypatch.setattr(
        zerocon.api,
        "finish",
        lambda *given: replace(finish(*given), warnings=(next(lines),)),
    )
    done = run(*write_manifest(MASKED), "--batch-size", 4, form="jsonl")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    warned = [{*each["warnings"]} for each in events if each.get("event") == "done"]
    assert [each & {"one", "two", "three"} for each in warned] == [{"one"}, {"two"}, {"three"}]


def test_no_result_replaces_a_mask(run: Run) -> None:
    Path("out").mkdir()
    Path("out/link.png").symlink_to(Path("in/masks/a.png").absolute())
    before = Path("in/masks/a.png").read_bytes()
    manifest = write_manifest("image,to,mask,name\na.png,dog,masks/a.png,link.png\n")
    refused = run(*manifest, "--overwrite", code=2)
    assert "is an input of this command" in refused.stderr and "[ZC-E031]" in refused.stderr
    assert Path("in/masks/a.png").read_bytes() == before


# Manifests


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "deep/m.csv",
            "image,mask,mask_text\na.png,masks/a.png,\nb.png,,the hat\nc.png,,\n",
        ),
        (
            "deep/m.jsonl",
            '{"image": "a.png", "mask": "masks/a.png"}\n'
            '{"image": "b.png", "mask_text": "the hat"}\n{"image": "c.png"}\n',
        ),
        (
            "deep/m.toml",
            '[[edits]]\nimage = "a.png"\nmask = "masks/a.png"\n'
            '[[edits]]\nimage = "b.png"\nmask_text = "the hat"\n[[edits]]\nimage = "c.png"\n',
        ),
    ],
)
def test_a_row_s_mask_overrides_that_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("deep").mkdir()
    Path(file).write_text(text)
    options = {"output": "out", "to": "dog", "manifest": file}
    jobs = expand(BatchOptions.of(**options, mask_text="the sky"))
    mask = tmp_path / "deep/masks/a.png"
    assert [(job.mask, job.mask_text) for job in jobs] == [
        (mask, None),
        (None, "the hat"),
        (None, "the sky"),
    ]
    jobs = expand(BatchOptions.of(**options))
    assert [(job.mask, job.mask_text) for job in jobs] == [
        (mask, None),
        (None, "the hat"),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"image": "a.png"}\n{"image": "b.png", "mask": "m.png", "mask_text": "hat"}',
            "m.jsonl, row 2 (line 2), column mask_text: the row has a mask too; give one of them",
        ),
        (
            '{"image": "a.png", "mask": 3}',
            "m.jsonl, row 1 (line 1), column mask: must be text",
        ),
        ('{"image": "a.png", "mask_text": ["hat"]}', "column mask_text: must be text, not ['hat']"),
    ],
)
def test_an_invalid_mask_of_a_row_is_refused(run: Run, text: str, message: str) -> None:
    done = run(*write_manifest(text, "m.jsonl"), "--to", "dog", code=2)
    assert message in done.stderr and not Path("out").exists()


# Masks from words


@pytest.fixture
def segmenter(tmp_path: Path) -> str:
    return str(tiny.save_segmenter(tmp_path / "segmenter"))


def test_words_for_all_images_give_the_masks_of_edit(
    run: Run, segmenter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, calls = Segmenter.load, []

    def counted(*args: Any) -> Segmenter:
        calls.append(args)
        return load(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "load", counted)
        run("in/*.png", "--to", "dog", "--mask-text", "the hat", "--segmenter", segmenter, *NAME)
        assert [name for name, _ in calls] == [segmenter], "it is loaded once"
    words = ("--mask-text", "the hat", "--segmenter", segmenter)
    for name in "ab":
        assert Path(f"out/{name}.png").read_bytes() == edit_alone(name, *words)
        assert zerocon.Recipe.read(f"out/{name}.png").mask


def test_words_in_python_and_in_a_row(
    run: Run, segmenter: str, model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest("image,mask_text,name\na.png,a tree,row.png\n")
    shared = {"to": "dog", "model": model, "steps": 2, "guidance": "none", "cache": False}
    options = {"output": "out", "segmenter": segmenter, "mask_text": "the hat", **shared}
    assert batch.run("in/a.png", manifest="in/edits.csv", name="all.png", **options).done == 2
    image = Image.open("in/a.png")
    found = Segmenter.load(segmenter)
    for name, text in {"all": "the hat", "row": "a tree"}.items():
        mask = read_mask(found.mask(image, text), image.size)
        assert zerocon.Recipe.read(f"out/{name}.png").mask == mask.hash


def test_words_that_name_nothing_fail_their_job_alone(run: Run, tmp_path: Path) -> None:
    low = tiny.save_segmenter(tmp_path / "low", probability=0.1)
    rows = "image,to,mask_text\na.png,dog,the hat\nc.png,dog,\n"
    failed = reasons(run(*write_manifest(rows), "--segmenter", low, *NAME, code=1))
    assert failed["a"].startswith("no hat was found") and failed["a"].endswith("[ZC-E026]")
    assert [*failed] == ["a"] and Path("out/c.png").is_file()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_without_the_segmenter_the_run_stops_and_fails_no_job(
    run: Run, batch_size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    words = ("in/*.png", "--to", "dog", "--mask-text", "the hat", "--batch-size", batch_size)
    done = run(*words, form="human", code=3)
    (line,) = done.stderr.splitlines()
    assert "is not on this machine; get it with: zerocon models pull" in line
    journal = Journal(Path("out"))
    assert {record.state for record in journal.records()} == {"queued"}
    journal.close()


def test_the_segmenter_is_part_of_a_job_with_words_only(
    run: Run, segmenter: str, tmp_path: Path
) -> None:
    other = str(tiny.save_segmenter(tmp_path / "other"))
    manifest = write_manifest("image,to,mask_text\na.png,dog,the hat\nc.png,dog,\n")
    run(*manifest, "--segmenter", segmenter)
    assert record_of(run(*manifest, "--segmenter", segmenter))["skipped"] == 2
    assert "1 of the results exist" in run(*manifest, "--segmenter", other, code=2).stderr


def test_a_resumed_run_keeps_its_words_and_segmenter(run: Run, segmenter: str) -> None:
    run("in/*.png", "--to", "dog", "--mask-text", "the hat", "--segmenter", segmenter, *NAME)
    before = Path("out/b.png").read_bytes()
    Path("out/b.png").unlink()
    assert record_of(run("--resume"))["done"] == 3
    assert Path("out/b.png").read_bytes() == before


# Jobs and their journal

JOB = Job(Path("/in/a.png"), PurePosixPath("a.png"), {"to": "dog"}, {"steps": 2})


def test_jobs_are_read_back_as_they_were_written() -> None:
    for job in (
        JOB,
        replace(JOB, mask=Path("/masks/a.png")),
        replace(JOB, mask_text="the hat"),
        replace(JOB, directions=(("/d.safetensors", 0.5),), mask=Path("/a\udcff.png")),
    ):
        assert Job.from_json(job.to_json()) == job


def test_a_job_has_a_mask_or_words_for_one() -> None:
    with pytest.raises(CommandError, match=r"a\.png has a mask and a mask_text"):
        replace(JOB, mask=Path("/masks/a.png"), mask_text="the hat")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"image": Path("/in/b.png")}, True),
        ({"name": PurePosixPath("b.PNG")}, True),
        ({"name": PurePosixPath("a.jpg")}, False),
        ({"prompt": {"to": "hen"}}, False),
        ({"settings": {"steps": 3}}, False),
        ({"settings": {"steps": 2, "crop": "0,0,32,32"}}, False),
        ({"mask": Path("white.png")}, False),
        ({"mask": Path("gone.png")}, False),
        ({"mask_text": "the hat"}, False),
    ],
)
def test_a_hash_is_that_of_all_that_decides_the_result_but_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], same: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("L", (20, 20), 255).save("white.png")
    assert (replace(JOB, **change).hash({}) == JOB.hash({})) is same


def test_a_mask_is_hashed_by_its_content(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.png", "same.png", "other.png", "gone.png")]
    for file, level in zip(files, (255, 255, 254), strict=False):
        Image.new("L", (20, 20), level).save(file)
    one, same, other, gone = (replace(JOB, mask=file).hash({}) for file in files)
    assert one == same and len({one, other, gone, JOB.hash({})}) == 4
    words = [replace(JOB, mask_text=text).hash({}) for text in ("the hat", "a hat")]
    assert len({*words, one}) == 3


def test_a_journal_from_before_there_were_masks_is_read(run: Run) -> None:
    run("in/*.png", "--to", "dog", *NAME)
    before = {path.name: path.read_bytes() for path in Path("out").glob("*.png")}
    with sqlite3.connect(Path("out", FOLDER, FILE)) as base:
        for name, line in base.execute("SELECT name, job FROM jobs").fetchall():
            job = json.loads(line)
            assert {job.pop("mask"), job.pop("mask_text")} == {None}
            base.execute("UPDATE jobs SET job = ? WHERE name = ?", (json.dumps(job), name))
        for number, line in base.execute("SELECT run, parameters FROM runs").fetchall():
            parameters = json.loads(line)
            assert parameters.pop("segmenter") is None
            values = json.dumps(parameters), number
            base.execute("UPDATE runs SET parameters = ? WHERE run = ?", values)
    Path("out/b.png").unlink()
    resumed = record_of(run("in", "--resume"))  # its directory, since the journal was changed
    assert (resumed["skipped"], resumed["done"]) == (2, 3)
    assert {path.name: path.read_bytes() for path in Path("out").glob("*.png")} == before


# Crops


def test_a_crop_outside_one_image_fails_its_job_alone(run: Run) -> None:
    gradient(48, 48).save("in/b.png")
    done = run("in/*.png", "--to", "dog", "--crop", "32,0,64,64", "--batch-size", 4, *NAME, code=1)
    assert reasons(done) == {
        "b": "the crop 32,0,64,64 does not lie in the image of 48x48 pixels [ZC-E027]"
    }
    for name in "ac":
        assert Path(f"out/{name}.png").is_file()
        change = pixels(f"out/{name}.png") != pixels(f"in/{name}.png")
        assert change[:, 32:].any() and not change[:, :32].any()


def test_crops_of_one_image_are_different_edits_with_inversions_of_their_own(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: StableDiffusion
) -> None:
    gradient(300, 200).save("in/a.png")
    save_mask("in/masks/a.png", (20, 20, 60, 60), (300, 200))
    edits = {"whole": ("off", ""), "left": ("0,0,150,200", ""), "right": ("150,0,150,200", "")}
    edits |= {"found": ("auto", ""), "given": ("auto", "masks/a.png")}
    rows = [f'a.png,dog,"{crop}",{mask},{name}.png' for name, (crop, mask) in edits.items()]
    command = write_manifest("\n".join(["image,to,crop,mask,name", *rows]))
    monkeypatch.setattr(model, "fingerprint", lambda: "0" * 32)  # so that inversions are kept
    monkeypatch.delenv("ZEROCON_NO_CACHE")
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "cache"))
    first = record_of(run(*command))["evaluations"]
    computed = {name: Path(f"out/{name}.png").read_bytes() for name in edits}
    for name in edits:
        Path(f"out/{name}.png").unlink()
    assert record_of(run(*command))["evaluations"] < first
    assert {name: Path(f"out/{name}.png").read_bytes() for name in edits} == computed
    monkeypatch.setenv("ZEROCON_NO_CACHE", "1")
    for name, (crop, mask) in edits.items():
        options = ["--mask", f"in/{mask}"] if mask else []
        assert computed[name] == edit_alone("a", "--crop", crop, *options), name


def test_an_automatic_crop_is_found_for_every_image_of_a_batch(run: Run) -> None:
    for name in "abc":
        gradient(300, 200).save(f"in/{name}.png")
    save_mask("in/masks/a.png", (20, 20, 60, 60), (300, 200))
    save_mask("in/masks/b.png", (0, 0, 300, 100), (300, 200))
    done = run(
        *write_manifest(MASKED), "--crop", "auto", "--batch-size", 2, *NAME, form="jsonl"
    ).stdout.splitlines()
    total = {
        Path(each["input"]).stem: each["evaluations"]["total"]
        for each in map(json.loads, done)
        if each.get("event") == "done"
    }
    assert total["a"] > total["b"], "the part around a small mask is edited once more"
    assert Path("out/a.png").read_bytes() == edit_alone(
        "a", "--crop", "auto", "--mask", "in/masks/a.png"
    )


@pytest.mark.parametrize(
    ("crop", "size", "expected"),
    [
        ("off", (96, 64), (80, 64)),
        ("auto", (96, 64), (80, 64)),
        ("0,0,64,64", (96, 64), (64, 64)),
        ("32,0,32,64", (96, 64), (48, 96)),
        ("32,0,64,16", (96, 64), (96, 32)),
        ("33,0,64,64", (96, 64), None),
        ("0,0,15,64", (96, 64), None),
    ],
)
def test_the_shape_of_a_job_is_that_of_its_crop(
    tmp_path: Path,
    model: StableDiffusion,
    crop: str,
    size: tuple[int, int],
    expected: tuple[int, int] | None,
) -> None:
    settings = Settings(crop=crop)
    gradient(*size).save(tmp_path / "a.png")
    text = "" if expected is None else "{}x{}".format(*expected)
    assert shape_of(tmp_path / "a.png", model, settings) == text
    if expected is None:
        with pytest.raises(CropError):
            cropped(size, settings)
    else:
        assert shape(cropped(size, settings), model, settings) == expected


def test_a_crop_is_one_of_the_upright_image(tmp_path: Path, model: StableDiffusion) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient(96, 64).save(tmp_path / "a.jpg", exif=exif)  # 64x96 upright
    assert shape_of(tmp_path / "a.jpg", model, Settings(crop="0,32,64,64")) == "64x64"
    assert shape_of(tmp_path / "a.jpg", model, Settings(crop="32,0,64,64")) == ""


def test_a_plan_costs_what_the_run_costs_where_edits_need_other_activations(
    run: Run, model: StableDiffusion
) -> None:
    """An inversion is shared by jobs that need the same activations, and by no others."""
    ranges = ("0..0.5", "0..0.5", "0..1", "0.5..1")
    rows = [f"a.png,{text},a-{i}.png" for i, text in enumerate(ranges)]
    _, file = write_manifest("\n".join(["image,guidance-range,name", *rows]))
    options = {"manifest": file, "output": "out", "to": "dog", "model": model, "steps": 4}
    options |= {"guidance": ("cross-attention",), "attention": (), "begin": 0.0}
    plan = batch.plan(**options, cache=False)
    summary = batch.run(**options, cache=False)
    assert summary.evaluations == pytest.approx(plan.estimate.evaluations.total)


def test_a_plan_costs_what_the_run_costs_with_crops(
    run: Run, model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[tuple[int, int]] = []

    def take_a_second(_: object, size: tuple[int, int]) -> float:
        timed.append(size)
        return 1.0

    monkeypatch.setattr("zerocon.batch.estimate.time_evaluation", take_a_second)
    crops = ("off", "0,0,64,64", "0,0,64,64", "32,0,32,64")
    rows = [f'{name}.png,"{crop}",{name}-{i}.png' for name in "ab" for i, crop in enumerate(crops)]
    _, file = write_manifest("\n".join(["image,crop,name", *rows]))
    options = {"manifest": file, "output": "out", "to": "dog", "model": model, "steps": 2}
    plan = batch.plan(**options, cache=False)
    assert sorted(timed) == [(48, 96), (64, 64), (80, 64)]
    assert plan.estimate.seconds == pytest.approx(plan.estimate.evaluations.total)
    summary = batch.run(**options, cache=False)
    assert summary.evaluations == pytest.approx(plan.estimate.evaluations.total)


def test_a_batch_executor_reads_masks_for_the_size_of_each_image(
    run: Run, model: StableDiffusion
) -> None:
    gradient(192, 128).save("in/b.png")
    job = Job(
        Path("in/a.png"), PurePosixPath("a.png"), {"to": "dog"}, {"steps": 1, "guidance": ()},
        mask=Path("in/masks/a.png").absolute(),
    )  # fmt: skip
    jobs = [job, replace(job, image=Path("in/b.png"))]
    results = BatchExecutor(model)([(each, SourceImage.read(each.image)) for each in jobs])
    assert [each.image.size for each in results] == [(96, 64), (192, 128)]  # type: ignore[union-attr]
