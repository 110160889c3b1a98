"""Tokens of a diffusion model's own features: matching without training (DIFT).

Features of a U-Net for a noised image correspond between images of different objects and styles
(arXiv 2306.03881). They take the place of an encoder's tokens for
``zerocon.exemplar.correspondence``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from zerocon.activations import layer_size
from zerocon.conditioning import Conditioning
from zerocon.exemplar.encoders import EncoderOutput, Grid
from zerocon.model.attention import DECODER_SELF, watch
from zerocon.rng import seeded_generator
from zerocon.tensor_types import Latents

if TYPE_CHECKING:
    from zerocon.model import Model

SPACING = 100  # steps of the schedule whose levels are looked up: timesteps 1, 11, 21, ...
SMALLEST = 1e-6  # norm below which a vector counts as zero


@dataclass(frozen=True)
class DiffusionFeatures:
    """Features of the decoder for a noised image, averaged over draws of the noise (DIFT).

    Attributes:
        time: Timestep of the noise level, of 1000; the nearest of every tenth is taken.
        draws: Number of draws, one U-Net evaluation each.
        features: "block" as published: the output of the finest decoder block whose sides are at
            most half the latents'. "keys": those of the first self-attention in the decoder at the
            latents' own size, which match better on the embedded model.
        temperature: Divides cosines in the softmax over the exemplar's tokens.
    """

    time: int = 261
    draws: int = 8
    features: Literal["keys", "block"] = "keys"
    temperature: float = 0.06

    def __post_init__(self) -> None:
        if not 0 < self.time < 1000:
            raise ValueError(f"time must be from 1 to 999, not {self.time}")
        if self.draws < 1:
            raise ValueError(f"draws must be at least 1, not {self.draws}")
        if self.features not in ("keys", "block"):
            raise ValueError(f'features must be keys or block, not "{self.features}"')
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}")

    @torch.no_grad()
    def __call__(
        self, model: Model, x: Latents, c: Conditioning, *, seed: int = 0
    ) -> EncoderOutput:
        """The tokens of images; draws are computed one after another.

        Args:
            model: Its U-Net is called.
            x: Latents of the images, (images, channels, rows, columns).
            c: One caption per image, such as the empty one.
            seed: Of the noise.

        Returns:
            One token per latent position; those of coarser features are interpolated.
        """
        levels, grid = model.schedule(SPACING).levels[1:], (x.shape[2], x.shape[3])
        level = min(levels, key=lambda each: abs(each.time - self.time))
        mean = torch.zeros((), device=x.device)
        with model.lock, self._recording(model.unet) as latest:
            for draw in range(self.draws):
                noise = torch.randn(x.shape, generator=seeded_generator(f"{seed}/dift/{draw}"))
                model.eps(level.alpha * x + level.sigma * noise.to(x), level.time, c)
                mean = mean + latest(grid) / self.draws
        maps = F.interpolate(mean, grid, mode="bilinear", align_corners=False)
        features = maps.flatten(2).mT
        tokens = F.normalize(features - features.mean(-1, keepdim=True), dim=-1, eps=SMALLEST)
        return EncoderOutput(tokens, features.mean(1), grid)

    @contextmanager
    def _recording(self, unet: Any) -> Iterator[Callable[[Grid], Tensor]]:
        """A function of the latents' size that gives the features of the last call as maps."""
        outputs: dict[int, Tensor] = {}
        hooks = []
        for i, block in enumerate(unet.up_blocks if self.features == "block" else ()):
            hook = partial(_keep_output, outputs, i)
            hooks.append(block.register_forward_hook(hook))

        def latest(grid: Grid) -> Tensor:
            if outputs:
                small = [each for each in outputs.values() if 2 * each.shape[2] <= grid[0]]
                return (small or [outputs[0]])[-1].float()
            keys = max(recorded.features.values(), key=lambda each: each.shape[1])  # the first one
            rows, columns = layer_size(keys.shape[1], grid)
            return keys.float().mT.reshape(len(keys), -1, rows, columns)

        try:
            # a compiled U-Net would not call the hooks; a watched one is not compiled
            with watch(unet, [f"{DECODER_SELF}.to_k"]) as recorded:
                yield latest
        finally:
            for each in hooks:
                each.remove()


def _keep_output(outputs: dict[int, Tensor], i: int, _: Any, __: Any, output: Tensor) -> None:
    outputs[i] = output
