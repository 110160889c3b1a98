"""What an edit is about: from a caption and `--to dog` to the words that change.

`understand` finds what the caption says of the thing asked for, writes the caption of the wanted
picture and names each change. Words come from `zerocon.prompt.vocabulary`; pictures are only asked
(`see`) for what the caption leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from zerocon.errors import PromptError
from zerocon.prompt import remove, rewrite
from zerocon.prompt.parser import PromptPart, joined_start, parse, phrase_start, subject
from zerocon.prompt.splice import CaptionEdit
from zerocon.prompt.vocabulary import CATEGORIES, grammar, starts, words


@dataclass(frozen=True)
class Change:
    """One thing that changes; source "" adds the target, target "" removes the source.

    `category` is object, attribute, added, place, time or style, or "caption" when source and
    target are whole captions. `noun` is what the change is said of ("cat"), "" if unknown.
    """

    category: str
    source: str
    target: str
    noun: str = ""

    def __str__(self) -> str:
        return f"{self.source or '(nothing)'} -> {self.target or '(nothing)'} ({self.category})"


@dataclass(frozen=True)
class CaptionRewrite:
    """A caption, the caption of the wanted picture, and what changes between them."""

    caption: str
    target_caption: str
    changes: tuple[Change, ...]
    warnings: tuple[str, ...] = field(default=())

    def summary(self) -> str:
        """One line for people: 'a cat on a bench: cat -> dog (object)'."""
        return f"{self.caption}: {', '.join(map(str, self.changes))}"


def rewrite_caption(
    caption: str,
    *,
    to: str | None = None,
    from_: str | None = None,
    to_caption: str | None = None,
    see: rewrite.See | None = None,
) -> CaptionRewrite:
    """Tell what changes in a picture of this caption.

    `to` says what is wanted ("dog", "at night", "a dog wearing a hat"), "" to remove `from_`;
    `from_` says what is replaced, by default what the caption says of the same kind. Or
    `to_caption` describes the whole wanted picture. `see` gives the likeness of the picture to
    each sentence, or None if it cannot; it is asked when the caption does not tell.
    Raises ValueError when nothing is asked for or nothing would change.
    """
    if to is not None and to_caption is not None:
        raise PromptError("to and to_caption both say what is wanted: give one of them")
    unchanged = keep_caption(caption)
    caption, warnings = unchanged.caption, list(unchanged.warnings)
    if to_caption is not None:
        if from_ is not None:
            raise PromptError("to_caption says it all: leave out from_")
        if not to_caption.strip():
            raise PromptError("to_caption is empty; describe the wanted picture")
        return CaptionRewrite(
            caption, *_between(caption, " ".join(to_caption.split())), tuple(warnings)
        )
    if to is None:
        raise PromptError("say what is wanted: to (a phrase) or to_caption (a sentence)")
    for asked in (to, from_ or ""):
        if asked.strip() and not parse(asked):
            raise PromptError(f"{asked.strip()!r} names nothing; say a thing, a place, a style ...")
    if to.strip():
        target, changes = _rewrite(caption, parse(to), from_, see, warnings)
    elif from_ and from_.strip():
        removal = remove.remove(caption, from_)
        target, changes = removal.caption, [_change(removal)]
        warnings += removal.warnings
    else:
        raise PromptError("nothing to add and nothing to remove: to is empty, so name a source")
    if not changes:
        raise PromptError(f"nothing to do: the caption already says {to.strip()!r}")
    return CaptionRewrite(caption, target, tuple(changes), tuple(dict.fromkeys(warnings)))


def keep_caption(caption: str) -> CaptionRewrite:
    """A picture of this caption of which words ask nothing; a caption of no use is warned of."""
    caption = " ".join(caption.split())
    flaw = degenerate(caption)
    warnings = (f"the caption is no use ({flaw}); give a better one",) if flaw else ()
    return CaptionRewrite(caption, caption, (), warnings)


def _rewrite(
    caption: str,
    parts: Sequence[PromptPart],
    source: str | None,
    see: rewrite.See | None,
    warnings: list[str],
) -> tuple[str, list[Change]]:
    changes = []
    replaced = _meant(parts, source) if source and source.strip() else -1
    for i, part in enumerate(parts):
        if part.removed:
            step = remove.remove(caption, part.text)
        else:
            step = rewrite.replace(caption, part, source if i == replaced else None, see)
        caption = step.caption
        warnings += step.warnings
        if (change := _change(step)).source != change.target:
            changes.append(change)
    return caption, changes


def _meant(parts: Sequence[PromptPart], source: str | None) -> int:
    """Which of the parts asked for replaces the source: the first of its category."""
    kinds = [e.category for p in parse(source or "") for e in p.options] or ["object"]
    for i, part in enumerate(parts):
        if any(e.category in kinds for e in part.options) or part.category in kinds:
            return i
    return 0


def _change(step: CaptionEdit) -> Change:
    return Change(step.category, step.source, step.target, step.noun)


def _between(caption: str, wanted: str) -> tuple[str, tuple[Change, ...]]:
    """The changes from one caption to another, by the words that differ.

    A difference that is not plainly one thing for another of its category, or more than four of
    them, makes it one change of the category "caption".
    """
    before, after = _content(caption), _content(wanted)
    if [w for w, _ in before] == [w for w, _ in after]:
        raise PromptError("nothing to do: both captions say the same")
    if not before or not after:
        return wanted, (Change("caption", caption, wanted),)
    matcher = SequenceMatcher(None, [w for w, _ in before], [w for w, _ in after], autojunk=False)
    differences = [op for op in matcher.get_opcodes() if op[0] != "equal"]
    changes: list[Change] = []
    for _, i, j, k, m in differences:
        found = _difference(caption, wanted, before[i:j], after[k:m])
        if not found or len(differences) > 4:
            return wanted, (Change("caption", caption, wanted),)
        changes += found
    return wanted, tuple(changes)


def _content(caption: str) -> list[tuple[str, int]]:
    return [(w, i) for i, w in enumerate(words(caption)) if w not in ("a", "an", "the", "")]


def _difference(
    caption: str, wanted: str, before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> list[Change]:
    """The changes in one place where two captions differ; none when they cannot be told."""
    source, target = _span(caption, before), _span(wanted, after)
    text = words(caption) if before else words(wanted)
    start, end = subject(text)
    noun = " ".join(text[start:end])
    old, new = parse(source), parse(target)
    if len(old) > 1 or len(new) > 1:
        return _paired(old, new, noun)
    meant = [{p.category, *(e.category for e in p.options)} for p in (*old, *new)]
    category = next((c for c in CATEGORIES if all(c in some for some in meant)), "")
    if category == "object" and not (source and target):
        category = "added"
    elif category == "object":
        noun = ""
    elif category == "attribute":
        last = (before or after)[-1][1] + 1
        noun = text[last] if last < len(text) else noun
    plain = category and source != target
    return [Change(category, source, target, noun)] if plain else []


def _paired(old: Sequence[PromptPart], new: Sequence[PromptPart], noun: str) -> list[Change]:
    """Changes between two groups of parts, each category at most once in either."""
    before, after = ({p.category: p.said for p in parts} for parts in (old, new))
    if (
        len(before) < len(old)
        or len(after) < len(new)
        or ("object" in before) != ("object" in after)
    ):
        return []
    pairs = ((c, before.get(c, ""), after.get(c, "")) for c in CATEGORIES)
    return [Change(c, s, t, "" if c == "object" else noun) for c, s, t in pairs if s != t]


def _span(text: str, part: list[tuple[str, int]]) -> str:
    """The words of a difference as they stand in the text, without an "of" that is left over."""
    if not part:
        return ""
    spoken = words(text)
    start, end = part[0][1], part[-1][1] + 1
    if spoken[end - 1] == "of":
        end -= 1
    category = next((p.category for p in parse(" ".join(spoken[start:end]))), "")
    if category == "style" and start:
        start -= spoken[start - 1] in ("a", "an")
    if category in ("place", "time") and not starts(spoken[start:], grammar("prepositions")):
        first = joined_start(spoken, phrase_start(spoken, start))
        start = start if first is None else first
    return " ".join(spoken[start:end])


def degenerate(caption: str) -> str | None:
    """What is wrong with a caption, or None: captioners sometimes say nothing, or stammer."""
    text = [w for w in words(caption) if w]
    if not text:
        return "it is empty"
    content = [w for w in text if w not in grammar("stop words")]
    if not content:
        return "it names nothing"
    for word in dict.fromkeys(content):
        # half of all words: "a red bird on a red branch with red berries" is fine
        if content.count(word) >= max(3, len(content) / 2):
            return f"it repeats {word!r}"
    for length in (2, 3, 4):
        for i in range(len(text) - 2 * length + 1):
            if text[i : i + length] == text[i + length : i + 2 * length]:
                return f"it repeats {' '.join(text[i : i + length])!r}"
    return None
