"""``zerocon bench speed``: seconds, evaluations and memory beside a peer's."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from .. import options, render


@click.command("speed")
@click.option(
    "--shape",
    type=click.Choice(["mini", "sd1"]),
    default="mini",
    show_default=True,
    help="The embedded model, or Stable Diffusion 1.x at 512 pixels with random weights.",
)
@click.option("--steps", type=click.IntRange(2), default=50, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True)
@options.compiled
@options.device
@options.dtype
@click.option("--format", "form", type=click.Choice(["markdown", "json"]), default="markdown")
def command(shape: str, steps: int, repeats: int, batch_size: int, **values: Any) -> None:
    """Time an edit, a fast one, a second one of a kept inversion, and pix2pix-zero.

    All in one process, the same pictures, device and dtype; reading the words is not timed. Random
    weights cost what trained ones do. "Of the device's rate" is the share of what a large matrix
    product reaches here; GB are those of the whole process on a CPU.
    """
    import zerocon
    from zerocon.bench import speed
    from zerocon.bench.random_weights import first_generation
    from zerocon.model import ModelSpec
    from zerocon.model.runtime import pick_device, pick_dtype

    spec = ModelSpec.of("mini", device=values["device"], dtype=values["dtype"])
    where = pick_device(spec.device)
    dtype = pick_dtype(spec.dtype, where)
    name = str(dtype).removeprefix("torch.")
    model: Any = (
        first_generation(where, dtype)
        if shape == "sd1"
        else zerocon.load("mini", device=str(where), dtype=name)
    )
    if values["compile"]:
        model.runtime.compile()
    best = speed.rate(model)
    laps = list(speed.race(model, steps, repeats=repeats, together=batch_size))
    facts = {"shape": shape, "device": str(where), "dtype": name, "steps": steps, "rate": best}
    record = {"schema": "zerocon.speed/1", **facts, "laps": [asdict(lap) for lap in laps]}
    render.tell(values["form"], speed.as_markdown(laps, best), record)
