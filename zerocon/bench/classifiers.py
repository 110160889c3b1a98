"""Classifiers of drawn images: the kind, color, place, ... that an image shows.

Trained on drawn scenes only, never on a generated image: on renders, on their reconstructions by
the autoencoder, and on reconstructions in which a parameter was made ambiguous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from zerocon.errors import FileFormatError, ModelNotFoundError
from zerocon.world import VALUES

SIZE = 128  # pixels a side
WIDTHS = (24, 48, 96, 160)
WEIGHTS = Path(__file__).with_name("classifiers.safetensors")
BATCH = 64  # images per call of the network
REACH = 2  # pixels by which the views of an image are shifted, of which predictions are the mean
UNCLEAR = "unclear"  # the value of a parameter whose most probable value is not probable enough


class Classifiers:
    """Predicts the named parameters of images."""

    def __init__(self, network: AttributeNetwork) -> None:
        self.network = network.float().eval().requires_grad_(False)
        self.device = next(network.parameters()).device

    @torch.no_grad()
    def read(
        self, images: Sequence[Image.Image], min_probability: float = 0.0
    ) -> list[dict[str, str]]:
        """Predicted values of all parameters in ``world.VALUES``, for RGB images of any size.

        A value is ``UNCLEAR`` if its probability is below the threshold of its parameter, which
        almost all clean images reach, or below ``min_probability``.
        """
        predictions: list[dict[str, str]] = []
        for first in range(0, len(images), BATCH):
            part = [_pixels(image) for image in images[first : first + BATCH]]
            best = self.network.predict(torch.stack(part).to(self.device), min_probability)
            predictions += [_values(row) for row in best.tolist()]
        return predictions

    @torch.no_grad()
    def margins(
        self, images: Sequence[Image.Image], pairs: Mapping[str, tuple[str, str]]
    ) -> list[dict[str, float]]:
        """How much more an image shows one value of a parameter than another, for RGB images.

        Args:
            images: Images of any size.
            pairs: Parameter -> (value, other value).

        Returns:
            For every image, parameter -> logit of the value minus logit of the other one, the mean
            over the views of ``AttributeNetwork.probabilities``.
        """
        margins: list[dict[str, float]] = []
        for first in range(0, len(images), BATCH):
            part = [_pixels(image) for image in images[first : first + BATCH]]
            logits = self.network.mean_logits(torch.stack(part).to(self.device))
            columns = {}
            for name, pair in pairs.items():
                value, other = (VALUES[name].index(each) for each in pair)
                columns[name] = (logits[name][:, value] - logits[name][:, other]).tolist()
            margins += [{name: columns[name][i] for name in pairs} for i in range(len(part))]
        return margins


def load(path: Path = WEIGHTS, device: str = "cpu") -> Classifiers:
    """Load the shipped classifiers, or those of another file.

    Raises:
        ModelNotFoundError: The file does not exist.
        FileFormatError: It is of a network with other layers.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelNotFoundError(
            f"there are no classifiers at {path}; train them with: zerocon train mini"
        )
    network = AttributeNetwork()
    missing, _ = network.load_state_dict(load_file(path), strict=False)
    if absent := [name for name in missing if not name.endswith("num_batches_tracked")]:
        raise FileFormatError(f"{path} has no {absent[0]}; its version is different")
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


def _values(numbers: list[int]) -> dict[str, str]:
    """The values of all parameters, from what ``AttributeNetwork.predict`` gives for an image."""
    return {
        name: values[i] if i >= 0 else UNCLEAR
        for (name, values), i in zip(VALUES.items(), numbers, strict=True)
    }


def _pixels(image: Image.Image) -> torch.Tensor:
    if image.size != (SIZE, SIZE):
        image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    values = torch.from_numpy(np.array(image.convert("RGB")))
    return values.permute(2, 0, 1).float() / 127.5 - 1


class AttributeNetwork(nn.Module):
    """Logits of every value of every named parameter, for images (n, 3, 128, 128) in -1..1.

    A small convolutional network; each parameter has a separate spatial attention over the 8 x 8
    positions of the last feature map. ``thresholds`` (parameters,) are the probabilities from which
    a value is predicted.
    """

    thresholds: Tensor

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for before, width in zip((3, *WIDTHS), WIDTHS, strict=False):
            blocks.append(_Downsample(before, width))
            if width >= WIDTHS[1]:  # cheap, since the wide maps are small
                blocks.append(_Residual(width))
        self.trunk = nn.Sequential(*blocks)
        self.where = nn.Conv2d(WIDTHS[-1], len(VALUES), 1)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * WIDTHS[-1], len(values)) for name, values in VALUES.items()}
        )

        self.register_buffer("thresholds", torch.zeros(len(VALUES)))

    def predict(self, pixels: Tensor, min_probability: float = 0.0) -> Tensor:
        """The number of the predicted value of every parameter, (n, parameters); -1 if unclear."""
        best = [rows.max(1) for rows in self.probabilities(pixels).values()]
        numbers, p = (torch.stack([both[i] for both in best], 1) for i in (1, 0))
        return numbers.where(p >= self.thresholds.clamp(min=min_probability), -1)

    def probabilities(self, pixels: Tensor) -> dict[str, Tensor]:
        """Probabilities of the values of every parameter, the means over ten views of an image.

        The views are the image and four shifted ones, and their mirror images. Their errors
        differ, so the mean has fewer.
        """
        views = self._views(pixels)
        return {n: torch.stack([view[n].softmax(1) for view in views]).mean(0) for n in VALUES}

    def mean_logits(self, pixels: Tensor) -> dict[str, Tensor]:
        """The logits of the values of every parameter, the means over the same views."""
        views = self._views(pixels)
        return {name: torch.stack([view[name] for view in views]).mean(0) for name in VALUES}

    def _views(self, pixels: Tensor) -> list[dict[str, Tensor]]:
        height, width = pixels.shape[2:]
        padded = nn.functional.pad(pixels, (REACH,) * 4, mode="replicate")
        offsets = [(REACH, REACH), *product((0, 2 * REACH), repeat=2)]
        shifted = [padded[:, :, y : y + height, x : x + width] for y, x in offsets]
        views = [self(view) for part in shifted for view in (part, part.flip(3))]
        return [{name: rows.float() for name, rows in view.items()} for view in views]

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
