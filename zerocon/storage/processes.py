"""Processes that zerocon starts import no module from the working directory."""

from __future__ import annotations

import os

VARIABLE = "PYTHONSAFEPATH"


def safe_environment() -> dict[str, str]:
    """The environment for a Python process that imports nothing from the working directory.

    ``python -m`` and ``-c`` put it, and so any ``torch.py`` in it, before the installed packages;
    an empty or relative part of ``PYTHONPATH`` names it too.
    """
    safe = {**os.environ, VARIABLE: "1"}
    parts = [part for part in safe.pop("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(part)]
    return {**safe, "PYTHONPATH": os.pathsep.join(parts)} if parts else safe


def use_safe_environment() -> None:
    """Give ``safe_environment`` to all processes that this one and its libraries will start."""
    safe = safe_environment()
    for name in ("PYTHONPATH", VARIABLE):
        if name in safe:
            os.environ[name] = safe[name]
        else:
            os.environ.pop(name, None)
