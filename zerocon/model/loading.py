"""Find a model on this machine, read a diffusers directory.

Nothing is imported from torch, diffusers or transformers before weights are read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError, safe_open

from zerocon.errors import (
    ModelNotFoundError,
    PickleRefusedError,
    UnsupportedModelError,
    ZeroconError,
    about,
    classify,
)
from zerocon.model.families import (
    Family,
    family_of_keys,
    family_of_pipeline,
    require_scheduler,
)

if TYPE_CHECKING:
    import torch

NETWORKS = ("unet", "vae", "text_encoder")
PARTS = (*NETWORKS, "tokenizer", "scheduler")
VOCABULARIES = ("tokenizer.json", "vocab.json")
PICKLES = (".ckpt", ".bin", ".pt", ".pth")
WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
VARIANT = "fp16"  # the one variant of use: half the bytes, and no visible difference
SUFFIXES = (".json", ".txt", ".safetensors")
# One model is loaded at a time: both libraries change torch's default dtype of the whole process.
LOAD_LOCK = RLock()


class Header(NamedTuple):
    """What a safetensors file says about its tensors: shapes by key, and its metadata."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def find(name: str) -> Path:
    """The path of a diffusion model.

    Args:
        name: ``mini`` (the embedded model), a diffusers directory, a ``.safetensors`` file, or a
            hub id whose files are in the hub's cache.

    Raises:
        ModelNotFoundError: It is not on this machine.
        PickleRefusedError: It is a pickle: opening one runs its code.
    """
    if name == "mini":
        from zerocon import mini

        return mini.path()
    instead = "or use the embedded model: --model mini"
    path = Path(name).expanduser()
    if path.suffix.lower() in PICKLES and not path.is_dir():
        raise PickleRefusedError(_pickle_message(path))
    if path.suffix.lower() == ".safetensors":
        if not path.is_file():
            raise ModelNotFoundError(f"there is no file {name}; {instead}")
        return path
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ModelNotFoundError(
                f"{name} is not a diffusers directory (no model_index.json); {instead}"
            )
        return path
    return _find_cached(name, "model_index.json", f", {instead}")


def find_part(name: str) -> Path:
    """The directory of a captioner, CLIP or segmentation model: local, or in the hub's cache."""
    path = Path(name).expanduser()
    return path if path.is_dir() else _find_cached(name, "config.json", "")


def family_of(path: Path, name: str) -> Family:
    """The family of a model that ``find`` returned.

    Raises:
        UnsupportedModelError: The family is unknown or not supported, or the file is damaged.
    """
    if path.is_file():
        return family_of_keys(str(path), read_header(path).shapes)
    with model_errors(name):
        return family_of_pipeline(name, _class_name(path / "model_index.json"))


def read_header(file: Path) -> Header:
    """Shapes and metadata of a single-file checkpoint; ``UnsupportedModelError`` if damaged."""
    try:
        with safe_open(file, framework="np") as weights:
            shapes = {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}
            return Header(shapes, weights.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UnsupportedModelError(f"cannot read {file} as a checkpoint: {error}") from error


def read_folder(
    folder: Path, name: str, dtype: torch.dtype, prediction: str | None = None
) -> dict[str, Any]:
    """Networks, tokenizer and scheduler of a Stable Diffusion directory, by argument name.

    Args:
        folder: In diffusers' layout.
        name: For error messages.
        dtype: Of the networks.
        prediction: What the U-Net predicts, instead of what the scheduler's configuration says.

    Raises:
        ModelNotFoundError: A part is missing; or ``UnsupportedModelError``, ``PickleRefusedError``.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    disable_progress_bars()
    _require_parts(folder, name)
    changed = {} if prediction is None else {"prediction_type": prediction}

    def options(part: str) -> dict[str, Any]:  # without them a pickle may be preferred
        return {"use_safetensors": True, "variant": variant(folder / part, WEIGHTS[part])}

    with model_errors(name):
        require_scheduler(name, _class_name(folder / "scheduler" / "scheduler_config.json"))
        return {
            "unet": UNet2DConditionModel.from_pretrained(
                folder / "unet", torch_dtype=dtype, **options("unet")
            ),
            "vae": AutoencoderKL.from_pretrained(
                folder / "vae", torch_dtype=dtype, **options("vae")
            ),
            "text_encoder": CLIPTextModel.from_pretrained(
                folder / "text_encoder", dtype=dtype, **options("text_encoder")
            ),
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler", **changed),
        }


@contextmanager
def model_errors(name: str) -> Iterator[None]:
    """Load files of model ``name``, one model at a time; turn libraries' errors into ours."""
    with about(local_path(name)):
        try:
            with LOAD_LOCK:
                yield
        except (OSError, SafetensorError, ValueError, RuntimeError) as error:
            if classify(error) not in (ZeroconError, None):  # ours already, or not about the files
                raise
            reason = str(error).strip().partition("\n")[0]
            if isinstance(error, OSError | SafetensorError):
                raise ModelNotFoundError(f"{name} is not complete: {reason}") from error
            raise UnsupportedModelError(f"{name} is damaged: {reason}") from error


def variant(part: Path, name: str) -> str | None:
    """``fp16`` where a part's weights exist in that precision only."""
    full = any((part / each).exists() for each in (name, f"{name}.index.json"))
    half = name.replace(".safetensors", f".{VARIANT}.safetensors")
    return VARIANT if not full and (part / half).exists() else None


def refuse_pickles(folder: Path) -> None:
    """Raise ``PickleRefusedError`` if the only weights in a network's directory are pickles."""
    pickles = sorted(folder.glob("*.bin"))
    if pickles and not any(folder.glob("*.safetensors")):
        raise PickleRefusedError(_pickle_message(pickles[0]))


def files_to_download(files: Collection[str]) -> list[str]:
    """The files of a repository that are needed: no pickles, no weights twice.

    Of a pipeline these are its parts, without the safety checker and without the whole model as
    one file; of weights in several precisions the plain ones.
    """
    chosen = [file for file in files if file.endswith(SUFFIXES)]
    if "model_index.json" in files:
        chosen = [f for f in chosen if f == "model_index.json" or f.partition("/")[0] in PARTS]
    plain = {file for file in chosen if file.endswith(".safetensors") and _stem(file) == file}
    return [file for file in chosen if file in plain or _stem(file) not in plain]


def _require_parts(folder: Path, name: str) -> None:
    for part in PARTS:
        if not (folder / part).is_dir():
            raise ModelNotFoundError(f"{name} is not complete: there is no {part} in {folder}")
    if not any((folder / "tokenizer" / file).is_file() for file in VOCABULARIES):
        # transformers would load an empty vocabulary
        raise ModelNotFoundError(
            f"{name} is not complete: the tokenizer has no {' or '.join(VOCABULARIES)}"
        )
    for part in NETWORKS:
        refuse_pickles(folder / part)


def _stem(file: str) -> str:
    """``unet/model.fp16.safetensors`` without its precision."""
    return re.sub(r"\.(fp16|fp32|bf16|non_ema)(?=\.)", "", file)


def is_hub_id(name: str) -> bool:
    """Whether ``name`` looks like owner/name."""
    return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name))


def local_path(name: str) -> Path | None:
    """The file or directory that a model's name is; None for ``mini`` and hub ids."""
    path = Path(name).expanduser()
    named = path.suffix.lower() in (".safetensors", *PICKLES)
    return path if named or (path.exists() and name != "mini") else None


def disable_progress_bars() -> None:
    """Keep the libraries' progress bars off the terminal."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()


def _class_name(config: Path) -> str:
    """The class of diffusers that a configuration is for."""
    return str(json.loads(config.read_text()).get("_class_name", "model without a class name"))


def _pickle_message(file: Path) -> str:
    """Why a pickle is refused, and how to convert it without running its code."""
    # diffusers looks for the same name with the new suffix, transformers for a shorter one
    target = "model.safetensors" if file.name == "pytorch_model.bin" else f"{file.stem}.safetensors"
    return (
        f"{file} is a pickle, which can run code when it is opened; convert it once, without "
        f'running any: python -c "import torch; from safetensors.torch import save_file; '
        f"w = torch.load('{file}', map_location='cpu', weights_only=True); "
        "save_file({k: v.clone() for k, v in w.get('state_dict', w).items() "
        f"if hasattr(v, 'clone')}}, '{file.with_name(target)}', "
        "{'format': 'pt'})\""
    )


def _find_cached(name: str, file: str, alternative: str) -> Path:
    from huggingface_hub import try_to_load_from_cache

    if not is_hub_id(name):
        raise ModelNotFoundError(
            f'no model "{name}": use mini, a diffusers directory, a .safetensors file, or a hub id '
            "such as owner/name"
        )
    path = try_to_load_from_cache(name, file)
    if isinstance(path, str | os.PathLike):
        return Path(path).parent
    raise ModelNotFoundError(
        f"{name} is not on this machine; get it with: zerocon models pull {name}{alternative}"
    )
