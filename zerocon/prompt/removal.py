"""Removing a thing from a caption, with its preposition or joining word."""

from __future__ import annotations

from zerocon.errors import PromptError
from zerocon.prompt.caption import (
    covers,
    joined_start,
    locate_noun,
    phrase_end,
    phrase_start,
    style_at,
    subject,
    subject_words,
)
from zerocon.prompt.parser import parse
from zerocon.prompt.splice import CaptionEdit, cut, put
from zerocon.prompt.vocabulary import is_boundary, lookup, starts, words
from zerocon.prompt.word_files import grammar


def remove(caption: str, source: str) -> CaptionEdit:
    """Remove ``source`` from a caption, with its preposition or joining word.

    Raises:
        PromptError: The caption does not mention it, or consists of nothing else.
    """
    text = words(caption)
    span = locate_noun(text, source)
    if span is None:
        raise PromptError(
            f'cannot remove {source!r}: the caption does not mention it ("{caption}"); give '
            "--caption"
        )
    start, end = span
    if (style := style_at(text, start)) and text[style.end : style.end + 1] == ["of"]:
        start -= bool(start and text[start - 1] in ("a", "an"))
        return _cut(caption, start, style.end, "style", rest=style.end + 1)
    category = parse(source)[0].category
    lead = joined_start(text, phrase_start(text, start))
    attached = lead is None or text[lead] in grammar("joining")
    if category in ("place", "time") and not attached:
        return _remove_place(caption, start, end, category)
    if category == "attribute" and end < len(text):
        rest = put(caption, start, end + 1, caption.split()[end])
        return CaptionEdit(rest, "attribute", " ".join(text[start:end]), "", text[end])
    joining = starts(text[start:end], grammar("joining", "prepositions"))
    start = phrase_start(text, start + joining) if joining < end - start else start
    if covers(subject(text), start, end):
        return _remove_subject(caption, start, end)
    return _remove_object(caption, start, end)


def _cut(
    caption: str, start: int, end: int, category: str, first: int | None = None, rest: int = 0
) -> CaptionEdit:
    """Remove words ``start`` to ``end``, and with them those from ``first`` to ``rest``."""
    text = words(caption)
    remaining = cut(caption, start if first is None else first, rest or end)
    return CaptionEdit(remaining, category, " ".join(text[start:end]), "", subject_words(text))


def _remove_place(caption: str, start: int, end: int, category: str) -> CaptionEdit:
    """Remove a place or a time, with the preposition in front of it."""
    text = words(caption)
    named = joined_start(text, phrase_start(text, start))
    if named is not None and not starts(text[start:], grammar("prepositions")):
        start = named
    start -= start > 0 and text[start - 1] in ("covered", "filled", "topped", "surrounded")
    return _cut(caption, start, end, category)


def _remove_object(caption: str, start: int, end: int) -> CaptionEdit:
    """Remove another noun than the main one, with what joins it to the rest of the caption."""
    text = words(caption)
    joined = joined_start(text, start)
    if joined and text[joined] == "of" and text[joined - 1] in grammar("sets"):
        start = phrase_start(text, joined - 1)  # "a pile of books"
        joined = joined_start(text, start)
    end = _attached_end(text, end) if joined is not None and text[joined] != "of" else end
    article = start - (start > 0 and text[start - 1] in grammar("determiners", "numbers"))
    if text[end : end + 1] == ["and"]:
        return _cut(caption, start, end, "added", first=article, rest=end + 1)
    if joined is not None:
        joined -= joined > 0 and text[joined - 1].endswith("ed") and is_boundary(text, joined - 1)
        return _cut(caption, joined, end, "added")
    if article and text[article - 1] == "and":
        return _cut(caption, start, end, "added", first=article - 1)
    if article and text[article - 1].endswith("ing"):
        return _cut(caption, article - 1, end, "added")
    return _cut(caption, start, end, "added", first=article)


def _attached_end(text: list[str], end: int) -> int:
    """End of what says where a removed thing is: "a ball in its mouth", "a dog in the basket"."""
    after = frozenset(("in", "on", "inside", "around", "over", "on top of", "above"))
    owned = end + starts(text[end:], after)
    if owned == end or text[owned : owned + 1] in ([], ["a"], ["an"]):
        return end
    if text[owned] in ("it", "them", "him"):
        return owned + 1
    if text[owned] not in ("its", "his", "her", "their", "the"):
        return end
    stop = phrase_end(text, owned)
    places = lookup(text[end:stop]) + lookup(text[owned + 1 : stop])
    kept = any(e.category in ("place", "time") for e in places)
    return end if kept and text[stop - 1] not in ("background", "foreground") else stop


def _remove_subject(caption: str, start: int, end: int) -> CaptionEdit:
    """Remove the main noun; what follows it ("wearing a hat") becomes the caption."""
    text = words(caption)
    rest = end
    skipped = grammar("joining", "prepositions", "conjunctions", "verbs")
    while rest < len(text):
        step = starts(text[rest:], skipped) or int(is_boundary(text, rest))
        if not step or text[rest] in grammar("determiners"):
            break
        rest += step
    if rest >= len(text):
        raise PromptError(
            f"cannot remove {' '.join(text[start:end])!r}: nothing else is left of the caption"
        )
    before = start - (start > 0 and text[start - 1] in grammar("determiners", "numbers"))
    removed = " ".join(text[start:end])
    warning = f"{removed!r} is the main subject: something else may appear in its place"
    return CaptionEdit(cut(caption, before, rest), "added", removed, "", warnings=(warning,))
