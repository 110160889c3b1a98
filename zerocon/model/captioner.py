"""Captions of images, with BLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Image

from zerocon.errors import MissingError, ModelNotFoundError
from zerocon.model.loading import disable_progress_bars, find_part, model_errors
from zerocon.settings import DEFAULT_CAPTIONER

if TYPE_CHECKING:
    from zerocon.model import Model


class BlipCaptioner:
    """BLIP without a prompt and with greedy decoding: deterministic captions."""

    def __init__(self, network: Any, tokenizer: Any, images: Any, device: torch.device) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.tokenizer, self.images, self.device = tokenizer, images, device
        self._lock = Lock()  # tokenizers keep state

    @torch.no_grad()
    def describe(self, images: Sequence[Image]) -> list[str]:
        """One sentence per RGB image of any size."""
        with self._lock:
            pixels = self.images(list(images), return_tensors="pt").pixel_values.to(self.device)
            tokens = self.network.generate(pixel_values=pixels, max_new_tokens=40, do_sample=False)
            texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [str(text) for text in texts]


def load_captioner(parent: Path, name: str | None, device: torch.device) -> BlipCaptioner:
    """BLIP from ``name`` if given, else from ``parent/captioner``, else the default one.

    Raises:
        ModelNotFoundError: It is not on this machine.
    """
    from transformers import AutoTokenizer, BlipForConditionalGeneration
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    disable_progress_bars()
    bundled = parent / "captioner"
    try:
        folder = (
            bundled if bundled.is_dir() and name is None else find_part(name or DEFAULT_CAPTIONER)
        )
    except MissingError as error:
        raise ModelNotFoundError(f"{error}, or give the source caption: --caption") from None
    with model_errors(str(folder)):
        return BlipCaptioner(
            BlipForConditionalGeneration.from_pretrained(folder),
            AutoTokenizer.from_pretrained(folder),
            BlipImageProcessorPil.from_pretrained(folder),
            device,
        )


def caption_image(image: Image, model: Model) -> str:
    """The caption of an RGB image of any size, in lower case and one line.

    Raises:
        ModelNotFoundError: There is no captioner on this machine.
    """
    return caption_images([image], model)[0]


def caption_images(images: Sequence[Image], model: Model) -> list[str]:
    """As ``caption_image``, for several images in one batch."""
    captions = model.captioner.describe(images)
    return [" ".join(caption.lower().split()).rstrip(" .") for caption in captions]
