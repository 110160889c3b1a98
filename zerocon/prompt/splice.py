"""Editing captions word by word: replace, cut, insert, with articles corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zerocon.prompt import vocabulary
from zerocon.prompt.parser import joined_start, phrase_start, subject
from zerocon.prompt.vocabulary import bare, grammar, starts, words


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
    tokens = caption.split()
    last = tokens[end - 1]
    mark = last[-1] if last[-1:] in (".", ",", ";", "!", "?") else ""
    text = phrase
    if start and tokens[start - 1].lower() in ("a", "an"):
        start -= 1
        rest = " ".join([phrase, *tokens[end:]])
        text = f"{vocabulary.article(rest)} {phrase}".strip()
    if tokens[start][:1].isupper() and start == 0:
        text = text[:1].upper() + text[1:]
    return " ".join([*tokens[:start], text + mark, *tokens[end:]])


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


def phrase_end(text: Sequence[str], start: int) -> int:
    """End of the noun phrase that starts at a word."""
    while start < len(text) and text[start] in grammar("determiners", "numbers"):
        start += 1
    end = start + 1
    while end < len(text) and not vocabulary.is_boundary(text, end):
        end += 1
    return min(end, len(text))


def same(text: Sequence[str], other: str) -> bool:
    """Whether two phrases are equal, up to the number of the last word."""
    left, right = list(text), other.split()
    if not left or len(left) != len(right) or left[:-1] != right[:-1]:
        return False
    return vocabulary.singular(left[-1]) == vocabulary.singular(right[-1])


def locate(text: Sequence[str], source: str) -> tuple[int, int] | None:
    """Start and end of ``source`` in a caption, up to articles and plurals; None if absent."""
    phrase = bare(words(source))
    for lead in (phrase, phrase[starts(phrase, grammar("joining", "prepositions")) :]):
        lead = bare(lead)
        for start in range(len(text) - len(lead) + 1) if lead else ():
            if same(text[start : start + len(lead)], " ".join(lead)):
                return start, start + len(lead)
    return None


def subject_words(text: Sequence[str]) -> str:
    """The main noun of a caption, "" if there is none."""
    start, end = subject(text)
    return " ".join(text[start:end])


def covers(span: tuple[int, int], start: int, end: int) -> bool:
    """Whether ``start`` to ``end`` contains a span that is not empty."""
    return start <= span[0] < span[1] <= end
