"""Models in the size of released ones with random weights: the same speed without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from zerocon.errors import ModelNotFoundError
from zerocon.mini import path

if TYPE_CHECKING:
    from zerocon.model import Captioner
    from zerocon.model.stable_diffusion import StableDiffusion


def first_generation(device: torch.device, dtype: torch.dtype) -> StableDiffusion:
    """Stable Diffusion 1.x at 512 x 512 pixels, with the tokenizer of the embedded model."""
    from diffusers import DDIMScheduler
    from transformers import CLIPTokenizer

    from zerocon.model.stable_diffusion import StableDiffusion

    tokenizer = CLIPTokenizer.from_pretrained(path() / "tokenizer", model_max_length=77)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            networks = _networks(tokenizer.eos_token_id)
    finally:
        torch.set_default_dtype(before)
    return StableDiffusion(
        "random weights of the shape of Stable Diffusion 1.x",
        **networks,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler.from_pretrained(path() / "scheduler"),
        device=device,
        captioner=_no_captioner,
        scorer=lambda: None,
    )


def _networks(eos_token_id: int) -> dict[str, Any]:
    """U-Net, autoencoder and text encoder on torch's default device and in its default dtype."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        eos_token_id=eos_token_id,
    )
    vae = AutoencoderKL(
        sample_size=512,
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    )
    return {
        "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        "vae": vae,
        "text_encoder": CLIPTextModel(text),
    }


def _no_captioner() -> Captioner:
    raise ModelNotFoundError("random weights have no captioner; give --caption")
