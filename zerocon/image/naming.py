"""What an output is called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import TYPE_CHECKING

from zerocon.errors import CommandError, PromptError

if TYPE_CHECKING:
    from zerocon import Direction

LONGEST = 40  # letters of a wish that go into a file's name
SIDECAR = ".txt"  # ending of a caption beside a picture
TEMPLATE = "{stem}-{to}-{seed}{suffix}"  # of an output of many
FIELDS = ("stem", "suffix", "to", "from", "seed", "strength")


def prompt_of(
    to: str | None, from_: str | None, to_caption: str | None, *, optional: bool = False
) -> str:
    """The wish in a few words; a ``PromptError`` if there is none, unless words are optional."""
    if prompt := (to or to_caption or "").strip():
        return prompt
    if to is not None and from_:
        return f"without {from_}"
    if optional and to is from_ is to_caption is None:
        return ""
    raise PromptError('say what should be different: --to "dog", or --to-caption "a dog ..."')


def words_of(directions: Iterable[Direction]) -> str:
    """``cat to dog red to blue``"""
    return " ".join(
        f"{from_} to {target}"
        for direction in directions
        for from_, target in zip(direction.source, direction.target, strict=True)
    )


def slug(words: str) -> str:
    """Words as a part of a file's name; "" if none of their letters can be in one."""
    return re.sub(r"[\W_]+", "-", words.casefold()).strip("-")[:LONGEST].strip("-")


def output_name(image: Path, prompt: str) -> Path:
    """``cat.png`` and "a red hat" to ``cat-a-red-hat.png``, beside the picture."""
    return image.with_name(f"{image.stem}-{slug(prompt) or 'edit'}{suffix_of(image)}")


def suffix_of(image: Path | PurePosixPath) -> str:
    """The ending of an output of this picture: its own, if such a file can be written."""
    from zerocon.image.formats import ENDINGS

    return image.suffix if image.suffix.lower() in ENDINGS else ".png"


def fill(template: str, image: PurePosixPath, said: Mapping[str, object]) -> PurePosixPath:
    """The output's place for a picture at ``image``, both below their roots.

    ``template`` has ``FIELDS`` in braces and may have folders: ``{to}/{stem}{suffix}``. Raises
    ``CommandError`` for another field or a place outside the root.
    """
    values = {name: str(value) for name, value in said.items()}
    values |= {name: slug(values.get(name, "")) for name in ("to", "from")}
    values |= {"stem": image.stem, "suffix": suffix_of(image), "to": values["to"] or "edit"}
    try:
        for _, field, _, _ in Formatter().parse(template):
            if field is not None and field not in FIELDS:
                raise CommandError(
                    f"--name {template}: no field {field!r}; there are: {', '.join(FIELDS)}"
                )
        name = PurePosixPath(template.format(**values))
    except ValueError as error:  # ours, or braces that do not close
        raise CommandError(str(error)) from None
    if name.is_absolute() or ".." in name.parts or not name.name:
        raise CommandError(f"--name {template} leads out of the output folder")
    # a name that is no text (bytes of another encoding) is made one, since it stands in records
    return PurePosixPath(str(image.parent / name).encode("utf-8", "replace").decode())
