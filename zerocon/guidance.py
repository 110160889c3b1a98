"""Opinions about two pictures: losses between what the source and the edited picture showed.

A guidance is a frozen dataclass that can be called as ``guidance(source, edited) -> loss`` and says
which layers it ``layer_patterns`` and how much it ``weight``s. The loop descends the weighted sum by its
gradient with respect to the edited latents; the weight *is* the step size in a walk of fifty steps,
and counts for more in each of fewer. Losses reduce within a picture and add up over a batch, so
that no picture feels its neighbours.

To add one: a class, a line in ``GUIDANCE`` at the foot, a test, a row in the README.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from zerocon.conditioning import Ids
from zerocon.model.attention import CROSS, DECODER_SELF, ENCODER_SELF
from zerocon.observation import Observation, grid
from zerocon.rng import seeded_generator
from zerocon.shapes import Scalar

CPU = torch.device("cpu")
FINEST = {
    "all": 1,
    "guidance_prompt": 2,
    "quarter": 4,
}  # divisor of the latents' sides, by choice of layers
REFERENCE_STEPS = 50  # of the walk for which they were found
REFERENCE_AREA = 64 * 64  # latent positions of the picture for which the papers' weights were found


@runtime_checkable
class Guidance(Protocol):
    """What the editing loop asks of a guidance; any object with these three will do."""

    @property
    def weight(self) -> float: ...

    @property
    def layer_patterns(self) -> Collection[str]: ...

    def __call__(self, source: Observation, edited: Observation) -> Scalar: ...


@dataclass(frozen=True)
class CrossAttention:
    """Keep every word looking where it looked (pix2pix-zero, eq. 5, squared as in its code).

    Sum over layers, pixels and words of the squared difference of the attention maps, mean over
    heads. When the two sentences differ in length only words that both share are compared, paired
    by their longest common subsequence; otherwise the maps of unrelated words would be tied.

    ``layers`` leaves out the finest maps: "half" keeps those of at most half the latents' sides (32
    and less for 64), "quarter" those of a quarter (16 and 8); the backward pass then ends there.
    """

    weight: float = (
        0.1  # pix2pix-zero's step size; not divided by the area, its gradient needs none
    )
    layers: Literal["all", "guidance_prompt", "quarter"] = "all"

    layer_patterns: ClassVar[Collection[str]] = frozenset({CROSS})

    def __post_init__(self) -> None:
        _choice("layers", self.layers, tuple(FINEST))

    def __call__(self, source: Observation, edited: Observation) -> Scalar:
        losses = []
        for image, (before, after) in enumerate(zip(source.ids, edited.ids, strict=True)):
            for name, maps in edited.maps.items():
                if not self._takes(maps, edited.size):
                    continue
                left, right = _shared(before, after, maps.shape[-1])
                was = source.maps[name][image][..., left].float()
                now = maps[image][..., right].float()
                losses.append((now - was).square().sum((-2, -1)).mean())
        return torch.stack(losses).sum()

    def _takes(self, maps: Tensor, latents: tuple[int, int]) -> bool:
        if self.layers == "all":
            return True
        return grid(maps.shape[-2], latents)[0] * FINEST[self.layers] <= latents[0]


@dataclass(frozen=True)
class Contrastive:
    """Keep each patch closest to its own old self (the CUT loss, after CUT, CDS, zeroCon).

    Patches of self-attention features: the decoder's, as in CDS, or the encoder's, where ZeCon took
    its own and the backward pass ends after a third of the network. Each edited patch should
    resemble the source patch of its own place more than the source patches of other places.
    Cross-entropy over the patches of one picture, mean over patches, sizes and layers, scaled by
    the latents' area since the gradient of a mean thins out as pictures grow.

    ``soft`` targets ask for the source's own resemblances instead of certainty. A plain contrast
    pushes even a perfect reconstruction, because neighbours resemble each other; the soft one rests
    there, exactly.
    """

    weight: float = 5.4  # 0.3 x the sum over the 18 terms of Stable Diffusion: CDS's effective step
    temperature: float = 0.07  # as in CUT; lower is stricter
    patches: int = 256  # per layer and size, as in CUT
    sizes: tuple[int, ...] = (1, 2)  # patch sides in feature positions, as in CDS
    targets: Literal["soft", "hard"] = "soft"
    features: Literal["decoder", "encoder"] = "decoder"

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}")
        if self.patches < 2:
            raise ValueError(f"patches must be at least 2 to be told apart, not {self.patches}")
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError("sizes must be one or more whole numbers from 1, such as 1+2")
        _choice("targets", self.targets, ("soft", "hard"))
        _choice("features", self.features, ("decoder", "encoder"))

    @property
    def layer_patterns(self) -> Collection[str]:
        return frozenset({DECODER_SELF if self.features == "decoder" else ENCODER_SELF})

    def __call__(self, source: Observation, edited: Observation) -> Scalar:
        losses = []
        for image, seed in enumerate(edited.seeds):
            for name, features in self._mine(edited.features):
                for size in self.sizes:
                    q, k = (
                        self._patches(part[image], edited.size, size, name, seed)
                        for part in (features, source.features[name])
                    )
                    losses.append(self._contrast(q, k))
        terms = len(losses) / len(edited.seeds)  # layers x sizes: the mean runs within a picture
        height, width = edited.size
        return torch.stack(losses).sum() * (height * width / REFERENCE_AREA / terms)

    def _mine(self, features: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The layers that this guidance watches, whatever others watch."""
        (pattern,) = self.layer_patterns
        return ((name, part) for name, part in features.items() if fnmatchcase(name, pattern))

    def _patches(
        self, features: Tensor, latents: tuple[int, int], size: int, name: str, seed: int
    ) -> Tensor:
        """One picture's (pixels, features) -> (patches, features), each row of length one."""
        h, w = grid(len(features), latents)
        maps = features.float().T.reshape(-1, h, w)  # (features, h, w)
        pooled = F.avg_pool2d(maps, (min(size, h), min(size, w)))
        h, w = pooled.shape[-2:]
        where = sample_positions(seed, name, h, w, self.patches, features.device)
        rows = pooled.flatten(1).T[where]
        return F.normalize(rows, dim=-1, eps=1e-7)

    def _contrast(self, q: Tensor, k: Tensor) -> Scalar:
        logits = q @ k.T / self.temperature
        if self.targets == "hard":
            return F.cross_entropy(logits, torch.arange(len(q), device=q.device))
        target = (k @ k.T / self.temperature).softmax(-1)
        found = logits.detach().softmax(-1)
        divergence = (target * (target / found).clamp_min(1e-30).log()).sum(-1).mean()
        # The gradient of this divergence is (found - target); written out, it is exactly zero where
        # the two agree. Through log_softmax it would be a rounding error, amplified at every step.
        pull = (logits * (found - target)).sum(-1).mean()
        return divergence + pull - pull.detach()


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f'{name} must be {" or ".join(known)}, not "{value}"')


@lru_cache(maxsize=512)
def sample_positions(
    seed: int, name: str, height: int, width: int, count: int, device: torch.device = CPU
) -> Tensor:
    """Positions of ``count`` patches on a map: a pure function of seed, layer and size, sorted.

    They stay on the ``device``, so that a step waits for no copy.
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


def _shared(source: Ids, edited: Ids, positions: int) -> tuple[list[int], list[int]]:
    """Columns to compare: all of them for sentences of one length, the aligned ones otherwise."""
    if len(source) == len(edited):
        every = list(range(positions))
        return every, every
    words = align_tokens(source, edited)
    padding = zip(range(len(source), positions), range(len(edited), positions), strict=False)
    pairs = [*words, *padding]
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(pairs))
    return [i for i, _ in pairs], [j for _, j in pairs]


GUIDANCE: Mapping[str, type[Guidance]] = {
    "contrastive": Contrastive,
    "cross-attention": CrossAttention,
}
