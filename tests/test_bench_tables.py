"""Tables of rows whose means are known by heart."""

import json
from dataclasses import replace

import numpy as np
import pytest

from zerocon.bench import results, tables

pytest.importorskip("scipy")


def row(method, seed, kind, asked, kept, inside=20.0, outside=30.0, **more):
    both = {"caption": "", "target_caption": "", "wrong": (), "evaluations": 10.0, "seconds": 1.0}
    return results.ResultRow(
        method=method, recipe=method, seed=seed, kind=kind, asked=asked, kept=kept,
        inside=inside, outside=outside, settings={"of": method}, setup={"weights": "w"},
        **(both | more),
    )  # fmt: skip


@pytest.fixture
def made():
    """The default does one of two colours and three of four times; the other method all, worse."""
    found = []
    for method, plus in (("default", 0.0), ("other", 2.0)):
        done = plus > 0
        found += [
            row(method, 1, "color", True, True, 20 + plus),
            row(method, 2, "color", done, True, 22 + plus),
            row(method, 3, "time", True, False, 10 + plus),
            row(method, 4, "time", True, True, 10 + plus),
            row(method, 5, "time", True, True, 12 + plus),
            row(method, 6, "time", done, True, 12 + plus),
        ]
    return found


def cell(table, name, column):
    line = next(line for line in table.lines if line.name == name)
    return line.cells[[c.name for c in tables.COLUMNS].index(column)]


def test_means_are_means_of_kinds(made):
    table = tables.compare(made)
    assert [line.name for line in table.lines] == ["default", "other"]
    assert cell(table, "default", "asked").mean == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert cell(table, "default", "kept").mean == pytest.approx((1 + 3 / 4) / 2)
    assert cell(table, "default", "both").mean == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert cell(table, "default", "inside").mean == pytest.approx((21 + 11) / 2)
    low, high = cell(table, "default", "inside")[1:]
    assert 15 <= low < 16 < high <= 17
    assert cell(table, "other", "asked") == (1.0, 1.0, 1.0)


def test_differences_are_paired(made):
    """Scenes differ by 12 dB and the methods by 2 on every one of them: so sure is the 2."""
    table = tables.differ(made)
    assert [line.name for line in table.lines] == ["other"]
    assert cell(table, "other", "inside") == pytest.approx((2, 2, 2))
    mean, low, high = cell(table, "other", "asked")
    assert mean == pytest.approx(1 - 5 / 8) and 0 <= low < mean < high <= 1


def test_differences_are_of_shared_scenes(made):
    lonely = [r for r in made if r.method == "default" or r.seed in (1, 3)]
    table = tables.differ([*lonely, row("other", 99, "time", False, False)])
    assert table.lines[0].count == 2
    assert cell(table, "other", "inside") == (pytest.approx(2), None, None)
    assert tables.differ([r for r in made if r.method == "other"]) is None


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
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


def test_one_method_by_kind(made):
    table = tables.by_kind(made, "default")
    assert [(line.name, line.count) for line in table.lines] == [
        ("color", 2), ("time", 4), ("mean over kinds", 6),
    ]  # fmt: skip
    assert cell(table, "time", "asked").mean == 0.75
    with pytest.raises(ValueError, match="no rows of best; there are: default, other"):
        tables.by_kind(made, "best")


def test_what_is_not_measured_is_a_dash(made):
    scratch = [
        replace(r, method="from-scratch", kept=None, inside=None, outside=None) for r in made[:6]
    ]
    table = tables.compare(scratch)
    assert cell(table, "from-scratch", "both") is None
    assert "| from-scratch | 6 | 62 % [" in tables.as_markdown([table])
    assert "| - | - | - | - |" in tables.as_markdown([table])


def test_the_same_numbers_in_every_form(made):
    shown = [tables.compare(made), tables.differ(made), tables.by_kind(made, "other")]
    text, page = tables.as_text(shown), tables.as_markdown(shown)
    said = json.loads(tables.as_json(shown, made))
    assert said["schema"] == "zerocon.bench.tables/1" and said["setup"] == {"weights": "w"}
    assert said["settings"] == {"default": {"of": "default"}, "other": {"of": "other"}}
    assert said["tables"][0]["lines"][0]["asked"]["mean"] == 0.625
    assert "| other | 6 | +38 % [" in page and "+38 % [" in text
    assert "other" in text and "Difference to default, on the same scenes:" in text
    block = text.split("\n\n")[1].splitlines()
    assert len({line.find("100 %") + len("100 %") for line in block if "100 %" in line}) == 1
    assert tables.as_text([tables.compare(made)]).count("\n") == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setup": {"weights": "v"}}, "the rows are of different runs: other weights"),
        ({"recipe": "x", "seed": 9}, "the rows of other were made with different settings"),
        ({}, "scene 6 comes twice with other"),
    ],
)
def test_rows_that_do_not_belong_together(made, change, message):
    with pytest.raises(ValueError, match=message):
        results.check([*made, replace(made[-1], **change)])
