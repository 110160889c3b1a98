"""``zerocon bench soak``: many edits in one process, and its memory."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from .. import options, render
from ..progress import progress_bar


@click.command("soak")
@click.option("--edits", type=click.IntRange(1), default=500, show_default=True)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw memory over edits.")
@click.option("--format", "form", type=click.Choice(["text", "markdown", "json"]), default="text")
@options.overwrite
@options.talk
def command(edits: int, plot: Path | None, form: str, overwrite: bool) -> None:
    """Edit again and again in one process; does memory grow, is anything lost or doubled?

    Three drawn scenes, two wishes, ever new seeds and two steps with the embedded model on a CPU,
    the cache on and off by turns; memory is the process's resident set.
    """
    from zerocon import api
    from zerocon.bench import soak
    from zerocon.diagnostics import plots
    from zerocon.image.saving import check_output, save_image

    if plot:
        check_output(plot, overwrite=overwrite)
        plots.require()
    model: Any = api.load("mini", device="cpu")
    laps: list[soak.SoakSample] = []
    with tempfile.TemporaryDirectory() as folder, progress_bar("Editing", options.hushed()) as tick:
        for lap in soak.repeat(model, Path(folder), edits):
            laps.append(lap)
            if tick:
                tick(len(laps), edits)
        found = soak.judge(laps, Path(folder))
    if plot:
        curve = plots.draw_curve([lap.memory / 1e6 for lap in laps], x="edits", y="MB resident")
        save_image(curve, plot, overwrite=overwrite)
    facts = {**asdict(found), "laps": [asdict(lap) for lap in laps]}
    render.tell(form, soak.as_text(found, form), {"schema": "zerocon.soak/1", **facts})
