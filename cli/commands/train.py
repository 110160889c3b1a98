"""``zerocon train``: train the embedded model."""

from __future__ import annotations

from pathlib import Path

import click

from .. import options, render
from ..help import command as help_command

MINUTES = click.FloatRange(0, min_open=True)


@help_command(
    "train",
    examples=(
        "zerocon train mini --work ../mini-run",
        "zerocon train mini --work ../mini-run --stage unet:steps=1000 --device cuda",
        "zerocon train mini --work ../mini-run --time-limit 30",
    ),
)
@click.argument("name", type=click.Choice(["mini"]))
@click.option(
    "--work",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Directory for scenes, checkpoints and samples, outside any checkout.",
)
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="NAME[:KEY=VALUE,...]",
    help="Stage to run, with its settings; repeatable. [default: all, in order]",
)
@click.option(
    "--time-limit",
    "minutes",
    metavar="MINUTES",
    type=MINUTES,
    help="Time limit of each stage. [default: none]",
)
@options.device
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes that draw scenes.",
)
@options.verbosity
def command(
    name: str,
    folder: Path,
    stages: tuple[str, ...],
    minutes: float | None,
    device: str | None,
    workers: int,
) -> None:
    """Train the embedded model on drawn scenes.

    The scenes are drawn first. Every stage resumes where it stopped, also after a crash.
    """
    from zerocon.model.runtime import pick_device
    from zerocon.registry import parse
    from zerocon.training.mini import STAGES, run
    from zerocon.training.workspace import Workspace

    quiet = options.is_quiet()

    def log(line: str) -> None:
        if not quiet:
            render.print_message(line)

    work = Workspace(folder, str(pick_device(device)), minutes, workers, log)
    for stage in [parse(text, STAGES, "stage") for text in stages or STAGES]:
        run(stage, work)
