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
    picture: Image,
    model: Model,
    image: Path,
    output: Path,
    values: Mapping[str, Any],
    *,
    inversion: Inversion | None,
    settings: Settings,
    caption: str | None,
    cache: Cache | None,
    **wish: Any,
) -> None:
    """Say how the wish is understood and what it would cost; compute nothing, write nothing."""
    from zerocon import api, request
    from zerocon.diagnostics.cost import foretell

    origin = "given"
    if inversion is not None:
        caption, settings = api.resume(inversion, picture, model, caption, settings)
    understood = request.understand(picture, model, caption=caption, settings=settings, **wish)
    render.announce(options.hushed(), understood)
    if inversion is None:
        captions = [understood.wording.caption]
        inversion = api.find_together([picture], model, captions, settings=settings, cache=cache)
        origin = "made" if inversion is None else "found"
    watched = inversion.watches if inversion else ()
    known = inversion is not None
    cost = foretell(model, settings, picture.size, inverted=known, watched=watched)
    about = (understood, settings, model.name, cost.evaluations, origin)
    record = render.record(*about, image, output, values)
    more = {"dry_run": True, "operations": cost.operations, "bytes": render.memory(cost)}
    render.tell(values["form"], f"{output}: {render.plan(cost)}", record | more)


def foresee_many(run: Run) -> int:
    """Say what a run would do and cost; compute one evaluation to know how long, write nothing."""
    from zerocon.batch import estimate

    orders = [new.order for _, new in run.entered]
    cost = estimate.foretell(run.model, orders)
    edits = [{"input": str(o.picture), "output": str(run.outputs / o.name)} for o in orders]
    record = {
        "schema": "zerocon.batch-plan/1",
        "output": str(run.outputs),
        "of": len(run.orders),
        "skipped": len(run.kept),
        "edits": edits,
        "evaluations": render.cost(cost.evaluations),
        "seconds": round(cost.seconds, 3),
        "bytes": cost.peak,
    }
    lines = [f"{edit['input']} -> {edit['output']}" for edit in edits]
    about = timedelta(seconds=round(cost.seconds))
    lines.append(
        f"{len(orders)} edits of {cost.pictures} pictures, {len(run.kept)} stay as they are: "
        f"{cost.evaluations.total:.1f} U-Net evaluations, about {about} here, "
        f"{cost.peak / 1e9:.2f} GB at most"
    )
    render.tell(run.values["form"], "\n".join(lines), record)
    return 0
