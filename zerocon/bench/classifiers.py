"""Judges of drawn pictures: which kind, colour, place, ... a picture shows.

Trained on renders and on what the autoencoder makes of them, never on a generated picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from zerocon.errors import ModelNotFoundError
from zerocon.world import VALUES

SIZE = 128  # pixels a side
WIDTHS = (24, 48, 96, 160)
WEIGHTS = Path(__file__).with_name("classifiers.safetensors")
TOGETHER = 64  # pictures looked at a time


class Classifiers:
    """Reads the named parameters off pictures."""

    def __init__(self, network: AttributeNetwork) -> None:
        self.network = network.float().eval().requires_grad_(False)
        self.device = next(network.parameters()).device

    @torch.no_grad()
    def read(self, images: Sequence[Image.Image]) -> list[dict[str, str]]:
        """For each picture (RGB, any size) a value of every parameter in ``world.VALUES``."""
        read: list[dict[str, str]] = []
        for first in range(0, len(images), TOGETHER):
            part = [_pixels(image) for image in images[first : first + TOGETHER]]
            logits = self.network(torch.stack(part).to(self.device))
            best = {name: rows.argmax(1).tolist() for name, rows in logits.items()}
            read += [
                {name: VALUES[name][best[name][i]] for name in VALUES} for i in range(len(part))
            ]
        return read


def load(path: Path = WEIGHTS, device: str = "cpu") -> Classifiers:
    """The shipped classifiers, or those of another file; ``MissingError`` if it is not there."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelNotFoundError(
            f"there are no judges at {path}; train them with: zerocon train mini"
        )
    network = AttributeNetwork()
    network.load_state_dict(load_file(path), strict=False)  # counters of batches are not kept
    return Classifiers(network.to(device))


def save(network: AttributeNetwork, path: Path = WEIGHTS) -> None:
    """Write judges in float16."""
    from safetensors.torch import save_file

    weights = {
        n: w.half().contiguous() for n, w in network.state_dict().items() if w.is_floating_point()
    }
    save_file(weights, path)
    path.chmod(0o644)  # it is saved for its owner's eyes only, and would be installed so


def _pixels(image: Image.Image) -> torch.Tensor:
    if image.size != (SIZE, SIZE):
        image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    values = torch.from_numpy(np.array(image.convert("RGB")))
    return values.permute(2, 0, 1).float() / 127.5 - 1


class AttributeNetwork(nn.Module):
    """Logits of every value of every named parameter, for pictures (n, 3, 128, 128) in -1..1.

    Each parameter looks where it must: it weighs the 8 x 8 places of the last map by itself.
    """

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for before, width in zip((3, *WIDTHS), WIDTHS, strict=False):
            blocks.append(_Halving(before, width))
            if width >= WIDTHS[2]:  # the wide maps are cheap
                blocks.append(_Residual(width))
        self.trunk = nn.Sequential(*blocks)
        self.where = nn.Conv2d(WIDTHS[-1], len(VALUES), 1)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * WIDTHS[-1], len(words)) for name, words in VALUES.items()}
        )

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        seen = self.trunk(pixels)
        weights = self.where(seen).flatten(2).softmax(-1)  # (n, names, places)
        looks = weights @ seen.flatten(2).transpose(1, 2)  # (n, names, width)
        whole = seen.mean((2, 3))
        return {
            name: head(torch.cat([looks[:, i], whole], 1))
            for i, (name, head) in enumerate(self.heads.items())
        }


class _Halving(nn.Sequential):
    def __init__(self, before: int, width: int) -> None:
        convolution = nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(width), nn.SiLU())


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, seen: Tensor) -> Tensor:
        return seen + nn.functional.silu(self.norm(self.first(seen)))
