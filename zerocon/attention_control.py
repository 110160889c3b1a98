"""Attention control: what an edit takes from the attention of its source.

A guidance loss moves the latents until their attention is like the source's; a control puts the
source's in its place, without a gradient. It is a frozen dataclass that is called as
``control(layer, source, edited, ids)`` with what one layer computed for the source and for the
edited images at the same noise level, and returns what the U-Net goes on with. It names the layers
that it changes (``layer_patterns``).

To add one: a class, a line in ``ATTENTION`` at the end of this file, a test, a row in the docs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from zerocon.conditioning import Ids, shared_columns
from zerocon.model.attention import CROSS, DECODER_SELF, ENCODER_SELF, PROJECTIONS

SELF_LAYERS = {"all": "*.attn1", "decoder": DECODER_SELF, "encoder": ENCODER_SELF}


class AttentionControl(Protocol):
    """What the editing loop needs of an attention control.

    One attribute more is optional: ``same_at_source`` says whether its result is exactly the
    source's where the edited image and its caption equal the source, by default it may not be.

    Attributes:
        layer_patterns: Names of all layers that it changes, as shell patterns: cross-attention
            (``*.attn2``), self-attention (``*.attn1``) or projections of it (``*.attn1.to_q``,
            ``to_k``, ``to_v``). The source's are recorded.
    """

    @property
    def layer_patterns(self) -> Collection[str]: ...

    def layers_at(self, progress: float) -> Collection[str]:
        """Those of ``layer_patterns`` that it changes at a share of the steps, from noise."""
        ...

    def __call__(
        self, layer: str, source: Tensor, edited: Tensor, ids: Sequence[tuple[Ids, Ids]]
    ) -> Tensor:
        """What takes the place of ``edited``.

        Args:
            layer: The layer's name.
            source: Of the source, one row per image: probabilities (images, heads, pixels,
                positions) for cross-attention, else (images, pixels, features).
            edited: Of the edited images, in the same shape.
            ids: For each image the token ids of the captions under which the two were computed.
        """
        ...


@dataclass(frozen=True)
class Injection:
    """Use the source's self-attention, and its cross-attention to words that stay (P2P, PnP).

    In self-attention, queries and keys are the source's: its layout, filled with values of the
    edited image (Plug-and-Play, arXiv 2211.12572, sec. 4). In cross-attention, the columns of
    tokens that both captions share are the source's probabilities (Prompt-to-Prompt, arXiv
    2208.01626, sec. 3.2); unlike there, rows are normalized again.

    Attributes:
        self: Share of the steps, counted from noise, with the source's self-attention.
        cross: The same for cross-attention.
        layers: The part of the U-Net whose self-attention is the source's; "decoder" as in
            Plug-and-Play. Cross-attention is that of all layers.
        values: Use the source's values too, so that the layer's output is the source's. (MasaCtrl,
            arXiv 2304.08465, uses its keys and values.)
    """

    self: float = 0.8
    cross: float = 0.5
    layers: Literal["all", "decoder", "encoder"] = "all"
    values: bool = False

    same_at_source: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, share in (("self", self.self), ("cross", self.cross)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be a share of the steps from 0 to 1, not {share}")
        if self.layers not in SELF_LAYERS:
            raise ValueError(f'layers must be {" or ".join(SELF_LAYERS)}, not "{self.layers}"')

    @property
    def layer_patterns(self) -> Collection[str]:
        return self.layers_at(0.0)

    def layers_at(self, progress: float) -> Collection[str]:
        """Self- and cross-attention, each until its share of the steps is done."""
        layers, projections = SELF_LAYERS[self.layers], PROJECTIONS[: 2 + self.values]
        chosen = {f"{layers}.{each}" for each in projections if progress < self.self}
        return chosen | ({CROSS} if progress < self.cross else set())

    def __call__(
        self, layer: str, source: Tensor, edited: Tensor, ids: Sequence[tuple[Ids, Ids]]
    ) -> Tensor:
        """The source's projections, or the edited maps with the source's shared columns."""
        if layer.endswith(PROJECTIONS):
            return source
        before, after = zip(*ids, strict=True)
        return replace_shared(source, edited, before, after)


def replace_shared(
    source: Tensor, edited: Tensor, before: tuple[Ids, ...], after: tuple[Ids, ...]
) -> Tensor:
    """Probabilities with the source's columns of shared tokens and padding; rows sum to 1.

    Args:
        source: Cross-attention probabilities, (images, heads, pixels, positions).
        edited: Those of the edited images.
        before: Token ids of the source captions, one per image.
        after: Token ids of the edited images' captions.
    """
    columns = shared_columns(before, after, source.shape[-1], source.device)
    reference = columns.reorder(source)
    maps = torch.where(columns.shared[:, None, None], reference, edited).float()
    # where every column is the source's, dividing by a sum of nearly 1 would round
    whole = columns.shared.all(-1)[:, None, None, None]
    return torch.where(whole, reference, (maps / maps.sum(-1, keepdim=True)).to(edited.dtype))


ATTENTION: Mapping[str, type[AttentionControl]] = {"injection": Injection}
