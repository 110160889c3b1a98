"""``zerocon invert``: invert an image once, for many edits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloup

from zerocon.image.read_options import ReadOptions

from .. import options, render, stdio
from ..help import command as help_command
from ..progress import progress_bar, status

if TYPE_CHECKING:
    from zerocon import Settings
    from zerocon.model import Model

EXTENSION = ".safetensors"


@help_command(
    "invert",
    examples=(
        "zerocon invert fox.png --model mini",
        "zerocon edit fox.png --to owl --inversion fox.safetensors --model mini",
        'zerocon invert cat.jpg --caption "a cat on a sofa" --steps 30',
    ),
)
@options.image_path
@options.lenient
@cloup.option_group(
    "Output",
    options.output(f"Inversion file. [default: IMAGE{EXTENSION}]"),
    options.overwrite,
)
@cloup.option_group(
    "Inversion",
    options.caption,
    *(options.settings[name] for name in ("steps", "seed", "inverter", "size")),
    options.no_cache,
)
@options.model
@options.max_megapixels
@options.output_format
@options.verbosity
def command(image_path: Path, output: Path | None, **values: Any) -> None:
    """Invert IMAGE to noise and save the inversion for many edits.

    The file holds the latents and the predicted noise of every step, the caption and a hash of
    the image: about 7 MB for 512x512 pixels and 50 steps. Attention maps and features (several GB
    at that size) are not saved; an edit recomputes them with one forward pass per step.
    """
    from zerocon.image.saving import check_output

    photograph = stdio.read(image_path, ReadOptions.of(values))
    output = output or stdio.require_name(image_path).with_suffix(EXTENSION)
    overwrite = values["overwrite"]
    inputs = options.input_files(values, stdio.source(image_path))
    check_output(output, overwrite=overwrite, inputs=inputs, endings=(EXTENSION,))
    explicit = options.explicit_settings(values)
    cache = options.cache(values, lambda warning: render.warn([warning]))

    import zerocon
    from zerocon.evaluation_count import count_evaluations

    model = options.load_model(values)
    settings = model.settings.overlay({**explicit, "cache_source": False})
    _require_savable(photograph.image.size, model, settings)
    warnings, quiet = [*photograph.truncation, *_idle_seed(settings)], options.is_quiet()
    render.warn(warnings)
    bar = progress_bar("Inverting", quiet)
    with status("Captioning ...", quiet), bar as tick, count_evaluations() as evaluations:
        inversion = zerocon.invert(
            photograph.image, model,
            caption=values["caption"], settings=settings, progress=tick, cache=cache,
        )  # fmt: skip
    inversion.save(output, overwrite=overwrite)
    record = {
        "schema": "zerocon.invert/1",
        "input": str(image_path),
        "output": str(output),
        "caption": inversion.captions[0],
        "model": inversion.model,
        "steps": settings.steps,
        "evaluations": render.cost(evaluations),
        "warnings": warnings,
    }
    render.print_result(values["form"], str(output), record)


def _require_savable(size: tuple[int, int], model: Model, settings: Settings) -> None:
    """Check before the inversion that its file will not be too large."""
    from zerocon.model.tensor_file import require_readable
    from zerocon.trajectory import NOUN, bytes_in_file

    padded = model.working_size.with_size(settings.size).padded(size)
    size_in_file = bytes_in_file(settings.steps + 1, padded, model.vae_scale_factor)
    require_readable(size_in_file, NOUN, "; use fewer steps or a smaller size")


def _idle_seed(settings: Settings) -> list[str]:
    """A line about a seed on the command line that cannot change the inversion."""
    from zerocon.diagnostics.effects import NO_DRAW
    from zerocon.editing import Plan

    idle = options.on_command_line("seed") and not Plan.of(settings).inverter_draws
    return [f"--seed {NO_DRAW}"] if idle else []
