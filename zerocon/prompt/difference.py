"""The changes between two whole captions, for a target caption that the user wrote."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from zerocon.errors import NothingToChangeError
from zerocon.prompt.caption import joined_start, phrase_start, subject
from zerocon.prompt.change import Change
from zerocon.prompt.parser import PromptPart, parse
from zerocon.prompt.vocabulary import CATEGORIES, starts, words
from zerocon.prompt.word_files import grammar


def is_caption(text: str, caption: str) -> bool:
    """Whether a prompt is the source caption with some words replaced, not a phrase or a command.

    It is about as long, and most of its words are the caption's in their order.
    """
    before, after = words(caption), words(text)
    if len(before) < 5 or len(after) < len(before) - 1 or grammar("contrasts") & {*after}:
        return False
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    opening = {before[0], after[0]} <= {"a", "an", "the", "there", "two", "three", before[0]}
    return opening and matcher.ratio() >= 0.65


def changes_between(caption: str, target: str) -> tuple[Change, ...]:
    """The changes from a caption to another one, by the words that differ.

    If a difference is not one phrase for another of its category, or there are more than four, the
    result is one change of the category "caption".
    """
    before, after = _content(caption), _content(target)
    if [w for w, _ in before] == [w for w, _ in after]:
        raise NothingToChangeError("nothing would change: the captions are equal up to articles")
    if not before or not after:
        return (Change("caption", caption, target),)
    matcher = SequenceMatcher(None, [w for w, _ in before], [w for w, _ in after], autojunk=False)
    differences = [op for op in matcher.get_opcodes() if op[0] != "equal"]
    changes: list[Change] = []
    for _, i, j, k, m in differences:
        difference = _difference(caption, target, before[i:j], after[k:m])
        if not difference or len(differences) > 4:
            return (Change("caption", caption, target),)
        changes += difference
    return tuple(changes)


def _content(caption: str) -> list[tuple[str, int]]:
    """Words of a caption without articles, each with its index."""
    return [(w, i) for i, w in enumerate(words(caption)) if w not in ("a", "an", "the", "")]


def _difference(
    caption: str, target_caption: str, before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> list[Change]:
    """The changes at one place where two captions differ; empty if they are unclear."""
    source, target = _span(caption, before), _span(target_caption, after)
    text = words(caption) if before else words(target_caption)
    start, end = subject(text)
    noun = " ".join(text[start:end])
    old, new = parse(source), parse(target)
    if len(old) > 1 or len(new) > 1:
        return _paired(old, new, noun)
    possible = [{p.category, *(e.category for e in p.options)} for p in (*old, *new)]
    category = next((c for c in CATEGORIES if all(c in some for some in possible)), "")
    if category == "object" and not (source and target):
        category = "added"
    elif category == "object":
        noun = ""
    elif category == "attribute":
        last = (before or after)[-1][1] + 1
        noun = text[last] if last < len(text) else noun
    clear = category and source != target
    return [Change(category, source, target, noun)] if clear else []


def _paired(old: Sequence[PromptPart], new: Sequence[PromptPart], noun: str) -> list[Change]:
    """Changes between two groups of parts by category; empty if one has a category twice."""
    before, after = ({p.category: p.phrase for p in parts} for parts in (old, new))
    if (
        len(before) < len(old)
        or len(after) < len(new)
        or ("object" in before) != ("object" in after)
    ):
        return []
    pairs = ((c, before.get(c, ""), after.get(c, "")) for c in CATEGORIES)
    return [Change(c, s, t, "" if c == "object" else noun) for c, s, t in pairs if s != t]


def _span(text: str, part: list[tuple[str, int]]) -> str:
    """The phrase of a difference in the text: without a last "of", with a place's preposition."""
    if not part:
        return ""
    tokens = words(text)
    start, end = part[0][1], part[-1][1] + 1
    if tokens[end - 1] == "of":
        end -= 1
    category = next((p.category for p in parse(" ".join(tokens[start:end]))), "")
    if category == "style" and start:
        start -= tokens[start - 1] in ("a", "an")
    if category in ("place", "time") and not starts(tokens[start:], grammar("prepositions")):
        first = joined_start(tokens, phrase_start(tokens, start))
        start = start if first is None else first
    return " ".join(tokens[start:end])
