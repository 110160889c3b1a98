"""Names of output files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import TYPE_CHECKING

from zerocon.errors import CommandError, PromptError

if TYPE_CHECKING:
    from zerocon import Direction

LONGEST = 40  # characters of a prompt in a file name
SIDECAR = ".txt"  # extension of caption files
TEMPLATE = "{stem}-{to}-{seed}{suffix}"  # default name of a batch's outputs
FIELDS = ("stem", "suffix", "to", "from", "seed", "strength")


def prompt_of(
    to: str | None, from_: str | None, to_caption: str | None, *, optional: bool = False
) -> str:
    """The prompt as one phrase, for a file name.

    Raises:
        PromptError: There is none, and it is not ``optional``.
    """
    if prompt := (to or to_caption or "").strip():
        return prompt
    if to is not None and from_:
        return f"without {from_}"
    if optional and to is from_ is to_caption is None:
        return ""
    raise PromptError('the prompt is missing: give --to "dog" or --to-caption "a dog ..."')


def words_of(directions: Iterable[Direction]) -> str:
    """``cat to dog red to blue``"""
    return " ".join(
        f"{from_} to {target}"
        for direction in directions
        for from_, target in zip(direction.source, direction.target, strict=True)
    )


def slug(text: str) -> str:
    """A text as part of a file name: lower case, words joined by dashes; "" if nothing is left."""
    return re.sub(r"[\W_]+", "-", text.casefold()).strip("-")[:LONGEST].strip("-")


def output_name(image: Path, prompt: str) -> Path:
    """``cat-a-red-hat.png`` for ``cat.png`` and "a red hat", in the same directory."""
    return image.with_name(f"{image.stem}-{slug(prompt) or 'edit'}{suffix_of(image)}")


def suffix_of(image: Path) -> str:
    """The extension of an output: the input's if a format has it, else that of its format.

    ``.png`` if the format is not written, or if there is no such file.
    """
    from zerocon.image.formats import ENDINGS, format_in

    if image.suffix.lower() in ENDINGS:
        return image.suffix
    format = format_in(image)
    return format.endings[0] if format else ".png"


def fill(
    template: str, image: PurePosixPath, fields: Mapping[str, object], *, suffix: str
) -> PurePosixPath:
    """The output path of the input ``image``, both relative to their root directories.

    Args:
        template: Text with ``FIELDS`` in braces, may contain directories: ``{to}/{stem}{suffix}``.
        image: Path of the input.
        fields: Values of the fields, except ``stem`` and ``suffix``.
        suffix: Extension of the output, see ``suffix_of``.

    Raises:
        CommandError: The template has another field, or leads out of the root.
    """
    values = {name: str(value) for name, value in fields.items()}
    values |= {name: slug(values.get(name, "")) for name in ("to", "from")}
    values |= {"stem": image.stem, "suffix": suffix, "to": values["to"] or "edit"}
    try:
        for _, field, _, _ in Formatter().parse(template):
            if field is not None and field not in FIELDS:
                raise CommandError(
                    f"--name {template}: no field {field!r}; there are: {', '.join(FIELDS)}"
                )
        name = PurePosixPath(template.format(**values))
    except ValueError as error:  # the one above, or unbalanced braces
        raise CommandError(str(error)) from None
    if name.is_absolute() or ".." in name.parts or not name.name:
        raise CommandError(f"--name {template} leads out of the output directory")
    # bytes of another encoding in a name are replaced: JSON and the journal need valid text
    return PurePosixPath(str(image.parent / name).encode("utf-8", "replace").decode())
