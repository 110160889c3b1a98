"""What one call of the network showed: the only thing a guidance gets to see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zerocon.conditioning import Conditioning, Ids
from zerocon.model.attention import LayerOutputs, watch
from zerocon.shapes import CrossMaps, Features, Latents

if TYPE_CHECKING:
    from zerocon.model import Model


@dataclass(frozen=True)
class Observation:
    """One call of the U-Net on a batch: where it stood, what it said, what its layers showed.

    ``seeds`` are the only source of chance a guidance may draw from: one per picture, of the edit.
    """

    x: Latents
    eps: Latents
    ids: tuple[Ids, ...]
    seeds: tuple[int, ...] = ()
    maps: Mapping[str, CrossMaps] = field(default_factory=dict)
    features: Mapping[str, Features] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the latents."""
        return self.x.shape[-2], self.x.shape[-1]

    def rows(self, rows: slice) -> Observation:
        """The same observation of some of the pictures."""
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
        """The same values with no way back: what stands still cannot be pulled."""
        return self._each(Tensor.detach)

    def to(self, device: torch.device) -> Observation:
        """The same values on another device."""
        return self._each(lambda part: part.to(device))

    @classmethod
    def together(cls, parts: Sequence[Observation]) -> Observation:
        """The pictures of several observations, in order; all have the same layers."""
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
) -> Observation:
    """Call the network once at time ``t`` and keep what it said and what ``layer_patterns`` name."""
    watching = watch(model.unet, layer_patterns) if layer_patterns else nullcontext(LayerOutputs())
    with watching as seen:
        eps = model.eps(x, t, c)
    return Observation(x, eps, c.ids, seeds, seen.maps, seen.features)


@dataclass(frozen=True)
class Observer:
    """A network, one sentence per picture, and what to watch: a path's view of where it stands."""

    model: Model
    c: Conditioning
    layer_patterns: Collection[str] = ()

    @torch.no_grad()
    def __call__(self, x: Latents, t: float, *, watch: bool = True) -> Observation:
        """Call the network once at time ``t``; without ``watch`` only for what it says."""
        return observe(self.model, x, t, self.c, self.layer_patterns if watch else ())


def grid(pixels: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a layer with ``pixels`` positions, under latents of ``size``.

    Every level of the U-Net halves both sides, rounding up; a square root would break on anything
    that is not square.
    """
    height, width = size
    while height * width > pixels:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != pixels:
        raise ValueError(
            f"no level of a U-Net on {size[0]}x{size[1]} latents has {pixels} positions"
        )
    return height, width
