"""Cleaning of prompts (syntax of other tools) and of captions (artifacts of BLIP's tokenizer).

Each table is a list of rules that are applied in order; a rule is a pattern, what replaces it, and
an example of what it changes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from zerocon.prompt.vocabulary import determined, is_boundary, lookup, words
from zerocon.prompt.word_files import grammar


@dataclass(frozen=True)
class CleaningRule:
    """A pattern that is replaced in a text.

    Attributes:
        name: What it removes; part of the note.
        pattern: A regular expression, matched without regard to case.
        replacement: As in ``re.sub``.
        example: A text that it changes.
        noted: Whether the user is told.
    """

    name: str
    pattern: str
    replacement: str
    example: str
    noted: bool = True


PROMPT_RULES = (
    CleaningRule("tags", r"<[^<>]*>", " ", "<lora:film:0.8> dog"),
    CleaningRule("parameters", r"(?<!\S)--\w+(?:[ =][\d.:]+)?", " ", "dog --ar 16:9"),
    CleaningRule(
        "weights", r"([^\s():,\[\]{}]):\s*-?\d+(?:\.\d+)?(?=\s*[)\]}])", r"\1", "(dog:1.3)"
    ),
    CleaningRule("brackets", r"[()\[\]{}]+", " ", "[dog]"),
    CleaningRule("escapes", r"\\+", " ", r"dog \(animal\)"),
    CleaningRule(
        "symbols",
        "[\u2190-\u2191\u2193-\u21d1\u21d3-\u2bff\u3030\ufe0f\u200d\U0001f000-\U0001faff#*_~^|]+",
        " ",
        "dog \U0001f436",
    ),
    CleaningRule(
        "quotes", '["\u201c\u201d\u201e\u00ab\u00bb\u2039\u203a`]+', " ", '"dog"', noted=False
    ),
    CleaningRule("quotes", "[\u2018\u2019\u00b4]", "'", "the cat\u2019s hat", noted=False),
    CleaningRule("quotes", r"(?<!\w)'|(?<!s)'(?![\w-])", " ", "'dog'", noted=False),
    CleaningRule("marks", r"[!?.\u2026]+(?=\s|$)", " ", "dog!!!", noted=False),
    CleaningRule("abbreviations", r"(?<!\w)w/ ?(?!o)", "with ", "cat w/ hat", noted=False),
    CleaningRule("abbreviations", r"(?<!\w)w/o(?!\w)", "without", "cat w/o hat", noted=False),
    CleaningRule(
        "colons", r"^(add|remove|replace|change|put|make)\s*:", r"\1", "add: a hat", noted=False
    ),
    CleaningRule("spaces", r"\s+([,;])", r"\1", "dog , beach", noted=False),
)
POLITE = CleaningRule(
    "politeness",
    r"^(?:(?:hi|hello|hey|ok|okay|so|now|just|then|please|pls|kindly)\b[, ]*"
    r"|(?:also|and|but) (?!an? |some |two |three )"
    r"|(?:can|could|would|will) (?:you|u|we) (?:please )?"
    r"|(?:i|we) (?:want|need|wish|would like|'d like|would love)(?: you)? to (?:see |have )?"
    r"|i'd (?:like|love) (?:you )?to (?:see |have )?"
    r"|(?:i|we) (?:want|need|would like|would love) (?=(?:an? |some )(?!.* (?:on|in|to) the ))"
    r"|i'd like (?=(?:an? |some )(?!.* (?:on|in|to) the ))"
    r"|i'd like (?!an? |some |to |the |it |him |her |them )"
    r"|(?:everyone|everybody|they|he|she|all) (?:is |are )?(?=\w+ing\b)"
    r"|(?:the )?same (?:photo|image|picture|thing|\w+),? but (?:with |it's |it is )?"
    r"|keep (?:everything|all|it all|the rest)(?: else)?(?: the same| as is)?,? "
    r"(?:but|and|just|only) "
    r"|(?:only|just|maybe|simply) |(?:both|all)(?: of them)? (?=wearing|with|holding|in )"
    r"|this(?: one)?,? but (?:with |it's |it is )?"
    r"|let's |let us |try to "
    r"|edit (?:it|this|the (?:image|photo|picture)) (?:so that|to) )"
    r"|(?:,? (?:please|pls|thanks|thank you|now))+$",
    "",
    "can you add a hat please",
    noted=False,
)
CAPTION_RULES = (
    CleaningRule("apostrophe", r"\s*[\u2019']\s+(?=(?:s|t|re|ve|ll|d|m)\b)", "'", "a cat ' s face"),
    CleaningRule("apostrophe", r"(?<=s) ['\u2019](?=\s|$)", "'", "two dogs ' heads"),
    CleaningRule("hyphen", r"(?<=\w)\s*-\s+(?=\w)|(?<=\w)\s+-(?=\w)", "-", "a close - up of a cat"),
    CleaningRule("marks", r"\s+(?=[,.;!?])", "", "a cat , asleep"),
    CleaningRule(
        "doubled", r"\b(?!chow )(\w[\w' ]*?)(?: \1)+(?![\w'-])", r"\1", "a cat cat sitting sitting"
    ),
)


def clean_prompt(text: str) -> tuple[str, tuple[str, ...]]:
    """A prompt without the syntax of other tools, and a note for each kind that was removed."""
    text, notes = _rejoined(text), []
    for rule in PROMPT_RULES:
        cleaned = re.sub(rule.pattern, rule.replacement, text, flags=re.IGNORECASE)
        if cleaned != text and rule.noted:
            notes.append(rule.name)
        text = cleaned
    text = " ".join(text.split()).strip(" ,;:-+&/")
    while (shorter := re.sub(POLITE.pattern, "", text, flags=re.IGNORECASE).strip()) != text:
        text = shorter
    if notes:
        return text, (f"{' and '.join(dict.fromkeys(notes))} in the prompt have no effect",)
    return text, ()


def without_quality_tags(clauses: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Clauses of a prompt without those that only praise it ("masterpiece"), and a note."""
    tags = grammar("quality tags")
    listed = [len(clauses) == 1 and bool(lookup(words(clause))) for clause in clauses]
    praise = [c.lower() in tags and not keep for c, keep in zip(clauses, listed, strict=True)]
    dropped = [clause for clause, drop in zip(clauses, praise, strict=True) if drop]
    kept = [clause for clause, drop in zip(clauses, praise, strict=True) if not drop]
    note = f"{', '.join(map(repr, dropped))} names nothing visible: left out"
    return kept, (note,) if dropped else ()


def _rejoined(text: str) -> str:
    for rule in CAPTION_RULES[:-1]:
        text = re.sub(rule.pattern, rule.replacement, text, flags=re.IGNORECASE)
    return text


def clean_caption(caption: str) -> str:
    """A caption with hyphens and apostrophes rejoined, without doubled and garbage words.

    Idempotent. Openings ("there is", "a photo of") are kept.
    """
    text = " ".join(caption.split())
    while True:
        before = text
        for rule in CAPTION_RULES:
            text = re.sub(rule.pattern, rule.replacement, text, flags=re.IGNORECASE)
        if text == before:
            break
    return _without_garbage(text)


def _without_garbage(text: str) -> str:
    """A caption without BLIP's invented words, which come in place of an article.

    A garbage word that is itself the only noun ("araffe standing in a field") stays.
    """
    tokens = text.split()
    lower = words(text)
    i = next((i for i, w in enumerate(lower) if w in grammar("garbage")), None)
    if i is None:
        return text
    rest = lower[i + 1 :]
    if not rest or is_boundary(rest, 0) or (len(rest) > 1 and rest[0].endswith("ing")):
        return text
    front, back = tokens[:i], tokens[i + 1 :]
    if front and lower[i - 1] in ("a", "an"):
        front = front[:-1]
    phrase = " ".join(back)
    if not front or lower[i - 1] not in grammar("determiners", "numbers") - {"a", "an"}:
        phrase = determined(phrase)
    return _without_garbage(" ".join([*front, phrase]))
