"""A model written as one file in the layout that Stable Diffusion was released in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from zerocon.model.stable_diffusion import StableDiffusion

UNET = [
    (r"time_embedding\.linear_([12])", lambda m: f"time_embed.{2 * int(m[1]) - 2}"),
    (r"^conv_in", lambda m: "input_blocks.0.0"),
    (r"^conv_norm_out", lambda m: "out.0"),
    (r"^conv_out", lambda m: "out.2"),
    (r"mid_block\.resnets\.(\d)", lambda m: f"middle_block.{2 * int(m[1])}"),
    (r"mid_block\.attentions\.0", lambda m: "middle_block.1"),
    (r"\.norm1\.(?=\w+$)", lambda m: ".in_layers.0."),
    (r"\.conv1\.", lambda m: ".in_layers.2."),
    (r"\.time_emb_proj\.", lambda m: ".emb_layers.1."),
    (r"\.norm2\.(?=\w+$)", lambda m: ".out_layers.0."),
    (r"\.conv2\.", lambda m: ".out_layers.3."),
    (r"\.conv_shortcut\.", lambda m: ".skip_connection."),
]
VAE = [
    (r"down_blocks\.(\d)\.resnets\.(\d)", lambda m: f"down.{m[1]}.block.{m[2]}"),
    (r"down_blocks\.(\d)\.downsamplers\.0", lambda m: f"down.{m[1]}.downsample"),
    (r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}"),
    (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample"),
    (r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}"),
    (r"mid_block\.attentions\.0\.", lambda m: "mid.attn_1."),
    (r"group_norm", lambda m: "norm"),
    (r"to_([qkv])\.", lambda m: f"{m[1]}."),
    (r"to_out\.0", lambda m: "proj_out"),
    (r"conv_shortcut", lambda m: "nin_shortcut"),
    (r"conv_norm_out", lambda m: "norm_out"),
]
OPEN_CLIP = [
    (r"embeddings\.token_embedding", lambda m: "token_embedding"),
    (r"embeddings\.position_embedding\.weight", lambda m: "positional_embedding"),
    (r"final_layer_norm", lambda m: "ln_final"),
    (r"encoder\.layers", lambda m: "transformer.resblocks"),
    (r"layer_norm([12])", lambda m: f"ln_{m[1]}"),
    (r"self_attn", lambda m: "attn"),
    (r"mlp\.fc1", lambda m: "mlp.c_fc"),
    (r"mlp\.fc2", lambda m: "mlp.c_proj"),
]


def save(file: Path, model: StableDiffusion, second: bool = False, **metadata: str) -> Path:
    """Write ``model``; a ``second`` generation with OpenCLIP's names and its last layer unread."""
    weights = dict(_unet(model))
    for key, weight in model.vae.state_dict().items():
        conv = weight[..., None, None] if "attentions" in key and weight.ndim == 2 else weight
        weights[f"first_stage_model.{_rename(key, VAE)}"] = conv
    text = {k.removeprefix("text_model."): v for k, v in model.text_encoder.state_dict().items()}
    weights |= dict(_open_clip(text)) if second else {
        f"cond_stage_model.transformer.text_model.{key}": weight for key, weight in text.items()
    }  # fmt: skip
    written = {name.replace("__", "."): value for name, value in metadata.items()}
    save_file({key: weight.clone().contiguous() for key, weight in weights.items()}, file, written)
    model.tokenizer.save_pretrained(file.parent / "tokenizer")
    return file


def _unet(model: StableDiffusion) -> Iterator[tuple[str, Tensor]]:
    group = model.unet.config.layers_per_block + 1
    for key, weight in model.unet.state_dict().items():
        if side := re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)(\.conv(?=\.))?", key):
            down, block, kind, j = side[1] == "down", int(side[2]), side[3], int(side[4])
            start = block * group + (1 if down else 0)
            place = {
                "resnets": f"{start + j}.0",
                "attentions": f"{start + j}.1",
                "downsamplers": f"{start + group - 1}.0.op",
                "upsamplers": f"{start + group - 1}.2.conv",
            }[kind]
            key = f"{'input' if down else 'output'}_blocks.{place}{key[side.end() :]}"
            key = key if kind == "resnets" else f"={key}"  # its norms have names of their own
        elif "attentions" in key:
            key = "=" + key.replace("mid_block.attentions.0", "middle_block.1")
        name = key[1:] if key.startswith("=") else _rename(key, UNET)
        yield f"model.diffusion_model.{name}", weight


def _open_clip(text: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    prefix = "cond_stage_model.model."
    layers = 1 + max(int(m[1]) for key in text if (m := re.search(r"layers\.(\d+)", key)))
    text |= {  # one more, which is never read
        key.replace("layers.0", f"layers.{layers}"): torch.randn_like(weight)
        for key, weight in text.items()
        if "layers.0" in key
    }
    for key, weight in text.items():
        if "q_proj" in key:
            parts = [text[key.replace("q_proj", f"{kind}_proj")] for kind in "qkv"]
            name = _rename(key, OPEN_CLIP).replace("q_proj.", "in_proj_")
            yield prefix + name, torch.cat(parts)
        elif "k_proj" not in key and "v_proj" not in key:
            yield prefix + _rename(key, OPEN_CLIP), weight


def _rename(key: str, names: list) -> str:  # type: ignore[type-arg]
    for pattern, name in names:
        key = re.sub(pattern, name, key)
    return key
