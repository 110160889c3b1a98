"""The guidance scale of a checkpoint, from how strongly it answers to captions.

Classifier-free guidance extrapolates the difference between two predictions. How large that
difference is differs between checkpoints, and with it the scale that edits well. Measured is

    r = mean of |eps(x, t, c') - eps(x, t, c)| / |eps(x, t, c)|

over pairs of captions ``c``, ``c'`` that differ in one word, at noise ``x`` and several levels. The
scale is ``PRODUCT / r``, which is that of the embedded model. On two copies of it that answer less
and more to captions, "both" (success and preservation) was 6 points (-19 to +3) below that of the
best of four given scales, and equal to it, on 32 scenes each; docs/measurements.md has the table.
It has not been measured on a model with other weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerocon.errors import NotFiniteError, NotWritableError, SettingError
from zerocon.model.fingerprint import cache_folder
from zerocon.storage.atomic import writing
from zerocon.storage.private import read_unshared

if TYPE_CHECKING:
    from zerocon.model import Model

PRODUCT = 0.14  # scale times r at the working point of the embedded model
STEPS, LEVELS = 12, (12, 9, 6, 3)  # levels of a schedule of 12 steps
PAIRS = (  # an object, a color, a place, a time; twice each
    ("a drawing of a dog in the city", "a drawing of a cat in the city"),
    ("a drawing of a boat on the beach", "a drawing of a car on the beach"),
    ("a red car in the desert", "a blue car in the desert"),
    ("a painting of a white cat in a meadow", "a painting of an orange cat in a meadow"),
    ("a drawing of a dog in the forest", "a drawing of a dog on the beach"),
    ("a drawing of a house in the snow", "a drawing of a house in the desert"),
    ("a tree in a meadow", "a tree in a meadow at night"),
    ("a drawing of a bus in the city", "a drawing of a bus in the city at sunset"),
)
EVALUATIONS = 2 * len(PAIRS) * len(LEVELS)
FILE = "guidance_scales.json"  # in the cache directory: {key: response}

Progress = Callable[[int, int], None]  # called with (done, total) U-Net evaluations


@dataclass(frozen=True)
class MeasuredScale:
    """The guidance scale of a checkpoint.

    Attributes:
        response: ``r``; 0.081 for the embedded model.
        measured: Whether it was measured just now, in ``EVALUATIONS`` U-Net evaluations; else it is
            from the cache directory.
    """

    response: float
    measured: bool

    @property
    def scale(self) -> float:
        """``PRODUCT / r``, rounded to two digits: more are not significant."""
        return float(f"{PRODUCT / self.response:.2g}")


def measured_scale(
    model: Model, *, again: bool = False, progress: Progress | None = None
) -> MeasuredScale:
    """The guidance scale of ``model``: measured, or as it was measured before.

    Args:
        model: A loaded model.
        again: Measure even if there is an earlier result, and replace it.
        progress: Called while it is measured.

    Raises:
        NotFiniteError: if the U-Net does not answer to captions, or predicts NaN or infinity.
    """
    key = _key(model)
    stored = {} if again or key is None else _read()
    response = stored.get(key or "")
    if isinstance(response, float) and 0 < response < float("inf"):
        return MeasuredScale(response, measured=False)
    result = MeasuredScale(measure_response(model, progress), measured=True)
    if key is not None:
        # a disk that is full or read-only, or a missing home directory, only costs time
        with suppress(OSError, RuntimeError):
            _keep(key, result.response)
    return result


def calibrate(model: Model, progress: Progress | None = None) -> tuple[MeasuredScale, Path]:
    """Measure the guidance scale again, and keep it where edits find it; returns the file too.

    Args:
        model: A loaded model.
        progress: Called while it is measured.

    Raises:
        SettingError: for a model without weight files, whose result has no place.
        NotFiniteError: as ``measured_scale``.
        NotWritableError: if there is no cache directory; or another error of writing.
    """
    key = _key(model)
    if key is None:
        raise SettingError(
            f"{model.name} has no weight files, so that a guidance scale cannot be kept for it; "
            "set guidance_scale in its Settings"
        )
    response = measure_response(model, progress)
    try:
        return MeasuredScale(response, measured=True), _keep(key, response)
    except RuntimeError as error:  # of ``Path.home``
        raise NotWritableError(f"no cache directory: {error}; set ZEROCON_CACHE") from None


def measure_response(model: Model, progress: Progress | None = None) -> float:
    """``r`` of ``model``, in ``EVALUATIONS`` U-Net evaluations of latents of its own size.

    Raises:
        NotFiniteError: if it is not a positive number.
    """
    import torch

    from zerocon.rng import seeded_generator

    side = model.size // model.vae_scale_factor
    shape = (1, model.unet.config.in_channels, side, side)
    levels, ratios = model.schedule(STEPS).levels, []
    with model.lock, torch.no_grad():
        for pair in PAIRS:
            c = model.embed(pair)
            for level in LEVELS:
                noise = torch.randn(shape, generator=seeded_generator(f"scale/{pair[0]}/{level}"))
                x = noise.to(model.device).expand(2, -1, -1, -1)
                before, after = model.eps(x, levels[level].time, c)
                ratios.append(float((after - before).norm() / before.norm()))
                if progress is not None:
                    progress(2 * len(ratios), EVALUATIONS)
    response = sum(ratios) / len(ratios)
    if not 0 < response < float("inf"):
        raise NotFiniteError(
            f"the guidance scale of {model.name} cannot be measured: its predictions under two "
            f"captions differ by {response} of their size; set --guidance-scale"
        )
    return response


def _key(model: Model) -> str | None:
    """What a measurement depends on, hashed; None for a model without a fingerprint."""
    fingerprint = model.fingerprint()
    if fingerprint is None:
        return None
    facts = [fingerprint, model.prediction, model.size, model.runtime.dtype, PAIRS, STEPS, LEVELS]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def _read() -> Mapping[str, Any]:
    try:
        stored = json.loads(read_unshared(cache_folder() / FILE) or "{}")
    except (ValueError, RuntimeError):  # damaged: measure again
        return {}
    return stored if isinstance(stored, dict) else {}


def _keep(key: str, response: float) -> Path:
    """Add a result to the file, and return its path."""
    file = cache_folder() / FILE
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with writing(file, overwrite=True) as temporary:
        temporary.chmod(0o600)
        text = json.dumps({**_read(), key: response}, indent=1, sort_keys=True)
        temporary.write_text(text, encoding="utf-8")
    return file
