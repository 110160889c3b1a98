"""The JSON output has the fields that docs/schemas.md lists."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner
from conftest import gradient

import zerocon
from zerocon.bench import results, sensitivity, tables, translation_row, translation_tables
from zerocon.bench.native import NativeMeasurements
from zerocon.bench.translation_metrics import TranslationMetrics
from zerocon.cli import main
from zerocon.exemplar.translation import translate
from zerocon.image.metadata import Provenance
from zerocon.image.saving import save_image
from zerocon.recipe.translation_recipe import TranslationRecipe

ROOT = Path(__file__).parent.parent
SECTION = re.compile(r"^## (\S+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
PROMISED = {  # the names before a line's first colon
    name: {
        field
        for line in re.findall(r"^- (.*?)$", text, re.MULTILINE)
        for field in re.findall(r"`(\w+)`", line.partition(":")[0])
    }
    for name, text in SECTION.findall((ROOT / "docs" / "schemas.md").read_text())
}

ASK = ["edit", "cat.png", "--to", "dog", "--overwrite"]
ADAIN = ["--method", "adain", "--overwrite"]
SAID = [
    ("zerocon.edit/1", ASK),
    ("zerocon.edit/1", [*ASK, "--dry-run"]),
    ("zerocon.edit/1", [*ASK, "--explain", "sheet.png"]),
    ("zerocon.edit/1", ["edit", "cat.png", "--to", "cat"]),
    ("zerocon.edit/1", ["edit", "cat.png", "--to", "cat", "--dry-run"]),
    ("zerocon.grid/1", [*ASK, "--seed", "1", "--seed", "2", "--grid", "grid.png"]),
    ("zerocon.grid/1", [*ASK, "--seed", "1", "--seed", "2", "--grid", "grid.png", "--dry-run"]),
    ("zerocon.translation/1", ["translate", "cat.png", "-e", "cat-dog.png", *ADAIN]),
    ("zerocon.translation/1", ["translate", "cat.png", "-e", "cat-dog.png", *ADAIN, "--dry-run"]),
    ("zerocon.batch/1", ["batch", "cat.png", "--to", "dog", "-o", "many"]),
    ("zerocon.batch-plan/1", ["batch", "cat.png", "--to", "bus", "-o", "more", "--dry-run"]),
    ("zerocon.batch-status/1", ["batch", "status", "-o", "ran"]),
    ("zerocon.invert/1", ["invert", "cat.png", "--overwrite"]),
    ("zerocon.caption/1", ["caption", "cat.png"]),
    ("zerocon.direction/1", ["direction", "--from", "cat", "--to", "dog", "--overwrite"]),
    ("zerocon.recipe/2", ["inspect", "cat-dog.png"]),
    ("zerocon.translation-recipe/1", ["inspect", "translated.png"]),
    ("zerocon.config/1", ["config", "show"]),
    ("zerocon.models/1", ["models", "list"]),
    ("zerocon.cache/1", ["cache", "ls"]),
    ("zerocon.cache/1", ["cache", "verify"]),
    ("zerocon.methods/1", ["methods"]),
    ("zerocon.errors/1", ["errors"]),
]
OPTIONAL = {
    "converted_from",
    "explanation",
    "message",
    "dry_run",
    "operations",
    "bytes",
    "working_size",
    "reduction",
    "crop_evaluations",
    "warnings",
    "output",
    "file",
    "cells",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("schemas")
    image, model = gradient(48, 64), tiny.model()
    image.save(place / "cat.png")
    edited = zerocon.edit(image, to="dog", model=model)
    recipe = zerocon.Recipe.of(edited, model).to_json()
    save_image(edited.image, place / "cat-dog.png", provenance=Provenance(recipe))
    result = translate(image, image, method="adain", model=model)
    recipe = TranslationRecipe.of(result, model).to_json()
    save_image(result.image, place / "translated.png", provenance=Provenance(recipe))
    zerocon.batch.run(place / "cat.png", to="dog", output=place / "ran", model=model, steps=2)
    return place


def test_fields_of_batch_events_are_those_promised(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "no-image.png").write_text("text")
    model = tiny.model()
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    args = ["batch", "cat.png", "no-image.png", "--to", "dog", "--to", "cat", "-o", "events"]
    done = CliRunner().invoke(main, [*args, "--steps", "2", "--format", "jsonl"])
    *events, end = map(json.loads, done.stdout.splitlines())
    fields = {event["event"]: event.keys() - {"schema"} for event in events}
    assert fields.keys() == {"begin", "done", "unchanged", "failed"}
    assert set().union(*fields.values()) | {"message"} == PROMISED["zerocon.batch-event/1"]
    assert end.keys() - {"schema"} == PROMISED["zerocon.batch/1"]
    (failure,) = end["failures"]
    assert failure["reason"].endswith(f"[{failure['id']}]")


@pytest.mark.parametrize(("schema", "args"), SAID)
@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_fields_are_those_promised(schema, args, form, folder, monkeypatch):
    monkeypatch.chdir(folder)
    model = tiny.model()
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    done = CliRunner().invoke(main, [*args, "--format", form])
    assert done.exit_code == 0, done.output
    events = []
    if form == "jsonl":
        *events, line = done.stdout.splitlines()
        said = json.loads(line)
    else:
        said = json.loads(done.stdout)
    assert said.pop("schema") == schema
    for event in map(json.loads, events):
        assert set(event) - {"schema"} <= PROMISED[event["schema"]]
    promised = PROMISED[schema]
    assert set(said) <= promised, "every field is in the docs"
    assert promised - OPTIONAL <= set(said), "every promise is kept"


def test_fields_of_a_folder_are_those_promised(folder, monkeypatch):
    monkeypatch.chdir(folder)
    model = tiny.model()
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    for args in (["inspect", "."], ["replay", ".", "--source", "."]):
        whole = json.loads(CliRunner().invoke(main, [*args, "--format", "json"]).stdout)
        lines = CliRunner().invoke(main, [*args, "--format", "jsonl"]).stdout.splitlines()
        assert list(map(json.loads, lines)) == whole["images"] and lines
        for record in (whole, *whole["images"]):
            assert PROMISED[record.pop("schema")] == set(record)


def test_fields_of_a_calibration_and_of_checks_are_those_promised(tmp_path):
    model = str(tiny.save(tmp_path / "model"))
    for schema, args in [
        ("zerocon.calibration/1", ["calibrate", model]),
        ("zerocon.doctor/1", ["doctor", "--model", model]),
    ]:
        record = json.loads(CliRunner().invoke(main, [*args, "--format", "jsonl"]).stdout)
        assert record.pop("schema") == schema and set(record) == PROMISED[schema]


def test_fields_of_benchmark_rows_and_tables_are_those_promised():
    fields = {field.name for field in dataclasses.fields(results.ResultRow)}
    assert PROMISED["zerocon.bench.row/3"] == {"format", *fields}
    sections = dict(SECTION.findall((ROOT / "docs" / "schemas.md").read_text()))
    sums = {field.name for field in dataclasses.fields(NativeMeasurements)}
    assert sums <= set(re.findall(r"`(\w+)`", sections["zerocon.bench.row/3"]))
    fields = {field.name for field in dataclasses.fields(sensitivity.SensitivityRow)}
    assert PROMISED["zerocon.bench.sensitivity-row/1"] == {"format", *fields}
    numbers = set(re.findall(r"`(\w+)`", sections["zerocon.bench.sensitivity/1"]))
    assert set(sensitivity.Summary._fields) | set(sensitivity.COMPARISONS) <= numbers
    assert PROMISED["zerocon.bench.sensitivity/1"] == set(json.loads(sensitivity.as_json([]))) - {
        "schema"
    }
    fields = {field.name for field in dataclasses.fields(translation_row.TranslationRow)}
    assert PROMISED["zerocon.bench.translation-row/1"] == {"format", *fields}
    numbers = {field.name for field in dataclasses.fields(TranslationMetrics)}
    section = sections["zerocon.bench.translation-row/1"]
    assert numbers <= set(re.findall(r"`(\w+)`", section))
    columns = {column.name for column in (*tables.COLUMNS, *tables.NATIVE_COLUMNS)}
    columns |= {column.name for column in translation_tables.COLUMNS}
    assert columns <= set(re.findall(r"`(\w+)`", sections["zerocon.bench.tables/3"]))


def test_every_schema_in_the_code_is_in_the_docs():
    code = [*(ROOT / "cli").rglob("*.py"), *(ROOT / "zerocon").rglob("*.py")]
    named = {
        name for path in code for name in re.findall(r'"(zerocon\.[\w.-]+/\d)"', path.read_text())
    }
    kept_in_files = {"zerocon.inversion/3", "zerocon.recipe/1"}
    kept_in_files |= {f"zerocon.bench.row/{number}" for number in (1, 2)}
    assert named - kept_in_files == set(PROMISED)
