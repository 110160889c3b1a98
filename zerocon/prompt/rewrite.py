"""Which words of a caption an asked-for part is about, and the caption with that part."""

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

See = Callable[[Sequence[str]], Sequence[float] | None]
_SURER = 0.02  # cosines of paraphrases differ by less: no reason to contradict the caption
_ASKED = 40  # sentences the picture is compared with: the commonest words of a family


def replace(caption: str, part: PromptPart, source: str | None, see: See | None) -> CaptionEdit:
    """Put a part into a caption, in place of `source` or of what is there of its kind."""
    text = words(caption)
    if source is not None:
        return _replace_named(caption, part, source)
    if part.joining:
        around = (_kindred(text, entry, around=True) for entry in part.options)
        return put_added(caption, part, next((m for m in around if m), None))
    for entry in part.options:
        if mention := _kindred(text, entry):
            return METHODS[entry.category](caption, part.being(entry), mention)
    if part.options:
        part = part.being(part.options[0])
    if part.category == "object":
        return _replace_subject(caption, part, see)
    step = METHODS[part.category](caption, part, None)
    if part.category == "added" or step.source or step.source == step.target:
        return step
    if part.options and part.category != "style" and (seen := _seen(caption, part, see)):
        warning = f"the caption does not mention {seen!r}, which the picture seems to show"
        return CaptionEdit(step.caption, step.category, seen, step.target, step.noun, (warning,))
    return step


def _replace_named(caption: str, part: PromptPart, source: str) -> CaptionEdit:
    text = words(caption)
    found = locate(text, source)
    meaning = parse(source)[0]
    category = next((e.category for e in part.options if e.category == meaning.category), None)
    if category:
        part = part.being(next(e for e in part.options if e.category == category))
    if part.category != meaning.category:
        if found and meaning.category in ("object", "added") and part.category == "attribute":
            return put_attribute(caption, part, None, found)
        if found and meaning.category in ("object", "added") and part.joining:
            return put_added(caption, part, None, found)
    if found is None:
        known = [m for e in meaning.options if (m := _kindred(text, e, other=False))]
        category = part.category if part.category != "added" or known else "object"
        step = METHODS[category](caption, part, known[0] if known else None)
        warning = f"the caption does not mention {source!r}"
        gone = " ".join(bare(words(source)))
        return CaptionEdit(step.caption, step.category, gone, step.target, step.noun, (warning,))
    if part.category == "style" and (whole := style_at(text, found[0])):
        found = whole.start, max(found[1], whole.end)  # "a watercolor" of "a watercolor painting"
    mention = Mention(*found, meaning.options)
    if part.category in ("place", "time", "style", "attribute") or (
        meaning.category == "added" or part.joining
    ):
        return METHODS[part.category](caption, part, mention)
    return put_object(caption, part, mention)


def _replace_subject(caption: str, part: PromptPart, see: See | None) -> CaptionEdit:
    """The thing asked for takes the place of the subject, whatever that is."""
    text = words(caption)
    start, end = subject(text)
    spoken = " ".join(text[start:end])
    if not part.options:
        step = put_object(caption, part, None)
        warning = f"{part.text!r} is not in the word lists: taken as an object"
        return CaptionEdit(
            step.caption, step.category, step.source, step.target, step.noun, (warning,)
        )
    step = put_object(caption, part, None)
    seen = _seen(caption, part, see)
    if step.source == step.target or not (seen or spoken):
        return step
    if seen:
        warning = f"the caption does not mention {seen!r}, which the picture seems to show"
        return CaptionEdit(step.caption, step.category, seen, step.target, step.noun, (warning,))
    if step.category == "attribute":
        return step
    kind = part.options[0].family
    warning = f"the caption names none of the {kind}: {part.text!r} replaces {spoken!r}"
    return CaptionEdit(step.caption, step.category, step.source, step.target, step.noun, (warning,))


def _kindred(
    text: Sequence[str], entry: VocabularyEntry, other: bool = True, around: bool = False
) -> Mention | None:
    """What a caption names of the family of an entry, the subject first, then from the left.

    `other` leaves out properties equal to the entry, `around` the subject itself.
    """
    if entry.category in ("object", "added"):
        found = nouns(text)
    elif entry.category == "style":
        found = [m for i in range(min(len(text), 4)) if (m := style_at(text, i))]
        found = [m for m in found if text[m.end : m.end + 1] == ["of"]]
    else:
        found = vocabulary.mentions(text)
    kin = [m for m in found if any(e.kin(entry) for e in m.entries)]
    if entry.category == "place":
        # "a city bus": a place that qualifies another word is no place
        kin = [m for m in kin if m.end == len(text) or vocabulary.is_boundary(text, m.end)]
    if entry.category == "attribute" and other:
        # "made of wood" may be meant for the cat although its bench is wooden already
        kin = [m for m in kin if entry not in m.entries and _qualifies(text, m)]
    start, end = subject(text)
    first = phrase_start(text, start) if start < end else 0
    about = [m for m in kin if first <= m.start and m.end <= end]
    if around:
        kin = [m for m in kin if m not in about and joined_start(text, phrase_start(text, m.start))]
        about = []
    return next(iter(about or kin), None)


def _qualifies(text: Sequence[str], mention: Mention) -> bool:
    """Whether a property is said of something: "a rock wall", not "a rock"."""
    if mention.end < len(text) and not vocabulary.is_boundary(text, mention.end):
        return True
    return mention.start > 0 and text[mention.start - 1] in ("is", "are", "was", "were", "and")


def _seen(caption: str, part: PromptPart, see: See | None) -> str:
    """Which word of the family the picture shows, "" if the caption as it is fits best."""
    if see is None or not part.options:
        return ""
    target = part.options[0]
    family = [e for e in vocabulary.family(target) if e.name != target.name][:_ASKED]
    method = METHODS[target.category]
    said = {
        e.name: method(caption, PromptPart(e.category, e.name, e.name, (e,)), None).caption
        for e in family
    }
    said = {name: sentence for name, sentence in said.items() if sentence != caption}
    likeness = see([caption, *said.values()])
    if likeness is None:
        return ""
    best, name = max(zip(likeness, ["", *said], strict=True), key=lambda pair: pair[0])
    return name if best > likeness[0] + _SURER else ""
