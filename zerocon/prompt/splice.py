"""Editing captions word by word: replace, cut, insert, with articles and numbers corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zerocon.prompt import vocabulary
from zerocon.prompt.caption import joined_start, phrase_start
from zerocon.prompt.inflection import is_plural
from zerocon.prompt.vocabulary import is_boundary, starts, words
from zerocon.prompt.word_files import grammar

_MARKS = (".", ",", ";", "!", "?")
_AGREEING = {"is": "are", "are": "is", "was": "were", "were": "was", "has": "have", "have": "has"}


@dataclass(frozen=True)
class CaptionEdit:
    """A rewritten caption, and the one change in it; fields as in ``Change``."""

    caption: str
    category: str
    source: str
    target: str
    noun: str = ""
    warnings: tuple[str, ...] = ()


def put(caption: str, start: int, end: int, phrase: str) -> str:
    """A caption with ``phrase`` in place of words ``start`` to ``end``, its article corrected."""
    tokens, text = caption.split(), words(caption)
    last = tokens[end - 1]
    mark = last[-1] if last[-1:] in _MARKS else ""
    if vocabulary.possessor(text[end - 1]) != text[end - 1] and not phrase.endswith("'s"):
        phrase += "'s"
    first = start
    while first and not is_boundary(text, first - 1) and text[first - 1] not in grammar("numbers"):
        first -= 1
    result = [*tokens[:start], phrase + mark, *tokens[end:]]
    if first and text[first - 1] in ("a", "an"):
        article = vocabulary.article(" ".join(result[first:]))
        capital = tokens[first - 1][:1].isupper()
        result[first - 1] = article.capitalize() if capital else article
    elif start == 0 and tokens[0][:1].isupper():
        result[0] = result[0][:1].upper() + result[0][1:]
    return " ".join(word for word in result if word)


def cut(caption: str, start: int, end: int) -> str:
    """A caption without words ``start`` to ``end``; punctuation at its end is kept."""
    tokens = caption.split()
    mark = tokens[end - 1][-1:] if tokens[end - 1][-1:] in (".", ",", ";") else ""
    kept = [*tokens[:start], *tokens[end:]]
    if mark and 0 < start and start == len(kept):
        kept[-1] += mark
    return " ".join(kept)


def insert(caption: str, at: int, phrase: str) -> str:
    """A caption with ``phrase`` before word ``at``, and before punctuation there."""
    tokens = caption.split()
    if at and tokens[at - 1][-1:] in (".", ",", ";"):
        mark = tokens[at - 1][-1]
        tokens[at - 1] = tokens[at - 1][:-1]
        phrase += mark
    return " ".join([*tokens[:at], phrase, *tokens[at:]]).strip()


def agree(before: str, after: str, noun_end: int) -> str:
    """``after`` with "there is" and "that is" in the number of its subject.

    ``noun_end`` is where the changed noun ends in ``before``; nothing is done if its number is the
    same in both captions.
    """
    old, tokens = words(before), after.split()
    shift = len(tokens) - len(old)
    end = noun_end + shift
    if not 0 < end <= len(tokens) or is_plural(old[:noun_end]) == is_plural(words(after)[:end]):
        return after
    text = words(after)
    places = [1] if text[:1] == ["there"] else []
    places += [i for i in range(end, min(end + 2, len(text))) if text[i] in _AGREEING]
    for i in places:
        tokens[i] = _AGREEING.get(text[i], tokens[i])
    return " ".join(tokens)


def tail_start(text: Sequence[str], places: bool = True) -> int:
    """Start of the time, and with ``places`` also of the place, at the end of a caption."""
    at = len(text)
    for mention in reversed(vocabulary.mentions(text)):
        start = mention.start
        if places and mention.of("place") and not starts(text[start:], grammar("prepositions")):
            first = joined_start(text, phrase_start(text, start))
            start = start if first is None else first
        closing = mention.of("time") or (places and mention.of("place"))
        if mention.end != at or not closing or not starts(text[start:], grammar("prepositions")):
            break
        at = start
    return at
