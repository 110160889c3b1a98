"""Find a model on this machine, read a diffusers directory.

Nothing is imported from torch, diffusers or transformers before weights are read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
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
from zerocon.model.config import LIBRARIES, printable, read_json, shorten
from zerocon.model.families import (
    Family,
    family_of_keys,
    family_of_pipeline,
    require_networks,
    require_scheduler,
)
from zerocon.model.weights import (
    PICKLES,
    PREFERENCES,
    VARIANTS,
    pickle_message,
    require_header,
)

if TYPE_CHECKING:
    import torch

    from zerocon.model.networks import NetworkPlan

NETWORKS = ("unet", "vae", "text_encoder")
PARTS = (*NETWORKS, "tokenizer", "scheduler")
SCHEDULER_CONFIG = "scheduler_config.json"
SUFFIXES = (".json", ".txt", ".safetensors")
LONGEST_REVISION = 1000  # bytes
REVISION = re.compile(r"\w[\w.-]*")  # a directory of snapshots in the Hub's cache
# One model is loaded at a time: both libraries change torch's default dtype of the whole process.
LOAD_LOCK = RLock()


class Header(NamedTuple):
    """What a safetensors file says about its tensors, by key, and its metadata."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
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
        raise PickleRefusedError(pickle_message(path))
    if path.suffix.lower() == ".safetensors" and not path.is_dir():
        if not path.is_file():
            raise ModelNotFoundError(f"there is no file {name}; {instead}")
        return path
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ModelNotFoundError(
                f"{name} is not a diffusers directory (no model_index.json{_content(path)}); "
                f"{instead}"
            )
        return path
    return _find_cached(name, "model_index.json", f", {instead}")


def _content(folder: Path) -> str:
    """What a directory has that is no pipeline, for a message; "" if that is unknown."""
    if (folder / "adapter_config.json").is_file():
        return "; it is a LoRA, an addition to a model"
    with suppress(ZeroconError):
        values = read_json(folder / "config.json", folder.name)
        kind = values.get("_class_name") or values.get("model_type")
        if isinstance(kind, str):
            option = {"AutoencoderKL": "--vae", "blip": "--captioner", "clip": "--clip"}.get(kind)
            return f"; it has {printable(kind)} alone" + (f", for {option}" if option else "")
    return ""


def find_part(name: str) -> Path:
    """The directory of a captioner, CLIP or segmentation model: local, or in the hub's cache.

    Raises:
        ModelNotFoundError: It is not on this machine, or is a file.
        PickleRefusedError: It is a pickle.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        if path.suffix.lower() in PICKLES:
            raise PickleRefusedError(pickle_message(path))
        raise ModelNotFoundError(f"{name} is a file; give the directory of the model")
    return _find_cached(name, "config.json", "")


def family_of(path: Path, name: str) -> Family:
    """The family of a model that ``find`` returned.

    Raises:
        UnsupportedModelError: The family is unknown or not supported, or the file is damaged.
    """
    if path.is_file():
        return family_of_keys(str(path), read_header(path).shapes)
    with model_errors(name):
        values = read_json(path / "model_index.json", name)
        pipeline = values.get("_class_name", "model without a class name")
        for key, value in ({"_class_name": ["", pipeline]} | values).items():
            _require_library(name, key, value)
        return family_of_pipeline(name, str(pipeline))


def _require_library(name: str, key: str, value: object) -> None:
    """Raise ``UnsupportedModelError`` if a part or pipeline is of a class in the model itself."""
    is_pipeline = key == "_class_name"
    if not is_pipeline and key not in PARTS:
        return
    module = value[0] if isinstance(value, list) and value else None
    if is_pipeline and not isinstance(value, str):
        module = module or shorten(value)
    elif is_pipeline or module is None or module in LIBRARIES:
        return
    raise UnsupportedModelError(
        f"{name} names code of its own ({shorten(module)} for {key} in model_index.json); zerocon "
        "runs no code of a model"
    )


def read_header(file: Path) -> Header:
    """Shapes and metadata of a single-file checkpoint; ``UnsupportedModelError`` if damaged."""
    try:
        require_header(file)
        with safe_open(file, framework="np") as weights:
            slices = {key: weights.get_slice(key) for key in weights.keys()}
            shapes = {key: tuple(each.get_shape()) for key, each in slices.items()}
            dtypes = {key: str(each.get_dtype()) for key, each in slices.items()}
            return Header(shapes, dtypes, weights.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UnsupportedModelError(f"cannot read {file} as a checkpoint: {error}") from error


def read_folder(
    folder: Path,
    name: str,
    dtype: torch.dtype,
    prediction: str | None = None,
    vae: NetworkPlan | None = None,
) -> dict[str, Any]:
    """Networks, tokenizer and scheduler of a Stable Diffusion directory, by argument name.

    Args:
        folder: In diffusers' layout.
        name: For error messages.
        dtype: Of the networks.
        prediction: What the U-Net predicts, instead of what the scheduler's configuration says.
        vae: Another VAE than the directory's own.

    Raises:
        ModelNotFoundError: A part is missing; or ``UnsupportedModelError``, ``PickleRefusedError``.
    """
    from transformers import CLIPTokenizer

    from zerocon.model.tokenizing import load_tokenizer

    disable_progress_bars()
    with model_errors(name):
        plans = plan_parts(folder, name, str(dtype).removeprefix("torch."), vae)
        scheduler = read_scheduler(folder, name, prediction)
        require_networks(name, plans["unet"].network, plans["vae"].network, scheduler)
        text = plans["text_encoder"].network.config
        positions, words = text.max_position_embeddings, text.vocab_size
        tokenizer = load_tokenizer(CLIPTokenizer, folder / "tokenizer", name, positions, words)
        loaded = {part: each.load(dtype) for part, each in plans.items()}
        return {**loaded, "tokenizer": tokenizer, "scheduler": scheduler}


def plan_parts(
    folder: Path, name: str, dtype: str = "float32", vae: NetworkPlan | None = None
) -> dict[str, NetworkPlan]:
    """The networks of a Stable Diffusion directory, by argument name, checked but not read.

    Args:
        folder: In diffusers' layout.
        name: For error messages.
        dtype: "float32", "float16" or "bfloat16": which variant of the weights is preferred.
        vae: Another VAE than the directory's own.

    Raises:
        ModelNotFoundError: A part is missing; or ``UnsupportedModelError``, ``PickleRefusedError``.
    """
    from zerocon.model import networks

    for part in PARTS:
        if not (folder / part).is_dir() and not (part == "vae" and vae):
            raise ModelNotFoundError(f"{name} is not complete: there is no {part} in {folder}")
    plans = {
        "unet": networks.plan_unet(folder / "unet", name, dtype),
        "vae": vae or networks.plan_vae(folder / "vae", name, dtype),
        "text_encoder": networks.plan_text_encoder(folder / "text_encoder", name, dtype),
    }
    networks.require_networks_fit(name, *(each.network for each in plans.values()))
    return plans


def read_scheduler(folder: Path, name: str, prediction: str | None = None) -> Any:
    """The scheduler of a Stable Diffusion directory, as ``DDIMScheduler``."""
    from zerocon.model import networks

    file = folder / "scheduler" / SCHEDULER_CONFIG
    require_scheduler(name, str(read_json(file, name).get("_class_name", "")))
    return networks.read_scheduler(file, name, prediction)


@contextmanager
def model_errors(name: str) -> Iterator[None]:
    """Load files of model ``name``, one model at a time; turn libraries' errors into ours.

    Every exception here is about the files, since the code is the same for all models: libraries
    raise any class for a file that they do not expect. What is about this machine is left alone.
    """
    with about(local_path(name)):
        try:
            with LOAD_LOCK:
                yield
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise  # interrupted; a panic of the Rust code of tokenizers is about a file
            if classify(error) not in (ZeroconError, None):  # ours already, or not about the files
                raise
            reason = str(error).strip().partition("\n")[0]
            if isinstance(error, OSError | SafetensorError):
                raise ModelNotFoundError(f"{name} is not complete: {reason}") from error
            if not isinstance(error, ValueError | RuntimeError):
                reason = f"{type(error).__name__}: {reason}"
            raise UnsupportedModelError(f"{name} is damaged: {reason}") from error


def files_to_download(files: Collection[str]) -> list[str]:
    """The files of a repository that are needed: no pickles, no weights twice.

    Of a pipeline these are its parts, without the safety checker and without the whole model as
    one file; of weights in several precisions the plain ones.
    """
    chosen = [file for file in files if file.endswith(SUFFIXES)]
    if "model_index.json" in files:
        chosen = [f for f in chosen if f == "model_index.json" or f.partition("/")[0] in PARTS]
    variants: dict[str, set[str | None]] = {}  # by directory
    for file in chosen:
        if _is_weights(file):
            variants.setdefault(_folder(file), set()).add(_variant(file))
    order = PREFERENCES["float32"]
    best = {folder: min(kinds, key=order.index) for folder, kinds in variants.items()}
    return [f for f in chosen if not _is_weights(f) or _variant(f) == best[_folder(f)]]


def _is_weights(file: str) -> bool:
    """Whether a file of a repository is weights, or their index."""
    return ".safetensors" in file


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


def _variant(file: str) -> str | None:
    """The variant in the name of a weight file or index: ``model.fp16-00001-of-00002``."""
    match = re.search(rf"\.({'|'.join(VARIANTS)})(?=[.-])", file)
    return match[1] if match else None


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


def cached_snapshots(name: str) -> Iterator[Path]:
    """The directories of a hub id in the hub's cache, that of ``main`` first.

    A cache filled by ``revision="fp16"`` has no ``main``. Names of revisions are read from files
    and checked: they would otherwise lead anywhere.
    """
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    references = repository / "refs"
    others = sorted(file for file in references.glob("*") if file.is_file())
    for file in sorted(others, key=lambda each: each.name != "main"):
        with file.open("rb") as opened:
            revision = opened.read(LONGEST_REVISION).decode("utf-8", "replace").strip()
        if REVISION.fullmatch(revision) and (repository / "snapshots" / revision).is_dir():
            yield repository / "snapshots" / revision


def _find_cached(name: str, file: str, alternative: str) -> Path:
    if not is_hub_id(name):
        raise ModelNotFoundError(
            f'no model "{name}": use mini, a diffusers directory, a .safetensors file, or a hub id '
            "such as owner/name"
        )
    for snapshot in cached_snapshots(name):
        if (snapshot / file).is_file():
            return snapshot
    raise ModelNotFoundError(
        f"{name} is not on this machine; get it with: zerocon models pull {name}{alternative}"
    )
