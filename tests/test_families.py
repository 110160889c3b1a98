"""Every kind of Stable Diffusion 1.x and 2.x people have, small and with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import zerocon
from zerocon.cli import main
from zerocon.editing import edit
from zerocon.guidance import GUIDANCE
from zerocon.image.reading import Photograph
from zerocon.model.stable_diffusion import StableDiffusion

TRAILING = {"timestep_spacing": "trailing"}
KINDS = {
    "1.x": lambda: tiny.model(),
    "1.x trailing": lambda: tiny.model(**TRAILING),
    "1.x linspace": lambda: tiny.model(timestep_spacing="linspace"),
    "1.x v": lambda: tiny.model("v_prediction"),
    "1.x v, zero terminal SNR": lambda: tiny.model(
        "v_prediction", rescale_betas_zero_snr=True, **TRAILING
    ),
    "2.x": lambda: tiny.model(second=True),
    "2.x v": lambda: tiny.model("v_prediction", second=True),
    "2.x v trailing": lambda: tiny.model("v_prediction", second=True, **TRAILING),
    "2.x v, zero terminal SNR": lambda: tiny.model(
        "v_prediction", second=True, rescale_betas_zero_snr=True, **TRAILING
    ),
}


@pytest.fixture(scope="module", params=list(KINDS))
def model(request: pytest.FixtureRequest) -> StableDiffusion:
    return KINDS[request.param]()


def image(model: StableDiffusion, count: int = 1) -> torch.Tensor:
    side = model.size // 8
    return torch.randn(count, 4, side, side - 2)


ALL = tuple(each() for each in GUIDANCE.values())


def test_the_unchanged_prompt_gives_the_source_back(model: StableDiffusion) -> None:
    x, c = image(model), model.embed(["a cat"])
    recomputed = tiny.plan(7.5, ALL, cache_source=False)
    *_, last = edit(model, tiny.invert(model, x, c, steps=3), c, c, recomputed)
    assert torch.equal(last.latents, x)
    cached = tiny.vary(recomputed, cache_source=True)
    *_, last = edit(model, tiny.invert(model, x, c, cached.cached_layers(3), 3), c, c, cached)
    assert torch.allclose(last.latents, x, atol=1e-3)


@pytest.mark.parametrize("name", GUIDANCE)
def test_every_guidance_runs_and_changes_the_edit(model: StableDiffusion, name: str) -> None:
    x, c, c_edit = image(model), model.embed(["a cat"]), model.embed(["a red dog"])
    free, guided = (
        list(edit(model, tiny.invert(model, x, c, each.cached_layers(3), 3), c, c_edit, each))
        for each in (tiny.plan(5.0), tiny.plan(5.0, (GUIDANCE[name](),)))
    )
    for step in guided:
        assert step.latents.isfinite().all() and step.clean.isfinite().all()
    assert not torch.equal(free[-1].latents, guided[-1].latents)
    assert guided[-1].losses is not None and guided[-1].losses.isfinite().all()


def test_a_batch_equals_its_images_one_by_one(model: StableDiffusion) -> None:
    x = image(model, 2)
    c, c_edit = model.embed(["a cat", "a pig"]), model.embed(["a dog", "a red pig"])
    plan = tiny.plan(3.0, ALL, seeds=(0, 1))
    *_, both = edit(model, tiny.invert(model, x, c, plan.cached_layers(3), 3), c, c_edit, plan)
    for i in range(2):
        row = slice(i, i + 1)
        one = tiny.plan(3.0, ALL, seeds=plan.seeds[row])
        source, target = c.rows(row), c_edit.rows(row)
        inversion = tiny.invert(model, x[row], source, one.cached_layers(3), 3)
        *_, last = edit(model, inversion, source, target, one)
        scale = last.difference.abs().max()
        assert float((both.difference[row] - last.difference).abs().max()) < 1e-3 * float(scale)


@pytest.mark.parametrize("steps", [1, 2, 7, 50, 61, 999])
def test_every_spacing_goes_from_the_image_to_noise(model: StableDiffusion, steps: int) -> None:
    schedule = model.schedule(steps)
    assert schedule.steps == steps and schedule.times[0] == 0
    assert list(schedule.alphas) == sorted(schedule.alphas, reverse=True)
    assert list(schedule.times) == sorted(schedule.times)
    assert schedule.times[-1] > 0


def test_spacings_end_where_their_models_begin_to_denoise() -> None:
    assert tiny.model(**TRAILING).schedule(50).times[:2] == (0, 19)
    assert tiny.model(**TRAILING).schedule(50).times[-1] == 999
    even = tiny.model(timestep_spacing="linspace").schedule(3)
    assert even.times == (0, 333, 666, 999)


def test_with_zero_terminal_snr_the_schedule_ends_where_signal_is_left() -> None:
    velocity = tiny.model("v_prediction", rescale_betas_zero_snr=True, **TRAILING)
    assert float(velocity.scheduler.alphas_cumprod[-1]) == 0.0
    schedule = velocity.schedule(50)
    assert schedule.times[-2:] == (979, 998) and 0 < schedule.alphas[-1] ** 2 < 1e-6
    with pytest.raises(ValueError, match="zero terminal SNR, where epsilon is the input itself"):
        tiny.model(rescale_betas_zero_snr=True, **TRAILING)


def test_noise_added_by_the_schedule_is_the_eps_a_true_velocity_gives() -> None:
    velocity = tiny.model("v_prediction", rescale_betas_zero_snr=True, **TRAILING)
    x0, noise = torch.randn(2, 1, 4, 8, 8)
    for t in (1, 400, 998):
        a = float(velocity.scheduler.alphas_cumprod[t])
        v = a**0.5 * noise - (1 - a) ** 0.5 * x0
        output = type("Output", (), {"sample": v})
        velocity.unet.forward = lambda *_, output=output, **__: output
        eps = velocity.eps(a**0.5 * x0 + (1 - a) ** 0.5 * noise, t, velocity.embed(["a"]))
        assert torch.allclose(eps, noise, atol=1e-5)


# from a directory, on the command line


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_from_a_folder(kind: str, tmp_path: Path, image_file: Path) -> None:
    folder = tiny.save(tmp_path / "kind", KINDS[kind]())
    ask = ["edit", str(image_file), "--model", str(folder), "--caption", "a cat on a bench"]
    done = CliRunner().invoke(main, [*ask, "--to", "dog", "--steps", "2", "--device", "cpu"])
    assert done.exit_code == 0, done.stderr
    edited = np.asarray(Photograph.read(tmp_path / "cat-dog.png").image, int)
    assert edited.shape == (64, 96, 3)
    nothing = [*ask, "--to", "dog", "--steps", "2", "--strength", "0", "-o"]
    assert CliRunner().invoke(main, [*nothing, str(tmp_path / "same.png")]).exit_code == 0
    same = np.asarray(Photograph.read(tmp_path / "same.png").image, int)
    assert np.abs(same - edited).max() > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "mine")


OTHERS = [
    ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}, "is Stable Diffusion XL"),
    ("model_index.json", {"_class_name": "StableDiffusion3Pipeline"}, "is Stable Diffusion 3"),
    ("model_index.json", {"_class_name": "FluxPipeline"}, "is Flux"),
    ("model_index.json", {"_class_name": "PixArtAlphaPipeline"}, "is a PixArtAlphaPipeline"),
    (
        "scheduler/scheduler_config.json",
        {"_class_name": "FlowMatchEulerDiscreteScheduler"},
        "flow matching",
    ),
    ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, 'predicts "sample"'),
]


@pytest.mark.parametrize(("file", "change", "reason"), OTHERS)
def test_other_families_are_refused_by_name(
    folder: Path, tmp_path: Path, image_file: Path, file: str, change: dict[str, str], reason: str
) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / file).read_text())
    (other / file).write_text(json.dumps(config | change))
    ask = ["edit", str(image_file), "--to", "dog", "--caption", "a cat", "--model", str(other)]
    done = CliRunner().invoke(main, ask)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert reason in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"cat.png", "other"}


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_pickles_in_a_directory_are_refused_with_a_command_that_converts_them(
    folder: Path, tmp_path: Path, part: str
) -> None:
    old = shutil.copytree(folder, tmp_path / "old")
    (whole,) = (old / part).glob("*.safetensors")
    pickle = {"unet": "diffusion_pytorch_model.bin", "text_encoder": "pytorch_model.bin"}[part]
    torch.save(load_file(whole), whole.with_name(pickle))
    content = load_file(whole)
    whole.unlink()
    with pytest.raises(ValueError, match="can run code") as refusal:
        zerocon.load(str(old), device="cpu")
    exec(str(refusal.value).partition('python -c "')[2].rpartition('"')[0], {})
    assert load_file(whole).keys() == content.keys()
    x, saved = torch.randn(1, 4, 8, 8), tiny.model()
    loaded, c = zerocon.load(str(old), device="cpu"), saved.embed(["a cat"])
    assert torch.equal(loaded.embed(["a cat"]).tokens, c.tokens)
    assert torch.allclose(loaded.eps(x, 300, c), saved.eps(x, 300, c), atol=1e-6)


@pytest.mark.parametrize(("channels", "use"), [(9, "inpainting"), (8, "InstructPix2Pix")])
def test_a_unet_with_more_inputs_than_latents_is_refused(channels: int, use: str) -> None:
    base = tiny.model()
    base.unet.register_to_config(in_channels=channels)
    parts = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    with pytest.raises(ValueError, match=use):
        StableDiffusion(
            "x", **{part: getattr(base, part) for part in parts}, device=base.device,
            captioner=tiny.TinyCaptioner, scorer=lambda: None,
        )  # fmt: skip


def test_attention_in_float32_stays_so_in_half_precision(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "second", tiny.model("v_prediction", second=True))
    loaded = zerocon.load(str(folder), device="cpu", dtype="bfloat16")
    x, c = image(loaded), loaded.embed(["a cat"])
    plan = tiny.plan(3.0, ALL)
    inversion = tiny.invert(loaded, x, c, plan.cached_layers(3), 3)
    *_, last = edit(loaded, inversion, c, loaded.embed(["a dog"]), plan)
    assert last.latents.dtype == torch.float32 and last.latents.isfinite().all()
