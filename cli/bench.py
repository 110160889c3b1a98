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
@click.option("--rows", type=click.Path(path_type=Path), help="Also save a JSON line per edit.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Also save source | edit | truth.")
@options.overwrite
@options.talk
@options.method
@options.weights
def world(per_kind: int, split: str, told: bool, **values: Any) -> None:
    """Edit scenes of the drawn world and print a table: was it done, and did the rest stay?

    "asked change seen": the judges of the changed parameters see their new values. "rest
    unchanged": all other judges say what they say of the source after the VAE alone.
    """
    from zerocon.files import writing
    from zerocon.images import check_output, save_picture, sheet

    outputs = {name: values[name] for name in ("rows", "sheet") if values[name]}
    check_output(values["sheet"], overwrite=values["overwrite"]) if values["sheet"] else None
    given = options.given(values)

    from zerocon.bench import judges
    from zerocon.bench.world import cases, pictures, run, table, to_json

    model = options.load({"model": "mini", **{k: v for k, v in values.items() if v is not None}})
    todo, rows, strips = cases(split, per_kind), [], []
    with progress("Editing", values["quiet"]) as tick:
        settings = model.settings.overlay(given)
        for row, result in run(model, judges.load(), todo, settings, told=told):
            rows.append(row)
            strips += pictures(todo[len(rows) - 1], result)
            if tick:
                tick(len(rows), len(todo))
    if "sheet" in outputs:
        labels = [label for row in rows for label in (row.caption, row.target_caption, row.verdict)]
        save_picture(sheet(strips, labels, 6), outputs["sheet"], overwrite=values["overwrite"])
    if "rows" in outputs:
        with writing(outputs["rows"], overwrite=values["overwrite"]) as temporary:
            temporary.write_text("".join(to_json(row) + "\n" for row in rows))
    click.echo(table(rows))
