"""CLIP: the similarity of an image and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image

from zerocon.errors import MissingError
from zerocon.model.loading import find_part, hush, reading
from zerocon.settings import DEFAULT_CLIP


class Clip:
    """CLIP: how alike a picture and a sentence are."""

    def __init__(self, network: Any, tokenizer: Any, images: Any, device: torch.device) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.tokenizer, self.images, self.device = tokenizer, images, device

    @torch.no_grad()
    def similarity(self, image: Image, sentences: Sequence[str]) -> list[float]:
        """Cosine of the picture's and each sentence's embedding, -1..1."""
        words = self.tokenizer(
            list(sentences), padding=True, truncation=True, return_tensors="pt"
        ).to(self.device)
        pixels = self.images(image, return_tensors="pt").pixel_values.to(self.device)
        seen = self.network(
            input_ids=words.input_ids, attention_mask=words.attention_mask, pixel_values=pixels
        )
        return (seen.text_embeds @ seen.image_embeds.T).squeeze(-1).tolist()  # type: ignore[no-any-return]


def load_clip(beside: Path, name: str | None, device: torch.device) -> Clip | None:
    """CLIP lying with the weights, or ``name``; without either the default one if it is here."""
    from transformers import AutoTokenizer, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    hush()
    own = beside / "clip"
    try:
        folder = own if own.is_dir() and name is None else find_part(name or DEFAULT_CLIP)
    except MissingError:
        if name is not None:  # asked for by name: its absence is an error, not a choice
            raise
        return None
    with reading(str(folder)):
        return Clip(
            CLIPModel.from_pretrained(folder),
            AutoTokenizer.from_pretrained(folder),
            CLIPImageProcessorPil.from_pretrained(folder),
            device,
        )
