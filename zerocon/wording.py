"""What an edit is about: from a caption and `--to dog` to the words that change.

`understand` finds what the caption says of the thing asked for, writes the caption of the wanted
picture and names each change. Words come from `zerocon.lexicon`; pictures are only asked
(`see`) for what the caption leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from zerocon import rewriting
from zerocon.lexicon import CATEGORIES, grammar, starts, words
from zerocon.phrases import Part, parse, phrase_start, subject


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
class Wording:
    """A caption, the caption of the wanted picture, and what changes between them."""

    caption: str
    target_caption: str
    changes: tuple[Change, ...]
    warnings: tuple[str, ...] = field(default=())

    def summary(self) -> str:
        """One line for people: 'a cat on a bench: cat -> dog (object)'."""
        return f"{self.caption}: {', '.join(map(str, self.changes))}"


def understand(
    caption: str,
    *,
    to: str | None = None,
    source: str | None = None,
    to_caption: str | None = None,
    see: rewriting.See | None = None,
) -> Wording:
    """Tell what changes in a picture of this caption.

    `to` says what is wanted ("dog", "at night", "a dog wearing a hat"), "" to remove `source`;
    `source` says what is replaced, by default what the caption says of the same kind. Or
    `to_caption` describes the whole wanted picture. `see` gives the likeness of the picture to
    each sentence, or None if it cannot; it is asked when the caption does not tell.
    Raises ValueError when nothing is asked for or nothing would change.
    """
    if to is not None and to_caption is not None:
        raise ValueError("to and to_caption both say what is wanted: give one of them")
    caption = " ".join(caption.split())
    flaw = degenerate(caption)
    warnings = [f"the caption is no use ({flaw}); give a better one"] if flaw else []
    if to_caption is not None:
        if source is not None:
            raise ValueError("to_caption says it all: leave out source")
        return Wording(caption, *_between(caption, " ".join(to_caption.split())), tuple(warnings))
    if to is None:
        raise ValueError("say what is wanted: to (a phrase) or to_caption (a sentence)")
    if to.strip():
        target, changes = _rewrite(caption, parse(to), source, see, warnings)
    elif source and source.strip():
        removal = rewriting.remove(caption, source)
        target, changes = removal.caption, [_change(removal)]
        warnings += removal.warnings
    else:
        raise ValueError("nothing to add and nothing to remove: to is empty, so name a source")
    if not changes:
        raise ValueError(f"nothing to do: the caption already says {to.strip()!r}")
    return Wording(caption, target, tuple(changes), tuple(dict.fromkeys(warnings)))


def _rewrite(
    caption: str,
    parts: Sequence[Part],
    source: str | None,
    see: rewriting.See | None,
    warnings: list[str],
) -> tuple[str, list[Change]]:
    changes = []
    replaced = _meant(parts, source) if source and source.strip() else -1
    for i, part in enumerate(parts):
        if part.removed:
            step = rewriting.remove(caption, part.text)
        else:
            step = rewriting.replace(caption, part, source if i == replaced else None, see)
        caption = step.caption
        warnings += step.warnings
        if (change := _change(step)).source != change.target:
            changes.append(change)
    return caption, changes


def _meant(parts: Sequence[Part], source: str | None) -> int:
    """Which of the parts asked for replaces the source: the first of its category."""
    kinds = [e.category for p in parse(source or "") for e in p.options] or ["object"]
    for i, part in enumerate(parts):
        if any(e.category in kinds for e in part.options) or part.category in kinds:
            return i
    return 0


def _change(step: rewriting.Step) -> Change:
    return Change(step.category, step.source, step.target, step.noun)


def _between(caption: str, wanted: str) -> tuple[str, tuple[Change, ...]]:
    """The changes from one caption to another, by the words that differ.

    A difference that is not plainly one thing for another of its category, or more than four of
    them, makes it one change of the category "caption".
    """
    before, after = _content(caption), _content(wanted)
    if [w for w, _ in before] == [w for w, _ in after]:
        raise ValueError("nothing to do: both captions say the same")
    if not before or not after:
        return wanted, (Change("caption", caption, wanted),)
    matcher = SequenceMatcher(None, [w for w, _ in before], [w for w, _ in after], autojunk=False)
    differences = [op for op in matcher.get_opcodes() if op[0] != "equal"]
    changes = []
    for _, i, j, k, m in differences:
        change = _difference(caption, wanted, before[i:j], after[k:m])
        if change is None or len(differences) > 4:
            return wanted, (Change("caption", caption, wanted),)
        changes.append(change)
    return wanted, tuple(changes)


def _content(caption: str) -> list[tuple[str, int]]:
    return [(w, i) for i, w in enumerate(words(caption)) if w not in ("a", "an", "the", "")]


def _difference(
    caption: str, wanted: str, before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> Change | None:
    source, target = _span(caption, before), _span(wanted, after)
    kinds = [parse(text) for text in (source, target) if text]
    if any(len(parts) != 1 for parts in kinds):
        return None
    options = [{e.category for e in p.options} | {p.category} for (p,) in kinds]
    shared = [c for c in CATEGORIES if all(c in o for o in options)]
    if not shared:
        return None
    text = words(caption) if before else words(wanted)
    start, end = subject(text)
    noun = " ".join(text[start:end])
    category = shared[0]
    if category == "attribute":
        last = (before or after)[-1][1] + 1
        noun = text[last] if last < len(text) else noun
    elif category == "object" and not (source and target):
        category = "added"
    if category in ("object", "style"):
        noun = noun if category == "style" else ""
    return Change(category, source, target, noun)


def _span(text: str, part: list[tuple[str, int]]) -> str:
    """The words of a difference as they stand in the text, without an "of" that is left over."""
    if not part:
        return ""
    spoken = words(text)
    start, end = part[0][1], part[-1][1] + 1
    if spoken[end - 1] == "of":
        end -= 1
    if parse(" ".join(spoken[start:end]))[0].category == "style" and start:
        start -= spoken[start - 1] in ("a", "an")
    if parse(" ".join(spoken[start:end]))[0].category in ("place", "time"):
        named = phrase_start(spoken, start)
        lead = max(named - 3, 0)
        while lead < start and not starts(spoken[lead:start], grammar("prepositions")):
            lead += 1
        start = lead
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
        # a third of all words: "a red bird on a red branch with red berries" is fine
        if content.count(word) >= max(3, len(content) / 3):
            return f"it repeats {word!r}"
    for length in (2, 3, 4):
        for i in range(len(text) - 2 * length + 1):
            if text[i : i + length] == text[i + length : i + 2 * length]:
                return f"it repeats {' '.join(text[i : i + length])!r}"
    return None
