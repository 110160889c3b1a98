"""Metrics of one edit against its exact result: edit success, preservation, PSNR."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from zerocon.bench.tasks import Task

if TYPE_CHECKING:
    from zerocon.bench.classifiers import Classifiers

MAX_PSNR = 99.0  # dB for equal images: infinity has no mean


@dataclass(frozen=True)
class TaskMetrics:
    """Metrics of one result. All but ``success`` are None if the method ignores the source.

    Attributes:
        success: Whether the classifiers of all changed parameters predict the target values.
        preserved: Whether all other classifiers predict the same as for the reference.
        psnr_inside: PSNR in dB to the exact result, in the region that should change; None if
            there is no such region.
        psnr_outside: PSNR in dB to the reference, outside that region; None if there is no such
            region.
        errors: Every wrong prediction as ``name: predicted, not expected``.
    """

    success: bool
    preserved: bool | None
    psnr_inside: float | None
    psnr_outside: float | None
    errors: tuple[str, ...]


def evaluate(
    task: Task, result: Image.Image, reference: Image.Image | None, classifiers: Classifiers
) -> TaskMetrics:
    """Metrics of ``result``.

    Args:
        task: The task, with its exact result.
        result: An image of the task's size.
        reference: What an edit should preserve: the source image, or the source encoded and
            decoded; None for a result that was made without the source, of which only the success
            is measured.
        classifiers: Classifiers of the named parameters.
    """
    images = [result] if reference is None else [result, reference]
    predicted, *before = classifiers.read(images)
    target = {name: after for name, (_, after) in task.changed.items()}
    expected = {**before[0], **target} if before else target
    wrong = [name for name in expected if predicted[name] != expected[name]]
    errors = tuple(f"{name}: {predicted[name]}, not {expected[name]}" for name in wrong)
    success = not target.keys() & set(wrong)
    if reference is None:
        return TaskMetrics(success, None, None, None, errors)
    truth = _array(task.truth)
    region = np.abs(truth - _array(task.image)).max(-1) > 0
    return TaskMetrics(
        success=success,
        preserved=target.keys() >= set(wrong),
        psnr_inside=psnr(_array(result), truth, region),
        psnr_outside=psnr(_array(result), _array(reference), ~region),
        errors=errors,
    )


def psnr(a: np.ndarray, b: np.ndarray, region: np.ndarray) -> float | None:
    """PSNR in dB of values 0..255 over the pixels of ``region``; None if it is empty."""
    if not region.any():
        return None
    error = float(np.square(a - b)[region].mean())
    return min(10 * log10(255**2 / error), MAX_PSNR) if error else MAX_PSNR


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float64)
