"""Translations in a batch: rows of a manifest with an exemplar."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from conftest import gradient
from PIL import Image, ImageDraw

from zerocon import batch
from zerocon.batch.job import Job
from zerocon.errors import CommandError, FileFormatError
from zerocon.exemplar.translation import translate
from zerocon.image.reading import Photograph
from zerocon.recipe.translation_recipe import TranslationRecipe

HEAD = "image,exemplar,method,matcher,seed,to\n"


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    labels = Image.new("RGB", (64, 48), "red")
    ImageDraw.Draw(labels).rectangle((10, 10, 40, 30), fill="blue")
    labels.save(tmp_path / "labels.png")
    gradient(64, 64).save(tmp_path / "one.png")
    gradient(48, 64).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(tmp_path / "two.png")
    return tmp_path


def run(folder: Path, text: str, model: object, **options: object) -> batch.BatchSummary:
    (folder / "rows.csv").write_text(text)
    return batch.run(manifest=folder / "rows.csv", output=folder / "out", model=model, **options)


def test_a_row_with_an_exemplar_is_a_translation(folder: Path, model: object) -> None:
    rows = "labels.png,one.png,warp,position,,\nlabels.png,two.png:2,adain,,3,\n"
    summary = run(folder, HEAD + rows + "one.png,,,,,dog\n", model, steps=2)
    assert (summary.done, summary.failures) == (3, ())
    assert {each.name for each in (folder / "out").glob("*.png")} == {
        "labels-one-0.png", "labels-two-3.png", "one-dog-0.png",
    }  # fmt: skip
    arguments = {"method": "warp", "matcher": "position", "steps": 2, "model": model}
    single = translate(folder / "labels.png", folder / "one.png", **arguments)
    written = Photograph.read(folder / "out" / "labels-one-0.png")
    assert written.image.tobytes() == single.image.tobytes()
    assert TranslationRecipe.from_json(str(written.recipe)) == TranslationRecipe.of(single, model)
    again = run(folder, HEAD + rows + "one.png,,,,,dog\n", model, steps=2)
    assert again.skipped == 3
    gradient(64, 64).rotate(90).save(folder / "one.png")
    changed = run(folder, HEAD + rows, model, steps=2, overwrite=True)
    assert changed.skipped == 1 and changed.done == 2


def test_a_plan_names_kinds_and_warnings(folder: Path, model: object) -> None:
    Image.new("RGB", (32, 32), "teal").save(folder / "even.png")
    (folder / "rows.jsonl").write_text(
        json.dumps({"image": "labels.png", "exemplar": ["even.png", "one.png:0.5"],
                    "method": "warp", "matcher": "position", "structure": 2.0, "range": [0, 0.5]})
    )  # fmt: skip
    plan = batch.plan(manifest=folder / "rows.jsonl", output=folder / "out", model=model)
    (each,) = plan.edits
    assert (each.caption, each.target_caption) == ("label condition", "translation by warp")
    assert any("has one color" in line for line in each.warnings)
    assert [weight for _, weight in each.job.exemplars] == [1.0, 0.5]
    assert each.job.settings["structure"] == 2.0 and not (folder / "out").exists()


def test_a_bad_exemplar_fails_its_row_alone(folder: Path, model: object) -> None:
    (folder / "text.png").write_text("text")
    rows = "labels.png,text.png,adain,,,\nlabels.png,one.png,adain,,,\n"
    summary = run(folder, HEAD + rows, model)
    assert summary.done == 1
    (failure,) = summary.failures
    assert "ZC-E021" in failure.reason


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("labels.png,one.png,adain,,,dog", "column to: the row has an exemplar"),
        ("labels.png,one.png:0,adain,,,", "'0' is not a weight above 0"),
        ("labels.png,one.png,cut,,,", "column method: no translator"),
        ("labels.png,one.png,adain,best,,", "column matcher: matcher must be one of"),
        ("labels.png,one.png,adain,,x,", "column seed: seed must be an integer"),
        ("labels.png,,adain,,,dog", "column method: only a row with an exemplar has it"),
    ],
)
def test_bad_rows_are_named(row: str, words: str, folder: Path, model: object) -> None:
    with pytest.raises(FileFormatError, match=r"row 1 \(line 2\)") as raised:
        run(folder, HEAD + row + "\n", model)
    assert words in str(raised.value)
    assert not (folder / "out").exists()


def test_a_job_of_a_translation_is_read_as_it_was_written() -> None:
    job = Job(Path("/a.png"), Path("b.png"), {}, {"method": "adain"}, exemplars=(("/c.png", 2.0),))
    assert Job.from_json(job.to_json()).exemplars == job.exemplars
    without = json.loads(job.to_json())
    del without["exemplars"]
    assert Job.from_json(json.dumps(without)).exemplars == ()
    for broken in ([["/c.png"]], [["/c.png", "2"]], "c.png", [[1, 2.0]]):
        with pytest.raises(ValueError, match="exemplars"):
            Job.from_json(json.dumps(without | {"exemplars": broken}))
    with pytest.raises(CommandError, match="has an exemplar"):
        Job(Path("/a.png"), Path("b.png"), {"to": "dog"}, exemplars=(("/c.png", 1.0),))


def test_results_do_not_replace_exemplars(folder: Path, model: object) -> None:
    (folder / "out").mkdir()
    (folder / "one.png").rename(folder / "out" / "labels-one-0.png")
    rows = "image,exemplar,method,name\nlabels.png,out/labels-one-0.png,adain,labels-one-0.png\n"
    with pytest.raises(ValueError, match="input"):
        run(folder, rows, model, overwrite=True)
