"""Inflection of English words: plurals, participles and parts of speech, by lemminflect.

lemminflect's dictionary is that of the NIH SPECIALIST lexicon. It is loaded, in about 0.2 s, with
the first word whose ending does not decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from zerocon.prompt.word_files import grammar, sections

_SINGULAR_ENDINGS = ("ss", "us", "is", "'s")  # "-s" of a singular: glass, cactus, iris
# Every plural of the dictionary ends in one of these: buses, men, mice, feet, fungi, data.
_PLURAL_ENDINGS = (
    "s", "a", "i", "ae", "æ", "en", "ice", "eet", "eeth", "geese", "people", "pence", "im", "ieux",
    "eaux", "sful", "matzot", "matzoth", "passersby", "kroner", "lire", "novelle", "fiant",
)  # fmt: skip


@cache
def lemmas(word: str) -> dict[str, tuple[str, ...]]:
    """Base forms of a word by part of speech (NOUN, VERB, ADJ, ADV ...); empty if unknown."""
    from lemminflect import getAllLemmas

    result: dict[str, tuple[str, ...]] = getAllLemmas(word)
    return result


@cache
def _preferred() -> dict[str, str]:
    """Plural by singular, where the dictionary lacks it or offers another one first."""
    lines = (line.partition(" = ") for line in sections("grammar.txt")["irregular"])
    return {one: many for many, _, one in lines}


@cache
def _preferred_singular() -> dict[str, str]:
    return {many: one for one, many in _preferred().items()}


@cache
def plural_word(word: str) -> str:
    """The plural of a noun in the singular."""
    from lemminflect import getInflection

    if word in _preferred():
        return _preferred()[word]
    forms = getInflection(word, tag="NNS") if "NOUN" in lemmas(word) else ()
    if forms and (forms[0] != word or word.endswith("s")):
        return str(forms[0])
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh", "z")) else "s")


@cache
def is_plural_word(word: str) -> bool:
    """Whether a noun is in the plural."""
    if _preferred_singular().get(word, word) != word or word in grammar("plural only"):
        return True
    if word in _preferred() or word in grammar("uncountable"):
        return False
    if len(word) < 3 or not word.endswith(_PLURAL_ENDINGS):
        return False  # without the dictionary, which takes as long as a few denoising steps
    nouns = lemmas(word).get("NOUN", ())
    if nouns and word not in nouns:
        return True
    if len(word) < 4 or not word.endswith("s"):
        return False
    # the dictionary has some plurals as words of their own: games, letters
    has_singular = "NOUN" in lemmas(word[:-1])
    return has_singular if nouns else has_singular or not word.endswith(_SINGULAR_ENDINGS)


@cache
def singular(word: str) -> str:
    """The singular of a noun; a singular is returned as it is."""
    if word in _preferred_singular() or not is_plural_word(word):
        return _preferred_singular().get(word, word)
    if word in grammar("plural only"):
        return word
    nouns = lemmas(word).get("NOUN", ())
    if nouns and word not in nouns:
        return nouns[0]
    # a word that the dictionary lacks: "hoodies" -> "hoodie", "tarbosauruses" -> "tarbosaurus"
    hissing = word.endswith(("ches", "shes", "xes", "sses", "zes"))
    hissing |= word.endswith("uses") and not word.endswith("houses")
    return word[:-2] if hissing else word[:-1]


def is_plural(phrase: Sequence[str]) -> bool:
    """Whether the last word of a noun phrase is a plural."""
    return bool(phrase) and is_plural_word(phrase[-1])


def plural(phrase: str) -> str:
    """A noun phrase in the plural: "polar bear" -> "polar bears"."""
    *front, last = phrase.split()
    if is_plural_word(last) or last in grammar("uncountable"):
        return phrase
    return " ".join([*front, plural_word(last)])


def participle(verb: str) -> str:
    """The present participle of a verb: "smile" -> "smiling", "" if it is not a verb."""
    from lemminflect import getInflection

    bases = lemmas(verb).get("VERB", ())
    if not bases:
        return ""
    forms = getInflection(bases[0], tag="VBG")
    return str(forms[0]) if forms else ""


def is_participle(word: str) -> bool:
    """Whether a word is a verb in -ing."""
    return word.endswith("ing") and any(base != word for base in lemmas(word).get("VERB", ()))


def is_adjective(word: str) -> bool:
    """Whether a word is an adjective, in any degree: "messy", "messier"."""
    return "ADJ" in lemmas(word)


def is_english(word: str) -> bool:
    """Whether the dictionary has a word, or every part of a hyphenated one."""
    return all(part.isdigit() or bool(lemmas(part)) for part in word.split("-") if part)
