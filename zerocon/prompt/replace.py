"""Putting one part of a prompt into a caption, by category.

Each function takes the caption, the part, and the mention that it replaces; without a mention the
part is inserted where its category belongs in a sentence.
"""

from __future__ import annotations

from collections.abc import Callable

from zerocon.prompt import vocabulary
from zerocon.prompt.parser import PromptPart, joined_start, nouns, phrase_start, subject
from zerocon.prompt.splice import (
    CaptionEdit,
    covers,
    cut,
    insert,
    phrase_end,
    put,
    same,
    subject_words,
    tail_start,
)
from zerocon.prompt.vocabulary import Mention, bare, determined, grammar, lookup, starts, words


def put_object(caption: str, part: PromptPart, mention: Mention | None) -> CaptionEdit:
    """Replace the mention, or the subject, by an object."""
    text = words(caption)
    start, end = (mention.start, mention.end) if mention else subject(text)
    if start == end:
        return CaptionEdit(f"{caption} {determined(part.text)}".strip(), "object", "", part.text)
    first = phrase_start(text, start)
    if same(text[start:end], part.head):
        if not part.modifiers or part.modifiers in " ".join(text[first:start]):
            return CaptionEdit(caption, "object", part.text, part.text)
        attribute = PromptPart(
            "attribute", part.modifiers, part.modifiers, lookup(words(part.modifiers))
        )
        return put_attribute(caption, attribute, None, (start, end))
    kinds = {e.family for w in part.modifiers.split() for e in lookup([w])}
    for i in range(first, start):
        if any(e.category == "attribute" and e.family in kinds for e in lookup([text[i]])):
            start = i
            break
    many = vocabulary.is_plural(text[start:end]) and not vocabulary.article(part.text) == ""
    phrase = vocabulary.plural(part.text) if many else part.text
    was = " ".join([*text[start : end - 1], vocabulary.singular(text[end - 1])])
    source = was if many else " ".join(text[start:end])
    return CaptionEdit(put(caption, start, end, phrase), "object", source, part.text)


def put_attribute(
    caption: str, part: PromptPart, mention: Mention | None, noun: tuple[int, int] | None = None
) -> CaptionEdit:
    """Replace the attribute mentioned, or give one to ``noun``, by default the subject."""
    text = words(caption)
    if mention:
        named = next((m for m in nouns(text) if m.start >= mention.end), None)
        following = text[mention.end : mention.end + 1]
        noun_words = " ".join(text[named.start : named.end]) if named else " ".join(following)
        source = " ".join(text[mention.start : mention.end])
        return CaptionEdit(
            put(caption, mention.start, mention.end, part.text),
            "attribute",
            source,
            part.text,
            noun_words,
        )
    start, end = noun or subject(text)
    if start == end:
        return CaptionEdit(f"{caption} {part.text}".strip(), "attribute", "", part.text)
    first = phrase_start(text, start)
    entry = part.options[0] if part.options else None
    for i in range(first, start):
        if entry and any(e.is_related(entry) for e in lookup([text[i]])):
            source = text[i]
            return CaptionEdit(
                put(caption, i, i + 1, part.text),
                "attribute",
                source,
                part.text,
                " ".join(text[start:end]),
            )
    noun_words = " ".join(text[start:end])
    phrase = vocabulary.attributed(part.text, " ".join(caption.split()[start:end]))
    return CaptionEdit(put(caption, start, end, phrase), "attribute", "", part.text, noun_words)


def put_added(
    caption: str, part: PromptPart, mention: Mention | None, noun: tuple[int, int] | None = None
) -> CaptionEdit:
    """Replace the thing mentioned, or add one to ``noun``, by default the subject."""
    text = words(caption)
    owner = noun or subject(text)
    noun_words = " ".join(text[owner[0] : owner[1]])
    joining = part.joining or (part.options[0].joining if part.options else "") or "with"
    phrase = f"{joining} {determined(part.text)}"
    if mention and not covers(owner, mention.start, mention.end):
        start = phrase_start(text, mention.start)
        first = joined_start(text, start)
        if same(text[start : mention.end], part.text):
            return CaptionEdit(caption, "added", part.text, part.text)
        if first is None:
            return put_object(caption, part, mention)
        kept = " ".join(
            text[first : first + starts(text[first:], grammar("joining", "prepositions"))]
        )
        phrase = f"{part.joining or kept} {determined(part.text)}"
        replaced = " ".join(text[first : mention.end])
        return CaptionEdit(
            put(caption, first, mention.end, phrase), "added", replaced, phrase, subject_words(text)
        )
    if mention:
        return put_object(caption, part, mention)
    end = owner[1]
    if joining in ("wearing", "with") and text[end : end + 1] == [joining]:
        extra = f"and {determined(part.text)}"
        at = phrase_end(text, end + 1)
        return CaptionEdit(insert(caption, at, extra), "added", "", phrase, noun_words)
    if joining in ("holding", "carrying", "with") and text[end : end + 1] == ["wearing"]:
        # not "a frog with a rabbit wearing a crown", where the rabbit would wear it
        at = phrase_end(text, end + 1)
        while text[at : at + 1] == ["and"]:
            at = phrase_end(text, at + 1)
        return CaptionEdit(insert(caption, at, phrase), "added", "", phrase, noun_words)
    at = end if joining in ("wearing", "holding", "carrying", "with", "in") else tail_start(text)
    return CaptionEdit(insert(caption, at, phrase), "added", "", phrase, noun_words)


def put_place(caption: str, part: PromptPart, mention: Mention | None) -> CaptionEdit:
    """Replace the place mentioned, or put one before the time at the end."""
    text = words(caption)
    noun_words = subject_words(text)
    if mention is None:
        lead = part.text.split()[0]
        end = subject(text)[1]
        if not part.options and lead in text[end:]:
            start = text.index(lead, end)
            stop = phrase_end(text, start + starts(text[start:], grammar("prepositions")))
            replaced = " ".join(text[start:stop])
            return CaptionEdit(
                put(caption, start, stop, part.text), "place", replaced, part.text, noun_words
            )
        at = tail_start(text, places=False)
        return CaptionEdit(insert(caption, at, part.text), "place", "", part.text, noun_words)
    start, end = mention.start, mention.end
    if not starts(text[start:], grammar("prepositions")):
        start = phrase_start(text, start)
        first = joined_start(text, start)
        families = {e.family for e in (*mention.entries, *part.options) if e.category == "place"}
        if first is None and len(families) > 1:
            # a street can be in the snow, so it stays; a beach cannot be in the desert
            return put_place(caption, part, None)
        if first is None:
            name = " ".join(vocabulary.core(words(part.text)))
            replaced = " ".join(text[start:end])
            return CaptionEdit(put(caption, start, end, name), "place", replaced, name)
        start = first
    replaced = " ".join(text[start:end])
    return CaptionEdit(
        put(caption, start, end, part.text), "place", replaced, part.text, noun_words
    )


def put_time(caption: str, part: PromptPart, mention: Mention | None) -> CaptionEdit:
    """Replace the time mentioned, or append one."""
    text = words(caption)
    if mention:
        replaced = " ".join(text[mention.start : mention.end])
        target = put(caption, mention.start, mention.end, part.text)
        return CaptionEdit(target, "time", replaced, part.text, subject_words(text))
    target = f"{caption.rstrip('.')} {part.text}".strip()
    return CaptionEdit(target, "time", "", part.text, subject_words(text))


def put_style(caption: str, part: PromptPart, mention: Mention | None) -> CaptionEdit:
    """Replace the style mentioned, or prefix one; "a photo of" and the like are dropped."""
    text = words(caption)
    noun_words = subject_words(text)
    if mention:
        replaced = " ".join(text[mention.start : mention.end])
        if mention.start and text[mention.start - 1] in ("a", "an"):
            replaced = f"{text[mention.start - 1]} {replaced}"
        else:
            replaced = next((e.name for e in mention.entries), replaced)
        rest = cut(caption, 0, mention.end)
        rest = " ".join(rest.split()[1:]) if words(rest)[:1] == ["of"] else rest
        return CaptionEdit(
            vocabulary.styled(part.text, rest), "style", replaced, part.text, noun_words
        )
    tokens = caption.split()
    skip = starts(text, frozenset(("there is", "there are", "this is")))
    noise = starts(text[skip:], grammar("noise"))
    scene = " ".join(tokens[skip + noise :])
    if noise and bare(text[skip + noise :]):
        scene = determined(scene)
    return CaptionEdit(
        vocabulary.styled(part.text, scene).strip(), "style", "", part.text, noun_words
    )


METHODS: dict[str, Callable[[str, PromptPart, Mention | None], CaptionEdit]] = {
    "object": put_object,
    "attribute": put_attribute,
    "added": put_added,
    "place": put_place,
    "time": put_time,
    "style": put_style,
}
