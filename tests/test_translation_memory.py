"""Translations in trouble: half precision that is not enough, out of memory, and the forecast."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from conftest import gradient
from PIL import Image
from torch import nn

import zerocon
from zerocon import batch, world
from zerocon.cli import main
from zerocon.diagnostics import cost
from zerocon.diagnostics.cost import highest
from zerocon.diagnostics.translation_cost import estimate_translation
from zerocon.errors import NotFiniteError, OutOfMemoryError
from zerocon.exemplar.condition import read_condition
from zerocon.exemplar.networks import WEIGHTS
from zerocon.exemplar.translation import inputs_of, resolved, translate_condition
from zerocon.exemplar.translation_checks import Exemplar
from zerocon.exemplar.translation_settings import TranslationSettings
from zerocon.exemplar.translators import trained_networks
from zerocon.image.reading import Photograph
from zerocon.model import precision
from zerocon.model.companion import Companion
from zerocon.recipe.translation_recipe import TranslationRecipe

CHECKPOINTS = "recomputing activations in the backward pass"
TILES = "encoding and decoding in tiles"
METHODS = {
    "promote": ["--method", "promote", "--steps", "1"],
    "attention": ["--method", "attention", "--steps", "2"],
    "dift": ["--method", "warp", "--matcher", "dift"],
    "adain": ["--method", "adain"],
}


@pytest.fixture(scope="module")
def half() -> Any:
    return zerocon.load("mini", device="cpu", dtype="bfloat16")


@pytest.fixture(scope="module")
def mini() -> Any:
    return zerocon.load("mini", device="cpu")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    world.labels(world.sample(11)).save("labels.png")
    world.render(world.sample(12)).save("exemplar.png")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command with a model that is loaded already."""

    def run(model: Any, *args: str) -> Result:
        monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
        return CliRunner().invoke(main, list(args))

    return run


def translation(method: str) -> list[str]:
    return ["translate", "labels.png", "-e", "exemplar.png", *METHODS[method], "-o", "out.png"]


def unet_of(model: Any, method: str) -> nn.Module:
    """The U-Net that a method evaluates."""
    own: nn.Module = model.unet
    return trained_networks(model, WEIGHTS)[0].unet if method == "promote" else own


@contextmanager
def changed(layer: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """What a layer computes is changed."""
    hook = layer.register_forward_hook(lambda _, __, output: change(output))
    try:
        yield
    finally:
        hook.remove()


def nan_in_half(output: torch.Tensor) -> torch.Tensor:
    return output if output.dtype == torch.float32 else output * math.nan


class Short:
    """Runs out of memory in the first ``times`` calls, of those with a gradient if so wanted."""

    def __init__(self, times: int, *, gradients: bool = False) -> None:
        self.left, self.gradients = times, gradients

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        if self.left and (output.requires_grad or not self.gradients):
            self.left -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return output


# half precision


@pytest.mark.parametrize("method", ["promote", "attention", "dift"])
def test_a_unet_that_is_not_finite_computes_again_in_float32(
    method: str, half: Any, command: Callable[..., Result]
) -> None:
    unet: Any = unet_of(half, method)
    with changed(unet.conv_out, nan_in_half):
        done = command(half, *translation(method), "--format", "json")
    assert done.exit_code == 0, done.output
    warning = precision.warning("unet", "bfloat16")
    assert done.stderr.count(f"Warning: {warning}\n") == 1
    assert json.loads(done.stdout)["warnings"].count(warning) == 1
    assert {each.dtype for each in (*unet.parameters(), *half.unet.parameters())} == {
        torch.bfloat16
    }
    recipe = TranslationRecipe.from_json(str(Photograph.read("out.png").recipe))
    assert recipe.compute["float32"] == "unet" and recipe.compute["dtype"] == "bfloat16"
    replay = ["replay", "out.png", "--source", "labels.png", "-e", "exemplar.png"]
    assert command(half, *replay).stdout.startswith("identical")  # without NaN: still in float32
    float32 = Photograph.read("out.png").image.tobytes()
    command(half, *translation(method), "--overwrite")
    assert Photograph.read("out.png").image.tobytes() != float32


@pytest.mark.parametrize("method", ["promote", "attention", "dift"])
def test_what_is_not_finite_in_float32_either_is_an_error_and_nothing_is_written(
    method: str, half: Any, command: Callable[..., Result]
) -> None:
    before = {*Path().iterdir()}
    unet: Any = unet_of(half, method)
    with changed(unet.conv_out, lambda output: output * math.nan):
        done = command(half, *translation(method))
    *_, warning, error = done.stderr.splitlines()
    assert done.exit_code == NotFiniteError.code
    assert warning == f"Warning: {precision.warning('unet', 'bfloat16')}"
    assert "in float32 are not finite" in error and error.endswith("[ZC-E072]")
    assert {*Path().iterdir()} == before
    assert unet.conv_out.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_vae_that_is_not_finite_computes_again_in_float32(
    part: str, half: Any, command: Callable[..., Result]
) -> None:
    with changed(getattr(half.vae, part).conv_out, nan_in_half):
        done = command(half, *translation("adain"))
    assert done.exit_code == 0, done.output
    assert done.stderr.count(f"Warning: {precision.warning('vae', 'bfloat16')}\n") == 1
    recipe = TranslationRecipe.from_json(str(Photograph.read("out.png").recipe))
    assert recipe.compute["float32"] == "vae"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_trained_unet_computes_in_the_models_dtype_and_the_encoders_in_float32(
    dtype: str,
) -> None:
    model: Any = zerocon.load("mini", device="cpu", dtype=dtype)
    network, matcher = trained_networks(model, WEIGHTS)
    assert {each.dtype for each in network.unet.parameters()} == {getattr(torch, dtype)}
    assert {each.dtype for each in matcher.parameters()} == {torch.float32}
    with model.runtime.upcast():
        assert {each.dtype for each in network.unet.parameters()} == {torch.float32}
    assert {each.dtype for each in network.unet.parameters()} == {getattr(torch, dtype)}


def test_half_precision_gives_nearly_the_image_of_float32(
    half: Any, mini: Any, command: Callable[..., Result]
) -> None:
    images = []
    for model in (half, mini):
        done = command(model, *translation("promote"), "--overwrite")
        assert done.exit_code == 0, done.output
        images.append(Photograph.read("out.png").image)
    levels = [torch.tensor(bytearray(each.tobytes())).float() for each in images]
    assert 0 < (levels[0] - levels[1]).abs().mean() < 4


# memory


@pytest.mark.parametrize(
    ("method", "savings"),
    [("promote", [TILES]), ("attention", [CHECKPOINTS, TILES]), ("dift", [TILES])],
)
def test_each_shortage_takes_one_step_and_the_translation_succeeds(
    method: str, savings: list[str], mini: Any, command: Callable[..., Result]
) -> None:
    options, unet = mini.runtime.compute_options(), unet_of(mini, method)
    assert command(mini, *translation(method)).exit_code == 0
    usual = Path("out.png").read_bytes()
    short: Any = Short(len(savings), gradients=method == "attention")
    with changed(unet.conv_out, short):  # type: ignore[arg-type]
        done = command(mini, *translation(method), "--overwrite")
    assert done.exit_code == 0, done.output
    lines = [each for each in done.stderr.splitlines() if "out of memory" in each]
    assert lines == [f"Warning: out of memory; {each}" for each in savings]
    recipe = TranslationRecipe.from_json(str(Photograph.read("out.png").recipe))
    assert recipe.compute["tiled"] and recipe.compute["checkpointed"] == (method == "attention")
    assert mini.runtime.compute_options() == options
    again = ["replay", "out.png", "--source", "labels.png", "-e", "exemplar.png"]
    with mini.runtime.using(mini.runtime.tile):
        assert command(mini, *again).stdout.startswith("identical")
    command(mini, *translation(method), "--overwrite")
    assert Path("out.png").read_bytes() == usual


@pytest.mark.parametrize("method", ["promote", "attention"])
def test_after_the_last_step_it_is_an_error_and_nothing_is_written(
    method: str, mini: Any, command: Callable[..., Result]
) -> None:
    before, options = {*Path().iterdir()}, mini.runtime.compute_options()
    unet: Any = unet_of(mini, method)
    with changed(unet.conv_out, Short(99)):
        done = command(mini, *translation(method))
    assert done.exit_code == OutOfMemoryError.code
    *_, error = done.stderr.splitlines()
    assert error.startswith("Error: out of memory, after all ways to save memory were tried")
    assert error.endswith("try --device cpu [ZC-E070]"), "there is no --fast"
    assert {*Path().iterdir()} == before and mini.runtime.compute_options() == options


class Elsewhere(nn.Linear):
    """A network that need not be moved."""

    dtype = torch.float32

    def to(self, *_: object, **__: object) -> Elsewhere:  # type: ignore[override]
        return self


def test_captioner_and_clip_leave_the_device_first() -> None:
    model: Any = zerocon.load("mini", device="cpu")
    companion = Companion(Elsewhere(2, 2), None, None, "cuda")
    model.runtime.attach(companion)
    with companion.in_use():
        pass
    lines: list[str] = []

    def shortage(output: torch.Tensor) -> torch.Tensor:
        with companion.in_use() as device:  # as if another thread used it meanwhile
            if str(device) != "cpu":
                raise torch.OutOfMemoryError("CUDA out of memory")
        return output

    with changed(model.vae.decoder.conv_out, shortage):
        zerocon.translate(
            "labels.png", "exemplar.png", method="adain", model=model, on_warning=lines.append
        )
    assert lines == ["out of memory; computing captions and similarities in main memory"]


def test_networks_that_are_kept_in_main_memory_change_no_bit(mini: Any) -> None:
    arguments: dict[str, Any] = {"steps": 1, "model": mini}
    usual = zerocon.translate("labels.png", "exemplar.png", **arguments)
    with mini.runtime.using(mini.runtime.offload):
        spared = zerocon.translate("labels.png", "exemplar.png", **arguments)
        assert hasattr(unet_of(mini, "promote"), "_hf_hook")
    assert spared.image.tobytes() == usual.image.tobytes()
    assert not hasattr(unet_of(mini, "promote"), "_hf_hook")


# the forecast

FORECASTS: list[tuple[int, dict[str, Any]]] = [  # number of exemplars, settings
    (1, {"method": "promote"}),
    (2, {"method": "promote", "structure": 2.0, "appearance": 3.0}),
    (1, {"method": "promote", "appearance": 0.0, "matcher": "position"}),
    (1, {"method": "promote", "matcher": "dift"}),
    (2, {"method": "attention", "steps": 3}),
    (1, {"method": "attention:guard=0,inverter=virtual"}),
    (1, {"method": "attention", "structure": 0.0, "appearance": 0.0}),
    (2, {"method": "warp"}),
    (2, {"method": "warp", "matcher": "dift"}),
    (1, {"method": "warp", "matcher": "position"}),
    (1, {"method": "adain", "color_match": "global"}),
]


@pytest.mark.parametrize(("count", "changes"), FORECASTS)
def test_the_forecast_is_what_the_translation_takes(
    count: int, changes: dict[str, Any], mini: Any
) -> None:
    """Evaluations exactly, memory within 10 percent."""
    condition = read_condition(Image.open("labels.png"))
    settings = resolved(TranslationSettings(**{"steps": 2, **changes}), condition)
    exemplars = [Exemplar(Image.open("exemplar.png")), Exemplar(gradient(90, 40), 0.5)][:count]
    forecast = estimate_translation(inputs_of(condition, exemplars, settings, model=mini))
    done = []
    taken = highest(
        lambda: done.append(translate_condition(condition, exemplars, settings, model=mini))
    )
    assert forecast.evaluations == done[0].evaluations
    assert 0.9 < (forecast.cached + forecast.working) / taken < 1.1


@pytest.mark.parametrize(
    ("method", "matcher"),
    [("attention", "trained"), ("warp", "trained"), ("warp", "dift"), ("adain", "position")],
)
def test_large_networks_are_measured_without_their_data(
    method: str, matcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model()
    condition = read_condition(gradient(64, 48), "image")
    settings = TranslationSettings(method, matcher, "image", steps=1)
    inputs = inputs_of(condition, [Exemplar(gradient(64, 64))], settings, model=model)
    small = estimate_translation(inputs)
    monkeypatch.setattr(cost, "SMALL", 0)
    large = estimate_translation(inputs)
    assert large.working == pytest.approx(small.working, rel=0.01)
    assert (large.cached, large.weights) == (small.cached, small.weights)
    assert (large.evaluations, large.operations) == (small.evaluations, small.operations)


@pytest.mark.parametrize("method", METHODS)
def test_a_dry_run_has_the_cost_of_the_run(
    method: str, mini: Any, command: Callable[..., Result]
) -> None:
    args = [*translation(method), "--format", "json"]
    dry = json.loads(command(mini, *args, "-n").stdout)
    assert not Path("out.png").exists()
    done = json.loads(command(mini, *args).stdout)
    assert dry.pop("dry_run") is True and set(dry.pop("bytes")) == {
        "weights", "cached", "working", "peak",
    }  # fmt: skip
    assert (dry.pop("operations") > 0) == (done["evaluations"]["total"] > 0)
    assert (dry.pop("state"), done.pop("state")) == ("planned", "translated")
    for record in (dry, done):  # the first is unknown before the run
        record.pop("mean_confidence")
        record.pop("warnings")
    assert dry == done


def test_a_plan_of_a_batch_counts_translations(mini: Any, command: Callable[..., Result]) -> None:
    gradient(64, 64).save("cat.png")
    Path("rows.csv").write_text(
        "image,exemplar,method,matcher,to,caption,name\n"
        "labels.png,exemplar.png,promote,,,,1.png\n"
        "labels.png,exemplar.png,attention,,,,2.png\n"
        "labels.png,exemplar.png,adain,,,,3.png\n"
        "cat.png,,,,dog,a cat,4.png\n"
    )
    options: dict[str, Any] = {"manifest": "rows.csv", "output": "out", "model": mini, "steps": 1}
    plan = batch.plan(**options)
    summary = batch.run(**options)
    assert summary.done == 4 and not summary.failures
    assert round(plan.estimate.evaluations.total, 6) == round(summary.evaluations, 6) > 0
    assert plan.estimate.images == 2 and plan.estimate.seconds > 0
    edit = next(each for each in plan.edits if each.job.prompt)
    alone = batch.plan("cat.png", to="dog", caption="a cat", steps=1, model=mini, output="other")
    assert edit.translation is None and plan.estimate.peak >= alone.estimate.peak
    args = ["batch", "--manifest", "rows.csv", "-o", "again", "--steps", "1", "-n"]
    lines = command(mini, *args).stdout.splitlines()
    assert lines[0].endswith(": label condition, translation by promote: 2.0 U-Net evaluations")
    assert lines[-1].startswith("1 edits and 3 translations of 2 images, 0 skipped as done: ")
