"""Mutated images of all formats give an image or an error of zerocon, in 5 s and 1.5 GB."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from stress import fuzz

IMAGES = 20_000
TESTS = Path(__file__).parent.parent


def failures(first: int, last: int) -> tuple[dict[int, str], Counter[str]]:
    """Seeds that ended the worker, with the reason, and how often each result occurred.

    A worker reads one image after the other; one that dies is followed by another.
    """
    failed: dict[int, str] = {}
    results: Counter[str] = Counter()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    while first < last:
        command = [sys.executable, "-m", "stress.fuzz", str(first), str(last)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        lines = [line.split() for line in done.stdout.splitlines()]
        results.update(line[1] for line in lines if len(line) > 1)
        if done.returncode == 0:
            break
        assert lines, done.stderr  # it did not even start
        seed = int(lines[-1][0])
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        failed[seed], first = reason[0], seed + 1
    return failed, results


@pytest.mark.stress
@pytest.mark.parametrize("first", range(0, IMAGES, 2_000))
def test_mutated_images(first: int) -> None:
    failed, results = failures(first, first + 2_000)
    print(f"seeds {first} to {first + 1_999}: {dict(results)}; failed: {failed}")
    assert failed == {} and len(results) > 2


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of memory")
def test_a_few_mutated_images() -> None:
    failed, results = failures(0, 150)
    assert failed == {} and results.total() == 150


def test_a_seed_gives_one_image() -> None:
    assert fuzz.mutated(7) == fuzz.mutated(7) != fuzz.mutated(8)
