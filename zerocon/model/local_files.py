"""The files of models on this machine, which no output may replace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from zerocon.errors import ZeroconError
from zerocon.model.loading import find, find_part
from zerocon.settings import DEFAULT_MODEL
from zerocon.storage.paths import files_in


def files_of(model: str | None, *parts: str | None) -> Iterator[Path]:
    """Files of a diffusion model and of captioner, CLIP and segmentation model, as far as found.

    Args:
        model: Name of the diffusion model; None: ``ZEROCON_MODEL``, then the default model.
        parts: Names of the others; None is left out.
    """
    name = model or os.environ.get("ZEROCON_MODEL") or DEFAULT_MODEL
    for search, each in ((find, name), *((find_part, part) for part in parts)):
        if each is not None:
            try:
                folder = search(each)
            except (ZeroconError, OSError):  # loading it will give the reason
                folder = Path(each)
                if not folder.is_file():
                    continue
            yield from files_in(folder)
