"""Taking a thing out of a caption, with the words that fasten it there."""

from __future__ import annotations

from zerocon.errors import PromptError
from zerocon.prompt import vocabulary
from zerocon.prompt.parser import joined_start, parse, phrase_start, style_at, subject
from zerocon.prompt.splice import CaptionEdit, covers, cut, locate, put, subject_words
from zerocon.prompt.vocabulary import grammar, starts, words


def remove(caption: str, source: str) -> CaptionEdit:
    """Take a thing out of a caption, with the words that fasten it there.

    Raises ValueError when the caption does not mention it or is about nothing else.
    """
    text = words(caption)
    found = locate(text, source)
    if found is None:
        raise PromptError(f"the caption does not mention {source!r}, so it cannot be removed")
    start, end = found
    meaning = parse(source)[0]
    if (style := style_at(text, start)) and text[style.end : style.end + 1] == ["of"]:
        start -= bool(start and text[start - 1] in ("a", "an"))
        gone = " ".join(text[start : style.end])
        return CaptionEdit(
            cut(caption, start, style.end + 1), "style", gone, "", subject_words(text)
        )
    if meaning.category in ("place", "time"):
        named = joined_start(text, phrase_start(text, start))
        first = start if starts(text[start:], grammar("prepositions")) else named
        first = start if first is None else first
        gone = " ".join(text[first:end])
        return CaptionEdit(
            cut(caption, first, end), meaning.category, gone, "", subject_words(text)
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
        gone = " ".join(text[first:end])
        return CaptionEdit(cut(caption, first, end), "added", gone, "", subject_words(text))
    gone = " ".join(text[start:end])
    if tail:
        return CaptionEdit(cut(caption, article, end + 1), "added", gone, "", subject_words(text))
    if article and text[article - 1] == "and":
        return CaptionEdit(cut(caption, article - 1, end), "added", gone, "", subject_words(text))
    if article and text[article - 1].endswith("ing"):
        article -= 1
        gone = " ".join(text[article:end])
    return CaptionEdit(cut(caption, article, end), "added", gone, "", subject_words(text))


def _remove_subject(caption: str, start: int, end: int) -> CaptionEdit:
    text = words(caption)
    rest = end
    skipped = grammar("joining", "prepositions", "conjunctions", "verbs")
    while rest < len(text):
        step = starts(text[rest:], skipped) or int(vocabulary.is_boundary(text, rest))
        if not step or text[rest] in grammar("determiners"):
            break
        rest += step
    if rest >= len(text):
        raise PromptError(f"without {' '.join(text[start:end])!r} the caption says nothing")
    before = start - (start > 0 and text[start - 1] in grammar("determiners", "numbers"))
    gone = " ".join(text[start:end])
    return CaptionEdit(cut(caption, before, rest), "added", gone, "")
