"""The Hub's cache on this machine: what is in it, getting more, and whether it is whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from zerocon.errors import CommandError, MissingError, ModelNotFoundError, UnsupportedModelError
from zerocon.model.checkpoint import Checkpoint
from zerocon.model.families import require_pipeline
from zerocon.model.loading import PARTS, WEIGHTS, find, find_part, is_hub_id, variant, worth

EYES = {"blip": "captioner", "clip": "clip"}  # transformers' model types, and what we use them for
POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class CachedModel:
    """A model of use here: its hub id, what it is ("diffusion", "captioner", "clip"), bytes."""

    name: str
    use: str
    folder: Path
    size: int


def scan() -> list[CachedModel]:
    """What the cache holds that zerocon can use, by name; other models in it are left out."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    found = [
        CachedModel(repo.repo_id, use, revision.snapshot_path, revision.size_on_disk)
        for repo in repos
        for revision in repo.revisions
        if "main" in revision.refs and (use := _use(revision.snapshot_path))
    ]
    return sorted(found, key=lambda each: each.name)


def pull(name: str) -> Path:
    """Download what is worth it of a hub id into the cache, and verify it.

    The only function here that asks the network. ``ValueError`` for what is no hub id,
    ``MissingError`` for what cannot be had or is not whole.
    """
    from huggingface_hub import list_repo_files, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    if not is_hub_id(name):
        raise CommandError(f'"{name}" is no hub id such as owner/name')
    try:
        folder = snapshot_download(name, allow_patterns=worth(list_repo_files(name)))
    except (OSError, HfHubHTTPError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelNotFoundError(f"cannot get {name}: {reason}") from error
    verify(name)
    return Path(folder)


def verify(name: str) -> list[Path]:
    """The files that a model needs, if all are there and whole; else ``MissingError`` with faults.

    Weights are opened, not read: their headers must fit their sizes.
    """
    place = _place(name)
    if place.is_file():
        Checkpoint.open(place)
        return [place]
    files = needed(place)
    faults = [f"{file.relative_to(place)} {fault}" for file in files if (fault := _fault(file))]
    if faults:
        again = f"; get it with: zerocon models pull {name}" if is_hub_id(name) else ""
        raise ModelNotFoundError(f"{name} is not whole: {', '.join(faults)}{again}")
    return files


def _place(name: str) -> Path:
    """Where a diffusion model, captioner or CLIP is."""
    try:
        return find(name)
    except MissingError:
        if not is_hub_id(name) and not Path(name).expanduser().is_dir():
            raise
        folder = find_part(name)
        if not _use(folder):
            raise UnsupportedModelError(f"{name} is nothing that zerocon uses") from None
        return folder


def _use(folder: Path) -> str | None:
    """What a folder is good for, if anything."""
    try:
        if (folder / "model_index.json").is_file():
            require_pipeline("", str(_json(folder / "model_index.json").get("_class_name")))
            return "diffusion"
        return EYES.get(str(_json(folder / "config.json").get("model_type")))
    except (OSError, ValueError):
        return None


def needed(folder: Path) -> list[Path]:
    """Every file that a folder must have."""
    if not (folder / "model_index.json").is_file():
        more = ["config.json", "preprocessor_config.json"]
        return [
            *(folder / name for name in more),
            *_words(folder),
            *_shards(folder, "model.safetensors"),
        ]
    files = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"]
    for part in PARTS:
        if part in WEIGHTS:
            files += [folder / part / "config.json", *_shards(folder / part, WEIGHTS[part])]
    return [*files, *_words(folder / "tokenizer")]


def _words(folder: Path) -> list[Path]:
    """A tokenizer's files: all in one, or the two of old."""
    whole = folder / "tokenizer.json"
    return [whole] if whole.exists() else [folder / "vocab.json", folder / "merges.txt"]


def _shards(folder: Path, name: str) -> list[Path]:
    """A network's weights: one file, or an index and all that it names."""
    if kind := variant(folder, name):
        return [folder / name.replace(".safetensors", f".{kind}.safetensors")]
    index = folder / f"{name}.index.json"
    if not index.exists() or _fault(index):
        return [index if index.exists() else folder / name]
    return [index, *(folder / each for each in sorted(set(_json(index)["weight_map"].values())))]


def _fault(file: Path) -> str | None:
    """What is wrong with a file, in a few words."""
    if not file.is_file():  # also a link into the cache whose end has gone
        return "is not there"
    if file.stat().st_size == 0:
        return "is empty"
    with file.open("rb") as opened:
        if opened.read(len(POINTER)) == POINTER:
            return "is a Git LFS pointer, not the file itself"
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt"):
                pass
        elif file.suffix == ".json":
            _json(file)
    except (SafetensorError, ValueError):
        return "is damaged"
    return None


def _json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
