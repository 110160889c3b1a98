"""Checkpoints made of a trained model's weights, from which its stages continue."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zerocon.bench import classifiers
from zerocon.errors import ModelNotFoundError
from zerocon.registry import parse
from zerocon.training.loop import write_initial
from zerocon.training.mini import STAGES
from zerocon.training.tokenizers import save_tokenizer

if TYPE_CHECKING:
    from torch import nn

    from zerocon.training.workspace import Workspace


def start_from(work: Workspace, model: Path) -> None:
    """Write a checkpoint for every stage that trains a network and has none yet.

    The weights are those of a model that the stage "export" has written; the classifiers are
    those of the package. The optimizer starts anew. Steps and options are those on the model
    card; without one, no steps and the defaults. A model without a captioner gives none.

    Raises:
        ModelNotFoundError: ``model`` has no model.
    """
    if not (model / "model_index.json").is_file():
        raise ModelNotFoundError(f"there is no model in {model}; give mini or a model's directory")
    readers = {
        "vae": _vae,
        "clip": _clip,
        "captioner": _captioner,
        "unet": _unet,
        "classifiers": _classifiers,
    }
    for stage, read in readers.items():
        folder = work.folder / stage
        missing = stage == "captioner" and not (model / stage).is_dir()
        if missing or (folder / "checkpoint.pt").exists():
            continue
        step, options = _of_card(model, stage)
        settings, network = read(model, options, work)
        write_initial(work, stage, settings, step, network)
        work.note(stage, step=step)
        work.say(f"{stage}: starts from {model} at step {step}")


def _of_card(model: Path, stage: str) -> tuple[int, Any]:
    """The steps and the options of a stage on the model card."""
    card = model / "README.md"
    text = card.read_text() if card.is_file() else ""
    row = re.search(rf"^\| {stage} \| (\d+) \|(.*)\|$", text, re.MULTILINE)
    if row is None:
        return 0, parse(stage, STAGES, "stage")
    options = re.findall(r"`(\w+)=([^`]*)`", row[2])
    values = ",".join(  # the card shows Python values
        f"{name}={value.strip('()').replace(', ', '+').lower()}" for name, value in options
    )
    return int(row[1]), parse(f"{stage}:{values}" if values else stage, STAGES, "stage")


def _vae(model: Path, options: Any, work: Workspace) -> tuple[Any, nn.Module]:
    from diffusers import AutoencoderKL

    network: Any = AutoencoderKL.from_pretrained(model / "vae", torch_dtype=torch.float32)
    config = network.config
    work.note("vae", scaling_factor=config.scaling_factor)
    settings = replace(
        options,
        channels=tuple(config.block_out_channels),
        layers=config.layers_per_block,
        attention=config.mid_block_add_attention,
    )
    return settings, network


def _clip(model: Path, options: Any, work: Workspace) -> tuple[Any, nn.Module]:
    """The two towers; the heads, which only help the training, are not part of a model."""
    from transformers import CLIPModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    save_tokenizer(tokenizer, work.place("clip") / "tokenizer")
    trained: Any = CLIPModel.from_pretrained(model / "clip", dtype=torch.float32)
    text, vision = trained.config.text_config, trained.config.vision_config
    settings = replace(
        options,
        width=text.hidden_size,
        layers=text.num_hidden_layers,
        image_width=vision.hidden_size,
        image_layers=vision.num_hidden_layers,
    )
    torch.manual_seed(settings.seed)  # of the new heads
    network = settings.build(len(tokenizer))
    network["clip"].load_state_dict(trained.state_dict())
    return settings, network


def _captioner(model: Path, options: Any, work: Workspace) -> tuple[Any, nn.Module]:
    from transformers import BlipForConditionalGeneration

    network: Any = BlipForConditionalGeneration.from_pretrained(
        model / "captioner", dtype=torch.float32
    )
    text, vision = network.config.text_config, network.config.vision_config
    settings = replace(
        options,
        width=text.hidden_size,
        layers=text.num_hidden_layers,
        image_layers=vision.num_hidden_layers,
    )
    return settings, network


def _unet(model: Path, options: Any, work: Workspace) -> tuple[Any, nn.Module]:
    from diffusers import UNet2DConditionModel

    network: Any = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32)
    config = network.config
    settings = replace(
        options,
        channels=tuple(config.block_out_channels),
        layers=config.layers_per_block,
        heads=config.attention_head_dim,
    )
    return settings, network


def _classifiers(model: Path, options: Any, work: Workspace) -> tuple[Any, nn.Module]:
    return options, classifiers.load().network
