"""Load options that give another model: another VAE, and fewer layers of the text encoder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import ldm
import pytest
import tiny
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import zerocon
from zerocon.cli import main
from zerocon.errors import SettingError, ZeroconError
from zerocon.model.stable_diffusion import StableDiffusion
from zerocon.recipe import Recipe

ASK = ["--to", "dog", "--caption", "a cat", "--steps", "1", "--device", "cpu"]
VAE = "first_stage_model."


@pytest.fixture(scope="module")
def written() -> StableDiffusion:
    return tiny.model(wide=True)


@pytest.fixture(scope="module")
def other() -> StableDiffusion:
    return tiny.model(wide=True, seed=1)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, written: StableDiffusion) -> Path:
    file = tmp_path_factory.mktemp("file") / "single.safetensors"
    return ldm.save(file, written, modelspec__resolution="64x64")


@pytest.fixture(scope="module")
def vaes(tmp_path_factory: pytest.TempPathFactory, other: StableDiffusion) -> Path:
    """One VAE in every form that ``--vae`` takes."""
    folder = tmp_path_factory.mktemp("vaes")
    whole = load_file(ldm.save(folder / "model.safetensors", other))
    inside = {key: value for key, value in whole.items() if key.startswith(VAE)}
    save_file(inside, folder / "prefixed.safetensors")
    save_file({k.removeprefix(VAE): v for k, v in inside.items()}, folder / "bare.safetensors")
    save_file(other.vae.state_dict(), folder / "diffusers.safetensors")
    other.vae.save_pretrained(folder / "own")
    tiny.save(folder / "pipeline", other)
    return folder


FORMS = ["model.safetensors", "prefixed.safetensors", "bare.safetensors", "diffusers.safetensors"]


@pytest.mark.parametrize("form", [*FORMS, "own", "pipeline"])
def test_a_vae_of_every_form_is_used(
    single: Path, vaes: Path, other: StableDiffusion, form: str
) -> None:
    plain = zerocon.load(str(single), device="cpu")
    model = zerocon.load(str(single), device="cpu", vae=str(vaes / form))
    x = torch.randn(1, 4, 8, 8)
    assert torch.allclose(model.decode(x), other.decode(x), atol=1e-5)
    assert not torch.allclose(model.decode(x), plain.decode(x), atol=1e-3)
    assert model.fingerprint() != plain.fingerprint()


def save_without_vae(single: Path, folder: Path) -> Path:
    kept = {k: v for k, v in load_file(single).items() if not k.startswith(VAE)}
    (folder / "tokenizer").symlink_to(single.parent / "tokenizer")
    save_file(kept, folder / "none.safetensors", {"modelspec.resolution": "64x64"})
    return folder / "none.safetensors"


def test_a_file_without_a_vae_takes_another(
    single: Path, vaes: Path, tmp_path: Path, other: StableDiffusion
) -> None:
    file = save_without_vae(single, tmp_path)
    with pytest.raises(ZeroconError, match=r"no VAE .*; give one: --vae FILE"):
        zerocon.load(str(file), device="cpu")
    model = zerocon.load(str(file), device="cpu", vae=str(vaes / "bare.safetensors"))
    x = torch.randn(1, 4, 8, 8)
    assert torch.allclose(model.decode(x), other.decode(x), atol=1e-5) and model.size == 64


def test_a_directory_with_a_broken_vae_takes_another(
    vaes: Path, tmp_path: Path, written: StableDiffusion
) -> None:
    folder = tiny.save(tmp_path / "broken", written)
    for file in (folder / "vae").glob("*"):
        file.write_bytes(b"")
    with pytest.raises(ZeroconError, match="is damaged"):
        zerocon.load(str(folder), device="cpu")
    model = zerocon.load(str(folder), device="cpu", vae=str(vaes / "own"))
    assert model.fingerprint()


@pytest.mark.parametrize(
    ("key", "message"),
    [("text_model.x.weight", "not a VAE"), ("encoder.conv_in.weight", "not complete")],
)
def test_other_files_are_no_vae(single: Path, tmp_path: Path, key: str, message: str) -> None:
    save_file({key: torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(ZeroconError, match=message):
        zerocon.load(str(single), device="cpu", vae=str(tmp_path / "x.safetensors"))
    with pytest.raises(ZeroconError, match="no file"):
        zerocon.load(str(single), device="cpu", vae=str(tmp_path / "gone.safetensors"))
    with pytest.raises(ZeroconError, match="is not on this machine"):
        zerocon.load(str(single), device="cpu", vae="no-one/no-vae")


def test_a_vae_of_other_latents_is_refused(single: Path, vaes: Path, tmp_path: Path) -> None:
    values = load_file(vaes / "diffusers.safetensors")
    values["decoder.conv_in.weight"] = torch.zeros(32, 16, 3, 3)
    save_file(values, tmp_path / "x.safetensors")
    with pytest.raises(ZeroconError):
        zerocon.load(str(single), device="cpu", vae=str(tmp_path / "x.safetensors"))


# clip skip


def test_clip_skip_leaves_out_the_last_layers(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "mine")
    model, skipping = (zerocon.load(str(folder), device="cpu", clip_skip=n) for n in (0, 1))
    network = model.text_encoder
    ids = model.tokenizer(
        ["a cat"], padding="max_length", max_length=16, return_tensors="pt"
    ).input_ids
    states = network(ids, output_hidden_states=True).hidden_states
    inner = getattr(network, "text_model", network)
    expected, last = (inner.final_layer_norm(states[i]).detach() for i in (-2, -1))
    assert torch.equal(skipping.embed(["a cat"]).tokens, expected)
    assert torch.allclose(model.embed(["a cat"]).tokens, last, atol=1e-6)
    assert skipping.fingerprint() == f"{model.fingerprint()}-clip-skip-1"
    assert skipping.embed(["a cat"]).encoder != model.embed(["a cat"]).encoder


@pytest.mark.parametrize("value", [-1, 2, 65, 1.0, True, "1"])
def test_layers_that_the_text_encoder_does_not_have(tmp_path: Path, value: Any) -> None:
    folder = tiny.save(tmp_path / "mine")
    with pytest.raises(SettingError, match="clip_skip must be"):
        zerocon.load(str(folder), device="cpu", clip_skip=value)


# on the command line, and in recipes


def run(*args: object) -> Any:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_both_are_recorded_and_replayed(single: Path, vaes: Path, image_file: Path) -> None:
    options = ["--vae", vaes / "bare.safetensors", "--clip-skip", 1]
    edited = image_file.with_name("dog.png")
    done = run("edit", image_file, *ASK, "--model", single, *options, "-o", edited)
    assert done.exit_code == 0, done.stderr
    recipe = Recipe.read(edited)
    assert recipe.compute["vae"] == "bare.safetensors" and recipe.compute["clip_skip"] == 1
    again = ["replay", edited, "--source", image_file, "--model", single, "--format", "json"]
    refused = run(*again)
    assert refused.exit_code == 2 and "give the VAE: --vae [ZC-E064]" in refused.stderr
    other = run(*again, "--vae", vaes / "prefixed.safetensors")
    assert other.exit_code == 2 and "other weights" in other.stderr
    replayed = run(*again, "--vae", vaes / "bare.safetensors")
    assert replayed.exit_code == 0, replayed.stderr
    assert json.loads(replayed.stdout)


def test_the_options_are_expert_options() -> None:
    short, long = (run("edit", option).stdout for option in ("--help", "--help-all"))
    for option in ("--vae NAME", "--clip-skip N"):
        assert option not in re.sub(r" +", " ", short) and option in re.sub(r" +", " ", long)


def test_the_vae_of_a_run_is_not_replaced(single: Path, vaes: Path, image_file: Path) -> None:
    vae = vaes / "bare.safetensors"
    done = run("invert", image_file, "--model", single, "--vae", vae, "-o", vae, "--overwrite")
    assert done.exit_code == 2 and done.stderr.endswith("[ZC-E031]\n")
    assert load_file(vae)
