"""Models of released shapes with random weights: as fast as the real ones, and no download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from zerocon.errors import ModelNotFoundError
from zerocon.mini import path

if TYPE_CHECKING:
    from zerocon.model import Captioner
    from zerocon.model.stable_diffusion import StableDiffusion


def first_generation(device: torch.device, dtype: torch.dtype) -> StableDiffusion:
    """Stable Diffusion 1.x, 512 pixels a side; its words are those of the embedded model."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from zerocon.model.stable_diffusion import StableDiffusion

    tokenizer = CLIPTokenizer.from_pretrained(path() / "tokenizer", model_max_length=77)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            unet = UNet2DConditionModel(
                sample_size=64, cross_attention_dim=768, attention_head_dim=8
            )
            vae = AutoencoderKL(
                sample_size=512,
                block_out_channels=(128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2,
            )
            text = CLIPTextModel(
                CLIPTextConfig(
                    hidden_size=768,
                    intermediate_size=3072,
                    num_hidden_layers=12,
                    num_attention_heads=12,
                    eos_token_id=tokenizer.eos_token_id,
                )
            )
    finally:
        torch.set_default_dtype(before)
    return StableDiffusion(
        "random weights of the shape of Stable Diffusion 1.x",
        unet=unet,
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler.from_pretrained(path() / "scheduler"),
        device=device,
        captioner=_blind,
        scorer=lambda: None,
    )


def _blind() -> Captioner:
    raise ModelNotFoundError("random weights describe nothing; give --caption")
