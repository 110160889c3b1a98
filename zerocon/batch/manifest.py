"""Manifests: files with one edit per row, as CSV, JSON lines or TOML."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any, get_type_hints

from zerocon.errors import FileFormatError
from zerocon.settings import Settings

PROMPT_COLUMNS = {"to": "to", "from": "from_", "to_caption": "to_caption", "caption": "caption"}
COLUMNS = ("image", *PROMPT_COLUMNS, "mask", "mask_text", "seed", "strength", "name")
INTEGERS = {name for name, kind in get_type_hints(Settings).items() if kind in (int, int | None)}
TRUE, FALSE = {"1", "true", "t", "yes", "y", "on"}, {"0", "false", "f", "no", "n", "off"}


@dataclass(frozen=True)
class ManifestRow:
    """One row: the image, and what the row sets.

    Args:
        location: File and row number, for messages.
        image: The image file.
        name: Template of the result's name, if the row has one.
        prompt: Arguments of ``zerocon.edit``, by name.
        settings: Settings, by name; text is converted to their types.
        mask: File of a mask, if the row has one.
        mask_text: What may change, in words, if the row has it.
    """

    location: str
    image: Path
    name: str | None
    prompt: Mapping[str, str]
    settings: Mapping[str, Any]
    mask: Path | None = None
    mask_text: str | None = None


def read_manifest(file: Path) -> list[ManifestRow]:
    """Read a manifest; its suffix is ``.csv``, ``.jsonl`` or ``.toml``.

    In CSV the first line names the columns and empty cells set nothing; in TOML every edit is a
    table, ``[[edits]]``. Relative paths of images and masks are relative to the manifest.

    Raises:
        FileFormatError: For a file in none of these formats, or an invalid row, with its number.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl, ".toml": _toml}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise FileFormatError(f"{file} must end in {', '.join(readers)}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{file} is not valid UTF-8: {error.reason}") from None
    except OSError as error:
        raise FileFormatError(f"cannot read {file}: {error.strerror}") from error
    return [_row(file, number, cells) for number, cells in reader(file, text)]


def parse_setting(name: str, text: str) -> Any:
    """Convert text to a value of a setting: ``24``, ``true``, ``0..0.6`` (two numbers).

    Text that has none of these forms is returned as it is; ``Settings`` checks the value.
    """
    default = getattr(Settings, name, None)
    if name == "guidance":
        return (text,)
    if isinstance(default, bool):
        return True if text.lower() in TRUE else False if text.lower() in FALSE else text
    try:
        if ".." in text:
            first, _, last = text.partition("..")
            return float(first), float(last)
        return int(text) if name in INTEGERS else float(text)
    except ValueError:
        return text


def _row(file: Path, number: int, cells: dict[str, Any]) -> ManifestRow:
    location = f"{file}, row {number}"
    image, name = cells.pop("image", None), cells.pop("name", None)
    if not isinstance(image, str) or not image:
        raise FileFormatError(f"{location} has no image")
    prompt = {field: cells.pop(key) for key, field in PROMPT_COLUMNS.items() if key in cells}
    mask, mask_text = cells.pop("mask", None), cells.pop("mask_text", None)
    others = {"name": name, "mask": mask, "mask_text": mask_text}
    texts = {**prompt, **{key: text for key, text in others.items() if text is not None}}
    if wrong := [key for key, text in texts.items() if not isinstance(text, str)]:
        raise FileFormatError(f"{location}: {wrong[0]} must be text")
    if mask and mask_text:
        raise FileFormatError(f"{location} has a mask and a mask_text; give one of them")
    try:
        settings = dict(_settings(cells))
    except ValueError as error:
        raise FileFormatError(f"{location}: {error}") from None
    mask = file.parent / mask if mask else None
    return ManifestRow(location, file.parent / image, name, prompt, settings, mask, mask_text)


def _settings(cells: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    names = [each.name for each in fields(Settings)]
    for key, value in cells.items():
        name = key.replace("-", "_")
        if name not in names:
            available = dict.fromkeys([*COLUMNS, *names])
            raise FileFormatError(f'no column "{key}"; available: {", ".join(available)}')
        if isinstance(value, str):
            value = parse_setting(name, value)
        yield name, tuple(value) if isinstance(value, list) else value


def _csv(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(StringIO(text, newline=""), strict=True)
    try:
        for number, row in enumerate(reader, 1):
            if None in row:
                raise FileFormatError(f"{file}, row {number} has more cells than columns")
            yield number, {key.strip(): cell for key, cell in row.items() if cell}
    except csv.Error as error:
        raise FileFormatError(f"{file} is not valid CSV: {error}") from None


def _jsonl(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise FileFormatError(f"{file}, row {number} is not a JSON object")
        yield number, row


def _toml(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FileFormatError(f"{file} is not valid TOML: {error}") from None
    edits = content.pop("edits", None)
    if content or not isinstance(edits, list) or not all(isinstance(e, dict) for e in edits):
        raise FileFormatError(f"{file} must contain only tables named [[edits]]")
    yield from enumerate(edits, 1)
