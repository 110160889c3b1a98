"""What is refused: parts of a prompt that would make a target caption that is not English.

A refusal says why, shows the caption, and offers prompts that work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from itertools import islice
from textwrap import shorten

from zerocon.errors import UnclearPromptError
from zerocon.prompt import vocabulary
from zerocon.prompt.caption import BEINGS, families, locate, subject
from zerocon.prompt.inflection import is_english, lemmas
from zerocon.prompt.parser import PromptPart, is_property_word
from zerocon.prompt.vocabulary import bare, determined, is_function_word, lookup, starts, words
from zerocon.prompt.word_files import grammar, sections

LONGEST = 80  # letters of a prompt in a message
_FOREIGN = re.compile(r"[^\W\d_a-zA-Z\u00c0-\u024f]")  # letters of other scripts than Latin


def check_part(
    part: PromptPart, caption: Sequence[str], proper: frozenset[str], *, role_given: bool
) -> None:
    """Check that a part can be used in a caption.

    Args:
        part: A part of a prompt.
        caption: Words of the source caption; all of them are known.
        proper: Words of the prompt with a capital letter: names.
        role_given: Whether the prompt says what the part replaces or that it is added; then its
            noun may be any word.

    Raises:
        UnclearPromptError: It cannot.
    """
    if reason := _objection(part, caption, proper, role_given):
        raise refusal(part.phrase, reason)


def check_language(text: str, caption: Sequence[str]) -> None:
    """Refuse text that is not English by its letters or its commonest words."""
    if _FOREIGN.search(text):
        raise refusal(text, "only English is understood")
    tokens = [w for w in words(text) if w]
    foreign = [w for w in tokens if w in grammar("foreign") and w not in caption]
    if foreign and (len(foreign) > 1 or any(not _is_known(w, caption) for w in tokens)):
        raise refusal(text, f"{foreign[0]!r} is not English; only English is understood")


def refusal(text: str, reason: str) -> UnclearPromptError:
    """The error for words that are not understood."""
    shown = shorten(text, LONGEST, placeholder=" ...") or text[:LONGEST]
    return UnclearPromptError(f"{shown!r} is not understood: {reason}")


def with_suggestions(
    error: UnclearPromptError, text: str, caption: str, works: Callable[[str], bool]
) -> UnclearPromptError:
    """The same error with the caption, and with up to three prompts that work for it."""
    candidates = dict.fromkeys(_suggestions(text, words(caption)))
    hints = tuple(islice((hint for hint in candidates if works(hint)), 3))
    shown = " or ".join(f'--to "{hint}"' for hint in hints)
    result = UnclearPromptError(f'{error} (caption: "{caption}"); try {shown}')
    result.hints = hints
    return result


def _objection(
    part: PromptPart, caption: Sequence[str], proper: frozenset[str], role_given: bool
) -> str | None:
    tokens = part.text.split()
    named = part.head.split() if part.options else []
    if part.category == "added":  # "with a flag on it"
        stop = next(
            (i for i, w in enumerate(tokens) if w in grammar("prepositions", "joining")),
            len(tokens),
        )
        named += tokens[stop + 1 :]
    barred = next((w for w in tokens if w in grammar("barred") and w not in named), None)
    if barred:
        return f"{barred!r} describes no image; say what the edited image shows"
    if part.category != "style" and (word := _unknown(part, caption, proper)):
        if not role_given:
            return f"{word!r} is not an English word that zerocon knows"
    if part.category == "object" and not part.options and not locate(caption, part.head):
        if not role_given:
            return f"{part.head!r} is in no word list, so what it replaces is unknown"
    if part.category in ("object", "added", "attribute") and (inner := _inner_article(tokens)):
        return f"{inner!r} inside a noun phrase"
    if part.category in ("object", "added") and (verb := _verb_before(part)):
        return f"{verb!r} is not a property of {part.head!r}"
    return None


def _unknown(part: PromptPart, caption: Sequence[str], proper: frozenset[str]) -> str | None:
    """The first word of a part that is not English, unless it is a name in its place."""
    tokens = part.text.split()
    for i, word in enumerate(tokens):
        if _is_known(word, caption) or word in proper:
            continue
        before_noun = (
            part.category == "place" and i + 1 < len(tokens) and _is_known(tokens[-1], caption)
        )
        if not before_noun:
            return word
    return None


def _is_known(word: str, caption: Sequence[str]) -> bool:
    if word in listed_words():
        return True
    word = vocabulary.possessor(word)
    return (
        not word
        or word.isdigit()
        or word in caption
        or word in listed_words()
        or is_function_word(word)
        or is_english(word)
    )


@cache
def listed_words() -> frozenset[str]:
    """Every word of the lists and of the grammar."""
    names = (
        form
        for category in vocabulary.CATEGORIES
        for e in vocabulary.entries(category)
        for form in (e.name, *e.aliases)
    )
    rules = (
        line
        for heading, lines in sections("grammar.txt").items()
        for line in lines
        if heading not in ("garbage", "foreign", "irregular")
    )
    return frozenset(word for text in (*names, *rules) for word in text.split())


def _inner_article(tokens: Sequence[str]) -> str | None:
    """An article inside a noun phrase, unless it follows "of" or "and"."""
    for i, word in enumerate(tokens):
        if i and word in ("a", "an", "the") and not is_function_word(tokens[i - 1]):
            return word
    return None


def _verb_before(part: PromptPart) -> str | None:
    """A word before the noun that is only a verb: "bring dog"."""
    for word in part.modifiers.split():
        if lookup([word]) or is_property_word(word):
            continue
        kinds = set(lemmas(word)) - {"AUX"}
        if kinds == {"VERB"} and word in lemmas(word)["VERB"]:
            return word
    return None


def _suggestions(text: str, caption: Sequence[str]) -> Iterator[str]:
    """Prompts near a text that was not understood, then others for the caption."""
    start, end = subject(caption)
    name = " ".join(caption[start:end])
    tokens = [w for w in words(text) if w]
    for word in tokens:
        if not _is_known(word, caption) and word.isascii():
            yield from _corrected(tokens, word)
    noun = bare(tokens)
    if noun and name and len(noun) < 4 and all(_is_noun(w, caption) for w in noun):
        if not starts(noun, grammar("prepositions", "joining")) and noun[-1] != name:
            phrase = determined(" ".join(noun))
            yield f"turn the {name} into {phrase}"
            yield f"add {phrase}"
    if name and families(caption, (start, end)) & BEINGS:
        kin = vocabulary.family(lookup(caption[start:end])[0])
        other = next((e.name for e in kin if e.name not in caption), "robot")
        yield f"turn the {name} into {determined(other)}"
    if name:
        yield f"make the {name} blue"
    yield from ("at night", "in the snow", "oil painting", "pencil sketch")


def _is_noun(word: str, caption: Sequence[str]) -> bool:
    return "NOUN" in lemmas(word) or is_property_word(word) or word in caption


def _corrected(tokens: Sequence[str], word: str) -> Iterator[str]:
    """The prompt with a misspelled word corrected, where only that is wrong."""
    near = get_close_matches(word, sorted(listed_words()), n=1, cutoff=0.7)
    swapped = next((w for w in _transposed(word) if w in listed_words()), None)
    for other in [swapped] if swapped else near:
        if other and lookup([other]):
            fixed = [other if w == word else w for w in tokens]
            if all(_is_known(w, ()) for w in fixed) and not set(fixed) & grammar("barred"):
                yield " ".join(fixed)


def _transposed(word: str) -> Iterator[str]:
    """A word with two neighboring letters exchanged: "dgo" -> "dog"."""
    for i in range(len(word) - 1):
        yield word[:i] + word[i + 1] + word[i] + word[i + 2 :]
