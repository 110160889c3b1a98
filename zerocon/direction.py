"""Edit directions: the difference of two conditionings, estimated from sentences."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from torch import Tensor

from zerocon import __version__, prompt
from zerocon.conditioning import Conditioning
from zerocon.errors import FileFormatError, MismatchError, PromptError, about_argument
from zerocon.model.tensor_file import (
    TensorFile,
    read_tensor_file,
    require,
    text,
    texts,
    write_tensor_file,
)
from zerocon.prompt import Change, vocabulary
from zerocon.prompt.parser import parse
from zerocon.prompt.sentence_bank import pairs
from zerocon.tensor_types import Tokens

if TYPE_CHECKING:
    from zerocon.model import Model

FORMAT = "zerocon.direction/1"
POSITIONS, FEATURES, WORDS = 1024, 8192, 1000  # at most, in a file

_means: WeakKeyDictionary[Model, dict[tuple[str, ...], Conditioning]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False, repr=False)
class Direction:
    """An edit direction with its origin, for any number of edits of any images.

    The mean conditioning of the target sentences minus the mean of the source sentences
    (pix2pix-zero, arXiv 2302.03027, sec. 3.1). Directions scale and add as vectors do; a sum has
    the words and sentences of both.

    Attributes:
        tokens: (1, positions, features), float32, on the CPU.
        origin: Mean tokens of the source sentences, in the shape of ``tokens``: what the length of
            the direction is measured against.
        source: Words of the source side, such as ("cat",).
        target: Words of the target side.
        sentences: All source sentences and all target sentences.
        encoder: Fingerprint of the text encoder.
        model: Name of the model that the text encoder belongs to.
        version: Version of zerocon that made it.
        pooled: Difference of the pooled embeddings, (1, features), for models that use them.
    """

    tokens: Tokens
    origin: Tokens
    source: tuple[str, ...]
    target: tuple[str, ...]
    sentences: tuple[tuple[str, ...], tuple[str, ...]]
    encoder: str
    model: str
    version: str = __version__
    pooled: Tensor | None = None

    @classmethod
    def between(
        cls, model: Model, source: Sequence[str], target: Sequence[str], *, words: tuple[str, str]
    ) -> Direction:
        """From source sentences to target sentences; ``words`` name both sides: ("cat", "dog").

        Raises:
            PromptError: if a side has no sentences.
        """
        for side, word in zip((source, target), words, strict=True):
            if not side:
                raise PromptError(f'there are no sentences for "{word}"')
        origin = mean_conditioning(model, source)
        step = (mean_conditioning(model, target) - origin).to("cpu")
        return cls(
            tokens=step.tokens,
            origin=origin.tokens.cpu(),
            source=words[:1],
            target=words[1:],
            sentences=(tuple(source), tuple(target)),
            encoder=step.encoder,
            model=model.name,
            pooled=step.pooled,
        )

    @classmethod
    def of_changes(cls, model: Model, changes: Iterable[Change]) -> Direction:
        """The sum over ``changes`` (at least one), each from the sentence bank's pairs."""
        return reduce(
            add, (cls.between(model, *pairs(c), words=(c.source, c.target)) for c in changes)
        )

    @classmethod
    def of_words(cls, model: Model, source: str, target: str) -> Direction:
        """From ``source`` ("cat", "a fox by day") to ``target``, from the sentence bank's pairs.

        Raises:
            PromptError: if both mean the same, or one names nothing.
        """
        for words in (source, target):
            if not parse(words):
                raise PromptError(f"{words!r} names nothing; give an object, a place, a style ...")
        try:
            changes = prompt.rewrite_caption(source, to_caption=target).changes
        except ValueError:  # its message is about captions
            raise PromptError(f'nothing changes from "{source}" to "{target}"') from None
        direction = cls.of_changes(model, map(_without_own_noun, changes))
        return replace(direction, source=(source,), target=(target,))

    def __str__(self) -> str:
        """``cat -> dog, red -> blue``"""
        sides = zip(self.source, self.target, strict=True)
        return ", ".join(
            f"{source or '(nothing)'} -> {target or '(nothing)'}" for source, target in sides
        )

    def __repr__(self) -> str:
        source, target = map(len, self.sentences)
        text = shorten(str(self), 80, placeholder=" ...")
        return f"Direction({text}: {source} and {target} sentences, model {self.model!r})"

    def __mul__(self, factor: float) -> Direction:
        if not math.isfinite(factor):
            raise ValueError(f"a direction can be multiplied by a finite number, not by {factor}")
        pooled = None if self.pooled is None else factor * self.pooled
        return replace(self, tokens=factor * self.tokens, pooled=pooled)

    __rmul__ = __mul__

    def __add__(self, other: Direction) -> Direction:
        """The sum of both; ``MismatchError`` if they are of different text encoders."""
        if self.encoder != other.encoder:
            raise MismatchError(
                f"cannot add directions of two text encoders: {self.origin_text} and "
                f"{other.origin_text}"
            )
        n, m = (len(each.sentences[0]) for each in (self, other))
        pooled = None
        if self.pooled is not None and other.pooled is not None:
            pooled = self.pooled + other.pooled
        return replace(
            self,
            tokens=self.tokens + other.tokens,
            origin=(n * self.origin + m * other.origin) / (n + m),
            source=self.source + other.source,
            target=self.target + other.target,
            sentences=(
                self.sentences[0] + other.sentences[0],
                self.sentences[1] + other.sentences[1],
            ),
            model=", ".join(dict.fromkeys((self.model, other.model))),
            version=__version__,
            pooled=pooled,
        )

    @property
    def origin_text(self) -> str:
        """Words, text encoder and model, for error messages."""
        return f'"{self}" (text encoder {self.encoder} of {self.model})'

    def on(self, model: Model) -> Conditioning:
        """The direction as a conditioning of one row, on the model's device.

        Raises:
            MismatchError: if its text encoder, or the number of its positions, does not match.
        """
        empty = model.embed([""])
        if empty.encoder != self.encoder:
            raise MismatchError(
                f"the direction {self.origin_text} does not fit {model.name}, whose text encoder "
                f"is {empty.encoder}"
            )
        shapes = [
            None if each is None else tuple(each.shape) for each in (empty.pooled, self.pooled)
        ]
        if self.tokens.shape != empty.tokens.shape or shapes[0] != shapes[1]:
            raise MismatchError(
                f"the direction {self.origin_text} has the shape {tuple(self.tokens.shape)}, the "
                f"captions of {model.name} have {tuple(empty.tokens.shape)}"
            )
        pooled = None if self.pooled is None else self.pooled.to(model.device)
        return replace(empty, tokens=self.tokens.to(model.device), pooled=pooled)

    def profile(self) -> tuple[Tensor, Tensor]:
        """Length at every position, and that length relative to ``origin``'s there.

        The mean of the second is ``relative_length`` against the direction's own sentences.
        """
        lengths = self.tokens.norm(dim=-1)[0]
        return lengths, lengths / self.origin.norm(dim=-1)[0].clamp_min(1e-6)

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write everything to a safetensors file, atomically."""
        metadata = {
            "format": FORMAT,
            "source": self.source,
            "target": self.target,
            "sentences": self.sentences,
            "encoder": self.encoder,
            "model": self.model,
            "version": self.version,
        }
        line = json.dumps(metadata, ensure_ascii=False)
        tensors = {"tokens": self.tokens, "origin": self.origin, "pooled": self.pooled}
        parts = {name: part for name, part in tensors.items() if part is not None}
        write_tensor_file(
            Path(path), parts, "direction", line, noun="a direction", overwrite=overwrite
        )

    @classmethod
    @about_argument("path")
    def load(cls, path: Path | str) -> Direction:
        """Read what ``save`` wrote.

        Raises:
            FileFormatError: for any other file.
        """
        file = read_tensor_file(
            path,
            entry="direction",
            format=FORMAT,
            noun="a direction",
            names=("tokens", "origin", "pooled"),
            dimensions=_is_shape,
        )
        try:
            return cls(**_checked(file))
        except (LookupError, ValueError) as error:
            raise FileFormatError(f"{path} is not a valid direction: {error}") from None


def _is_shape(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor of a file may have this shape: one row of tokens, or of pooled features."""
    rows, *positions, features = shape if len(shape) > 1 else (0, 0)
    fits = len(positions) == (0 if name == "pooled" else 1)
    return (
        fits
        and rows == 1
        and 1 <= features <= FEATURES
        and all(1 <= each <= POSITIONS for each in positions)
    )


def _checked(file: TensorFile) -> dict[str, Any]:
    """The fields of a direction; ``ValueError`` or ``LookupError`` for one that is not valid."""
    tensors, metadata = file.tensors, file.metadata
    require(tensors["tokens"].shape == tensors["origin"].shape, "the shapes of tokens and origin")
    values: dict[str, Any] = dict(tensors)
    values |= {name: texts(metadata[name], name, most=WORDS) for name in ("source", "target")}
    require(0 < len(values["source"]) == len(values["target"]), "source and target")
    sides = metadata["sentences"]
    require(isinstance(sides, list) and len(sides) == 2, "sentences")
    values["sentences"] = tuple(texts(each, "sentences") for each in sides)
    require(all(values["sentences"]), "sentences")
    return values | {name: text(metadata[name], name) for name in ("encoder", "model", "version")}


def mean_conditioning(model: Model, sentences: Sequence[str]) -> Conditioning:
    """Mean conditioning of sentences over all positions: one row, not normalized.

    Cached per model, since the images of a batch use the same sentences again and again.
    """
    cached = _means.setdefault(model, {})
    key = tuple(sentences)
    if key not in cached:
        every = model.embed(sentences)
        pooled = None if every.pooled is None else every.pooled.mean(0, keepdim=True)
        tokens = every.tokens.mean(0, keepdim=True)
        cached[key] = replace(every.rows(slice(1)), tokens=tokens, pooled=pooled)
    return cached[key]


def relative_length(step: Conditioning, c: Conditioning) -> float:
    """Length of a direction relative to the caption's own tokens, averaged over positions.

    The directions released with pix2pix-zero measure 0.7 to 0.95 on Stable Diffusion; below about
    0.1 an edit changes little.
    """
    lengths = step.tokens.norm(dim=-1) / c.tokens.norm(dim=-1).clamp_min(1e-6)
    return float(lengths.mean())


def _without_own_noun(change: Change) -> Change:
    """Between bare words ("red", "blue") the value itself is parsed as the noun: leave it out."""
    values = vocabulary.words(f"{change.source} {change.target}")
    inside = set(vocabulary.words(change.noun)) <= set(values)
    return replace(change, noun="") if inside else change
