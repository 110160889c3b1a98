"""Tables of rows with known means."""

import json
from dataclasses import replace

import numpy as np
import pytest

from zerocon.bench import results, tables

pytest.importorskip("scipy")


def row(method, seed, kind, success, preserved, inside=20.0, outside=30.0):
    rest = {"caption": "", "target_caption": "", "errors": (), "evaluations": 10.0, "seconds": 1.0}
    return results.ResultRow(
        method=method, recipe=method, seed=seed, kind=kind, success=success, preserved=preserved,
        psnr_inside=inside, psnr_outside=outside, settings={"of": method}, setup={"weights": "w"},
        **rest,
    )  # fmt: skip


@pytest.fixture
def rows():
    """The default succeeds in 1 of 2 colors and 3 of 4 times, the other in all, 2 dB better."""
    rows = []
    for method, plus in (("default", 0.0), ("other", 2.0)):
        success = plus > 0
        rows += [
            row(method, 1, "color", True, True, 20 + plus),
            row(method, 2, "color", success, True, 22 + plus),
            row(method, 3, "time", True, False, 10 + plus),
            row(method, 4, "time", True, True, 10 + plus),
            row(method, 5, "time", True, True, 12 + plus),
            row(method, 6, "time", success, True, 12 + plus),
        ]
    return rows


def cell(table, name, column):
    line = next(line for line in table.lines if line.name == name)
    return line.cells[[c.name for c in tables.COLUMNS].index(column)]


def test_means_are_means_of_kinds(rows):
    table = tables.compare(rows)
    assert [line.name for line in table.lines] == ["default", "other"]
    assert cell(table, "default", "success").mean == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert cell(table, "default", "preserved").mean == pytest.approx((1 + 3 / 4) / 2)
    assert cell(table, "default", "both").mean == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert cell(table, "default", "psnr_inside").mean == pytest.approx((21 + 11) / 2)
    low, high = cell(table, "default", "psnr_inside")[1:]
    assert 15 <= low < 16 < high <= 17
    assert cell(table, "other", "success") == (1.0, 1.0, 1.0)


def test_differences_are_paired(rows):
    """Scenes differ by 12 dB and the methods by 2 on each: the interval of the 2 has no width."""
    table = tables.differ(rows)
    assert [line.name for line in table.lines] == ["other"]
    assert cell(table, "other", "psnr_inside") == pytest.approx((2, 2, 2))
    mean, low, high = cell(table, "other", "success")
    assert mean == pytest.approx(1 - 5 / 8) and 0 <= low < mean < high <= 1


def test_differences_are_of_shared_scenes(rows):
    shared = [r for r in rows if r.method == "default" or r.seed in (1, 3)]
    table = tables.differ([*shared, row("other", 99, "time", False, False)])
    assert table.lines[0].count == 2
    assert cell(table, "other", "psnr_inside") == (pytest.approx(2), None, None)
    assert tables.differ([r for r in rows if r.method == "other"]) is None


def test_an_interval_covers_the_true_mean_about_as_often_as_it_claims():
    rng, hits = np.random.default_rng(1), 0
    for _ in range(40):
        groups = [rng.normal(mean, 1, 25) for mean in (0, 5, 10)]
        _, low, high = tables.estimate(groups)
        hits += low <= 5 <= high
    assert hits >= 34


def test_an_interval_is_the_same_every_time():
    groups = [np.arange(5.0), np.arange(7.0)]
    assert tables.estimate(groups) == tables.estimate(groups)
    assert tables.estimate([np.array([]), np.array([3.0])]) == (3.0, None, None)
    assert tables.estimate([np.array([])]) is None


def test_one_method_by_kind(rows):
    table = tables.by_kind(rows, "default")
    assert [(line.name, line.count) for line in table.lines] == [
        ("color", 2), ("time", 4), ("mean over kinds", 6),
    ]  # fmt: skip
    assert cell(table, "time", "success").mean == 0.75
    with pytest.raises(ValueError, match="no rows of best; there are: default, other"):
        tables.by_kind(rows, "best")


def test_a_missing_value_is_a_dash(rows):
    scratch = [
        replace(r, method="from-scratch", preserved=None, psnr_inside=None, psnr_outside=None)
        for r in rows[:6]
    ]
    table = tables.compare(scratch)
    assert cell(table, "from-scratch", "both") is None
    assert "| from-scratch | 6 | 62 % [" in tables.as_markdown([table])
    assert "| - | - | - | - |" in tables.as_markdown([table])


def test_the_same_numbers_in_every_format(rows):
    shown = [tables.compare(rows), tables.differ(rows), tables.by_kind(rows, "other")]
    text, page = tables.as_text(shown), tables.as_markdown(shown)
    record = json.loads(tables.as_json(shown, rows))
    assert record["schema"] == "zerocon.bench.tables/2" and record["setup"] == {"weights": "w"}
    assert record["settings"] == {"default": {"of": "default"}, "other": {"of": "other"}}
    assert record["tables"][0]["lines"][0]["success"]["mean"] == 0.625
    assert "| other | 6 | +38 % [" in page and "+38 % [" in text
    assert "other" in text and "Difference from default, on the same scenes:" in text
    block = text.split("\n\n")[1].splitlines()
    assert len({line.find("100 %") + len("100 %") for line in block if "100 %" in line}) == 1
    assert tables.as_text([tables.compare(rows)]).count("\n") == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setup": {"weights": "v"}}, "the rows are of different runs: different weights"),
        ({"recipe": "x", "seed": 9}, "the rows of other have different settings"),
        ({}, "scene 6 appears twice with other"),
    ],
)
def test_rows_of_different_runs_are_refused(rows, change, message):
    with pytest.raises(ValueError, match=message):
        results.check([*rows, replace(rows[-1], **change)])
