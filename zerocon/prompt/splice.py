"""Captions cut and mended: words put in, taken out, found again, with the articles put right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zerocon.prompt import vocabulary
from zerocon.prompt.parser import joined_start, phrase_start, subject
from zerocon.prompt.vocabulary import bare, grammar, starts, words


@dataclass(frozen=True)
class CaptionEdit:
    """A rewritten caption and the one change that was made in it."""

    caption: str
    category: str
    source: str
    target: str
    noun: str = ""
    warnings: tuple[str, ...] = ()


def put(caption: str, start: int, end: int, phrase: str) -> str:
    """A caption with other words from start to end, the article before them put right."""
    tokens = caption.split()
    last = tokens[end - 1]
    mark = last[-1] if last[-1:] in (".", ",", ";", "!", "?") else ""
    said = phrase
    if start and tokens[start - 1].lower() in ("a", "an"):
        start -= 1
        rest = " ".join([phrase, *tokens[end:]])
        said = f"{vocabulary.article(rest)} {phrase}".strip()
    if tokens[start][:1].isupper() and start == 0:
        said = said[:1].upper() + said[1:]
    return " ".join([*tokens[:start], said + mark, *tokens[end:]])


def cut(caption: str, start: int, end: int) -> str:
    tokens = caption.split()
    mark = tokens[end - 1][-1:] if tokens[end - 1][-1:] in (".", ",", ";") else ""
    kept = [*tokens[:start], *tokens[end:]]
    if mark and 0 < start and start == len(kept):
        kept[-1] += mark
    return " ".join(kept)


def insert(caption: str, at: int, phrase: str) -> str:
    tokens = caption.split()
    if at and tokens[at - 1][-1:] in (".", ",", ";"):
        mark = tokens[at - 1][-1]
        tokens[at - 1] = tokens[at - 1][:-1]
        phrase += mark
    return " ".join([*tokens[:at], phrase, *tokens[at:]]).strip()


def tail_start(text: Sequence[str], places: bool = True) -> int:
    """Where the closing words of a caption begin: its place (if asked for) and its time."""
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
    """Where the noun phrase that begins at a word ends."""
    while start < len(text) and text[start] in grammar("determiners", "numbers"):
        start += 1
    end = start + 1
    while end < len(text) and not vocabulary.is_boundary(text, end):
        end += 1
    return min(end, len(text))


def same(text: Sequence[str], other: str) -> bool:
    spoken, wanted = list(text), other.split()
    if not spoken or len(spoken) != len(wanted) or spoken[:-1] != wanted[:-1]:
        return False
    return vocabulary.singular(spoken[-1]) == vocabulary.singular(wanted[-1])


def locate(text: Sequence[str], source: str) -> tuple[int, int] | None:
    """Where a caption says this, articles and plurals aside."""
    wanted = bare(words(source))
    for lead in (wanted, wanted[starts(wanted, grammar("joining", "prepositions")) :]):
        lead = bare(lead)
        for start in range(len(text) - len(lead) + 1) if lead else ():
            if same(text[start : start + len(lead)], " ".join(lead)):
                return start, start + len(lead)
    return None


def subject_words(text: Sequence[str]) -> str:
    start, end = subject(text)
    return " ".join(text[start:end])


def covers(span: tuple[int, int], start: int, end: int) -> bool:
    return start <= span[0] < span[1] <= end
