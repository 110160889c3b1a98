"""Names of output files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import TYPE_CHECKING

from zerocon.errors import CommandError, PromptError
from zerocon.storage.escaping import one_line
from zerocon.storage.paths import name_fault, result_fault

if TYPE_CHECKING:
    from zerocon import Direction

LONGEST = 40  # characters of a prompt in a file name
SIDECAR = ".txt"  # extension of caption files
TEMPLATE = "{stem}-{to}-{seed}{suffix}"  # default name of a batch's outputs
FIELDS = ("stem", "suffix", "to", "from", "seed", "strength")
# of a field: fill and alignment, width, longest part, as in {seed:0>4} and {stem:.20}
FORM = re.compile(r"(?:[^{}/\\]?[<>^])?(?P<width>\d{1,3})?(?:\.\d{1,3})?")
WIDEST = 200  # characters of a field; file systems allow names of 255 bytes
LONGEST_TEMPLATE = 1000  # characters


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
    words, length = list[str](), 0
    for match in re.finditer(r"[^\W_]+", text.casefold()):
        words.append(match[0])
        length += 1 + len(match[0])
        if length > LONGEST:
            break
    return "-".join(words)[:LONGEST].strip("-")


def output_name(image: Path, prompt: str) -> Path:
    """``cat-a-red-hat.png`` for ``cat.png`` and "a red hat", in the same directory."""
    return image.with_name(f"{image.stem}-{slug(prompt) or 'edit'}{suffix_of(image)}")


def _require_plain(template: str) -> None:
    """Raise ``CommandError`` for a template that is too long, or whose fields have other forms."""
    if len(template) > LONGEST_TEMPLATE:
        raise CommandError(f"--name has {len(template)} characters, more than {LONGEST_TEMPLATE}")
    if template != one_line(template):
        raise CommandError(f"--name {one_line(template)} contains characters that are not visible")
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:  # unbalanced braces
        raise CommandError(f"--name {template}: {error}") from None
    for _, field, form, conversion in parts:
        match = FORM.fullmatch(form or "")
        if conversion or match is None or int(match["width"] or 0) > WIDEST:
            raise CommandError(
                f"--name {template}: the form of {{{field}}} must be an alignment and a width up "
                f"to {WIDEST}, as in {{seed:0>4}}"
            )


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
            A field may have an alignment and a width: ``{seed:0>4}``; nothing in it is evaluated.
        image: Path of the input.
        fields: Values of the fields, except ``stem`` and ``suffix``.
        suffix: Extension of the output, see ``suffix_of``.

    Raises:
        CommandError: The template has another field, or leads out of the root, or is not a valid
            name on every system.
    """
    _require_plain(template)
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
    if fault := result_fault(str(name)) or _template_fault(template):
        raise CommandError(f"--name {template}: {str(name)!r} {fault}")
    # bytes of another encoding in a name are replaced: JSON and the journal need valid text
    path = str(image.parent / name).encode("utf-8", "replace").decode()
    if fault := result_fault(path):  # of the image's own directory
        raise CommandError(f"the result {path!r} {fault}; name the image itself, or use --name")
    return PurePosixPath(path)


def _template_fault(template: str) -> str | None:
    """What in a template itself is not valid on every system; the fields are names of files."""
    parts = Formatter().parse(template)
    typed = "".join(text + ("x" if field is not None else "") for text, field, _, _ in parts)
    return next((fault for part in typed.split("/") if (fault := name_fault(part))), None)
