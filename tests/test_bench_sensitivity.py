"""How rounding changes an edit: deviations, rows and table; and the bounds of the shipped model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from PIL import Image, ImageOps

import zerocon
from zerocon.bench import methods, sensitivity, tasks
from zerocon.bench.inputs import MethodResult, MethodSettings
from zerocon.bench.metrics import MAX_PSNR
from zerocon.bench.sensitivity import ROWS, Deviation, SensitivityRow, SensitivityRun, Summary
from zerocon.cli import main
from zerocon.errors import FileFormatError
from zerocon.settings import Settings

Bench = Callable[..., Result]


@pytest.fixture(scope="module")
def model() -> Any:
    model = tiny.model()
    model.settings = Settings(steps=2, guidance_scale=3.0, direction_from="bank")
    return model


class Recorded:
    """A method that gives the source, one level brighter in a batch and two with more threads."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.sources: list[Any] = []

    def recipe(self, settings: MethodSettings) -> dict[str, Any]:
        return {}

    def __call__(self, batch: Any, settings: MethodSettings) -> list[MethodResult]:
        size, threads = len(batch.sources), torch.get_num_threads()
        self.calls.append((size, threads))
        self.sources += batch.sources
        more = (size - 1) + 2 * (threads - 1)
        return [MethodResult(brighter(source.image, more)) for source in batch.sources]


def brighter(image: Image.Image, levels: int) -> Image.Image:
    """The image with so many levels added to its first sample."""
    pixels = np.array(image)
    pixels[0, 0, 0] = 100 + levels
    return Image.fromarray(pixels)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    method = Recorded()
    monkeypatch.setitem(methods.METHODS, "recorded", method)
    return method


def measure(model: Any, name: str, count: int) -> list[SensitivityRow]:
    run = SensitivityRun(model, (name,), MethodSettings(model.settings), true_captions=True)
    return list(run.run(run.work(tasks.choose("validation", 1)[:count])))


def test_a_deviation_is_psnr_and_the_largest_difference() -> None:
    image = Image.new("RGB", (4, 4), (100, 100, 100))
    assert Deviation.between(image, image) == Deviation(MAX_PSNR, 0)
    other = brighter(image, 6)
    expected = 10 * np.log10(255**2 / (6**2 / (4 * 4 * 3)))
    for one, two in ((image, other), (other, image)):
        assert Deviation.between(one, two) == Deviation(pytest.approx(expected), 6)


def test_each_edit_is_made_alone_in_a_batch_and_with_more_threads(
    model: Any, recorded: Recorded
) -> None:
    threads = torch.get_num_threads()
    rows = measure(model, "recorded", count=8)
    assert recorded.calls == [(1, 1), (2, 1), (1, 2)] * len(tasks.KINDS)
    assert torch.get_num_threads() == threads
    assert [row.kind for row in rows] == list(tasks.KINDS)
    assert {(row.batch.levels, row.threads.levels) for row in rows} == {(1, 2)}
    alone, first, second, parallel = recorded.sources[:4]
    assert alone.image.tobytes() == first.image.tobytes() == parallel.image.tobytes()
    assert second.image.tobytes() == ImageOps.mirror(alone.image).tobytes()
    assert len({each.caption for each in recorded.sources[:4]}) == 1
    assert second.task == alone.task, "the same prompt"


def test_threads_are_restored_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), sensitivity.num_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_no_result_uses_what_was_computed_for_another(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inversions: list[tuple[int, int]] = []

    def count(images: Any, *args: Any, **options: Any) -> Any:
        inversions.append((len(images), torch.get_num_threads()))
        return invert(images, *args, **options)

    invert = zerocon.api.invert_batch
    monkeypatch.setattr("zerocon.api.invert_batch", count)
    measure(model, "default", count=2)
    assert inversions == [(1, 1), (2, 1), (1, 2)] * 2


def test_a_summary_has_median_and_worst() -> None:
    deviations = [Deviation(99.0, 0), Deviation(40.0, 9), Deviation(50.0, 3), Deviation(60.0, 1)]
    assert Summary.of(deviations) == (55.0, 40.0, 0.25, 9)


@pytest.fixture
def bench(model: Any, monkeypatch: pytest.MonkeyPatch, recorded: Recorded) -> Bench:
    monkeypatch.setattr("zerocon.load", lambda *_, **__: model)

    def run(*arguments: object) -> Result:
        start = ["bench", "sensitivity", "-q", "--true-captions", "--per-kind", "1"]
        return CliRunner().invoke(main, [*start, *map(str, arguments)])

    return run


def test_the_table_has_a_line_for_each_method(bench: Bench) -> None:
    done = bench("--methods", "recorded,identity", "--format", "markdown")
    assert done.exit_code == 0, done.output
    head, _, *lines = done.stdout.splitlines()
    assert head == (
        "| method | n | batch: median dB | batch: worst dB | batch: identical | batch: levels "
        "| threads: median dB | threads: worst dB | threads: identical | threads: levels |"
    )
    assert lines[0].startswith("| recorded | 8 |") and "| 0 % | 1 |" in lines[0]
    assert lines[1] == f"| identity | 8 |{' 99.0 | 99.0 | 100 % | 0 |' * 2}"
    record = json.loads(bench("--methods", "recorded", "--format", "json").stdout)
    assert record["schema"] == "zerocon.bench.sensitivity/1"
    (line,) = record["methods"]
    assert (line["n"], line["threads"]["worst_levels"]) == (8, 2)
    assert record["setup"]["captions"] == "true" and record["settings"] == {"recorded": {}}


def test_a_run_continues_after_an_interruption(
    bench: Bench, recorded: Recorded, tmp_path: Path
) -> None:
    whole, truncated = tmp_path / "whole.jsonl", tmp_path / "truncated.jsonl"
    table = bench("--methods", "recorded", "--results", whole).stdout
    lines = whole.read_bytes().splitlines(keepends=True)
    truncated.write_bytes(b"".join(lines[:5]) + lines[5][:70])
    recorded.calls.clear()
    done = bench("--methods", "recorded", "--results", truncated)
    assert done.exit_code == 0 and done.stdout == table, done.output
    assert truncated.read_bytes() == whole.read_bytes()
    assert len(recorded.calls) == 3 * (len(tasks.KINDS) - 5)
    assert ROWS.from_json(lines[0].decode()) == ROWS.read(whole)[0]


def test_rows_of_another_measurement_or_run_are_refused(bench: Bench, tmp_path: Path) -> None:
    path, edits = tmp_path / "rows.jsonl", tmp_path / "edits.jsonl"
    bench("--methods", "identity", "--results", path)
    before = path.read_bytes()
    done = bench("--methods", "identity", "--results", path, "--steps", "3")
    assert done.exit_code == 2 and "of another run: different settings" in done.stderr
    assert path.read_bytes() == before
    edits.write_bytes(before.replace(b"sensitivity-row/1", b"row/3"))
    done = bench("--results", edits)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert "not a row of zerocon bench" in done.stderr
    with pytest.raises(FileFormatError):
        ROWS.from_json(before.decode().splitlines()[0].replace('"levels"', '"level"'))


def test_a_wrong_method_is_refused_before_any_work(bench: Bench, recorded: Recorded) -> None:
    done = bench("--methods", "recorded,best")
    assert done.exit_code == 2 and 'no method "best"' in done.stderr and not recorded.calls


# of the model that ships


def test_rounding_hardly_changes_edits_of_the_shipped_model() -> None:
    """The bounds of docs/measurements.md, which has them of 40 scenes."""
    model = zerocon.load("mini", device="cpu")
    settings = MethodSettings(model.settings, {"composite": "model"})
    run = SensitivityRun(model, ("default", "fast"), settings, true_captions=True)  # type: ignore[arg-type]
    scenes = {task.kind: task for task in tasks.choose("validation", 1)}
    work = [(scenes["object"], ["default", "fast"]), (scenes["color"], ["fast"])]
    default, *fast = run.run(work)
    assert min(default.batch.psnr, default.threads.psnr) >= 34
    for row in fast:
        assert max(row.batch.levels, row.threads.levels) <= 2
