"""``--dry-run``: what an edit would do and cost, without doing it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options, render

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon import Cache, Inversion, Model, Settings

    from .batch_run import Run


def print_edit_plan(
    image: Image,
    model: Model,
    image_path: Path,
    output: Path,
    values: Mapping[str, Any],
    *,
    inversion: Inversion | None,
    settings: Settings,
    caption: str | None,
    cache: Cache | None,
    **prompt: Any,
) -> None:
    """Print the parsed prompt and the estimated cost of an edit; nothing is inverted or written."""
    from zerocon import api, request
    from zerocon.diagnostics.cost import estimate_cost
    from zerocon.editing import Plan
    from zerocon.image.transforms import prepare

    source = "given"
    if inversion is not None:
        prepared = prepare(image, model.size, model.multiple)
        caption, settings = api.settings_for(inversion, prepared, model, caption, settings)
    parsed = request.parse_request(image, model, caption=caption, settings=settings, **prompt)
    render.print_request(options.is_quiet(), parsed)
    if inversion is None:
        captions = [parsed.rewrite.caption]
        plan = Plan.of(settings)
        inversion = api.find_cached([image], model, captions, plan=plan, cache=cache)
        source = "computed" if inversion is None else "cached"
    layers = inversion.layer_patterns if inversion else ()
    inverted = inversion is not None
    cost = estimate_cost(model, settings, image.size, inverted=inverted, watched=layers)
    facts = (parsed, settings, model.name, cost.evaluations, source)
    record = render.record(*facts, image_path, output, values)
    record |= {"dry_run": True, "operations": cost.operations, "bytes": render.memory(cost)}
    render.print_result(values["form"], f"{output}: {render.plan(cost)}", record)


def print_batch_plan(run: Run) -> int:
    """Print the jobs and the estimated cost of a batch; one U-Net evaluation is timed."""
    from zerocon.batch import estimate

    jobs = [new.job for _, new in run.entered]
    cost = estimate.estimate_cost(run.model, jobs)
    edits = [{"input": str(job.image), "output": str(run.outputs / job.name)} for job in jobs]
    record = {
        "schema": "zerocon.batch-plan/1",
        "output": str(run.outputs),
        "of": len(run.jobs),
        "skipped": len(run.kept),
        "edits": edits,
        "evaluations": render.cost(cost.evaluations),
        "seconds": round(cost.seconds, 3),
        "bytes": cost.peak,
    }
    lines = [f"{edit['input']} -> {edit['output']}" for edit in edits]
    duration = timedelta(seconds=round(cost.seconds))
    lines.append(
        f"{len(jobs)} edits of {cost.images} images, {len(run.kept)} skipped as done: "
        f"{cost.evaluations.total:.1f} U-Net evaluations, about {duration} on this machine, "
        f"{cost.peak / 1e9:.2f} GB peak memory"
    )
    render.print_result(run.values["form"], "\n".join(lines), record)
    return 0
