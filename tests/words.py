"""The withdrawn vocabulary: words that no text or name of zerocon uses, and what to write instead.

``hits`` is for texts (help pages, errors, docs, docstrings, comments), ``name_hits`` for
identifiers. Texts are checked in any case and as whole words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch

WITHDRAWN = {  # a regular expression, and what to write instead
    r"wish(?:es|ed)?": "prompt, edit",
    r"pictures?": "image",
    r"look(?:s|ed|ing)?(?! up\b| for\b| like\b)": "evaluate, recompute, inspect, read, appear",
    r"walk(?:s|ed|ing)?": "denoise, invert, trajectory",
    r"chance": "random, seed",
    r"opinions?": "loss, guidance",
    r"eyes": "captioner, CLIP",
    r"(?:some|no|any|every)body|whoever": "the user, the process, or the passive",
    r"stand(?:s|ing)?|stood": "is, be",
    r"beside": "next to, together with, from the source",
    r"is of another": "does not match",
    r"what was asked(?: for)?": "prompt, request, option",
    r"sentences it was told": "captions",
    r"colours?|coloured|colouring|grey": "color, gray",
    r"behaviours?|centres?|\w+isations?": "American spelling: behavior, center, -ization",
}
NAMES = {"said", "told", "asked", "found", "known", "made", "own"}  # as whole identifiers
NAME_PARTS = {
    "wish", "wishes", "wished", "picture", "pictures", "look", "looks", "looked", "looking",
    "walk", "walks", "walking", "chance", "opinion", "opinions", "eyes", "somebody", "nobody",
    "anybody", "everybody", "whoever", "stand", "stands", "beside", "colour", "colours", "grey",
}  # fmt: skip

EXCEPTIONS = (  # path, words, reason
    ("docs/prompts.md", r"pictures?|look|looks|standing|walking", "words of prompts and captions"),
    ("zerocon/world/*", r"eyes?|beside|standing", "parts, positions and poses of drawn things"),
    ("zerocon/world/captions.py", "picture", "a caption of the training data"),
    ("zerocon/model/guidance_scale.py", "picture", "captions like those of the training data"),
    ("zerocon/recipe/version1.py", "picture|looks", "keys of recipes that zerocon 0.1 wrote"),
    (
        "zerocon/prompt/*",
        r"wish|pictures?|look|looks|beside|standing|everybody",
        "words of prompts and captions",
    ),
    ("zerocon/training/caption_fragments.py", "beside", "a position that captions name"),
)

_TEXT = re.compile(rf"\b(?:{'|'.join(WITHDRAWN)})\b", re.IGNORECASE)


def hits(text: str, path: str = "") -> list[str]:
    """The withdrawn words in ``text``, each with its replacement and the text around it.

    ``path``, relative to the repository, is where the text is from: some files have exceptions.
    """
    return [
        f"{match[0]!r} in {_around(text, match)!r}: write {_replacement(match[0])}"
        for match in _TEXT.finditer(text)
        if not _excepted(match[0], path)
    ]


def name_hits(name: str, path: str = "") -> list[str]:
    """The withdrawn words that an identifier is, or is made of."""
    whole = name.strip("_").lower()
    words = {whole} & NAMES | {part.lower() for part in _parts(name)} & NAME_PARTS
    return [f"{word!r} in the name {name}" for word in sorted(words) if not _excepted(word, path)]


def _parts(name: str) -> Iterator[str]:
    """``EditRequest`` is edit, request; ``edit_request`` too."""
    for part in name.split("_"):
        yield from re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", part)


def _excepted(word: str, path: str) -> bool:
    return any(
        fnmatch(path, pattern) and re.fullmatch(words, word, re.IGNORECASE)
        for pattern, words, _ in EXCEPTIONS
    )


def _replacement(word: str) -> str:
    return next(
        instead
        for pattern, instead in WITHDRAWN.items()
        if re.match(rf"(?:{pattern})$", word, re.IGNORECASE)
    )


def _around(text: str, match: re.Match[str]) -> str:
    start, end = max(0, match.start() - 30), match.end() + 30
    return " ".join(text[start:end].split())
