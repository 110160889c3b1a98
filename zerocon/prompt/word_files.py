"""The text files of ``zerocon.prompts``: word lists, grammar and templates."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def sections(path: str) -> dict[str, tuple[str, ...]]:
    """Lines of a file of ``zerocon.prompts`` by their [heading]; "" before the first one."""
    result: dict[str, list[str]] = {"": []}
    heading = ""
    for line in files("zerocon.prompts").joinpath(path).read_text("utf-8").splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            heading = line[1:-1]
            result.setdefault(heading, [])
        elif line and not line.startswith("#"):
            result[heading].append(line)
    return {heading: tuple(lines) for heading, lines in result.items()}


@cache
def grammar(*headings: str) -> frozenset[str]:
    """Words under these headings of ``grammar.txt``."""
    return frozenset(word for h in headings for word in sections("grammar.txt")[h])
