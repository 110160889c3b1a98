"""What an output is called when nobody says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from zerocon.errors import WishError

if TYPE_CHECKING:
    from zerocon import Direction

LONGEST = 40  # letters of a wish that go into a file's name


def wish_of(
    to: str | None, source: str | None, to_caption: str | None, *, optional: bool = False
) -> str:
    """The wish in a few words; a ``WishError`` if there is none, unless words are optional."""
    if wish := (to or to_caption or "").strip():
        return wish
    if to is not None and source:
        return f"without {source}"
    if optional and to is source is to_caption is None:
        return ""
    raise WishError('say what should be different: --to "dog", or --to-caption "a dog ..."')


def words_of(directions: Iterable[Direction]) -> str:
    """``cat to dog red to blue``"""
    return " ".join(
        f"{source} to {target}"
        for direction in directions
        for source, target in zip(direction.source, direction.target, strict=True)
    )


def slug(words: str) -> str:
    """Words as a part of a file's name; "" if none of their letters can be in one."""
    return re.sub(r"[\W_]+", "-", words.casefold()).strip("-")[:LONGEST].strip("-")


def name_output(image: Path, wish: str) -> Path:
    """``cat.png`` and "a red hat" to ``cat-a-red-hat.png``, beside the picture."""
    from zerocon.formats import ENDINGS

    suffix = image.suffix if image.suffix.lower() in ENDINGS else ".png"
    return image.with_name(f"{image.stem}-{slug(wish) or 'edit'}{suffix}")
