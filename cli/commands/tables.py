"""``zerocon bench table``: tables from rows that were saved, by any number of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..options import together

if TYPE_CHECKING:
    from zerocon.bench.results import ResultRow

layout = together(
    click.option(
        "--format",
        "form",
        type=click.Choice(["text", "markdown", "json"]),
        default="text",
        show_default=True,
        help="Of the tables on stdout.",
    ),
    click.option("--by-kind", "kinds", metavar="METHOD", help="Also its means for every kind."),
)


def tell(rows: Sequence[ResultRow], form: str, kinds: str | None) -> None:
    """Print the tables of ``rows``, that of one method by kinds of edits too if wanted."""
    from zerocon.bench import tables

    found = [tables.compare(rows), tables.differ(rows)]
    found.append(tables.by_kind(rows, kinds) if kinds else None)
    shown = [table for table in found if table]
    if not tables.has_intervals():
        click.echo('Warning: no intervals without scipy: pip install "zerocon[bench]"', err=True)
    if form == "json":
        click.echo(tables.as_json(shown, rows))
    else:
        click.echo(tables.as_text(shown) if form == "text" else tables.as_markdown(shown))


@click.command("table")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@layout
def command(files: tuple[Path, ...], form: str, kinds: str | None) -> None:
    """Make the tables of FILES, which `zerocon bench world --results` wrote: all shards of one run.

    Needs no model. Rows of different weights or settings cannot stand in one table.
    """
    from zerocon.bench import results

    found = [row for file in files for row in results.read(file)]
    if not found:
        raise click.UsageError("there are no rows in there")
    results.check(found)
    tell(found, form, kinds)
