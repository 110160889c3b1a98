"""``zerocon errors``: what each error means, and what to do about it."""

from __future__ import annotations

from inspect import getdoc

import click

from zerocon.errors import ERRORS, ExitCode, ZeroconError

from .. import options, render

HEAD = f"""# Errors

Every error message ends in an id that does not change between versions. `zerocon errors ID`
explains one, `zerocon errors` prints this page.

{ExitCode.table()}
"""


@click.command("errors")
@click.argument("id", required=False)
@options.form
@options.talk
def command(id: str | None, form: str) -> None:
    """Explain the error ID, or all of them."""
    if id and id.upper() not in ERRORS:
        raise click.UsageError(f'no error "{id}"; `zerocon errors` lists them')
    chosen = [ERRORS[id.upper()]] if id else list(ERRORS.values())
    text = "\n".join([*([] if id else [HEAD]), *map(_section, chosen)])
    facts = [{"id": each.id, "exit_code": each.code, **_said(each)} for each in chosen]
    render.tell(form, text.rstrip(), {"schema": "zerocon.errors/1", "errors": facts})


def _said(kind: type[ZeroconError]) -> dict[str, str]:
    """A class's docstring: the first line, and all below it."""
    title, _, text = (getdoc(kind) or "").partition("\n\n")
    return {"title": title.rstrip("."), "text": text.replace("``", "`")}


def _section(kind: type[ZeroconError]) -> str:
    said = _said(kind)
    own = f"In Python: `zerocon.errors.{kind.__name__}`. Exit code: {kind.code}."
    return f"## {kind.id}: {said['title']}\n\n{said['text']}\n\n{own}\n"
