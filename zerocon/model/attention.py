"""The U-Net: its call, recording and changing of attention layers, gradient checkpointing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any
from weakref import WeakSet

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn

from zerocon.conditioning import Conditioning
from zerocon.errors import MethodError
from zerocon.tensor_types import CrossMaps, Features, Latents

CROSS = "*.attn2"
DECODER_SELF = "up_blocks.*.attn1"
ENCODER_SELF = "down_blocks.*.attn1"
LAYERS: Mapping[str, str] = {  # name patterns in diffusers' U-Nets
    "cross_attention": CROSS,
    "self_attention_decoder": DECODER_SELF,
    "self_attention_encoder": ENCODER_SELF,
}

PROJECTIONS = ("to_q", "to_k", "to_v")  # of a self-attention layer

Change = Callable[[str, Tensor], Tensor]  # a layer's name and what it computed -> what to use

_watched: WeakSet[nn.Module] = WeakSet()


@dataclass
class LayerOutputs:
    """What the recorded layers computed in the last call, by layer name, in the U-Net's dtype.

    Attributes:
        maps: Cross-attention probabilities, (batch, heads, pixels, positions); rows sum to 1.
        features: Outputs of self-attention layers before the residual, (batch, pixels, features),
            and those of their projections ``to_q``, ``to_k`` and ``to_v``.

    Pixels are in row-major order.
    """

    maps: dict[str, CrossMaps] = field(default_factory=dict)
    features: dict[str, Features] = field(default_factory=dict)


def call_unet(unet: Any, x: Latents, t: float, c: Conditioning) -> Latents:
    """The raw prediction of a U-Net, float32: the only place that calls one.

    Args:
        unet: diffusers' U-Net; inputs are cast to its dtype.
        x: Latents.
        t: Timestep.
        c: One row per row of ``x``; ``pooled`` and ``extra`` are passed on where present.
    """
    dtype = weight_dtype(unet)
    added = {name: tensor.to(dtype) for name, tensor in c.extra.items()}
    if c.pooled is not None:
        added["text_embeds"] = c.pooled.to(dtype)
    inputs = (x.to(dtype), t, c.tokens.to(dtype))
    output: Latents = unet(*inputs, added_cond_kwargs=added or None).sample.float()
    return output


def weight_dtype(network: nn.Module) -> torch.dtype:
    """The dtype of a network's first weight.

    The property ``dtype`` of diffusers' networks looks for hooks in every module first, which takes
    a millisecond or more: a twentieth of an evaluation of a small U-Net.
    """
    return next(network.parameters()).dtype


@contextmanager
def watch(
    unet: nn.Module, patterns: Iterable[str], *, keep: Collection[str] | None = None
) -> Iterator[LayerOutputs]:
    """Record attention layers inside the block; afterwards the U-Net is as it was before.

    Cross-attention layers compute their probabilities explicitly meanwhile; self-attention layers
    keep their fused kernel, and a hook takes their output.

    Args:
        unet: diffusers' U-Net.
        patterns: Shell wildcards for layer names.
        keep: Patterns of those layers that are recorded; by default all. The others are computed by
            the same kernels, so that the U-Net's bits do not depend on it.

    Yields:
        The outputs, replaced by every call of the U-Net.

    Raises:
        MethodError: A pattern matches no layer: a guidance would have no effect.
    """
    outputs = LayerOutputs()
    kept = None if keep is None else _matching(unet, keep).keys()
    with _attached(unet, patterns, lambda n: outputs if kept is None or n in kept else None):
        yield outputs


@contextmanager
def change_layers(
    unet: nn.Module,
    patterns: Iterable[str],
    change: Change,
    key_bias: Mapping[str, Tensor] | None = None,
) -> Iterator[None]:
    """Change what attention layers compute inside the block; afterwards the U-Net is as before.

    Args:
        unet: diffusers' U-Net.
        patterns: As for ``watch``.
        change: Called with the name of a layer and its cross-attention probabilities, or its
            output for self-attention and its projections; shapes as in ``LayerOutputs``. The U-Net
            goes on with what it returns.
        key_bias: By the name of a self-attention layer, what is added to all scores of each key,
            (positions,).

    Raises:
        MethodError: A pattern matches no layer.
    """
    with _attached(unet, patterns, lambda _: None, change, key_bias or {}):
        yield


@contextmanager
def _attached(
    unet: nn.Module,
    patterns: Iterable[str],
    outputs: Callable[[str], LayerOutputs | None],
    change: Change | None = None,
    key_bias: Mapping[str, Tensor] = MappingProxyType({}),
) -> Iterator[None]:
    """Layers recorded in what ``outputs`` returns for their names, or changed, in the block."""
    processors: dict[Any, Any] = {}
    hooks: list[Any] = []
    outer = is_watched(unet)
    try:
        _watched.add(unet)
        for name, layer in _matching(unet, patterns).items():
            if name.endswith("attn2"):
                processors[layer] = layer.processor
                layer.set_processor(ExplicitAttention(name, outputs(name), change))
            else:
                hook = _hook(name, outputs(name), change)
                hooks.append(layer.register_forward_hook(hook))
            if name in key_bias:
                processors[layer] = layer.processor
                layer.set_processor(BiasedAttention(key_bias[name]))
        yield
    finally:  # also after an exception: the next edit uses the same U-Net
        for layer, processor in processors.items():
            layer.set_processor(processor)
        for hook in hooks:
            hook.remove()
        if not outer:
            _watched.discard(unet)


def is_watched(unet: nn.Module) -> bool:
    """Whether a ``watch`` or ``change_layers`` block is active."""
    return unet in _watched


def enable_checkpointing(unet: Any) -> None:
    """Keep only the inputs of the U-Net's blocks and recompute them in the backward pass.

    Needs less memory for a gradient, and one more forward pass. Recorded layers are recomputed in
    the same way, without being recorded again. ``unet.disable_gradient_checkpointing`` undoes it.
    """

    def run(block: nn.Module, *args: Any) -> Any:
        names = {layer: layer.processor.name for layer in _explicit_layers(block)}
        return torch.utils.checkpoint.checkpoint(
            block.__call__,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _Recomputation(names)),
        )

    unet.enable_gradient_checkpointing(run)


@dataclass
class _Recomputation(AbstractContextManager[None]):
    """Layers compute as those that record, and record nothing.

    Entered again by every further gradient of one forward pass.
    """

    names: Mapping[Any, str]
    processors: Mapping[Any, Any] = field(default_factory=dict)

    def __enter__(self) -> None:
        self.processors = {layer: layer.processor for layer in self.names}
        for layer, name in self.names.items():
            layer.set_processor(ExplicitAttention(name, None))

    def __exit__(self, *_: object) -> None:
        for layer, processor in self.processors.items():
            layer.set_processor(processor)


def _explicit_layers(block: nn.Module) -> list[Any]:
    layers: list[Any] = [m for n, m in block.named_modules() if n.endswith("attn2")]
    return [layer for layer in layers if isinstance(layer.processor, ExplicitAttention)]


def _matching(unet: nn.Module, patterns: Iterable[str]) -> dict[str, Any]:
    """Layers by name; projections are meant only by patterns that end in the name of one."""
    modules = dict(unet.named_modules())
    chosen: dict[str, Any] = {}
    for pattern in sorted(patterns):
        inside = pattern.endswith(PROJECTIONS)
        ends = tuple(f".attn1.{part}" for part in PROJECTIONS) if inside else ("attn1", "attn2")
        layers = {n: m for n, m in modules.items() if n.endswith(ends)}
        matched = {n: m for n, m in layers.items() if fnmatchcase(n, pattern)}
        if not matched:
            raise MethodError(f'no attention layer of this U-Net matches "{pattern}"')
        chosen |= matched
    return chosen


def _hook(name: str, outputs: LayerOutputs | None, change: Change | None) -> Any:
    def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        output = output if change is None else change(name, output)
        if outputs is not None:
            outputs.features[name] = output
        return output

    return hook


class AttentionProcessor:
    """Computes an attention layer as diffusers' ``AttnProcessor`` does; subclasses mix the values.

    Queries, keys and values are (batch * heads, length, features per head).
    """

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
            attn.head_to_batch_dim(part)
            for part in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        mixed = attn.batch_to_head_dim(self.mix(attn, query, key, value, attention_mask))
        for layer in attn.to_out:  # projection, dropout
            mixed = layer(mixed)
        result: Tensor = mixed
        return result

    def mix(self, attn: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """The values that the queries get."""
        raise NotImplementedError


class ExplicitAttention(AttentionProcessor):
    """Writes out the softmax, changes and records it: fused kernels never form the maps."""

    def __init__(
        self, name: str, outputs: LayerOutputs | None, change: Change | None = None
    ) -> None:
        self.name, self.outputs, self.change = name, outputs, change

    def mix(self, attn: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        maps = attn.get_attention_scores(q, k, mask)
        if self.change is not None:
            maps = self.change(self.name, maps.unflatten(0, (-1, attn.heads))).flatten(0, 1)
        if self.outputs is not None:
            self.outputs.maps[self.name] = maps.unflatten(0, (-1, attn.heads))
        return torch.bmm(maps, v)


class BiasedAttention(AttentionProcessor):
    """Adds a bias of each key, (positions,), to its scores."""

    def __init__(self, bias: Tensor) -> None:
        self.bias = bias

    def mix(self, attn: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        bias = self.bias.to(q).expand(1, q.shape[1], -1)
        return F.scaled_dot_product_attention(q, k, v, bias, scale=attn.scale)
