"""``zerocon calibrate``: measure the guidance scale of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from .. import config_file, options, render
from ..help import command as help_command
from ..progress import progress_bar

if TYPE_CHECKING:
    from zerocon import Model
    from zerocon.model.guidance_scale import MeasuredScale


@help_command(
    "calibrate",
    examples=(
        "zerocon calibrate mini",
        "zerocon calibrate stable-diffusion-v1-5/stable-diffusion-v1-5",
        "zerocon calibrate ./my-stable-diffusion --write",
    ),
)
@click.argument("model", metavar="MODEL", shell_complete=config_file.complete_model)
@cloup.option_group(
    "Output",
    click.option(
        "--write",
        is_flag=True,
        help="Write it to zerocon.json in the model's directory, too.",
    ),
    click.option(
        "--overwrite", is_flag=True, help="Replace the guidance scale of that zerocon.json."
    ),
)
@cloup.option_group("Model", *options.measured_model)
@options.output_format
@options.verbosity
def command(model: str, write: bool, overwrite: bool, **values: Any) -> None:
    """Measure the guidance scale of MODEL again.

    The response r is the relative difference between the noise that the U-Net predicts under two
    captions, averaged over 8 pairs of captions and 4 noise levels; the guidance scale is 0.14 / r.
    It takes 64 U-Net evaluations, no image and no captioner. An edit measures it by itself where
    the model has none; it is kept in the cache directory, for each dtype.

    The rule was tested with the embedded model and with altered copies of it. It has not been
    measured on a checkpoint of Stable Diffusion yet.
    """
    from zerocon.model.defaults import writable_file, write_guidance_scale
    from zerocon.model.guidance_scale import EVALUATIONS

    if overwrite and not write:
        raise click.UsageError("--overwrite needs --write")
    file = writable_file(model, overwrite=overwrite) if write else None
    loaded = options.load_model({**values, "model": model})
    lines: list[str] = []
    result, kept = _measure(loaded, lines)
    if file is not None:
        write_guidance_scale(file, result.scale)
    warnings, output = [*lines, *_warnings(loaded, written=file is not None)], file or kept
    render.warn(warnings)
    line = (
        f"{model}: response {result.response:.4f}, guidance scale {result.scale:g}, "
        f"{EVALUATIONS} U-Net evaluations; written to {output}"
    )
    facts = {
        "model": model,
        "response": result.response,
        "guidance_scale": result.scale,
        "evaluations": EVALUATIONS,
        "device": str(loaded.device),
        "dtype": loaded.runtime.dtype,
        "output": str(output),
        "warnings": warnings,
    }
    render.print_result(values["form"], line, {"schema": "zerocon.calibration/1", **facts})


def _measure(model: Model, lines: list[str]) -> tuple[MeasuredScale, Path]:
    """The result, and the file in the cache directory that holds it; adds warnings to ``lines``."""
    from zerocon.api import run_finite
    from zerocon.model.guidance_scale import calibrate

    with progress_bar("Measuring", options.is_quiet()) as tick:
        return run_finite(lambda: calibrate(model, tick), model, lines.append)


def _warnings(model: Model, *, written: bool) -> list[str]:
    """A warning if edits use another guidance scale than the one in the cache directory."""
    scale = model.settings.guidance_scale
    if written or scale is None:
        return []
    shown = "..".join(f"{each:g}" for each in (scale if isinstance(scale, tuple) else (scale,)))
    return [f"edits use the guidance scale of the model's zerocon.json, {shown}, not this one"]
