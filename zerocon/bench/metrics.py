"""Metrics of one edit against its exact result: edit success, preservation, PSNR.

Success and preservation are decided by classifiers, which read "unclear" where a parameter has no
probable value: that is neither a success nor preserved. A changed parameter must be about as clear
as in the exact result, as far as the autoencoder can show that (``MIN_CLEARNESS``); for the others
it is enough that the value is still the probable one.
Classifiers can be wrong, and the autoencoder can lose a parameter, so only those parameters are
compared whose true value is read on the reference too. Classifiers may overlook what should be
removed, and a result may have lost another thing: a removal must also change the pixels that it
should towards the exact result.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from zerocon.bench.tasks import Task
from zerocon.world import truth

if TYPE_CHECKING:
    from zerocon.bench.classifiers import Classifiers

# chosen on validation scenes that were labeled by eye
CLEAR = 0.5  # probability of a value that can be seen
MIN_CLEARNESS = 0.8  # of the way from the source to the exact result, in logits
MIN_REMOVAL = 0.2  # of the exact change; what the model paints behind the thing may differ
MAX_PSNR = 99.0  # dB for equal images: infinity has no mean


@dataclass(frozen=True)
class TaskMetrics:
    """Metrics of one result. All but ``success`` are None if the method ignores the source.

    Attributes:
        success: Whether the classifiers of all changed parameters predict the target values with
            a probability of at least ``CLEAR`` and a clearness of at least ``MIN_CLEARNESS``, and
            a removal makes at least ``MIN_REMOVAL`` of the exact change: the projection of result
            - reference on exact result - source, in the region that should change.
        preserved: Whether all other classifiers that predict the true values for the reference
            predict them for the result.
        psnr_inside: PSNR in dB to the exact result, in the region that should change; None if
            there is no such region.
        psnr_outside: PSNR in dB to the reference, outside that region; None if there is no such
            region.
        errors: Every wrong prediction as ``name: predicted, not expected``, ``name: less clear
            than in the exact result``, or ``name: not removed``.
    """

    success: bool
    preserved: bool | None
    psnr_inside: float | None
    psnr_outside: float | None
    errors: tuple[str, ...]


def evaluate(
    task: Task,
    result: Image.Image,
    reference: Image.Image | None,
    classifiers: Classifiers,
    shown: tuple[Image.Image, Image.Image] | None = None,
) -> TaskMetrics:
    """Metrics of ``result``.

    The clearness of a changed parameter is (m(result) - m(source)) / (m(exact) - m(source)), where
    m is the logit of the new value minus that of the old one: 0 for the source and 1 for the exact
    result. It tells a subject with the parts of two kinds from one of the new kind, where the
    probability of the new kind is near 1 in both.

    Args:
        task: The task, with its exact result.
        result: An image of the task's size.
        reference: What an edit should preserve: the source image, or the source encoded and
            decoded; None for a result that was made without the source, of which only the success
            is measured.
        classifiers: Classifiers of the named parameters.
        shown: Source and exact result, encoded and decoded; None for the images as drawn.
    """
    target = {name: after for name, (_, after) in task.changed.items()}
    errors = _wrong(target, classifiers.read([result], CLEAR)[0])
    for name in _faint(task, result, shown or (task.image, task.truth), classifiers):
        errors.setdefault(name, f"{name}: less clear than in the exact result")
    if reference is None:
        return TaskMetrics(not errors, None, None, None, tuple(errors.values()))
    predicted, before = classifiers.read([result, reference])
    kept = _read_correctly(before, task)
    errors |= _wrong(kept, predicted)
    source, exact, edited = (_array(image) for image in (task.image, task.truth, result))
    region = np.abs(exact - source).max(-1) > 0
    if removed := {name for name, value in target.items() if value == "none"} - errors.keys():
        edit, ideal = (edited - _array(reference))[region], (exact - source)[region]
        if (edit * ideal).sum() < MIN_REMOVAL * np.square(ideal).sum():
            errors |= {name: f"{name}: not removed" for name in removed}
    return TaskMetrics(
        success=not target.keys() & errors.keys(),
        preserved=not kept.keys() & errors.keys(),
        psnr_inside=psnr(edited, exact, region),
        psnr_outside=psnr(edited, _array(reference), ~region),
        errors=tuple(errors.values()),
    )


def _wrong(expected: dict[str, str], predicted: dict[str, str]) -> dict[str, str]:
    """A line for every parameter that is predicted wrongly."""
    return {
        name: f"{name}: {predicted[name]}, not {value}"
        for name, value in expected.items()
        if predicted[name] != value
    }


def _faint(
    task: Task,
    result: Image.Image,
    shown: tuple[Image.Image, Image.Image],
    classifiers: Classifiers,
) -> list[str]:
    """The changed parameters whose clearness is below ``MIN_CLEARNESS``."""
    pairs = {name: (after, before) for name, (before, after) in task.changed.items()}
    edited, before, exact = classifiers.margins([result, *shown], pairs)
    return [
        name
        for name in pairs
        if edited[name] - before[name] < MIN_CLEARNESS * (exact[name] - before[name])
    ]


def _read_correctly(predicted: dict[str, str], task: Task) -> dict[str, str]:
    """The parameters that should not change and are predicted correctly for the reference."""
    return {
        name: value
        for name, value in truth(task.source).items()
        if name not in task.changed and predicted[name] == value
    }


def psnr(a: np.ndarray, b: np.ndarray, region: np.ndarray) -> float | None:
    """PSNR in dB of values 0..255 over the pixels of ``region``; None if it is empty."""
    if not region.any():
        return None
    error = float(np.square(a - b)[region].mean())
    return min(10 * log10(255**2 / error), MAX_PSNR) if error else MAX_PSNR


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float64)
