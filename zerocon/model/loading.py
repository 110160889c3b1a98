"""Where weights are on this machine, or in one line how to get them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from zerocon.errors import (
    ModelNotFoundError,
    PickleRefusedError,
    UnsupportedModelError,
    ZeroconError,
    classify,
)
from zerocon.model.families import require_pipeline, require_scheduler

if TYPE_CHECKING:
    import torch

NETWORKS = ("unet", "vae", "text_encoder")
PARTS = (*NETWORKS, "tokenizer", "scheduler")
WORDS = ("tokenizer.json", "vocab.json")
PICKLES = (".ckpt", ".bin", ".pt", ".pth")
WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
HALF = "fp16"  # the one variant that is of use: half the bytes, and the same picture to the eye
ENDINGS = (".json", ".txt", ".safetensors")
# One model is read at a time: torch's default dtype, which both libraries change, is everybody's.
LOADING = RLock()


def find(name: str) -> Path:
    """A diffusion model: the folder of the embedded one (``mini``), a local folder or
    ``.safetensors`` file, or a folder in the hub's cache.

    ``MissingError`` for what is not here, ``ValueError`` for a pickle: opening one runs its code.
    """
    if name == "mini":
        from zerocon import mini

        return mini.path()
    instead = "or use the embedded model: --model mini"
    folder = Path(name).expanduser()
    if folder.suffix.lower() in PICKLES and not folder.is_dir():
        raise PickleRefusedError(_converting(folder))
    if folder.suffix.lower() == ".safetensors":
        if not folder.is_file():
            raise ModelNotFoundError(f"there is no file {name}; {instead}")
        return folder
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise ModelNotFoundError(
                f"{name} is no diffusers folder (no model_index.json); {instead}"
            )
        return folder
    return _cached(name, "model_index.json", f", {instead}")


def find_part(name: str) -> Path:
    """The folder of a captioner or CLIP model: local, or in the hub's cache."""
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else _cached(name, "config.json", "")


def read(
    folder: Path, name: str, dtype: torch.dtype, prediction: str | None = None
) -> dict[str, Any]:
    """The networks, tokenizer and scheduler of a folder, by name as ``StableDiffusion`` takes them.

    ``MissingError`` if a part is not there, ``ValueError`` if it is of another family or a pickle.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    hush()
    with reading(name):
        require_pipeline(name, _class_name(folder / "model_index.json"))
    for part in PARTS:
        if not (folder / part).is_dir():
            raise ModelNotFoundError(f"{name} is not complete: there is no {part} in {folder}")
    if not any((folder / "tokenizer" / file).is_file() for file in WORDS):
        # transformers would take it for a language without words
        raise ModelNotFoundError(
            f"{name} is not complete: the tokenizer has no {' or '.join(WORDS)}"
        )
    for part in NETWORKS:
        pickles = sorted((folder / part).glob("*.bin"))
        if pickles and not any((folder / part).glob("*.safetensors")):
            raise PickleRefusedError(_converting(pickles[0]))
    told = {} if prediction is None else {"prediction_type": prediction}

    def how(part: str) -> dict[str, Any]:  # without it a pickle beside the weights may be taken
        return {"use_safetensors": True, "variant": variant(folder / part, WEIGHTS[part])}

    with reading(name):
        require_scheduler(name, _class_name(folder / "scheduler" / "scheduler_config.json"))
        return {
            "unet": UNet2DConditionModel.from_pretrained(
                folder / "unet", torch_dtype=dtype, **how("unet")
            ),
            "vae": AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype, **how("vae")),
            "text_encoder": CLIPTextModel.from_pretrained(
                folder / "text_encoder", dtype=dtype, **how("text_encoder")
            ),
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler", **told),
        }


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Let what libraries raise over files of ``name`` leave as an error of ours, in one line."""
    try:
        with LOADING:
            yield
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        if classify(error) not in (ZeroconError, None):  # ours already, or no fault of the files
            raise
        reason = str(error).strip().partition("\n")[0]
        if isinstance(error, OSError | SafetensorError):
            raise ModelNotFoundError(f"{name} is not complete: {reason}") from error
        raise UnsupportedModelError(f"{name} is damaged: {reason}") from error


def variant(part: Path, name: str) -> str | None:
    """``fp16`` where a part's weights are there in that precision only."""
    whole = any((part / each).exists() for each in (name, f"{name}.index.json"))
    half = name.replace(".safetensors", f".{HALF}.safetensors")
    return HALF if not whole and (part / half).exists() else None


def worth(files: Collection[str]) -> list[str]:
    """Which of a repository's files are worth getting: no pickles, nothing twice.

    Of a pipeline its parts, but for the safety checker, and not the whole model in one file beside
    them; of weights in several precisions the plain ones.
    """
    chosen = [file for file in files if file.endswith(ENDINGS)]
    if "model_index.json" in files:
        chosen = [f for f in chosen if f == "model_index.json" or f.partition("/")[0] in PARTS]
    plain = {file for file in chosen if file.endswith(".safetensors") and _stem(file) == file}
    return [file for file in chosen if file in plain or _stem(file) not in plain]


def _stem(file: str) -> str:
    """``unet/model.fp16.safetensors`` without what says which kind it is."""
    return re.sub(r"\.(fp16|fp32|bf16|non_ema)(?=\.)", "", file)


def is_hub_id(name: str) -> bool:
    """Whether ``name`` looks like owner/name."""
    return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name))


def hush() -> None:
    """Keep the libraries' loading bars off the terminal: progress is the caller's to show."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()


def _class_name(config: Path) -> str:
    """The class of diffusers that a configuration is for."""
    return str(json.loads(config.read_text()).get("_class_name", "nameless class"))


def _converting(file: Path) -> str:
    """Why a pickle is refused, and how to make something better of it without running it."""
    # diffusers look for the same name with the new ending, transformers for a shorter one
    made = "model.safetensors" if file.name == "pytorch_model.bin" else f"{file.stem}.safetensors"
    return (
        f"{file} is a pickle, which can run code when it is opened; convert it once, without "
        f'running any: python -c "import torch; from safetensors.torch import save_file; '
        f"w = torch.load('{file}', map_location='cpu', weights_only=True); "
        "save_file({k: v.clone() for k, v in w.get('state_dict', w).items() "
        f"if hasattr(v, 'clone')}}, '{file.with_name(made)}', "
        "{'format': 'pt'})\""
    )


def _cached(name: str, file: str, more: str) -> Path:
    from huggingface_hub import try_to_load_from_cache

    if not is_hub_id(name):
        raise ModelNotFoundError(
            f'no model "{name}": give mini, a diffusers folder, a .safetensors file, or a hub id '
            "such as owner/name"
        )
    cached = try_to_load_from_cache(name, file)
    if isinstance(cached, str | os.PathLike):
        return Path(cached).parent
    raise ModelNotFoundError(
        f"{name} is not on this machine; get it with: zerocon models pull {name}{more}"
    )
