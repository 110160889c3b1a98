"""Models in the size of released ones with random weights: the same speed without a download.

Weights are drawn on the device, in the dtype that they are used in, and are never written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from zerocon.errors import ModelNotFoundError
from zerocon.mini import path
from zerocon.model.captioner import BlipCaptioner
from zerocon.model.clip import ClipScorer
from zerocon.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon.model import Captioner, Scorer
    from zerocon.model.stable_diffusion import StableDiffusion

NO_CAPTIONER = "random weights have no captioner; give --caption"


@dataclass(frozen=True)
class ModelShape:
    """Configurations that differ from the defaults of diffusers' and transformers' classes.

    Attributes:
        title: Of the models that have this shape.
        unet: Of ``UNet2DConditionModel``.
        text: Of ``CLIPTextConfig``.
        vae: Of ``AutoencoderKL``, besides its four blocks.
        prediction: What the U-Net predicts.
        supported: Whether the networks make up a model that zerocon loads; of others there is only
            the U-Net.
    """

    title: str
    unet: Mapping[str, Any]
    text: Mapping[str, Any] = field(default_factory=dict)
    vae: Mapping[str, Any] = field(default_factory=lambda: VAE)
    prediction: str = "epsilon"
    supported: bool = True

    def tiny(self) -> ModelShape:
        """The same blocks with one layer and few channels, for 128 pixels."""
        heads = self.unet["attention_head_dim"]  # in spite of its name their number
        unet = {
            "sample_size": 16,
            "layers_per_block": 1,
            "block_out_channels": tuple(c // 20 for c in self.unet["block_out_channels"]),
            "norm_num_groups": 4,
            "attention_head_dim": 2 if isinstance(heads, int) else (2,) * len(heads),
            "cross_attention_dim": TINY_LAYERS["hidden_size"],
        }
        if not self.supported:  # six sizes of 8 numbers, and 32 of a pooled embedding
            unet |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 80}
            unet |= {"transformer_layers_per_block": (1, 1, 2)}
        return replace(
            self,
            title=f"{self.title}, tiny",
            unet={**self.unet, **unet},
            text={**self.text, **TINY_LAYERS},
            vae={**self.vae, **TINY_VAE},
        )


TINY_LAYERS = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
CLIP_VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}
TINY_VAE = {
    "sample_size": 128,
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
VAE: Mapping[str, Any] = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
CHANNELS = (320, 640, 1280, 1280)

SHAPES: Mapping[str, ModelShape] = {
    "sd1": ModelShape(
        "Stable Diffusion 1.x at 512 pixels",
        {
            "sample_size": 64,
            "block_out_channels": CHANNELS,
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
        },
        {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
        },
    ),
    "sd2": ModelShape(
        "Stable Diffusion 2.1 at 768 pixels",
        {
            "sample_size": 96,
            "block_out_channels": CHANNELS,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
            "upcast_attention": True,
        },
        {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
            "hidden_act": "gelu",
        },
        {**VAE, "sample_size": 768},
        prediction="v_prediction",
    ),
    "sdxl": ModelShape(
        "U-Net of Stable Diffusion XL at 1024 pixels",
        {
            "sample_size": 128,
            "block_out_channels": CHANNELS[:3],
            "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
            "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
            "cross_attention_dim": 2048,
            "attention_head_dim": (5, 10, 20),
            "transformer_layers_per_block": (1, 2, 10),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        supported=False,
    ),
}


def random_model(
    shape: ModelShape,
    device: torch.device,
    dtype: torch.dtype,
    *,
    captioner: Callable[[], Captioner] | None = None,
    scorer: Callable[[], Scorer | None] = lambda: None,
) -> StableDiffusion:
    """A model of this shape, with the tokenizer and noise schedule of the embedded model."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from zerocon.model.stable_diffusion import StableDiffusion

    tokenizer = CLIPTokenizer.from_pretrained(path() / "tokenizer", model_max_length=77)
    scheduler = DDIMScheduler.from_pretrained(
        path() / "scheduler", prediction_type=shape.prediction
    )
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    with drawn_on(device, dtype):
        unet = UNet2DConditionModel(**shape.unet)
        vae = AutoencoderKL(**blocks, **shape.vae)
        text = CLIPTextModel(CLIPTextConfig(**shape.text, eos_token_id=tokenizer.eos_token_id))
    return StableDiffusion(
        f"random weights of the shape of {shape.title}",
        unet=unet,
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        scheduler=scheduler,
        device=device,
        settings=Settings(guidance_scale=5.0),  # random weights do not answer to captions
        captioner=captioner or _no_captioner,
        scorer=scorer,
    )


def random_unet(shape: ModelShape, device: torch.device, dtype: torch.dtype) -> Any:
    """The U-Net alone, frozen."""
    from diffusers import UNet2DConditionModel

    with drawn_on(device, dtype):
        return UNet2DConditionModel(**shape.unet).eval().requires_grad_(False)


@contextmanager
def drawn_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Create networks on ``device`` in ``dtype`` inside the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


class RandomCaptioner(BlipCaptioner):
    """BLIP with random weights, whose sentence is replaced by a ``caption``."""

    caption = ""

    def describe(self, images: Sequence[Image]) -> list[str]:
        """Run the network, and return the caption for every image."""
        return [self.caption for _ in super().describe(images)]


def random_captioner(device: torch.device, caption: str, *, tiny: bool = False) -> RandomCaptioner:
    """BLIP base in float32, as captioners are loaded, or a ``tiny`` one."""
    from transformers import AutoTokenizer, BlipConfig, BlipForConditionalGeneration
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    layers = TINY_LAYERS if tiny else {}
    config = BlipConfig(text_config=dict(layers), vision_config=dict(layers))
    with drawn_on(device, torch.float32):
        network = BlipForConditionalGeneration(config)
    tokenizer = AutoTokenizer.from_pretrained(path() / "captioner")
    captioner = RandomCaptioner(network, tokenizer, BlipImageProcessorPil(), device)
    captioner.caption = caption
    return captioner


def random_scorer(device: torch.device, *, tiny: bool = False) -> ClipScorer:
    """CLIP in the size of the default one (ViT-L/14) in float32, or a ``tiny`` one."""
    from transformers import AutoTokenizer, CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = AutoTokenizer.from_pretrained(path() / "clip", model_max_length=77)
    text, vision = (TINY_LAYERS, TINY_LAYERS) if tiny else (SHAPES["sd1"].text, CLIP_VISION)
    config = CLIPConfig(
        text_config={**text, "eos_token_id": tokenizer.eos_token_id},
        vision_config={**vision, "patch_size": 14},
        projection_dim=768,
    )
    with drawn_on(device, torch.float32):
        network = CLIPModel(config)
    return ClipScorer(network, tokenizer, CLIPImageProcessorPil(), device)


def _no_captioner() -> Captioner:
    raise ModelNotFoundError(NO_CAPTIONER)
