"""JSON of unknown origin: bounded in length, depth and numbers, read before anything uses it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

LONGEST = 1_000_000  # characters of a recipe; its longest are a few thousand
DEEPEST = 64  # levels of lists and objects
LARGEST = 2**63  # of integers, without sign
# an unterminated string ends with the text, or searching for strings would take quadratic time
_TOKENS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def parse(text: str, *, longest: int = LONGEST) -> Any:
    """Parse JSON.

    Args:
        text: A JSON document.
        longest: Its largest length in characters.

    Raises:
        ValueError: It is not valid JSON, is longer than ``longest``, has more than 64 levels, a
            key twice in one object, an integer of more than 64 bits, or a number that is not
            finite (``NaN`` and ``1e999``, which Python's parser accepts).
    """
    if len(text) > longest:
        raise ValueError(f"it has {len(text)} characters, more than {longest}")
    _require_shallow(text)
    return json.loads(
        text,
        object_pairs_hook=_object,
        parse_int=_integer,
        parse_float=_number,
        parse_constant=_constant,
    )


def _require_shallow(text: str) -> None:
    """Python's parser recurses, and its limit depends on the caller's own depth."""
    depth = 0
    for match in _TOKENS.finditer(text):
        token = match[0]
        depth += (token in "[{") - (token in "]}") if len(token) == 1 else 0
        if depth > DEEPEST:
            raise ValueError(f"it has more than {DEEPEST} levels")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice[:40]!r} is there twice")
    return values


def _integer(text: str) -> int:
    if len(text) > 20 or abs(number := int(text)) >= LARGEST:
        raise ValueError(f"the integer {text[:20]} is too large")
    return number


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")
