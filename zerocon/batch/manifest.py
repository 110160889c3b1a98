"""Manifests: files with one edit per row, as CSV, JSON lines or TOML."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from math import isfinite, nan
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from zerocon.errors import FileFormatError
from zerocon.exemplar.translation_settings import TranslationSettings
from zerocon.settings import Settings
from zerocon.storage import strict_json, strict_toml
from zerocon.storage.bounded import read_lines, read_text
from zerocon.storage.escaping import has_control_characters, one_line

PROMPT_COLUMNS = {"to": "to", "from": "from_", "to_caption": "to_caption", "caption": "caption"}
COLUMNS = (
    "image", *PROMPT_COLUMNS, "mask", "mask_text", "exemplar", "seed", "strength", "name",
)  # fmt: skip
# of a row with an exemplar; "steps" and "seed" are settings of an edit too
TRANSLATION_COLUMNS = tuple(each.name for each in fields(TranslationSettings))
SETTINGS = tuple(each.name for each in fields(Settings))
AVAILABLE = tuple(dict.fromkeys([*COLUMNS, *SETTINGS, *TRANSLATION_COLUMNS]))
INTEGERS = {name for name, kind in get_type_hints(Settings).items() if kind in (int, int | None)}
EXCLUSIVE = (("mask", "mask_text"), ("to", "to_caption"), ("from", "to_caption"))
SHOWN = 10  # invalid rows in a message
MOST_INVALID = 50  # rows, after which no more are read
MOST_ROWS = 100_000  # of which each takes 2,500 bytes of memory and the length of its texts
LONGEST, LONGEST_TOML = 64_000_000, 1_000_000  # bytes; TOML takes a second per million
LONGEST_ROW = 100_000  # characters
MOST_LINES = 1_000_000  # of CSV, where cells may have several, or of JSON with empty ones
LONGEST_CELL = 10_000  # characters; paths and prompts are shorter
MOST_EXEMPLARS = 64  # of a row
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
        FileFormatError: For a file in none of these formats, for more than ``MOST_ROWS`` rows, and
            for invalid rows, with the place and the reason of the first ten.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl, ".toml": _toml}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise FileFormatError(f"{file} must end in {', '.join(readers)}")
    rows, problems, source = list[T](), list[str](), reader(file)
    for _ in _limited(file, source()):  # first, since converting rows takes much longer
        pass
    for place, decode in _limited(file, source()):
        try:
            rows.append(convert(_row(file, decode())))
        except FileFormatError as error:
            # "column to: ..." goes on with the place
            problems.append(f"{place}{', ' if str(error).startswith('column ') else ': '}{error}")
            if len(problems) > MOST_INVALID:
                break
    _require_none(file, problems)
    return rows


def _limited(file: Path, rows: Rows) -> Rows:
    for number, row in enumerate(rows):
        if number == MOST_ROWS:
            raise FileFormatError(f"{file} has more than {MOST_ROWS} rows; divide it")
        yield row


def cell_error(column: str, problem: object) -> FileFormatError:
    """The error of one cell of a row."""
    return FileFormatError(f"column {column}: {problem}")


def _require_none(file: Path, problems: list[str]) -> None:
    if len(problems) == 1:
        raise FileFormatError(f"{file}, {problems[0]}")
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        shown, count = "; ".join(problems[:SHOWN]), str(len(problems))
        if len(problems) > MOST_INVALID:  # the rest was not read
            more, count = "; ...", f"more than {MOST_INVALID}"
        raise FileFormatError(f"{file} has {count} invalid rows: {shown}{more}")


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


def _row(file: Path, given: Cells) -> ManifestRow:
    cells = dict(given)
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
    if len(texts) > MOST_EXEMPLARS:
        raise cell_error("exemplar", f"more than {MOST_EXEMPLARS}")
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
        if name not in SETTINGS:
            raise cell_error(key, "only a row with an exemplar has it")
        if isinstance(value, str):
            value = parse_setting(name, value)
        yield name, tuple(value) if isinstance(value, list) else value


def _setting_name(column: str) -> str:
    return column.replace("-", "_")


def _require_column(key: str) -> None:
    if key not in COLUMNS and _setting_name(key) not in AVAILABLE:
        name = one_line(key, 80)
        raise FileFormatError(f'no column "{name}"; available: {", ".join(AVAILABLE)}')


Cells = Mapping[str, Any]
Rows = Iterator[tuple[str, Callable[[], Cells]]]  # place of a row, and what decodes its cells


def _lines(file: Path) -> Iterator[str]:
    return read_lines(file, longest=LONGEST, longest_line=LONGEST_ROW, most_lines=MOST_LINES)


def _csv(file: Path) -> Callable[[], Rows]:
    return partial(_csv_rows, file)


def _csv_rows(file: Path) -> Rows:
    size = 0  # of the row that is read

    def lines() -> Iterator[str]:
        nonlocal size
        for line in _lines(file):
            size += len(line)
            if size > LONGEST_ROW and line != "\n":
                raise FileFormatError(f"{file} has a row of more than {LONGEST_ROW} characters")
            yield line

    reader = csv.reader(lines(), strict=True)
    try:
        columns = [name.strip() for name in next(reader, ())]
        _require_header(file, columns)
        number = size = wide = 0
        for row in reader:
            wide += len(row) > len(columns)
            if wide > MOST_INVALID + 1:
                return  # what follows is not read either
            if row:  # a blank line is none
                number += 1
                line = reader.line_num - sum(cell.count("\n") for cell in row)
                yield f"row {number} (line {line})", partial(_csv_cells, columns, row)
            size = 0
    except csv.Error as error:
        raise FileFormatError(f"{file}, line {reader.line_num} is not valid CSV: {error}") from None


def _csv_cells(columns: Sequence[str], row: Sequence[str]) -> Cells:
    if len(row) > len(columns):
        raise FileFormatError("more cells than columns")
    return {name: cell for name, cell in zip(columns, row, strict=False) if cell}


def _require_header(file: Path, columns: list[str]) -> None:
    """Check the first line: a fault in it is one of the file, not of every row."""
    twice = [name for name, count in Counter(columns).items() if count > 1]
    try:
        if "image" not in columns:
            raise FileFormatError('no column "image"; the first line names the columns')
        if twice:
            raise FileFormatError(f'two columns "{twice[0]}"')
        for name in columns:
            _require_column(name)
    except FileFormatError as error:
        raise FileFormatError(f"{file}, line 1: {error}") from None


def _jsonl(file: Path) -> Callable[[], Rows]:
    return partial(_jsonl_rows, file)


def _jsonl_rows(file: Path) -> Rows:
    lines = ((number, line) for number, line in enumerate(_lines(file), 1) if line.strip())
    for row, (number, line) in enumerate(lines, 1):
        yield f"row {row} (line {number})", partial(_json_cells, line)


def _json_cells(line: str) -> Cells:
    try:
        content = strict_json.parse(line)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise FileFormatError("not a JSON object")
    return content


def _toml(file: Path) -> Callable[[], Rows]:
    text = read_text(file, longest=LONGEST_TOML)
    try:
        content = strict_toml.parse(text, most_dots=1)
    except (ValueError, RecursionError) as error:  # ValueError: an integer of 5,000 digits
        raise FileFormatError(f"{file} is not valid TOML: {one_line(error, 200)}") from None
    edits = content.pop("edits", None)
    if content or not isinstance(edits, list) or not all(isinstance(e, dict) for e in edits):
        raise FileFormatError(f"{file} must contain only tables named [[edits]]")
    return lambda: ((f"row {n}", partial(dict, cells)) for n, cells in enumerate(edits, 1))
