"""A results file survives an interrupted run, and never mixes rows of different runs."""

import json
import re
from dataclasses import replace

import pytest
import tiny
from click.testing import CliRunner
from PIL import Image
from test_bench_runner import TrueClassifiers

from zerocon.bench import classifiers, results, runner, tasks
from zerocon.bench.inputs import MethodSettings
from zerocon.cli import main
from zerocon.settings import Settings


@pytest.fixture(scope="module")
def model():
    model = tiny.model()
    model.settings = Settings(steps=2, guidance_scale=3.0, direction_from="bank")
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
        return [replace(row, seconds=0.0) for row in results.EDITS.read(path)]

    assert facts(truncated) == facts(whole)
    before = truncated.read_bytes()
    assert bench("--results", truncated).exit_code == 0
    assert truncated.read_bytes() == before, "nothing was missing"


def test_more_methods_and_scenes_are_added_to_the_same_file(bench, tmp_path):
    path = tmp_path / "rows.jsonl"
    bench("--results", path)
    result = bench("--results", path, "--methods", "vae,from-scratch", "--per-kind", "2")
    assert result.exit_code == 0, result.output
    assert len(results.EDITS.read(path)) == (2 + 1) * 8 + 2 * 8
    assert "identity" not in result.stdout  # the table has only the methods of this run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--guidance-scale", "4"], "different settings"),
        (["--methods", "vae", "--shard", "9/8"], "'9/8' is not I/N"),
        (["--sheet", "page.png"], "rows without images"),
        (["--by-kind", "fast"], "--by-kind fast is not one of the --methods"),
        (["--by-kind", "vae,fast"], "--by-kind fast is not one of the --methods"),
        (["--render", "256"], "different render_size"),
        (["--kinds", "style,colour"], "no kind of edit colour; there are: object, color,"),
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
    assert results.EDITS.from_json(results.EDITS.to_json(row)) == row
    assert row.native is None and row.recipe == run.recipe("default").hash
    ((row, _),) = replace(run, render_size=128).run(run.work([task]))
    assert row.native is not None and results.EDITS.from_json(results.EDITS.to_json(row)) == row
    broken = results.EDITS.to_json(row).replace("whole_samples", "samples")
    with pytest.raises(ValueError, match="not a row of zerocon bench"):
        results.EDITS.from_json(broken)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "# notes", "{}\n", '{"format": "other"}\n[1]'])
def test_a_file_of_another_kind_is_not_changed(bench, tmp_path, text):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    result = bench("--results", path)
    assert result.exit_code == 2 and re.search(
        "not a (results file|row) of zerocon bench", result.stderr
    )
    assert path.read_text() == text


@pytest.mark.parametrize("old", ["zerocon.bench.row/1", "zerocon.bench.row/2"])
def test_rows_of_older_versions_are_refused_in_one_line(bench, tmp_path, old):
    path = tmp_path / "rows.jsonl"
    bench("--results", path)
    path.write_text(path.read_text().replace("zerocon.bench.row/3", old))
    before = path.read_bytes()
    for result in (
        bench("--results", path),
        CliRunner().invoke(main, ["bench", "table", str(path)]),
    ):
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert f"rows of {old} cannot be read, only zerocon.bench.row/3" in result.stderr
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
    assert {row.method for row in results.EDITS.read(path)} == {"vae"}


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


# at a render size, with images of another program


@pytest.fixture
def folder(tmp_path):
    """The exact results of the benchmark's scenes at 256 pixels, as files."""
    folder = tmp_path / "results=exact"
    folder.mkdir()
    for task in tasks.choose("validation", 1, size=256):
        task.truth.save(folder / f"{task.seed}.png")
    return folder


def test_images_of_a_folder_are_measured_at_their_size(bench, folder, tmp_path):
    path, method = tmp_path / "rows.jsonl", f"folder:path={folder}"
    arguments = ["--results", path, "--methods", f"identity,{method}", "--format", "json"]
    arguments += ["--by-kind", f"identity,{method}"]
    done = bench("--render", 256, *arguments)
    assert done.exit_code == 0, done.output
    compared, *by_kind = json.loads(done.stdout)["tables"]
    assert [len(table["lines"]) for table in by_kind] == [9, 9]
    names = ("inside", "outside", "whole", "equal", "old_detail", "true_detail", "evaluations")
    identity, exact = ({name: line[name]["mean"] for name in names} for line in compared["lines"])
    assert exact == pytest.approx(
        {"inside": 99, "outside": 99, "whole": 99, "equal": 1, "old_detail": 0, "true_detail": 1,
         "evaluations": 0}
    )  # fmt: skip
    assert (identity["outside"], identity["equal"]) == (99, 1) and identity["inside"] < 40
    assert (identity["old_detail"], identity["true_detail"]) == pytest.approx((1, 0))
    rows = results.EDITS.read(path)
    assert {row.settings["path"] for row in rows if row.method == method} == {str(folder)}
    kinds = {line["edit"]: line for line in by_kind[0]["lines"]}
    assert kinds["style"]["outside"] is None, "that changes every pixel"

    before = path.read_bytes()
    assert bench("--render", 256, *arguments).exit_code == 0
    assert path.read_bytes() == before, "nothing was missing"
    for other in (["--render", 128], []):
        refused = bench(*other, *arguments)
        assert refused.exit_code == 2 and "different render_size" in refused.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("render", "removed", "message"),
    [
        (128, False, "is 256x256, but the scenes are rendered at 128x128"),
        (256, True, "{seed}.png"),
    ],
)
def test_a_missing_image_or_one_of_another_size_is_one_clear_error(
    bench, folder, render, removed, message
):
    seed = tasks.choose("validation", 1)[0].seed
    if removed:
        (folder / f"{seed}.png").unlink()
    done = bench("--render", render, "--methods", f"folder:path={folder}")
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert message.format(seed=seed) in done.stderr


def test_a_contact_sheet_of_large_images_is_reduced(bench, tmp_path):
    page = tmp_path / "page.png"
    done = bench("--render", 300, "--sheet", page, "--methods", "identity")
    assert done.exit_code == 0, done.output
    with Image.open(page) as image:
        assert image.width == 6 * 256


def test_only_the_kinds_that_are_named_are_measured(bench, tmp_path):
    path = tmp_path / "rows.jsonl"
    assert bench("--kinds", "style,two", "--results", path).exit_code == 0
    kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert kinds == ["style", "style", "two", "two"]


@pytest.mark.parametrize("size", ["64", "4096"])
def test_a_render_size_out_of_range_is_refused(bench, size):
    done = bench("--render", size)
    assert done.exit_code == 2 and "128<=x<=2048" in done.stderr
