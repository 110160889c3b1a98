"""Text conditioning of the U-Net, with vector arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from zerocon.errors import MismatchError
from zerocon.tensor_types import Tokens

Ids = tuple[int, ...]  # token ids of one text: start and end token included, padding not


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Everything the U-Net gets besides latents and timestep, one row per text.

    Conditionings of one text encoder form a vector space: ``a + b``, ``a - b`` and ``w * a`` act on
    ``tokens`` and ``pooled`` element by element; ``ids`` and ``extra`` are those of the left
    operand. A right operand with one row applies to every row. ``cat`` makes batches.

    Attributes:
        tokens: Last hidden states of the text encoder, (batch, positions, features), float32.
        ids: Token ids of every text, without padding.
        encoder: Fingerprint of the text encoder; embeddings of different encoders do not mix.
        pooled: Pooled text embeddings, (batch, features), for U-Nets that take them (SDXL).
        extra: Further inputs by their name in diffusers' ``added_cond_kwargs``, batch first, for
            instance ``time_ids`` of SDXL.
    """

    tokens: Tokens
    ids: tuple[Ids, ...]
    encoder: str
    pooled: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        _, positions, features = self.tokens.shape
        return (
            f"Conditioning({len(self)} x {positions} positions x {features} features, "
            f"encoder {self.encoder!r})"
        )

    def __add__(self, other: Conditioning) -> Conditioning:
        return self._combine(other, torch.add)

    def __sub__(self, other: Conditioning) -> Conditioning:
        return self._combine(other, torch.sub)

    def __mul__(self, factor: float) -> Conditioning:
        pooled = None if self.pooled is None else factor * self.pooled
        return replace(self, tokens=factor * self.tokens, pooled=pooled)

    __rmul__ = __mul__

    @classmethod
    def cat(cls, parts: Sequence[Conditioning]) -> Conditioning:
        """The rows of all ``parts``, in order.

        Raises:
            MismatchError: The parts come from different text encoders or have different inputs.
        """
        first = parts[0]
        for part in parts:
            first._require_same_inputs(part)
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return replace(
            first,
            tokens=torch.cat([part.tokens for part in parts]),
            ids=tuple(ids for part in parts for ids in part.ids),
            pooled=torch.cat(pooled) if pooled else None,
            extra={name: torch.cat([part.extra[name] for part in parts]) for name in first.extra},
        )

    def rows(self, rows: slice) -> Conditioning:
        """The rows selected by a slice."""
        return replace(self._each(lambda tensor: tensor[rows]), ids=self.ids[rows])

    def to(self, device: torch.device | str) -> Conditioning:
        """The same values on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def _combine(
        self, other: Conditioning, operation: Callable[[Tensor, Tensor], Tensor]
    ) -> Conditioning:
        self._require_same_inputs(other)
        if len(other) not in (1, len(self)):
            raise MismatchError(f"cannot combine {len(self)} conditionings with {len(other)}")
        pooled = None
        if self.pooled is not None and other.pooled is not None:
            pooled = operation(self.pooled, other.pooled)
        return replace(self, tokens=operation(self.tokens, other.tokens), pooled=pooled)

    def _require_same_inputs(self, other: Conditioning) -> None:
        if self.encoder != other.encoder:
            raise MismatchError("cannot combine conditionings of two different text encoders")
        if (self.pooled is None) != (
            other.pooled is None
        ) or self.extra.keys() != other.extra.keys():
            raise MismatchError("cannot combine conditionings with different additional inputs")

    def _each(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        return replace(
            self,
            tokens=change(self.tokens),
            pooled=None if self.pooled is None else change(self.pooled),
            extra={name: change(tensor) for name, tensor in self.extra.items()},
        )
