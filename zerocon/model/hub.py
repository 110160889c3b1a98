"""Models in the Hugging Face hub's cache: list, download, verify. Starts without torch."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from zerocon.errors import (
    ERRNO,
    CommandError,
    MissingError,
    ModelNotFoundError,
    UnsupportedModelError,
    about,
)
from zerocon.model.checkpoint import Checkpoint, plan_checkpoint
from zerocon.model.config import IMAGE_CONFIGS, INDEX_BYTES, json_object
from zerocon.model.families import family_of_pipeline, require_networks
from zerocon.model.loading import (
    NETWORKS,
    SCHEDULER_CONFIG,
    cached_snapshots,
    family_of,
    files_to_download,
    find,
    find_part,
    is_hub_id,
    local_path,
    model_errors,
    plan_parts,
    read_scheduler,
)
from zerocon.model.tokenizing import require_tokenizer, tokenizer_files
from zerocon.model.weights import WeightFiles, weight_files

if TYPE_CHECKING:
    from zerocon.model.networks import NetworkPlan

USES = {
    "blip": "captioner",
    "clip": "clip",
    "clipseg": "segmenter",
}  # by model type of transformers
DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model.safetensors", "model.safetensors"
TOKENIZERS = {"captioner": "BertTokenizer"}  # by use; the others have CLIP's
ETAGS = {64: hashlib.sha256, 40: hashlib.sha1}  # by length: of large files, and as git does
IMAGE_PROCESSORS = {  # of transformers, by use
    "captioner": ("blip.image_processing_pil_blip", "BlipImageProcessorPil"),
    "clip": ("clip.image_processing_pil_clip", "CLIPImageProcessorPil"),
    "segmenter": ("vit.image_processing_pil_vit", "ViTImageProcessorPil"),
}
COMPANIONS = ("captioner", "clip")  # directories next to the parts of a model
LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class CachedModel:
    """A cached model that zerocon can use.

    Attributes:
        name: Hub id.
        use: "diffusion", "captioner", "clip" or "segmenter"; of mini the first three.
        folder: Of the snapshot.
        size: Bytes on disk.
    """

    name: str
    use: str
    folder: Path
    size: int


@dataclass(frozen=True)
class Download:
    """The files of a hub id that zerocon needs.

    Attributes:
        name: Hub id.
        files: All of them, by their path in the repository.
        missing: Those that are not in the cache, with their size in bytes.
    """

    name: str
    files: tuple[str, ...]
    missing: Mapping[str, int]

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(self.missing.values())


def cache_folder() -> Path:
    """The directory of the Hub's cache, from ``HF_HOME`` or ``HF_HUB_CACHE``."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def scan() -> list[CachedModel]:
    """The cached models that zerocon can use, sorted by name."""
    models = []
    for repository in sorted(cache_folder().glob("models--*--*")):
        name = repository.name.removeprefix("models--").replace("--", "/", 1)
        usable = [(use, each) for each in cached_snapshots(name) if (use := _use(each))]
        if is_hub_id(name) and usable:
            use, folder = usable[0]
            models.append(CachedModel(name, use, folder, _size(folder)))
    return sorted(models, key=lambda model: model.name)


def _size(folder: Path) -> int:
    """Bytes of the files in a directory; links count as what they lead to."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def embedded() -> CachedModel:
    """The model of the package itself."""
    from zerocon import mini

    folder = mini.path()
    return CachedModel("mini", "diffusion, captioner, clip", folder, _size(folder))


def plan_download(name: str) -> Download:
    """The files of a hub id that are needed. It and ``pull`` are all that uses the network.

    Raises:
        CommandError: It is not a hub id.
        ModelNotFoundError: The hub cannot be reached, or does not give this model.
    """
    from huggingface_hub import list_repo_tree, try_to_load_from_cache
    from huggingface_hub.hf_api import RepoFile

    if not is_hub_id(name):
        raise CommandError(f'"{name}" is not a hub id such as owner/name')
    with download_errors(name):
        tree = list_repo_tree(name, recursive=True)
        sizes = {each.path: each.size for each in tree if isinstance(each, RepoFile)}
    files = {file: sizes[file] for file in files_to_download(sizes)}
    here = {file for file in files if isinstance(try_to_load_from_cache(name, file), str)}
    missing = {file: size for file, size in files.items() if file not in here}
    return Download(name, tuple(files), missing)


def pull(download: Download, *, quiet: bool = False) -> Path:
    """Download what is missing into the cache, and verify the model; returns its directory.

    A connection that breaks off is continued in the middle of a file; after a failure the next call
    downloads the files that are missing then.

    Args:
        download: From ``plan_download``.
        quiet: Draw no progress bars.

    Raises:
        ModelNotFoundError: It cannot be downloaded, or is not complete.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    if quiet:
        disable_progress_bars()
    with download_errors(download.name):
        folder = snapshot_download(download.name, allow_patterns=[*download.files])
    verify(download.name)
    return Path(folder)


@contextmanager
def download_errors(name: str) -> Iterator[None]:
    """Turn every error of the hub's client into ``ModelNotFoundError``, in one line.

    Apart from its own classes it raises those of its HTTP library, which differs between versions
    (requests, httpx, httpx2), and of its download backend; they have no base class in common.
    """
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    before = get_verbosity()
    set_verbosity(logging.ERROR)  # its warnings say at length what the error says
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in ERRNO):
            raise  # about this machine
        raise ModelNotFoundError(f"cannot download {name}: {_reason(name, error)}") from error
    finally:
        set_verbosity(before)


def _reason(name: str, error: Exception) -> str:
    """Why a download failed, and what would help."""
    from huggingface_hub import constants, errors

    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if isinstance(error, errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{name}"
        return f"accept its conditions at {page}, then log in: hf auth login"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{constants.ENDPOINT} has no such model, or it is private (hf auth login)"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "network access is forbidden (--offline or HF_HUB_OFFLINE)"
    if "connect" in type(error).__name__.lower() or "timeout" in type(error).__name__.lower():
        return f"{constants.ENDPOINT} cannot be reached: {line}"
    return line


@dataclass(frozen=True)
class Verified:
    """A model that would load.

    Attributes:
        files: That it needs.
        variants: Of the weights, by network: "fp16", "bf16", "non_ema"; None for a plain file.
        shards: Number of files of a network's weights, by network.
        hashed: Number of files whose hash is the Hub's; the Hub's is known in its cache only.
    """

    files: tuple[Path, ...]
    variants: Mapping[str, str | None]
    shards: Mapping[str, int]
    hashed: int


def verify(name: str, dtype: str = "float32") -> Verified:
    """Check everything that loading a model checks, except the values of its weights.

    All files are there and fit their sizes, configurations are valid, and every network has all
    weights in the shapes that it needs. Files in the Hub's cache are hashed, where their names in
    it say what their hash is.

    Args:
        name: A hub id, a directory or a file.
        dtype: That the model would be loaded in: which variant of the weights is preferred.

    Raises:
        ModelNotFoundError: Files are missing or damaged; the message lists them.
        UnsupportedModelError: It is another model, or damaged.
        PickleRefusedError: It is a pickle.
    """
    with about(local_path(name)), model_errors(name):
        path = _find_any(name)
        if path.is_file():
            checkpoint = Checkpoint.open(path)
            plan_checkpoint(checkpoint, name, checkpoint.prediction())
            return Verified((path,), {}, {}, 0)
        return _verify_folder(path, name, dtype)


def _verify_folder(path: Path, name: str, dtype: str) -> Verified:
    """``verify`` for a directory, with its own captioner and CLIP."""
    uses = {path: _use(path) or ""}
    if (path / "model_index.json").is_file():
        uses |= {path / use: use for use in COMPANIONS if (path / use).is_dir()}
    files = [
        each for folder, use in uses.items() for each in needed_files(folder, dtype, name, use)
    ]
    faults = [f"{file.relative_to(path)} {fault}" for file in files if (fault := _fault(file))]
    _require_faultless(name, faults)
    plans: dict[str, NetworkPlan] = {}
    for folder, use in uses.items():
        plans |= _plans(folder, name, dtype, use)
    hashes = {file: _has_its_hash(file) for file in files}
    wrong = [file for file, same in hashes.items() if same is False]
    _require_faultless(name, [f"{file.relative_to(path)} is damaged (hash)" for file in wrong])
    weights = {part: each.files for part, each in plans.items() if each.files}
    return Verified(
        tuple(files),
        {part: each.variant for part, each in weights.items()},
        {part: len(each.files) for part, each in weights.items()},
        sum(same is True for same in hashes.values()),
    )


def _require_faultless(name: str, faults: Sequence[str]) -> None:
    if faults:
        again = f"; get it with: zerocon models pull {name}" if is_hub_id(name) else ""
        raise ModelNotFoundError(f"{name} is not complete: {', '.join(faults)}{again}")


def _plans(folder: Path, name: str, dtype: str, use: str) -> dict[str, NetworkPlan]:
    """The networks of a model's directory, by name."""
    from zerocon.model import networks
    from zerocon.model.companion import load_images

    if (folder / "model_index.json").is_file():
        family_of(folder, name)
        scheduler = read_scheduler(folder, name)
        require_tokenizer("CLIPTokenizer", folder / "tokenizer", name)
        plans = plan_parts(folder, name, dtype)
        unet, vae = plans["unet"].network, plans["vae"].network
        networks.fix_sample_size(unet, scheduler.config.prediction_type, name)
        require_networks(name, unet, vae, scheduler)
        return plans
    require_tokenizer(TOKENIZERS.get(use, "CLIPTokenizer"), folder, name)
    plan = {
        "captioner": networks.plan_captioner,
        "clip": networks.plan_clip,
        "segmenter": networks.plan_segmenter,
    }[use](folder, name, dtype)
    module, kind = IMAGE_PROCESSORS[use]
    side = None if use == "segmenter" else plan.network.config.vision_config.image_size
    load_images(getattr(import_module(f"transformers.models.{module}"), kind), folder, name, side)
    return {use: plan}


def _has_its_hash(file: Path) -> bool | None:
    """Whether a file of the Hub's cache has the hash that its name there is; None elsewhere."""
    blob = file.resolve()
    method = ETAGS.get(len(blob.name))
    if method is None or blob.parent.name != "blobs" or set(blob.name) - set("0123456789abcdef"):
        return None
    digest = method(usedforsecurity=False)
    if method is hashlib.sha1:
        digest.update(b"blob %d\0" % blob.stat().st_size)
    with blob.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() == blob.name


def _find_any(name: str) -> Path:
    """The path of a diffusion model, captioner, CLIP or segmenter."""
    try:
        return find(name)
    except MissingError:
        if not is_hub_id(name) and not Path(name).expanduser().is_dir():
            raise
        folder = find_part(name)
        if not _use(folder):
            raise UnsupportedModelError(f"{name} is not a model that zerocon uses") from None
        return folder


def _use(folder: Path) -> str | None:
    """What zerocon can use the model in a directory for, if anything."""
    try:
        if (folder / "model_index.json").is_file():
            family_of_pipeline("", str(_json(folder / "model_index.json").get("_class_name")))
            return "diffusion"
        return USES.get(str(_json(folder / "config.json").get("model_type")))
    except (OSError, ValueError, MissingError):
        return None


def needed_files(
    folder: Path, dtype: str = "float32", name: str | None = None, use: str | None = None
) -> list[Path]:
    """Every file that a model's directory must have.

    Args:
        folder: Of a model, or of one network with its configuration.
        dtype: Of the networks: which variant of the weights is preferred.
        name: Of the model, for messages; default: its directory.
        use: What it is for, as in ``CachedModel``; default: what its configuration says.

    Raises:
        PickleRefusedError: The weights are pickles; or ``UnsupportedModelError``.
    """
    name = name or str(folder)

    def network(part: Path, plain: str) -> list[Path]:
        files: WeightFiles = weight_files(part, plain, name, dtype)
        return [part / "config.json", *files.all]

    if (folder / "model_index.json").is_file():
        files = [folder / "model_index.json", folder / "scheduler" / SCHEDULER_CONFIG]
        for part in NETWORKS:
            plain = TRANSFORMERS if part == "text_encoder" else DIFFUSERS
            files += network(folder / part, plain)
        return [*files, *tokenizer_files(folder / "tokenizer", "CLIPTokenizer")]
    use = use or _use(folder)
    if not use:  # a VAE
        return network(folder, DIFFUSERS)
    images = [folder / each for each in IMAGE_CONFIGS]
    return [
        *network(folder, TRANSFORMERS),
        next((each for each in images if each.is_file()), images[-1]),
        *tokenizer_files(folder, TOKENIZERS.get(use, "CLIPTokenizer")),
    ]


def _fault(file: Path) -> str | None:
    """What is wrong with a file, if anything."""
    if not file.is_file():  # or a link whose target is gone
        return "is missing"
    if file.stat().st_size == 0:
        return "is empty"
    with file.open("rb") as opened:
        if opened.read(len(LFS_POINTER)) == LFS_POINTER:
            return "is a Git LFS pointer, not the file itself"
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="np"):
                pass
        elif file.suffix == ".json":
            _json(file)
    except (SafetensorError, ValueError):
        return "is damaged"
    return None


def _json(file: Path) -> dict[str, Any]:
    return json_object(file, str(file.parent), INDEX_BYTES)
