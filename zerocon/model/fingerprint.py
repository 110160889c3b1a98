"""Hash of a model's weight files, computed once per file and kept in the cache directory."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from zerocon.model.hub import needed_files
from zerocon.model.other_vae import find_vae
from zerocon.storage.atomic import writing
from zerocon.storage.private import read_unshared

CACHE = "weights.json"  # {file: [size, time of its last change, hash]}


def weights_hash(path: Path, dtype: str = "float32", vae: str | None = None) -> str:
    """Hash of a diffusion model's weights: of a single file, or of a directory's names and files.

    Gigabytes take seconds to read, so hashes are kept in ``cache_folder()`` until a file's size or
    modification time changes. Where they cannot be kept they are computed again.

    Args:
        path: The file or directory.
        dtype: Of the networks: which variant of the weights is read.
        vae: Name of another VAE than the model's own, whose files count as well.
    """
    files = {"": path} if path.is_file() else _weights(path, dtype, "" if vae is None else "vae/")
    if vae is not None:
        other = find_vae(vae)
        weights = {"": other} if other.is_file() else _weights(other, dtype)
        files |= {f"--vae/{name}": file for name, file in weights.items()}
    stored = _read_hashes()
    hashes = {file: _entry(file.resolve(), stored) for file in files.values()}
    entries = {str(file.resolve()): entry for file, entry in hashes.items()}
    if not entries.items() <= stored.items():
        _write_hashes({**stored, **entries})
    whole = hashlib.blake2b(digest_size=16)
    for name, file in sorted(files.items()):
        whole.update(f"{name}={hashes[file][2]}\n".encode())
    return whole.hexdigest()


def _weights(folder: Path, dtype: str, without: str = "") -> dict[str, Path]:
    """The weight files of a directory that are read in a dtype, by their names in it."""
    files = {file.relative_to(folder).as_posix(): file for file in needed_files(folder, dtype)}
    return {
        name: file
        for name, file in files.items()
        if file.suffix == ".safetensors" and not (without and name.startswith(without))
    }


def cache_folder() -> Path:
    """The cache directory: ``ZEROCON_CACHE``, or the system's default."""
    if folder := os.environ.get("ZEROCON_CACHE"):
        return Path(folder).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(local) / "zerocon" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "zerocon"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zerocon"


def _entry(file: Path, stored: Mapping[str, Any]) -> list[Any]:
    state = file.stat()
    entry = stored.get(str(file))
    same = [state.st_size, state.st_mtime_ns]
    if isinstance(entry, list) and len(entry) == 3 and entry[:2] == same:
        return entry
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return [*same, digest]


def _read_hashes() -> dict[str, Any]:
    try:
        stored = json.loads(read_unshared(cache_folder() / CACHE) or "{}")
    except (ValueError, RuntimeError):  # damaged: compute the hashes again
        return {}
    return stored if isinstance(stored, dict) else {}


def _write_hashes(stored: Mapping[str, Any]) -> None:
    # a disk that is full or read-only, or a missing home directory, only costs time
    with suppress(OSError, RuntimeError):
        cache_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        with writing(cache_folder() / CACHE, overwrite=True) as temporary:
            temporary.chmod(0o600)
            temporary.write_text(json.dumps(stored, indent=1, sort_keys=True), encoding="utf-8")
