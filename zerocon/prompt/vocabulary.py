"""The word lists of ``zerocon.prompts``: lookup of words, articles and plurals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from zerocon.prompt.inflection import is_participle, is_plural, singular
from zerocon.prompt.word_files import grammar, sections

CATEGORIES = ("object", "attribute", "added", "place", "time", "style", "action")
_LONGEST = 6  # words of the longest name


@dataclass(frozen=True)
class VocabularyEntry:
    """A word or phrase of the lists.

    Attributes:
        category: One of ``CATEGORIES``.
        family: Heading in the list: "headwear". Entries of a family replace each other.
        name: The word or phrase.
        aliases: Other names of it.
        joining: Word between the subject and an added thing ("wearing"), else "".
    """

    category: str
    family: str
    name: str
    aliases: tuple[str, ...] = ()
    joining: str = ""

    def is_related(self, other: VocabularyEntry) -> bool:
        """Whether one can replace the other: same family, or both places, or both styles.

        A view ("from above") is listed with the styles, but joins a style.
        """
        if self.category != other.category:
            return False
        if self.category == "style":
            return (self.family == "views") == (other.family == "views")
        return self.category in ("place", "action") or self.family == other.family


@dataclass(frozen=True)
class Mention:
    """A position in a list of words: ``words[start:end]`` names each of ``entries``."""

    start: int
    end: int
    entries: tuple[VocabularyEntry, ...]

    def of(self, category: str) -> VocabularyEntry | None:
        """The first entry of this category."""
        return next((e for e in self.entries if e.category == category), None)


@cache
def entries(category: str) -> tuple[VocabularyEntry, ...]:
    """All entries of a category, in the order of its file."""
    result = []
    for heading, lines in sections(f"words/{category}.txt").items():
        family, _, joining = (part.strip() for part in heading.partition(":"))
        for line in lines:
            name, _, aliases = (part.strip() for part in line.partition("="))
            others = tuple(a.strip() for a in aliases.split(",") if a.strip())
            result.append(VocabularyEntry(category, family, name, others, joining))
    return tuple(result)


def family(entry: VocabularyEntry) -> tuple[VocabularyEntry, ...]:
    """All entries that can replace an entry, itself included."""
    return tuple(e for e in entries(entry.category) if e.is_related(entry))


def words(text: str) -> list[str]:
    """The words of a text in lower case without punctuation, one for each of ``text.split()``."""
    return [w.strip('.,;:!?"“”()*').lower() for w in text.split()]


def bare(text: Sequence[str]) -> list[str]:
    """Words without leading determiners."""
    start = 0
    while start < len(text) and text[start] in grammar("determiners"):
        start += 1
    return list(text[start:])


def starts(text: Sequence[str], phrases: frozenset[str]) -> int:
    """Length in words of the longest of ``phrases`` that ``text`` starts with, 0 for none."""
    for length in range(min(_LONGEST, len(text)), 0, -1):
        if " ".join(text[:length]) in phrases:
            return length
    return 0


def core(phrase: Sequence[str]) -> list[str]:
    """A phrase without its preposition and article: "on the beach" -> "beach"."""
    return bare(phrase[starts(phrase, grammar("prepositions")) :])


@cache
def _index() -> dict[str, tuple[VocabularyEntry, ...]]:
    """Entries by every form of their names."""
    index: dict[str, list[VocabularyEntry]] = {}
    for category in CATEGORIES:
        for entry in entries(category):
            for form in (entry.name, *entry.aliases):
                # times are found by their listed names only: "sun" is not "in the sun"
                short = core if category == "place" else list if category == "time" else bare
                for key in {form, " ".join(short(form.split()))}:
                    if entry not in index.setdefault(key, []):
                        index[key].append(entry)
    return {key: tuple(index[key]) for key in index}


@cache
def _lookup(phrase: str) -> tuple[VocabularyEntry, ...]:
    if exact := _index().get(phrase, ()):
        return exact
    if not phrase:
        return ()
    *front, last = phrase.split()
    word = possessor(last)
    for single in (singular(word), word[:-1], word[:-2], f"{word[:-3]}y"):
        named = _index().get(" ".join([*front, single]), ())
        things = tuple(e for e in named if e.category in ("object", "added"))
        if things and single != last and (single == word or is_plural([word])):
            return things
    return ()


def lookup(text: Sequence[str]) -> tuple[VocabularyEntry, ...]:
    """Entries with exactly these words as a name.

    Objects and added things are also named in the plural, and as possessors: "cats", "cat's".
    """
    return _lookup(" ".join(text)) if text else ()


def possessor(word: str) -> str:
    """A word without its possessive ending: "cat's" -> "cat"."""
    return re.sub(r"(?<=.)'s?$", "", word)


def mentions(text: Sequence[str]) -> list[Mention]:
    """All mentions in a list of words, from the left; the longest name wins."""
    result, start = [], 0
    while start < len(text):
        for end in range(min(len(text), start + _LONGEST), start, -1):
            named = tuple(e for e in lookup(text[start:end]) if e.category != "action")
            if named:  # "riding a bike" names a bike
                result.append(Mention(start, end, named))
                start = end - 1
                break
        start += 1
    return result


def article(phrase: str) -> str:
    """The indefinite article of a phrase: "a", "an", or "" (plurals, numbers, determiners)."""
    text = words(phrase)
    if not text or text[0] in grammar("determiners", "numbers") or text[0].isdigit():
        return ""
    noun = next((text[:i] for i, w in enumerate(text) if i and is_boundary(text, i)), text)
    if is_plural(noun) or noun[-1] in grammar("uncountable"):
        return ""
    first = re.split(r"[-']", text[0])[0]
    if {text[0], first} & grammar("a"):
        return "a"
    return "an" if {text[0], first} & grammar("an") or first[:1] in tuple("aeiou") else "a"


def determined(phrase: str) -> str:
    """A phrase with its indefinite article: "owl" -> "an owl", "sunglasses" -> "sunglasses"."""
    return f"{article(phrase)} {phrase}".strip()


def is_boundary(text: Sequence[str], i: int) -> bool:
    """Whether a noun phrase ends before word ``i``: a verb, a preposition, "and"."""
    word = text[i]
    if word in grammar("prepositions", "joining", "conjunctions", "verbs", "determiners"):
        return True
    return bool(starts(text[i:], grammar("joining", "prepositions"))) or is_verb_at(text, i)


def is_verb_at(text: Sequence[str], i: int) -> bool:
    """Whether word ``i`` is a participle that follows its noun.

    "a cat sleeping on a bed", "a car parked in a street", but not "a sleeping cat", "parked cars".
    """
    word = text[i]
    ends = i + 1 == len(text) or is_function_word(text[i + 1])
    listed = {e.category for e in (*lookup([word]), *lookup(text[i : i + 2]))}
    if word.endswith("ing"):
        if listed & {"object", "added", "place", "time", "style"} or not (
            "action" in listed or is_participle(word)
        ):
            return False
        after_noun = i > 0 and any(e.category in ("object", "added") for e in lookup([text[i - 1]]))
        return ends or after_noun
    if not (word.endswith("ed") and len(word) > 4):
        return False
    return ends and (not listed or (i > 0 and listed <= {"attribute", "action"}))


def is_function_word(word: str) -> bool:
    """Whether a word is an article, a number, a preposition, a conjunction or the like."""
    kinds = ("prepositions", "joining", "conjunctions", "determiners", "numbers", "pronouns")
    return word in grammar(*kinds)


def attributed(value: str, noun: str) -> str:
    """A noun with an attribute: "red", "car" -> "red car"; "made of jam" follows the noun."""
    if value.split()[:1] == ["made"]:
        return f"{noun} {value}"
    return f"{value} {noun}".strip()


def styled(style: str, scene: str) -> str:
    """A scene in a style: "a mosaic of a cat", "a cat in the style of a child"."""
    if not style:
        return scene
    if style.split()[0] in grammar("prepositions", "view verbs"):
        return f"{scene} {style}"
    return f"{style} of {scene}"


def joined(thing: str) -> str:
    """An added thing with its joining word: "red hat" -> "wearing a red hat"."""
    text = words(thing)
    if starts(text, grammar("joining", "prepositions")):
        return thing
    for start in range(len(text)):
        for entry in lookup(text[start:]):
            if entry.joining:
                return f"{entry.joining} {determined(thing)}"
    return f"with {determined(thing)}"


def placed(value: str) -> str:
    """A place or time with its preposition: "beach" -> "on the beach"."""
    text = words(value)
    if not text or starts(text, grammar("prepositions")):
        return value
    entry = next((e for e in lookup(text) if e.category in ("place", "time")), None)
    return entry.name if entry else f"in {determined(value)}"
