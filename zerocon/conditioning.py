"""Text conditioning: what the U-Net is given beside latents and timestep."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from zerocon.shapes import Tokens

Ids = tuple[int, ...]  # the token numbers of one sentence, start and end included, padding not


@dataclass(frozen=True)
class Conditioning:
    """Sentences as the U-Net reads them: all that a model is told beside latents and time.

    ``tokens`` are the text encoder's last hidden states, float32, one row of positions per
    sentence; ``ids`` the words standing at those positions; ``encoder`` a fingerprint of the text
    encoder, since tokens of two encoders have nothing to say to each other.
    """

    tokens: Tokens
    ids: tuple[Ids, ...]
    encoder: str

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: Conditioning) -> Conditioning:
        """The sentences of both, in order."""
        if self.encoder != other.encoder:
            raise ValueError("sentences of two different text encoders cannot stand in one batch")
        return replace(
            self, tokens=torch.cat([self.tokens, other.tokens]), ids=self.ids + other.ids
        )
