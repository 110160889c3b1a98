"""Carrying out the instructions of a prompt on a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zerocon.prompt import removal, vocabulary
from zerocon.prompt.caption import (
    NOWHERE,
    Span,
    being,
    families,
    joined_start,
    list_end,
    locate,
    locate_noun,
    nouns,
    phrase_end,
    phrase_start,
    subject,
    verb,
)
from zerocon.prompt.checks import check_part, refusal
from zerocon.prompt.inflection import lemmas, participle
from zerocon.prompt.instructions import Instruction
from zerocon.prompt.parser import PromptPart, parse
from zerocon.prompt.replace import (
    METHODS,
    WEARERS,
    put_action,
    put_added,
    put_attribute,
)
from zerocon.prompt.rewrite import SNOW, Context, put_part, related_mention, replace_named
from zerocon.prompt.splice import CaptionEdit, insert, put, tail_start
from zerocon.prompt.vocabulary import (
    Mention,
    VocabularyEntry,
    bare,
    determined,
    lookup,
    starts,
    words,
)
from zerocon.prompt.word_files import grammar, sections


def apply(caption: str, step: Instruction, context: Context) -> list[CaptionEdit]:
    """The edits of a caption that a step asks for, one after the other.

    Raises:
        UnclearPromptError: The step is not understood, or is for something that the caption does
            not mention.
    """
    if step.kind == "refuse":
        raise refusal(step.clause, step.phrase)
    if step.kind == "remove":
        return [removal.remove(caption, step.phrase)]
    if step.kind == "place":
        return _surround(caption, step, context)
    if step.kind == "add":
        return _add(caption, step, context)
    if step.kind == "fill":
        return [_fill(caption, step, context)]
    if step.source:
        return _replace_source(caption, step, context)
    return put_parts(caption, parse(step.phrase), context)


def put_parts(
    caption: str, parts: Sequence[PromptPart], context: Context, owner: str = ""
) -> list[CaptionEdit]:
    """Put the parts of a phrase into a caption; those that follow a noun belong to it."""
    edits: list[CaptionEdit] = []
    if merged := _lying(parts):
        parts = [merged]
    for part in _merged(parts, words(caption)):
        if part.removed:
            step = removal.remove(caption, part.text)
        else:
            named = part.category == "style"  # after a name: "in klimt style"
            check_part(part, words(caption), context.proper, role_given=named)
            step = _put_owned(caption, part, owner) or put_part(caption, part, context)
        caption = step.caption
        edits.append(step)
        if part.category in ("object", "added") and not part.joining:
            owner = part.head
    return edits


def _lying(parts: Sequence[PromptPart]) -> PromptPart | None:
    """A weather that covers something, as a thing: "snow on the ground"."""
    if len(parts) != 2 or parts[1].category != "place":
        return None
    first, second = parts
    if second.options and second.text != "in the sky":
        return None
    if first.category not in ("place", "time") or not first.plain or first.text == first.plain:
        return None
    if starts(first.plain.split(), grammar("prepositions")):
        return None
    text = f"{first.plain} {second.text}"
    return PromptPart("added", text, first.plain, first.options, "with")


def _merged(
    parts: Sequence[PromptPart], text: Sequence[str], *, adding: bool = False
) -> list[PromptPart]:
    """Parts with what follows them in one phrase.

    "a fish in its mouth", "a bell around its neck" and "smoke coming from the chimney" are one
    added thing; "on a cliff by the sea" is one place. "on the cat" only says whose hat it is.
    """
    result: list[PromptPart] = []
    for part in parts:
        last = result[-1] if result else None
        thing = last is not None and (adding or last.joining) and not last.removed
        core = " ".join(vocabulary.core(words(part.text)))
        lead = part.text.split()[0]
        near = part.category == "place" and part.options and lead in ("in", "on", "at", "by")
        if last and adding and near and locate(text, core):
            continue  # "a sailboat on the lake", where the caption is of a lake
        if last and adding and part.joining == "next to" and locate(text, part.head):
            result[-1] = replace(last, joining="next to")
        elif last and thing and last.category != "place" and _goes_with(part, last):
            owner = locate(text, core)
            wearer = owner is not None and families(text, owner) & WEARERS
            if not (wearer and last.category == "added" and part.category == "place"):
                result[-1] = replace(last, text=f"{last.text} {part.phrase}")
        elif (
            last
            and last.category == part.category == "place"
            and (not last.options or part.text.split()[0] in ("by", "near", "overlooking"))
        ):
            result[-1] = replace(last, text=f"{last.text} {part.text}")
        elif last and _is_pose(last, text) and part.category == "place":
            result[-1] = replace(last, text=f"{last.text} {part.text}")
        else:
            result.append(part)
    return result


def _is_pose(part: PromptPart, text: Sequence[str]) -> bool:
    """Whether a part is a posture and the caption has no verb: "lying on the sand"."""
    posture = part.category == "action" and any(e.family == "posture" for e in part.options)
    return posture and verb(text) == NOWHERE


def _goes_with(part: PromptPart, thing: PromptPart) -> bool:
    """Whether a part says where an added thing is or what it does."""
    pronoun = part.text.split()[-1] in grammar("pronouns")
    worn = thing.joining in ("in", "wearing") or any(e.joining == "wearing" for e in thing.options)
    if pronoun or (part.category == "action" and not worn):
        return True
    sky = part.text == "in the sky" and any(e.family == "land and sky" for e in thing.options)
    side = starts(part.text.split(), grammar("sides"))
    return part.category == "place" and bool(sky or side or not part.options)


def _put_owned(caption: str, part: PromptPart, owner: str) -> CaptionEdit | None:
    """Put a part that describes a noun of the prompt: "a woman riding a zebra"."""
    span = locate(words(caption), owner) if owner else None
    if span is None:
        return None
    if part.category == "attribute":
        return put_attribute(caption, part, None, span)
    if part.category == "action":
        return put_action(caption, part, None, span)
    if part.category == "added" and part.joining:
        text = words(caption)
        around = (related_mention(text, entry, around=True) for entry in part.options)
        mention = next((m for m in around if m and m.start >= span[1]), None)
        return put_added(caption, part, mention, span)
    return None


def _surround(caption: str, step: Instruction, context: Context) -> list[CaptionEdit]:
    """Put new surroundings into a caption."""
    first_word, _, rest = step.phrase.partition(" ")
    phrase = rest if first_word in ("to", "into", "onto", "like") else step.phrase
    step = replace(step, phrase=phrase)
    parts = parse(phrase)
    first = parts[0] if parts else None
    if first and first.category in ("place", "time", "style"):
        return put_parts(caption, parts, context)
    tokens = bare(words(phrase))
    kinds = {e.family for w in tokens for e in lookup([w])}
    if first and first.category == "attribute" and kinds & {"colors", "patterns", "materials"}:
        lead, phrase = "on", f"{determined(first.text)} background"
    elif first and first.category == "attribute":
        lead, phrase = "with", f"{determined(first.text)} background"
    else:
        lead = "in" if tokens[-1:] and tokens[-1] in grammar("enclosures") else "in front of"
        phrase = determined(phrase) if first and not first.determiner else phrase
    text = f"{lead} {phrase}"
    place = PromptPart("place", text, text)
    check_part(place, words(caption), context.proper, role_given=False)
    return [METHODS["place"](caption, place, _place_mention(words(caption)))]


def _place_mention(text: Sequence[str]) -> Mention | None:
    place = next(iter(vocabulary.entries("place")))
    return related_mention(text, place)


def _add(caption: str, step: Instruction, context: Context) -> list[CaptionEdit]:
    """Add a thing, to its owner where the prompt names one."""
    parts = list(parse(step.phrase))
    if parts and parts[0].category == "action":
        parts = list(parse(f"with {step.phrase}"))  # "racing stripes"
    text = words(caption)
    span = locate_noun(text, step.source) if step.source else None
    onto = step.onto if _is_new_location(text, span, step.onto) else ""
    span = None if onto else span
    warning = f"the caption does not mention {step.source!r}"
    edits = []
    for part in _merged(parts, text, adding=True):
        given = part.category in ("object", "added", "action")
        check_part(part, words(caption), context.proper, role_given=given and _is_noun_word(part))
        worn = part.modifiers and _joining(part, words(caption), span) == "wearing"
        if (part.number or worn) and locate(words(caption), part.head):
            edit = put_part(caption, replace(part, joining=""), context)
        elif entry := _weather(part):
            edit = put_part(caption, part.with_entry(entry), context)
        elif part.category in ("object", "added", "attribute") and not part.removed:
            joining = part.joining or _joining(part, words(caption), span)
            part = replace(part, category="added", joining="with" if onto else joining)
            if onto:
                edit = _add_there(caption, part, onto)
            else:
                edit = put_added(caption, part, None, span)
        else:
            edit = put_part(caption, part, context)
        if step.source and span is None and not onto:
            edit = replace(edit, warnings=(*edit.warnings, warning))
        caption = edit.caption
        edits.append(edit)
    if not edits:
        raise refusal(step.clause, "it does not say what is added")
    return edits


def _fill(caption: str, step: Instruction, context: Context) -> CaptionEdit:
    """Put contents in place of those that a caption names, or after what holds them."""
    text = words(caption)
    span = locate_noun(text, step.source) if step.source else subject(text)
    parts = parse(f"with {step.phrase}")
    if span is None or len(parts) != 1:
        raise refusal(step.clause, f"the caption does not mention {step.source!r}")
    check_part(parts[0], text, context.proper, role_given=False)
    phrase = f"{step.onto} {parts[0].determined}"
    end = max(span[1], phrase_end(text, span[0]))
    length = starts(text[end:], grammar("contents"))
    noun = " ".join(text[slice(*span)])
    if not length and text[end : end + 1] == ["of"]:
        length, phrase = 1, f"of {parts[0].determined}"
    if not length:
        return CaptionEdit(insert(caption, end, phrase), "added", "", phrase, noun)
    stop = list_end(text, end + length)
    source = " ".join(text[end:stop])
    return CaptionEdit(put(caption, end, stop, phrase), "added", source, phrase, noun)


def _add_there(caption: str, part: PromptPart, onto: str) -> CaptionEdit:
    """Add a thing with its own place: "with a cat on the bed"."""
    text = words(caption)
    part = replace(part, text=f"{part.text} {onto}")
    if onto.split()[1] in ("its", "his", "her", "their") or "with" in text:
        return put_added(caption, part, None)
    at = tail_start(text, places=False)
    return CaptionEdit(insert(caption, at, part.phrase), "added", "", part.phrase)


def _weather(part: PromptPart) -> VocabularyEntry | None:
    """The time or weather that a part can mean: "add a rainbow", "add snow"."""
    return next((e for e in part.options if e.category == "time" or e.name == SNOW), None)


def _is_new_location(text: Sequence[str], span: Span | None, onto: str) -> bool:
    """Whether the place of an added thing is no wearer: "a cat on the bed", "birds in the sky"."""
    if span is None:
        return True
    attached = onto.split()[:1] in (["to"], ["for"], ["with"], ["onto"], [])
    if span == subject(text) and not attached and not families(text, span) & WEARERS:
        return True
    start = joined_start(text, phrase_start(text, span[0]))
    listed = start is not None and text[start] in ("with", "and")
    return listed and not families(text, span) & WEARERS


def _is_noun_word(part: PromptPart) -> bool:
    return bool(part.options) or "NOUN" in lemmas(part.head)


def _joining(part: PromptPart, text: Sequence[str], span: Span | None) -> str:
    """The word that attaches a thing to the subject or to its owner."""
    named = next((e.joining for e in part.options if e.joining), "with")
    owner = span or being(text)
    kinds = families(text, owner)
    worn = named in ("wearing", "holding", "carrying")
    return "with" if worn and kinds and not kinds & WEARERS else named


def _replace_source(caption: str, step: Instruction, context: Context) -> list[CaptionEdit]:
    """Put a phrase in place of what an instruction names."""
    text = words(caption)
    source = _generic(text, step.source) or step.source
    parts = parse(step.phrase)
    if not parts:
        raise refusal(step.clause, f"{step.phrase!r} names nothing")
    if parse(source) and parse(source)[0].category == "attribute" and locate(text, parts[0].head):
        return put_parts(caption, parts, context)  # "blue door instead of red"
    if not _mentions(text, source) and participle(source) in text:  # "jump instead of run"
        if doing := participle(step.phrase):
            return put_parts(caption, parse(doing), context)
    if source in grammar("numbers"):
        return put_parts(caption, parts, context)
    if not _mentions(text, source):
        if {p.category for p in (*parse(source), *parts)} <= {"time", "place"}:
            return put_parts(caption, parts, context)  # "turn day into night"
        if owned := _put_body_part(caption, source, parts):
            return [owned]
        reason = f"the caption does not mention {' '.join(bare(words(step.source)))!r}"
        raise refusal(step.clause, f"{reason}; if the image shows it, give --caption")
    return replace_source(caption, parts, source, context)


def _put_body_part(caption: str, source: str, parts: Sequence[PromptPart]) -> CaptionEdit | None:
    """Describe something that the subject surely has: "change the woman's hair to red"."""
    text, tokens = words(caption), bare(words(source))
    listed = [e for e in lookup(tokens[-1:]) if e.category == "added"]
    if len(parts) != 1 or parts[0].category != "attribute" or not listed:
        return None
    if not any(e.family in ("body parts", "faces", "hair") for e in listed):
        return None
    owner = locate(text, vocabulary.possessor(" ".join(tokens[:-1]))) if tokens[:-1] else None
    name = f"{parts[0].text} {tokens[-1]}"
    part = PromptPart("added", name, tokens[-1], tuple(listed), "with")
    return put_added(caption, part, None, owner or being(text))


def _mentions(text: Sequence[str], source: str) -> bool:
    if locate_noun(text, source):
        return True
    return any(
        related_mention(text, e, other=False)
        for e in lookup(vocabulary.core(words(source)))
        if e.category in ("place", "time", "style")
    )


def _generic(text: Sequence[str], source: str) -> str:
    """The words of a caption that others mean: "the animal" -> "cat"; "" for none."""
    word = " ".join(bare(words(source)))
    properties = [e for e in lookup(word.split()) if e.category == "attribute"]
    for mention in vocabulary.mentions(text) if not locate(text, word) else ():
        if any(e in mention.entries for e in properties):
            return " ".join(text[mention.start : mention.end])
    for line in sections("grammar.txt")["general words"]:
        family, _, names = (part.strip() for part in line.partition("="))
        if word not in [name.strip() for name in names.split(",")] or locate(text, word):
            continue
        if family == "subject":
            return " ".join(text[slice(*subject(text))])
        if family == "places" and "places" in families(text, subject(text)):
            return " ".join(text[slice(*subject(text))])
        for mention in nouns(text):
            if any(e.family == family for e in mention.entries):
                return " ".join(text[mention.start : mention.end])
    return ""


def replace_source(
    caption: str, parts: Sequence[PromptPart], source: str, context: Context
) -> list[CaptionEdit]:
    """Put the parts of a phrase into a caption, one of them in place of ``source``."""
    edits = []
    index = _part_for(parts, source)
    warning = ""
    for i, part in enumerate(parts):
        if i == index:
            check_part(part, words(caption), context.proper, role_given=True)
            if part.category == "object" and not part.options:
                warning = f"{part.text!r} is not in the word lists: taken as an object"
            edit = replace_named(caption, part, source)
            if warning:
                edit = replace(edit, warnings=(*edit.warnings, warning))
            edits.append(edit)
        else:
            owner = parts[index].head if i > index else ""
            edits += put_parts(caption, [part], context, owner)
        caption = edits[-1].caption
    return edits


def _part_for(parts: Sequence[PromptPart], source: str) -> int:
    """Index of the part that replaces the source: the first of its category, else 0."""
    kinds = [e.category for p in parse(source) for e in p.options] or ["object"]
    for i, part in enumerate(parts):
        if any(e.category in kinds for e in part.options) or part.category in kinds:
            return i
    return 0
