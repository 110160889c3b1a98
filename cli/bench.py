"""``zerocon bench world``: edits of drawn scenes, judged against the known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import options
from .bar import progress


@click.group("bench")
def command() -> None:
    """Measure edits where the right answer is known."""


@command.command("world")
@click.option("--per-kind", default=10, show_default=True, help="Scenes for every kind of edit.")
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="Tune on validation; look at test once.",
)
@click.option("--told", is_flag=True, help="Give the true captions instead of asking for them.")
@click.option("--rows", "lines", type=click.Path(path_type=Path), help="Save a JSON line per edit.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Save source, edit and truth.")
@options.overwrite
@options.talk
@options.method
@options.weights
def world(
    per_kind: int, split: str, told: bool, lines: Path | None, sheet: Path | None, **values: Any
) -> None:
    """Edit scenes of the drawn world and print a table: was it done, and did the rest stay?

    "asked change seen": the judges of the changed parameters see their new values. "rest
    unchanged": all other judges say what they say of the source after the VAE alone. On the
    embedded model, unless --model names another.
    """
    from zerocon.files import writing
    from zerocon.images import check_output, save_picture

    overwrite, given = values["overwrite"], options.given(values)
    if sheet:
        check_output(sheet, overwrite=overwrite)

    from zerocon.bench import judges
    from zerocon.bench import world as drawn

    model = options.load({**values, "model": values["model"] or "mini"})
    settings, todo = model.settings.overlay(given), drawn.cases(split, per_kind)
    done = []
    with progress("Editing", values["quiet"]) as tick:
        for result in drawn.run(model, judges.load(), todo, settings, told=told):
            done.append(result)
            if tick:
                tick(len(done), len(todo))
    rows = [row for row, _ in done]
    if sheet:
        save_picture(drawn.page(todo, done), sheet, overwrite=overwrite)
    if lines:
        with writing(lines, overwrite=overwrite) as temporary:
            temporary.write_text("".join(drawn.to_json(row) + "\n" for row in rows))
    click.echo(drawn.table(rows))
