"""The edited image compared with its source and both captions, after the edit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops

from zerocon.image.transforms import Prepared

if TYPE_CHECKING:
    from zerocon.model import Model
    from zerocon.request import EditRequest
    from zerocon.settings import Settings

# Measured on the validation scenes of `zerocon bench world` with the embedded model, see
# docs/measurements.md: ``changed`` of successful edits is 27 and more, and at most 10 with a
# strength of 0.05.
LITTLE = 14.0
# Share of the source caption's lead over the target caption, in CLIP's cosines, that an edit must
# remove: successful edits remove 0.7 and more, mostly twice the lead, those that fail for lack of
# strength mostly less than 0.4. It is a share, since two CLIP models have two scales.
REMOVED = 0.5


@dataclass(frozen=True)
class EditReview:
    """What the edited image is like.

    Attributes:
        changed: How much it differs from the source where it differs, in levels, 0..255; see
            ``mean_change``.
        similarity: CLIP cosines of the edited image to the source caption and to the target
            caption; None where there is no CLIP or the captions are the same.
    """

    changed: float
    similarity: tuple[float, float] | None = None


def review_edit(
    image: Image.Image, source: Prepared, request: EditRequest, model: Model
) -> EditReview:
    """Compare an edited image with its source and its captions; costs one call of CLIP.

    Args:
        image: The edited image, in the size of the source image.
        source: The source image.
        request: The captions.
        model: Has the CLIP.
    """
    similarity = None
    if request.similarity is not None and request.changes and model.scorer is not None:
        captions = [request.caption, request.target_caption]
        before, after = model.scorer.similarity(image, captions)
        similarity = (before, after)
    return EditReview(mean_change(source.image.convert("RGB"), image), similarity)


def doubts(review: EditReview, request: EditRequest, settings: Settings) -> tuple[str, ...]:
    """A warning if the edit had little effect, or another one than the target caption; or none.

    An image without any change is reported where it is composited. With ``composite="model"`` the
    error of the autoencoder hides a small change. A negative strength is no edit to the target.
    """
    if review.changed < LITTLE and settings.composite == "native":
        little = f"little changed: {review.changed:.1f} of 255 levels; try a larger --strength"
        return (little,) if review.changed else ()
    before, after = request.similarity, review.similarity
    if before is None or after is None or settings.strength < 0:
        return ()
    return (_unlike(before, after),) if is_unlike_target(before, after) else ()


def mean_change(before: Image.Image, after: Image.Image) -> float:
    """Mean absolute difference of two RGB images of one size, weighted by the difference.

    That is ``sum(d ** 2) / sum(d)`` over all samples, in levels of 0..255. Samples that are equal
    have no weight, so that it does not depend on how large the changed part is.
    """
    counts = np.reshape(ImageChops.difference(after, before).histogram(), (-1, 256)).sum(0)
    levels = np.arange(256.0)
    total = float(counts @ levels)
    return float(counts @ levels**2) / total if total else 0.0


def is_unlike_target(before: tuple[float, float], after: tuple[float, float]) -> bool:
    """Whether an edit left most of the source caption's lead over the target caption.

    Where the target caption leads before the edit, it must not lead by less afterwards.

    Args:
        before: Cosines of the source image to the source and the target caption.
        after: Those of the edited image.
    """
    lead, new_lead = before[1] - before[0], after[1] - after[0]
    return new_lead < (lead * (1 - REMOVED) if lead < 0 else lead)


def _unlike(before: tuple[float, float], after: tuple[float, float]) -> str:
    return (
        f"the result does not look like the target caption: CLIP {after[1]:.3f}, source caption "
        f"{after[0]:.3f} (before the edit {before[1]:.3f} and {before[0]:.3f})"
    )
