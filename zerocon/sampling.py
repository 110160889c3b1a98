"""A picture from a sentence alone, by plain DDIM: what a model can do with nothing to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from zerocon.diffusion import ddim_step
from zerocon.editing import Plan
from zerocon.shapes import Latents

if TYPE_CHECKING:
    from zerocon.model import Model


@torch.no_grad()
def denoise(
    model: Model,
    sentences: Sequence[str],
    x: Latents,
    steps: int,
    guidance_scale: float | tuple[float, float],
) -> Latents:
    """The latents of pictures of ``sentences``, one for each row of the noise ``x``.

    ``guidance_scale`` is the guidance scale against the empty sentence: one number, or the first and the
    last of a walk. Two evaluations a step and picture.
    """
    schedule, plan = model.schedule(steps), Plan(guidance_scale)
    c = model.embed([""] * len(sentences) + list(sentences))
    for level in range(steps, 0, -1):
        plain, told = model.eps(torch.cat([x, x]), schedule.times[level], c).chunk(2)
        eps = plain + plan.scale_at(1 - level / steps) * (told - plain)
        x = ddim_step(x, eps, schedule.levels[level], schedule.levels[level - 1])
    return x
