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
        "zerocon train mini --work ../mini-run --start-from mini --time-limit 60",
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
    "--start-from",
    metavar="MODEL",
    help="Model to continue from, mini or a directory, in stages that have no checkpoint yet.",
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
    start_from: str | None,
    minutes: float | None,
    device: str | None,
    workers: int,
) -> None:
    """Train the embedded model on drawn scenes.

    The scenes are drawn first. Every stage resumes where it stopped, also after a crash.

    With --start-from, a stage without a checkpoint continues from the model's weights: steps and
    options are those on its model card, the optimizer starts anew, and the classifiers are those
    that zerocon has.
    """
    from zerocon import mini
    from zerocon.model.runtime import pick_device
    from zerocon.registry import parse
    from zerocon.training import initial_weights
    from zerocon.training.mini import STAGES, run
    from zerocon.training.workspace import Workspace

    quiet = options.is_quiet()

    def log(line: str) -> None:
        if not quiet:
            render.print_message(line)

    work = Workspace(folder, str(pick_device(device)), minutes, workers, log)
    if start_from:
        initial_weights.start_from(work, mini.path() if start_from == "mini" else Path(start_from))
    for stage in [parse(text, STAGES, "stage") for text in stages or STAGES]:
        run(stage, work)
