"""Why an edit came out as it did: what there was to see on the way, gathered when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2, nan
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor

from zerocon.conditioning import Conditioning
from zerocon.editing import Step
from zerocon.evaluations import Evaluations, count_evaluations
from zerocon.guidance import align_tokens
from zerocon.image.transforms import Prepared, prepare
from zerocon.model.attention import CROSS
from zerocon.observation import Observation, layer_size, observe
from zerocon.prompt.vocabulary import grammar, words

if TYPE_CHECKING:
    from zerocon.api import Edit
    from zerocon.model import Model

SNAPSHOTS = 4  # looks at the attention, spread over the walk
WORDS = 3  # a side; nobody reads a sheet of more
CLEAREST = 16  # positions on the longer side of maps that follow things: a quarter of SD's latents

Side = Literal["source", "edited"]


@dataclass(frozen=True)
class Word:
    """A word of a sentence, and the positions of its tokens in what the U-Net reads."""

    text: str
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Snapshot:
    """After which step (from 1) it was looked, and the share of noise there, sqrt(1 - a)."""

    step: int
    noise: float


@dataclass(frozen=True)
class Attention:
    """How much of the attention one word got, place by place, at every moment.

    ``maps`` are (height, width) of the picture at the model's working size, padding cut off, each
    value a share of 0..1. ``even`` is what a word gets where all positions get the same. ``side``
    says in which picture, and so of which sentence.
    """

    side: Side
    word: str
    even: float
    maps: tuple[Tensor, ...]


@dataclass(frozen=True)
class Explanation:
    """All that a sheet about an edit shows.

    ``losses`` holds every guidance, as it was asked for, with its weighted loss at each step (not a
    number where it did not act); ``differences`` the length of D in lengths of the source's latents
    after each step. ``changed`` is false where the sentences have the same words: then
    ``attention`` is that of their last ones. ``left_out`` are changed words for which there was no
    room. ``evaluations`` are those of looking again, which the edit's own count does not hold.
    """

    source: Image
    edited: Image
    caption: str
    target_caption: str
    snapshots: tuple[Snapshot, ...]
    attention: tuple[Attention, ...]
    changed: bool
    left_out: tuple[str, ...]
    losses: tuple[tuple[str, tuple[float, ...]], ...]
    differences: tuple[float, ...]
    evaluations: Evaluations


@torch.no_grad()
def explain(image: Image, edited: Edit, steps: Sequence[Step], model: Model) -> Explanation:
    """Gather what explains ``edited``, made of ``image`` in ``steps`` (all that a witness saw).

    The attention is looked at again, at a few moments: the source's under the caption, the edited
    picture's under the target caption, one evaluation of the U-Net each. They are counted apart.
    """
    said = edited.request.rewrite
    sentences = {"source": said.caption, "edited": said.target_caption}
    before, after = changed_words(model, *sentences.values())
    changed = bool(before or after)
    if not changed:
        before, after = (split(model, sentence)[-1:] for sentence in sentences.values())
    asked: dict[Side, tuple[Word, ...]] = {"source": before, "edited": after}
    working, schedule = prepare(image, model.size, model.multiple), edited.inversion.schedule
    chosen = [steps[number - 1] for number in spread(SNAPSHOTS, len(steps))]
    attention: list[Attention] = []
    with model.lock, count_evaluations() as evaluations:
        for side, wanted in asked.items():
            if not wanted:
                continue
            c = model.embed([sentences[side]])
            maps = [
                attend(model, _latents(edited, step, side), schedule.times[step.level], c)
                for step in chosen
            ]
            for word in wanted[:WORDS]:
                rows = [each[list(word.positions)].mean(0) for each in maps]
                laid = tuple(lay(row, working) for row in rows)
                attention.append(Attention(side, word.text, 1 / c.tokens.shape[1], laid))
    return Explanation(
        source=image,
        edited=edited.image,
        caption=said.caption,
        target_caption=said.target_caption,
        snapshots=tuple(
            Snapshot(len(steps) - step.level, schedule.sigmas[step.level]) for step in chosen
        ),
        attention=tuple(attention),
        changed=changed,
        left_out=tuple(word.text for each in asked.values() for word in each[WORDS:]),
        losses=losses(steps, edited.settings.guidance),
        differences=tuple(_length(step) for step in steps),
        evaluations=evaluations,
    )


def spread(count: int, steps: int) -> list[int]:
    """At most ``count`` step numbers of 1..``steps``, each in the middle of its part of the way."""
    return sorted({ceil((part + 0.5) / count * steps) for part in range(count)})


def split(model: Model, sentence: str) -> tuple[Word, ...]:
    """The words of a sentence with their positions; words that the text encoder cut off are not.

    A text encoder has its own pieces: where a word ends is where the sentence up to it ends.
    """
    parts, texts = sentence.split(), words(sentence)
    upto = model.embed([" ".join(parts[:count]) for count in range(len(parts) + 1)]).ids
    ends = [len(ids) - 1 for ids in upto]  # the position of the end token
    spans = [tuple(range(ends[i], ends[i + 1])) for i in range(len(parts))]
    named = zip(parts, texts, spans, strict=True)
    return tuple(Word(text or part, span) for part, text, span in named if span)


def changed_words(
    model: Model, caption: str, target: str
) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
    """Words of either caption that the other does not share, by ``align_tokens``.

    A word counts if any of its tokens does. Words like "the" are named only where nothing else is.
    """
    before, after = (ids[1:-1] for ids in model.embed([caption, target]).ids)
    pairs = align_tokens(before, after)
    shared = {i + 1 for i, _ in pairs}, {j + 1 for _, j in pairs}
    left, right = (
        _telling([word for word in split(model, sentence) if not same.issuperset(word.positions)])
        for sentence, same in zip((caption, target), shared, strict=True)
    )
    return left, right


def attend(model: Model, x: Tensor, t: float, c: Conditioning) -> Tensor:
    """Attention of every position at ``x``, one picture: (positions, rows, columns) of latents."""
    return merge(observe(model, x, t, c, {CROSS}))


def merge(seen: Observation) -> Tensor:
    """Cross-attention of the first picture, mean over heads and over the clearest layers.

    Those are the layers of 16 positions on the longer side, or nearest to it, and of half and twice
    as many; they are brought to the latents' size: (positions, rows, columns).
    """
    sizes = {name: layer_size(maps.shape[-2], seen.size) for name, maps in seen.maps.items()}
    nearest = min(map(max, sizes.values()), key=lambda side: abs(log2(side / CLEAREST)))
    resized = []
    for name, (rows, columns) in sizes.items():
        if nearest <= 2 * max(rows, columns) <= 4 * nearest:
            maps = seen.maps[name][0].float().mean(0).T.reshape(-1, rows, columns)
            resized.append(F.interpolate(maps[None], seen.size, mode="bilinear")[0])
    return torch.stack(resized).mean(0)


def lay(heat: Tensor, working: Prepared) -> Tensor:
    """A map of the latents' size over the picture: at its working size, padding cut off."""
    width, height = working.frame.inner
    size = working.pixels.shape[-2:]
    return F.interpolate(heat[None, None], size, mode="bilinear")[0, 0, :height, :width].cpu()


def losses(
    steps: Sequence[Step], guidance: Sequence[str]
) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Each guidance with its loss at every step, of the first picture."""
    rows = [
        [nan] * len(guidance) if step.losses is None else step.losses[:, 0].tolist()
        for step in steps
    ]
    return tuple((name, tuple(row[i] for row in rows)) for i, name in enumerate(guidance))


def _length(step: Step) -> float:
    return float(step.difference.norm() / (step.latents - step.difference).norm())


def _latents(edited: Edit, step: Step, side: Side) -> Tensor:
    return step.latents if side == "edited" else edited.inversion.latents[step.level]


def _telling(found: Sequence[Word]) -> tuple[Word, ...]:
    return tuple(word for word in found if word.text not in grammar("stop words")) or tuple(found)
