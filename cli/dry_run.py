"""What an edit would do and cost, without doing it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options, render

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon import Cache, Inversion, Model, Settings


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
