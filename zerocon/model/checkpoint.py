"""Single-file checkpoints in the layout that Stable Diffusion was released in.

Such a file holds weights and no configuration. The configuration follows from the shapes of the
weights and from the generation (1.x or 2.x), which the text encoder's type gives away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerocon.errors import CommandError, MissingError, ModelNotFoundError, UnsupportedModelError
from zerocon.model.config import CONFIG_BYTES
from zerocon.model.families import UNET_PREFIX, family_of_keys, require_networks
from zerocon.model.identify import require_base_model
from zerocon.model.loading import (
    Header,
    disable_progress_bars,
    find_part,
    model_errors,
    read_header,
)
from zerocon.model.weights import COMPILED, StoredTensor, require_expected
from zerocon.settings import DEFAULT_CLIP
from zerocon.storage.bounded import read_text

if TYPE_CHECKING:
    import torch

    from zerocon.model.networks import NetworkPlan

UNET, VAE, TEXT = UNET_PREFIX, "first_stage_model.", "cond_stage_model."
PARTS = {UNET: "U-Net", VAE: "VAE", TEXT: "text encoder"}
CLIP, OPEN_CLIP = f"{TEXT}transformer.text_model.", f"{TEXT}model."  # of 1.x, of 2.x
HEAD_WIDTH = 64  # features per head in every text encoder, and in the U-Net of 2.x
HEADS = 8  # in every layer of the U-Net of 1.x
SIZES = {"epsilon": 512, "v_prediction": 768}  # pixels a side that the released models trained on
RELEASED_VAE_LEVELS = 4
NO_VAE = "; give one: --vae FILE"
OPEN_CLIP_NAMES = (  # of OpenCLIP's text encoder, and of transformers'
    (r"^token_embedding\.", "embeddings.token_embedding."),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^ln_final\.", "final_layer_norm."),
    (r"^transformer\.resblocks\.", "encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.", ".self_attn."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
SCHEDULER: dict[str, Any] = {  # of every Stable Diffusion that was released
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}

# Names of other programs for the same weights, in the order in which they are replaced.
OLD_TEXT = r"^cond_stage_model\.transformer\.(?=embeddings\.|encoder\.|final_layer_norm\.)"
RENAMED = (
    (r"^(?:module\.|model\.(?=module\.|model\.|first_stage_model\.|cond_stage_model\.))+", ""),
    (r"^diffusion_model\.", UNET_PREFIX),
    (OLD_TEXT, "cond_stage_model.transformer.text_model."),
    (r"^vae\.", "first_stage_model."),
)
VAE_ATTENTION = re.compile(rf"^{re.escape('first_stage_model.')}.*\.mid\.attn_1\.")
VAE_RENAMED = (  # its attention in names of diffusers
    (r"\.group_norm\.", ".norm."),
    (r"\.(?:to_q|query)\.", ".q."),
    (r"\.(?:to_k|key)\.", ".k."),
    (r"\.(?:to_v|value)\.", ".v."),
    (r"\.(?:to_out\.0|proj_attn)\.", ".proj_out."),
)

Shape = tuple[int, ...]


class Shapes(dict[str, Shape]):
    """Shapes by key, of which a missing one is an error about the file."""

    def __missing__(self, key: str) -> Shape:
        raise ModelNotFoundError(f"the checkpoint is not complete: there is no {key}")


@dataclass(frozen=True)
class Checkpoint:
    """A single-file checkpoint's header.

    Attributes:
        file: Where it is.
        shapes: Shapes of the tensors by key, in the names that Stable Diffusion was released with.
        metadata: As trainers write it, for instance ``modelspec.prediction_type``.
        tensors: Where they are, by the same keys.
    """

    file: Path
    shapes: Mapping[str, Shape]
    metadata: Mapping[str, str]
    tensors: Mapping[str, StoredTensor] = field(default_factory=dict)

    @classmethod
    def open(cls, file: Path, *, without_vae: bool = False) -> Checkpoint:
        """Read the header.

        Args:
            file: The checkpoint.
            without_vae: The VAE is another file's, and need not be in this one.

        Raises:
            UnsupportedModelError: It is not a complete Stable Diffusion 1.x or 2.x.
        """
        header = read_header(file)
        checkpoint = cls.of(file, header)
        family_of_keys(str(file), checkpoint.shapes)
        require_base_model(str(file), checkpoint.shapes)
        for prefix, part in PARTS.items():
            if prefix == VAE and without_vae:
                continue
            if not any(key.startswith(prefix) for key in checkpoint.shapes):
                raise UnsupportedModelError(
                    f"{file} is not a complete Stable Diffusion checkpoint: no {part} ({prefix}*) "
                    f"in it{NO_VAE if prefix == VAE else ''}"
                )
        return checkpoint

    @classmethod
    def of(cls, file: Path, header: Header) -> Checkpoint:
        """A checkpoint with the keys of a header under the released models' names."""
        tensors = {
            _released_name(key): StoredTensor(file, key, shape, header.dtypes[key])
            for key, shape in header.shapes.items()
        }
        shapes = Shapes({key: tensor.shape for key, tensor in tensors.items()})
        return cls(file, shapes, header.metadata, tensors)

    @property
    def is_v2(self) -> bool:
        """Whether it is Stable Diffusion 2.x, whose text encoder is OpenCLIP's."""
        return any(key.startswith(OPEN_CLIP) for key in self.shapes)

    def part(self, prefix: str) -> dict[str, StoredTensor]:
        """The tensors of one part, by key."""
        return {key: each for key, each in self.tensors.items() if key.startswith(prefix)}

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
            text = read_text(config, longest=CONFIG_BYTES)
            is_v = re.search(r"""parameterization:\s*["']?v\b""", text)
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
        blocks = _numbers(self.shapes, rf"{UNET}input_blocks\.(\d+)\.")
        if blocks != list(range(len(blocks))):
            raise ModelNotFoundError(
                f"{self.file} is not complete: it has blocks {blocks[:1]}..{blocks[-1:]} of the "
                f"U-Net, but only {len(blocks)} of them"
            )
        for i in range(1, len(blocks)):
            if f"{UNET}input_blocks.{i}.0.op.weight" in self.shapes:
                levels.append([])
            else:
                levels[-1].append(i)
        block = f"{UNET}input_blocks.{{}}."
        attn = block + "1.transformer_blocks.0.attn2.to_k.weight"
        if not all(levels):
            raise ModelNotFoundError(f"{self.file} is not complete: a level of the U-Net is empty")
        attends = [attn.format(level[0]) in self.shapes for level in levels]
        widths = [self.shapes[block.format(n[0]) + "0.out_layers.3.weight"][0] for n in levels]
        if True not in attends:
            raise UnsupportedModelError(f"{self.file} has a U-Net that takes no text")
        first = levels[attends.index(True)][0]
        down = ["CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attends]
        up = ["CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attends)]
        return {
            "sample_size": size // 2 ** (self.vae_levels - 1),
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

    @property
    def vae_levels(self) -> int:
        """Number of resolutions of the VAE; of a file without one, those of the released models."""
        return len(_numbers(self.shapes, rf"{VAE}encoder\.down\.(\d+)\.")) or RELEASED_VAE_LEVELS

    def vae_config(self) -> dict[str, Any]:
        """diffusers' configuration of the VAE."""
        level = f"{VAE}encoder.down."
        levels = self.vae_levels
        return {
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "block_out_channels": [
                self.shapes[f"{level}{i}.block.0.conv1.weight"][0] for i in range(levels)
            ],
            "layers_per_block": len(_numbers(self.shapes, rf"{level}0\.block\.(\d+)\.")),
            "latent_channels": self.shapes[f"{VAE}decoder.conv_in.weight"][1],
            "use_quant_conv": f"{VAE}quant_conv.weight" in self.shapes,
            "use_post_quant_conv": f"{VAE}post_quant_conv.weight" in self.shapes,
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
            "num_hidden_layers": len(_numbers(self.shapes, rf"{re.escape(layers)}(\d+)\."))
            - self.is_v2,
            "num_attention_heads": max(1, width // HEAD_WIDTH),
            "max_position_embeddings": self.shapes[positions][0],
            "hidden_act": act,
        }


def read_checkpoint(
    file: Path,
    name: str,
    dtype: torch.dtype,
    prediction: str | None = None,
    vae: NetworkPlan | None = None,
) -> dict[str, Any]:
    """Networks, tokenizer and scheduler of a Stable Diffusion file, by argument name.

    Arguments as in ``loading.read_folder``. The tokenizer, which such a file does not hold, is in
    the directory ``tokenizer`` of the same parent, or else that of the default CLIP.

    Raises:
        ModelNotFoundError: There is no tokenizer, or weights are missing.
        UnsupportedModelError: It is damaged or of another family.
    """
    disable_progress_bars()
    checkpoint = Checkpoint.open(file, without_vae=vae is not None)
    prediction = prediction or checkpoint.prediction()
    with model_errors(name):
        plans = plan_checkpoint(checkpoint, name, prediction, vae)
        tokenizer = _tokenizer(checkpoint)
        parts = {part: each.load(dtype) for part, each in plans.items()}
        scheduler = _scheduler(checkpoint, prediction)
    return {**parts, "tokenizer": tokenizer, "scheduler": scheduler}


def _scheduler(checkpoint: Checkpoint, prediction: str) -> Any:
    """The noise schedule of a released model, as ``DDIMScheduler``."""
    from diffusers import DDIMScheduler

    zero_snr = "ztsnr" in checkpoint.shapes  # trainers mark zero terminal SNR with this key
    return DDIMScheduler(
        **SCHEDULER,
        rescale_betas_zero_snr=zero_snr,
        timestep_spacing="trailing" if zero_snr else "leading",
        prediction_type=prediction,
    )


def plan_checkpoint(
    checkpoint: Checkpoint, name: str, prediction: str, vae: NetworkPlan | None = None
) -> dict[str, NetworkPlan]:
    """The networks of a checkpoint, by argument name, checked but not read.

    Args:
        checkpoint: The file.
        name: For messages.
        prediction: What its U-Net predicts.
        vae: Another VAE than its own.

    Raises:
        ModelNotFoundError: Weights are missing; or ``UnsupportedModelError``.
    """
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
    from transformers import CLIPTextConfig, CLIPTextModel

    from zerocon.model import networks

    config = checkpoint.unet_config(checkpoint.size(prediction))
    unet = _convert(checkpoint.part(UNET), convert_ldm_unet_checkpoint, config, "U-Net", name)
    text = CLIPTextConfig(**checkpoint.text_config())
    plans = {
        "unet": networks.plan("U-Net", name, lambda: UNet2DConditionModel(**config), unet),
        "vae": vae or plan_vae(checkpoint, name),
        "text_encoder": networks.plan(
            "text encoder", name, lambda: CLIPTextModel(text), dict(_text_tensors(checkpoint))
        ),
    }
    unet_network, vae_network, text_network = (each.network for each in plans.values())
    networks.require_networks_fit(name, unet_network, vae_network, text_network)
    require_networks(name, unet_network, vae_network, _scheduler(checkpoint, prediction))
    return plans


def plan_vae(checkpoint: Checkpoint, name: str) -> NetworkPlan:
    """The VAE of a checkpoint, checked but not read."""
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    from zerocon.model import networks

    config = checkpoint.vae_config()
    vae = _convert(checkpoint.part(VAE), convert_ldm_vae_checkpoint, config, "VAE", name)
    return networks.plan("VAE", name, lambda: AutoencoderKL(**config), vae)


def _convert(
    tensors: Mapping[str, StoredTensor],
    convert: Callable[..., Mapping[str, Any]],
    config: Mapping[str, Any],
    part: str,
    name: str,
) -> dict[str, StoredTensor]:
    """Tensors under diffusers' names, by a function of diffusers that renames weights.

    It is given tensors without values. Those that it does not return have no place in the network.

    Raises:
        UnsupportedModelError: There are such tensors.
    """
    import torch

    empty = {k: torch.empty(each.shape, device="meta") for k, each in tensors.items()}
    keys = {id(tensor): key for key, tensor in empty.items()}
    renamed = {}
    try:
        converted = convert(empty, config)
    except KeyError as error:
        raise ModelNotFoundError(f"{name} is not complete: the {part} lacks {error}") from error
    for target, tensor in converted.items():
        if tensor is not None:  # None where diffusers did not find one
            source = tensor if tensor._base is None else tensor._base  # a view of another shape
            renamed[target] = tensors[keys[id(source)]]
    used = {tensor.key for tensor in renamed.values()}
    require_expected(part, name, [each.key for each in tensors.values() if each.key not in used])
    return renamed


def _text_tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, StoredTensor]]:
    """The text encoder's tensors under transformers' names."""
    if not checkpoint.is_v2:
        for key, tensor in checkpoint.part(CLIP).items():
            yield key.removeprefix(CLIP), tensor
        return
    for key, tensor in checkpoint.part(OPEN_CLIP).items():
        target = key.removeprefix(OPEN_CLIP)
        for pattern, replacement in OPEN_CLIP_NAMES:
            target = re.sub(pattern, replacement, target)
        if match := re.fullmatch(r"(.*)\.in_proj_(weight|bias)", target):
            for letter, third in zip("qkv", tensor.split(), strict=True):
                yield f"{match[1]}.{letter}_proj.{match[2]}", third
        else:
            yield target, tensor


def _released_name(key: str) -> str:
    """A key as the released models name it."""
    key = key.replace(COMPILED, "")
    for pattern, replacement in RENAMED:
        key = re.sub(pattern, replacement, key)
    if VAE_ATTENTION.match(key):
        for pattern, replacement in VAE_RENAMED:
            key = re.sub(pattern, replacement, key)
    return key


def _tokenizer(checkpoint: Checkpoint) -> Any:
    from transformers import CLIPTokenizer

    from zerocon.model.tokenizing import load_tokenizer

    bundled = checkpoint.file.parent / "tokenizer"
    changed = {"pad_token": "!"} if checkpoint.is_v2 else {}  # token 0, which OpenCLIP pads with
    try:
        folder = bundled if bundled.is_dir() else find_part(DEFAULT_CLIP)
    except MissingError:
        raise ModelNotFoundError(
            f"{checkpoint.file} needs the tokenizer of {DEFAULT_CLIP}; get it with: "
            f"zerocon models pull {DEFAULT_CLIP}"
        ) from None
    config = checkpoint.text_config()
    positions, words = config["max_position_embeddings"], config["vocab_size"]
    return load_tokenizer(CLIPTokenizer, folder, str(folder), positions, words, **changed)


def _numbers(shapes: Mapping[str, Shape], pattern: str) -> list[int]:
    """The distinct first groups of ``pattern`` in the keys, in order."""
    return sorted({int(match[1]) for key in shapes if (match := re.match(pattern, key))})
