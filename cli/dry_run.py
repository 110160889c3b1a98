"""``--dry-run``: what an edit would do and cost, without doing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options, render

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon import Cache, EditRequest, Inversion, Model, Settings
    from zerocon.diagnostics.grid import Axis
    from zerocon.image.masks import UserMask
    from zerocon.image.transforms import Prepared


def print_edit_plan(
    image: Image,
    model: Model,
    image_path: Path,
    output: Path,
    values: Mapping[str, Any],
    warnings: Sequence[str],
    axes: Sequence[Axis],
    *,
    inversion: Inversion | None,
    settings: Settings,
    caption: str | None,
    cache: Cache | None,
    mask: UserMask | None,
    **prompt: Any,
) -> None:
    """Print the parsed prompt and the estimated cost of an edit; nothing is inverted or written."""
    from zerocon import api, request
    from zerocon.diagnostics.cost import estimate_cost
    from zerocon.diagnostics.grid import estimate_grid

    source = "given"
    prepared = api.prepared_for(image, model, settings)
    if inversion is not None:
        caption, settings = api.settings_for(inversion, prepared, model, caption, settings)
    parsed = request.parse_request(image, model, caption=caption, settings=settings, **prompt)
    render.print_request(options.is_quiet(), parsed)
    if inversion is None:
        inversion = _find_cached(prepared, model, parsed, settings, cache)
        source = "computed" if inversion is None else "cached"
    layers = inversion.layer_patterns if inversion else ()
    about: Any = {"inverted": inversion is not None, "watched": layers, "changes": parsed.kinds}
    cost = estimate_cost(model, settings, prepared.frame.source, **about)
    cost = estimate_grid(cost, model, settings, axes, parsed.kinds)
    facts = (parsed, settings, model.name, cost.evaluations, source)
    record = render.record(*facts, image_path, output, values) | render.axes(axes)
    record |= {"state": "planned", "dry_run": True, "warnings": [*warnings, *parsed.warnings]}
    record |= {"operations": cost.operations, "bytes": render.memory(cost)}
    region, words = _region(model, prepared, parsed, settings, mask)
    line = f"{output}: {render.plan(cost)}; {render.working_size(prepared.frame)}{words}"
    render.print_result(values["form"], line, record | region)


def _find_cached(
    image: Prepared, model: Model, parsed: EditRequest, settings: Settings, cache: Cache | None
) -> Inversion | None:
    """The inversion that the edit will find in the cache."""
    from zerocon import api
    from zerocon.editing import Plan

    plan = Plan.of(settings, [parsed.kinds])
    return api.find_cached([image], model, [parsed.caption], plan=plan, cache=cache)


def _region(
    model: Model,
    image: Prepared,
    parsed: EditRequest,
    settings: Settings,
    mask: UserMask | None,
) -> tuple[dict[str, Any], str]:
    """Scale and part of the image that an edit will change, as JSON fields and in words."""
    from zerocon.diagnostics.cost import estimate_cost
    from zerocon.image.support import expected_support

    frame, words = image.frame, ""
    facts: dict[str, Any] = {"working_size": frame.inner, "reduction": round(frame.reduction, 2)}
    facts |= {"crop": image.crop and render.box_text(image.crop), "support": None}
    if settings.composite == "native":
        extent, reason = expected_support(parsed.changes, settings.lock, given=mask is not None)
        facts["support"] = {"extent": extent, "reason": reason, "share": None}
        words = f"; changes {reason}"
    if settings.crop == "auto":
        again = estimate_cost(model, settings, frame.source, changes=parsed.kinds).evaluations
        facts["crop_evaluations"] = render.cost(again)
        words += f"; {again.total:.1f} more evaluations if a crop is edited"
    return facts, words
