"""``zerocon errors``: explain error ids."""

from __future__ import annotations

import re
from inspect import getdoc

import click

from zerocon.errors import ERRORS, ExitCode, ZeroconError

from .. import options, render
from ..help import command as help_command

HEAD = f"""# Errors

Every error message ends in an id that does not change between versions. `zerocon errors ID`
explains one, `zerocon errors` prints this page.

{ExitCode.table()}
"""


@help_command(
    "errors",
    examples=(
        "zerocon errors ZC-E020",
        "zerocon errors",
        "zerocon errors ZC-E070 --format json",
    ),
)
@click.argument("id", required=False)
@options.output_format
@options.verbosity
def command(id: str | None, form: str) -> None:
    """Explain the error ID, or all errors.

    ZC-E020, e020 and 020 are one ID.
    """
    chosen = [_find(id)] if id else list(ERRORS.values())
    text = "\n".join([*([] if id else [HEAD]), *map(_section, chosen)])
    errors = [{"id": each.id, "exit_code": each.code, **_explanation(each)} for each in chosen]
    render.print_result(
        form, text.rstrip().split("\n"), {"schema": "zerocon.errors/1", "errors": errors}
    )


def _find(text: str) -> type[ZeroconError]:
    """The error whose id this is, in any case, with or without its prefix."""
    number = re.fullmatch(r"(?:zc-?)?e?(\d{1,3})", text.strip(), re.IGNORECASE)
    name = f"ZC-E{int(number[1]):03}" if number else ""
    if name not in ERRORS:
        raise click.UsageError(f'no error "{text}"; `zerocon errors` lists all')
    return ERRORS[name]


def _explanation(kind: type[ZeroconError]) -> dict[str, str]:
    """A class's docstring: its first line, and the rest."""
    title, _, text = (getdoc(kind) or "").partition("\n\n")
    return {"title": title.rstrip("."), "text": text.replace("``", "`")}


def _section(kind: type[ZeroconError]) -> str:
    parts = _explanation(kind)
    usage = f"In Python: `zerocon.errors.{kind.__name__}`. Exit status: {kind.code}."
    return f"## {kind.id}: {parts['title']}\n\n{parts['text']}\n\n{usage}\n"
