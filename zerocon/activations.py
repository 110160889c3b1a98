"""Observations: latents, predicted noise and recorded layers of one U-Net call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zerocon.conditioning import Conditioning, Ids
from zerocon.model.attention import LayerOutputs, watch
from zerocon.tensor_types import CrossMaps, Features, Latents

if TYPE_CHECKING:
    from zerocon.model import Model


@dataclass(frozen=True)
class Observation:
    """One call of the U-Net on a batch; all that a guidance loss gets to see.

    Attributes:
        x: Latents that were given, (batch, channels, height, width).
        eps: Predicted noise, in the shape of ``x``.
        ids: Token ids of the caption of each image.
        seeds: Random seed of each image's edit: the only source of randomness of a loss.
        maps: Cross-attention probabilities by layer, (batch, heads, pixels, positions).
        features: Outputs of self-attention layers and of their projections, by name,
            (batch, pixels, features).
    """

    x: Latents
    eps: Latents
    ids: tuple[Ids, ...]
    seeds: tuple[int, ...] = ()
    maps: Mapping[str, CrossMaps] = field(default_factory=dict)
    features: Mapping[str, Features] = field(default_factory=dict)

    def __repr__(self) -> str:
        height, width = self.size
        return (
            f"Observation({len(self.x)} x {width}x{height} latents, "
            f"{len(self.maps)} maps, {len(self.features)} features)"
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the latents."""
        return self.x.shape[-2], self.x.shape[-1]

    def only(self, layer_patterns: Collection[str]) -> Observation:
        """The observation without the layers that no pattern names."""

        def kept(layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
            names = [n for n in layers if any(fnmatchcase(n, p) for p in layer_patterns)]
            return {name: layers[name] for name in names}

        return replace(self, maps=kept(self.maps), features=kept(self.features))

    def rows(self, rows: slice) -> Observation:
        """The observation of some of the images."""
        return replace(
            self,
            x=self.x[rows],
            eps=self.eps[rows],
            ids=self.ids[rows],
            seeds=self.seeds[rows],
            maps={name: part[rows] for name, part in self.maps.items()},
            features={name: part[rows] for name, part in self.features.items()},
        )

    def detach(self) -> Observation:
        """The same values without their gradient graph."""
        return self._each(Tensor.detach)

    def to(self, device: torch.device) -> Observation:
        """The same values on another device."""
        return self._each(lambda part: part.to(device))

    @classmethod
    def cat(cls, parts: Sequence[Observation]) -> Observation:
        """The images of several observations, in order; all recorded the same layers."""
        first = parts[0]
        return cls(
            x=torch.cat([part.x for part in parts]),
            eps=torch.cat([part.eps for part in parts]),
            ids=tuple(ids for part in parts for ids in part.ids),
            seeds=tuple(seed for part in parts for seed in part.seeds),
            maps={name: torch.cat([part.maps[name] for part in parts]) for name in first.maps},
            features={
                name: torch.cat([part.features[name] for part in parts]) for name in first.features
            },
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> Observation:
        return replace(
            self,
            x=change(self.x),
            eps=change(self.eps),
            maps={name: change(part) for name, part in self.maps.items()},
            features={name: change(part) for name, part in self.features.items()},
        )


def observe(
    model: Model,
    x: Latents,
    t: float,
    c: Conditioning,
    layer_patterns: Collection[str],
    seeds: tuple[int, ...] = (),
    *,
    keep: Collection[str] | None = None,
) -> Observation:
    """Call the U-Net once at timestep ``t`` and record the layers that ``layer_patterns`` name.

    ``keep`` as for ``watch``.
    """
    recording: AbstractContextManager[LayerOutputs] = nullcontext(LayerOutputs())
    if layer_patterns:
        recording = watch(model.unet, layer_patterns, keep=keep)
    with recording as outputs:
        eps = model.eps(x, t, c)
    return Observation(x, eps, c.ids, seeds, outputs.maps, outputs.features)


@dataclass(frozen=True)
class Observer:
    """A model, one caption per image, and the layers to record: what an inverter calls.

    Attributes:
        model: Predicts the noise.
        c: One caption per image.
        layer_patterns: Layers to record, as shell patterns.
        keep: Those of them that are recorded at each timestep; by default all. What the U-Net
            predicts does not depend on it, to the bit.
    """

    model: Model
    c: Conditioning
    layer_patterns: Collection[str] = ()
    keep: Mapping[float, Collection[str]] | None = None

    def kept_at(self, t: float) -> Collection[str]:
        """The layers to record at timestep ``t``."""
        return self.layer_patterns if self.keep is None else self.keep.get(t, ())

    @torch.no_grad()
    def __call__(self, x: Latents, t: float, *, record: bool = True) -> Observation:
        """One U-Net call at timestep ``t``; without ``record`` for the predicted noise only."""
        patterns = self.layer_patterns if record else ()
        return observe(self.model, x, t, self.c, patterns, keep=self.kept_at(t))


def layer_size(pixels: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a U-Net layer with ``pixels`` positions, for latents of ``size``.

    Every level of the U-Net halves both sides, rounding up; a square root would be wrong for images
    that are not square.

    Raises:
        ValueError: if no level has this many positions.
    """
    height, width = size
    while height * width > pixels:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != pixels:
        raise ValueError(
            f"no level of a U-Net on {size[0]}x{size[1]} latents has {pixels} positions"
        )
    return height, width
