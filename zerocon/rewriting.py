"""Rewriting a caption, one part at a time: replace, insert, remove, and keep the grammar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zerocon import lexicon
from zerocon.lexicon import Entry, Mention, bare, determined, grammar, lookup, starts, words
from zerocon.phrases import (
    Part,
    joined_start,
    nouns,
    parse,
    phrase_start,
    style_at,
    subject,
)

See = Callable[[Sequence[str]], Sequence[float] | None]
_ASKED = 40  # sentences the picture is compared with: the commonest words of a family


@dataclass(frozen=True)
class Step:
    """A rewritten caption and the one change that was made in it."""

    caption: str
    category: str
    source: str
    target: str
    noun: str = ""
    warnings: tuple[str, ...] = ()


def replace(caption: str, part: Part, source: str | None, see: See | None) -> Step:
    """Put a part into a caption, in place of `source` or of what is there of its kind."""
    text = words(caption)
    if source is not None:
        return _replace_named(caption, part, source)
    for entry in part.options:
        if mention := _kindred(text, entry):
            return _METHODS[entry.category](caption, part.being(entry), mention)
    if part.options:
        part = part.being(part.options[0])
    if part.category == "object":
        return _replace_subject(caption, part, see)
    step = _METHODS[part.category](caption, part, None)
    if part.category == "added" or step.source or step.source == step.target:
        return step
    if part.options and part.category != "style" and (seen := _seen(caption, part, see)):
        warning = f"the caption does not mention {seen!r}, which the picture seems to show"
        return Step(step.caption, step.category, seen, step.target, step.noun, (warning,))
    return step


def remove(caption: str, source: str) -> Step:
    """Take a thing out of a caption, with the words that fasten it there.

    Raises ValueError when the caption does not mention it or is about nothing else.
    """
    text = words(caption)
    found = _locate(text, source)
    if found is None:
        raise ValueError(f"the caption does not mention {source!r}, so it cannot be removed")
    start, end = found
    meaning = parse(source)[0]
    if (style := style_at(text, start)) and text[style.end : style.end + 1] == ["of"]:
        start -= bool(start and text[start - 1] in ("a", "an"))
        gone = " ".join(text[start : style.end])
        return Step(_cut(caption, start, style.end + 1), "style", gone, "", _noun(text))
    if meaning.category in ("place", "time"):
        named = joined_start(text, phrase_start(text, start))
        first = start if starts(text[start:], grammar("prepositions")) else named
        first = start if first is None else first
        gone = " ".join(text[first:end])
        return Step(_cut(caption, first, end), meaning.category, gone, "", _noun(text))
    if meaning.category == "attribute" and end < len(text):
        noun = text[end]
        rest = _put(caption, start, end + 1, caption.split()[end])
        return Step(rest, "attribute", " ".join(text[start:end]), "", noun)
    joining = starts(text[start:end], grammar("joining", "prepositions"))
    start = phrase_start(text, start + joining) if joining < end - start else start
    if _inside(subject(text), start, end):
        return _remove_subject(caption, start, end)
    first = joined_start(text, start)
    article = start - (start > 0 and text[start - 1] in grammar("determiners", "numbers"))
    tail = text[end : end + 1] == ["and"]
    if first is not None and not tail:
        gone = " ".join(text[first:end])
        return Step(_cut(caption, first, end), "added", gone, "", _noun(text))
    gone = " ".join(text[start:end])
    if tail:
        return Step(_cut(caption, article, end + 1), "added", gone, "", _noun(text))
    if article and text[article - 1] == "and":
        return Step(_cut(caption, article - 1, end), "added", gone, "", _noun(text))
    if article and text[article - 1].endswith("ing"):
        article -= 1
        gone = " ".join(text[article:end])
    return Step(_cut(caption, article, end), "added", gone, "", _noun(text))


def _remove_subject(caption: str, start: int, end: int) -> Step:
    text = words(caption)
    rest = end
    skipped = grammar("joining", "prepositions", "conjunctions", "verbs")
    while rest < len(text):
        step = starts(text[rest:], skipped) or int(lexicon.is_boundary(text, rest))
        if not step or text[rest] in grammar("determiners"):
            break
        rest += step
    if rest >= len(text):
        raise ValueError(f"without {' '.join(text[start:end])!r} the caption says nothing")
    before = start - (start > 0 and text[start - 1] in grammar("determiners", "numbers"))
    gone = " ".join(text[start:end])
    return Step(_cut(caption, before, rest), "added", gone, "")


def _replace_named(caption: str, part: Part, source: str) -> Step:
    text = words(caption)
    found = _locate(text, source)
    meaning = parse(source)[0]
    category = next((e.category for e in part.options if e.category == meaning.category), None)
    if category:
        part = part.being(next(e for e in part.options if e.category == category))
    if part.category != meaning.category:
        if found and meaning.category in ("object", "added") and part.category == "attribute":
            return _attribute(caption, part, None, found)
        if found and meaning.category in ("object", "added") and part.joining:
            return _added(caption, part, None, found)
    if found is None:
        known = [m for e in meaning.options if (m := _kindred(text, e, other=False))]
        category = part.category if part.category != "added" or known else "object"
        step = _METHODS[category](caption, part, known[0] if known else None)
        warning = f"the caption does not mention {source!r}"
        gone = " ".join(bare(words(source)))
        return Step(step.caption, step.category, gone, step.target, step.noun, (warning,))
    mention = Mention(*found, meaning.options)
    if part.category in ("place", "time", "style", "attribute") or (
        meaning.category == "added" or part.joining
    ):
        return _METHODS[part.category](caption, part, mention)
    return _object(caption, part, mention)


def _replace_subject(caption: str, part: Part, see: See | None) -> Step:
    """The thing asked for takes the place of the subject, whatever that is."""
    text = words(caption)
    start, end = subject(text)
    spoken = " ".join(text[start:end])
    if not part.options:
        step = _object(caption, part, None)
        warning = f"{part.text!r} is not in the word lists: taken as an object"
        return Step(step.caption, step.category, step.source, step.target, step.noun, (warning,))
    step = _object(caption, part, None)
    seen = _seen(caption, part, see)
    if step.source == step.target or not (seen or spoken):
        return step
    if seen:
        warning = f"the caption does not mention {seen!r}, which the picture seems to show"
        return Step(step.caption, step.category, seen, step.target, step.noun, (warning,))
    if step.category == "attribute":
        return step
    kind = part.options[0].family
    warning = f"the caption names none of the {kind}: {part.text!r} replaces {spoken!r}"
    return Step(step.caption, step.category, step.source, step.target, step.noun, (warning,))


def _object(caption: str, part: Part, mention: Mention | None) -> Step:
    text = words(caption)
    start, end = (mention.start, mention.end) if mention else subject(text)
    if start == end:
        return Step(f"{caption} {determined(part.text)}".strip(), "object", "", part.text)
    first = phrase_start(text, start)
    if _same(text[start:end], part.head):
        if not part.modifiers or part.modifiers in " ".join(text[first:start]):
            return Step(caption, "object", part.text, part.text)
        wanted = Part("attribute", part.modifiers, part.modifiers, lookup(words(part.modifiers)))
        return _attribute(caption, wanted, None, (start, end))
    kinds = {e.family for w in part.modifiers.split() for e in lookup([w])}
    for i in range(first, start):
        if any(e.category == "attribute" and e.family in kinds for e in lookup([text[i]])):
            start = i
            break
    many = lexicon.is_plural(text[start:end]) and not lexicon.article(part.text) == ""
    said = lexicon.plural(part.text) if many else part.text
    was = " ".join([*text[start : end - 1], lexicon.singular(text[end - 1])])
    source = was if many else " ".join(text[start:end])
    return Step(_put(caption, start, end, said), "object", source, part.text)


def _attribute(
    caption: str, part: Part, mention: Mention | None, noun: tuple[int, int] | None = None
) -> Step:
    text = words(caption)
    if mention:
        named = next((m for m in nouns(text) if m.start >= mention.end), None)
        following = text[mention.end : mention.end + 1]
        spoken = " ".join(text[named.start : named.end]) if named else " ".join(following)
        source = " ".join(text[mention.start : mention.end])
        return Step(
            _put(caption, mention.start, mention.end, part.text),
            "attribute",
            source,
            part.text,
            spoken,
        )
    start, end = noun or subject(text)
    if start == end:
        return Step(f"{caption} {part.text}".strip(), "attribute", "", part.text)
    first = phrase_start(text, start)
    known = part.options[0] if part.options else None
    for i in range(first, start):
        if known and any(e.kin(known) for e in lookup([text[i]])):
            source = text[i]
            return Step(
                _put(caption, i, i + 1, part.text),
                "attribute",
                source,
                part.text,
                " ".join(text[start:end]),
            )
    spoken = " ".join(text[start:end])
    said = lexicon.attributed(part.text, " ".join(caption.split()[start:end]))
    return Step(_put(caption, start, end, said), "attribute", "", part.text, spoken)


def _added(
    caption: str, part: Part, mention: Mention | None, noun: tuple[int, int] | None = None
) -> Step:
    text = words(caption)
    owner = noun or subject(text)
    joining = part.joining or (part.options[0].joining if part.options else "") or "with"
    phrase = f"{joining} {determined(part.text)}"
    if mention and not _inside(owner, mention.start, mention.end):
        start = phrase_start(text, mention.start)
        first = joined_start(text, start)
        if _same(text[start : mention.end], part.text):
            return Step(caption, "added", part.text, part.text)
        if first is None:
            return _object(caption, part, mention)
        kept = " ".join(
            text[first : first + starts(text[first:], grammar("joining", "prepositions"))]
        )
        phrase = f"{part.joining or kept} {determined(part.text)}"
        gone = " ".join(text[first : mention.end])
        return Step(_put(caption, first, mention.end, phrase), "added", gone, phrase, _noun(text))
    if mention:
        return _object(caption, part, mention)
    start, end = owner
    spoken = " ".join(text[start:end])
    if joining in ("wearing", "with") and text[end : end + 1] == [joining]:
        extra = f"and {determined(part.text)}"
        at = _phrase_end(text, end + 1)
        return Step(_insert(caption, at, extra), "added", "", phrase, spoken)
    at = end if joining in ("wearing", "holding", "carrying", "with", "in") else _tail(text)
    return Step(_insert(caption, at, phrase), "added", "", phrase, spoken)


def _place(caption: str, part: Part, mention: Mention | None) -> Step:
    text = words(caption)
    spoken = _noun(text)
    if mention is None:
        lead = part.text.split()[0]
        end = subject(text)[1]
        if not part.options and lead in text[end:]:
            start = text.index(lead, end)
            stop = _phrase_end(text, start + 1)
            gone = " ".join(text[start:stop])
            return Step(_put(caption, start, stop, part.text), "place", gone, part.text, spoken)
        at = _tail(text, places=False)
        return Step(_insert(caption, at, part.text), "place", "", part.text, spoken)
    start, end = mention.start, mention.end
    if not starts(text[start:], grammar("prepositions")):
        start = phrase_start(text, start)
        first = joined_start(text, start)
        if first is None:
            name = " ".join(lexicon.core(words(part.text)))
            gone = " ".join(text[start:end])
            return Step(_put(caption, start, end, name), "place", gone, name)
        start = first
    gone = " ".join(text[start:end])
    return Step(_put(caption, start, end, part.text), "place", gone, part.text, spoken)


def _time(caption: str, part: Part, mention: Mention | None) -> Step:
    text = words(caption)
    if mention:
        gone = " ".join(text[mention.start : mention.end])
        said = _put(caption, mention.start, mention.end, part.text)
        return Step(said, "time", gone, part.text, _noun(text))
    said = f"{caption.rstrip('.')} {part.text}".strip()
    return Step(said, "time", "", part.text, _noun(text))


def _style(caption: str, part: Part, mention: Mention | None) -> Step:
    text = words(caption)
    spoken = _noun(text)
    if mention:
        gone = " ".join(text[mention.start : mention.end])
        if mention.start and text[mention.start - 1] in ("a", "an"):
            gone = f"{text[mention.start - 1]} {gone}"
        else:
            gone = mention.entries[0].name
        rest = _cut(caption, 0, mention.end)
        rest = " ".join(rest.split()[1:]) if words(rest)[:1] == ["of"] else rest
        return Step(lexicon.styled(part.text, rest), "style", gone, part.text, spoken)
    tokens = caption.split()
    skip = starts(text, frozenset(("there is", "there are", "this is")))
    noise = starts(text[skip:], grammar("noise"))
    scene = " ".join(tokens[skip + noise :])
    if (
        noise
        and text[noise + skip : noise + skip + 1] != []
        and not bare(text[skip + noise :]) == []
    ):
        scene = determined(scene)
    return Step(lexicon.styled(part.text, scene).strip(), "style", "", part.text, spoken)


_METHODS: dict[str, Callable[[str, Part, Mention | None], Step]] = {
    "object": _object,
    "attribute": _attribute,
    "added": _added,
    "place": _place,
    "time": _time,
    "style": _style,
}


def _kindred(text: Sequence[str], entry: Entry, other: bool = True) -> Mention | None:
    """What a caption names of the family of an entry, the subject first, then from the left."""
    if entry.category in ("object", "added"):
        found = nouns(text)
    elif entry.category == "style":
        found = [m for i in range(min(len(text), 4)) if (m := style_at(text, i))]
        found = [m for m in found if text[m.end : m.end + 1] == ["of"]]
    else:
        found = lexicon.mentions(text)
    kin = [m for m in found if any(e.kin(entry) for e in m.entries)]
    if entry.category == "place":
        # "a city bus": a place that qualifies another word is no place
        kin = [m for m in kin if m.end == len(text) or lexicon.is_boundary(text, m.end)]
    if entry.category == "attribute" and other:
        # the thing spoken of may take the property although another thing has it: a red sofa
        kin = [m for m in kin if entry not in m.entries and _qualifies(text, m)]
    if not kin:
        return None
    start, end = subject(text)
    first = phrase_start(text, start) if start < end else 0
    return next((m for m in kin if first <= m.start and m.end <= end), kin[0])


def _qualifies(text: Sequence[str], mention: Mention) -> bool:
    """Whether a property is said of something: "a rock wall", "a wall that is red"; not "a rock"."""
    if mention.end < len(text) and not lexicon.is_boundary(text, mention.end):
        return True
    return mention.start > 0 and text[mention.start - 1] in ("is", "are", "was", "were", "and")


def _locate(text: Sequence[str], source: str) -> tuple[int, int] | None:
    """Where a caption says this, articles and plurals aside."""
    wanted = bare(words(source))
    for lead in (wanted, wanted[starts(wanted, grammar("joining", "prepositions")) :]):
        lead = bare(lead)
        for start in range(len(text) - len(lead) + 1) if lead else ():
            if _same(text[start : start + len(lead)], " ".join(lead)):
                return start, start + len(lead)
    return None


def _same(text: Sequence[str], other: str) -> bool:
    spoken, wanted = list(text), other.split()
    if not spoken or len(spoken) != len(wanted) or spoken[:-1] != wanted[:-1]:
        return False
    return lexicon.singular(spoken[-1]) == lexicon.singular(wanted[-1])


def _seen(caption: str, part: Part, see: See | None) -> str:
    """Which word of the family the picture shows, "" if the caption as it is fits best."""
    if see is None or not part.options:
        return ""
    target = part.options[0]
    family = [e for e in lexicon.family(target) if e.name != target.name][:_ASKED]
    method = _METHODS[target.category]
    said = {
        e.name: method(caption, Part(e.category, e.name, e.name, (e,)), None).caption
        for e in family
    }
    said = {name: sentence for name, sentence in said.items() if sentence != caption}
    likeness = see([caption, *said.values()])
    if likeness is None:
        return ""
    return max(zip(likeness, ["", *said], strict=True), key=lambda pair: pair[0])[1]


def _noun(text: Sequence[str]) -> str:
    start, end = subject(text)
    return " ".join(text[start:end])


def _inside(span: tuple[int, int], start: int, end: int) -> bool:
    return start <= span[0] < span[1] <= end


def _phrase_end(text: Sequence[str], start: int) -> int:
    """Where the noun phrase that begins at a word ends."""
    while start < len(text) and text[start] in grammar("determiners", "numbers"):
        start += 1
    end = start + 1
    while end < len(text) and not lexicon.is_boundary(text, end):
        end += 1
    return min(end, len(text))


def _tail(text: Sequence[str], places: bool = True) -> int:
    """Where the closing words of a caption begin: its place (if asked for) and its time."""
    at = len(text)
    for mention in reversed(lexicon.mentions(text)):
        start = mention.start
        if places and mention.of("place") and not starts(text[start:], grammar("prepositions")):
            first = joined_start(text, phrase_start(text, start))
            start = start if first is None else first
        closing = mention.of("time") or (places and mention.of("place"))
        if mention.end != at or not closing or not starts(text[start:], grammar("prepositions")):
            break
        at = start
    return at


def _insert(caption: str, at: int, phrase: str) -> str:
    tokens = caption.split()
    if at and tokens[at - 1][-1:] in (".", ",", ";"):
        mark = tokens[at - 1][-1]
        tokens[at - 1] = tokens[at - 1][:-1]
        phrase += mark
    return " ".join([*tokens[:at], phrase, *tokens[at:]]).strip()


def _cut(caption: str, start: int, end: int) -> str:
    tokens = caption.split()
    mark = tokens[end - 1][-1:] if tokens[end - 1][-1:] in (".", ",", ";") else ""
    kept = [*tokens[:start], *tokens[end:]]
    if mark and 0 < start and start == len(kept):
        kept[-1] += mark
    return " ".join(kept)


def _put(caption: str, start: int, end: int, phrase: str) -> str:
    """A caption with other words from start to end, the article before them put right."""
    tokens = caption.split()
    last = tokens[end - 1]
    mark = last[-1] if last[-1:] in (".", ",", ";", "!", "?") else ""
    said = phrase
    if start and tokens[start - 1].lower() in ("a", "an"):
        start -= 1
        rest = " ".join([phrase, *tokens[end:]])
        said = f"{lexicon.article(rest)} {phrase}".strip()
    if tokens[start][:1].isupper() and start == 0:
        said = said[:1].upper() + said[1:]
    return " ".join([*tokens[:start], said + mark, *tokens[end:]])
