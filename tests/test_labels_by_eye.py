"""The benchmark's decisions against labels by eye.

Two readers, separate runs of a vision-language model, labeled 104 edits of validation scenes with
the default settings independently, before any classifier had read them: whether the requested
change is there, about as clearly as in the exact result after the autoencoder, and whether the rest
is unchanged. The labels are of the edits that the shipped model makes with these settings; other
weights need other labels.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from zerocon import api
from zerocon.bench import classifiers
from zerocon.bench.inputs import MethodSettings
from zerocon.bench.results import ResultRow
from zerocon.bench.runner import BenchmarkRun
from zerocon.bench.tasks import choose
from zerocon.model import ModelSpec, load

LABELS = Path(__file__).with_name("data") / "labels-by-eye.csv"
READERS = ("first", "second")
PER_KIND, SKIP = 13, 330

Label = tuple[bool, bool]  # success, preserved


def labels() -> dict[int, tuple[Label, Label]]:
    """The labels of both readers, by the seed of the scene."""
    with LABELS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        int(row["seed"]): tuple(
            (row[f"{reader} success"] == "1", row[f"{reader} preserved"] == "1")
            for reader in READERS
        )  # type: ignore[misc]
        for row in rows
    }


@pytest.fixture(scope="module")
def rows() -> dict[int, ResultRow]:
    """The edits as the benchmark decides about them."""
    model = load(ModelSpec("mini", device="cpu", dtype="float32"))
    settings = MethodSettings(
        api.with_guidance_scale(model.settings, model), {"composite": "model"}
    )
    run = BenchmarkRun(model, classifiers.load(), ("default",), settings, False, 8)
    return {row.seed: row for row, _ in run.run(run.work(choose("validation", PER_KIND, SKIP)))}


def test_every_edit_of_the_set_has_labels() -> None:
    assert labels().keys() == {task.seed for task in choose("validation", PER_KIND, SKIP)}


@pytest.mark.slow
@pytest.mark.parametrize(("decision", "least"), [("success", 0.9), ("preserved", 0.9)])
def test_decisions_agree_with_readers_who_agree(
    decision: str, least: float, rows: dict[int, ResultRow]
) -> None:
    place = ("success", "preserved").index(decision)
    agreed = {
        seed: first[place]
        for seed, (first, second) in labels().items()
        if first[place] == second[place]
    }
    same = sum(getattr(rows[seed], decision) == label for seed, label in agreed.items())
    print(f"{decision}: readers agree on {len(agreed)} of {len(rows)}, the benchmark on {same}")
    assert same >= least * len(agreed)
