"""When memory runs out: do with less, say so, and go on."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import torch

from zerocon.editing import Plan
from zerocon.errors import OutOfMemoryError, classify
from zerocon.settings import Settings

if TYPE_CHECKING:
    from zerocon.model import Model

T = TypeVar("T")


def within(
    run: Callable[[Settings], T],
    model: Model,
    settings: Settings,
    tell: Callable[[str], None] | None = None,
) -> T:
    """``run(settings)``, again with less each time that memory does not suffice.

    One step of a ladder at a time: look at the source again instead of remembering it; then what
    ``model.spare`` knows. ``tell`` hears each. An error that is none of memory goes through, and so
    does the one after the last step.
    """
    while True:
        try:
            return run(settings)
        except (MemoryError, RuntimeError) as error:
            if classify(error) is not OutOfMemoryError:
                raise
            remembers = settings.remember and bool(Plan.of(settings).watches)
            said = "looking at the source again instead of remembering it"
            spared = said if remembers else model.spare()
            if spared is None:
                raise
            settings = replace(settings, remember=False)
        # the error, and with it all that its frames held, is gone only now
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if tell is not None:
            tell(f"out of memory; {spared}")
