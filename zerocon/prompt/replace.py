"""One part put into a caption, by category: in place of a mention, or where it belongs."""

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
    text = words(caption)
    start, end = (mention.start, mention.end) if mention else subject(text)
    if start == end:
        return CaptionEdit(f"{caption} {determined(part.text)}".strip(), "object", "", part.text)
    first = phrase_start(text, start)
    if same(text[start:end], part.head):
        if not part.modifiers or part.modifiers in " ".join(text[first:start]):
            return CaptionEdit(caption, "object", part.text, part.text)
        wanted = PromptPart(
            "attribute", part.modifiers, part.modifiers, lookup(words(part.modifiers))
        )
        return put_attribute(caption, wanted, None, (start, end))
    kinds = {e.family for w in part.modifiers.split() for e in lookup([w])}
    for i in range(first, start):
        if any(e.category == "attribute" and e.family in kinds for e in lookup([text[i]])):
            start = i
            break
    many = vocabulary.is_plural(text[start:end]) and not vocabulary.article(part.text) == ""
    said = vocabulary.plural(part.text) if many else part.text
    was = " ".join([*text[start : end - 1], vocabulary.singular(text[end - 1])])
    source = was if many else " ".join(text[start:end])
    return CaptionEdit(put(caption, start, end, said), "object", source, part.text)


def put_attribute(
    caption: str, part: PromptPart, mention: Mention | None, noun: tuple[int, int] | None = None
) -> CaptionEdit:
    text = words(caption)
    if mention:
        named = next((m for m in nouns(text) if m.start >= mention.end), None)
        following = text[mention.end : mention.end + 1]
        spoken = " ".join(text[named.start : named.end]) if named else " ".join(following)
        source = " ".join(text[mention.start : mention.end])
        return CaptionEdit(
            put(caption, mention.start, mention.end, part.text),
            "attribute",
            source,
            part.text,
            spoken,
        )
    start, end = noun or subject(text)
    if start == end:
        return CaptionEdit(f"{caption} {part.text}".strip(), "attribute", "", part.text)
    first = phrase_start(text, start)
    known = part.options[0] if part.options else None
    for i in range(first, start):
        if known and any(e.kin(known) for e in lookup([text[i]])):
            source = text[i]
            return CaptionEdit(
                put(caption, i, i + 1, part.text),
                "attribute",
                source,
                part.text,
                " ".join(text[start:end]),
            )
    spoken = " ".join(text[start:end])
    said = vocabulary.attributed(part.text, " ".join(caption.split()[start:end]))
    return CaptionEdit(put(caption, start, end, said), "attribute", "", part.text, spoken)


def put_added(
    caption: str, part: PromptPart, mention: Mention | None, noun: tuple[int, int] | None = None
) -> CaptionEdit:
    text = words(caption)
    owner = noun or subject(text)
    spoken = " ".join(text[owner[0] : owner[1]])
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
        gone = " ".join(text[first : mention.end])
        return CaptionEdit(
            put(caption, first, mention.end, phrase), "added", gone, phrase, subject_words(text)
        )
    if mention:
        return put_object(caption, part, mention)
    end = owner[1]
    if joining in ("wearing", "with") and text[end : end + 1] == [joining]:
        extra = f"and {determined(part.text)}"
        at = phrase_end(text, end + 1)
        return CaptionEdit(insert(caption, at, extra), "added", "", phrase, spoken)
    if joining in ("holding", "carrying", "with") and text[end : end + 1] == ["wearing"]:
        # a frog with a rabbit wearing a crown: whose crown?
        at = phrase_end(text, end + 1)
        while text[at : at + 1] == ["and"]:
            at = phrase_end(text, at + 1)
        return CaptionEdit(insert(caption, at, phrase), "added", "", phrase, spoken)
    at = end if joining in ("wearing", "holding", "carrying", "with", "in") else tail_start(text)
    return CaptionEdit(insert(caption, at, phrase), "added", "", phrase, spoken)


def put_place(caption: str, part: PromptPart, mention: Mention | None) -> CaptionEdit:
    text = words(caption)
    spoken = subject_words(text)
    if mention is None:
        lead = part.text.split()[0]
        end = subject(text)[1]
        if not part.options and lead in text[end:]:
            start = text.index(lead, end)
            stop = phrase_end(text, start + starts(text[start:], grammar("prepositions")))
            gone = " ".join(text[start:stop])
            return CaptionEdit(
                put(caption, start, stop, part.text), "place", gone, part.text, spoken
            )
        at = tail_start(text, places=False)
        return CaptionEdit(insert(caption, at, part.text), "place", "", part.text, spoken)
    start, end = mention.start, mention.end
    if not starts(text[start:], grammar("prepositions")):
        start = phrase_start(text, start)
        first = joined_start(text, start)
        families = {e.family for e in (*mention.entries, *part.options) if e.category == "place"}
        if first is None and len(families) > 1:
            # a street can lie in the snow; a beach cannot lie in the desert
            return put_place(caption, part, None)
        if first is None:
            name = " ".join(vocabulary.core(words(part.text)))
            gone = " ".join(text[start:end])
            return CaptionEdit(put(caption, start, end, name), "place", gone, name)
        start = first
    gone = " ".join(text[start:end])
    return CaptionEdit(put(caption, start, end, part.text), "place", gone, part.text, spoken)


def put_time(caption: str, part: PromptPart, mention: Mention | None) -> CaptionEdit:
    text = words(caption)
    if mention:
        gone = " ".join(text[mention.start : mention.end])
        said = put(caption, mention.start, mention.end, part.text)
        return CaptionEdit(said, "time", gone, part.text, subject_words(text))
    said = f"{caption.rstrip('.')} {part.text}".strip()
    return CaptionEdit(said, "time", "", part.text, subject_words(text))


def put_style(caption: str, part: PromptPart, mention: Mention | None) -> CaptionEdit:
    text = words(caption)
    spoken = subject_words(text)
    if mention:
        gone = " ".join(text[mention.start : mention.end])
        if mention.start and text[mention.start - 1] in ("a", "an"):
            gone = f"{text[mention.start - 1]} {gone}"
        else:
            gone = next((e.name for e in mention.entries), gone)
        rest = cut(caption, 0, mention.end)
        rest = " ".join(rest.split()[1:]) if words(rest)[:1] == ["of"] else rest
        return CaptionEdit(vocabulary.styled(part.text, rest), "style", gone, part.text, spoken)
    tokens = caption.split()
    skip = starts(text, frozenset(("there is", "there are", "this is")))
    noise = starts(text[skip:], grammar("noise"))
    scene = " ".join(tokens[skip + noise :])
    if noise and bare(text[skip + noise :]):
        scene = determined(scene)
    return CaptionEdit(vocabulary.styled(part.text, scene).strip(), "style", "", part.text, spoken)


METHODS: dict[str, Callable[[str, PromptPart, Mention | None], CaptionEdit]] = {
    "object": put_object,
    "attribute": put_attribute,
    "added": put_added,
    "place": put_place,
    "time": put_time,
    "style": put_style,
}
