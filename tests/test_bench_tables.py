"""Tables of rows with known means."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from zerocon.bench import results, tables
from zerocon.bench.metrics import MAX_PSNR
from zerocon.bench.native import NativeMeasurements


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
    return line.cells[[c.name for c in table.columns].index(column)]


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
    assert record["schema"] == "zerocon.bench.tables/3" and record["setup"] == {"weights": "w"}
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


# of rows with a render size


def native(
    method, seed, kind, *, inside=(100, 10), outside=(0, 10), gram=(4, 0, 1, 2, 0.5), **more
):
    measured = NativeMeasurements(
        *inside, *outside, *inside, 0.5,
        *(float(value) for value in gram), more.pop("mask_iou", None),
    )  # fmt: skip
    plain = row(method, seed, kind, True, True)
    return replace(plain, native=measured, setup={"weights": "w", "render_size": "256"}, **more)


def decibels(error, samples):
    return 10 * math.log10(255**2 / (error / samples))


def test_decibels_are_pooled_over_the_scenes_of_a_kind_and_averaged_over_kinds():
    rows = [
        native("m", 1, "color", inside=(1000, 10)),
        native("m", 2, "color", inside=(1000, 90)),
        native("m", 3, "time", inside=(50, 50)),
        native("m", 4, "time", inside=(50, 50)),
    ]
    table = tables.compare(rows)
    mean, low, high = cell(table, "m", "inside")
    assert mean == pytest.approx((decibels(2000, 100) + decibels(1, 1)) / 2)
    # a quarter of the resamples has the first color twice, a quarter the second
    assert low == pytest.approx((decibels(1000, 10) + decibels(1, 1)) / 2)
    assert high == pytest.approx((decibels(1000, 90) + decibels(1, 1)) / 2)
    assert cell(table, "m", "whole") == cell(table, "m", "inside")
    assert cell(table, "m", "outside").mean == MAX_PSNR, "nothing differs"


def test_a_kind_without_samples_is_left_out_of_that_mean_only():
    rows = [
        native("m", 1, "color", outside=(10, 10)),
        native("m", 2, "color", outside=(0, 0)),
        native("m", 3, "style", outside=(0, 0)),
    ]
    table = tables.by_kind(rows, "m")
    assert cell(table, "style", "outside") is None and cell(table, "style", "inside") is not None
    mean = cell(table, "mean over kinds", "outside")
    assert mean == (pytest.approx(decibels(1, 1)), None, None)


def test_detail_is_the_joint_fit_to_the_pooled_sums():
    """h(S) and h(T) have norms and a product that let the two scenes' fits differ."""

    def gram(s, t, old, true):  # of vectors s, t and the result old * s + true * t
        s, t = np.array(s), np.array(t)
        result = old * s + true * t
        return s @ s, s @ t, t @ t, s @ result, t @ result

    alone = [native("m", 1, "color", gram=gram([2, 1], [1, 3], 0.25, 0.75))]
    assert cell(tables.compare(alone), "m", "old_detail").mean == pytest.approx(0.25)
    assert cell(tables.compare(alone), "m", "true_detail").mean == pytest.approx(0.75)
    s, t, result = [2, 0, 1, 0], [0, 1, 0, 3], [2, 0, 0, 3]  # both scenes, one after the other
    rows = [
        native("m", 1, "color", gram=(4, 0, 1, 4, 0)),
        native("m", 2, "color", gram=(1, 0, 9, 0, 9)),
        native("m", 3, "time", gram=(1, 1, 1, 1, 1)),
    ]
    (old, true), *_ = np.linalg.lstsq(np.array([s, t]).T, result)
    table = tables.compare(rows)
    assert cell(table, "m", "old_detail").mean == pytest.approx(old) == pytest.approx(4 / 5)
    assert cell(table, "m", "true_detail").mean == pytest.approx(true) == pytest.approx(9 / 10)


def test_differences_of_pooled_statistics_are_paired():
    """Errors that are ten times larger on every scene: 10 dB in every resample."""
    sizes = {1: (700, 10), 2: (30, 90), 3: (20, 50), 4: (4000, 50)}
    rows = [
        native(method, seed, "color" if seed < 3 else "time", inside=(factor * error, samples))
        for method, factor in (("default", 1), ("other", 10))
        for seed, (error, samples) in sizes.items()
    ]
    rows.append(native("other", 9, "time", inside=(10**6, 10)))
    table = tables.differ(rows)
    assert table.lines[0].count == 4, "the scenes of both"
    assert cell(table, "other", "inside") == pytest.approx((-10, -10, -10))
    assert cell(table, "other", "old_detail") == pytest.approx((0, 0, 0))
    _, low, high = cell(tables.compare(rows), "default", "inside")
    assert high - low > 5


def test_a_difference_is_one_of_pooled_statistics_not_a_mean_of_differences():
    rows = [
        native("default", 1, "color", inside=(10, 10)),
        native("default", 2, "color", inside=(990, 10)),
        native("other", 1, "color", inside=(1000, 10)),
        native("other", 2, "color", inside=(1000, 10)),
    ]
    expected = decibels(2000, 20) - decibels(1000, 20)
    assert cell(tables.differ(rows), "other", "inside").mean == pytest.approx(expected)


def test_columns_of_rows_with_a_render_size():
    rows = [native("m", seed, "color", mask_iou=seed / 4) for seed in (1, 2)]
    page = tables.as_markdown([tables.compare(rows)]).splitlines()
    assert page[2] == (
        "| method | n | success | preserved | both | inside dB | outside dB | whole dB | "
        "byte-equal | old detail | true detail | mask IoU | evaluations | seconds |"
    )
    assert page[3].count("---") == page[2].count(" | ") + 1
    assert page[4] == (
        "| m | 2 | 100 % | 100 % | 100 % | 38.1 | 99.0 | 38.1 | 50.00 % | 0.50 | 0.50 | "
        "0.38 [0.25, 0.50] | 10.0 | 1.0 |"
    )
    line = json.loads(tables.as_json([tables.compare(rows)], rows))["tables"][0]["lines"][0]
    assert line["equal"]["mean"] == 0.5 and line["mask_iou"]["mean"] == pytest.approx(0.375)
    assert "psnr_inside" not in line
    without = [native("m", seed, "color") for seed in (1, 2)]
    assert cell(tables.compare(without), "m", "mask_iou") is None
