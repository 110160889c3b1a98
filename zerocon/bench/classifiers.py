"""Classifiers of drawn images: the kind, color, place, ... that an image shows.

Trained on renders and their reconstructions by the autoencoder, never on a generated image.
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
BATCH = 64  # images per call of the network


class Classifiers:
    """Predicts the named parameters of images."""

    def __init__(self, network: AttributeNetwork) -> None:
        self.network = network.float().eval().requires_grad_(False)
        self.device = next(network.parameters()).device

    @torch.no_grad()
    def read(self, images: Sequence[Image.Image]) -> list[dict[str, str]]:
        """Predicted values of all parameters in ``world.VALUES``, for RGB images of any size."""
        predictions: list[dict[str, str]] = []
        for first in range(0, len(images), BATCH):
            part = [_pixels(image) for image in images[first : first + BATCH]]
            logits = self.network(torch.stack(part).to(self.device))
            best = {name: rows.argmax(1).tolist() for name, rows in logits.items()}
            predictions += [
                {name: VALUES[name][best[name][i]] for name in VALUES} for i in range(len(part))
            ]
        return predictions


def load(path: Path = WEIGHTS, device: str = "cpu") -> Classifiers:
    """Load the shipped classifiers, or those of another file.

    Raises:
        ModelNotFoundError: The file does not exist.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelNotFoundError(
            f"there are no classifiers at {path}; train them with: zerocon train mini"
        )
    network = AttributeNetwork()
    network.load_state_dict(load_file(path), strict=False)  # without batch counters
    return Classifiers(network.to(device))


def save(network: AttributeNetwork, path: Path = WEIGHTS) -> None:
    """Write the weights in float16."""
    from safetensors.torch import save_file

    weights = {
        n: w.half().contiguous() for n, w in network.state_dict().items() if w.is_floating_point()
    }
    save_file(weights, path)
    path.chmod(
        0o644
    )  # safetensors creates it readable by its owner only, and it would be installed so


def _pixels(image: Image.Image) -> torch.Tensor:
    if image.size != (SIZE, SIZE):
        image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    values = torch.from_numpy(np.array(image.convert("RGB")))
    return values.permute(2, 0, 1).float() / 127.5 - 1


class AttributeNetwork(nn.Module):
    """Logits of every value of every named parameter, for images (n, 3, 128, 128) in -1..1.

    A small convolutional network; each parameter has a separate spatial attention over the 8 x 8
    positions of the last feature map.
    """

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for before, width in zip((3, *WIDTHS), WIDTHS, strict=False):
            blocks.append(_Downsample(before, width))
            if width >= WIDTHS[2]:  # cheap, since the wide maps are small
                blocks.append(_Residual(width))
        self.trunk = nn.Sequential(*blocks)
        self.where = nn.Conv2d(WIDTHS[-1], len(VALUES), 1)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * WIDTHS[-1], len(values)) for name, values in VALUES.items()}
        )

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        features = self.trunk(pixels)
        weights = self.where(features).flatten(2).softmax(-1)  # (n, parameters, positions)
        attended = weights @ features.flatten(2).transpose(1, 2)  # (n, parameters, width)
        mean = features.mean((2, 3))
        return {
            name: head(torch.cat([attended[:, i], mean], 1))
            for i, (name, head) in enumerate(self.heads.items())
        }


class _Downsample(nn.Sequential):
    def __init__(self, before: int, width: int) -> None:
        convolution = nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(width), nn.SiLU())


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.silu(self.norm(self.first(x)))
