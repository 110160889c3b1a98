"""The word lists of ``zerocon.prompts``: lookup of words, articles and plurals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

CATEGORIES = ("object", "attribute", "added", "place", "time", "style")
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
        """Whether one can replace the other: same family, or both places, or both styles."""
        if self.category != other.category:
            return False
        return self.category in ("place", "style") or self.family == other.family


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
def sections(path: str) -> dict[str, tuple[str, ...]]:
    """Lines of a file of ``zerocon.prompts`` by their [heading]; "" before the first one."""
    result: dict[str, list[str]] = {"": []}
    heading = ""
    for line in files("zerocon.prompts").joinpath(path).read_text("utf-8").splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            heading = line[1:-1]
            result.setdefault(heading, [])
        elif line and not line.startswith("#"):
            result[heading].append(line)
    return {heading: tuple(lines) for heading, lines in result.items()}


@cache
def grammar(*headings: str) -> frozenset[str]:
    """Words under these headings of ``grammar.txt``."""
    return frozenset(word for h in headings for word in sections("grammar.txt")[h])


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


def lookup(text: Sequence[str]) -> tuple[VocabularyEntry, ...]:
    """Entries with exactly these words as a name; objects and added things also in the plural."""
    if not text:
        return ()
    exact = _index().get(" ".join(text), ())
    if exact or not is_plural(text):
        return exact
    single = _index().get(" ".join([*text[:-1], singular(text[-1])]), ())
    return tuple(e for e in single if e.category in ("object", "added"))


def mentions(text: Sequence[str]) -> list[Mention]:
    """All mentions in a list of words, from the left; the longest name wins."""
    result, start = [], 0
    while start < len(text):
        for end in range(min(len(text), start + _LONGEST), start, -1):
            if named := lookup(text[start:end]):
                result.append(Mention(start, end, named))
                start = end - 1
                break
        start += 1
    return result


@cache
def _irregular() -> dict[str, str]:
    """Singular by irregular plural."""
    lines = (line.partition(" = ") for line in sections("grammar.txt")["irregular"])
    return {many: one for many, _, one in lines}


def is_plural(phrase: Sequence[str]) -> bool:
    """Whether the last word of a noun phrase is a plural."""
    if not phrase:
        return False
    last = phrase[-1]
    if last in grammar("singular"):
        return False
    if _irregular().get(last, last) != last:
        return True
    return len(last) > 3 and last.endswith("s") and not last.endswith(("ss", "us", "is", "'s"))


def singular(word: str) -> str:
    """The singular of a noun; a singular is returned as it is."""
    if word in _irregular() or not is_plural([word]):
        return _irregular().get(word, word)
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    return word[:-1]


def plural(phrase: str) -> str:
    """A noun phrase in the plural: "polar bear" -> "polar bears"."""
    *front, last = phrase.split()
    if is_plural([last]) or last in grammar("uncountable"):
        return phrase
    many = next((m for m, one in _irregular().items() if one == last), None)
    if many is None:
        if last.endswith("y") and last[-2:-1] not in tuple("aeiou"):
            many = last[:-1] + "ies"
        else:
            many = last + ("es" if last.endswith(("s", "x", "ch", "sh", "z")) else "s")
    return " ".join([*front, many])


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
    if starts(text[i:], grammar("joining", "prepositions")):
        return True
    if not (word.endswith("ing") or (word.endswith("ed") and len(word) > 4)):
        return False
    matches = lookup([word]) or lookup(text[i : i + 2])
    # "a sleeping cat", but "a cat sleeping on a bed"
    ends = i + 1 == len(text) or text[i + 1] in grammar("prepositions", "determiners")
    return not matches or (i > 0 and ends and all(e.category == "attribute" for e in matches))


def attributed(value: str, noun: str) -> str:
    """A noun with an attribute: "red", "car" -> "red car"; "made of jam" follows the noun."""
    if value.split()[:1] == ["made"]:
        return f"{noun} {value}"
    return f"{value} {noun}".strip()


def styled(style: str, scene: str) -> str:
    """A scene in a style: "a mosaic of a cat", "a cat in the style of a child"."""
    if not style:
        return scene
    if style.split()[0] in grammar("prepositions"):
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
