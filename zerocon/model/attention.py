"""Look inside the U-Net for the length of a block, and leave no trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from weakref import WeakSet

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from zerocon.errors import MethodError
from zerocon.shapes import CrossMaps, Features

CROSS = "*.attn2"  # every cross-attention layer
DECODER_SELF = "up_blocks.*.attn1"  # the self-attention layers of the decoder
ENCODER_SELF = "down_blocks.*.attn1"  # those of the encoder


_watched: WeakSet[nn.Module] = WeakSet()


@dataclass
class LayerOutputs:
    """What the watched layers showed in the last call, by layer name, in the U-Net's own dtype.

    ``maps``: cross-attention probabilities, (batch, heads, pixels, positions), rows summing to 1.
    ``features``: outputs of self-attention layers before the residual, (batch, pixels, features).
    Pixels run row by row.
    """

    maps: dict[str, CrossMaps] = field(default_factory=dict)
    features: dict[str, Features] = field(default_factory=dict)


@contextmanager
def watch(unet: nn.Module, patterns: Iterable[str]) -> Iterator[LayerOutputs]:
    """Record the attention layers whose names match one of ``patterns`` (shell wildcards).

    Layers named ``attn2`` give their probabilities and are computed explicitly meanwhile; all
    others give their output through a hook and keep the fused kernel. A pattern that matches no
    layer is a ``ValueError``: a guidance that silently watches nothing would guide nothing.
    """
    seen = LayerOutputs()
    before: dict[Any, Any] = {}
    hooks = []
    try:
        _watched.add(unet)
        for name, layer in _matching(unet, patterns).items():
            if name.endswith("attn2"):
                before[layer] = layer.processor
                layer.set_processor(_Explicit(name, seen))
            else:
                hooks.append(layer.register_forward_hook(_recorder(name, seen)))
        yield seen
    finally:  # also after an error: the next edit uses this very U-Net
        for layer, processor in before.items():
            layer.set_processor(processor)
        for hook in hooks:
            hook.remove()
        _watched.discard(unet)


def watched(unet: nn.Module) -> bool:
    """Whether somebody looks into it right now."""
    return unet in _watched


def checkpoint(unet: Any) -> None:
    """Let ``unet`` keep only what goes into its blocks, and compute the rest again on the way back.

    Less memory for a gradient, at the cost of one more forward. What was watched on the way there
    is computed in the same way again, but seen by nobody.
    """

    def run(block: nn.Module, *given: Any) -> Any:
        names = {layer: layer.processor.name for layer in _explicit(block)}

        @contextmanager
        def again() -> Iterator[None]:
            before = {layer: layer.processor for layer in names}
            for layer, name in names.items():
                layer.set_processor(_Explicit(name, LayerOutputs()))
            try:
                yield
            finally:
                for layer, processor in before.items():
                    layer.set_processor(processor)

        return torch.utils.checkpoint.checkpoint(
            block.__call__,
            *given,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), again()),
        )

    unet.enable_gradient_checkpointing(run)


def _explicit(block: nn.Module) -> list[Any]:
    layers: list[Any] = [m for n, m in block.named_modules() if n.endswith("attn2")]
    return [layer for layer in layers if isinstance(layer.processor, _Explicit)]


def _matching(unet: nn.Module, patterns: Iterable[str]) -> dict[str, Any]:
    layers = {n: m for n, m in unet.named_modules() if n.endswith(("attn1", "attn2"))}
    chosen: dict[str, Any] = {}
    for pattern in sorted(patterns):
        matched = {n: m for n, m in layers.items() if fnmatchcase(n, pattern)}
        if not matched:
            raise MethodError(f'no attention layer of this U-Net matches "{pattern}"')
        chosen |= matched
    return chosen


def _recorder(name: str, seen: LayerOutputs) -> Any:
    def record(_: nn.Module, __: Any, output: Tensor) -> None:
        seen.features[name] = output

    return record


class _Explicit:
    """Attention with the softmax written out, since fused kernels never form the probabilities."""

    def __init__(self, name: str, seen: LayerOutputs) -> None:
        self.name, self.seen = name, seen

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(part)  # (batch * heads, length, features per head)
            for part in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        maps = attn.get_attention_scores(query, key, attention_mask)
        self.seen.maps[self.name] = maps.unflatten(0, (-1, attn.heads))
        mixed: Tensor = attn.batch_to_head_dim(torch.bmm(maps, value))
        for layer in attn.to_out:  # projection, dropout
            mixed = layer(mixed)
        return mixed
