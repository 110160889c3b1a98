"""Garbage collection while libraries and models are loaded."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collection(*, exempt: bool) -> Iterator[None]:
    """No garbage collection inside the block.

    Importing the libraries and loading a model makes a million objects, of which almost all live
    until the process ends. The collector would traverse them again and again while they are made,
    and once more at exit, which took a third of the CPU time of an edit with ``mini``.

    Args:
        exempt: Whether all objects that exist at the end are exempt from collection from then on;
            for a process that ends soon, since garbage among them is never freed.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if exempt:
            gc.freeze()
        if enabled:
            gc.enable()
