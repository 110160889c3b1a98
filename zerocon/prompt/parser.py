"""Parsing: the parts of a prompt, and the subject, nouns and styles of a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zerocon.prompt import vocabulary
from zerocon.prompt.vocabulary import (
    Mention,
    VocabularyEntry,
    bare,
    grammar,
    is_boundary,
    lookup,
    starts,
    words,
)


@dataclass(frozen=True)
class PromptPart:
    """One part of a prompt: an object, an attribute, a place ...

    Attributes:
        category: One of ``vocabulary.CATEGORIES``.
        text: The phrase without its article: "red hat".
        head: Its noun: "hat".
        options: Entries of the head in the word lists, likeliest first; empty if it is unknown.
        joining: Joining word in the prompt ("wearing"), else "".
        removed: Whether the part is to be removed ("without a hat").
    """

    category: str
    text: str
    head: str
    options: tuple[VocabularyEntry, ...] = ()
    joining: str = ""
    removed: bool = False

    @property
    def modifiers(self) -> str:
        """``text`` without ``head``: "red"."""
        return self.text.removesuffix(self.head).strip()

    @property
    def phrase(self) -> str:
        """The part as it is written in a caption: "wearing a red hat"."""
        return f"{self.joining} {vocabulary.determined(self.text)}" if self.joining else self.text

    def with_entry(self, entry: VocabularyEntry) -> PromptPart:
        """The same part with this meaning of its head."""
        return PromptPart(
            entry.category, self.text, self.head, (entry,), self.joining, self.removed
        )


def parse(text: str) -> tuple[PromptPart, ...]:
    """The parts of a prompt: "a dog on the beach" -> an object and a place.

    Words of the lists have their category. Other phrases are classified by form: with a leading
    preposition they are a place, after "wearing" or "with" an added thing, after "made of" an
    attribute, with a last word like "painting" a style, otherwise an object.
    """
    tokens = words(text)
    if not tokens:
        return ()
    plain = bare(tokens)
    if whole := _whole(tokens):
        return (whole,)
    for end in range(len(plain) - 1, 0, -1):
        if plain[end] == "of" and (part := _whole(plain[:end])) and part.category == "style":
            return part, *parse(" ".join(plain[end + 1 :]))
    if tokens[-1] in grammar("style words"):
        unknown = " ".join(tokens if starts(tokens, grammar("prepositions")) else plain)
        return (PromptPart("style", _style(unknown), unknown),)
    if tokens[:4] == ["in", "the", "style", "of"]:
        return (PromptPart("style", " ".join(tokens), " ".join(tokens)),)
    return tuple(part for chunk in _chunks(tokens) if (part := _part(chunk)))


def _whole(tokens: Sequence[str]) -> PromptPart | None:
    """A part for a phrase that is in the word lists as a whole."""
    plain = bare(tokens)
    matches = lookup(tokens) or lookup(plain) or lookup(_without_style_words(plain))
    if not matches and starts(tokens, grammar("prepositions")):
        matches = tuple(e for e in lookup(vocabulary.core(tokens)) if e.category == "place")
    if not matches:
        return None
    # "an orange" is a fruit, "orange" a color
    order = ["attribute", "style", "time", "place", "added", "object"]
    if len(plain) < len(tokens) and not starts(tokens, grammar("prepositions")):
        order = ["style", "added", "object", "place", "time", "attribute"]
    options = tuple(sorted(matches, key=lambda e: order.index(e.category)))
    first = options[0]
    if first.category in ("attribute", "style"):
        return PromptPart(first.category, first.name, first.name, options)
    if first.category in ("place", "time"):
        prefixed = starts(tokens, grammar("prepositions"))
        name = " ".join(tokens) if prefixed else first.name
        return PromptPart(first.category, name, name, options)
    return PromptPart(first.category, " ".join(plain), " ".join(plain), options)


def _without_style_words(plain: Sequence[str]) -> list[str]:
    """ "in pixel art style" -> "pixel art"; "like a mosaic" -> "mosaic"; otherwise empty."""
    text = list(plain)
    if text and text[-1].endswith("-style"):
        text[-1] = text[-1].removesuffix("-style")
    elif text and text[-1] == "style":
        text.pop()
    elif not text or text[0] not in ("as", "like"):
        return []
    text = bare(text[1:] if text[:1] in (["in"], ["as"], ["like"]) else text)
    return text if any(e.category == "style" for e in lookup(text)) else []


def _style(phrase: str) -> str:
    """A style of unknown words: "klimt style" -> "in klimt style", "painting" -> "a painting"."""
    if phrase.endswith("style") and not phrase.startswith("in "):
        return f"in {phrase}"
    return phrase if phrase.startswith("in ") else vocabulary.determined(phrase)


def _chunks(tokens: Sequence[str]) -> list[list[str]]:
    """Words split before joining words and prepositions: "dog", "on the beach", "at night"."""
    chunks: list[list[str]] = [[]]
    i = 0
    while i < len(tokens):
        length = starts(tokens[i:], grammar("joining", "prepositions"))
        material = chunks[-1][:1] == ["made"] and tokens[i] in ("of", "from", "out")
        if (length and tokens[i] != "of" and not material) or tokens[i] == "made":
            chunks.append([])
        length = max(length, 1)
        chunks[-1] += tokens[i : i + length]
        i += length
    links = ("and", "but", "")
    for chunk in chunks:
        while chunk and chunk[-1] in links:
            chunk.pop()
        while chunk and chunk[0] in links:
            chunk.pop(0)
    return [chunk for chunk in chunks if chunk]


def _part(chunk: list[str]) -> PromptPart | None:
    """The part of one chunk; None if it names nothing."""
    if chunk[0] == "made":
        return _whole(chunk) or PromptPart("attribute", " ".join(chunk), " ".join(chunk))
    joined = starts(chunk, grammar("joining", "prepositions"))
    joining, body = " ".join(chunk[:joined]), bare(chunk[joined:])
    text = " ".join(body)
    if joining == "without" or chunk[0] == "no":
        text = " ".join(body[chunk[0] == "no" :])
        return PromptPart("added", text, text, lookup(words(text)), removed=True)
    if joining not in grammar("joining") and (whole := _whole(chunk)):
        return whole
    heads = [(i, matches) for i in range(len(body)) if (matches := lookup(body[i:]))]
    named = [(i, e) for i, matches in heads for e in matches if e.category in ("object", "added")]
    options = tuple(e for i, e in named if i == named[0][0]) if named else ()
    options = tuple(sorted(options, key=lambda e: e.category != "added"))
    head = " ".join(body[named[0][0] :]) if named else (body[-1] if body else "")
    worn = any(e.joining == "wearing" for e in options)
    if (joining and joining in grammar("joining")) or (joining == "in" and worn):
        return PromptPart("added", text, head, options, joining) if body else None
    if joining:
        return PromptPart("place", " ".join(chunk), " ".join(chunk))
    if named:
        return PromptPart(options[0].category, text, head, options)
    if heads and (place := next((e for e in heads[0][1] if e.category == "place"), None)):
        full, tail = place.name.split(), body[heads[0][0] :]
        name = " ".join([*full[: len(full) - len(tail)], *body])
        return PromptPart("place", name, name, (place,))
    properties = [lookup([w]) for w in body]
    last = tuple(e for e in properties[-1] if e.category == "attribute") if body else ()
    loose = grammar("attribute words")
    endings = tuple(grammar("attribute endings"))
    if all(w in loose or p for w, p in zip(body, properties, strict=True)) and last:
        return PromptPart("attribute", text, text, last)
    if body and body[-1].endswith(endings):
        return PromptPart("attribute", text, text)
    return PromptPart("object", text, head) if body else None


def subject(caption: Sequence[str]) -> tuple[int, int]:
    """Start and end of the main noun in the words of a caption; (0, 0) if there is none.

    "there is a cat that is sitting on a couch" -> (3, 4), "cat".
    """
    i = 0
    while i < len(caption):
        opening = starts(caption[i:], grammar("openings", "noise", "determiners", "numbers"))
        named = style_at(caption, i)
        if named and caption[named.end : named.end + 1] == ["of"]:
            opening = max(opening, named.end + 1 - i)
        if not opening:
            break
        i += opening
    end = i + 1
    while end < len(caption) and not is_boundary(caption, end):
        end += 1
    if i >= len(caption) or starts(caption[i:], grammar("prepositions", "joining")):
        return (0, 0)
    things = [m for m in nouns(caption) if i <= m.start and m.end <= end]
    return (things[-1].start, things[-1].end) if things else (end - 1, end)


def nouns(caption: Sequence[str]) -> list[Mention]:
    """Mentions of objects and added things, except those used as attributes ("an orange cat")."""
    result = []
    for mention in vocabulary.mentions(caption):
        things = tuple(e for e in mention.entries if e.category in ("object", "added"))
        qualifies = mention.of("attribute") and not (
            mention.end == len(caption) or is_boundary(caption, mention.end)
        )
        if things and not qualifies:
            result.append(Mention(mention.start, mention.end, things))
    return result


def style_at(caption: Sequence[str], start: int) -> Mention | None:
    """The style that is named from this word on, the longest name first."""
    for end in range(min(len(caption), start + 6), start, -1):
        matches = tuple(e for e in lookup(caption[start:end]) if e.category == "style")
        if matches:
            return Mention(start, end, matches)
    return None


def phrase_start(caption: Sequence[str], noun: int) -> int:
    """Start of the noun phrase of the noun at this word, without its article."""
    start = noun
    stop = grammar("determiners", "numbers", "noise")
    while start and not is_boundary(caption, start - 1) and caption[start - 1] not in stop:
        start -= 1
    return start


def joined_start(caption: Sequence[str], start: int) -> int | None:
    """Start of the preposition or joining word before a noun phrase, None if it has none."""
    while start and caption[start - 1] in grammar("determiners", "numbers"):
        start -= 1
    for length in range(min(4, start), 0, -1):
        if " ".join(caption[start - length : start]) in grammar("joining", "prepositions"):
            return start - length
    return None
