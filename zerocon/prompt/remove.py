"""Removing a thing from a caption, with its preposition or joining word."""

from __future__ import annotations

from zerocon.errors import PromptError
from zerocon.prompt import vocabulary
from zerocon.prompt.parser import joined_start, parse, phrase_start, style_at, subject
from zerocon.prompt.splice import CaptionEdit, covers, cut, locate, put, subject_words
from zerocon.prompt.vocabulary import grammar, starts, words


def remove(caption: str, source: str) -> CaptionEdit:
    """Remove ``source`` from a caption, with its preposition or joining word.

    Raises:
        PromptError: The caption does not mention it, or consists of nothing else.
    """
    text = words(caption)
    span = locate(text, source)
    if span is None:
        raise PromptError(
            f"cannot remove {source!r}: the caption does not mention it; give --caption"
        )
    start, end = span
    meaning = parse(source)[0]
    if (style := style_at(text, start)) and text[style.end : style.end + 1] == ["of"]:
        start -= bool(start and text[start - 1] in ("a", "an"))
        removed = " ".join(text[start : style.end])
        return CaptionEdit(
            cut(caption, start, style.end + 1), "style", removed, "", subject_words(text)
        )
    if meaning.category in ("place", "time"):
        named = joined_start(text, phrase_start(text, start))
        first = start if starts(text[start:], grammar("prepositions")) else named
        first = start if first is None else first
        removed = " ".join(text[first:end])
        return CaptionEdit(
            cut(caption, first, end), meaning.category, removed, "", subject_words(text)
        )
    if meaning.category == "attribute" and end < len(text):
        noun = text[end]
        rest = put(caption, start, end + 1, caption.split()[end])
        return CaptionEdit(rest, "attribute", " ".join(text[start:end]), "", noun)
    joining = starts(text[start:end], grammar("joining", "prepositions"))
    start = phrase_start(text, start + joining) if joining < end - start else start
    if covers(subject(text), start, end):
        return _remove_subject(caption, start, end)
    first = joined_start(text, start)
    article = start - (start > 0 and text[start - 1] in grammar("determiners", "numbers"))
    tail = text[end : end + 1] == ["and"]
    if first is not None and not tail:
        removed = " ".join(text[first:end])
        return CaptionEdit(cut(caption, first, end), "added", removed, "", subject_words(text))
    removed = " ".join(text[start:end])
    if tail:
        return CaptionEdit(
            cut(caption, article, end + 1), "added", removed, "", subject_words(text)
        )
    if article and text[article - 1] == "and":
        return CaptionEdit(
            cut(caption, article - 1, end), "added", removed, "", subject_words(text)
        )
    if article and text[article - 1].endswith("ing"):
        article -= 1
        removed = " ".join(text[article:end])
    return CaptionEdit(cut(caption, article, end), "added", removed, "", subject_words(text))


def _remove_subject(caption: str, start: int, end: int) -> CaptionEdit:
    """Remove the main noun; what follows it ("wearing a hat") becomes the caption."""
    text = words(caption)
    rest = end
    skipped = grammar("joining", "prepositions", "conjunctions", "verbs")
    while rest < len(text):
        step = starts(text[rest:], skipped) or int(vocabulary.is_boundary(text, rest))
        if not step or text[rest] in grammar("determiners"):
            break
        rest += step
    if rest >= len(text):
        raise PromptError(
            f"cannot remove {' '.join(text[start:end])!r}: nothing else is left of the caption"
        )
    before = start - (start > 0 and text[start - 1] in grammar("determiners", "numbers"))
    removed = " ".join(text[start:end])
    return CaptionEdit(cut(caption, before, rest), "added", removed, "")
