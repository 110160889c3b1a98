"""Many edits in one process: none is lost or duplicated, and memory hardly grows."""

from __future__ import annotations

from pathlib import Path

import pytest

from stress import soak
from stress.conftest import SOAK
from zerocon import api
from zerocon.diagnostics import plots
from zerocon.image.saving import check_output, save_image


@pytest.mark.stress
def test_memory_does_not_grow(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    plot: Path | None = pytestconfig.getoption("--soak-plot")
    if plot:
        check_output(plot, overwrite=True)
        plots.require()
    model = api.load("mini", device="cpu")
    samples = list(soak.repeat(model, tmp_path, pytestconfig.getoption("--soak-edits")))
    report = soak.evaluate(samples, tmp_path)
    pytestconfig.stash[SOAK] = report
    if plot:
        memory = [sample.memory / 1e6 for sample in samples]
        save_image(plots.draw_curve(memory, x="edits", y="MB resident"), plot, overwrite=True)
    assert (report.failed, report.lost, report.duplicated) == (0, 0, 0)
    assert not report.slope - report.margin >= 20e6  # false for nan: too few edits for a slope
