"""Text conditioning of the U-Net, with vector arithmetic, and the alignment of two captions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

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


@lru_cache(maxsize=512)
def align_tokens(source: Ids, edited: Ids) -> tuple[tuple[int, int], ...]:
    """Pairs of positions of the longest common subsequence of two sentences, in order."""
    n, m = len(source), len(edited)
    longest = [[0] * (m + 1) for _ in range(n + 1)]
    for i in reversed(range(n)):
        for j in reversed(range(m)):
            same = source[i] == edited[j]
            skip = max(longest[i + 1][j], longest[i][j + 1])
            longest[i][j] = longest[i + 1][j + 1] + 1 if same else skip
    pairs, i, j = [], 0, 0
    while i < n and j < m:
        if source[i] == edited[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return tuple(pairs)


class SharedColumns(NamedTuple):
    """Which columns of cross-attention maps belong to the same token in both captions.

    Attributes:
        source: For each column of the edited images' maps its column in the source's maps; any
            where there is none, (images, positions).
        shared: Whether there is one, (images, positions).
        same: Whether the source's maps are in the order of the edited images' already.
    """

    source: Tensor
    shared: Tensor
    same: bool

    def reorder(self, maps: Tensor) -> Tensor:
        """The source's maps, (images, heads, pixels, positions), in the edited images' order."""
        if self.same:
            return maps
        return maps.gather(-1, self.source[:, None, None].expand(maps.shape))


@lru_cache(maxsize=512)
def shared_columns(
    source: tuple[Ids, ...],
    edited: tuple[Ids, ...],
    positions: int,
    device: torch.device,
    *,
    by_position: bool = False,
) -> SharedColumns:
    """The columns that the captions of a batch share, by their longest common subsequence.

    Padding is shared too. Cached on ``device``, so that no step waits for a copy.

    Args:
        source: Token ids of the source captions, one per image.
        edited: Token ids of the captions of the edited images.
        positions: Columns of the maps.
        device: Where the maps are.
        by_position: Captions of the same length share every column, also those of other tokens.
    """
    index, shared = torch.zeros(2, len(source), positions, dtype=torch.long)
    for i, (before, after) in enumerate(zip(source, edited, strict=True)):
        if before == after or (by_position and len(before) == len(after)):
            pairs = tuple((j, j) for j in range(positions))
        else:
            padding = zip(range(len(before), positions), range(len(after), positions), strict=False)
            pairs = (*align_tokens(before, after), *padding)
        for left, right in pairs:
            index[i, right], shared[i, right] = left, 1
    every = torch.arange(positions).expand(len(source), -1)
    same = bool(torch.equal(torch.where(shared.bool(), index, every), every))
    return SharedColumns(index.to(device), shared.bool().to(device), same)
