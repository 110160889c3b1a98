"""Where weights are on this machine, or in one line how to get them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from zerocon.errors import MissingError

WANTED = '--include "*.json" --include "*.txt" --include "*.safetensors" --exclude "safety*"'


def find(name: str) -> Path:
    """The folder of a diffusion model: embedded (``mini``), local, or in the hub's cache."""
    if name == "mini":
        from zerocon import mini

        return mini.path()
    instead = "or use the embedded model: --model mini"
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise MissingError(f"{name} is no diffusers folder (no model_index.json); {instead}")
        return folder
    return _cached(name, "model_index.json", f"{WANTED}, {instead}")


def find_part(name: str) -> Path:
    """The folder of a captioner or CLIP model: local, or in the hub's cache."""
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else _cached(name, "config.json", "")


def hush() -> None:
    """Keep the libraries' loading bars off the terminal: progress is the caller's to show."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()


def _cached(name: str, file: str, more: str) -> Path:
    from huggingface_hub import try_to_load_from_cache

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise MissingError(
            f'no model "{name}": give mini, a diffusers folder, or a hub id such as owner/name'
        )
    cached = try_to_load_from_cache(name, file)
    if isinstance(cached, str | os.PathLike):
        return Path(cached).parent
    raise MissingError(
        f"{name} is not on this machine; get it with: hf download {name} {more}".rstrip()
    )
