"""Putting one part of a prompt into a caption, by category.

Each function takes the caption, the part, and the mention that it replaces; without a mention the
part is inserted where its category belongs in a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from zerocon.prompt import vocabulary
from zerocon.prompt.caption import (
    BEINGS,
    Span,
    being,
    contents_end,
    covers,
    families,
    head_of,
    joined_start,
    list_end,
    nouns,
    phrase_end,
    phrase_start,
    same,
    subject,
    subject_words,
    verb,
)
from zerocon.prompt.inflection import is_adjective, is_plural, lemmas, plural, singular
from zerocon.prompt.parser import PromptPart, is_property_word, parse_chunk
from zerocon.prompt.splice import CaptionEdit, agree, cut, insert, put, tail_start
from zerocon.prompt.vocabulary import (
    Mention,
    bare,
    determined,
    is_boundary,
    lookup,
    starts,
    words,
)
from zerocon.prompt.word_files import grammar

_ONE = frozenset(("a", "an", "one", "1", "single"))
# Order of properties before a noun; those of no listed family come first, unlisted words last.
_ORDER = {
    "sizes": 1,
    "ages": 2,
    "shapes": 3,
    "coats": 3,
    "patterns": 3,
    "colors": 4,
    "materials": 5,
}
_UNLISTED = 6
_IN_NAMES = ("colors", "materials", "ages", "sizes")  # of the properties in "old man"
WEARERS = BEINGS | {"toys and sport"}
_ALONG = frozenset(("down", "up", "across", "along", "through"))


def put_object(caption: str, part: PromptPart, mention: Mention | None) -> CaptionEdit:
    """Replace the mention, or the subject, by an object."""
    text = words(caption)
    start, end = (mention.start, mention.end) if mention else subject(text)
    if start == end:
        return CaptionEdit(f"{caption} {part.determined}".strip(), "object", "", part.text)
    counted = part.text.rpartition(" of ")[2]
    if counted != part.text and same(text[start:end], counted):  # "a fleet of sailboats"
        target = agree(caption, put(caption, start, end, part.text), end)
        return CaptionEdit(target, "object", " ".join(text[start:end]), part.text)
    if same(text[start:end], part.head) and not part.is_list:
        return _describe(caption, part, (start, end))
    if part.number and " of " in part.text.removeprefix(part.number):
        return _put_contents(caption, part, (start, end))
    if part.number:
        return _put_number(caption, part, (start, end))
    start, end = _whole_noun(text, (start, end))
    if " of " in part.text and text[end : end + 1] == ["of"]:
        end = contents_end(text, end)
    first = phrase_start(text, start)
    kinds = {e.family for w in part.modifiers.split() for e in lookup([w])}
    for i in range(first, start):
        if any(e.category == "attribute" and e.family in kinds for e in lookup([text[i]])):
            start = i
            break
    many = is_plural(text[start:end]) and vocabulary.article(part.text) != ""
    phrase = plural(part.text) if many else part.text
    if start == 0 and text[0] in grammar("garbage"):
        phrase = determined(phrase)
    was = " ".join([*text[start : end - 1], singular(vocabulary.possessor(text[end - 1]))])
    source = was if many else " ".join(text[start:end])
    target = agree(caption, put(caption, start, end, phrase), end)
    return CaptionEdit(target, "object", source, part.text)


def _whole_noun(text: Sequence[str], noun: Span) -> Span:
    """A noun with the nouns that it is compounded with, and without properties in its name.

    "laptop computer" for "laptop", "steam train" for "train"; "man" for "old man".
    """
    start, end = noun
    if end < len(text) and not is_boundary(text, end):
        whole = phrase_end(text, start)
        if families(text, noun) & families(text, head_of(text, start, whole)):
            end = whole
    if not lookup(text[start:end]):
        return start, end
    while end - start > 1 and lookup(text[start + 1 : end]) and _is_age_or_size(text[start]):
        start += 1
    while start and _is_compound_part(text, start - 1):
        start -= 1
    return start, end


def _is_listed_property(word: str) -> bool:
    return any(e.category == "attribute" for e in lookup([word]))


def _is_age_or_size(word: str) -> bool:
    return any(e.category == "attribute" and e.family in ("ages", "sizes") for e in lookup([word]))


def _is_compound_part(text: Sequence[str], i: int) -> bool:
    """Whether a word before a noun is a noun itself: "steam train", not "red train"."""
    if text[i].endswith("'s") or is_boundary(text, i) or _is_listed_property(text[i]):
        return False
    kinds = lemmas(text[i])
    return "NOUN" in kinds and "ADJ" not in kinds


def _describe(caption: str, part: PromptPart, noun: Span) -> CaptionEdit:
    """Give a noun of the caption the number and the modifiers that the prompt names it with."""
    text = words(caption)
    first = phrase_start(text, noun[0])
    before = " ".join(text[first : noun[0]])
    if " of " in part.text.removeprefix(part.number):
        return _put_contents(caption, part, noun)
    if part.number and not _has_number(text, noun, part.number):
        return _put_number(caption, part, noun)
    if not part.number and part.text == part.head and _becomes_plural(text, noun, part):
        return _put_number(caption, part, noun)
    modifiers = part.modifiers.removeprefix(part.number).strip()
    if not modifiers or modifiers in before:
        return CaptionEdit(caption, "object", part.text, part.text)
    steps: list[CaptionEdit] = []
    for phrase in _properties(modifiers.split()):
        attribute = _attribute(phrase)
        current = steps[-1].caption if steps else caption
        steps.append(put_attribute(current, attribute, None, _shifted(caption, current, noun)))
    source = " ".join(step.source for step in steps if step.source)
    target = " ".join(step.target for step in steps)
    return replace(steps[-1], source=source, target=target)


def _attribute(phrase: str) -> PromptPart:
    """A property with its entries, also those of the material it can be: "silver"."""
    part = parse_chunk(phrase.split())
    options = part.options if part and part.category == "attribute" else lookup(phrase.split())
    material = lookup(["made", "of", *phrase.split()])
    return PromptPart("attribute", phrase, phrase, (*options, *material))


def _put_contents(caption: str, part: PromptPart, noun: Span) -> CaptionEdit:
    """Replace what something holds: "two glasses of milk" for "two glasses of wine"."""
    text = words(caption)
    contents = part.text.rpartition(" of ")[2]
    phrase, end = part.determined if part.number else part.text, noun[1]
    if text[end : end + 1] == ["of"]:
        end = phrase_end(text, end + 1)
    first = phrase_start(text, noun[0])
    numbered = part.number and first and text[first - 1] in grammar("numbers", "determiners")
    start = first - 1 if numbered else noun[0]
    if not part.number:
        phrase = f"{' '.join(text[noun[0] : noun[1]])} of {contents}"
    source = " ".join(text[start:end])
    if source == phrase:
        return CaptionEdit(caption, "object", phrase, phrase)
    target = put(caption, start, end, phrase)
    return CaptionEdit(agree(caption, target, noun[1]), "object", source, phrase)


def _becomes_plural(text: Sequence[str], noun: Span, part: PromptPart) -> bool:
    named = part.text.split()
    return is_plural(named) and not is_plural(text[: noun[1]])


def _shifted(before: str, after: str, noun: Span) -> Span:
    """Where a noun is after words were put in front of it."""
    shift = len(after.split()) - len(before.split())
    return noun[0] + shift, noun[1] + shift


def _properties(modifiers: list[str]) -> list[str]:
    """Properties one by one, the last first, each the longest listed name."""
    result: list[str] = []
    start = 0
    while start < len(modifiers):
        end = next(
            (e for e in range(len(modifiers), start + 1, -1) if lookup(modifiers[start:e])),
            start + 1,
        )
        if modifiers[start:end] == ["and"] and result and end < len(modifiers):
            result[-1] += f" and {modifiers[end]}"
            end += 1
        elif modifiers[start] in grammar("attribute words") and end < len(modifiers):
            result.append(" ".join(modifiers[start:]))
            break
        else:
            result.append(" ".join(modifiers[start:end]))
        start = end
    return result


def _has_number(text: Sequence[str], noun: Span, number: str) -> bool:
    first = phrase_start(text, noun[0])
    before = text[first - 1] if first else ""
    return before == number or (before in _ONE and number in _ONE)


def _put_number(caption: str, part: PromptPart, noun: Span) -> CaptionEdit:
    """Replace a noun, and its article or number, by a number of things: "two cats"."""
    text = words(caption)
    start = first = phrase_start(text, noun[0])
    while start and text[start - 1] in grammar("determiners", "numbers"):
        start -= 1
    if start >= 3 and text[start - 1] == "of" and text[start - 2] in grammar("sets"):
        start -= 2 + (text[start - 3] in grammar("determiners"))
    kept = [w for w in text[first : noun[0]] if not _replaced_by(w, part)]
    end = _coordinated_end(text, noun)
    start = _coordinated_start(text, noun, start)
    one = part.number in _ONE
    name = " ".join([*part.modifiers.removeprefix(part.number).split(), *kept])
    head = part.head if one or not part.number else plural(part.head)
    few = part.number.split()[:1]
    count = f"a {part.number}" if few and few[0] in grammar("sets") else part.number
    phrase = " ".join(filter(None, (count, name, head)))
    tokens = caption.split()
    mark = tokens[end - 1][-1:] if tokens[end - 1][-1:] in ",.;" else ""
    target = " ".join([*tokens[:start], phrase + mark, *tokens[end:]])
    source = " ".join(text[noun[0] : end])
    shown = phrase if same(text[noun[0] : noun[1]], part.head) else part.text
    return CaptionEdit(agree(caption, target, end), "object", source, shown)


def _coordinated_end(text: Sequence[str], noun: Span) -> int:
    """End of "a man and a woman" for its first noun: a number of people replaces both."""
    if text[noun[1] : noun[1] + 1] != ["and"]:
        return noun[1]
    end = phrase_end(text, noun[1] + 1)
    other = head_of(text, noun[1] + 1, end)
    if not families(text, noun) & BEINGS:
        return noun[1]
    return end if families(text, other) & families(text, noun) else noun[1]


def _coordinated_start(text: Sequence[str], noun: Span, start: int) -> int:
    """Start of "a man and a woman" for its second noun."""
    if start < 2 or text[start - 1] != "and":
        return start
    first = phrase_start(text, start - 2)
    other = head_of(text, first, start - 1)
    if not families(text, other) & families(text, noun) & BEINGS:
        return start
    while first and text[first - 1] in grammar("determiners", "numbers"):
        first -= 1
    return first


def _replaced_by(word: str, part: PromptPart) -> bool:
    """Whether a word before the old noun gives way to the new modifiers, being of their family."""
    kinds = {e.family for w in part.modifiers.split() for e in lookup([w])}
    return any(e.family in kinds for e in lookup([word]) if e.category == "attribute")


def put_attribute(
    caption: str, part: PromptPart, mention: Mention | None, noun: Span | None = None
) -> CaptionEdit:
    """Replace the attribute mentioned, or give one to ``noun``, by default the subject."""
    text = words(caption)
    if mention:
        return _exchange(caption, (mention.start, mention.end), part.text)
    start, end = noun or subject(text)
    if start == end:
        return CaptionEdit(f"{caption} {part.text}".strip(), "attribute", "", part.text)
    first = phrase_start(text, start)
    if named := _related_property(text, first, (start, end), part):
        if any(b in named.entries for b in part.options):
            return CaptionEdit(caption, "attribute", part.text, part.text)
        return _exchange(caption, (named.start, named.end), part.text)
    noun_words = " ".join(text[start:end])
    if part.text in " ".join(text[first:start]).split():
        return CaptionEdit(caption, "attribute", part.text, part.text, noun_words)
    tokens = part.text.split()
    if tokens[0] == "made" or any(starts(tokens[i:], grammar("prepositions")) for i in (0, 1)):
        target = insert(caption, end, part.text)
        return CaptionEdit(target, "attribute", "", part.text, noun_words)
    at = _place_of(text, first, start, part)
    target = put(caption, at, end, " ".join([part.text, *caption.split()[at:end]]))
    return CaptionEdit(target, "attribute", "", part.text, noun_words)


def _related_property(
    text: Sequence[str], first: int, noun: Span, part: PromptPart
) -> Mention | None:
    """The property before a noun that a property replaces; also in a name ("wooden spoon")."""
    for i in range(first, noun[1] - 1):
        for j in range(min(noun[1] - 1, i + 3), i, -1):
            entries = (*lookup(text[i:j]), *lookup(["made", "of", *text[i:j]]))
            kinds = [e for e in entries if i < noun[0] or e.family in _IN_NAMES]
            if any(a.is_related(b) for a in kinds for b in part.options):
                return Mention(i, j, entries)
    return None


def _place_of(text: Sequence[str], first: int, start: int, part: PromptPart) -> int:
    """Where a property belongs among those before a noun: size, age, shape, color, material."""
    noun = not is_property_word(part.text.split()[-1])
    kinds = [e.family for e in part.options if e.category == "attribute"]
    rank = min((_ORDER.get(kind, 0) for kind in kinds), default=_UNLISTED if noun else 0)
    for i in range(first, start):
        listed = [e for e in lookup([text[i]]) if e.category == "attribute"]
        other = max((_ORDER.get(e.family, 0) for e in listed), default=_UNLISTED)
        if other > rank:
            return i
    return start


def _exchange(caption: str, span: Span, value: str) -> CaptionEdit:
    """Replace one property of a noun by another."""
    text = words(caption)
    named = next((m for m in nouns(text) if m.start >= span[1]), None)
    following = text[span[1] : span[1] + 1]
    noun_words = " ".join(text[named.start : named.end]) if named else " ".join(following)
    source = " ".join(text[span[0] : span[1]])
    return CaptionEdit(put(caption, *span, value), "attribute", source, value, noun_words)


def put_added(
    caption: str, part: PromptPart, mention: Mention | None, noun: Span | None = None
) -> CaptionEdit:
    """Replace the thing mentioned, or add one to ``noun``, by default to its natural owner."""
    text = words(caption)
    joining = part.joining or (part.options[0].joining if part.options else "") or "with"
    bodily = joining in ("wearing", "holding", "carrying")
    owner = noun or (being(text) if bodily else subject(text))
    if mention:
        apart = not covers(owner, mention.start, mention.end)
        return (_exchange_added if apart else put_object)(caption, part, mention)
    if part.text.endswith(" in the background") and "background" in text:
        end = text.index("background") + 1
        start = joined_start(text, phrase_start(text, end - 4))
        if start is not None and text[end - 3 : end - 1] == ["in", "the"]:
            replaced = " ".join(text[start:end])
            target = put(caption, start, end, part.phrase)
            return CaptionEdit(target, "added", replaced, part.phrase)
    kinds = families(text, owner)
    if bodily and not part.joining and kinds and not kinds & WEARERS:
        joining = "with"
    if noun is None and joining == "next to" and kinds & {"tableware", "places"}:
        joining = "with"
    at, prefix = _place_of_added(text, replace(part, joining=joining), owner, noun)
    phrase = f"{joining} {part.determined}"
    noun_words = vocabulary.possessor(" ".join(text[owner[0] : owner[1]]))
    target = insert(caption, at, f"{prefix or joining} {part.determined}")
    return CaptionEdit(target, "added", "", phrase, noun_words)


def _place_of_added(
    text: Sequence[str], part: PromptPart, owner: Span, noun: Span | None
) -> tuple[int, str]:
    """Where an added thing is inserted, and "and" if it joins another one there."""
    joining = part.joining
    at = max(owner[1], phrase_end(text, owner[0])) if owner[1] else 0
    if at and vocabulary.possessor(text[at - 1]) != text[at - 1]:
        at = phrase_end(text, at - 1)  # the hat of "a cat's face"
    at = contents_end(text, at)  # "a plate of food with a beer"
    if any(e.family == "land and sky" for e in part.options):
        return tail_start(text, places=False), ""
    if noun is None and joining == "next to" and (span := _next_to(text, at)):
        return span[1], "and"
    if joining in ("wearing", "with", "holding") and text[at : at + 1] == [joining]:
        return list_end(text, at + 1), "and"
    if length := starts(text[at:], grammar("contents")):  # "filled with strawberries and cream"
        return list_end(text, at + length), "and"
    if joining in ("holding", "carrying", "with") and text[at : at + 1] == ["wearing"]:
        # not "a frog with a rabbit wearing a crown", where the rabbit would wear it
        return list_end(text, at + 1), ""
    if joining not in ("wearing", "holding", "carrying", "with", "in"):
        at = max(tail_start(text), owner[1])
    return at, ""


def _next_to(text: Sequence[str], at: int) -> Span | None:
    """What the subject is next to already, if anything."""
    for i in range(at, len(text) - 2):
        if text[i : i + 2] == ["next", "to"] and text[i + 2] in grammar("determiners"):
            return i, list_end(text, i + 2)
    return None


def _exchange_added(caption: str, part: PromptPart, mention: Mention) -> CaptionEdit:
    """Replace an added thing by another one, with the word that attaches it."""
    text = words(caption)
    start = phrase_start(text, mention.start)
    first = joined_start(text, start)
    if same(text[start : mention.end], part.text):
        return CaptionEdit(caption, "added", part.text, part.text)
    if first is None or same(text[mention.start : mention.end], part.head):
        return put_object(caption, part, mention)
    if part.joining and text[first] not in grammar("joining"):
        return put_added(caption, part, None)
    length = starts(text[first:], grammar("joining", "prepositions"))
    kept = " ".join(text[first : first + length])
    phrase = f"{part.joining or kept} {part.determined}"
    replaced = " ".join(text[first : mention.end])
    return CaptionEdit(
        put(caption, first, mention.end, phrase), "added", replaced, phrase, subject_words(text)
    )


def put_place(caption: str, part: PromptPart, mention: Mention | None) -> CaptionEdit:
    """Replace the place mentioned, or put one before the time at the end."""
    text = words(caption)
    noun_words = subject_words(text)
    if mention is None:
        span = _same_preposition(text, part) or _background(text, part)
        if span:
            replaced = " ".join(text[span[0] : span[1]])
            target = put(caption, *span, part.text)
            return CaptionEdit(target, "place", replaced, part.text, noun_words)
        at = max(tail_start(text, places=False), subject(text)[1])
        return CaptionEdit(insert(caption, at, part.text), "place", "", part.text, noun_words)
    start, end = mention.start, mention.end
    if not starts(text[start:], grammar("prepositions")):
        start = phrase_start(text, start)
        first = joined_start(text, start)
        if first is not None and text[first] == "of":
            first = None
        kinds = {e.family for e in (*mention.entries, *part.options) if e.category == "place"}
        if first is None and len(kinds) > 1:
            # a street can be in the snow, so it stays; a beach cannot be in the desert
            return put_place(caption, part, None)
        if first is None:
            name = " ".join(vocabulary.core(words(part.text)))
            replaced = " ".join(text[start:end])
            return CaptionEdit(put(caption, start, end, name), "place", replaced, name)
        start = first
    if text[end : end + 1] == ["and"] and text[start] == "surrounded":
        end = list_end(text, end + 1)  # "surrounded by mountains and trees"
    target = part.text
    lead = " ".join(text[start : start + starts(text[start:], grammar("prepositions"))])
    if lead in grammar("kept prepositions") and part.plain and part.plain != part.text:
        article = "the" if " the " in part.text else vocabulary.article(part.plain)
        target = f"{lead} {article} {part.plain}".replace("  ", " ")
    replaced = " ".join(text[start:end])
    return CaptionEdit(put(caption, start, end, target), "place", replaced, target, noun_words)


def _same_preposition(text: Sequence[str], part: PromptPart) -> Span | None:
    """The phrase after the same preposition as that of an unlisted place."""
    tokens = part.text.split()
    lead = tokens[: starts(tokens, grammar("prepositions"))]
    usual = len(lead) == 1 and any(part.text == e.name for e in part.options)
    if usual or lead in (["with"], ["of"], []):
        return None
    for start in range(max(subject(text)[1], 1), len(text)):
        length = starts(text[start:], grammar("prepositions"))
        if length and text[start : start + len(lead)] == lead:
            end = phrase_end(text, start + length)
            while text[end : end + 1] == ["of"]:
                end = phrase_end(text, end + 1)
            return start, end
    return None


def _background(text: Sequence[str], part: PromptPart) -> Span | None:
    """The background that a caption names ("with a blurry background"), for another one."""
    if part.text.split()[-1] not in ("background", "backdrop") or "background" not in text:
        return None
    noun = text.index("background")
    start = joined_start(text, phrase_start(text, noun))
    return None if start is None else (start, noun + 1)


def put_time(caption: str, part: PromptPart, mention: Mention | None) -> CaptionEdit:
    """Replace the time mentioned, or append one."""
    text = words(caption)
    if mention:
        start, end = _time_span(text, mention)
        replaced = " ".join(text[start:end])
        target = put(caption, start, end, _time_like(text[start:end], part))
        return CaptionEdit(target, "time", replaced, part.text, subject_words(text))
    target = f"{caption.rstrip('.')} {part.text}".strip()
    return CaptionEdit(target, "time", "", part.text, subject_words(text))


def _time_like(phrase: Sequence[str], part: PromptPart) -> str:
    """A time in the form of another one: "on a foggy morning", "sunny" -> "on a sunny morning"."""
    length = starts(phrase, grammar("prepositions"))
    lead, core = phrase[:length], bare(phrase[length:])
    new = part.plain.split()
    if not length or len(core) != 2 or not 0 < len(new) < 3 or core == new:
        return part.text
    if len(new) == 2 and new[-1] == core[-1]:
        core = new
    elif len(new) == 1 and new[0] in grammar("times of day") and core[1] in grammar("times of day"):
        core = [core[0], new[0]]
    elif (
        len(new) == 1 and is_adjective(new[0]) and core[1] in grammar("times of day", "time words")
    ):
        core = [new[0], core[1]]
    else:
        return part.text
    article = [] if phrase[length] == core[0] else [vocabulary.article(" ".join(core))]
    return " ".join([*lead, *article, *core])


def _time_span(text: Sequence[str], mention: Mention) -> Span:
    """The whole phrase of a time: "on a foggy morning" for "foggy", "at sunset" for "sunset"."""
    if starts(text[mention.start :], grammar("prepositions")):
        return mention.start, mention.end
    start = joined_start(text, phrase_start(text, mention.start))
    if start is None or text[start] == "of":
        return mention.start, mention.end
    return start, max(mention.end, phrase_end(text, mention.start))


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
    view = any(e.family == "views" for e in part.options) and text[:3] == ["a", "view", "of"]
    if view and part.text.split()[0] in ("a", "an"):
        rest = " ".join(caption.split()[3:])
        return CaptionEdit(f"{part.text} of {rest}", "style", "a view", part.text, noun_words)
    target = vocabulary.styled(part.text, caption)
    skip = starts(text, frozenset(("there is", "there are", "this is")))
    if skip and target.endswith(caption):
        target = vocabulary.styled(part.text, " ".join(caption.split()[skip:]))
    return CaptionEdit(target.strip(), "style", "", part.text, noun_words)


def put_action(
    caption: str, part: PromptPart, mention: Mention | None, noun: Span | None = None
) -> CaptionEdit:
    """Replace what the subject, or ``noun``, does; without a verb it is put after the noun."""
    text = words(caption)
    owner = noun or being(text)
    noun_words = " ".join(text[owner[0] : owner[1]])
    start, end = verb(text, after=owner[1])
    if owner[1] and _is_described(text, part, owner, text[start:end]):
        attribute = PromptPart("attribute", part.text, part.text)
        step = put_attribute(caption, attribute, None, owner)
        return replace(step, category="action", noun=noun_words)
    if start == end:
        at = _after_attached(text, owner[1])
        return CaptionEdit(insert(caption, at, part.text), "action", "", part.text, noun_words)
    if part.text == " ".join(text[start : start + len(part.text.split())]):
        return CaptionEdit(caption, "action", part.text, part.text, noun_words)
    rest = part.text.removeprefix(part.head).split()
    stop = _object_end(text, end)
    quiet = any(e.family in ("doing", "face") for e in part.options)
    if text[start] in grammar("gazes") or (stop > end and not rest and quiet):
        target = insert(caption, start, f"{part.text} while")
        return CaptionEdit(target, "action", "", part.text, noun_words)
    if stop == end and rest and rest[0] in grammar("prepositions"):
        stop = phrase_end(text, end + max(1, starts(text[end:], grammar("prepositions"))))
    target = put(caption, start, stop, part.text)
    if not rest:
        target = _with_place_of(target, text[stop:], start + len(part.text.split()), part)
    return CaptionEdit(target, "action", " ".join(text[start:stop]), part.text, noun_words)


def _is_described(text: Sequence[str], part: PromptPart, owner: Span, doing: Sequence[str]) -> bool:
    """Whether an action is put before its noun: "a smiling woman", "a steaming bowl"."""
    kinds = families(text, owner)
    inert = bool(kinds) and not kinds & (WEARERS | {"vehicles"})
    verb_now = " ".join(doing)
    goes = verb_now != "sleeping" and verb_now not in grammar("expressions")
    return part.text == part.head and (inert or (goes and part.text in grammar("expressions")))


def _object_end(text: Sequence[str], end: int) -> int:
    """End of the object of a verb that ends at a word: "playing a guitar"."""
    follows = end < len(text) and not starts(text[end:], grammar("prepositions", "joining"))
    if follows and text[end] not in grammar("conjunctions", "numbers"):
        return phrase_end(text, end)
    return end


def _with_place_of(target: str, after: Sequence[str], at: int, part: PromptPart) -> str:
    """A caption with the preposition after a new verb that fits it: one dances on a street."""
    if after and after[0] in _ALONG and not _moves(part):
        return put(target, at, at + 1, "on")
    if part.text == "flying" and (length := _on(after, 0)):
        return put(target, at, at + length, "over")
    return target


def _on(text: Sequence[str], at: int) -> int:
    """Words of "on" or "on top of" at a position: one flies over what one sat on."""
    return starts(text[at:], frozenset(("on", "on top of")))


def _moves(part: PromptPart) -> bool:
    return any(e.family == "motion" for e in part.options)


def _after_attached(text: Sequence[str], at: int) -> int:
    """After what a noun wears, holds or is in: "a man in a suit and tie"."""
    while at < len(text) and (text[at] in ("in", "with", "wearing", "holding")):
        things = lookup(bare(text[at + 1 : phrase_end(text, at + 1)])[-1:])
        if text[at] == "in" and not any(e.joining == "wearing" for e in things):
            break
        at = list_end(text, at + 1)
    return at


METHODS: dict[str, Callable[[str, PromptPart, Mention | None], CaptionEdit]] = {
    "object": put_object,
    "attribute": put_attribute,
    "added": put_added,
    "place": put_place,
    "time": put_time,
    "style": put_style,
    "action": put_action,
}
