"""From a source caption and a prompt (``--to dog``) to the target caption and its changes.

``rewrite_caption`` finds the words of the source caption that the prompt replaces, using the word
lists of ``zerocon.prompt.vocabulary``. The image is only used, through CLIP's similarity, where the
caption has no related words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from zerocon.errors import NothingToChangeError, PromptError
from zerocon.prompt import removal, rewrite
from zerocon.prompt.parser import PromptPart, joined_start, parse, phrase_start, subject
from zerocon.prompt.splice import CaptionEdit
from zerocon.prompt.vocabulary import CATEGORIES, grammar, starts, words


@dataclass(frozen=True)
class Change:
    """One change between two captions.

    Attributes:
        category: object, attribute, added, place, time or style; "caption" if source and target
            are whole captions.
        source: The words that are replaced; "" if the target is added.
        target: The new words; "" if the source is removed.
        noun: The noun that the change belongs to ("cat"), "" if unknown.
    """

    category: str
    source: str
    target: str
    noun: str = ""

    def __str__(self) -> str:
        return f"{self.source or '(nothing)'} -> {self.target or '(nothing)'} ({self.category})"


@dataclass(frozen=True)
class CaptionRewrite:
    """Source caption, target caption, the changes between them, and warnings."""

    caption: str
    target_caption: str
    changes: tuple[Change, ...]
    warnings: tuple[str, ...] = field(default=())

    def summary(self) -> str:
        """``a cat on a bench: cat -> dog (object)``"""
        return f"{self.caption}: {', '.join(map(str, self.changes))}"


def rewrite_caption(
    caption: str,
    *,
    to: str | None = None,
    from_: str | None = None,
    to_caption: str | None = None,
    similarity: rewrite.Similarity | None = None,
) -> CaptionRewrite:
    """Rewrite a source caption as a prompt describes.

    Args:
        caption: Source caption.
        to: What the edited image shows ("dog", "at night", "a dog wearing a hat"), or "" to remove
            ``from_``.
        from_: The words that are replaced; by default words related to ``to``, or the subject.
        to_caption: The whole target caption, instead of ``to`` and ``from_``.
        similarity: CLIP's cosine of the image to each sentence, or None; called if the caption has
            no related words.

    Raises:
        PromptError: There is no prompt, it names nothing, or nothing would change.
    """
    if to is not None and to_caption is not None:
        raise PromptError("to and to_caption exclude each other: give one of them")
    unchanged = keep_caption(caption)
    caption, warnings = unchanged.caption, list(unchanged.warnings)
    if to_caption is not None:
        if from_ is not None:
            raise PromptError("to_caption is the whole target caption: leave out from_")
        if not to_caption.strip():
            raise PromptError("to_caption is empty; describe the edited image")
        return CaptionRewrite(
            caption, *_between(caption, " ".join(to_caption.split())), tuple(warnings)
        )
    if to is None:
        raise PromptError("the prompt is missing: give to (a phrase) or to_caption (a sentence)")
    for phrase in (to, from_ or ""):
        if phrase.strip() and not parse(phrase):
            hint = "give an object, a place, a style ..."
            raise PromptError(f"{phrase.strip()!r} names nothing; {hint}")
    if to.strip():
        target, changes = _rewrite(caption, parse(to), from_, similarity, warnings)
    elif from_ and from_.strip():
        removed = removal.remove(caption, from_)
        target, changes = removed.caption, [_change(removed)]
        warnings += removed.warnings
    else:
        raise PromptError("to is empty: give from_, the words to remove")
    if not changes:
        raise NothingToChangeError(
            f"nothing would change: the caption already contains {to.strip()!r}"
        )
    return CaptionRewrite(caption, target, tuple(changes), tuple(dict.fromkeys(warnings)))


def keep_caption(caption: str) -> CaptionRewrite:
    """A rewrite without changes, with a warning if the caption is degenerate."""
    caption = " ".join(caption.split())
    flaw = degenerate(caption)
    warnings = (
        (f"the caption is useless ({flaw}); give a better one with --caption",) if flaw else ()
    )
    return CaptionRewrite(caption, caption, (), warnings)


def _rewrite(
    caption: str,
    parts: Sequence[PromptPart],
    source: str | None,
    similarity: rewrite.Similarity | None,
    warnings: list[str],
) -> tuple[str, list[Change]]:
    """The caption after one part after the other, and the changes."""
    changes = []
    replacing = _part_for(parts, source) if source and source.strip() else -1
    for i, part in enumerate(parts):
        if part.removed:
            step = removal.remove(caption, part.text)
        else:
            step = rewrite.replace(caption, part, source if i == replacing else None, similarity)
        caption = step.caption
        warnings += step.warnings
        if (change := _change(step)).source != change.target:
            changes.append(change)
    return caption, changes


def _part_for(parts: Sequence[PromptPart], source: str | None) -> int:
    """Index of the part that replaces the source: the first of its category, else 0."""
    kinds = [e.category for p in parse(source or "") for e in p.options] or ["object"]
    for i, part in enumerate(parts):
        if any(e.category in kinds for e in part.options) or part.category in kinds:
            return i
    return 0


def _change(step: CaptionEdit) -> Change:
    return Change(step.category, step.source, step.target, step.noun)


def _between(caption: str, target: str) -> tuple[str, tuple[Change, ...]]:
    """The target caption, and the changes to it by the words that differ.

    If a difference is not one phrase for another of its category, or there are more than four, the
    result is one change of the category "caption".
    """
    before, after = _content(caption), _content(target)
    if [w for w, _ in before] == [w for w, _ in after]:
        raise NothingToChangeError("nothing would change: the captions are equal up to articles")
    if not before or not after:
        return target, (Change("caption", caption, target),)
    matcher = SequenceMatcher(None, [w for w, _ in before], [w for w, _ in after], autojunk=False)
    differences = [op for op in matcher.get_opcodes() if op[0] != "equal"]
    changes: list[Change] = []
    for _, i, j, k, m in differences:
        difference = _difference(caption, target, before[i:j], after[k:m])
        if not difference or len(differences) > 4:
            return target, (Change("caption", caption, target),)
        changes += difference
    return target, tuple(changes)


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


def degenerate(caption: str) -> str | None:
    """Why a caption is useless, or None: captioners may return nothing, or repeat themselves."""
    text = [w for w in words(caption) if w]
    if not text:
        return "it is empty"
    content = [w for w in text if w not in grammar("stop words")]
    if not content:
        return "it names nothing"
    for word in dict.fromkeys(content):
        # at least half: "a red bird on a red branch with red berries" is a normal caption
        if content.count(word) >= max(3, len(content) / 2):
            return f"it repeats {word!r}"
    for length in (2, 3, 4):
        for i in range(len(text) - 2 * length + 1):
            if text[i : i + length] == text[i + length : i + 2 * length]:
                return f"it repeats {' '.join(text[i : i + length])!r}"
    return None
