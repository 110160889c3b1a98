"""Real classes, random weights, built in code: any architecture in milliseconds, no download."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL.Image import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from zerocon.model.eyes import Captioner
from zerocon.model.stable_diffusion import StableDiffusion
from zerocon.settings import Settings

POSITIONS = 16


class TinyCaptioner(Captioner):
    """Says the same of every picture; what it says is never the point of a test that uses it."""

    def __init__(self) -> None:
        """Nothing to load."""

    def describe(self, picture: Image) -> str:
        return "a cat on a bench"


def tokenizer() -> CLIPTokenizer:
    """Letters and nothing else: every word has as many tokens as letters."""
    letters = [*string.ascii_lowercase, *(c + "</w>" for c in string.ascii_lowercase)]
    vocab = {c: i for i, c in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=POSITIONS)


def model(prediction: str = "epsilon", seed: int = 0, **scheduler: object) -> StableDiffusion:
    """A Stable Diffusion of a few thousand weights: 64 px pictures, 4x8x8 latents."""
    torch.manual_seed(seed)
    width = 16
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
    )
    words = tokenizer()
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=POSITIONS,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    schedule = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "prediction_type": prediction,
    }
    return StableDiffusion(
        "tiny",
        unet=unet,
        vae=vae,
        text_encoder=text,
        tokenizer=words,
        scheduler=DDIMScheduler(**(schedule | scheduler)),
        device=torch.device("cpu"),
        settings=Settings(steps=4),
        captioner=TinyCaptioner,
        clip=lambda: None,
    )


def save(folder: Path, made: StableDiffusion | None = None) -> Path:
    """Write a model as a diffusers folder, the way people have them on disk."""
    made = made or model()
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        getattr(made, part).save_pretrained(folder / part)
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return folder
