"""Does the doctor see what is well, and what is not?"""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from zerocon.cli import main
from zerocon.diagnostics import doctor


@pytest.fixture
def examine(monkeypatch):
    """Call it with only some of its looks."""

    def run(*names, **others):
        looks = {name: doctor.LOOKS[name] for name in names} | others
        monkeypatch.setattr(examine, "LOOKS", looks)
        done = CliRunner().invoke(main, ["doctor", "--format", "json"])
        said = json.loads(done.stdout)
        found = {each["name"]: each for each in said["findings"]}
        assert said["well"] == (done.exit_code == 0) and list(found) == list(looks)
        return found, done.exit_code

    return run


def test_a_small_edit_comes_out_right_here(examine):
    found, code = examine(*doctor.LOOKS)
    assert code == 0 and found["edit"]["status"] == "ok"
    assert found["edit"]["said"].endswith("judged right") and '" -> "' in found["edit"]["said"]
    assert "torch 2" in found["packages"]["said"] and "GB free" in found["memory"]["said"]


def test_an_edit_that_does_nothing_is_judged_wrong(examine, monkeypatch):
    monkeypatch.setattr(examine, "FAST", {"steps": 2, "strength": 0.0})
    found, code = examine("edit")
    assert code == 1 and "judged wrong: kind: frog, not penguin" in found["edit"]["said"]


def test_what_cannot_be_looked_at_is_wrong_and_the_rest_is_looked_at(examine):
    def broken(name):
        raise RuntimeError("no\ndriver")

    found, code = examine("packages", device=broken, cache=doctor.LOOKS["cache"])
    assert code == 1 and found["device"]["said"] == "RuntimeError: no driver"
    assert found["packages"]["status"] == "ok"


def test_a_missing_package_is_named(examine, monkeypatch):
    monkeypatch.setattr(examine, "PACKAGES", ("zerocon", "no-such-package"))
    found, code = examine("packages")
    assert code == 1 and found["packages"]["said"] == "no no-such-package"


def test_missing_models_are_a_note_with_the_way_to_get_them(examine, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found, code = examine("models", "cache")
    assert code == 0 and found["models"]["status"] == "note"
    assert "zerocon models pull stable-diffusion-v1-5" in found["models"]["advice"]
    assert str(tmp_path) in found["cache"]["said"]


def test_people_get_lines(monkeypatch):
    monkeypatch.setattr(examine, "LOOKS", {"packages": doctor.packages})
    done = CliRunner().invoke(main, ["doctor"])
    assert done.stdout.startswith("ok     packages python 3") and done.stdout.count("\n") == 1
