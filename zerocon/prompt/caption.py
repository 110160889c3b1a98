"""The structure of a source caption: opening, subject, nouns, noun phrases, verb.

A caption is a list of lower-case words, one for each of ``caption.split()``; positions are indices
into it, and ends are exclusive.
"""

from __future__ import annotations

from collections.abc import Sequence

from zerocon.prompt import vocabulary
from zerocon.prompt.inflection import is_participle, lemmas, singular
from zerocon.prompt.vocabulary import (
    Mention,
    bare,
    is_boundary,
    is_verb_at,
    lookup,
    starts,
    words,
)
from zerocon.prompt.word_files import grammar

Span = tuple[int, int]
NOWHERE: Span = (0, 0)
BEINGS = frozenset(("animals", "people", "fantasy beings"))


def subject(text: Sequence[str]) -> Span:
    """Start and end of the main noun; (0, 0) if there is none.

    "there is a cat that is sitting on a couch" -> (3, 4), "cat"; "an old photo of a man" -> "man".
    """
    i = opening_end(text)
    end = i + 1
    while end < len(text) and not is_boundary(text, end):
        end += 1
    if i >= len(text) or starts(text[i:], grammar("prepositions", "joining")):
        return NOWHERE
    return head_of(text, i, end)


def opening_end(text: Sequence[str]) -> int:
    """Where the main noun phrase starts: after "there is", "an old photo of", "a group of"."""
    i = 0
    while i < len(text):
        length = starts(text[i:], grammar("openings", "determiners", "numbers"))
        length = max(length, _depiction_length(text, i))
        if not length:
            break
        i += length
    return i


def _depiction_length(text: Sequence[str], i: int) -> int:
    """Words of "old photo of", "screenshot of", 0 for none."""
    if (style := style_at(text, i)) and text[style.end : style.end + 1] == ["of"]:
        return style.end + 1 - i
    for j in range(i + 1, min(i + 4, len(text))):
        if is_boundary(text, j):
            depicts = text[j] == "of" and text[j - 1] in grammar("depictions")
            return j + 1 - i if depicts else 0
    return 0


def head_of(text: Sequence[str], start: int, end: int) -> Span:
    """The noun of a noun phrase: its last listed name, else its last word."""
    named = [
        m
        for m in vocabulary.mentions(text[:end])
        if m.start >= start and any(e.category in ("object", "added", "place") for e in m.entries)
    ]
    if named and named[-1].end == end:
        return named[-1].start, end
    return end - 1, end


def nouns(text: Sequence[str]) -> list[Mention]:
    """Mentions of objects and added things, except before other nouns ("tomato sauce")."""
    result = []
    for mention in vocabulary.mentions(text):
        things = tuple(e for e in mention.entries if e.category in ("object", "added"))
        qualifies = (
            mention.end < len(text)
            and not is_boundary(text, mention.end)
            and vocabulary.possessor(text[mention.end - 1]) == text[mention.end - 1]
            and is_noun_word(text[mention.end])
        )
        if things and not qualifies:
            result.append(Mention(mention.start, mention.end, things))
    return result


def is_noun_word(word: str) -> bool:
    """Whether a word can be a noun, by the lists or the dictionary."""
    listed = {e.category for e in lookup([word])}
    return bool(listed & {"object", "added"}) or {"NOUN"} == set(lemmas(word)) - {"VERB"}


def style_at(text: Sequence[str], start: int) -> Mention | None:
    """The style that is named from this word on, the longest name first."""
    for end in range(min(len(text), start + 6), start, -1):
        matches = tuple(e for e in lookup(text[start:end]) if e.category == "style")
        if matches:
            return Mention(start, end, matches)
    return None


def phrase_start(text: Sequence[str], noun: int) -> int:
    """Start of the noun phrase of the noun at this word, without its article."""
    start = noun
    stop = grammar("determiners", "numbers")
    while start and not is_boundary(text, start - 1) and text[start - 1] not in stop:
        start -= 1
    return start


def phrase_end(text: Sequence[str], start: int) -> int:
    """End of the noun phrase that starts at a word."""
    while start < len(text) and text[start] in grammar("determiners", "numbers"):
        start += 1
    end = start + 1
    while end < len(text) and not is_boundary(text, end):
        end += 1
    return min(end, len(text))


def contents_end(text: Sequence[str], end: int) -> int:
    """End of "a cup of pens" for the end of its first noun."""
    while text[end : end + 1] == ["of"]:
        end = phrase_end(text, end + 1)
    return end


def list_end(text: Sequence[str], start: int) -> int:
    """End of the noun phrases joined by "and" or commas from a word on."""
    end = contents_end(text, phrase_end(text, start))
    while end < len(text) and text[end] in ("and", "&"):
        end = contents_end(text, phrase_end(text, end + 1))
    distant = " ".join(text[end : end + 3]) in grammar("distances")
    return end + 3 if distant else end


def joined_start(text: Sequence[str], start: int) -> int | None:
    """Start of the preposition or joining word before a noun phrase, None if it has none."""
    while start and text[start - 1] in grammar("determiners", "numbers"):
        start -= 1
    for length in range(min(4, start), 0, -1):
        if " ".join(text[start - length : start]) in grammar("joining", "prepositions"):
            return start - length
    return None


def verb(text: Sequence[str], after: int = 0) -> Span:
    """The participle that says what the noun before it does, with its particle; else (0, 0).

    "a cat that is lying down on a bed" -> "lying down".
    """
    for i in range(max(after, 1), len(text)):
        listed = any(e.category == "action" for e in lookup([text[i]]))
        if text[i] in grammar("joining") or not (text[i].endswith("ing") or listed):
            continue
        if is_verb_at(text, i) or (is_participle(text[i]) and text[i - 1] in ("is", "are")):
            longest = max(
                (n for n in (2, 3) if _is_action(text, i, i + n)),
                default=1,
            )
            return i, i + longest
    return NOWHERE


def _is_action(text: Sequence[str], start: int, end: int) -> bool:
    return end <= len(text) and any(e.category == "action" for e in lookup(text[start:end]))


def being(text: Sequence[str]) -> Span:
    """The person or animal of a caption: the subject if it is one, else the first one."""
    main = subject(text)
    beings = [m for m in nouns(text) if any(e.family in BEINGS for e in m.entries)]
    spans = [(m.start, m.end) for m in beings]
    return main if main in spans or not spans else spans[0]


def same(text: Sequence[str], other: str) -> bool:
    """Whether two phrases are equal, up to the number of the last word and a possessive ending."""
    left, right = list(text), other.split()
    if not left or len(left) != len(right) or left[:-1] != right[:-1]:
        return False
    return _base(left[-1]) == _base(right[-1])


def _base(word: str) -> str:
    return singular(vocabulary.possessor(word))


def locate(text: Sequence[str], source: str) -> Span | None:
    """Start and end of ``source`` in a caption, up to articles and plurals; None if absent."""
    phrase = bare(words(source))
    for lead in (phrase, phrase[starts(phrase, grammar("joining", "prepositions")) :]):
        lead = bare(lead)
        for start in range(len(text) - len(lead) + 1) if lead else ():
            if same(text[start : start + len(lead)], " ".join(lead)):
                return start, start + len(lead)
    return None


def locate_noun(text: Sequence[str], source: str) -> Span | None:
    """Like ``locate``, else the noun of ``source``, else a name of the same thing.

    "the wooden table" in "a table with food" -> "table"; "the sofa" in "a couch" -> "couch".
    """
    if span := locate(text, source):
        return span
    phrase = bare(words(source))
    for start in range(1, len(phrase)):
        if lookup(phrase[start:]) and (span := locate(text, " ".join(phrase[start:]))):
            return span
    listed = lookup(phrase)
    return next((s for m in nouns(text) if (s := _synonym(m, listed))), None)


def _synonym(mention: Mention, entries: Sequence[vocabulary.VocabularyEntry]) -> Span | None:
    shared = any(e in mention.entries for e in entries if e.category in ("object", "added"))
    return (mention.start, mention.end) if shared else None


def families(text: Sequence[str], span: Span) -> frozenset[str]:
    """Families of the noun at a span, places as "places"; empty if it is not listed."""
    return frozenset(
        "places" if e.category == "place" else e.family for e in lookup(text[span[0] : span[1]])
    )


def subject_words(text: Sequence[str]) -> str:
    """The main noun of a caption, "" if there is none."""
    start, end = subject(text)
    return " ".join(text[start:end])


def covers(span: Span, start: int, end: int) -> bool:
    """Whether ``start`` to ``end`` contains a span that is not empty."""
    return start <= span[0] < span[1] <= end
