"""The edit direction: two groups of sentences, and the step between them in text space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from zerocon.observation import Conditioning
from zerocon.shapes import Tokens

if TYPE_CHECKING:
    from zerocon.model import Model

_means: WeakKeyDictionary[Model, dict[tuple[str, ...], Tokens]] = WeakKeyDictionary()


def mean_tokens(model: Model, sentences: Sequence[str]) -> Tokens:
    """Mean of the sentences' tokens, all positions, (1, positions, features), not normalised.

    Kept per model: a batch of pictures asks for the same sentences again and again.
    """
    known = _means.setdefault(model, {})
    key = tuple(sentences)
    if key not in known:
        known[key] = model.embed(sentences).tokens.mean(0, keepdim=True)
    return known[key]


def between(source: Tokens, target: Tokens) -> Tokens:
    """From one concept to another: ``mean E(target) - mean E(source)`` (pix2pix-zero, sec. 3.1).

    Both (sentences, positions, features) of one text encoder; the result has one sentence.
    """
    return target.mean(0, keepdim=True) - source.mean(0, keepdim=True)


def weight(step: Tokens, c: Conditioning) -> float:
    """Length of a direction relative to the caption's own tokens, averaged over positions.

    Directions of Stable Diffusion released with pix2pix-zero measure 0.7 to 0.95; below about 0.1
    an edit hardly moves.
    """
    return float((step.norm(dim=-1) / c.tokens.norm(dim=-1).clamp_min(1e-6)).mean())
