"""Text from files, names and models made safe to print: escaped visibly, per format.

A character that can move the cursor, reverse the direction of writing or not be seen is printed as
its escape: ``\\x1b``, ``\\u202e``. The text itself is never changed, only what is shown of it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

LONGEST = 4000  # characters of a line on a terminal; a manifest's cell may have a million

# Control characters, format characters (direction overrides, zero width), line and paragraph
# separators, and surrogates, with which Python represents bytes that are not UTF-8.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    "\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0"
    "\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_BREAKS = re.compile(r"[\n\t]")
_MARKDOWN = re.compile(r"[\\|<\[\]`]")


def visible(text: str) -> str:
    """``text`` with unsafe characters as escapes; its line feeds and tabs are kept."""
    return _UNSAFE.sub(_escape, text)


def one_line(value: object, longest: int = LONGEST) -> str:
    """``str(value)`` on one line, at most ``longest`` characters; unsafe characters as escapes.

    For values inside a message or a page, whose own line feeds are not part of the value.
    """
    text = str(value)
    if len(text) > longest:
        text = f"{text[:longest]}... ({len(text)} characters)"
    return _BREAKS.sub(_escape, visible(text))


def markdown_cell(value: object) -> str:
    """``value`` as a cell of a Markdown table: on one line, without markup."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(value)).replace("\\<", "&lt;")


def markdown_row(*cells: object) -> str:
    """``| A | B |``, each cell by ``markdown_cell``."""
    return f"| {' | '.join(map(markdown_cell, cells))} |"


def json_text(record: Any, *, indent: int | None = None) -> str:
    """JSON in which unsafe characters are escapes, so that it reads back as ``record``."""
    text = json.dumps(record, indent=indent, ensure_ascii=False)
    return _UNSAFE.sub(_escape_json, text)


def has_control_characters(text: str) -> bool:
    """Whether ``text`` has control characters or surrogates, other than ends of lines and tabs."""
    return not text.isprintable() and any(
        unicodedata.category(each) in ("Cc", "Cs") and each != "\r"
        for each in _UNSAFE.findall(text)
    )


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character in "\n\t\r":
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[character]
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape_json(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1] if ord(match[0]) != 0x7F else "\\u007f"
