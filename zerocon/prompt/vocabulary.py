"""The word lists of `zerocon.prompts`: what a word means, and how to say it (a/an, plurals)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

CATEGORIES = ("object", "attribute", "added", "place", "time", "style")
_LONGEST = 6  # words in the longest name worth looking for


@dataclass(frozen=True)
class VocabularyEntry:
    """One named thing. `joining` fastens an added thing to its owner ("wearing"), else ""."""

    category: str
    family: str
    name: str
    aliases: tuple[str, ...] = ()
    joining: str = ""

    def kin(self, other: VocabularyEntry) -> bool:
        """Whether one can take the other's place in a sentence."""
        if self.category != other.category:
            return False
        return self.category in ("place", "style") or self.family == other.family


@dataclass(frozen=True)
class Mention:
    """Where a list of words names something: words[start:end] is one of the entries."""

    start: int
    end: int
    entries: tuple[VocabularyEntry, ...]

    def of(self, category: str) -> VocabularyEntry | None:
        return next((e for e in self.entries if e.category == category), None)


@cache
def sections(path: str) -> dict[str, tuple[str, ...]]:
    """The lines of a file of `zerocon.prompts` under each [heading]; "" before the first."""
    found: dict[str, list[str]] = {"": []}
    heading = ""
    for line in files("zerocon.prompts").joinpath(path).read_text("utf-8").splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            heading = line[1:-1]
            found.setdefault(heading, [])
        elif line and not line.startswith("#"):
            found[heading].append(line)
    return {heading: tuple(lines) for heading, lines in found.items()}


@cache
def grammar(*headings: str) -> frozenset[str]:
    """The words under these headings of grammar.txt."""
    return frozenset(word for h in headings for word in sections("grammar.txt")[h])


@cache
def entries(category: str) -> tuple[VocabularyEntry, ...]:
    found = []
    for heading, lines in sections(f"words/{category}.txt").items():
        family, _, joining = (part.strip() for part in heading.partition(":"))
        for line in lines:
            name, _, aliases = (part.strip() for part in line.partition("="))
            others = tuple(a.strip() for a in aliases.split(",") if a.strip())
            found.append(VocabularyEntry(category, family, name, others, joining))
    return tuple(found)


def family(entry: VocabularyEntry) -> tuple[VocabularyEntry, ...]:
    """All that may take the place of an entry, itself included."""
    return tuple(e for e in entries(entry.category) if e.kin(entry))


def words(text: str) -> list[str]:
    """The words of a text in lower case, one for each of `text.split()`, without punctuation."""
    return [w.strip('.,;:!?"“”()*').lower() for w in text.split()]


def bare(text: Sequence[str]) -> list[str]:
    """Words without leading articles and the like."""
    start = 0
    while start < len(text) and text[start] in grammar("determiners"):
        start += 1
    return list(text[start:])


def starts(text: Sequence[str], phrases: frozenset[str]) -> int:
    """How many of the first words make up the longest of these phrases; 0 if none does."""
    for length in range(min(_LONGEST, len(text)), 0, -1):
        if " ".join(text[:length]) in phrases:
            return length
    return 0


def core(phrase: Sequence[str]) -> list[str]:
    """A phrase without its preposition and article: "on the beach" -> "beach"."""
    return bare(phrase[starts(phrase, grammar("prepositions")) :])


@cache
def _index() -> dict[str, tuple[VocabularyEntry, ...]]:
    found: dict[str, list[VocabularyEntry]] = {}
    for category in CATEGORIES:
        for entry in entries(category):
            for form in (entry.name, *entry.aliases):
                # a time has only the names listed: "sun" is not "in the sun"
                short = core if category == "place" else list if category == "time" else bare
                for key in {form, " ".join(short(form.split()))}:
                    if entry not in found.setdefault(key, []):
                        found[key].append(entry)
    return {key: tuple(found[key]) for key in found}


def lookup(text: Sequence[str]) -> tuple[VocabularyEntry, ...]:
    """What these very words name, plurals included."""
    if not text:
        return ()
    known = _index().get(" ".join(text), ())
    if known or not is_plural(text):
        return known
    single = _index().get(" ".join([*text[:-1], singular(text[-1])]), ())
    return tuple(e for e in single if e.category in ("object", "added"))


def mentions(text: Sequence[str]) -> list[Mention]:
    """Everything a list of words names, from the left, the longest names first."""
    found, start = [], 0
    while start < len(text):
        for end in range(min(len(text), start + _LONGEST), start, -1):
            if named := lookup(text[start:end]):
                found.append(Mention(start, end, named))
                start = end - 1
                break
        start += 1
    return found


@cache
def _irregular() -> dict[str, str]:
    lines = (line.partition(" = ") for line in sections("grammar.txt")["irregular"])
    return {many: one for many, _, one in lines}


def is_plural(phrase: Sequence[str]) -> bool:
    """Whether a noun phrase needs no article for its number."""
    if not phrase:
        return False
    last = phrase[-1]
    if last in grammar("singular"):
        return False
    if _irregular().get(last, last) != last:
        return True
    return len(last) > 3 and last.endswith("s") and not last.endswith(("ss", "us", "is", "'s"))


def singular(word: str) -> str:
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
    """The article a phrase begins with: "a", "an", or "" for plurals, numbers and the like."""
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
    """A phrase with its article: "owl" -> "an owl", "sunglasses" -> "sunglasses"."""
    return f"{article(phrase)} {phrase}".strip()


def is_boundary(text: Sequence[str], i: int) -> bool:
    """Whether a noun phrase ends before word i: a verb, a preposition, "and"."""
    word = text[i]
    if word in grammar("prepositions", "joining", "conjunctions", "verbs", "determiners"):
        return True
    if starts(text[i:], grammar("joining", "prepositions")):
        return True
    if not (word.endswith("ing") or (word.endswith("ed") and len(word) > 4)):
        return False
    known = lookup([word]) or lookup(text[i : i + 2])
    # "a sleeping cat", but "a cat sleeping on a bed"
    ends = i + 1 == len(text) or text[i + 1] in grammar("prepositions", "determiners")
    return not known or (i > 0 and ends and all(e.category == "attribute" for e in known))


def attributed(value: str, noun: str) -> str:
    """A noun with a property: "red", "car" -> "red car"; "made of jam" stands behind it."""
    if value.split()[:1] == ["made"]:
        return f"{noun} {value}"
    return f"{value} {noun}".strip()


def styled(style: str, scene: str) -> str:
    """A scene in a style: "a mosaic of a cat", "a cat in the style of a child"; plain for ""."""
    if not style:
        return scene
    if style.split()[0] in grammar("prepositions"):
        return f"{scene} {style}"
    return f"{style} of {scene}"


def joined(thing: str) -> str:
    """An added thing with the word that fastens it: "red hat" -> "wearing a red hat"."""
    text = words(thing)
    if starts(text, grammar("joining", "prepositions")):
        return thing
    for start in range(len(text)):
        for entry in lookup(text[start:]):
            if entry.joining:
                return f"{entry.joining} {determined(thing)}"
    return f"with {determined(thing)}"


def placed(value: str) -> str:
    """A place or time as it is said after something: "beach" -> "on the beach"."""
    text = words(value)
    if not text or starts(text, grammar("prepositions")):
        return value
    known = next((e for e in lookup(text) if e.category in ("place", "time")), None)
    return known.name if known else f"in {determined(value)}"
