"""Sentence bank: pairs of sentences that differ in one change, to estimate an edit direction.

pix2pix-zero (arXiv:2302.03027, sec. 3.2) takes the mean difference between the embeddings of two
groups of sentences, written by GPT-3 or from predefined prompts. Here they come from templates, so
that the two groups are equal except for the change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from zerocon.errors import FileFormatError, PromptError
from zerocon.prompt import vocabulary
from zerocon.prompt.change import Change
from zerocon.prompt.parser import parse
from zerocon.prompt.word_files import grammar, sections
from zerocon.storage.escaping import has_control_characters

LONGEST_FILE, MOST_SENTENCES = 1_000_000, 10_000  # bytes, and lines; a bank has a few hundred
LONGEST_LINE = 10_000  # characters of a sentence; the text encoder reads a few hundred of them


def pairs(change: Change, limit: int = 72) -> tuple[list[str], list[str]]:
    """Source and target sentences that differ in the change and in nothing else.

    Sentence i of both lists comes from one template, and no sentence occurs twice. Swapping source
    and target of the change swaps the lists.

    Args:
        change: What differs.
        limit: Largest number of pairs.

    Returns:
        Two lists of equal length, at least 64 unless ``limit`` is smaller.

    Raises:
        ValueError: Source and target are equal, the category is unknown, or ``limit`` is below 1.
    """
    if change.source == change.target:
        raise ValueError(f"nothing changes: source and target are both {change.source!r}")
    if change.category not in (*vocabulary.CATEGORIES, "caption"):
        names = ", ".join((*vocabulary.CATEGORIES, "caption"))
        raise ValueError(f"no category {change.category!r}; there are: {names}")
    if limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1")
    source: dict[str, None] = {}
    target: dict[str, None] = {}
    for before, after in _sentences(change):
        if before not in source and after not in target:
            source[before] = target[after] = None
        if len(source) == limit:
            break
    return list(source), list(target)


def about(phrase: str, limit: int = 72) -> list[str]:
    """Sentences with a phrase ("cat", "at night"): one side of ``pairs``.

    At most ``limit``, none twice. A phrase of several parts is used as a whole caption.

    Raises:
        PromptError: The phrase names nothing.
    """
    if not (parts := parse(phrase)):
        raise PromptError(f"{phrase!r} names nothing; give an object, a place, a style ...")
    category, text = ("caption", phrase) if len(parts) != 1 else (parts[0].category, parts[0].text)
    if category not in ("object", "caption"):
        return pairs(Change(category, text, ""), limit)[0]
    templates = sections(f"templates/{category}.txt")[""]
    return list(dict.fromkeys(_fill(template, text) for template in templates))[:limit]


def read(path: Path | str) -> list[str]:
    """Sentences of a UTF-8 file, one per line; blank lines and lines with # are skipped.

    Raises:
        FileFormatError: The file is missing, too long, not UTF-8, has control characters or no
            sentences, or a line that is longer than any sentence.
    """
    try:
        with Path(path).open("rb") as opened:
            data = opened.read(LONGEST_FILE + 1)
        _require_short(path, data)
        lines = [" ".join(line.split()) for line in data.decode("utf-8-sig").splitlines()]
        _require_few(path, len(lines))
    except OSError as error:
        raise FileFormatError(f"cannot read sentences from {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not UTF-8 text; give one sentence per line") from error
    if not (sentences := [line for line in lines if line and not line.startswith("#")]):
        raise FileFormatError(f"{path} contains no sentences; give one per line")
    if any(len(line) > LONGEST_LINE or has_control_characters(line) for line in sentences):
        raise FileFormatError(
            f"{path} contains control characters, or a line of more than {LONGEST_LINE} letters"
        )
    return sentences


def _require_short(path: Path | str, data: bytes) -> None:
    if len(data) > LONGEST_FILE:
        raise FileFormatError(f"{path} has more than {LONGEST_FILE} bytes")
    _require_few(path, data.count(b"\n"))


def _require_few(path: Path | str, lines: int) -> None:
    if lines > MOST_SENTENCES:
        raise FileFormatError(f"{path} has more than {MOST_SENTENCES} lines")


def _sentences(change: Change) -> Iterator[tuple[str, str]]:
    """Pairs from all templates, then again with the next nouns; may repeat sentences."""
    templates = sections(f"templates/{change.category}.txt")[""]
    if change.category == "object" and not (change.source and change.target):
        templates = sections("templates/added.txt")[""]
    if change.category in ("object", "caption") and change.source and change.target:
        for template in templates:
            yield _fill(template, change.source), _fill(template, change.target)
        return
    nouns = _nouns(change)
    plain = sections("templates/nouns.txt")["plain styles"]
    for turn in range(len(nouns)):
        for i, template in enumerate(templates):
            # the caption's noun in every second sentence of the first turn, then all nouns in turn
            noun = nouns[0] if turn == 0 and i % 2 == 0 else nouns[(i + turn) % len(nouns)]
            default = plain[(i + turn) % len(plain)].removeprefix("-")
            yield (
                _sentence(change.category, template, change.source, noun, default),
                _sentence(change.category, template, change.target, noun, default),
            )


def _sentence(category: str, template: str, value: str, noun: str, default: str) -> str:
    """One template with ``value`` ("" for a sentence without it) said of ``noun``."""
    if category == "attribute":
        return _fill(template, vocabulary.attributed(value, noun) if value else noun)
    if category == "action":
        return _fill(template, f"{noun} {value}".strip())
    if category in ("added", "object"):
        return _fill(template, f"{noun} {vocabulary.joined(value)}" if value else noun)
    if category == "style":
        scene = _fill(template, "", noun)
        return vocabulary.styled(value, scene) if value else f"{default} {scene}".strip()
    return _fill(template, vocabulary.placed(value), noun)


def _fill(template: str, value: str, noun: str = "") -> str:
    """A template with its placeholders filled, and the articles before them corrected."""
    for placeholder, filler in (("{noun}", noun), ("{}", value)):
        phrase = re.compile(rf"\ban? ((?:[\w-]+ )?){re.escape(placeholder)}")
        if match := phrase.search(template):
            count, _, rest = filler.partition(" ")
            if count in grammar("numbers"):
                text = f"{count} {match[1]}{rest}"
            else:
                text = vocabulary.determined(match[1] + filler)
            template = template[: match.start()] + text + template[match.end() :]
        template = template.replace(placeholder, filler)
    return " ".join(template.replace(" ,", ",").split())


def _nouns(change: Change) -> list[str]:
    """Nouns for the sentences of a change: the caption's, then related ones, then general ones."""
    bank = sections("templates/nouns.txt")
    general = bank.get(change.category, bank["any"])
    noun = [change.noun] if change.noun else []
    related = [
        other.name
        for entry in vocabulary.lookup(vocabulary.words(change.noun))
        if entry.category == "object"
        for other in vocabulary.family(entry)[:12]
    ]
    used = set(vocabulary.words(f"{change.source} {change.target}"))
    nouns = dict.fromkeys([*noun, *related, *general])
    return [each for each in nouns if each == change.noun or each not in used]
