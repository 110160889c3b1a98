"""Explanations of edits: attention of the changed words, guidance losses, size of the change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2, nan
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor

from zerocon.activations import Observation, layer_size, observe
from zerocon.conditioning import Conditioning, align_tokens
from zerocon.editing import Step
from zerocon.evaluation_count import Evaluations, count_evaluations
from zerocon.finishing import native_mask
from zerocon.image.transforms import Prepared
from zerocon.model.attention import CROSS
from zerocon.prompt.vocabulary import words
from zerocon.prompt.word_files import grammar

if TYPE_CHECKING:
    from zerocon.api import Edit
    from zerocon.model import Model

SNAPSHOTS = 4  # steps whose attention is shown
WORDS = 3  # shown per caption
CLEAREST = 16  # longer side of the maps that follow objects best: a quarter of SD 1's latents

Side = Literal["source", "edited"]


@dataclass(frozen=True)
class Word:
    """A word of a caption, and the positions of its tokens in the embedding."""

    text: str
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Snapshot:
    """A step (from 1) whose attention is shown, and its noise level sqrt(1 - alpha)."""

    step: int
    noise: float


@dataclass(frozen=True)
class Attention:
    """Cross-attention of one word at every snapshot.

    Attributes:
        side: The image, and the caption that the word is from.
        word: The word.
        uniform: Attention of a word if all positions had the same.
        maps: For every snapshot (height, width) at the model's working size without padding,
            probabilities in 0..1.
    """

    side: Side
    word: str
    uniform: float
    maps: tuple[Tensor, ...]


@dataclass(frozen=True)
class Explanation:
    """The contents of an explain sheet.

    Attributes:
        source: Source image.
        edited: Edited image.
        caption: Source caption.
        target_caption: Target caption.
        snapshots: The steps whose attention is shown.
        attention: Attention of the changed words; of the last words if none changed.
        changed: Whether the captions have different words.
        omitted: Changed words that are not shown.
        losses: Every guidance with its weighted loss at each step, NaN where it was not applied.
        differences: ``|D| / |x_src|`` after each step.
        evaluations: U-Net evaluations of the explanation, not included in the edit's.
        support: What the edit may change, in words; None where nothing is kept.
        mask: The support as an image, mode L, 255 = may change; None likewise.
    """

    source: Image
    edited: Image
    caption: str
    target_caption: str
    snapshots: tuple[Snapshot, ...]
    attention: tuple[Attention, ...]
    changed: bool
    omitted: tuple[str, ...]
    losses: tuple[tuple[str, tuple[float, ...]], ...]
    differences: tuple[float, ...]
    evaluations: Evaluations
    support: str | None = None
    mask: Image | None = None

    def __repr__(self) -> str:
        words = ", ".join(dict.fromkeys(each.word for each in self.attention))
        return f'Explanation("{self.caption}" -> "{self.target_caption}", words: {words})'


@torch.no_grad()
def explain(edited: Edit, steps: Sequence[Step], model: Model) -> Explanation:
    """Explain an edit, given all of its ``steps`` as ``on_step`` received them.

    Attention is recomputed at a few steps, of the source latents under the source caption and of
    the edited latents under the target caption: one U-Net evaluation each.
    """
    captions: dict[Side, str] = {"source": edited.caption, "edited": edited.target_caption}
    before, after = changed_words(model, *captions.values())
    changed = bool(before or after)
    if not changed:
        before, after = (split(model, caption)[-1:] for caption in captions.values())
    words: dict[Side, tuple[Word, ...]] = {"source": before, "edited": after}
    shown = [steps[number - 1] for number in spread(SNAPSHOTS, len(steps))]
    attention: list[Attention] = []
    with model.lock, count_evaluations() as evaluations:
        for side, some in words.items():
            if some:
                c = model.embed([captions[side]])
                attention += _attention(edited, shown, model, side, c, some[:WORDS])
    sigmas = edited.inversion.schedule.sigmas
    return Explanation(
        source=edited.source.image,
        edited=edited.image,
        caption=edited.caption,
        target_caption=edited.target_caption,
        snapshots=tuple(Snapshot(len(steps) - step.level, sigmas[step.level]) for step in shown),
        attention=tuple(attention),
        changed=changed,
        omitted=tuple(word.text for some in words.values() for word in some[WORDS:]),
        losses=losses(steps, edited.settings.guidance),
        differences=tuple(_length(step) for step in steps),
        evaluations=evaluations,
        support=None if edited.support is None else str(edited.support),
        mask=None if edited.support is None else native_mask(edited.source, edited.support),
    )


def _attention(
    edited: Edit,
    steps: Sequence[Step],
    model: Model,
    side: Side,
    c: Conditioning,
    words: Sequence[Word],
) -> list[Attention]:
    """Attention of some words of one caption at these steps."""
    times = edited.inversion.schedule.times
    maps = [attend(model, _latents(edited, step, side), times[step.level], c) for step in steps]
    result = []
    for word in words:
        means = [each[list(word.positions)].mean(0) for each in maps]
        resized = tuple(resize(mean, edited.source) for mean in means)
        result.append(Attention(side, word.text, 1 / c.tokens.shape[1], resized))
    return result


def spread(count: int, steps: int) -> list[int]:
    """At most ``count`` numbers of steps 1..``steps``, the middles of equal parts."""
    return sorted({ceil((part + 0.5) / count * steps) for part in range(count)})


def split(model: Model, caption: str) -> tuple[Word, ...]:
    """The words of a caption with their positions, without those the text encoder truncates.

    Any tokenizer works: the end of a word is the end of the caption up to it.
    """
    parts, texts = caption.split(), words(caption)
    prefixes = [" ".join(parts[:count]) for count in range(len(parts) + 1)]
    ends = [len(ids) - 1 for ids in model.embed(prefixes).ids]  # positions of the end token
    spans = [tuple(range(ends[i], ends[i + 1])) for i in range(len(parts))]
    named = zip(parts, texts, spans, strict=True)
    return tuple(Word(text or part, span) for part, text, span in named if span)


def changed_words(
    model: Model, caption: str, target: str
) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
    """Words of each caption without a counterpart in the other, by ``align_tokens``.

    A word is included if any of its tokens has none; stop words only if there are no others.
    """
    before, after = (ids[1:-1] for ids in model.embed([caption, target]).ids)
    pairs = align_tokens(before, after)
    shared = {i + 1 for i, _ in pairs}, {j + 1 for _, j in pairs}
    left, right = (
        _content([word for word in split(model, text) if not same.issuperset(word.positions)])
        for text, same in zip((caption, target), shared, strict=True)
    )
    return left, right


def attend(model: Model, x: Tensor, t: float, c: Conditioning) -> Tensor:
    """Cross-attention at latents ``x`` of one image: (positions, rows, columns) of the latents."""
    return merge(observe(model, x, t, c, {CROSS}))


def merge(observed: Observation) -> Tensor:
    """Cross-attention of the first image, averaged over heads and layers.

    Of the layers those whose longer side is 16 or nearest to it, half and twice that; resized to
    (positions, rows, columns) of the latents.
    """
    sizes = {
        name: layer_size(maps.shape[-2], observed.size) for name, maps in observed.maps.items()
    }
    nearest = min(map(max, sizes.values()), key=lambda side: abs(log2(side / CLEAREST)))
    resized = []
    for name, (rows, columns) in sizes.items():
        if nearest <= 2 * max(rows, columns) <= 4 * nearest:
            maps = observed.maps[name][0].float().mean(0).T.reshape(-1, rows, columns)
            resized.append(F.interpolate(maps[None], observed.size, mode="bilinear")[0])
    return torch.stack(resized).mean(0)


def resize(latent_map: Tensor, image: Prepared) -> Tensor:
    """A map (rows, columns) of the latents at working size, padding cut off: (height, width)."""
    width, height = image.frame.inner
    working = image.size[1], image.size[0]
    resized = F.interpolate(latent_map[None, None], working, mode="bilinear")
    return resized[0, 0, :height, :width].cpu()


def losses(
    steps: Sequence[Step], guidance: Sequence[str]
) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Each guidance with its weighted loss at every step, of the first image."""
    rows = [
        [nan] * len(guidance) if step.losses is None else step.losses[:, 0].tolist()
        for step in steps
    ]
    return tuple((name, tuple(row[i] for row in rows)) for i, name in enumerate(guidance))


def _length(step: Step) -> float:
    return float(step.difference.norm() / (step.latents - step.difference).norm())


def _latents(edited: Edit, step: Step, side: Side) -> Tensor:
    return step.latents if side == "edited" else edited.inversion.latents[step.level]


def _content(changed: Sequence[Word]) -> tuple[Word, ...]:
    return tuple(word for word in changed if word.text not in grammar("stop words")) or tuple(
        changed
    )
