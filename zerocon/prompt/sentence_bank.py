"""The bank of sentences: one change said in many ways, with and without it (pix2pix-zero, 3.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from zerocon.errors import FileFormatError, PromptError
from zerocon.prompt import Change, vocabulary
from zerocon.prompt.parser import parse


def pairs(change: Change, limit: int = 72) -> tuple[list[str], list[str]]:
    """Source and target sentences that differ by the change and by nothing else.

    Both lists have the same length, at most `limit` and, unless `limit` says less, at least 64;
    sentence i of both comes from one template, and no sentence comes twice. Swapping the
    change's source and target swaps the lists. Raises ValueError for a change that is none.
    """
    if change.source == change.target:
        raise ValueError(f"nothing changes: source and target are both {change.source!r}")
    if change.category not in (*vocabulary.CATEGORIES, "caption"):
        known = ", ".join((*vocabulary.CATEGORIES, "caption"))
        raise ValueError(f"no category {change.category!r}; there are: {known}")
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
    """Sentences that all say a phrase ("cat", "at night"): one side of `pairs` by itself.

    At most `limit`, none twice. For a phrase of several parts they are looser: "a view of ...".
    Raises ValueError for a phrase that names nothing.
    """
    if not (parts := parse(phrase)):
        raise PromptError(f"{phrase!r} names nothing; say a thing, a place, a style ...")
    category, said = ("caption", phrase) if len(parts) != 1 else (parts[0].category, parts[0].text)
    if category not in ("object", "caption"):
        return pairs(Change(category, said, ""), limit)[0]
    templates = vocabulary.sections(f"templates/{category}.txt")[""]
    return list(dict.fromkeys(_fill(template, said) for template in templates))[:limit]


def read(path: Path | str) -> list[str]:
    """The user's own sentences: a UTF-8 file, one a line; blank lines and # comments are left out.

    Raises ValueError for a file that is not there, is no such text, or says nothing.
    """
    try:
        lines = [" ".join(line.split()) for line in Path(path).read_text("utf-8-sig").splitlines()]
    except OSError as error:
        raise FileFormatError(f"cannot read sentences from {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is no text in UTF-8; give sentences, one a line") from error
    if not (said := [line for line in lines if line and not line.startswith("#")]):
        raise FileFormatError(f"{path} has no sentences in it")
    return said


def _sentences(change: Change) -> Iterator[tuple[str, str]]:
    templates = vocabulary.sections(f"templates/{change.category}.txt")[""]
    if change.category == "object" and not (change.source and change.target):
        templates = vocabulary.sections("templates/added.txt")[""]
    if change.category in ("object", "caption") and change.source and change.target:
        for template in templates:
            yield _fill(template, change.source), _fill(template, change.target)
        return
    nouns = _nouns(change)
    plain = vocabulary.sections("templates/nouns.txt")["plain styles"]
    for turn in range(len(nouns)):
        for i, template in enumerate(templates):
            # the noun of the caption in every second sentence, the others in turn
            noun = nouns[0] if turn == 0 and i % 2 == 0 else nouns[(i + turn) % len(nouns)]
            default = plain[(i + turn) % len(plain)].removeprefix("-")
            yield (
                _say(change.category, template, change.source, noun, default),
                _say(change.category, template, change.target, noun, default),
            )


def _say(category: str, template: str, value: str, noun: str, default: str) -> str:
    if category == "attribute":
        return _fill(template, vocabulary.attributed(value, noun) if value else noun)
    if category in ("added", "object"):
        return _fill(template, f"{noun} {vocabulary.joined(value)}" if value else noun)
    if category == "style":
        scene = _fill(template, "", noun)
        return vocabulary.styled(value, scene) if value else f"{default} {scene}".strip()
    return _fill(template, vocabulary.placed(value), noun)


def _fill(template: str, value: str, noun: str = "") -> str:
    """A template with its holes filled and the articles before them put right."""
    for hole, filler in (("{noun}", noun), ("{}", value)):
        phrase = re.compile(rf"\ban? ((?:[\w-]+ )?){re.escape(hole)}")
        if match := phrase.search(template):
            count, _, rest = filler.partition(" ")
            if count in vocabulary.grammar("numbers"):
                said = f"{count} {match[1]}{rest}"
            else:
                said = vocabulary.determined(match[1] + filler)
            template = template[: match.start()] + said + template[match.end() :]
        template = template.replace(hole, filler)
    return " ".join(template.replace(" ,", ",").split())


def _nouns(change: Change) -> list[str]:
    """Nouns to say a change of, the caption's own first, then those most like it."""
    bank = vocabulary.sections("templates/nouns.txt")
    general = bank.get(change.category, bank["any"])
    own = [change.noun] if change.noun else []
    kin = [
        other.name
        for entry in vocabulary.lookup(vocabulary.words(change.noun))
        if entry.category == "object"
        for other in vocabulary.family(entry)[:12]
    ]
    said = set(vocabulary.words(f"{change.source} {change.target}"))
    return [n for n in dict.fromkeys([*own, *kin, *general]) if n == change.noun or n not in said]
