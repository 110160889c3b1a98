"""Single-file checkpoints in the layout that Stable Diffusion was released in.

Such a file holds weights and no configuration. The configuration follows from the shapes of the
weights and from the generation (1.x or 2.x), which the text encoder's type gives away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from zerocon.errors import CommandError, MissingError, ModelNotFoundError, UnsupportedModelError
from zerocon.model.families import UNET_PREFIX, family_of_keys
from zerocon.model.loading import disable_progress_bars, find_part, model_errors, read_header
from zerocon.settings import DEFAULT_CLIP

if TYPE_CHECKING:
    import torch
    from torch import Tensor

UNET, VAE, TEXT = UNET_PREFIX, "first_stage_model.", "cond_stage_model."
PARTS = {UNET: "U-Net", VAE: "VAE", TEXT: "text encoder"}
CLIP, OPEN_CLIP = f"{TEXT}transformer.text_model.", f"{TEXT}model."  # of 1.x, of 2.x
HEAD_WIDTH = 64  # features per head in every text encoder, and in the U-Net of 2.x
HEADS = 8  # in every layer of the U-Net of 1.x
SIZES = {"epsilon": 512, "v_prediction": 768}  # pixels a side that the released models trained on
SCHEDULER: dict[str, Any] = {  # of every Stable Diffusion that was released
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Checkpoint:
    """A single-file checkpoint's header.

    Attributes:
        file: Where it is.
        shapes: Shapes of the tensors by key.
        metadata: As trainers write it, for instance ``modelspec.prediction_type``.
    """

    file: Path
    shapes: Shapes
    metadata: Mapping[str, str]

    @classmethod
    def open(cls, file: Path) -> Checkpoint:
        """Read the header.

        Raises:
            UnsupportedModelError: It is not a complete Stable Diffusion 1.x or 2.x.
        """
        header = read_header(file)
        family_of_keys(str(file), header.shapes)
        for prefix, part in PARTS.items():
            if not any(key.startswith(prefix) for key in header.shapes):
                raise UnsupportedModelError(
                    f"{file} is not a complete Stable Diffusion checkpoint: no {part} ({prefix}*) "
                    "in it"
                )
        return cls(file, *header)

    @property
    def is_v2(self) -> bool:
        """Whether it is Stable Diffusion 2.x, whose text encoder is OpenCLIP's."""
        return any(key.startswith(OPEN_CLIP) for key in self.shapes)

    def weights(self, prefix: str) -> dict[str, Tensor]:
        """The tensors of one part, by key."""
        with safe_open(self.file, framework="pt") as weights:
            return {key: weights.get_tensor(key) for key in self.shapes if key.startswith(prefix)}

    def prediction(self) -> str:
        """What the U-Net predicts: from the metadata, or a ``.yaml`` file of the same name.

        Raises:
            CommandError: It is a 2.x model of which neither says it; the weights do not.
        """
        stated = self.metadata.get("modelspec.prediction_type", "")
        if stated.startswith("v") or "v_pred" in self.shapes:
            return "v_prediction"
        config = self.file.with_suffix(".yaml")
        if config.is_file():
            is_v = re.search(r"""parameterization:\s*["']?v\b""", config.read_text())
            return "v_prediction" if is_v else "epsilon"
        if self.is_v2 and not stated.startswith("eps"):
            raise CommandError(
                f"{self.file} does not say what it predicts; add --prediction epsilon (as the "
                "512 px models of 2.x do) or --prediction v_prediction (the 768 px ones)"
            )
        return "epsilon"

    def size(self, prediction: str) -> int:
        """Pixels a side of the images it was trained on, from the metadata or the generation."""
        stated = re.fullmatch(r"(\d+)x\d+", self.metadata.get("modelspec.resolution", ""))
        return int(stated[1]) if stated else SIZES[prediction] if self.is_v2 else SIZES["epsilon"]

    def unet_config(self, size: int) -> dict[str, Any]:
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
        attends = [attn.format(level[0]) in self.shapes for level in levels]
        widths = [self.shapes[block.format(n[0]) + "0.out_layers.3.weight"][0] for n in levels]
        first = levels[attends.index(True)][0]
        down = ["CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attends]
        up = ["CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attends)]
        return {
            "sample_size": size // 2 ** (len(self.vae_config()["block_out_channels"]) - 1),
            "in_channels": self.shapes[f"{UNET}input_blocks.0.0.weight"][1],
            "block_out_channels": widths,
            "layers_per_block": len(levels[0]),
            "down_block_types": down,
            "up_block_types": up,
            "cross_attention_dim": self.shapes[attn.format(first)][1],
            "attention_head_dim": [w // HEAD_WIDTH for w in widths] if self.is_v2 else HEADS,
            "use_linear_projection": len(self.shapes[block.format(first) + "1.proj_in.weight"])
            == 2,
            "upcast_attention": self.is_v2,  # 2.1 overflows float16 without
        }

    def vae_config(self) -> dict[str, Any]:
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

    def text_config(self) -> dict[str, Any]:
        """transformers' configuration of the text encoder."""
        if self.is_v2:
            layers = f"{OPEN_CLIP}transformer.resblocks."
            tokens, positions = (
                f"{OPEN_CLIP}token_embedding.weight",
                f"{OPEN_CLIP}positional_embedding",
            )
            inner, act = "0.mlp.c_fc.weight", "gelu"
        else:
            layers, embeddings = f"{CLIP}encoder.layers.", f"{CLIP}embeddings."
            tokens, positions = (
                f"{embeddings}{kind}_embedding.weight" for kind in ("token", "position")
            )
            inner, act = "0.mlp.fc1.weight", "quick_gelu"
        vocabulary, width = self.shapes[tokens]
        return {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": self.shapes[layers + inner][0],
            # 2.x uses the output of the last layer but one, so the last one is left out
            "num_hidden_layers": _count(self.shapes, rf"{layers}(\d+)\.") - self.is_v2,
            "num_attention_heads": max(1, width // HEAD_WIDTH),
            "max_position_embeddings": self.shapes[positions][0],
            "hidden_act": act,
        }


def read_checkpoint(
    file: Path, name: str, dtype: torch.dtype, prediction: str | None = None
) -> dict[str, Any]:
    """Networks, tokenizer and scheduler of a Stable Diffusion file, by argument name.

    Arguments as in ``loading.read_folder``. The tokenizer, which such a file does not hold, is in
    the directory ``tokenizer`` of the same parent, or else that of the default CLIP.

    Raises:
        ModelNotFoundError: There is no tokenizer, or weights are missing.
        UnsupportedModelError: It is damaged or of another family.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
    from transformers import CLIPTextModel

    disable_progress_bars()
    checkpoint = Checkpoint.open(file)
    prediction = prediction or checkpoint.prediction()
    tokenizer = _tokenizer(checkpoint)
    with TemporaryDirectory() as folder:
        _write_configs(Path(folder), checkpoint, checkpoint.size(prediction))
        options: dict[str, Any] = {"config": folder, "local_files_only": True, "torch_dtype": dtype}
        with model_errors(name):
            parts = {
                "unet": UNet2DConditionModel.from_single_file(
                    checkpoint.weights(UNET), subfolder="unet", **options
                ),
                "vae": AutoencoderKL.from_single_file(
                    checkpoint.weights(VAE), subfolder="vae", **options
                ),
                "text_encoder": create_diffusers_clip_model_from_ldm(
                    CLIPTextModel, checkpoint.weights(TEXT), subfolder="text_encoder", **options
                ),
            }
    _check_complete(parts, name)
    zero_snr = "ztsnr" in checkpoint.shapes  # trainers mark zero terminal SNR with this key
    scheduler = DDIMScheduler(
        **SCHEDULER,
        rescale_betas_zero_snr=zero_snr,
        timestep_spacing="trailing" if zero_snr else "leading",
        prediction_type=prediction,
    )
    return {**parts, "tokenizer": tokenizer, "scheduler": scheduler}


def _write_configs(folder: Path, checkpoint: Checkpoint, size: int) -> None:
    """Write each network's configuration where diffusers expects it."""
    configs = {
        "unet": checkpoint.unet_config(size),
        "vae": checkpoint.vae_config(),
        "text_encoder": checkpoint.text_config(),
    }
    for part, config in configs.items():
        (folder / part).mkdir()
        (folder / part / "config.json").write_text(json.dumps(config))


def _check_complete(parts: dict[str, Any], name: str) -> None:
    for part, network in parts.items():
        missing = [name for name, weight in network.named_parameters() if weight.is_meta]
        if missing:
            raise ModelNotFoundError(
                f"{name} is not complete: there is no {missing[0]} for the {part}"
            )


def _tokenizer(checkpoint: Checkpoint) -> Any:
    from transformers import CLIPTokenizer

    bundled = checkpoint.file.parent / "tokenizer"
    changed = {"pad_token": "!"} if checkpoint.is_v2 else {}  # token 0, which OpenCLIP pads with
    try:
        folder = bundled if bundled.is_dir() else find_part(DEFAULT_CLIP)
        length = checkpoint.text_config()["max_position_embeddings"]
        return CLIPTokenizer.from_pretrained(folder, model_max_length=length, **changed)
    except (MissingError, OSError):
        raise ModelNotFoundError(
            f"{checkpoint.file} needs the tokenizer of {DEFAULT_CLIP}; get it with: "
            f"zerocon models pull {DEFAULT_CLIP}"
        ) from None


def _count(shapes: Shapes, pattern: str) -> int:
    """Number of distinct first groups of ``pattern`` in the keys."""
    return len({match[1] for key in shapes if (match := re.match(pattern, key))})
