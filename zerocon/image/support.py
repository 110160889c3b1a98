"""The support of an edit: where it acts.

It follows from what the edit really changed, the difference between the decoded edit and the
decoded source at working size. Of the signals that an edit gives away for nothing (the difference
of the predictions under the two captions, as in DiffEdit, arXiv 2210.11427; cross-attention of the
changed words; the latent difference) it alone is as good as the best for every kind of change.

The numbers in ``RULES`` were chosen on the validation scenes of ``zerocon bench world`` with the
embedded model; they are relative to the difference itself and to the image's side, and have not
been measured on another model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zerocon.image.compositing import Mask, Matte
from zerocon.image.transfer import Array, Detail, linear_fit, smooth

if TYPE_CHECKING:
    from zerocon.prompt import Change

Region: TypeAlias = NDArray[np.bool_]
Extent = Literal["local", "background", "changed", "all", "given"]

GIVEN, UNLOCKED = "the given mask", "the whole image, as the lock is off"  # reasons

SIDE = 128  # lengths in ``SupportRule`` are in pixels of a working image of this side
# Smallest normalization of the difference, in 0..1: below it all differences count as small, so
# that rounding errors never become a support.
FLOOR = 0.03
CHANGED = 0.05  # difference in 0..1 that counts as changed where no object is looked for
HOLES, ISLANDS = 0.012, 0.004  # shares of the image: smaller parts of a background are filled
MATTE_WINDOW = 6.0  # sigma in pixels of working size: it finds an outline up to so far away
MATTE_BAND = 3.0  # pixels of 128 inside the mask's edge in which its outline is looked for
MATTE_NOISE = 1e-3  # variance of colors, in 0..1, that do not count as an outline


@dataclass(frozen=True)
class SupportRule:
    """How the support of one kind of change is determined.

    The difference is smoothed, its median subtracted, and divided by its 98th percentile; all
    thresholds are in that unit. Lengths are in pixels of a working image of 128 pixels a side.

    Attributes:
        extent: "local" looks for the changed object; "background" takes all but large unchanged
            parts; "changed" takes whatever differs; "all" is the whole image.
        detail: What happens to the source's detail inside the support, see ``transfer``.
        reason: What it is, in a few words.
        smoothing: Sigma of the smoothing.
        core: Above it a pixel belongs to the support, if its part does.
        peak: A part must reach it somewhere.
        share: A part must have this share of the largest part's total difference.
        link: Parts at most twice as far apart are one.
        close: Radius of the closing that joins and rounds the parts.
        grow: Radius by which the result is grown, for the soft edges of new shapes.
        full: Where the difference is smaller, the mask is proportionally less than 1: what an edit
            hardly changed is changed still less.
        blur: Sigma of the mask's soft edge.
        outline: Whether the mask ends at the outline that the object has in the source.
    """

    extent: Extent
    detail: Detail
    reason: str
    smoothing: float = 1.0
    core: float = 0.4
    peak: float = 0.4
    share: float = 0.3
    link: float = 4
    close: float = 6
    grow: float = 2
    full: float = 0.3
    blur: float = 1.0
    outline: bool = False


RULES: dict[str, SupportRule] = {
    "object": SupportRule(
        "local", "strict", "only the replaced object", smoothing=1.5, core=0.2, share=0.1, grow=3
    ),
    "action": SupportRule(
        "local", "strict", "only what moves", smoothing=1.5, core=0.2, share=0.1, grow=3
    ),
    "attribute": SupportRule(
        "local", "kept", "only the object that has the attribute",
        core=0.3, peak=0.8, share=0.4, link=0, close=3, grow=1, outline=True,
    ),
    "added": SupportRule(
        "local", "strict", "only where something is added",
        smoothing=2.0, core=0.35, peak=1.0, close=3, grow=1,
    ),
    "removed": SupportRule(
        "local", "strict", "only what is removed",
        core=0.5, peak=0.6, share=0.5, link=2, close=3, outline=True,
    ),
    "place": SupportRule(
        "background", "strict", "all but the subject", smoothing=1.5, blur=0.7, outline=True
    ),
    "time": SupportRule("all", "kept", "the whole image, for a time or weather"),
    "style": SupportRule("all", "replaced", "the whole image, for a style"),
    "caption": SupportRule("changed", "strict", "all that the edit changes", smoothing=1.5),
}  # fmt: skip


@dataclass(frozen=True)
class Support:
    """Where an edit acts.

    Attributes:
        mask: At working size without padding, or a given one at its own size.
        extent: How it was determined: see ``SupportRule``; "given" for a mask of the user.
        reason: Why, in a few words.
    """

    mask: Mask
    extent: Extent
    reason: str

    @property
    def share(self) -> float:
        """Share of the image that may change, 0..1."""
        image = self.mask.image
        return float(np.asarray(image).mean()) / (255 if image.mode == "L" else 1)

    def __str__(self) -> str:
        return f"{100 * self.share:.0f} % of the image ({self.reason})"


def kind_of(change: Change) -> str:
    """The key of ``RULES`` for a change: its category, or "removed"."""
    return change.category if change.target else "removed"


def find_support(before: Array, after: Array, changes: Sequence[Change]) -> Support:
    """The support of an edit with these changes.

    Args:
        before: The decoded source, (height, width, 3) in 0..1, without padding.
        after: The decoded edit, like ``before``.
        changes: What changes between the captions; without any, all that differs.
    """
    rules = rules_for({kind_of(change) for change in changes})
    masks = [_mask(after - before, rule) for rule in rules]
    values = np.maximum.reduce(masks)
    matte = _matte(before, values) if all(rule.outline for rule in rules) else None
    mask = Mask(Image.fromarray(values), matte)
    return Support(mask, rules[0].extent, "; ".join(rule.reason for rule in rules))


def expected_support(
    changes: Sequence[Change], lock: str, *, given: bool = False
) -> tuple[Extent, str]:
    """Extent and reason of the support that an edit with these changes will have."""
    if given:
        return "given", GIVEN
    if lock == "off":
        return "all", UNLOCKED
    rules = rules_for({kind_of(change) for change in changes})
    return rules[0].extent, "; ".join(rule.reason for rule in rules)


def grown_mask(difference: Array, rule: SupportRule) -> Array:
    """The support of a difference between latents, (rows, columns, channels): soft, and wide.

    A latent is eight pixels wide, so that no radius is below one.
    """
    from scipy import ndimage

    size: Array = np.sqrt(np.square(difference).sum(-1))
    median = float(np.median(size))
    relative = (size - median) / max(float(np.percentile(size, 98)) - median, FLOOR)
    region = ndimage.binary_fill_holes(relative > rule.core / 2)
    soft = ndimage.gaussian_filter(_grown(region, 1).astype(np.float32), 0.7)
    return np.asarray(soft.clip(0, 1), np.float32)


def rules_for(kinds: Collection[str]) -> list[SupportRule]:
    """The rules whose masks together are the support of changes of these kinds.

    A kind that changes the whole image is enough; a background together with an object is whatever
    changed.
    """
    rules = [RULES[kind] for kind in RULES if kind in kinds] or [RULES["caption"]]
    whole = [rule for rule in rules if rule.extent == "all"]
    if len(rules) > 1 and not whole and any(rule.extent != "local" for rule in rules):
        return [RULES["caption"]]
    return whole or rules


def detail_of(changes: Sequence[Change]) -> Detail:
    """The least that these changes leave of the source's detail."""
    kinds = {kind_of(change) for change in changes} or {"caption"}
    details = {RULES[kind].detail for kind in kinds}
    return "replaced" if "replaced" in details else "strict" if "strict" in details else "kept"


def _mask(difference: Array, rule: SupportRule) -> Array:
    """The soft mask of one rule, (height, width) in 0..1."""
    from scipy import ndimage

    height, width = difference.shape[:2]
    if rule.extent == "all":
        return np.ones((height, width), np.float32)
    unit = np.sqrt(height * width) / SIDE
    size = np.abs(smooth(difference, rule.smoothing * unit)).max(-1)
    if rule.extent != "local":
        region = size > CHANGED
        if rule.extent == "background":
            region = ~_large(~region, HOLES)
            region = _large(region, ISLANDS)
        weight = np.ones_like(size)
    else:
        median = float(np.median(size))
        scale = max(float(np.percentile(size, 98)) - median, FLOOR)
        relative = (size - median) / scale
        region = _object(relative, rule, unit)
        weight = ndimage.maximum_filter((relative / rule.full).clip(0, 1), 3)
    soft = ndimage.gaussian_filter(region.astype(np.float32), rule.blur * unit)
    result: Array = (soft * weight).clip(0, 1).astype(np.float32)
    return result


def _matte(guide: Array, mask: Array) -> Matte:
    """The mask as a linear function of the guide's colors in every window: a guided filter."""
    from scipy import ndimage

    gain, offset = linear_fit(guide, mask[..., None], MATTE_WINDOW, MATTE_NOISE)
    unit = np.sqrt(mask.size) / SIDE
    inside = ndimage.distance_transform_edt(np.pad(mask > 0.5, 1, mode="edge"))[1:-1, 1:-1]
    core = ((inside / unit - MATTE_BAND) / 2).clip(0, 1) * mask
    return Matte(gain[..., 0, :], offset[..., 0], np.asarray(core, np.float32))


def _object(relative: Array, rule: SupportRule, unit: float) -> Region:
    """The parts of the image that changed most, joined, filled and grown."""
    from scipy import ndimage

    core = relative > rule.core
    labels, count = ndimage.label(_grown(core, rule.link * unit), np.ones((3, 3)))
    if not count:
        return core
    numbers = np.arange(1, count + 1)
    totals = ndimage.sum(relative * core, labels, numbers)
    totals = np.where(ndimage.maximum(relative, labels, numbers) > rule.peak, totals, 0)
    chosen = np.flatnonzero((totals > 0) & (totals >= rule.share * totals.max())) + 1
    region = core & np.isin(labels, chosen)
    if radius := round(rule.close * unit):
        padded = _grown(np.pad(region, radius + 1), radius)
        inner = (slice(radius + 1, -radius - 1),) * 2
        region = (ndimage.distance_transform_edt(padded) > radius)[inner]
    return _grown(ndimage.binary_fill_holes(region), rule.grow * unit)


def _grown(mask: Region, radius: float) -> Region:
    """The mask and all pixels at most ``radius`` away from it."""
    from scipy import ndimage

    if not mask.any():
        return mask
    grown: Region = ndimage.distance_transform_edt(~mask) <= radius + 0.3
    return grown


def _large(mask: Region, share: float) -> Region:
    """The connected parts that have at least this share of the image."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    sizes = ndimage.sum(mask, labels, np.arange(1, count + 1))
    return np.isin(labels, np.flatnonzero(sizes >= share * mask.size) + 1)
