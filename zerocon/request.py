"""From a prompt to an edit direction: what is edited, before any time is spent on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from PIL.Image import Image

from zerocon import prompt
from zerocon.conditioning import Conditioning
from zerocon.direction import Direction, between, weight
from zerocon.guidance import align_tokens
from zerocon.model import Model
from zerocon.model.captioner import caption_image
from zerocon.prompt import CaptionRewrite
from zerocon.settings import Settings
from zerocon.shapes import Tokens

WEAK = 0.05  # a direction shorter than this share of the caption's tokens hardly shows


@dataclass(frozen=True)
class EditRequest:
    """What was understood of a wish, before any time is spent on it.

    ``direction`` is the step in text space, (1, positions, features), unscaled; ``sentences`` how
    many made it; ``similarity`` CLIP's cosines of the picture to the caption and to the target
    caption, None where there is no CLIP or the captions are the same. ``directions`` are those
    given ready-made, each with its weight: they are part of ``direction``, and the wording knows
    nothing of them. ``words`` are the wish itself, by the names of ``edit``'s arguments.
    """

    rewrite: CaptionRewrite
    direction: Tokens
    sentences: int
    similarity: tuple[float, float] | None
    warnings: tuple[str, ...]
    directions: tuple[tuple[Direction, float], ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)


def parse_request(
    image: Image,
    model: Model,
    *,
    to: str | None = None,
    from_: str | None = None,
    to_caption: str | None = None,
    caption: str | None = None,
    directions: Sequence[tuple[Direction, float]] = (),
    settings: Settings | None = None,
) -> EditRequest:
    """Turn a wish into a direction in text space, and say what is doubtful about it.

    Weighted ``directions`` are added to that of the words, or stand alone where no words are given.
    Raises ``ValueError`` if nothing, or nothing new, is asked for, and for a direction of another
    text encoder.
    """
    settings = settings or model.settings
    steps = [factor * direction.on(model) for direction, factor in directions]
    sentences = sum(len(side) for direction, _ in directions for side in direction.sentences)
    caption = caption_image(image, model) if caption is None else caption
    if steps and to is None and from_ is None and to_caption is None:
        clip, said = None, prompt.keep_caption(caption)
    else:
        clip = _sight(model, image)
        said = prompt.rewrite_caption(caption, to=to, from_=from_, to_caption=to_caption, see=clip)
    c = model.embed([caption])
    if said.changes:
        own, more = _direction(model, said, c, settings)
        steps, sentences = [own, *steps], sentences + more
    step = torch.stack(steps).sum(0)
    likeness = None if clip is None else clip([said.caption, said.target_caption])
    warnings = list(said.warnings)
    if (length := weight(step, c)) < WEAK:
        warnings.append(f"the direction is weak ({length:.2f} of the caption): little may change")
    if said.changes and likeness is None:
        warnings.append("no CLIP model here: similarities are left out (--clip names one)")
    if not said.changes and settings.direction_positions == "changed":
        warnings.append("no words say what changes: the direction is added at all positions")
    asked = {"to": to, "from_": from_, "to_caption": to_caption}
    return EditRequest(
        said,
        step,
        sentences,
        None if likeness is None else (likeness[0], likeness[1]),
        tuple(warnings),
        tuple(directions),
        {name: said for name, said in asked.items() if said is not None},
    )


def edited_conditioning(
    model: Model, requests: Sequence[EditRequest], c: Conditioning, settings: Settings
) -> Conditioning:
    """Captions plus directions, and the words that now stand at their positions."""
    target = model.embed([each.rewrite.target_caption for each in requests]).ids
    steps = settings.strength * torch.cat([each.direction for each in requests])
    for step, each, before, after in zip(steps, requests, c.ids, target, strict=True):
        if settings.direction_positions == "changed" and each.rewrite.changes:
            # words that both captions share stay as they are
            step[[i for i, _ in align_tokens(before[:-1], after[:-1])]] = 0.0
    # the positions follow the target's words, but for the bank, which knows no positions
    ids = c.ids if settings.direction_from == "bank" else target
    return replace(c, tokens=c.tokens + steps, ids=ids)


def _sight(model: Model, image: Image) -> Callable[[Sequence[str]], list[float]] | None:
    """CLIP's view of this picture, if there is a CLIP."""
    scorer = model.scorer
    return None if scorer is None else lambda texts: scorer.similarity(image, texts)


def _direction(
    model: Model, said: CaptionRewrite, c: Conditioning, settings: Settings
) -> tuple[Tokens, int]:
    """The step in text space for what was said in words, and how many sentences made it."""
    steps, sentences = [], 0
    if settings.direction_from in ("bank", "mean"):
        bank = Direction.of_changes(model, said.changes)
        sentences = sum(map(len, bank.sentences))
        steps.append(bank.on(model))
    if settings.direction_from in ("caption", "mean"):
        steps.append(between(c.tokens, model.embed([said.target_caption]).tokens))
        sentences += 2
    return torch.stack(steps).mean(0), sentences
