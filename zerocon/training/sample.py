"""Images from captions by DDIM (2010.02502), for sample sheets and the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from PIL.Image import Image

from zerocon.image.transforms import unfit
from zerocon.model import Model
from zerocon.model.checkpoint import SCHEDULER
from zerocon.model.stable_diffusion import StableDiffusion
from zerocon.sampling import denoise
from zerocon.training.augment import frame

if TYPE_CHECKING:
    from typing import Any

    from zerocon.tensor_types import Latents

BATCH = 16  # images sampled at a time


def assemble(
    unet: Any, vae: Any, text_encoder: Any, tokenizer: Any, device: str
) -> StableDiffusion:
    """A model of trained parts, without captioner and CLIP."""
    from diffusers import DDIMScheduler

    return StableDiffusion(
        "mini",
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(**SCHEDULE),
        device=torch.device(device),
        captioner=_none,
        scorer=_none,
    )


SCHEDULE: dict[str, Any] = {**SCHEDULER, "num_train_timesteps": 1000, "prediction_type": "epsilon"}


@torch.no_grad()
def sample_images(
    model: Model,
    captions: Sequence[str],
    steps: int = 50,
    scale: float = 3.0,
    seed: int = 0,
) -> list[Image]:
    """One image per caption; the noise depends on the seed and the caption's position only."""
    images: list[Image] = []
    for first in range(0, len(captions), BATCH):
        part = captions[first : first + BATCH]
        noise = [_noise(model, seed + first + i) for i in range(len(part))]
        latents = denoise(model, part, torch.cat(noise), steps, scale)
        images += [unfit(x, frame()) for x in model.decode(latents)]
    return images


def _noise(model: Model, seed: int) -> Latents:
    side: int = model.unet.config.sample_size
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 4, side, side, generator=generator).to(model.device)


def _none() -> Any:
    return None
