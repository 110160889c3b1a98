"""One look at a picture, then one small classifier for each named parameter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zerocon.world import VALUES

SIZE = 128  # pixels a side
WIDTHS = (24, 48, 96, 160)


class Classifiers(nn.Module):
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
