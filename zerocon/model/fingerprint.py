"""Which weights a model has: a hash of its files' contents, taken once and remembered."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from zerocon.model.hub import needed
from zerocon.storage.atomic import writing

CACHE = "weights.json"  # {file: [size, time of its last change, hash]}


def weights_hash(place: Path) -> str:
    """A hash of the weights of a diffusion model: of one file, or of a folder's names and files.

    Gigabytes take seconds to read, so hashes are remembered in ``cache_folder()`` until a file's size or
    time changes. Where nothing can be remembered they are taken again.
    """
    if place.is_file():
        files = {"": place}
    else:
        files = {str(file.relative_to(place).as_posix()): file for file in needed(place)}
        files = {name: file for name, file in files.items() if file.suffix == ".safetensors"}
    known = _remembered()
    found = {file: _entry(file.resolve(), known) for file in files.values()}
    entries = {str(file.resolve()): entry for file, entry in found.items()}
    if not entries.items() <= known.items():
        _remember({**known, **entries})
    whole = hashlib.blake2b(digest_size=16)
    for name, file in sorted(files.items()):
        whole.update(f"{name}={found[file][2]}\n".encode())
    return whole.hexdigest()


def cache_folder() -> Path:
    """Where zerocon keeps what it can make again: ``ZEROCON_CACHE``, or the system's own place."""
    if own := os.environ.get("ZEROCON_CACHE"):
        return Path(own).expanduser()
    if sys.platform == "win32":
        place = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(place) / "zerocon" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "zerocon"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zerocon"


def _entry(file: Path, known: Mapping[str, Any]) -> list[Any]:
    state = file.stat()
    entry = known.get(str(file))
    same = [state.st_size, state.st_mtime_ns]
    if isinstance(entry, list) and len(entry) == 3 and entry[:2] == same:
        return entry
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return [*same, digest]


def _remembered() -> dict[str, Any]:
    try:
        known = json.loads((cache_folder() / CACHE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # not there yet, or spoilt: take the hashes again
        return {}
    return known if isinstance(known, dict) else {}


def _remember(known: Mapping[str, Any]) -> None:
    # a disk that is full or read-only, or nobody's home, costs time and no more
    with suppress(OSError, RuntimeError):
        cache_folder().mkdir(parents=True, exist_ok=True)
        with writing(cache_folder() / CACHE, overwrite=True) as temporary:
            temporary.write_text(json.dumps(known, indent=1, sort_keys=True), encoding="utf-8")
