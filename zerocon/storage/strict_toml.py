"""TOML of unknown origin: Python's parser takes quadratic time for keys of many parts."""

from __future__ import annotations

import re
import tomllib
from typing import Any

MOST_DOTS = 8  # of a key; those of zerocon have two. Each part takes a kilobyte
LARGEST = 2**63  # of integers, without sign
# texts and comments, of which an unterminated one ends with the text, and what is counted
_TOKENS = re.compile(
    r'''"""(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5}|\\?\Z)|'{3}(?:[^']|'(?!''))*+(?:'{3,5}|\Z)'''
    r"""|"(?:[^"\\\n]|\\.)*+"?|'[^'\n]*+'?|\#[^\n]*+|[.\n=,\[{]""",
    re.DOTALL,
)


def parse(text: str, *, most_dots: int = MOST_DOTS) -> dict[str, Any]:
    """Parse TOML.

    Args:
        text: A TOML document.
        most_dots: Number of dots in a key, or in a number.

    Raises:
        ValueError: It is not valid TOML, a key has more dots, or an integer more than 64 bits.
        RecursionError: It has too many levels.
    """
    dots = 0
    for match in _TOKENS.finditer(text):
        token = match[0]
        dots = 0 if token in "\n=,[{" else dots + (token == ".")
        if dots > most_dots:
            line = text.count("\n", 0, match.start()) + 1
            raise ValueError(f"line {line} has a key of more than {most_dots + 1} parts")
    content = tomllib.loads(text)
    _require_small(content)
    return content


def _require_small(value: Any) -> None:
    """Python's integers have any length, and those of thousands of digits cannot be printed."""
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, dict | list):
            _require_small(each)
        elif isinstance(each, int) and abs(each) >= LARGEST:
            raise ValueError("an integer has more than 64 bits")
