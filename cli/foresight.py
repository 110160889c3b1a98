"""What an edit would do and cost, without doing it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options, report

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon import Cache, Inversion, Model, Settings


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
    from zerocon import library
    from zerocon.forecast import foretell

    origin = "given"
    if inversion is not None:
        caption, settings = library.resume(inversion, picture, model, caption, settings)
    understood = library.understand(picture, model, caption=caption, settings=settings, **wish)
    report.announce(options.hushed(), understood)
    if inversion is None:
        captions = [understood.wording.caption]
        inversion = library.find_together(
            [picture], model, captions, settings=settings, cache=cache
        )
        origin = "made" if inversion is None else "found"
    watched = inversion.watches if inversion else ()
    known = inversion is not None
    cost = foretell(model, settings, picture.size, inverted=known, watched=watched)
    about = (understood, settings, model.name, cost.evaluations, origin)
    record = report.record(*about, image, output, values)
    more = {"dry_run": True, "operations": cost.operations, "bytes": report.memory(cost)}
    report.tell(values["form"], f"{output}: {report.plan(cost)}", record | more)
