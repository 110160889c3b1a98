"""The guidance scale of a checkpoint: measured, kept, and ``zerocon calibrate``."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from PIL import Image

import zerocon
from zerocon import api
from zerocon.cli import main
from zerocon.errors import NotFiniteError, SettingError
from zerocon.evaluation_count import count_evaluations
from zerocon.model import guidance_scale
from zerocon.model.guidance_scale import EVALUATIONS, FILE, PRODUCT, calibrate, measured_scale

CAPTION = ["--caption", "a cat on a bench"]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory."""
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's directory that has no ``zerocon.json``."""
    saved = tiny.save(tmp_path / "model")
    (saved / "zerocon.json").unlink()
    return saved


@pytest.fixture
def never_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring is an error."""

    def refuse(*_: object) -> float:
        raise AssertionError("it was measured")

    monkeypatch.setattr(guidance_scale, "measure_response", refuse)


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in args])


def answering(factor: float) -> zerocon.Model:
    """The embedded model with the output of every cross-attention layer scaled."""
    model = zerocon.load("mini")
    for name, layer in model.unet.named_modules():
        if name.endswith("attn2.to_out.0"):
            layer.weight.data *= factor
            layer.bias.data *= factor
    return model


# the measurement


@pytest.mark.parametrize(
    ("factor", "response", "scale"), [(0.5, 0.052, 2.7), (1.0, 0.081, 1.7), (2.0, 0.101, 1.4)]
)
def test_a_model_that_answers_less_to_captions_gets_a_larger_scale(
    factor: float, response: float, scale: float
) -> None:
    measured = guidance_scale.measure_response(answering(factor))
    assert measured == pytest.approx(response, abs=0.001)
    assert guidance_scale.MeasuredScale(measured, True).scale == pytest.approx(scale, abs=0.05)


def test_the_number_of_evaluations_is_the_one_stated(folder: Path) -> None:
    model, done = zerocon.load(str(folder)), []
    with count_evaluations() as evaluations:
        guidance_scale.measure_response(model, lambda *step: done.append(step))
    assert evaluations.total == EVALUATIONS == done[-1][0]
    assert [total for _, total in done] == [EVALUATIONS] * len(done) and len(done) == 32
    page = run("calibrate", "--help").stdout
    assert f"{EVALUATIONS} U-Net evaluations" in " ".join(page.split()) and f"{PRODUCT} / r" in page


def test_the_dtype_of_the_model_does_not_change_the_scale() -> None:
    half = measured_scale(zerocon.load("mini", dtype="bfloat16"))
    assert half.scale == pytest.approx(measured_scale(zerocon.load("mini")).scale, abs=0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_response_that_is_no_positive_number_is_an_error(value: float) -> None:
    model = tiny.model()
    model.unet.conv_out.weight.data.fill_(value)
    model.unet.conv_out.bias.data.fill_(1.0 if value == 0 else value)
    with pytest.raises(NotFiniteError) as caught:
        measured_scale(model)
    if value == 0:
        assert "guidance scale of tiny cannot be measured" in str(caught.value)
        assert "--guidance-scale" in str(caught.value)


def overflowing(folder: Path) -> Path:
    """A model whose U-Net overflows in float16 only."""
    model = tiny.model()
    with torch.no_grad():
        weight = model.unet.conv_out.weight
        weight.mul_(3e4 / weight.abs().max())  # the largest float16 is 65504
    return tiny.save(folder, model)


def test_a_unet_that_overflows_in_float16_is_measured_in_float32(
    image_file: Path, tmp_path: Path
) -> None:
    folder = overflowing(tmp_path / "model")
    (folder / "zerocon.json").unlink()
    done = run("calibrate", folder, "--dtype", "float16")
    assert done.exit_code == 0, done.output
    assert "the U-Net computed NaN or infinity in float16" in done.stderr
    model = zerocon.load(str(folder), dtype="float16")
    assert not measured_scale(model).measured
    (tmp_path / "cache" / FILE).unlink()
    warnings: list[str] = []
    settings = api.with_guidance_scale(model.settings, model, warnings.append)
    assert settings.guidance_scale is not None and len(warnings) == 2
    assert not model.runtime.upcasted


# kept in the cache directory


def test_a_result_is_kept_and_read_back(folder: Path, cache_folder: Path) -> None:
    first = measured_scale(zerocon.load(str(folder)))
    assert first.measured
    (response,) = json.loads((cache_folder / FILE).read_text()).values()
    assert response == first.response
    with count_evaluations() as evaluations:
        second = measured_scale(zerocon.load(str(folder)))
    assert (second.response, second.measured) == (first.response, False)
    assert evaluations.total == 0


@pytest.mark.parametrize("content", ["", "[1]", '{"KEY": "0.1"}', '{"KEY": -1.0}', '{"KEY": NaN}'])
def test_a_damaged_file_is_measured_again_and_repaired(
    content: str, folder: Path, cache_folder: Path
) -> None:
    model = zerocon.load(str(folder))
    response = measured_scale(model).response
    ((key, _),) = json.loads((cache_folder / FILE).read_text()).items()
    (cache_folder / FILE).write_text(content.replace("KEY", key))
    again = measured_scale(model)
    assert (again.response, again.measured) == (response, True)
    assert json.loads((cache_folder / FILE).read_text()) == {key: response}


def test_other_weights_precision_or_prediction_are_other_models(folder: Path, tmp_path) -> None:
    other = tiny.save(tmp_path / "other", tiny.model(seed=1))
    models = [
        zerocon.load(str(folder)),
        zerocon.load(str(other)),
        zerocon.load(str(folder), dtype="bfloat16"),
        zerocon.load(str(folder), prediction="v_prediction"),
    ]
    results = [measured_scale(model) for model in models]
    assert all(each.measured for each in results)
    assert [measured_scale(model).response for model in models] == [r.response for r in results]


def test_a_copy_of_a_model_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    measured_scale(zerocon.load(str(folder)))
    shutil.copytree(folder, tmp_path / "copy")
    assert not measured_scale(zerocon.load(str(tmp_path / "copy"))).measured


def test_a_model_without_files_is_measured_each_time(cache_folder: Path) -> None:
    model = tiny.model()
    assert measured_scale(model).measured and measured_scale(model).measured
    assert not (cache_folder / FILE).exists()
    with pytest.raises(SettingError, match="tiny has no weight files"):
        calibrate(model)


def test_a_cache_that_cannot_be_written_only_costs_time(folder: Path, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "file"))
    assert measured_scale(zerocon.load(str(folder))).measured
    done = run("calibrate", folder)  # but this promises a file
    assert done.exit_code == 2 and done.stdout == "" and "Error: " in done.stderr


# in an edit


def test_an_edit_measures_once_and_says_so(folder: Path, image_file: Path, tmp_path: Path) -> None:
    edit = ["edit", image_file, "--to", "dog", *CAPTION, "--model", folder, "--steps", "4"]
    first = run(*edit, "-o", tmp_path / "first.png")
    second = run(*edit, "-o", tmp_path / "second.png", "--no-cache")
    assert first.exit_code == second.exit_code == 0, first.output + second.output
    scale = measured_scale(zerocon.load(str(folder))).scale
    line = (
        f"Warning: guidance scale {scale:g} measured on {folder}, in {EVALUATIONS} U-Net "
        "evaluations; kept for later edits"
    )
    assert first.stderr.splitlines().count(line) == 1 and "measured" not in second.stderr
    for name in ("first.png", "second.png"):
        assert zerocon.Recipe.read(tmp_path / name).settings.guidance_scale == scale
    first, second = (Image.open(tmp_path / name) for name in ("first.png", "second.png"))
    assert first.tobytes() == second.tobytes()


def test_a_given_scale_or_that_of_the_model_is_not_measured(
    folder: Path, image: Image.Image, never_measured: None
) -> None:
    edited = zerocon.edit(
        image, to="dog", caption=CAPTION[1], model=zerocon.load(str(folder)), guidance_scale=2.0
    )
    assert edited.settings.guidance_scale == 2.0
    mini = api.with_guidance_scale(zerocon.load("mini").settings, zerocon.load("mini"))
    assert mini.guidance_scale == 1.75


# calibrate


def test_calibrate_measures_again_and_keeps_it_for_edits(
    folder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = measured_scale(zerocon.load(str(folder))).response
    ((key, _),) = json.loads((cache_folder / FILE).read_text()).items()
    (cache_folder / FILE).write_text(json.dumps({key: 9.0, "other": 0.5}))
    done = run("calibrate", folder)
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    assert done.stdout == (
        f"{folder}: response {response:.4f}, guidance scale {PRODUCT / response:.2g}, "
        f"{EVALUATIONS} U-Net evaluations; written to {cache_folder / FILE}\n"
    )
    kept = json.loads((cache_folder / FILE).read_text())
    assert kept == {key: pytest.approx(response), "other": 0.5}
    assert not (folder / "zerocon.json").exists()


def test_calibrate_as_json(folder: Path, cache_folder: Path) -> None:
    record = json.loads(run("calibrate", folder, "--format", "json").stdout)
    assert record["schema"] == "zerocon.calibration/1"
    assert record["guidance_scale"] == float(f"{PRODUCT / record['response']:.2g}")
    assert (record["device"], record["dtype"]) == ("cpu", "float32")
    assert record["output"] == str(cache_folder / FILE) and record["warnings"] == []


def test_write_adds_the_scale_to_the_models_own_file(folder: Path) -> None:
    (folder / "zerocon.json").write_text('{"steps": 6, "words": ["a", "größe"]}')
    record = json.loads(run("calibrate", folder, "--write", "--format", "json").stdout)
    assert record["output"] == str(folder / "zerocon.json") and record["warnings"] == []
    values = json.loads((folder / "zerocon.json").read_text(encoding="utf-8"))
    scale = record["guidance_scale"]
    assert values == {"steps": 6, "words": ["a", "größe"], "guidance_scale": scale}
    settings = zerocon.load(str(folder)).settings
    assert (settings.guidance_scale, settings.steps) == (scale, 6)


def test_a_scale_is_replaced_only_on_request(folder: Path) -> None:
    text = '{"guidance_scale": 7.0, "steps": 6}'
    (folder / "zerocon.json").write_text(text)
    refused = run("calibrate", folder, "--write")
    assert refused.exit_code == 2 and "has a guidance_scale already" in refused.stderr
    assert "--overwrite" in refused.stderr and refused.stderr.count("\n") == 1
    assert (folder / "zerocon.json").read_text() == text
    done = run("calibrate", folder, "--write", "--overwrite")
    assert done.exit_code == 0, done.output
    values = json.loads((folder / "zerocon.json").read_text())
    assert values["guidance_scale"] != 7.0 and values["steps"] == 6


def test_a_scale_that_edits_do_not_use_is_a_warning(folder: Path) -> None:
    (folder / "zerocon.json").write_text('{"guidance_scale": [7.0, 3.0]}')
    done = run("calibrate", folder)
    assert done.exit_code == 0 and "zerocon.json, 7..3, not this one" in done.stderr


def hub_copy(folder: Path, tmp_path: Path) -> Path:
    """The model as a snapshot of the Hub cache."""
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / "0123"
    shutil.copytree(folder, snapshot)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("0123")
    return snapshot


def test_files_that_are_not_the_users_own_are_not_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, never_measured: None
) -> None:
    from huggingface_hub import constants

    from zerocon import mini

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = hub_copy(folder, tmp_path)
    before = mini.path().joinpath("zerocon.json").read_bytes()
    single = tmp_path / "model.safetensors"
    single.touch()
    for name, reason in [
        ("mini", "part of zerocon"),
        (mini.path(), "part of zerocon"),
        ("owner/name", "in the Hub cache"),
        (snapshot, "in the Hub cache"),
        (single, "a single file"),
    ]:
        done = run("calibrate", name, "--write", "--overwrite")
        assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.output
        assert reason in done.stderr and "without --write" in done.stderr
    assert mini.path().joinpath("zerocon.json").read_bytes() == before
    assert not (snapshot / "zerocon.json").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_directory_that_cannot_be_written_is_refused(folder: Path, never_measured: None) -> None:
    folder.chmod(0o500)
    try:
        done = run("calibrate", folder, "--write")
    finally:
        folder.chmod(0o700)
    assert done.exit_code == 2 and "cannot write to" in done.stderr


def test_overwrite_needs_write_and_a_missing_model_is_missing(never_measured: None) -> None:
    assert "--overwrite needs --write" in run("calibrate", "mini", "--overwrite").stderr
    assert run("calibrate", "./no-model").exit_code == 3
    assert run("calibrate", "./no-model", "--write").exit_code == 3


def test_a_model_that_does_not_answer_is_one_line(folder: Path, tmp_path: Path) -> None:
    model = tiny.model()
    with torch.no_grad():
        model.unet.conv_out.weight.fill_(0.0)
    done = run("calibrate", tiny.save(tmp_path / "silent", model))
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert "cannot be measured" in done.stderr and "[ZC-E072]" in done.stderr
