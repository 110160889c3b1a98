"""Manifests: files with one edit per row, as CSV, JSON lines or TOML."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from io import StringIO
from math import isfinite, nan
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from zerocon.errors import FileFormatError
from zerocon.exemplar.translation_settings import TranslationSettings
from zerocon.settings import Settings
from zerocon.storage import strict_json
from zerocon.storage.bounded import read_text
from zerocon.storage.escaping import has_control_characters, one_line

PROMPT_COLUMNS = {"to": "to", "from": "from_", "to_caption": "to_caption", "caption": "caption"}
COLUMNS = (
    "image", *PROMPT_COLUMNS, "mask", "mask_text", "exemplar", "seed", "strength", "name",
)  # fmt: skip
# of a row with an exemplar; "steps" and "seed" are settings of an edit too
TRANSLATION_COLUMNS = tuple(each.name for each in fields(TranslationSettings))
INTEGERS = {name for name, kind in get_type_hints(Settings).items() if kind in (int, int | None)}
EXCLUSIVE = (("mask", "mask_text"), ("to", "to_caption"), ("from", "to_caption"))
SHOWN = 10  # invalid rows in a message
LONGEST, LONGEST_TOML = 256_000_000, 4_000_000  # bytes; TOML takes a second per million
LONGEST_CELL = 10_000  # characters; paths and prompts are shorter
T = TypeVar("T")
TRUE, FALSE = {"1", "true", "t", "yes", "y", "on"}, {"0", "false", "f", "no", "n", "off"}


@dataclass(frozen=True)
class ManifestRow:
    """One row: the image, and what the row sets.

    Args:
        image: The image file.
        name: Template of the result's name, if the row has one.
        prompt: Arguments of ``zerocon.edit``, by name.
        settings: Settings, by name; text is converted to their types.
        mask: File of a mask, if the row has one.
        mask_text: What may change, in words, if the row has it.
        exemplars: Files with their weights, if the row is a translation.
    """

    image: Path
    name: str | None
    prompt: Mapping[str, str]
    settings: Mapping[str, Any]
    mask: Path | None = None
    mask_text: str | None = None
    exemplars: tuple[tuple[Path, float], ...] = ()


def read_manifest(file: Path, convert: Callable[[ManifestRow], T]) -> list[T]:
    """Read a manifest; its suffix is ``.csv``, ``.jsonl`` or ``.toml``.

    In CSV the first line names the columns and empty cells set nothing; in TOML every edit is a
    table, ``[[edits]]``. Relative paths of images and masks are relative to the manifest.

    Args:
        file: The manifest.
        convert: Called with every valid row; a ``FileFormatError`` that it raises is the row's.

    Returns:
        What ``convert`` returned.

    Raises:
        FileFormatError: For a file in none of these formats, and for invalid rows, with the place
            and the reason of the first ten.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl, ".toml": _toml}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise FileFormatError(f"{file} must end in {', '.join(readers)}")
    text = read_text(file, longest=LONGEST_TOML if reader is _toml else LONGEST)
    rows, problems = list[T](), list[str]()
    for place, cells in reader(file, text):
        try:
            if isinstance(cells, str):
                raise FileFormatError(cells)
            rows.append(convert(_row(file, cells)))
        except FileFormatError as error:
            # "column to: ..." goes on with the place
            problems.append(f"{place}{', ' if str(error).startswith('column ') else ': '}{error}")
    _require_none(file, problems)
    return rows


def cell_error(column: str, problem: object) -> FileFormatError:
    """The error of one cell of a row."""
    return FileFormatError(f"column {column}: {problem}")


def _require_none(file: Path, problems: list[str]) -> None:
    if len(problems) == 1:
        raise FileFormatError(f"{file}, {problems[0]}")
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        shown = "; ".join(problems[:SHOWN])
        raise FileFormatError(f"{file} has {len(problems)} invalid rows: {shown}{more}")


def parse_setting(name: str, text: str) -> Any:
    """Convert text to a value of a setting: ``24``, ``true``, ``0..0.6`` (two numbers).

    Text that has none of these forms is returned as it is; ``Settings`` checks the value.
    """
    default = getattr(Settings, name, None)
    if name in ("guidance", "attention"):
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


def _row(file: Path, cells: dict[str, Any]) -> ManifestRow:
    image, name = cells.pop("image", None), cells.pop("name", None)
    if not isinstance(image, str) or not image:
        raise cell_error("image", "no image")
    if "exemplar" in cells:
        return _translation(file, image, name, cells)
    texts = {key: cells.pop(key) for key in PROMPT_COLUMNS if key in cells}
    mask, mask_text = cells.pop("mask", None), cells.pop("mask_text", None)
    prompt = {PROMPT_COLUMNS[key]: text for key, text in texts.items()}
    others = {"name": name, "mask": mask, "mask_text": mask_text}
    texts |= {key: text for key, text in others.items() if text is not None}
    if wrong := [key for key, text in texts.items() if not isinstance(text, str)]:
        raise cell_error(wrong[0], f"must be text, not {one_line(repr(texts[wrong[0]]), 80)}")
    for key, text in {**texts, "image": image}.items():
        if len(text) > LONGEST_CELL or has_control_characters(text):
            raise cell_error(key, f"control characters, or more than {LONGEST_CELL} characters")
    for one, other in EXCLUSIVE:
        if texts.get(one) and texts.get(other):
            raise cell_error(other, f"the row has a {one} too; give one of them")
    settings = dict(_settings(cells))
    mask = file.parent / mask if mask else None
    return ManifestRow(file.parent / image, name, prompt, settings, mask, mask_text)


def _translation(file: Path, image: str, name: Any, cells: dict[str, Any]) -> ManifestRow:
    """A row with an exemplar: ``FILE[:W]``, or a list of several in JSON and TOML."""
    given = cells.pop("exemplar")
    texts = given if isinstance(given, list) else [given]
    texts = [*texts, *([] if name is None else [name])]
    if not all(isinstance(text, str) and text for text in texts):
        raise cell_error("exemplar", f"must be text, not {one_line(repr(given), 80)}")
    for text in (image, *texts):
        if len(text) > LONGEST_CELL or has_control_characters(text):
            raise cell_error("exemplar", f"control characters, or more than {LONGEST_CELL} of any")
    settings = {}
    for key, value in cells.items():
        column = _setting_name(key)
        if column not in TRANSLATION_COLUMNS:
            raise cell_error(key, "the row has an exemplar, and a translation has no such column")
        settings[column] = _parse_cell(column, value)
    pairs = [_weighted(file, text) for text in texts[: len(texts) - (name is not None)]]
    return ManifestRow(file.parent / image, name, {}, settings, exemplars=tuple(pairs))


def _parse_cell(column: str, value: Any) -> Any:
    """A value of a setting of a translation, which is text in CSV."""
    default = getattr(TranslationSettings, column)
    if not isinstance(value, str) or isinstance(default, str):
        return value
    try:
        if isinstance(default, tuple):
            first, _, last = value.partition("..")
            return float(first), float(last)
        return type(default)(value)
    except ValueError:
        return value  # ``TranslationSettings`` says what is wrong


def _weighted(file: Path, text: str) -> tuple[Path, float]:
    """A file, relative to the manifest, and its weight: ``FILE`` or ``FILE:WEIGHT``."""
    name, colon, number = text.rpartition(":")
    if not colon or (file.parent / text).is_file():
        return file.parent / text, 1.0
    try:
        weight = float(number)
    except ValueError:
        weight = nan
    if not (isfinite(weight) and weight > 0):
        raise cell_error("exemplar", f"{number!r} is not a weight above 0: FILE:WEIGHT")
    return file.parent / name, weight


def _settings(cells: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in cells.items():
        _require_column(key)
        name = _setting_name(key)
        if name not in [each.name for each in fields(Settings)]:
            raise cell_error(key, "only a row with an exemplar has it")
        if isinstance(value, str):
            value = parse_setting(name, value)
        yield name, tuple(value) if isinstance(value, list) else value


def _setting_name(column: str) -> str:
    return column.replace("-", "_")


def _require_column(key: str) -> None:
    names = [each.name for each in fields(Settings)]
    if key not in COLUMNS and _setting_name(key) not in (*names, *TRANSLATION_COLUMNS):
        available = dict.fromkeys([*COLUMNS, *names, *TRANSLATION_COLUMNS])
        name = one_line(key, 80)
        raise FileFormatError(f'no column "{name}"; available: {", ".join(available)}')


Rows = Iterator[tuple[str, dict[str, Any] | str]]  # place of a row, and its cells or its fault


def _csv(file: Path, text: str) -> Rows:
    reader = csv.DictReader(StringIO(text, newline=""), strict=True)
    try:
        _require_header(file, [name.strip() for name in reader.fieldnames or ()])
        for number, row in enumerate(reader, 1):
            cells = [cell for cell in row.values() if isinstance(cell, str)]
            line = reader.line_num - sum(cell.count("\n") for cell in cells)
            place = f"row {number} (line {line})"
            if None in row:
                yield place, "more cells than columns"
                continue
            yield place, {key.strip(): cell for key, cell in row.items() if cell}
    except csv.Error as error:
        raise FileFormatError(
            f"{file}, line {reader.reader.line_num} is not valid CSV: {error}"
        ) from None


def _require_header(file: Path, columns: list[str]) -> None:
    """Check the first line: a fault in it is one of the file, not of every row."""
    twice = [name for name in columns if columns.count(name) > 1]
    try:
        if "image" not in columns:
            raise FileFormatError('no column "image"; the first line names the columns')
        if twice:
            raise FileFormatError(f'two columns "{twice[0]}"')
        for name in columns:
            _require_column(name)
    except FileFormatError as error:
        raise FileFormatError(f"{file}, line 1: {error}") from None


def _jsonl(file: Path, text: str) -> Rows:
    # not splitlines, which divides a text at characters that JSON allows in it
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    for row, (number, line) in enumerate(lines, 1):
        try:
            content = strict_json.parse(line)
        except ValueError:
            content = None
        cells = content if isinstance(content, dict) else "not a JSON object"
        yield f"row {row} (line {number})", cells


def _toml(file: Path, text: str) -> Rows:
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: an integer of 5,000 digits
        raise FileFormatError(f"{file} is not valid TOML: {one_line(error, 200)}") from None
    edits = content.pop("edits", None)
    if content or not isinstance(edits, list) or not all(isinstance(e, dict) for e in edits):
        raise FileFormatError(f"{file} must contain only tables named [[edits]]")
    yield from ((f"row {number}", cells) for number, cells in enumerate(edits, 1))
