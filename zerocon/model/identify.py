"""What a safetensors file is that is no base model, from the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from zerocon.errors import UnsupportedModelError
from zerocon.model.families import SUPPORTED, UNET_PREFIX

MERGE = "merge it into a base model with the program it was made for, and give the result"


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: As it is written in messages.
        keys: A regular expression that one of its keys matches.
        advice: What to do.
        without: A regular expression that none of its keys matches; None for no such condition.
    """

    name: str
    keys: str
    advice: str
    without: str | None = None


UNET = r"^(?:_orig_mod\.|module\.|model\.)*(?:model\.)?diffusion_model\."
KINDS = (  # the first one that fits
    Kind(
        "a LoRA, an addition to a model",
        r"(?:^|[._])lora_(?:unet|te\d?)_|\.lora(?:_linear_layer)?[._](?:A|B|up|down)\b|"
        r"_lora\.(?:up|down)\.|\.lora_(?:A|B|up|down|magnitude)|\.processor\..*_lora",
        MERGE,
    ),
    Kind(
        "a LyCORIS (LoHa, LoKr, DoRA or OFT), an addition to a model",
        r"\.(?:hada_w\d|lokr_w\d|oft_blocks|oft_diag|dora_scale|glora|ia3|on_input)|^lycoris_",
        MERGE,
    ),
    Kind(
        "a ControlNet, an addition to a model",
        r"^control_model\.|^controlnet_|(?:^|\.)input_hint_block\.|^zero_convs\.",
        "give the base model that it was trained for",
    ),
    Kind(
        "a T2I-Adapter or IP-Adapter, an addition to a model",
        r"^adapter\.|^image_proj\.|^ip_adapter\.",
        "give the base model that it was trained for",
    ),
    Kind(
        "a textual inversion (an embedding of one word)",
        r"^emb_params$|^string_to_param|^<[^>]+>$|^clip_[lg]$",
        "give the base model that it was trained for",
    ),
    Kind(
        "a hypernetwork, an addition to a model",
        r"^\d+\.\d\.linear",
        "give the base model that it was trained for",
    ),
    Kind(
        "the U-Net of a diffusers directory",
        r"^(?:[a-z_]+\.)*down_blocks\.\d+\.(?:attentions|resnets)\.\d+\.(?:transformer_blocks|"
        r"time_emb_proj)",
        "give the whole directory, which has a model_index.json",
    ),
    Kind(
        "a VAE",
        r"^(?:first_stage_model\.|vae\.|module\.|_orig_mod\.)*(?:encoder|decoder)\."
        r"(?:down|up|mid|down_blocks|up_blocks|mid_block)\b",
        "give a base model, and this file with --vae",
        UNET,
    ),
    Kind(
        "CLIP, or the text encoder of a model",
        r"^(?:cond_stage_model\.(?:transformer\.|model\.)?|text_encoder\.|module\.|_orig_mod\.)*"
        r"(?:text_model\.|vision_model\.|transformer\.resblocks\.|embeddings\.|visual\.)",
        "give a base model that has a U-Net too",
        UNET,
    ),
    Kind(
        "a BLIP model, which writes captions",
        r"^(?:text_decoder|qformer|language_model)\.",
        "give the directory that it is in as --captioner",
        UNET,
    ),
)
FIRST_WEIGHT = f"{UNET_PREFIX}input_blocks.0.0.weight"  # of every U-Net in a released file


def kind_of(keys: Collection[str]) -> Kind | None:
    """What a file is, if it is one of the known kinds that are no base model."""
    for kind in KINDS:
        if kind.without and any(re.search(kind.without, key) for key in keys):
            continue
        if any(re.search(kind.keys, key) for key in keys):
            return kind
    return None


def require_base_model(name: str, keys: Collection[str]) -> None:
    """Raise ``UnsupportedModelError`` for files that are known to be no base model."""
    if FIRST_WEIGHT not in keys and (kind := kind_of(keys)):
        raise UnsupportedModelError(f"{name} is {kind.name}; {kind.advice}; {SUPPORTED}")
