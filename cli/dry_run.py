"""What an edit would do and cost, without doing it."""

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


def foresee(
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
    """Say how the wish is understood and what it would cost; compute nothing, write nothing."""
    from zerocon import api, request
    from zerocon.diagnostics.cost import estimate_cost

    origin = "given"
    if inversion is not None:
        caption, settings = api.resume(inversion, image, model, caption, settings)
    understood = request.parse_request(image, model, caption=caption, settings=settings, **prompt)
    render.announce(options.hushed(), understood)
    if inversion is None:
        captions = [understood.rewrite.caption]
        inversion = api.find_cached([image], model, captions, settings=settings, cache=cache)
        origin = "made" if inversion is None else "found"
    watched = inversion.layer_patterns if inversion else ()
    known = inversion is not None
    cost = estimate_cost(model, settings, image.size, inverted=known, watched=watched)
    about = (understood, settings, model.name, cost.evaluations, origin)
    record = render.record(*about, image_path, output, values)
    more = {"dry_run": True, "operations": cost.operations, "bytes": render.memory(cost)}
    render.tell(values["form"], f"{output}: {render.plan(cost)}", record | more)


def foresee_many(run: Run) -> int:
    """Say what a run would do and cost; compute one evaluation to know how long, write nothing."""
    from zerocon.batch import estimate

    jobs = [new.job for _, new in run.entered]
    cost = estimate.estimate_cost(run.model, jobs)
    edits = [{"input": str(o.image), "output": str(run.outputs / o.name)} for o in jobs]
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
    about = timedelta(seconds=round(cost.seconds))
    lines.append(
        f"{len(jobs)} edits of {cost.images} pictures, {len(run.kept)} stay as they are: "
        f"{cost.evaluations.total:.1f} U-Net evaluations, about {about} here, "
        f"{cost.peak / 1e9:.2f} GB at most"
    )
    render.tell(run.values["form"], "\n".join(lines), record)
    return 0
