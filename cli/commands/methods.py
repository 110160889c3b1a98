"""``zerocon methods``: the table of methods, from the methods themselves."""

from __future__ import annotations

from typing import Any

import click

from .. import options, render

FAMILIES = ("inverter", "guidance")


@click.command("methods")
@options.form
@options.talk
def command(form: str) -> None:
    """List the methods and their options.

    Each is asked for with --FAMILY NAME:KEY=VALUE,KEY=VALUE; shown are the defaults.
    """
    from zerocon.registry import available, describe

    methods: list[dict[str, Any]] = [
        {"family": family, "name": name, "does": line, "options": shown}
        for family in FAMILIES
        for name, line, shown in describe(available(family))
    ]
    render.tell(form, _table(methods), {"schema": "zerocon.methods/1", "methods": methods})


def _table(methods: list[dict[str, Any]]) -> str:
    """A table in Markdown: the README's is this one."""
    rows = ["| family | name | what it does | options |", "|---|---|---|---|"]
    for method in methods:
        shown = " ".join(f"`{key}={value}`" for key, value in method["options"].items())
        rows.append(f"| {method['family']} | `{method['name']}` | {method['does']} | {shown} |")
    return "\n".join(rows)
