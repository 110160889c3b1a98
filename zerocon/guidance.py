"""Guidance losses: what keeps an edited image close to its source.

A guidance loss is a frozen dataclass that is called as ``losses = guidance(source, edited)`` with
two observations of the U-Net, and returns one value per image: the images of a batch do not
influence each other. It names the layers it needs (``layer_patterns``) and its ``weight``. The
editing loop subtracts the gradient of the weighted sum with respect to the edited latents; the
weight *is* the step size in a schedule of 50 steps and grows as the number of steps falls.

To add one: a class, a line in ``GUIDANCE`` at the end of this file, a test, a row in the docs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from zerocon.activations import Observation, layer_size
from zerocon.conditioning import Ids, shared_columns
from zerocon.model.attention import CROSS, DECODER_SELF, ENCODER_SELF
from zerocon.rng import seeded_generator
from zerocon.tensor_types import PerImage

CPU = torch.device("cpu")
COARSEST_LEVEL = {"all": 1, "half": 2, "quarter": 4}  # divisor of the latents' sides
REFERENCE_STEPS = 50  # steps of the schedule for which the weights were chosen
REFERENCE_AREA = 64 * 64  # latent positions of the images for which the papers chose weights

Similarity = Callable[[Tensor, Tensor], Tensor]  # (..., n, f), (..., m, f) -> (..., n, m)


@runtime_checkable
class Guidance(Protocol):
    """What the editing loop needs of a guidance loss; any object with these three is one.

    Two more are optional. ``draws(latents)`` says whether it draws from the seeds for latents of a
    size (rows, columns), by default it may; ``zero_at_source`` whether its gradient is exactly zero
    where the edited image equals the source, by default it may not be.

    Attributes:
        weight: Step size of the gradient in a schedule of ``REFERENCE_STEPS`` steps.
        layer_patterns: Names of U-Net layers to record, as shell patterns; may be empty, then the
            observations hold latents and predicted noise only.
    """

    @property
    def weight(self) -> float: ...

    @property
    def layer_patterns(self) -> Collection[str]: ...

    def __call__(self, source: Observation, edited: Observation) -> PerImage:
        """The unweighted loss of each image, (images,)."""
        ...


@dataclass(frozen=True)
class CrossAttention:
    """Keep the cross-attention maps of the source (pix2pix-zero, arXiv 2302.03027, eq. 5).

    Sum over layers, pixels and tokens of the squared difference of the maps, mean over heads; the
    released code squares where the paper's equation does not. When the two captions differ in
    length, as where something is added, only tokens that both share are compared, paired by their
    longest common subsequence.

    Attributes:
        weight: The released code's step size; its gradient does not depend on the image's area.
        layers: Leave out the finest maps: "half" keeps those of at most half the latents' sides (32
            and less for 64), "quarter" those of a quarter (16 and 8); the backward pass ends there.
    """

    weight: float = 0.1
    layers: Literal["all", "half", "quarter"] = "all"

    layer_patterns: ClassVar[Collection[str]] = frozenset({CROSS})
    zero_at_source: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_choice("layers", self.layers, tuple(COARSEST_LEVEL))

    def draws(self, latents: tuple[int, int]) -> bool:
        """All positions are compared."""
        return False

    def __call__(self, source: Observation, edited: Observation) -> PerImage:
        return torch.stack(
            [
                self._compare(source.maps[name], maps, source.ids, edited.ids)
                for name, maps in edited.maps.items()
                if self._uses(maps, edited.size)
            ]
        ).sum(0)

    def _compare(
        self, source: Tensor, edited: Tensor, before: tuple[Ids, ...], after: tuple[Ids, ...]
    ) -> PerImage:
        """The loss of one layer's maps, (images, heads, pixels, positions)."""
        columns = shared_columns(before, after, edited.shape[-1], edited.device, by_position=True)
        difference = edited.float() - columns.reorder(source).float()
        kept = difference * columns.shared[:, None, None]
        return kept.square().sum((-2, -1)).mean(-1)

    def _uses(self, maps: Tensor, latents: tuple[int, int]) -> bool:
        if self.layers == "all":
            return True
        height, _ = layer_size(maps.shape[-2], latents)
        return height * COARSEST_LEVEL[self.layers] <= latents[0]


@dataclass(frozen=True)
class Contrastive:
    """Keep each patch most similar to the source patch of its own place (CUT, CDS, zeroCon).

    InfoNCE over patches of self-attention features: the PatchNCE loss of CUT (arXiv 2007.15651) on
    the features of CDS (arXiv 2311.18608), one of the two losses of pix2pix-zeroCon (arXiv
    2503.20484). Mean over patches, sizes and layers, scaled by the latents' area, since the
    gradient of a mean shrinks as images grow.

    Attributes:
        weight: 0.3 times the sum over the 18 terms of Stable Diffusion: the effective step of CDS.
        temperature: As in CUT; lower is stricter.
        patches: Number of patches per layer and size, as in CUT.
        sizes: Sides of the patches in feature positions, as in CDS.
        targets: "hard" is the published loss. It has a gradient even for a perfect reconstruction,
            since neighboring patches are similar; "soft" targets are the source's own
            similarities, whose gradient is exactly zero there.
        features: The decoder's, as in CDS, or the encoder's, where the backward pass ends after a
            third of the network.
    """

    weight: float = 5.4
    temperature: float = 0.07
    patches: int = 256
    sizes: tuple[int, ...] = (1, 2)
    targets: Literal["soft", "hard"] = "soft"
    features: Literal["decoder", "encoder"] = "decoder"

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}")
        if self.patches < 2:
            raise ValueError(f"patches must be at least 2, not {self.patches}")
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError("sizes must be one or more integers from 1, such as 1+2")
        _require_choice("targets", self.targets, ("soft", "hard"))
        _require_choice("features", self.features, ("decoder", "encoder"))

    @property
    def layer_patterns(self) -> Collection[str]:
        return frozenset({DECODER_SELF if self.features == "decoder" else ENCODER_SELF})

    @property
    def zero_at_source(self) -> bool:
        """Only soft targets are the source's own similarities."""
        return self.targets == "soft"

    def draws(self, latents: tuple[int, int]) -> bool:
        """Whether the finest layer that there may be has more patches than are compared."""
        height, width = latents
        finest = min(self.sizes)
        return max(1, height // finest) * max(1, width // finest) > self.patches

    def __call__(self, source: Observation, edited: Observation) -> PerImage:
        losses = []
        for name, features in self._recorded(edited.features):
            for size in self.sizes:
                q, k = (
                    self._patches(part, edited.size, size, name, edited.seeds)
                    for part in (features, source.features[name])
                )
                losses.append(self._loss(q, k))
        height, width = edited.size
        return torch.stack(losses).mean(0) * (height * width / REFERENCE_AREA)

    def _recorded(self, features: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The layers of this loss, whatever other losses record."""
        (pattern,) = self.layer_patterns
        return ((name, part) for name, part in features.items() if fnmatchcase(name, pattern))

    def _patches(
        self,
        features: Tensor,
        latents: tuple[int, int],
        size: int,
        name: str,
        seeds: tuple[int, ...],
    ) -> Tensor:
        """Features (images, pixels, features) -> (images, patches, features) of length one."""
        h, w = layer_size(features.shape[1], latents)
        maps = features.float().mT.reshape(len(features), -1, h, w)  # (images, features, h, w)
        pooled = F.avg_pool2d(maps, (min(size, h), min(size, w)))
        h, w = pooled.shape[-2:]
        positions = torch.stack([self._positions(s, name, h, w, features.device) for s in seeds])
        images = torch.arange(len(seeds), device=features.device)[:, None]
        return F.normalize(pooled.flatten(2).mT[images, positions], dim=-1, eps=1e-7)

    def _positions(self, seed: int, name: str, h: int, w: int, device: torch.device) -> Tensor:
        return sample_positions(seed, name, h, w, self.patches, device)

    def _loss(self, q: Tensor, k: Tensor) -> PerImage:
        target = None
        if self.targets == "soft":
            target = (inner_products(k, k) / self.temperature).softmax(-1)
        return info_nce(q, k, target, temperature=self.temperature)


def inner_products(q: Tensor, k: Tensor) -> Tensor:
    """``q k^T``: cosine similarities of rows of length one."""
    return q @ k.mT


def info_nce(
    q: Tensor,
    k: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float = 0.07,
    similarity: Similarity = inner_products,
) -> Tensor:
    """InfoNCE between queries and keys (arXiv 1807.03748, eq. 4), mean over the queries.

    Args:
        q: Queries, (..., n, features).
        k: Keys, (..., m, features).
        target: What each query should match, (..., n, m), rows summing to 1; None is the key with
            the query's own index. With a target the loss is the Kullback-Leibler divergence from
            it: zero, with a gradient of exactly zero, where both distributions agree.
        temperature: Divides the similarities.
        similarity: The geometry in which queries and keys are compared.

    Returns:
        One value for each of the leading dimensions, which are those of ``q``.
    """
    logits = similarity(q, k) / temperature
    if target is None:
        return -logits.log_softmax(-1).diagonal(dim1=-2, dim2=-1).mean(-1)
    probabilities = logits.detach().softmax(-1)
    divergence = (target * (target / probabilities).clamp_min(1e-30).log()).sum(-1).mean(-1)
    # The gradient of the divergence is (probabilities - target). Through log_softmax it would be a
    # rounding error where the two agree, amplified at every step; written out, it is zero.
    linear = (logits * (probabilities - target)).sum(-1).mean(-1)
    return divergence + linear - linear.detach()


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f'{name} must be {" or ".join(choices)}, not "{value}"')


@lru_cache(maxsize=512)
def sample_positions(
    seed: int, name: str, height: int, width: int, count: int, device: torch.device = CPU
) -> Tensor:
    """Indices of ``count`` patches of a map, sorted: a pure function of seed, layer and size.

    They are cached on ``device``, so that no step waits for a copy.
    """
    if height * width <= count:
        return torch.arange(height * width, device=device)
    generator = seeded_generator(f"{seed}/{name}/{height}x{width}")
    chosen = torch.randperm(height * width, generator=generator)[:count].sort().values
    return chosen.to(device)


GUIDANCE: Mapping[str, type[Guidance]] = {
    "contrastive": Contrastive,
    "cross-attention": CrossAttention,
}
