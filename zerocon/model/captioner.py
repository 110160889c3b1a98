"""The captioner (BLIP): one sentence for an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Image

from zerocon.errors import MissingError, ModelNotFoundError
from zerocon.model.loading import find_part, hush, reading
from zerocon.settings import DEFAULT_CAPTIONER

if TYPE_CHECKING:
    from zerocon.model import Model


class Captioner:
    """BLIP, asked without a prompt and answered greedily: the same picture, the same words."""

    def __init__(self, network: Any, tokenizer: Any, images: Any, device: torch.device) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.tokenizer, self.images, self.device = tokenizer, images, device

    @torch.no_grad()
    def describe(self, images: Sequence[Image]) -> list[str]:
        """One sentence about each of ``images``."""
        pixels = self.images(list(images), return_tensors="pt").pixel_values.to(self.device)
        words = self.network.generate(pixel_values=pixels, max_new_tokens=40, do_sample=False)
        return [str(each) for each in self.tokenizer.batch_decode(words, skip_special_tokens=True)]


def load_captioner(beside: Path, name: str | None, device: torch.device) -> Captioner:
    """The captioner lying with the weights, or ``name``, or the default one of the paper."""
    from transformers import AutoTokenizer, BlipForConditionalGeneration
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    hush()
    own = beside / "captioner"
    try:
        folder = own if own.is_dir() and name is None else find_part(name or DEFAULT_CAPTIONER)
    except MissingError as error:
        raise ModelNotFoundError(f"{error}, or describe the picture yourself: --caption") from None
    with reading(str(folder)):
        return Captioner(
            BlipForConditionalGeneration.from_pretrained(folder),
            AutoTokenizer.from_pretrained(folder),
            BlipImageProcessorPil.from_pretrained(folder),
            device,
        )


def caption_image(image: Image, model: Model) -> str:
    """The caption of an image (RGB, any size): one line in lower case.

    Raises ``MissingError`` where there is no captioner on this machine.
    """
    return caption_images([image], model)[0]


def caption_images(images: Sequence[Image], model: Model) -> list[str]:
    """As ``caption_image``, for several images in one batch."""
    return [" ".join(text.lower().split()).rstrip(" .") for text in model.describe(images)]
