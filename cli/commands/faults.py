"""``zerocon bench faults``: what becomes of many edits when things go wrong."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import click

from .. import options, render
from ..progress import progress_bar


@click.command("faults")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where it happens; what did not hold is left there to look at. [default: a temporary one]",
)
@click.option("--kills", type=click.IntRange(1), help="How often with kill -9. [default: 50]")
@click.option("--only", multiple=True, metavar="NAME", help="This fault; repeat for several.")
@click.option(
    "--results",
    "lines",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Save a JSON line for each; with the same file, only what is missing is done.",
)
@click.option("--format", "form", type=click.Choice(["text", "markdown", "json"]), default="text")
@options.talk
def command(
    work: Path | None, kills: int | None, only: tuple[str, ...], lines: Path | None, form: str
) -> None:
    """Kill, starve and mislead `zerocon batch`, and count how often nothing was lost or doubled.

    Real processes edit drawn scenes with the embedded model, for an hour in all. Linux only; some
    faults need the right to mount.
    """
    from zerocon.bench import trials
    from zerocon.bench.faults import FAULTS
    from zerocon.bench.stage import SandboxFactory

    if unknown := set(only) - FAULTS.keys():
        raise click.UsageError(f"no fault {unknown.pop()!r}; there are: {', '.join(FAULTS)}")
    rows = trials.read(lines) if lines else []
    chosen = {name: fault for name, fault in FAULTS.items() if name in (only or FAULTS)}
    place = nullcontext(work) if work else tempfile.TemporaryDirectory()
    with place as folder, progress_bar("Disturbing", options.hushed()) as tick:
        for row in trials.missing(chosen, rows.copy(), SandboxFactory(Path(folder)), kills):
            rows.append(row)
            if lines:
                trials.save(lines, rows)
            if tick:
                tick(len(rows), max(len(rows), sum(fault.times for fault in chosen.values())))
    table = trials.count(FAULTS, rows)
    facts = {"faults": [asdict(line) for line in table], "rows": [asdict(row) for row in rows]}
    render.tell(form, trials.shown(table, form), {"schema": "zerocon.faults/1", **facts})
