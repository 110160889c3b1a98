"""Guidance losses: what keeps an edited image close to its source.

A guidance loss is a frozen dataclass that is called as ``loss = guidance(source, edited)`` with two
observations of the U-Net. It names the layers it needs (``layer_patterns``) and its ``weight``. The
editing loop subtracts the gradient of the weighted sum with respect to the edited latents; the
weight *is* the step size in a schedule of 50 steps and grows as the number of steps falls. A loss
reduces within an image and sums over the batch, so that images of a batch do not influence each
other.

To add one: a class, a line in ``GUIDANCE`` at the end of this file, a test, a row in the docs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from zerocon.activations import Observation, layer_size
from zerocon.conditioning import Ids
from zerocon.model.attention import CROSS, DECODER_SELF, ENCODER_SELF
from zerocon.rng import seeded_generator
from zerocon.tensor_types import Scalar

CPU = torch.device("cpu")
COARSEST_LEVEL = {"all": 1, "half": 2, "quarter": 4}  # divisor of the latents' sides
REFERENCE_STEPS = 50  # steps of the schedule for which the weights were chosen
REFERENCE_AREA = 64 * 64  # latent positions of the images for which the papers chose weights

Similarity = Callable[[Tensor, Tensor], Tensor]  # (n, features), (m, features) -> (n, m)


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

    def __call__(self, source: Observation, edited: Observation) -> Scalar: ...


@dataclass(frozen=True)
class CrossAttention:
    """Keep the cross-attention maps of the source (pix2pix-zero, arXiv 2302.03027, eq. 5).

    Sum over layers, pixels and tokens of the squared difference of the maps, mean over heads; the
    released code squares where the paper's equation does not. When the two captions differ in
    length, only tokens that both share are compared, paired by their longest common subsequence.

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

    def __call__(self, source: Observation, edited: Observation) -> Scalar:
        losses = []
        for image, (before, after) in enumerate(zip(source.ids, edited.ids, strict=True)):
            for name, maps in edited.maps.items():
                if not self._uses(maps, edited.size):
                    continue
                left, right = _shared_columns(before, after, maps.shape[-1])
                reference = source.maps[name][image][..., left].float()
                current = maps[image][..., right].float()
                losses.append((current - reference).square().sum((-2, -1)).mean())
        return torch.stack(losses).sum()

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

    def __call__(self, source: Observation, edited: Observation) -> Scalar:
        losses = []
        for image, seed in enumerate(edited.seeds):
            for name, features in self._recorded(edited.features):
                for size in self.sizes:
                    q, k = (
                        self._patches(part[image], edited.size, size, name, seed)
                        for part in (features, source.features[name])
                    )
                    losses.append(self._loss(q, k))
        terms = len(losses) / len(edited.seeds)  # layers x sizes: the mean is over one image
        height, width = edited.size
        return torch.stack(losses).sum() * (height * width / REFERENCE_AREA / terms)

    def _recorded(self, features: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The layers of this loss, whatever other losses record."""
        (pattern,) = self.layer_patterns
        return ((name, part) for name, part in features.items() if fnmatchcase(name, pattern))

    def _patches(
        self, features: Tensor, latents: tuple[int, int], size: int, name: str, seed: int
    ) -> Tensor:
        """Features of one image, (pixels, features) -> (patches, features), rows of length one."""
        h, w = layer_size(len(features), latents)
        maps = features.float().T.reshape(-1, h, w)  # (features, h, w)
        pooled = F.avg_pool2d(maps, (min(size, h), min(size, w)))
        h, w = pooled.shape[-2:]
        positions = sample_positions(seed, name, h, w, self.patches, features.device)
        return F.normalize(pooled.flatten(1).T[positions], dim=-1, eps=1e-7)

    def _loss(self, q: Tensor, k: Tensor) -> Scalar:
        target = None
        if self.targets == "soft":
            target = (inner_products(k, k) / self.temperature).softmax(-1)
        return info_nce(q, k, target, temperature=self.temperature)


def inner_products(q: Tensor, k: Tensor) -> Tensor:
    """``q k^T``: cosine similarities of rows of length one."""
    return q @ k.T


def info_nce(
    q: Tensor,
    k: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float = 0.07,
    similarity: Similarity = inner_products,
) -> Scalar:
    """InfoNCE between queries and keys (arXiv 1807.03748, eq. 4), mean over the queries.

    Args:
        q: Queries, (n, features).
        k: Keys, (m, features).
        target: What each query should match, (n, m), rows summing to 1; None is the key with the
            query's own index. With a target the loss is the Kullback-Leibler divergence from it:
            zero, with a gradient of exactly zero, where both distributions agree.
        temperature: Divides the similarities.
        similarity: The geometry in which queries and keys are compared.
    """
    logits = similarity(q, k) / temperature
    if target is None:
        return F.cross_entropy(logits, torch.arange(len(q), device=q.device))
    probabilities = logits.detach().softmax(-1)
    divergence = (target * (target / probabilities).clamp_min(1e-30).log()).sum(-1).mean()
    # The gradient of the divergence is (probabilities - target). Through log_softmax it would be a
    # rounding error where the two agree, amplified at every step; written out, it is zero.
    linear = (logits * (probabilities - target)).sum(-1).mean()
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


def _shared_columns(source: Ids, edited: Ids, positions: int) -> tuple[list[int], list[int]]:
    """Columns to compare: all of them for sentences of one length, the aligned ones otherwise."""
    if len(source) == len(edited):
        every = list(range(positions))
        return every, every
    pairs = aligned_columns(source, edited, positions)
    return [i for i, _ in pairs], [j for _, j in pairs]


def aligned_columns(source: Ids, edited: Ids, positions: int) -> tuple[tuple[int, int], ...]:
    """Pairs of columns of the tokens that two sentences share, padding included."""
    padding = zip(range(len(source), positions), range(len(edited), positions), strict=False)
    pairs = (*align_tokens(source, edited), *padding)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(pairs))
    return pairs


GUIDANCE: Mapping[str, type[Guidance]] = {
    "contrastive": Contrastive,
    "cross-attention": CrossAttention,
}
