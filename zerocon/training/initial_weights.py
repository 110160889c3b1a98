"""Checkpoints made of a trained model's weights, from which its stages continue."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zerocon.bench import classifiers
from zerocon.errors import ModelNotFoundError
from zerocon.model.loading import model_errors
from zerocon.model.networks import plan_captioner, plan_clip, plan_unet, plan_vae
from zerocon.model.tokenizing import load_tokenizer
from zerocon.registry import parse
from zerocon.storage.bounded import read_text
from zerocon.training.loop import write_initial
from zerocon.training.mini import STAGES
from zerocon.training.tokenizers import save_tokenizer

if TYPE_CHECKING:
    from torch import nn

    from zerocon.training.workspace import Workspace

LONGEST_CARD = 1_000_000  # bytes
# options of stages, and the names of their values in configurations
BLOCKS = {"channels": "block_out_channels", "layers": "layers_per_block"}
TEXT = {"width": "hidden_size", "layers": "num_hidden_layers"}
IMAGES = {"image_layers": "num_hidden_layers"}


def start_from(work: Workspace, model: Path) -> None:
    """Write a checkpoint for every stage that trains a network and has none yet.

    The weights are those of a model that the stage "export" has written; the classifiers are
    those of the package. The optimizer starts anew. Steps and options are those on the model
    card; without one, no steps and the defaults. A model without a captioner gives none.

    Raises:
        ModelNotFoundError: ``model`` has no model, or one that is not complete; or
            ``UnsupportedModelError``, ``PickleRefusedError``.
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
        with model_errors(str(model)):
            settings, network = read(model, options, work)
        write_initial(work, stage, settings, step, network)
        work.note(stage, step=step)
        work.say(f"{stage}: starts from {model} at step {step}")


def _of_card(model: Path, stage: str) -> tuple[int, Any]:
    """The steps and the options of a stage on the model card."""
    card = model / "README.md"
    text = read_text(card, longest=LONGEST_CARD) if card.is_file() else ""
    row = re.search(rf"^\| {stage} \| (\d+) \|(.*)\|$", text, re.MULTILINE)
    if row is None:
        return 0, parse(stage, STAGES, "stage")
    options = re.findall(r"`(\w+)=([^`]*)`", row[2])
    values = ",".join(  # the card shows Python values
        f"{name}={value.strip('()').replace(', ', '+').lower()}" for name, value in options
    )
    return int(row[1]), parse(f"{stage}:{values}" if values else stage, STAGES, "stage")


def _vae(model: Path, options: Any, work: Workspace) -> tuple[Any, nn.Module]:
    network = plan_vae(model / "vae", str(model)).load(torch.float32)
    work.note("vae", scaling_factor=network.config.scaling_factor)
    names = {"attention": "mid_block_add_attention"}
    return _with_config(options, network.config, **BLOCKS, **names), network


def _clip(model: Path, options: Any, work: Workspace) -> tuple[Any, nn.Module]:
    """The two towers; the heads, which only help the training, are not part of a model."""
    from transformers import CLIPTokenizer

    trained = plan_clip(model / "clip", str(model)).load(torch.float32)
    text, vision = trained.config.text_config, trained.config.vision_config
    positions, words = text.max_position_embeddings, text.vocab_size
    tokenizer = load_tokenizer(CLIPTokenizer, model / "tokenizer", str(model), positions, words)
    save_tokenizer(tokenizer, work.place("clip") / "tokenizer")
    settings = _with_config(options, text, **TEXT)
    settings = _with_config(settings, vision, image_width="hidden_size", **IMAGES)
    torch.manual_seed(settings.seed)  # of the new heads
    network = settings.build(len(tokenizer))
    network["clip"].load_state_dict(trained.state_dict())
    return settings, network


def _captioner(model: Path, options: Any, work: Workspace) -> tuple[Any, nn.Module]:
    network = plan_captioner(model / "captioner", str(model)).load(torch.float32)
    settings = _with_config(options, network.config.text_config, **TEXT)
    return _with_config(settings, network.config.vision_config, **IMAGES), network


def _unet(model: Path, options: Any, work: Workspace) -> tuple[Any, nn.Module]:
    network = plan_unet(model / "unet", str(model)).load(torch.float32)
    return _with_config(options, network.config, **BLOCKS, heads="attention_head_dim"), network


def _with_config(options: Any, config: Any, **names: str) -> Any:
    """The options of a stage with values of a network's configuration, by the names there."""
    values = {name: getattr(config, key) for name, key in names.items()}
    return replace(
        options, **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    )


def _classifiers(model: Path, options: Any, work: Workspace) -> tuple[Any, nn.Module]:
    return options, classifiers.load().network
