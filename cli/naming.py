"""What an output is called when nobody says."""

from __future__ import annotations

import re
from pathlib import Path

import click

LONGEST = 40  # letters of a wish that go into a file's name


def wish_of(to: str | None, source: str | None, to_caption: str | None) -> str:
    """The wish in a few words; a ``UsageError`` if there is none."""
    if wish := (to or to_caption or "").strip():
        return wish
    if to is not None and source:
        return f"without {source}"
    raise click.UsageError('say what should be different: --to "dog", or --to-caption "a dog ..."')


def name_output(image: Path, wish: str) -> Path:
    """``cat.png`` and "a red hat" to ``cat-a-red-hat.png``, beside the picture."""
    from zerocon.images import FORMATS

    slug = re.sub(r"[\W_]+", "-", wish.casefold()).strip("-")[:LONGEST].strip("-") or "edit"
    suffix = image.suffix if image.suffix.lower() in FORMATS else ".png"
    return image.with_name(f"{image.stem}-{slug}{suffix}")
