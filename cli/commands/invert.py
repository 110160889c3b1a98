"""``zerocon invert``: the slow half of an edit, kept in a file for many edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .. import options, render, stdio
from ..progress import progress_bar


@click.command("invert")
@options.image_path
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="[default: IMAGE.safetensors]"
)
@options.overwrite
@options.no_cache
@click.option("--caption", metavar="SENTENCE", help="A description of the picture as it is.")
@options.form
@options.talk
@options.steps
@options.inverter
@options.seed
@options.weights
def command(image_path: Path, output: Path | None, **values: Any) -> None:
    """Keep the way from IMAGE to noise, for many edits.

    `zerocon edit IMAGE --inversion FILE` then starts from it.

    The file holds the latents and the predicted noise of every step, the caption, and a hash of
    the picture: about 7 MB for 512x512 pixels and 50 steps. What the network's layers showed on
    the way (several GB at that size) is not kept; an edit looks again, one forward pass a step.
    """
    from zerocon.image.saving import check_output

    image = stdio.read(image_path).image
    output = output or stdio.beside(image_path).with_suffix(".safetensors")
    overwrite = values["overwrite"]
    inputs = options.input_files(values, stdio.source(image_path))
    check_output(output, overwrite=overwrite, inputs=inputs, endings=(".safetensors",))
    given, cache = options.given(values), options.cache(values, lambda said: render.warn([said]))

    import zerocon
    from zerocon.nfe import count_evaluations

    model = options.load(values)
    settings = model.settings.overlay({**given, "cache_source": False})
    with progress_bar("Inverting", options.hushed()) as tick, count_evaluations() as evaluations:
        kept = zerocon.invert(
            image, model,
            caption=values["caption"], settings=settings, progress=tick, cache=cache,
        )  # fmt: skip
    kept.save(output, overwrite=overwrite)
    facts = {"input": str(image_path), "output": str(output), "caption": kept.captions[0]}
    more = {"model": kept.model, "steps": settings.steps, "evaluations": render.cost(evaluations)}
    render.tell(values["form"], str(output), {"schema": "zerocon.invert/1", **facts, **more})
