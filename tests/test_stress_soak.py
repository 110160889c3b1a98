"""The harness of the soak test: its counts and its fit are right."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from stress import soak

from zerocon import api

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soak")
    return folder, list(soak.repeat(tiny.model(), folder, 12))


def test_every_edit_is_made_once(samples):
    folder, edits = samples
    names = {path.name for path in (folder / "out").glob("*.png")}
    assert {sample.name for sample in edits} == names and len(edits) == len(names) == 12
    report = soak.evaluate(edits, folder)
    assert (report.edits, report.failed, report.lost, report.duplicated) == (12, 0, 0, 0)
    assert 0 < report.at_end < 2**36


def test_lost_and_duplicated_edits_are_counted(samples):
    folder, edits = samples
    more = [
        *edits,
        edits[0],
        soak.SoakSample("lost.png", 1, 99.0, None),
        soak.SoakSample("x", 1, 99.0, "reason"),
    ]
    report = soak.evaluate(more, folder)
    assert (report.edits, report.failed, report.lost, report.duplicated) == (15, 1, 1, 1)


def test_a_leak_is_distinguished_from_noise():
    noise = np.random.default_rng(0).normal(0, 1, 400)
    slope, margin = soak.trend(noise)
    assert abs(slope) < margin
    slope, margin = soak.trend(noise + 0.5 * np.arange(400))
    assert abs(slope - 0.5) < margin < 0.1
    assert soak.trend(np.zeros(5))[1] == float("inf")


def test_pytest_prints_the_report_and_draws_the_curve(tmp_path):
    """The command of docs/batch.md on the embedded model, with three edits."""
    plot = tmp_path / "memory.png"
    options = ["-m", "stress", "-k", "test_memory", "--soak-edits", "3", "--soak-plot", str(plot)]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/stress", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    head, _, row = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert head.startswith("| edits | minutes | MB after 50 |")
    assert row.startswith("| 3 | ") and row.endswith("| 0 | 0 | 0 |")
    with Image.open(plot) as drawn:
        assert drawn.width > 400


@pytest.mark.slow
def test_memory_does_not_grow(tmp_path):
    model = api.load("mini", device="cpu")
    report = soak.evaluate(list(soak.repeat(model, tmp_path, 120)), tmp_path)
    assert (report.failed, report.lost, report.duplicated) == (0, 0, 0)
    assert report.slope - report.margin < 20e6
