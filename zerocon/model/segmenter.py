"""Masks from words, with CLIPSeg."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zerocon.errors import MaskTextError, MissingError, ModelNotFoundError
from zerocon.model.companion import Companion, load_parts
from zerocon.model.loading import disable_progress_bars, find_part
from zerocon.model.networks import plan_segmenter
from zerocon.model.precision import compute_finite
from zerocon.settings import DEFAULT_SEGMENTER

THRESHOLD = 0.3  # probability from which a pixel belongs to the words
SOFTNESS = 0.1  # the mask rises from 0 to 255 between THRESHOLD - SOFTNESS and THRESHOLD + SOFTNESS


class Segmenter(Companion):
    """CLIPSeg (arXiv 2112.10003): the probability of each pixel to belong to words.

    Tested on transformers' class with small random weights. It has not been run with the full-size
    weights, so that ``THRESHOLD`` and ``SOFTNESS`` are not measured.
    """

    @classmethod
    def load(
        cls,
        name: str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Segmenter:
        """CLIPSeg from a directory or the Hub's cache; nothing is downloaded.

        Args:
            name: Directory or Hub id; default: ``DEFAULT_SEGMENTER``.
            device: Where it computes.
            dtype: Of the network; probabilities are float32.

        Raises:
            ModelNotFoundError: It is not on this machine, or not complete.
            PickleRefusedError: Its weights are a pickle.
            UnsupportedModelError: It is another model, or damaged.
        """
        from transformers import CLIPTokenizer
        from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

        disable_progress_bars()
        try:
            folder = find_part(name or DEFAULT_SEGMENTER)
        except MissingError as error:
            raise ModelNotFoundError(f"{error}, or give a mask: --mask FILE") from None
        kinds = (CLIPTokenizer, ViTImageProcessorPil)
        return cls(*load_parts(folder, plan_segmenter, *kinds, dtype, any_size=True), device)

    def mask(self, image: Image.Image, text: str) -> Image.Image:
        """Where ``text`` is in an image: mode L, of the image's size, 255 where it surely is.

        The threshold is soft: the mask rises linearly from 0 at a probability of ``THRESHOLD -
        SOFTNESS`` to 255 at ``THRESHOLD + SOFTNESS``, so that its edge has no steps.

        Args:
            image: RGB, any size.
            text: A thing in the image: "the hat".

        Raises:
            MaskTextError: There are no words, or no pixel's probability reaches ``THRESHOLD``.
        """
        words = " ".join(text.split())
        if not words:
            raise MaskTextError('no words for the mask; name what may change, as in "the hat"')
        values = self.probabilities(image, words)
        if (highest := float(values.max())) < THRESHOLD:
            thing = re.sub(r"^(?:the|an?) (?=.)", "", words, flags=re.IGNORECASE)
            raise MaskTextError(
                f"no {thing} was found in the image (highest probability {highest:.2f}); "
                "give --mask FILE, or other words"
            )
        share = ((values - (THRESHOLD - SOFTNESS)) / (2 * SOFTNESS)).clip(0, 1)
        return Image.fromarray((255 * share).round().astype(np.uint8))

    @torch.no_grad()
    def probabilities(self, image: Image.Image, text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Probability of each pixel to belong to ``text``, (height, width), 0..1.

        The network is given a square of its own size, without regard to the aspect ratio, and its
        output is scaled back with bilinear interpolation.
        """
        with self.in_use() as device:
            tokens = self.tokenizer([text], truncation=True, return_tensors="pt").to(device)
            pixels = self.images(image.convert("RGB"), return_tensors="pt").pixel_values

            def call(pixels: Tensor) -> Tensor:
                logits: Tensor = self.network(
                    input_ids=tokens.input_ids,
                    attention_mask=tokens.attention_mask,
                    pixel_values=pixels.to(device, self.network.dtype),
                ).logits
                return logits.float().sigmoid().reshape(1, *logits.shape[-2:])

            what = "the mask's probabilities"
            (values,) = compute_finite("segmenter", self.network, call, pixels, what).cpu()
        scaled = Image.fromarray(values.numpy()).resize(image.size, Image.Resampling.BILINEAR)
        return np.array(scaled)
