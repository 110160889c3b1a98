"""Judges of drawn pictures: which kind, colour, place, ... a picture shows.

Trained on renders and on what the autoencoder makes of them, never on a generated picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from zerocon.bench.judges.network import SIZE, Classifiers
from zerocon.errors import NoModelError
from zerocon.world import VALUES

WEIGHTS = Path(__file__).parent / "judges.safetensors"
TOGETHER = 64  # pictures looked at a time


class Judges:
    """Reads the named parameters off pictures."""

    def __init__(self, network: Classifiers) -> None:
        self.network = network.float().eval().requires_grad_(False)
        self.device = next(network.parameters()).device

    @torch.no_grad()
    def read(self, pictures: Sequence[Image.Image]) -> list[dict[str, str]]:
        """For each picture (RGB, any size) a value of every parameter in ``world.VALUES``."""
        read: list[dict[str, str]] = []
        for first in range(0, len(pictures), TOGETHER):
            part = [_pixels(picture) for picture in pictures[first : first + TOGETHER]]
            logits = self.network(torch.stack(part).to(self.device))
            best = {name: rows.argmax(1).tolist() for name, rows in logits.items()}
            read += [
                {name: VALUES[name][best[name][i]] for name in VALUES} for i in range(len(part))
            ]
        return read


def load(path: Path = WEIGHTS, device: str = "cpu") -> Judges:
    """The shipped judges, or those of another file; ``MissingError`` if it is not there."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise NoModelError(f"there are no judges at {path}; train them with: zerocon train mini")
    network = Classifiers()
    network.load_state_dict(load_file(path), strict=False)  # counters of batches are not kept
    return Judges(network.to(device))


def save(network: Classifiers, path: Path = WEIGHTS) -> None:
    """Write judges in float16."""
    from safetensors.torch import save_file

    weights = {
        n: w.half().contiguous() for n, w in network.state_dict().items() if w.is_floating_point()
    }
    save_file(weights, path)
    path.chmod(0o644)  # it is saved for its owner's eyes only, and would be installed so


def _pixels(picture: Image.Image) -> torch.Tensor:
    if picture.size != (SIZE, SIZE):
        picture = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    values = torch.from_numpy(np.array(picture.convert("RGB")))
    return values.permute(2, 0, 1).float() / 127.5 - 1
