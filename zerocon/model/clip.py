"""Similarity of images and texts, with CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from zerocon.errors import MissingError
from zerocon.model.companion import Companion
from zerocon.model.loading import disable_progress_bars, find_part, model_errors
from zerocon.model.precision import compute_finite
from zerocon.model.tokenizing import token_limit, unread_text
from zerocon.settings import DEFAULT_CLIP


class ClipScorer(Companion):
    """CLIP with both encoders (arXiv 2103.00020)."""

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are read, start and end tokens included."""
        return token_limit(self.tokenizer, self.network.config.text_config.max_position_embeddings)

    def unread_text(self, text: str) -> str:
        """The end of a text that is not read, from a whole word on; "" if none."""
        with self._lock:
            return unread_text(self.tokenizer, text, self.max_tokens)

    @torch.no_grad()
    def similarity(self, image: Image, texts: Sequence[str]) -> list[float]:
        """Cosine similarity of the image's and each text's embedding, -1..1.

        Raises:
            NotFiniteError: The network computed NaN or infinity, in float32 too.
        """
        with self.in_use() as device:
            tokens = self.tokenizer(
                list(texts),
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            ).to(device)
            pixels = self.images(image, return_tensors="pt").pixel_values.to(device)

            def call(pixels: Tensor) -> Tensor:
                output = self.network(
                    input_ids=tokens.input_ids,
                    attention_mask=tokens.attention_mask,
                    pixel_values=pixels.to(self.network.dtype),
                )
                cosines: Tensor = output.image_embeds.float() @ output.text_embeds.float().T
                return cosines

            cosines = compute_finite("clip", self.network, call, pixels, "CLIP's similarities")
        return [float(cosine) for cosine in cosines[0]]


def load_scorer(
    parent: Path, name: str | None, device: torch.device, dtype: torch.dtype = torch.float32
) -> ClipScorer | None:
    """CLIP from ``name`` if given, else from ``parent/clip``, else the default one or None.

    Raises:
        ModelNotFoundError: The named one is not on this machine.
    """
    from transformers import AutoTokenizer, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    disable_progress_bars()
    bundled = parent / "clip"
    try:
        folder = bundled if bundled.is_dir() and name is None else find_part(name or DEFAULT_CLIP)
    except MissingError:
        if name is not None:
            raise
        return None
    with model_errors(str(folder)):
        return ClipScorer(
            CLIPModel.from_pretrained(folder, dtype=dtype),
            AutoTokenizer.from_pretrained(folder),
            CLIPImageProcessorPil.from_pretrained(folder),
            device,
        )
