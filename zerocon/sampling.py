"""Sampling: images from a caption alone, by DDIM with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from zerocon.diffusion import ddim_step
from zerocon.tensor_types import Latents

if TYPE_CHECKING:
    from zerocon.model import Model

Scale = float | tuple[float, float]  # a guidance scale, or the first and the last of a schedule


def scale_at(guidance_scale: Scale, progress: float) -> float:
    """The guidance scale at a share of the steps, counted from noise; linear between two values."""
    if not isinstance(guidance_scale, tuple):
        return guidance_scale
    first, last = guidance_scale
    return first + progress * (last - first)


@torch.no_grad()
def denoise(
    model: Model, captions: Sequence[str], x: Latents, steps: int, guidance_scale: Scale
) -> Latents:
    """Latents of images of ``captions``, one for each row of the noise ``x``.

    DDIM (arXiv 2010.02502, eq. 12 with eta 0) with classifier-free guidance against the empty
    caption (arXiv 2207.12598): two U-Net evaluations per step and image.
    """
    levels = model.schedule(steps).levels
    c = model.embed([""] * len(captions) + list(captions))
    for i in range(steps, 0, -1):
        unconditional, conditional = model.eps(torch.cat([x, x]), levels[i].time, c).chunk(2)
        w = scale_at(guidance_scale, 1 - i / steps)
        eps = unconditional + w * (conditional - unconditional)
        x = ddim_step(x, eps, levels[i], levels[i - 1])
    return x
