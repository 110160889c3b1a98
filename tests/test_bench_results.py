"""Rows survive what stops a run, and never mix with rows of another."""

import re
from dataclasses import replace

import pytest
import tiny
from click.testing import CliRunner
from test_bench_world import Seer

from zerocon.bench import classifiers, results, runner, tasks
from zerocon.bench.inputs import MethodSettings
from zerocon.cli import main
from zerocon.settings import Settings


@pytest.fixture(scope="module")
def model():
    made = tiny.model()
    made.settings = Settings(steps=2, guidance_scale=3.0)
    return made


@pytest.fixture
def bench(model, monkeypatch):
    """The command, on a tiny model and with judges who see the source everywhere."""
    seer = Seer(tasks.choose("validation", 1)[0])
    monkeypatch.setattr("zerocon.load", lambda *_, **__: model)
    monkeypatch.setattr(classifiers, "load", lambda: seer)

    def run(*words):
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
        return CliRunner().invoke(main, [*start, *map(str, words)])

    return run


def test_a_run_goes_on_where_it_was_torn_off(bench, tmp_path):
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    assert bench("--results", whole).exit_code == 0
    lines = whole.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 * len(tasks.KINDS)
    torn.write_bytes(b"".join(lines[:5]) + lines[5][:70])
    result = bench("--results", torn)
    assert result.exit_code == 0, result.output
    again = torn.read_bytes().splitlines(keepends=True)
    assert again[:5] == lines[:5] and len(again) == len(lines)

    def facts(path):  # seconds are never the same twice
        return [replace(row, seconds=0.0) for row in results.read(path)]

    assert facts(torn) == facts(whole)
    before = torn.read_bytes()
    assert bench("--results", torn).exit_code == 0
    assert torn.read_bytes() == before, "nothing was left to do"


def test_more_methods_and_scenes_are_added_to_the_same_file(bench, tmp_path):
    path = tmp_path / "rows.jsonl"
    bench("--results", path)
    result = bench("--results", path, "--methods", "vae,from-scratch", "--per-kind", "2")
    assert result.exit_code == 0, result.output
    assert len(results.read(path)) == (2 + 1) * 8 + 2 * 8
    assert "identity" not in result.stdout  # the table is of what was asked for now


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--guidance-scale", "4"], "other settings"),
        (["--methods", "vae", "--shard", "9/8"], "'9/8' is not like 1/4"),
        (["--sheet", "page.png"], "rows without their pictures"),
        (["--by-kind", "fast"], "--by-kind fast is not among the methods"),
    ],
)
def test_another_run_does_not_touch_the_file(bench, tmp_path, words, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rows.jsonl"
    bench("--results", path)
    before = path.read_bytes()
    path.write_bytes(before[:-1])
    result = bench("--results", path, *words)
    assert result.exit_code == 2 and message in result.stderr
    assert result.stderr.count("\n") == 1
    assert path.read_bytes() == before[:-1]


def test_other_weights_are_refused_by_name(model):
    task = tasks.choose("validation", 1)[0]
    one = runner.BenchmarkRun(model, Seer(task), ("vae",), MethodSettings(model.settings), True)
    ((row, _),) = one.run(one.work([task]))
    one.check([row])
    other = replace(one, model=tiny.model(seed=1), told=False)
    with pytest.raises(ValueError, match="of another run: other captions, weights"):
        other.check([row])
    with pytest.raises(ValueError, match="rows of vae there were made with other settings"):
        one.check([replace(row, recipe="0")])


def test_a_row_comes_back_as_it_was(model):
    task = tasks.choose("validation", 1)[0]
    one = runner.BenchmarkRun(model, Seer(task), ("default",), MethodSettings(model.settings), True)
    ((row, _),) = one.run(one.work([task]))
    assert results.from_json(results.to_json(row)) == row
    assert row.recipe == one.recipe("default").hash


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "# notes", "{}\n", '{"format": "other"}\n[1]'])
def test_nobody_elses_file_is_touched(bench, tmp_path, text):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    result = bench("--results", path)
    assert result.exit_code == 2 and re.search("is no (file of )?rows? of", result.stderr)
    assert path.read_text() == text


def test_overwrite_begins_again(bench, tmp_path):
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

    def shares(text):  # all but the seconds
        return [line.rsplit("|", 2)[0] for line in text.splitlines()]

    joined = CliRunner().invoke(main, ["bench", "table", *map(str, parts), "--format", "markdown"])
    assert joined.exit_code == 0 and "| vae | 8 |" in joined.stdout
    assert sorted(shares(joined.stdout)) == sorted(shares(whole.stdout))
    twice = CliRunner().invoke(main, ["bench", "table", *map(str, [*parts, parts[0]])])
    assert twice.exit_code == 2 and "comes twice with vae" in twice.stderr


def test_a_sheet_is_of_one_method(bench, tmp_path):
    page = tmp_path / "page.png"
    assert "name it with --methods" in bench("--sheet", page).stderr
    assert bench("--sheet", page, "--methods", "vae").exit_code == 0 and page.exists()
