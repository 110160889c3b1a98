"""The edit direction: two groups of sentences, and the step between them in text space."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from zerocon import __version__, prompt
from zerocon.conditioning import Conditioning
from zerocon.errors import FileFormatError, MismatchError, PromptError
from zerocon.prompt import Change, vocabulary
from zerocon.prompt.parser import parse
from zerocon.prompt.sentence_bank import pairs
from zerocon.shapes import Tokens
from zerocon.storage.atomic import writing

if TYPE_CHECKING:
    from zerocon.model import Model

FORMAT = "zerocon.direction/1"

_means: WeakKeyDictionary[Model, dict[tuple[str, ...], Tokens]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Direction:
    """A step in text space with its history, for any number of edits of any pictures.

    ``tokens`` is the mean of the target sentences' tokens minus the mean of the source sentences'
    (``between``), and ``origin``, which lengths are measured against, the mean of the source
    sentences' tokens; both are (1, positions, features), float32, on the CPU. ``source`` and
    ``target`` are the words for the two sides and ``sentences`` all that were encoded, the source's
    first. ``encoder`` is the fingerprint of the text encoder, ``model`` the name of the model that
    it belonged to, ``version`` the zerocon that made it.

    Directions scale and add as vectors do. A sum has the words and sentences of both; the factors
    show in ``tokens`` only.
    """

    tokens: Tokens
    origin: Tokens
    source: tuple[str, ...]
    target: tuple[str, ...]
    sentences: tuple[tuple[str, ...], tuple[str, ...]]
    encoder: str
    model: str
    version: str = __version__

    @classmethod
    def between(
        cls, model: Model, source: Sequence[str], target: Sequence[str], *, words: tuple[str, str]
    ) -> Direction:
        """From some sentences to others, called by two ``words``: ("cat", "dog").

        Raises ``ValueError`` where a side has no sentences.
        """
        for side, word in zip((source, target), words, strict=True):
            if not side:
                raise PromptError(f'there are no sentences for "{word}"')
        origin = mean_tokens(model, source)
        return cls(
            tokens=between(origin, mean_tokens(model, target)).cpu(),
            origin=origin.cpu(),
            source=words[:1],
            target=words[1:],
            sentences=(tuple(source), tuple(target)),
            encoder=model.embed([""]).encoder,
            model=model.name,
        )

    @classmethod
    def of_changes(cls, model: Model, changes: Iterable[Change]) -> Direction:
        """The sum over ``changes`` (at least one), each said in the sentences of the bank."""
        return reduce(
            add, (cls.between(model, *pairs(c), words=(c.source, c.target)) for c in changes)
        )

    @classmethod
    def of_words(cls, model: Model, source: str, target: str) -> Direction:
        """From ``source`` ("cat", "a fox by day") to ``target``, in the sentences of the bank.

        Raises ``ValueError`` if both say the same, or one names nothing.
        """
        for words in (source, target):
            if not parse(words):
                raise PromptError(f"{words!r} names nothing; say a thing, a place, a style ...")
        try:
            changes = prompt.rewrite_caption(source, to_caption=target).changes
        except ValueError:  # it speaks of captions
            raise PromptError(f'nothing changes from "{source}" to "{target}"') from None
        whole = cls.of_changes(model, map(_bare, changes))
        return replace(whole, source=(source,), target=(target,))

    def __str__(self) -> str:
        """``cat -> dog, red -> blue``"""
        sides = zip(self.source, self.target, strict=True)
        return ", ".join(
            f"{source or '(nothing)'} -> {target or '(nothing)'}" for source, target in sides
        )

    def __mul__(self, factor: float) -> Direction:
        if not math.isfinite(factor):
            raise ValueError(f"a direction can be taken any number of times, but not {factor}")
        return replace(self, tokens=factor * self.tokens)

    __rmul__ = __mul__

    def __add__(self, other: Direction) -> Direction:
        """Both steps in one; ``ValueError`` if they are of two text encoders."""
        if self.encoder != other.encoder:
            raise MismatchError(f"two text encoders: {self.made} cannot be added to {other.made}")
        mine, theirs = (len(each.sentences[0]) for each in (self, other))
        return replace(
            self,
            tokens=self.tokens + other.tokens,
            origin=(mine * self.origin + theirs * other.origin) / (mine + theirs),
            source=self.source + other.source,
            target=self.target + other.target,
            sentences=(
                self.sentences[0] + other.sentences[0],
                self.sentences[1] + other.sentences[1],
            ),
            model=", ".join(dict.fromkeys((self.model, other.model))),
            version=__version__,
        )

    @property
    def made(self) -> str:
        """What it is and whose: for errors."""
        return f'"{self}" (text encoder {self.encoder} of {self.model})'

    def on(self, model: Model) -> Tokens:
        """The step for this model, on its device; ``ValueError`` for one of another encoder."""
        if (own := model.embed([""]).encoder) != self.encoder:
            raise MismatchError(
                f"the direction {self.made} is not for {model.name}, whose text encoder is {own}"
            )
        return self.tokens.to(model.device)

    def profile(self) -> tuple[Tensor, Tensor]:
        """Its length at every position, and that length relative to ``origin``'s there.

        The mean of the second is ``weight`` against the direction's own sentences.
        """
        lengths = self.tokens.norm(dim=-1)[0]
        return lengths, lengths / self.origin.norm(dim=-1)[0].clamp_min(1e-6)

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write everything to a safetensors file, all or nothing."""
        history = {
            "source": self.source,
            "target": self.target,
            "sentences": self.sentences,
            "encoder": self.encoder,
            "model": self.model,
            "version": self.version,
        }
        # in one entry, since several come in random order: the same direction, the same bytes
        metadata = {"direction": json.dumps({"format": FORMAT, **history}, ensure_ascii=False)}
        tensors = {"tokens": self.tokens.contiguous(), "origin": self.origin.contiguous()}
        with writing(Path(path), overwrite=overwrite) as temporary:
            temporary.write_bytes(serialize(tensors, metadata))  # its own writer names no errno

    @classmethod
    def load(cls, path: Path | str) -> Direction:
        """Read what ``save`` wrote; anything else is a ``ValueError``."""
        try:
            with safe_open(path, framework="pt") as file:
                history = json.loads((file.metadata() or {}).get("direction", "{}"))
                if history.get("format") != FORMAT:
                    raise FileFormatError(f"{path} is no direction made by zerocon direction")
                tensors = {name: file.get_tensor(name) for name in ("tokens", "origin")}
        except (SafetensorError, OSError) as error:
            raise FileFormatError(f"cannot read {path} as a direction: {error}") from error
        source, target = history["sentences"]
        return cls(
            **tensors,
            source=tuple(history["source"]),
            target=tuple(history["target"]),
            sentences=(tuple(source), tuple(target)),
            encoder=history["encoder"],
            model=history["model"],
            version=history["version"],
        )


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


def _bare(change: Change) -> Change:
    """Between bare words, "red" and "blue", what changes is taken for what it is said of."""
    said = vocabulary.words(f"{change.source} {change.target}")
    return replace(change, noun="") if set(vocabulary.words(change.noun)) <= set(said) else change
