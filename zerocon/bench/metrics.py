"""What the judges and the truth say of a picture: was it done, and did the rest stay?"""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from zerocon.bench.tasks import Task

if TYPE_CHECKING:
    from zerocon.bench.classifiers import Classifiers

EQUAL = 99.0  # dB where no byte differs: infinity has no mean


@dataclass(frozen=True)
class TaskMetrics:
    """On one picture.

    ``asked``: every judge of a changed parameter sees its new value. ``kept``: every other judge
    says what it says of the source's reconstruction. ``inside``: PSNR in dB to the true result in
    the region that should change; ``outside``: to the source's reconstruction elsewhere; None where
    there is no such region. All but ``asked`` are None for a picture that is no edit of the source.
    """

    asked: bool
    kept: bool | None
    inside: float | None
    outside: float | None
    wrong: tuple[str, ...]


def judge(
    task: Task, result: Image.Image, kept: Image.Image | None, classifiers: Classifiers
) -> TaskMetrics:
    """Judge ``result`` against the truth and against ``kept``, the source's reconstruction.

    Without ``kept`` the picture was made from nothing, and can only have what was asked for.
    """
    now, *before = classifiers.read([result] if kept is None else [result, kept])
    asked = {name: after for name, (_, after) in task.changed.items()}
    expected = {**before[0], **asked} if before else asked
    wrong = tuple(f"{n}: {now[n]}, not {expected[n]}" for n in expected if now[n] != expected[n])
    seen = all(now[name] == value for name, value in asked.items())
    if kept is None:
        return TaskMetrics(seen, None, None, None, wrong)
    truth = _array(task.truth)
    region = np.abs(truth - _array(task.image)).max(-1) > 0
    return TaskMetrics(
        asked=seen,
        kept=all(now[name] == expected[name] for name in expected if name not in asked),
        inside=psnr(_array(result), truth, region),
        outside=psnr(_array(result), _array(kept), ~region),
        wrong=wrong,
    )


def psnr(a: np.ndarray, b: np.ndarray, region: np.ndarray) -> float | None:
    """In dB over the pixels of ``region``, at most ``EQUAL``; None where there are none."""
    if not region.any():
        return None
    error = float(np.square(a - b)[region].mean())
    return min(10 * log10(255**2 / error), EQUAL) if error else EQUAL


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float64)
