"""A checkpoint in one ``.safetensors`` file, in the layout Stable Diffusion was released in.

Such a file holds weights and no configuration. All of it follows from the shapes of the weights and
from the generation, which the kind of text encoder tells: the hub is never asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from zerocon.errors import CommandError, MissingError, ModelNotFoundError, UnsupportedModelError
from zerocon.model.families import NOISE, UNDERSTOOD
from zerocon.model.loading import find_part, hush, reading
from zerocon.settings import DEFAULT_CLIP

if TYPE_CHECKING:
    import torch
    from torch import Tensor

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
PARTS = {UNET: "U-Net", VAE: "VAE", TEXT: "text encoder"}
CLIP, OPEN_CLIP = f"{TEXT}transformer.text_model.", f"{TEXT}model."  # of 1.x, of 2.x
OTHERS = {  # how keys begin that only one family has, with the U-Net's prefix left away
    "conditioner.": "Stable Diffusion XL",
    "label_emb.": "Stable Diffusion XL",
    "joint_blocks.": "Stable Diffusion 3",
    "double_blocks.": "Flux",
    "lora_": "a LoRA, an addition to a model,",
}
HEAD = 64  # features of a head in every text encoder, and in the U-Net of 2.x
HEADS = 8  # in every layer of the U-Net of 1.x
SIZES = {"epsilon": 512, "v_prediction": 768}  # pictures that the released models were trained on

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Checkpoint:
    """A file, the shapes of what is in it, and what it says about itself."""

    file: Path
    shapes: Shapes
    metadata: Mapping[str, str]

    @classmethod
    def open(cls, file: Path) -> Checkpoint:
        """Read shapes only. ``ValueError`` for what is not a whole Stable Diffusion 1.x or 2.x."""
        try:
            with safe_open(file, framework="pt") as weights:
                shapes = {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}
                metadata = weights.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise UnsupportedModelError(f"cannot read {file} as a checkpoint: {error}") from error
        for beginning, family in OTHERS.items():
            if any(key.removeprefix(UNET).startswith(beginning) for key in shapes):
                raise UnsupportedModelError(f"{file} is {family}; {UNDERSTOOD}".replace(",;", ";"))
        for prefix, part in PARTS.items():
            if not any(key.startswith(prefix) for key in shapes):
                raise UnsupportedModelError(
                    f"{file} is no whole Stable Diffusion checkpoint: no {part} ({prefix}*) in it"
                )
        return cls(file, shapes, metadata)

    @property
    def second(self) -> bool:
        """Whether it is of the second generation, whose text encoder is OpenCLIP's."""
        return any(key.startswith(OPEN_CLIP) for key in self.shapes)

    def weights(self, prefix: str) -> dict[str, Tensor]:
        """The tensors of one part, under their own names."""
        with safe_open(self.file, framework="pt") as weights:
            return {key: weights.get_tensor(key) for key in self.shapes if key.startswith(prefix)}

    def prediction(self) -> str:
        """What the U-Net predicts, as far as the file or the configuration beside it says so.

        ``ValueError`` for a second generation that does not say: both kinds look the same.
        """
        said = self.metadata.get("modelspec.prediction_type", "")
        if said.startswith("v") or "v_pred" in self.shapes:
            return "v_prediction"
        beside = self.file.with_suffix(".yaml")
        if beside.is_file():
            is_v = re.search(r"""parameterization:\s*["']?v\b""", beside.read_text())
            return "v_prediction" if is_v else "epsilon"
        if self.second and not said.startswith("eps"):
            raise CommandError(
                f"{self.file} does not say what it predicts; add --prediction epsilon (as the "
                "512 px models of 2.x do) or --prediction v_prediction (the 768 px ones)"
            )
        return "epsilon"

    def size(self, prediction: str) -> int:
        """The side of picture it was trained on: its own word, or its generation's."""
        said = re.fullmatch(r"(\d+)x\d+", self.metadata.get("modelspec.resolution", ""))
        return int(said[1]) if said else SIZES[prediction] if self.second else SIZES["epsilon"]

    def unet(self, size: int) -> dict[str, Any]:
        """diffusers' configuration of the U-Net."""
        levels: list[list[int]] = [[]]  # numbers of input blocks, level by level
        blocks = _count(self.shapes, rf"{UNET}input_blocks\.(\d+)\.")
        for i in range(1, blocks):
            if f"{UNET}input_blocks.{i}.0.op.weight" in self.shapes:
                levels.append([])
            else:
                levels[-1].append(i)
        block = f"{UNET}input_blocks.{{}}."
        attn = block + "1.transformer_blocks.0.attn2.to_k.weight"
        seeing = [attn.format(level[0]) in self.shapes for level in levels]
        widths = [self.shapes[block.format(n[0]) + "0.out_layers.3.weight"][0] for n in levels]
        first = levels[seeing.index(True)][0]
        down = ["CrossAttnDownBlock2D" if sees else "DownBlock2D" for sees in seeing]
        up = ["CrossAttnUpBlock2D" if sees else "UpBlock2D" for sees in reversed(seeing)]
        return {
            "sample_size": size // 2 ** (len(self.vae()["block_out_channels"]) - 1),
            "in_channels": self.shapes[f"{UNET}input_blocks.0.0.weight"][1],
            "block_out_channels": widths,
            "layers_per_block": len(levels[0]),
            "down_block_types": down,
            "up_block_types": up,
            "cross_attention_dim": self.shapes[attn.format(first)][1],
            "attention_head_dim": [w // HEAD for w in widths] if self.second else HEADS,
            "use_linear_projection": len(self.shapes[block.format(first) + "1.proj_in.weight"])
            == 2,
            "upcast_attention": self.second,  # 2.1 overflows float16 without, 2.0 is none the worse
        }

    def vae(self) -> dict[str, Any]:
        """diffusers' configuration of the VAE."""
        level = f"{VAE}encoder.down."
        levels = _count(self.shapes, rf"{level}(\d+)\.")
        return {
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "block_out_channels": [
                self.shapes[f"{level}{i}.block.0.conv1.weight"][0] for i in range(levels)
            ],
            "layers_per_block": _count(self.shapes, rf"{level}0\.block\.(\d+)\."),
            "latent_channels": self.shapes[f"{VAE}post_quant_conv.weight"][0],
        }

    def text(self) -> dict[str, Any]:
        """transformers' configuration of the text encoder."""
        if self.second:
            layers = f"{OPEN_CLIP}transformer.resblocks."
            words, places = f"{OPEN_CLIP}token_embedding.weight", f"{OPEN_CLIP}positional_embedding"
            inner, act = "0.mlp.c_fc.weight", "gelu"
        else:
            layers, embeddings = f"{CLIP}encoder.layers.", f"{CLIP}embeddings."
            words, places = (
                f"{embeddings}{kind}_embedding.weight" for kind in ("token", "position")
            )
            inner, act = "0.mlp.fc1.weight", "quick_gelu"
        vocabulary, width = self.shapes[words]
        return {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": self.shapes[layers + inner][0],
            # 2.x reads the last layer but one, so that the last one is left out
            "num_hidden_layers": _count(self.shapes, rf"{layers}(\d+)\.") - self.second,
            "num_attention_heads": max(1, width // HEAD),
            "max_position_embeddings": self.shapes[places][0],
            "hidden_act": act,
        }


def read(
    file: Path, name: str, dtype: torch.dtype, prediction: str | None = None
) -> dict[str, Any]:
    """The networks, tokenizer and scheduler of a file, by name as ``StableDiffusion`` takes them.

    The tokenizer, which no such file holds, is the folder ``tokenizer`` beside it or else that of
    the default CLIP. ``MissingError`` where neither is here or the file lacks some weights.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
    from transformers import CLIPTextModel

    hush()
    single = Checkpoint.open(file)
    prediction = prediction or single.prediction()
    tokenizer = _tokenizer(single)
    with TemporaryDirectory() as folder:
        sizes = {"unet": single.unet(single.size(prediction)), "vae": single.vae()}
        for part, config in (sizes | {"text_encoder": single.text()}).items():
            (Path(folder) / part).mkdir()
            (Path(folder) / part / "config.json").write_text(json.dumps(config))
        here: dict[str, Any] = {"config": folder, "local_files_only": True, "torch_dtype": dtype}
        with reading(name):
            parts = {
                "unet": UNet2DConditionModel.from_single_file(
                    single.weights(UNET), subfolder="unet", **here
                ),
                "vae": AutoencoderKL.from_single_file(single.weights(VAE), subfolder="vae", **here),
                "text_encoder": create_diffusers_clip_model_from_ldm(
                    CLIPTextModel, single.weights(TEXT), subfolder="text_encoder", **here
                ),
            }
    for part, network in parts.items():
        lacking = [name for name, weight in network.named_parameters() if weight.is_meta]
        if lacking:
            raise ModelNotFoundError(
                f"{name} is not complete: there is no {lacking[0]} for the {part}"
            )
    end = "ztsnr" in single.shapes  # the mark that trainers leave for zero terminal SNR
    spaced = {"rescale_betas_zero_snr": end, "timestep_spacing": "trailing" if end else "leading"}
    scheduler = DDIMScheduler(**NOISE, **spaced, prediction_type=prediction)
    return {**parts, "tokenizer": tokenizer, "scheduler": scheduler}


def _tokenizer(single: Checkpoint) -> Any:
    from transformers import CLIPTokenizer

    beside = single.file.parent / "tokenizer"
    said = {"pad_token": "!"} if single.second else {}  # word 0, which OpenCLIP pads with
    try:
        folder = beside if beside.is_dir() else find_part(DEFAULT_CLIP)
        length = single.text()["max_position_embeddings"]
        return CLIPTokenizer.from_pretrained(folder, model_max_length=length, **said)
    except (MissingError, OSError):
        raise ModelNotFoundError(
            f"{single.file} needs the tokenizer of {DEFAULT_CLIP}; get it with: "
            f"zerocon models pull {DEFAULT_CLIP}"
        ) from None


def _count(shapes: Shapes, pattern: str) -> int:
    """How many there are of what is numbered from 0 at the beginning of keys."""
    return len({match[1] for key in shapes if (match := re.match(pattern, key))})
