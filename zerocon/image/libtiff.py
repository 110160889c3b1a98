"""Keeps libtiff's own lines off stderr: what is wrong with a file is said by its error."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from PIL import _imaging

STDERR = 2


@contextmanager
def quiet_libtiff() -> Iterator[None]:
    """Read images inside without lines of libtiff, one thread at a time.

    Its handlers of errors and warnings are replaced for the whole process, once. Where the library
    is built into Pillow so that they cannot be reached, stderr is closed meanwhile.
    """
    if _without_handlers():
        yield
        return
    saved, null = os.dup(STDERR), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, STDERR)
        yield
    finally:
        os.dup2(saved, STDERR)
        os.close(saved)
        os.close(null)


@cache
def _without_handlers() -> bool:
    """Replace the handlers by none; False where libtiff's functions cannot be found."""
    try:
        library = ctypes.CDLL(_imaging.__file__)  # finds those of the libraries that it uses
        setters = [getattr(library, f"TIFFSet{kind}Handler") for kind in ("Error", "Warning")]
    except (OSError, AttributeError):
        return False
    for setter in setters:
        setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
        setter(None)
    return True
