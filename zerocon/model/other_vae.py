"""Another VAE than a model's own: from a directory, a file, or the Hub's cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerocon.errors import (
    MissingError,
    ModelNotFoundError,
    PickleRefusedError,
    UnsupportedModelError,
    about,
)
from zerocon.model.checkpoint import VAE, Checkpoint, plan_vae
from zerocon.model.identify import kind_of
from zerocon.model.loading import (
    Header,
    find,
    find_part,
    local_path,
    model_errors,
    read_header,
)
from zerocon.model.weights import PICKLES, StoredTensor, pickle_message

if TYPE_CHECKING:
    from zerocon.model.networks import NetworkPlan

PREFIX = re.compile(r"^.*?(?=(?:encoder|decoder)\.|(?:post_)?quant_conv\.)")
ENCODER_INPUT = "encoder.conv_in.weight"  # of both layouts


def find_vae(name: str) -> Path:
    """The directory or ``.safetensors`` file of a VAE: of its own, or of a whole model.

    Raises:
        ModelNotFoundError: It is not on this machine.
        PickleRefusedError: It is a pickle.
    """
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix.lower() in PICKLES:
            raise PickleRefusedError(pickle_message(path))
        return path
    if path.suffix.lower() == ".safetensors" and not path.is_dir():
        raise ModelNotFoundError(f"there is no file {name}")
    try:
        folder = find(name)
    except MissingError:
        folder = find_part(name)
    return folder / "vae" if (folder / "model_index.json").is_file() else folder


def plan_other_vae(name: str, dtype: str) -> NetworkPlan:
    """The VAE ``name``, checked but not read.

    Args:
        name: A directory, a file or a hub id.
        dtype: "float32", "float16" or "bfloat16".

    Raises:
        ModelNotFoundError: It is not on this machine, or not complete.
        UnsupportedModelError: It is no VAE of Stable Diffusion, or damaged.
        PickleRefusedError: It is a pickle.
    """
    from zerocon.model import networks

    with about(local_path(name)), model_errors(name):
        path = find_vae(name)
        if path.is_dir():
            return networks.plan_vae(path, name, dtype)
        header = read_header(path)
        if any(re.search(r"(?:^|\.)down_blocks\.", key) for key in header.shapes):
            return _plan_renamed(path, header, name)
        return plan_vae(_checkpoint(path, header, name), name)


def _checkpoint(file: Path, header: Header, name: str) -> Checkpoint:
    """A checkpoint with the VAE of a file, whose keys may lack the prefix."""
    checkpoint = Checkpoint.of(file, header)
    if f"{VAE}{ENCODER_INPUT}" in checkpoint.shapes:
        return checkpoint
    if ENCODER_INPUT not in checkpoint.shapes:
        kind = kind_of(header.shapes)
        raise UnsupportedModelError(f"{name} is {kind.name if kind else 'no VAE'}, not a VAE")
    shapes = {f"{VAE}{key}": shape for key, shape in checkpoint.shapes.items()}
    dtypes = {f"{VAE}{key}": each.dtype for key, each in checkpoint.tensors.items()}
    prefixed = Checkpoint.of(file, Header(shapes, dtypes, header.metadata))
    tensors = {
        key: each._replace(key=checkpoint.tensors[each.key.removeprefix(VAE)].key)
        for key, each in prefixed.tensors.items()
    }
    return Checkpoint(file, prefixed.shapes, header.metadata, tensors)


def _plan_renamed(file: Path, header: Header, name: str) -> NetworkPlan:
    """The VAE in a file with diffusers' names, whose configuration follows from the shapes."""
    from diffusers import AutoencoderKL

    from zerocon.model import networks

    tensors = {
        key: StoredTensor(file, key, shape, header.dtypes[key])
        for key, shape in header.shapes.items()
    }
    bare = {PREFIX.sub("", key, count=1): shape for key, shape in header.shapes.items()}
    config = _config(bare)
    return networks.plan("VAE", name, lambda: AutoencoderKL(**config), tensors, strict=True)


def _config(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """diffusers' configuration of a VAE with diffusers' names."""
    level = re.compile(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.conv1\.weight")
    convolutions = {
        (int(m[1]), int(m[2])): s for key, s in shapes.items() if (m := level.fullmatch(key))
    }
    if "decoder.conv_in.weight" not in shapes or (0, 0) not in convolutions:
        raise ModelNotFoundError("the VAE is not complete: it has no encoder or no decoder")
    levels = len({i for i, _ in convolutions})
    return {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [convolutions[i, 0][0] for i in range(levels)],
        "layers_per_block": len([j for i, j in convolutions if i == 0]),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }
