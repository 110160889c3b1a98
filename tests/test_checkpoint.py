"""One file in the original layout: recognised by its shapes, the same network, or refused."""

from __future__ import annotations

from pathlib import Path

import ldm
import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import zerocon
from zerocon.cli import main
from zerocon.errors import MissingError
from zerocon.image.reading import Photograph
from zerocon.model.checkpoint import Checkpoint

SMALL = {"modelspec__resolution": "64x64"}


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return ldm.save(tmp_path / "first.safetensors", tiny.model(wide=True), **SMALL)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_file_gives_the_model_that_was_written(
    tmp_path: Path, second: bool, prediction: str
) -> None:
    written = tiny.model(prediction, second=second, wide=True)
    metadata = {"modelspec__prediction_type": prediction[:7], **SMALL}
    file = ldm.save(tmp_path / "one.safetensors", written, second, **metadata)
    loaded = zerocon.load(str(file), device="cpu")
    assert (loaded.size, loaded.multiple, loaded.prediction) == (64, 16, prediction)
    x, pixels = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 64, 64) * 2 - 1
    c, same = written.embed(["a cat"]), loaded.embed(["a cat"])
    assert (c.ids, c.encoder) == (same.ids, same.encoder)
    assert torch.allclose(c.tokens, same.tokens, atol=1e-5)
    assert torch.allclose(written.eps(x, 300, c), loaded.eps(x, 300, c), atol=1e-4)
    assert torch.allclose(written.encode(pixels), loaded.encode(pixels), atol=1e-5)
    assert torch.allclose(written.decode(x), loaded.decode(x), atol=1e-4)
    assert written.schedule(50) == loaded.schedule(50)


def test_an_edit_from_a_file(first: Path, image_file: Path) -> None:
    ask = ["edit", str(image_file), "--to", "dog", "--caption", "a cat", "--steps", "1"]
    done = CliRunner().invoke(main, [*ask, "--model", str(first), "--device", "cpu"])
    assert done.exit_code == 0, done.stderr
    assert np.asarray(Photograph.read(first.with_name("cat-dog.png")).image).shape == (64, 96, 3)


def test_a_second_generation_without_a_prediction_type_is_refused(
    tmp_path: Path,
) -> None:
    file = ldm.save(tmp_path / "two.safetensors", tiny.model(second=True, wide=True), True)
    with pytest.raises(ValueError, match="--prediction epsilon"):
        zerocon.load(str(file), device="cpu")
    single = Checkpoint.open(file)
    assert (single.size("epsilon"), single.size("v_prediction")) == (512, 768)
    file.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    assert single.prediction() == "v_prediction"
    assert zerocon.load(str(file), device="cpu", prediction="epsilon").prediction == "epsilon"


def test_trainers_marks_are_read(first: Path) -> None:
    single = Checkpoint.open(first)
    marked = {**single.shapes, "v_pred": (0,), "ztsnr": (0,)}
    assert Checkpoint(first, marked, {}).prediction() == "v_prediction"
    assert (single.prediction(), single.size("epsilon")) == ("epsilon", 64)
    assert Checkpoint(first, marked, {}).size("x") == 512


def test_the_shapes_of_the_released_models_give_their_configurations() -> None:
    """Blocks, widths and heads of Stable Diffusion 1.5 and 2.1, from a few of their shapes."""
    for second, width, heads in ((False, 768, 8), (True, 1024, [5, 10, 20, 20])):
        shapes = {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)}
        block = "model.diffusion_model.input_blocks."
        for i, channels in enumerate((320, 320, 0, 640, 640, 0, 1280, 1280, 0, 1280, 1280), 1):
            if not channels:
                shapes[f"{block}{i}.0.op.weight"] = (1, 1, 3, 3)
                continue
            shapes[f"{block}{i}.0.out_layers.3.weight"] = (channels, channels, 3, 3)
            if i < 10:
                attn = f"{block}{i}.1.transformer_blocks.0.attn2.to_k.weight"
                shapes[attn] = (channels, width)
                shapes[f"{block}{i}.1.proj_in.weight"] = (
                    channels,
                    channels,
                    *[1, 1][: 2 - 2 * second],
                )
        for i, channels in enumerate((128, 256, 512, 512)):
            for j in range(2):
                conv = f"first_stage_model.encoder.down.{i}.block.{j}.conv1.weight"
                shapes[conv] = (channels, channels, 3, 3)
        shapes["first_stage_model.post_quant_conv.weight"] = (4, 4, 1, 1)
        if second:
            shapes["cond_stage_model.model.token_embedding.weight"] = (49408, width)
        unet = Checkpoint(Path("x"), shapes, {}).unet_config(768 if second else 512)
        assert unet == {
            "sample_size": 96 if second else 64,
            "in_channels": 4,
            "block_out_channels": [320, 640, 1280, 1280],
            "layers_per_block": 2,
            "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
            "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
            "cross_attention_dim": width,
            "attention_head_dim": heads,
            "use_linear_projection": second,
            "upcast_attention": second,
        }


REFUSED = [
    ("conditioner.embedders.1.model.x", "is Stable Diffusion XL; zerocon edits"),
    ("model.diffusion_model.label_emb.0.0.weight", "is Stable Diffusion XL; zerocon edits"),
    ("model.diffusion_model.joint_blocks.0.x", "is Stable Diffusion 3; zerocon edits"),
    ("double_blocks.0.img_attn.norm.key_norm.scale", "is Flux; zerocon edits"),
    ("lora_unet_down_blocks_0.weight", "is a LoRA, an addition to a model; merge it"),
    ("conv_in.weight", "no U-Net (model.diffusion_model.*) in it"),
]


@pytest.mark.parametrize(("key", "reason"), REFUSED)
def test_other_files_are_refused_by_name(
    tmp_path: Path, image_file: Path, key: str, reason: str
) -> None:
    file = tmp_path / "other.safetensors"
    save_file({key: torch.zeros(1)}, file)
    ask = ["edit", str(image_file), "--to", "dog", "--caption", "a cat", "--model", str(file)]
    done = CliRunner().invoke(main, ask)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert reason in done.stderr


@pytest.mark.parametrize("ending", [".ckpt", ".bin", ".pt"])
def test_pickles_are_refused_with_the_reason_and_a_command(
    tmp_path: Path, image_file: Path, ending: str
) -> None:
    file = tmp_path / f"old{ending}"
    torch.save({"state_dict": {"a": torch.ones(2)}}, file)
    ask = ["edit", str(image_file), "--to", "dog", "--model", str(file)]
    done = CliRunner().invoke(main, ask)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "can run code" in done.stderr
    command = done.stderr.partition('python -c "')[2].rpartition('"')[0]
    exec(command, {})  # the command itself works
    assert file.with_suffix(".safetensors").is_file()


def test_missing_parts_are_named(first: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    (first.parent / "tokenizer").rename(tmp_path / "elsewhere")
    with pytest.raises(
        MissingError, match=r"needs the tokenizer of openai/clip.*zerocon models pull"
    ):
        zerocon.load(str(first), device="cpu")
    with pytest.raises(MissingError, match="there is no file"):
        zerocon.load("models/none.safetensors", device="cpu")
    (tmp_path / "text.safetensors").write_text("no such thing")
    with pytest.raises(ValueError, match="cannot read"):
        zerocon.load(str(tmp_path / "text.safetensors"), device="cpu")
    with pytest.raises(ValueError, match="there are: epsilon, v_prediction"):
        zerocon.load(str(first), device="cpu", prediction="flow")
