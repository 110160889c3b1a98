"""``zerocon train mini``: train the embedded model again."""

from __future__ import annotations

from pathlib import Path

import click

from .. import options

TIME = click.FloatRange(0, min_open=True)


@click.command("train")
@click.argument("name", type=click.Choice(["mini"]))
@click.option(
    "--work",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Directory for scenes, checkpoints and samples, outside any checkout.",
)
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="NAME:KEY=VALUE,...",
    help="Stage to run, with its settings; repeat for several. [default: all, in order]",
)
@click.option("--time-limit", "minutes", type=TIME, help="Minutes per stage. [default: no limit]")
@click.option(
    "--device", metavar="NAME", help="cpu, cuda, cuda:1 or mps. [default: the fastest available]"
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes that draw scenes.",
)
@options.talk
def command(
    name: str,
    folder: Path,
    stages: tuple[str, ...],
    minutes: float | None,
    device: str | None,
    workers: int,
) -> None:
    """Train the embedded model NAME on scenes that are drawn first.

    Every stage resumes where it stopped, also after it was killed.
    """
    from zerocon.model import pick_device
    from zerocon.registry import parse
    from zerocon.training import STAGES, run
    from zerocon.training.workspace import Workspace

    quiet = options.hushed()

    def say(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    where = str(pick_device(device))
    work = Workspace(folder, where, minutes, workers, say)
    for stage in [parse(text, STAGES, "stage") for text in stages or STAGES]:
        run(stage, work)
