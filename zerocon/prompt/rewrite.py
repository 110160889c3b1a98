"""Finding the words of a caption that one part of a prompt replaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zerocon.prompt import vocabulary
from zerocon.prompt.parser import (
    PromptPart,
    joined_start,
    nouns,
    parse,
    phrase_start,
    style_at,
    subject,
)
from zerocon.prompt.replace import METHODS, put_added, put_attribute, put_object
from zerocon.prompt.splice import CaptionEdit, locate
from zerocon.prompt.vocabulary import Mention, VocabularyEntry, bare, words

# CLIP's cosine of the image to each sentence; None without CLIP
Similarity = Callable[[Sequence[str]], Sequence[float] | None]
_MARGIN = 0.02  # cosines of paraphrases differ by less; a caption is contradicted above it
_CANDIDATES = 40  # sentences that are scored: the commonest words of a family


def replace(
    caption: str, part: PromptPart, source: str | None, similarity: Similarity | None
) -> CaptionEdit:
    """Put a part into a caption, in place of ``source`` or of related words.

    ``similarity`` is used if the caption has no related words: they may be missing from it.
    """
    text = words(caption)
    if source is not None:
        return _replace_named(caption, part, source)
    if part.joining:
        around = (_related(text, entry, around=True) for entry in part.options)
        return put_added(caption, part, next((m for m in around if m), None))
    for entry in part.options:
        if mention := _related(text, entry):
            return METHODS[entry.category](caption, part.with_entry(entry), mention)
    if part.options:
        part = part.with_entry(part.options[0])
    if part.category == "object":
        return _replace_subject(caption, part, similarity)
    step = METHODS[part.category](caption, part, None)
    if part.category == "added" or step.source or step.source == step.target:
        return step
    if (
        part.options
        and part.category != "style"
        and (missing := _missing(caption, part, similarity))
    ):
        return _with_missing(step, missing)
    return step


def _with_missing(step: CaptionEdit, missing: str) -> CaptionEdit:
    """The same edit of a source that the caption does not mention."""
    warning = f"the caption does not mention {missing!r}, which the image seems to show"
    return CaptionEdit(step.caption, step.category, missing, step.target, step.noun, (warning,))


def _replace_named(caption: str, part: PromptPart, source: str) -> CaptionEdit:
    """Put a part into a caption in place of ``source``, given by the user."""
    text = words(caption)
    span = locate(text, source)
    meaning = parse(source)[0]
    category = next((e.category for e in part.options if e.category == meaning.category), None)
    if category:
        part = part.with_entry(next(e for e in part.options if e.category == category))
    if part.category != meaning.category:
        if span and meaning.category in ("object", "added") and part.category == "attribute":
            return put_attribute(caption, part, None, span)
        if span and meaning.category in ("object", "added") and part.joining:
            return put_added(caption, part, None, span)
    if span is None:
        related = [m for e in meaning.options if (m := _related(text, e, other=False))]
        category = part.category if part.category != "added" or related else "object"
        step = METHODS[category](caption, part, related[0] if related else None)
        warning = f"the caption does not mention {source!r}"
        name = " ".join(bare(words(source)))
        return CaptionEdit(step.caption, step.category, name, step.target, step.noun, (warning,))
    if part.category == "style" and (whole := style_at(text, span[0])):
        span = whole.start, max(span[1], whole.end)  # "a watercolor" of "a watercolor painting"
    mention = Mention(*span, meaning.options)
    if part.category in ("place", "time", "style", "attribute") or (
        meaning.category == "added" or part.joining
    ):
        return METHODS[part.category](caption, part, mention)
    return put_object(caption, part, mention)


def _replace_subject(caption: str, part: PromptPart, similarity: Similarity | None) -> CaptionEdit:
    """Put an object into a caption in place of its subject, with a warning if unrelated."""
    text = words(caption)
    start, end = subject(text)
    name = " ".join(text[start:end])
    if not part.options:
        step = put_object(caption, part, None)
        warning = f"{part.text!r} is not in the word lists: taken as an object"
        return CaptionEdit(
            step.caption, step.category, step.source, step.target, step.noun, (warning,)
        )
    step = put_object(caption, part, None)
    missing = _missing(caption, part, similarity)
    if step.source == step.target or not (missing or name):
        return step
    if missing:
        return _with_missing(step, missing)
    if step.category == "attribute":
        return step
    family = part.options[0].family
    warning = f"the caption names none of the {family}: {part.text!r} replaces {name!r}"
    return CaptionEdit(step.caption, step.category, step.source, step.target, step.noun, (warning,))


def _related(
    text: Sequence[str], entry: VocabularyEntry, other: bool = True, around: bool = False
) -> Mention | None:
    """The mention in a caption that an entry can replace: the subject, else the first one.

    ``other`` excludes attributes equal to the entry, ``around`` excludes the subject.
    """
    if entry.category in ("object", "added"):
        candidates = nouns(text)
    elif entry.category == "style":
        candidates = [m for i in range(min(len(text), 4)) if (m := style_at(text, i))]
        candidates = [m for m in candidates if text[m.end : m.end + 1] == ["of"]]
    else:
        candidates = vocabulary.mentions(text)
    related = [m for m in candidates if any(e.is_related(entry) for e in m.entries)]
    if entry.category == "place":
        # not the place in "a city bus", which is an attribute
        related = [m for m in related if m.end == len(text) or vocabulary.is_boundary(text, m.end)]
    if entry.category == "attribute" and other:
        # "made of wood" can mean the cat although its bench is wooden already
        related = [m for m in related if entry not in m.entries and _qualifies(text, m)]
    start, end = subject(text)
    first = phrase_start(text, start) if start < end else 0
    of_subject = [m for m in related if first <= m.start and m.end <= end]
    if around:
        related = [
            m
            for m in related
            if m not in of_subject and joined_start(text, phrase_start(text, m.start))
        ]
        of_subject = []
    return next(iter(of_subject or related), None)


def _qualifies(text: Sequence[str], mention: Mention) -> bool:
    """Whether a mention is used as an attribute: "a rock wall", not "a rock"."""
    if mention.end < len(text) and not vocabulary.is_boundary(text, mention.end):
        return True
    return mention.start > 0 and text[mention.start - 1] in ("is", "are", "was", "were", "and")


def _missing(caption: str, part: PromptPart, similarity: Similarity | None) -> str:
    """The word of the part's family with which the caption fits the image best, "" for none."""
    if similarity is None or not part.options:
        return ""
    target = part.options[0]
    family = [e for e in vocabulary.family(target) if e.name != target.name][:_CANDIDATES]
    method = METHODS[target.category]
    captions = {
        e.name: method(caption, PromptPart(e.category, e.name, e.name, (e,)), None).caption
        for e in family
    }
    captions = {name: other for name, other in captions.items() if other != caption}
    cosines = similarity([caption, *captions.values()])
    if cosines is None:
        return ""
    best, name = max(zip(cosines, ["", *captions], strict=True), key=lambda pair: pair[0])
    return name if best > cosines[0] + _MARGIN else ""
