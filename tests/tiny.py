"""Models of real classes with random weights, built in milliseconds, and plans for edits."""

from __future__ import annotations

import math
import string
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL.Image import Image
from transformers import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from zerocon.activations import Observer
from zerocon.attention_control import AttentionControl
from zerocon.conditioning import Conditioning
from zerocon.editing import ImagePlan, Plan
from zerocon.guidance import Guidance
from zerocon.inversion import DDIM
from zerocon.model.stable_diffusion import StableDiffusion
from zerocon.settings import PAPER, Settings
from zerocon.trajectory import Inversion, LayersByLevel, layers_by_time

POSITIONS = 16
SETTINGS = Settings(steps=4, guidance_scale=5.0)  # the scale of random weights is not measured
# The papers', without guidance and attention control.
PLAIN = Settings(**{**PAPER, "steps": 4, "guidance_scale": 5.0, "guidance": ()})

# What a second-generation U-Net and text encoder do differently, besides what they predict: linear
# projections, attention in float32, heads of one width, another activation, larger images.
SECOND = {
    "unet": {
        "sample_size": 12,
        "attention_head_dim": (2, 4),
        "cross_attention_dim": 24,
        "use_linear_projection": True,
        "upcast_attention": True,
    },
    "text": {"hidden_size": 24, "num_hidden_layers": 3, "hidden_act": "gelu"},
}

# Wide enough for what the released models never vary: groups of 32, heads of 64.
WIDE = {
    "unet": {"block_out_channels": (64, 128), "cross_attention_dim": 64, "norm_num_groups": 32},
    "text": {"hidden_size": 64, "num_attention_heads": 1},
    "vae": {"block_out_channels": (32, 32, 32, 32), "norm_num_groups": 32},
}


class TinyCaptioner:
    """Returns the same caption for every image."""

    def describe(self, images: Sequence[Image]) -> list[str]:
        return ["a cat on a bench"] * len(images)


def tokenizer(second: bool = False) -> CLIPTokenizer:
    """Letters and nothing else: every word has as many tokens as letters.

    The ``second`` generation pads with a word of its own, the first one with the end token.
    """
    letters = [*string.ascii_lowercase, *(c + "</w>" for c in string.ascii_lowercase)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(["!"] if second else [])]
    vocab = {c: i for i, c in enumerate(vocabulary)}
    padding = {"pad_token": "!"} if second else {}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=POSITIONS, **padding)


def model(
    prediction: str = "epsilon",
    seed: int = 0,
    second: bool = False,
    wide: bool = False,
    **scheduler: object,
) -> StableDiffusion:
    """A Stable Diffusion of a few thousand weights: 64 px images, 4x8x8 latents.

    The ``second`` generation differs as 2.x does from 1.x: 96 px images, 4x12x12 latents. A
    ``wide`` one has the groups and heads of the released models.
    """
    torch.manual_seed(seed)

    def parts(name: str, **first: object) -> dict[str, object]:
        heads = {"attention_head_dim": (1, 2) if second else 8} if name == "unet" else {}
        more = WIDE[name] | heads if wide else {}
        return first | (SECOND.get(name, {}) if second else {}) | more

    unet = UNet2DConditionModel(
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        **parts(
            "unet",
            sample_size=8,
            block_out_channels=(16, 32),
            attention_head_dim=2,
            cross_attention_dim=16,
            norm_num_groups=8,
        ),
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        **parts("vae", block_out_channels=(8, 8, 8, 8), norm_num_groups=4),
    )
    words = tokenizer(second)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            intermediate_size=32,
            **parts("text", hidden_size=16, num_hidden_layers=2, num_attention_heads=2),
            max_position_embeddings=POSITIONS,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=words.pad_token_id,
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
        settings=SETTINGS,
        captioner=TinyCaptioner,
        scorer=lambda: None,
    )


def save(folder: Path, source: StableDiffusion | None = None) -> Path:
    """Write a model as a diffusers directory."""
    source = source or model()
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        getattr(source, part).save_pretrained(folder / part)
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (folder / "zerocon.json").write_text('{"guidance_scale": 5.0}')
    return folder


def save_segmenter(folder: Path, probability: float | None = None) -> Path:
    """Write a CLIPSeg of a few thousand random weights; images are resized to 32x32.

    Args:
        folder: Where.
        probability: If given, that of every pixel for any image and text.
    """
    torch.manual_seed(0)
    words = tokenizer()
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    text = {
        "vocab_size": len(words), "max_position_embeddings": POSITIONS, "num_hidden_layers": 2,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    vision = {"image_size": 32, "patch_size": 8, "num_hidden_layers": 3}
    network = CLIPSegForImageSegmentation(
        CLIPSegConfig(
            text_config=layers | text,
            vision_config=layers | vision,
            projection_dim=16,
            extract_layers=[0, 1],
            reduce_dim=8,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=16,
        )
    )
    output = network.decoder.transposed_convolution
    torch.nn.init.normal_(output.weight)  # its usual initialization gives nearly constant masks
    if probability is not None:
        torch.nn.init.zeros_(output.weight)
        torch.nn.init.constant_(output.bias, math.log(probability / (1 - probability)))
    network.save_pretrained(folder)
    words.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def plan(
    guidance_scale: float = 5.0,
    guidance: Sequence[Guidance] = (),
    seeds: tuple[int, ...] = (0,),
    attention: AttentionControl | None = None,
    **settings: object,
) -> Plan:
    """A plan with method objects, and other settings by name; the others are the papers'."""
    given = {"guidance_scale": guidance_scale, "guidance": tuple(guidance), **settings}
    chosen = Settings(**{**PAPER, **given})
    images = tuple(replace(ImagePlan.of(chosen, ()), seed=s, attention=attention) for s in seeds)
    controls = () if attention is None else (attention,)
    return Plan(chosen, DDIM(), tuple(guidance), images, controls)


def vary(plan: Plan, **settings: object) -> Plan:
    """The same plan with other settings."""
    chosen = replace(plan.settings, **settings)
    own = [(each.seed, each.attention) for each in plan.images]
    images = [replace(ImagePlan.of(chosen, ()), seed=s, attention=a) for s, a in own]
    return replace(plan, settings=chosen, images=tuple(images))


def invert(
    model: StableDiffusion,
    x: torch.Tensor,
    c: Conditioning,
    layer_patterns: Collection[str] | LayersByLevel = frozenset(),
    steps: int = 4,
) -> Inversion:
    """The DDIM inversion of latents ``x``; layers are those of all levels, or by level."""
    schedule = model.schedule(steps)
    if not isinstance(layer_patterns, tuple):
        layer_patterns = (frozenset(), *[frozenset(layer_patterns)] * steps)
    patterns = frozenset[str]().union(*layer_patterns)
    observer = Observer(model, c, patterns, layers_by_time(schedule, layer_patterns))
    return Inversion.from_observations(
        DDIM()(observer, x, schedule),
        schedule=schedule,
        captions=("",) * len(c),
        model="tiny",
        recipe={},
        layer_patterns=layer_patterns,
    )
