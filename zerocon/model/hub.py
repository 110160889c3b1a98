"""Models in the Hugging Face hub's cache: list, download, verify. Imports no torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from zerocon.errors import (
    ERRNO,
    CommandError,
    MissingError,
    ModelNotFoundError,
    UnsupportedModelError,
    about,
)
from zerocon.model.checkpoint import Checkpoint
from zerocon.model.families import family_of_pipeline
from zerocon.model.loading import (
    PARTS,
    WEIGHTS,
    files_to_download,
    find,
    find_part,
    is_hub_id,
    local_path,
    variant,
)

USES = {
    "blip": "captioner",
    "clip": "clip",
    "clipseg": "segmenter",
}  # by model type of transformers
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
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repos = scan_cache_dir(cache_folder()).repos
    except CacheNotFound:
        return []
    models = [
        CachedModel(repo.repo_id, use, revision.snapshot_path, revision.size_on_disk)
        for repo in repos
        for revision in repo.revisions
        if "main" in revision.refs and (use := _use(revision.snapshot_path))
    ]
    return sorted(models, key=lambda model: model.name)


def embedded() -> CachedModel:
    """The model of the package itself."""
    from zerocon import mini

    folder = mini.path()
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return CachedModel("mini", "diffusion, captioner, clip", folder, size)


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


def verify(name: str) -> list[Path]:
    """The files that a model needs, after checking that all are there and complete.

    Weights are not read: their headers must fit their sizes.

    Raises:
        ModelNotFoundError: Files are missing or damaged; the message lists them.
    """
    with about(local_path(name)):
        return _verified(name)


def _verified(name: str) -> list[Path]:
    path = _find_any(name)
    if path.is_file():
        Checkpoint.open(path)
        return [path]
    files = needed_files(path)
    faults = [f"{file.relative_to(path)} {fault}" for file in files if (fault := _fault(file))]
    if faults:
        again = f"; get it with: zerocon models pull {name}" if is_hub_id(name) else ""
        raise ModelNotFoundError(f"{name} is not complete: {', '.join(faults)}{again}")
    return files


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
    except (OSError, ValueError):
        return None


def needed_files(folder: Path) -> list[Path]:
    """Every file that a model's directory must have."""
    if not (folder / "model_index.json").is_file():
        more = ["config.json", "preprocessor_config.json"]
        return [
            *(folder / name for name in more),
            *_tokenizer_files(folder),
            *_shards(folder, "model.safetensors"),
        ]
    files = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"]
    for part in PARTS:
        if part in WEIGHTS:
            files += [folder / part / "config.json", *_shards(folder / part, WEIGHTS[part])]
    return [*files, *_tokenizer_files(folder / "tokenizer")]


def _tokenizer_files(folder: Path) -> list[Path]:
    """``tokenizer.json``, or the two files of older tokenizers."""
    whole = folder / "tokenizer.json"
    return [whole] if whole.exists() else [folder / "vocab.json", folder / "merges.txt"]


def _shards(folder: Path, name: str) -> list[Path]:
    """The files of a network's weights: one file, or an index and its shards."""
    if kind := variant(folder, name):
        return [folder / name.replace(".safetensors", f".{kind}.safetensors")]
    index = folder / f"{name}.index.json"
    if not index.exists() or _fault(index):
        return [index if index.exists() else folder / name]
    return [index, *(folder / each for each in sorted(set(_json(index)["weight_map"].values())))]


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
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
