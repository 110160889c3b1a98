"""Exemplars, and warnings: about what a translation is given, and about what came out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from PIL import Image as PILImage
from PIL.Image import Image
from torch import Tensor

from zerocon.errors import SettingError
from zerocon.exemplar.condition import Condition
from zerocon.exemplar.translators import TranslatedLatents
from zerocon.image.reading import Photograph
from zerocon.image.transforms import Prepared
from zerocon.storage.hashing import image_hash

ENLARGED = 1.5  # times that a result is enlarged before it is warned of
EVEN = 2.0  # standard deviation, in levels of 0..255, of an image of one color
# Mean difference, in levels, below which a result is a copy. Of 40 drawn scenes an autoencoder's
# copy differs by 7 at most, and another scene in the same colors by 23 at least.
COPIED = 10.0
TRANSPARENT = 0.001  # share of an image that is warned of
UNMATCHED = 0.25  # mean confidence below which the match of a class is uncertain
LARGE_CLASS = 0.005  # share of the cells: smaller classes are not reported
SHOWN = 5  # classes in a warning


@dataclass(frozen=True)
class Exemplar:
    """An exemplar with its weight, a name for messages, and warnings about its file."""

    image: Image
    weight: float = 1.0
    name: str = "the exemplar"
    warnings: tuple[str, ...] = ()


def file_warnings(photograph: Photograph | None, name: str) -> tuple[str, ...]:
    """Warnings about the file of a condition or an exemplar; none where there was no file."""
    if photograph is None:
        return ()
    lines, share = list(photograph.warnings), photograph.transparency
    if share >= TRANSPARENT:
        lines.append(f"{share:.0%} of it is transparent, which is taken as white")
    return tuple(f"{name}: {line}" for line in lines)


def checked_weight(weight: float) -> float:
    """The weight of an exemplar; ``SettingError`` unless it is a number above 0."""
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not isfinite(weight) or weight <= 0:
        raise SettingError(f"the weight of an exemplar must be a number above 0, not {weight!r}")
    return float(weight)


def check_inputs(
    condition: Condition, exemplars: Sequence[Exemplar], prepared: Prepared
) -> Iterator[str]:
    """Warnings about what is given, before anything is computed."""
    yield from condition.warnings
    frame = prepared.frame
    if frame.reduction > ENLARGED:
        width, height = frame.inner
        yield (
            f"the result is computed at {width}x{height} pixels, the size of the model's images, "
            f"and enlarged {frame.reduction:.1f} times"
        )
    first_names = {image_hash(condition.source): ""}
    for each in exemplars:
        yield from each.warnings
        if _is_even(each.image):
            yield f"{each.name} has one color: there is no appearance to take from it"
        first = first_names.setdefault(image_hash(each.image), each.name)
        if first == "":
            yield f"{each.name} is the image of the condition itself: the result may be its copy"
        elif first != each.name:
            yield f"{each.name} is the same image as {first}: their weights add up"


def check_result(
    image: Image,
    exemplars: Sequence[Exemplar],
    condition: Condition,
    prepared: Prepared,
    result: TranslatedLatents,
) -> Iterator[str]:
    """Warnings about a translated image."""
    if _is_even(image) and not all(_is_even(each.image) for each in exemplars):
        yield "the result has one color: nothing of the condition is visible in it"
    copied = [each.name for each in exemplars if _is_copy(image, each.image)]
    if not copied and _is_copy(image, condition.source):
        copied = ["the condition"]
    for name in copied:
        yield f"the result is nearly a copy of {name}"
    if result.correspondence is None:
        return
    confidence = result.correspondence.confidence[0, 0].float().cpu()
    if condition.kind == "label":
        yield from _uncertain_classes(confidence, prepared)
    elif float(confidence.mean()) < UNMATCHED:
        yield (
            f"little of the condition matches the exemplar (mean confidence "
            f"{float(confidence.mean()):.2f}): its colors may be at the wrong places"
        )


def _uncertain_classes(confidence: Tensor, prepared: Prepared) -> Iterator[str]:
    """A warning about labels whose match is uncertain, as it often is where a class is missing."""
    rows, columns = confidence.shape
    width, height = prepared.size
    inner = prepared.frame.inner
    y = (np.arange(rows) + 0.5) * height / rows
    x = (np.arange(columns) + 0.5) * width / columns
    y, x = y[y < inner[1]].astype(int), x[x < inner[0]].astype(int)  # without padding
    labels = np.asarray(prepared.image)[y[:, None], x[None]].reshape(-1, 3)
    values = confidence[: len(y), : len(x)].reshape(-1).numpy()
    colors, indices = np.unique(labels, axis=0, return_inverse=True)
    counts = np.bincount(indices.ravel())
    means = np.bincount(indices.ravel(), values) / counts
    uncertain = [
        "#{:02x}{:02x}{:02x}".format(*colors[i])
        for i in np.argsort(-counts)
        if means[i] < UNMATCHED and counts[i] >= LARGE_CLASS * len(labels)
    ]
    if uncertain:
        more = f" and {len(uncertain) - SHOWN} more" if len(uncertain) > SHOWN else ""
        yield (
            f"the match of {len(uncertain)} of {len(colors)} labels is uncertain, the exemplar may "
            f"lack them: {', '.join(uncertain[:SHOWN])}{more}"
        )


def _is_even(image: Image) -> bool:
    """Whether an image has one color, noise of JPEG files aside."""
    return bool(np.asarray(image.convert("RGB"), np.float32).std((0, 1)).max() < EVEN)


def _is_copy(image: Image, other: Image) -> bool:
    """Whether two images are nearly the same, and not of one color."""
    small = [
        np.asarray(each.convert("RGB").resize((64, 64), PILImage.Resampling.BOX), np.float32)
        for each in (image, other)
    ]
    return not _is_even(image) and float(np.abs(small[0] - small[1]).mean()) < COPIED
