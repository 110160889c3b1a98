"""Options of ``pytest -m stress``, registered by tests/conftest.py.

pytest reads options before it finds tests/stress/conftest.py, so they cannot be defined there.
"""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stress", "fault injection and soak test (-m stress)")
    group.addoption(
        "--stress-results",
        type=Path,
        metavar="FILE",
        help="Save one JSON line per injection; with an existing file, only the missing ones run.",
    )
    group.addoption("--kills", type=int, metavar="N", help="Number of kill -9. [default: 50]")
    group.addoption(
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="Directory of the runs; those with violations stay there. [default: temporary]",
    )
    group.addoption(
        "--soak-edits",
        type=int,
        default=500,
        metavar="N",
        help="Edits of the soak test. [default: 500]",
    )
    group.addoption(
        "--soak-plot", type=Path, metavar="FILE", help="Plot the soak test's memory over edits."
    )
