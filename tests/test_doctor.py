"""``zerocon doctor``: checks that pass, and checks that fail."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from zerocon.cli import main
from zerocon.diagnostics import doctor


@pytest.fixture
def examine(monkeypatch):
    """Run only some of the checks, or others."""

    def run(*names, **others):
        checks = {name: doctor.CHECKS[name] for name in names} | others
        monkeypatch.setattr(doctor, "CHECKS", checks)
        done = CliRunner().invoke(main, ["doctor", "--format", "json"])
        record = json.loads(done.stdout)
        results = {each["name"]: each for each in record["findings"]}
        assert record["well"] == (done.exit_code == 0) and list(results) == list(checks)
        return results, done.exit_code

    return run


def test_a_small_edit_is_evaluated_as_right(examine):
    results, code = examine(*doctor.CHECKS)
    assert code == 0 and results["edit"]["status"] == "ok"
    assert (
        results["edit"]["message"].endswith("judged right")
        and '" -> "' in results["edit"]["message"]
    )
    assert "torch 2" in results["packages"]["message"] and "GB free" in results["memory"]["message"]


def test_an_edit_that_does_nothing_is_judged_wrong(examine, monkeypatch):
    monkeypatch.setattr(doctor, "FAST", {"steps": 2, "strength": 0.0})
    results, code = examine("edit")
    assert code == 1 and "judged wrong: kind: frog, not penguin" in results["edit"]["message"]


def test_a_failing_check_is_reported_and_the_others_run(examine):
    def broken(name):
        raise RuntimeError("no\ndriver")

    results, code = examine("packages", device=broken, cache=doctor.CHECKS["cache"])
    assert code == 1 and results["device"]["message"] == "RuntimeError: no driver"
    assert results["packages"]["status"] == "ok"


def test_a_missing_package_is_named(examine, monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("zerocon", "no-such-package"))
    results, code = examine("packages")
    assert code == 1 and results["packages"]["message"] == "no no-such-package"


def test_missing_models_are_a_note_with_the_way_to_get_them(examine, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    results, code = examine("models", "cache")
    assert code == 0 and results["models"]["status"] == "note"
    assert "zerocon models pull stable-diffusion-v1-5" in results["models"]["advice"]
    assert str(tmp_path) in results["cache"]["message"]


def test_human_output_is_one_line_per_check(monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", {"packages": doctor.packages})
    done = CliRunner().invoke(main, ["doctor"])
    assert done.stdout.startswith("ok     packages python 3") and done.stdout.count("\n") == 1
