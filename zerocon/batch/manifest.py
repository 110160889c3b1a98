"""A list of edits in a file: CSV, JSON lines or TOML, a row for each."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from zerocon.errors import FileFormatError

KEYS = ("image", "to", "from", "to_caption", "caption", "seed", "strength", "name")


@dataclass(frozen=True)
class ManifestRow:
    """One line of a list: the picture, and what of ``KEYS`` and of settings it says."""

    where: str
    image: Path
    said: Mapping[str, Any]


def read(file: Path) -> list[ManifestRow]:
    """The rows of a list of edits, by the name's ending: ``.csv``, ``.jsonl`` or ``.toml``.

    In CSV the first line names the columns, and an empty cell says nothing; in TOML every edit is
    a table, ``[[edits]]``. A picture without a folder lies beside the list. Raises ``ValueError``
    for what is none of these, naming file and row.
    """
    kinds = {".csv": _csv, ".jsonl": _jsonl, ".toml": _toml}
    kind = kinds.get(file.suffix.lower())
    if kind is None:
        raise FileFormatError(f"{file} must end in {', '.join(kinds)}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{file} is no text in UTF-8: {error.reason}") from None
    except OSError as error:
        raise FileFormatError(f"cannot read {file}: {error.strerror}") from error
    rows = []
    for number, said in kind(file, text):
        where, image = f"{file}, row {number}", said.pop("image", None)
        if not isinstance(image, str) or not image:
            raise FileFormatError(f"{where} names no picture")
        rows.append(ManifestRow(where, file.parent / image, said))
    return rows


def _csv(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(StringIO(text, newline=""), strict=True)
    try:
        for number, row in enumerate(reader, 1):
            if None in row:
                raise FileFormatError(f"{file}, row {number} has more cells than columns")
            yield number, {key.strip(): cell for key, cell in row.items() if cell}
    except csv.Error as error:
        raise FileFormatError(f"{file} is no CSV: {error}") from None


def _jsonl(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise FileFormatError(f"{file}, row {number} is no JSON object")
        yield number, said


def _toml(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        said = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FileFormatError(f"{file} is no TOML: {error}") from None
    edits = said.pop("edits", None)
    if said or not isinstance(edits, list) or not all(isinstance(each, dict) for each in edits):
        raise FileFormatError(f"{file} must be tables called [[edits]] and nothing else")
    yield from enumerate(edits, 1)
