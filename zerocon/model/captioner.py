"""Captions of images, with BLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Image
from torch import Tensor

from zerocon.errors import MissingError, ModelNotFoundError
from zerocon.model.companion import Companion, find_companion, load_parts
from zerocon.model.loading import disable_progress_bars
from zerocon.model.networks import plan_captioner
from zerocon.model.precision import call_finite
from zerocon.settings import DEFAULT_CAPTIONER
from zerocon.tensor_types import require_finite

if TYPE_CHECKING:
    from zerocon.model import Model


LONGEST = 40  # tokens of a caption


class BlipCaptioner(Companion):
    """BLIP without a prompt and with greedy decoding: deterministic captions."""

    @torch.no_grad()
    def describe(self, images: Sequence[Image]) -> list[str]:
        """One sentence per RGB image of any size.

        Raises:
            NotFiniteError: The network computed NaN or infinity, in float32 too.
        """
        with self.in_use() as device:
            pixels = self.images(list(images), return_tensors="pt").pixel_values.to(device)
            tokens = call_finite("captioner", self.network, self._generate, pixels)
            texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [str(text) for text in texts]

    def _generate(self, pixels: Tensor) -> Tensor:
        """Tokens, (images, length). The largest of logits with NaN would be a word like any other.

        Raises:
            NotFiniteError: The logits of a word are NaN or infinite.
        """

        def check(_: object, __: object, output: Any) -> None:
            require_finite(output.logits, "the logits of the captioner", "captioner")

        handle = self.network.text_decoder.register_forward_hook(check)
        try:
            pixels = pixels.to(self.network.dtype)
            longest = self.network.config.text_config.max_position_embeddings - 1  # after the start
            tokens: Tensor = self.network.generate(
                pixel_values=pixels, max_new_tokens=min(LONGEST, longest), do_sample=False
            )
        finally:
            handle.remove()
        return tokens


def load_captioner(
    parent: Path, name: str | None, device: torch.device, dtype: torch.dtype = torch.float32
) -> BlipCaptioner:
    """BLIP from ``name`` if given, else from ``parent/captioner``, else the default one.

    Raises:
        ModelNotFoundError: It is not on this machine, or not complete.
        PickleRefusedError: Its weights are pickles.
        UnsupportedModelError: It is another model, or damaged.
    """
    from transformers import BertTokenizer
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    disable_progress_bars()
    try:
        folder = find_companion(parent, "captioner", name, DEFAULT_CAPTIONER)
    except MissingError as error:
        raise ModelNotFoundError(f"{error}, or give the source caption: --caption") from None
    parts = load_parts(folder, plan_captioner, BertTokenizer, BlipImageProcessorPil, dtype)
    return BlipCaptioner(*parts, device)


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
