"""Similarity of images and texts, with CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize

from zerocon.errors import MissingError
from zerocon.model.companion import Companion, find_companion, load_parts
from zerocon.model.loading import disable_progress_bars
from zerocon.model.networks import plan_clip
from zerocon.model.precision import compute_finite, record_float32
from zerocon.model.tokenizing import token_limit, unread_text
from zerocon.settings import DEFAULT_CLIP


class ClipScorer(Companion):
    """CLIP with both encoders (arXiv 2103.00020)."""

    _last: tuple[Tensor, Tensor] | None = None  # pixels and embedding of an image

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

        The embedding of the last image is kept: further texts cost no pass of the image encoder.

        Raises:
            NotFiniteError: The network computed NaN or infinity, in float32 too.
        """
        with self.in_use() as device:
            image_embedding = self._embed_image(image, device)
            text_embeddings = self._embed_texts(texts, device)
        return [float(cosine) for cosine in text_embeddings @ image_embedding[0]]

    def embed(self, image: Image) -> Tensor:
        """The image's embedding, of unit length, (1, width) in main memory."""
        with self.in_use() as device, torch.no_grad():
            return self._embed_image(image, device)

    def _embed_image(self, image: Image, device: torch.device) -> Tensor:
        """Embedding of unit length, (1, width) in float32 in main memory."""
        pixels = self.images(image, return_tensors="pt").pixel_values
        if self._last is not None and torch.equal(pixels, self._last[0]):
            return self._last[1]

        def call(pixels: Tensor) -> Tensor:
            output = self.network.get_image_features(pixel_values=pixels.to(self.network.dtype))
            embedding: Tensor = output.pooler_output.float()
            return embedding

        with record_float32() as record:
            what = "CLIP's image embedding"
            output = compute_finite("clip", self.network, call, pixels.to(device), what)
        embedding = normalize(output).cpu()
        # what was computed again in float32 is computed anew each time, so that it is recorded
        self._last = None if record.all() else (pixels, embedding)
        return embedding

    def _embed_texts(self, texts: Sequence[str], device: torch.device) -> Tensor:
        """Embeddings of unit length, (texts, width) in float32 in main memory."""
        tokens = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        ).to(device)

        def call(rows: Tensor) -> Tensor:
            output = self.network.get_text_features(
                input_ids=tokens.input_ids[rows], attention_mask=tokens.attention_mask[rows]
            )
            embeddings: Tensor = output.pooler_output.float()
            return embeddings

        rows = torch.arange(len(texts), device=device)
        what = "CLIP's text embeddings"
        return normalize(compute_finite("clip", self.network, call, rows, what)).cpu()


def load_scorer(
    parent: Path, name: str | None, device: torch.device, dtype: torch.dtype = torch.float32
) -> ClipScorer | None:
    """CLIP from ``name`` if given, else from ``parent/clip``, else the default one or None.

    Raises:
        ModelNotFoundError: The named one is not on this machine, or one is not complete.
        PickleRefusedError: Its weights are pickles.
        UnsupportedModelError: It is another model, or damaged.
    """
    from transformers import CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    disable_progress_bars()
    try:
        folder = find_companion(parent, "clip", name, DEFAULT_CLIP)
    except MissingError:
        if name is not None:
            raise
        return None
    parts = load_parts(folder, plan_clip, CLIPTokenizer, CLIPImageProcessorPil, dtype)
    return ClipScorer(*parts, device)
