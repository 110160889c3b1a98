"""``zerocon doctor``: checks that pass, and checks that fail."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import tiny
from click.testing import CliRunner

import zerocon
from zerocon import mini
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


# of a model

MODEL_CHECKS = ["model", "network", "scale", "identity", "example", "trace"]


@pytest.fixture
def examine_model(monkeypatch, tmp_path):
    """Run only the checks of a model, from a new cache directory."""
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "CHECKS", {})
    monkeypatch.setattr(tiny, "POSITIONS", 77)  # a token for each letter of the scene's caption

    def run(*args):
        done = CliRunner().invoke(main, ["doctor", "--format", "json", "--model", *map(str, args)])
        record = json.loads(done.stdout)
        assert record["schema"] == "zerocon.doctor/1"
        assert record["well"] == (done.exit_code == 0)
        return {each["name"]: each for each in record["findings"]}, done.exit_code

    return run


def numbers(text):
    return [float(each) for each in re.findall(r"\d+\.\d+(?:e-\d+)?", text)]


def test_the_embedded_model_passes_all_checks(examine_model):
    results, code = examine_model("mini")
    assert code == 0 and list(results) == MODEL_CHECKS
    assert {each["status"] for each in results.values()} == {"ok"}
    for part in ("mini on cpu, float32, epsilon, 128 pixels", zerocon.load("mini").fingerprint()):
        assert part in results["model"]["message"]
    assert "s per U-Net evaluation" in results["network"]["message"]
    assert "response 0.0813, guidance scale 1.7" in results["scale"]["message"]
    assert results["identity"]["message"].endswith("returns the source, bit for bit")
    example = results["example"]["message"]
    assert "frog" in example.partition(" -> ")[0] and "penguin" in example.partition(" -> ")[2]
    assert ", 12 steps, " in example and "of 255 levels" in example and "peak" not in example
    first, middle, last, largest, _ = numbers(results["trace"]["message"])
    assert 0 < first < middle < last <= largest < 1


def test_a_model_of_another_precision_without_captioner_and_defaults(examine_model, tmp_path):
    folder = tiny.save(tmp_path / "model", tiny.model("v_prediction", second=True))
    (folder / "zerocon.json").unlink()
    results, _ = examine_model(folder, "--dtype", "bfloat16", "--device", "cpu")
    assert list(results) == MODEL_CHECKS
    assert "cpu, bfloat16, v_prediction, 96 pixels" in results["model"]["message"]
    assert "(measured)" in results["scale"]["message"]
    assert results["example"]["status"] != "error"
    assert ", 24 steps, " in results["example"]["message"]
    assert (
        "(measured before)" in examine_model(folder, "--dtype", "bfloat16")[0]["scale"]["message"]
    )


def test_weights_that_are_not_numbers_fail(examine_model, tmp_path):
    model = tiny.model()
    model.unet.conv_out.weight.data.fill_(float("nan"))
    results, code = examine_model(tiny.save(tmp_path / "model", model))
    assert code == 1 and list(results) == ["model"]
    assert results["model"]["status"] == "error" and "NaN" in results["model"]["message"]


def test_finite_weights_that_compute_infinity_fail(examine_model, tmp_path):
    model = tiny.model()
    model.unet.conv_out.weight.data.fill_(3e38)  # sums of a few products overflow in float32
    results, code = examine_model(tiny.save(tmp_path / "model", model))
    assert code == 1 and results["model"]["status"] == "ok" and "trace" not in results
    for name in ("network", "scale", "identity", "example"):
        assert results[name]["status"] == "error" and "NotFiniteError" in results[name]["message"]


def test_parts_that_compute_again_in_float32_are_noted(examine_model, tmp_path):
    model = tiny.model()
    weight = model.unet.conv_out.weight.data
    weight.mul_(3e4 / weight.abs().max())  # its output overflows in float16
    results, _ = examine_model(tiny.save(tmp_path / "model", model), "--dtype", "float16")
    for name in ("network", "scale", "example"):
        assert results[name]["status"] == "note", results[name]
        assert "the U-Net computed NaN or infinity in float16" in results[name]["advice"]


def test_a_model_that_is_not_there_is_one_failed_check(examine_model, tmp_path):
    results, code = examine_model(tmp_path / "none")
    assert code == 1 and list(results) == ["model"]
    assert results["model"]["status"] == "error" and "no model" in results["model"]["message"]


def test_an_edit_of_strength_0_that_changes_the_source_fails(examine_model, monkeypatch):
    from zerocon.diagnostics import model_checks

    monkeypatch.setattr(model_checks.api, "reconstruct", lambda image, _: image.rotate(90))
    results, code = examine_model("mini")
    assert code == 1 and "changes the source, by up to" in results["identity"]["message"]


def test_an_absurd_guidance_scale_is_noted(examine_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(mini.path(), folder)
    values = json.loads((folder / "zerocon.json").read_text()) | {"guidance_scale": 30.0}
    (folder / "zerocon.json").write_text(json.dumps(values))
    results, code = examine_model(folder)
    assert code == 0 and results["trace"]["status"] == "note"
    assert results["trace"]["advice"].startswith("probably damaged: ")
    assert "probably damaged" not in results["example"]["advice"]
    assert "zerocon.json sets 30" in results["scale"]["message"]


def test_options_of_the_model_need_a_model():
    done = CliRunner().invoke(main, ["doctor", "--dtype", "float16"])
    assert done.exit_code == 2 and "--dtype needs --model" in done.stderr


def test_human_output_of_a_model(examine_model, tmp_path):
    done = CliRunner().invoke(main, ["doctor", "--model", str(tiny.save(tmp_path / "model"))])
    names = [line[7:15].strip() for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert names == MODEL_CHECKS
