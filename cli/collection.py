"""Garbage collection of a process that loads a model, uses it and ends."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collection() -> Iterator[None]:
    """No garbage collection inside the block, nor later of any object that exists at its end.

    For blocks that import libraries and load a model: a million objects, of which almost all live
    until the process ends. The collector would traverse them again and again while they are made,
    and several times at exit, which took a third of the CPU time of an edit with ``mini``.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
