"""``zerocon train``: train the embedded model, or the networks of translation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import options, render
from ..help import group

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

MINUTES = click.FloatRange(0, min_open=True)
FOLDER = click.Path(path_type=Path, file_okay=False)

shared = options.together(
    click.option(
        "--work",
        "folder",
        metavar="DIR",
        type=FOLDER,
        required=True,
        help="Directory for scenes, checkpoints and samples, outside any checkout.",
    ),
    click.option(
        "--stage",
        "stages",
        multiple=True,
        metavar="NAME[:KEY=VALUE,...]",
        help="Stage to run, with its settings; repeatable. [default: all, in order]",
    ),
    click.option(
        "--time-limit",
        "minutes",
        metavar="MINUTES",
        type=MINUTES,
        help="Time limit of each stage. [default: none]",
    ),
    options.device,
    options.count("--workers", 1, "Processes that draw scenes."),
    options.verbosity,
)


@group(
    "train",
    examples=(
        "zerocon train mini --work ../mini-run",
        "zerocon train translate photos --out weights --work ../translate-run",
        "zerocon train translate --help",
    ),
)
def command() -> None:
    """Train the embedded model, or the networks of translation."""


@command.subcommand(
    "mini",
    examples=(
        "zerocon train mini --work ../mini-run",
        "zerocon train mini --work ../mini-run --stage unet:steps=1000 --device cuda",
        "zerocon train mini --work ../mini-run --time-limit 30",
        "zerocon train mini --work ../mini-run --start-from mini --time-limit 60",
    ),
)
@click.option(
    "--start-from",
    metavar="MODEL",
    help="Model to continue from, mini or a directory, in stages that have no checkpoint yet.",
)
@shared
def train_mini(start_from: str | None, **values: Any) -> None:
    """Train the embedded model on drawn scenes.

    The scenes are drawn first. Every stage resumes where it stopped, also after a crash.

    With --start-from, a stage without a checkpoint continues from the model's weights: steps and
    options are those on its model card, the optimizer starts anew, and the classifiers are those
    that zerocon has.
    """
    from zerocon import mini
    from zerocon.registry import parse
    from zerocon.training import initial_weights
    from zerocon.training.mini import STAGES, run

    work = _workspace(values)
    if start_from:
        initial_weights.start_from(work, mini.path() if start_from == "mini" else Path(start_from))
    for stage in [parse(text, STAGES, "stage") for text in values["stages"] or STAGES]:
        run(stage, work)


@command.subcommand(
    "translate",
    examples=(
        "zerocon train translate photos --out weights --work ../translate-run",
        "zerocon train translate --out weights --work ../translate-run --time-limit 60",
        "zerocon train translate --work ../translate-run --stage matcher:steps=1000",
        "zerocon train translate --out weights --work ../translate-run --start-from shipped",
    ),
)
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    type=FOLDER,
    help="Directory for the trained weights. [default: export is left out]",
)
@click.option(
    "--start-from",
    metavar="WEIGHTS",
    help="Weights to continue from, shipped or a directory, in stages without a checkpoint.",
)
@shared
def train_translate(
    data: Path | None, out: Path | None, start_from: str | None, **values: Any
) -> None:
    """Train the networks of zerocon translate.

    On DATA, or on drawn scenes. DATA has a directory images/, and optionally labels/ with a PNG of
    the same name for each. Stages are triplets, matcher, prior, denoiser and export. Every stage
    resumes where it stopped.

    With --start-from, the denoiser continues from the weights with a new optimizer, and its steps
    count anew; matcher and prior stay as they are.
    """
    from zerocon.exemplar.networks import WEIGHTS
    from zerocon.registry import parse
    from zerocon.training import initial_translation
    from zerocon.training.mini import run
    from zerocon.training.translation_stages import FOLDER_STAGES, STAGES

    if data is not None and not (data / "images").is_dir():
        raise click.UsageError(f"{data} has no directory images/")
    classes = STAGES if data is None else FOLDER_STAGES
    names = values["stages"] or [name for name in classes if name != "export" or out]
    places = {"folder": None if data is None else data, "to": out}
    work = _workspace(values)
    if start_from:
        folder = WEIGHTS if start_from == "shipped" else Path(start_from)
        initial_translation.start_from(work, folder)
    for stage in [parse(text, classes, "stage") for text in names]:
        given = {name: str(path) for name, path in places.items() if path and hasattr(stage, name)}
        run(replace(stage, **given), work)


def _workspace(values: Mapping[str, Any]) -> Workspace:
    """The workspace that the options name."""
    from zerocon.model.runtime import pick_device
    from zerocon.training.workspace import Workspace

    quiet = options.is_quiet()

    def log(line: str) -> None:
        if not quiet:
            render.print_message(line)

    device = str(pick_device(values["device"]))
    return Workspace(values["folder"], device, values["minutes"], values["workers"], log)
