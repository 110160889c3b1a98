"""Encoders of condition and image: features in which both can be matched.

One network for conditions (edges, label maps, sketches, images), one for images (target and
exemplar); both are fully convolutional, with one token per cell of 8 x 8 pixels, which is the grid
of the latents. The pattern is that of CoCosNet (arXiv 2004.05571); PROMOTE's own encoders are not
published.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerocon.errors import FileFormatError
from zerocon.tensor_types import Pixels

CELL = 8  # pixels a side of one token
GROUPS = 8  # of group normalization, whose statistics do not depend on the image size
SMALLEST = 1e-6  # norm below which a vector counts as zero

Grid = tuple[int, int]  # rows and columns of tokens


@dataclass(frozen=True)
class MatcherConfig:
    """The architecture of both encoders and the temperature they were trained with."""

    stem: int = 48  # channels at a quarter of the image side
    width: int = 96  # channels on the grid of tokens
    inner: int = 48  # channels of the 3 x 3 convolutions in residual blocks
    dilations: tuple[int, ...] = (1, 2, 4, 8, 1)  # one residual block each
    features: int = 64  # of a token
    pooled: int = 128  # of a whole image
    temperature: float = 0.03  # of the softmax over the exemplar's tokens

    def to_json(self) -> str:
        """The fields as a JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> MatcherConfig:
        """The inverse of ``to_json``.

        Raises:
            FileFormatError: The text is not such an object, or has other fields.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise FileFormatError(f"the matcher's configuration is not JSON: {error}") from error
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            raise FileFormatError(f"a matcher's configuration has the keys {sorted(names)}")
        return cls.from_fields(values)

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> MatcherConfig:
        """A configuration from decoded JSON, in which dilations are a list."""
        decoded: dict[str, Any] = dict(values)
        decoded["dilations"] = tuple(decoded["dilations"])
        return cls(**decoded)


class EncoderOutput(NamedTuple):
    """Features of a batch of images.

    Attributes:
        tokens: One vector of length 1 per cell, row by row, (batch, rows * columns, features).
        pooled: One vector per image, (batch, pooled); any length, see ``hyperbolic.clip_norm``.
        grid: Rows and columns of tokens.
    """

    tokens: Tensor
    pooled: Tensor
    grid: Grid

    def halves(self) -> tuple[EncoderOutput, EncoderOutput]:
        """The features of the first and of the second half of the batch."""
        tokens, pooled = self.tokens.chunk(2), self.pooled.chunk(2)
        first, second = zip(tokens, pooled, strict=True)
        return EncoderOutput(*first, self.grid), EncoderOutput(*second, self.grid)


class Encoder(nn.Module):
    """Pixels to tokens: a convolutional stem, then dilated residual blocks on the token grid."""

    def __init__(self, config: MatcherConfig) -> None:
        super().__init__()
        stem = config.stem
        # a fold of 4 x 4 pixels loses nothing, and is four times faster than strided convolutions
        self.stem = nn.Sequential(
            *(nn.PixelUnshuffle(4), nn.Conv2d(48, stem, 3, 1, 1), nn.SiLU()),
            *(nn.Conv2d(stem, stem, 3, 1, 1), nn.GroupNorm(GROUPS, stem), nn.SiLU()),
            nn.Conv2d(stem, config.width, 2, 2),
        )
        self.position = nn.Conv2d(2, config.width, 1, bias=False)
        self.blocks = nn.Sequential(
            *(DilatedBlock(config.width, config.inner, d) for d in config.dilations)
        )
        self.norm = ChannelNorm(config.width)
        self.token_head = nn.Conv2d(config.width, config.features, 1)
        self.pooled_head = nn.Linear(config.width, config.pooled)

    def forward(self, pixels: Pixels) -> EncoderOutput:
        """Encode images in -1..1.

        Raises:
            ValueError: A side of the images is no multiple of 8.
        """
        if pixels.shape[2] % CELL or pixels.shape[3] % CELL:
            raise ValueError(f"sides must be multiples of {CELL}, not {tuple(pixels.shape[2:])}")
        x = self.stem(pixels)
        x = x + self.position(_coordinates(x))
        x = F.silu(self.norm(self.blocks(x)))
        features = self.token_head(x).float().flatten(2).mT  # (batch, tokens, features)
        tokens = F.normalize(features - features.mean(-1, keepdim=True), dim=-1, eps=SMALLEST)
        pooled = self.pooled_head(x.mean((2, 3))).float()
        return EncoderOutput(tokens, pooled, (x.shape[2], x.shape[3]))


class Matcher(nn.Module):
    """The two encoders; ``zerocon.exemplar.correspondence`` compares their tokens."""

    def __init__(self, config: MatcherConfig | None = None) -> None:
        super().__init__()
        self.config = config or MatcherConfig()
        self.condition_encoder = Encoder(self.config)
        self.image_encoder = Encoder(self.config)


class ChannelNorm(nn.LayerNorm):
    """Layer normalization of each token; on CPUs twice as fast as group normalization."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class DilatedBlock(nn.Module):
    """A residual block whose 3 x 3 convolution has ``inner`` channels and a dilation."""

    def __init__(self, width: int, inner: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(ChannelNorm(width), nn.Conv2d(width, inner, 1), nn.SiLU()),
            nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation),
            *(nn.SiLU(), nn.Conv2d(inner, width, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)  # type: ignore[no-any-return]


def _coordinates(x: Tensor) -> Tensor:
    """Row and column of every cell's center in -1..1, (1, 2, rows, columns)."""
    sides = (
        (torch.arange(n, device=x.device, dtype=x.dtype) + 0.5) * (2 / n) - 1 for n in x.shape[2:]
    )
    return torch.stack(torch.meshgrid(*sides, indexing="ij"))[None]
