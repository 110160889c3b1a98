"""``zerocon methods``: list the methods of inversion, guidance, attention and translation."""

from __future__ import annotations

from typing import Any

from .. import options, render
from ..help import command as help_command

FAMILIES = ("inverter", "guidance", "attention", "translator")


@help_command(
    "methods",
    examples=(
        "zerocon methods",
        "zerocon edit fox.png --to dog --guidance contrastive:patches=64 --model mini",
        "zerocon edit fox.png --to dog --inverter fixed-point:rounds=2 --model mini",
    ),
)
@options.output_format
@options.verbosity
def command(form: str) -> None:
    """List the methods of edits and translations.

    Select one with --FAMILY NAME:KEY=VALUE,KEY=VALUE, and a translator with --method of `zerocon
    translate`; the values shown are the defaults.
    """
    from zerocon.registry import describe

    methods: list[dict[str, Any]] = [
        {"family": family, "name": name, "does": summary, "options": defaults}
        for family in FAMILIES
        for name, summary, defaults in describe(family)
    ]
    render.print_result(form, _table(methods), {"schema": "zerocon.methods/1", "methods": methods})


def _table(methods: list[dict[str, Any]]) -> list[str]:
    """A Markdown table, which the documentation repeats."""
    rows = ["| family | name | what it does | options |", "|---|---|---|---|"]
    for method in methods:
        defaults = " ".join(f"`{key}={value}`" for key, value in method["options"].items())
        rows.append(f"| {method['family']} | `{method['name']}` | {method['does']} | {defaults} |")
    return rows
