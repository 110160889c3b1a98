"""A change between two captions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One change between two captions.

    Attributes:
        category: object, attribute, added, place, time, style or action; "caption" if source and
            target are whole captions.
        source: The words that are replaced; "" if the target is added.
        target: The new words; "" if the source is removed.
        noun: The noun that the change belongs to ("cat"), "" if unknown.
    """

    category: str
    source: str
    target: str
    noun: str = ""

    def __str__(self) -> str:
        return f"{self.source or '(nothing)'} -> {self.target or '(nothing)'} ({self.category})"
