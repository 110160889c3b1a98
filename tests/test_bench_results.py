"""A results file survives an interrupted run, and never mixes rows of different runs."""

import re
from dataclasses import replace

import pytest
import tiny
from click.testing import CliRunner
from test_bench_runner import TrueClassifiers

from zerocon.bench import classifiers, results, runner, tasks
from zerocon.bench.inputs import MethodSettings
from zerocon.cli import main
from zerocon.settings import Settings


@pytest.fixture(scope="module")
def model():
    model = tiny.model()
    model.settings = Settings(steps=2, guidance_scale=3.0)
    return model


@pytest.fixture
def bench(model, monkeypatch):
    """The command, on a tiny model and with classifiers that predict the source everywhere."""
    stub = TrueClassifiers(tasks.choose("validation", 1)[0])
    monkeypatch.setattr("zerocon.load", lambda *_, **__: model)
    monkeypatch.setattr(classifiers, "load", lambda: stub)

    def run(*arguments):
        start = [
            "bench",
            "world",
            "-q",
            "--true-captions",
            "--per-kind",
            "1",
            "--methods",
            "vae,identity",
        ]
        return CliRunner().invoke(main, [*start, *map(str, arguments)])

    return run


def test_a_run_continues_after_an_interruption(bench, tmp_path):
    whole, truncated = tmp_path / "whole.jsonl", tmp_path / "truncated.jsonl"
    assert bench("--results", whole).exit_code == 0
    lines = whole.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 * len(tasks.KINDS)
    truncated.write_bytes(b"".join(lines[:5]) + lines[5][:70])
    result = bench("--results", truncated)
    assert result.exit_code == 0, result.output
    again = truncated.read_bytes().splitlines(keepends=True)
    assert again[:5] == lines[:5] and len(again) == len(lines)

    def facts(path):  # the seconds differ between runs
        return [replace(row, seconds=0.0) for row in results.read(path)]

    assert facts(truncated) == facts(whole)
    before = truncated.read_bytes()
    assert bench("--results", truncated).exit_code == 0
    assert truncated.read_bytes() == before, "nothing was missing"


def test_more_methods_and_scenes_are_added_to_the_same_file(bench, tmp_path):
    path = tmp_path / "rows.jsonl"
    bench("--results", path)
    result = bench("--results", path, "--methods", "vae,from-scratch", "--per-kind", "2")
    assert result.exit_code == 0, result.output
    assert len(results.read(path)) == (2 + 1) * 8 + 2 * 8
    assert "identity" not in result.stdout  # the table has only the methods of this run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--guidance-scale", "4"], "different settings"),
        (["--methods", "vae", "--shard", "9/8"], "'9/8' is not I/N"),
        (["--sheet", "page.png"], "rows without images"),
        (["--by-kind", "fast"], "--by-kind fast is not one of the --methods"),
    ],
)
def test_another_run_does_not_change_the_file(bench, tmp_path, arguments, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rows.jsonl"
    bench("--results", path)
    before = path.read_bytes()
    path.write_bytes(before[:-1])
    result = bench("--results", path, *arguments)
    assert result.exit_code == 2 and message in result.stderr
    assert result.stderr.count("\n") == 1
    assert path.read_bytes() == before[:-1]


def test_different_weights_are_refused_by_name(model):
    task = tasks.choose("validation", 1)[0]
    run = runner.BenchmarkRun(
        model, TrueClassifiers(task), ("vae",), MethodSettings(model.settings), True
    )
    ((row, _),) = run.run(run.work([task]))
    run.check([row])
    other = replace(run, model=tiny.model(seed=1), true_captions=False)
    with pytest.raises(ValueError, match="of another run: different captions, weights"):
        other.check([row])
    with pytest.raises(ValueError, match="rows of vae have different settings"):
        run.check([replace(row, recipe="0")])


def test_a_row_survives_json(model):
    task = tasks.choose("validation", 1)[0]
    run = runner.BenchmarkRun(
        model, TrueClassifiers(task), ("default",), MethodSettings(model.settings), True
    )
    ((row, _),) = run.run(run.work([task]))
    assert results.from_json(results.to_json(row)) == row
    assert row.recipe == run.recipe("default").hash


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "# notes", "{}\n", '{"format": "other"}\n[1]'])
def test_a_file_of_another_kind_is_not_changed(bench, tmp_path, text):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    result = bench("--results", path)
    assert result.exit_code == 2 and re.search(
        "not a (results file|row) of zerocon bench", result.stderr
    )
    assert path.read_text() == text


def test_rows_of_version_0_1_are_refused_in_one_line(bench, tmp_path):
    path = tmp_path / "rows.jsonl"
    bench("--results", path)
    path.write_text(path.read_text().replace("zerocon.bench.row/2", "zerocon.bench.row/1"))
    before = path.read_bytes()
    for result in (
        bench("--results", path),
        CliRunner().invoke(main, ["bench", "table", str(path)]),
    ):
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert (
            "rows of zerocon.bench.row/1 cannot be read, only zerocon.bench.row/2" in result.stderr
        )
    assert path.read_bytes() == before


def test_overwrite_starts_an_empty_file(bench, tmp_path):
    path = tmp_path / "rows.jsonl"
    bench("--results", path)
    assert (
        bench(
            "--results", path, "--guidance-scale", "4", "--methods", "vae", "--overwrite"
        ).exit_code
        == 0
    )
    assert {row.method for row in results.read(path)} == {"vae"}


def test_shards_make_one_table(bench, tmp_path):
    parts = [tmp_path / f"{i}.jsonl" for i in (1, 2, 3)]
    for i, path in enumerate(parts, 1):
        assert bench("--results", path, "--shard", f"{i}/3").exit_code == 0
    whole = bench("--format", "markdown")

    def without_seconds(text):
        return [line.rsplit("|", 2)[0] for line in text.splitlines()]

    joined = CliRunner().invoke(main, ["bench", "table", *map(str, parts), "--format", "markdown"])
    assert joined.exit_code == 0 and "| vae | 8 |" in joined.stdout
    assert sorted(without_seconds(joined.stdout)) == sorted(without_seconds(whole.stdout))
    twice = CliRunner().invoke(main, ["bench", "table", *map(str, [*parts, parts[0]])])
    assert twice.exit_code == 2 and "appears twice with vae" in twice.stderr


def test_a_contact_sheet_shows_one_method(bench, tmp_path):
    page = tmp_path / "page.png"
    assert "select it with --methods" in bench("--sheet", page).stderr
    assert bench("--sheet", page, "--methods", "vae").exit_code == 0 and page.exists()
