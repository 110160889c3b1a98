"""From decoded latents to the edited image at the source image's own size: support, lock, crop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageChops
from torch import Tensor

from zerocon.editing import Constraint, unconstrained
from zerocon.image.compositing import Mask, composite
from zerocon.image.support import GIVEN, UNLOCKED, Support, detail_of, find_support
from zerocon.image.transfer import Array, find_transfer
from zerocon.image.transforms import Box, Prepared
from zerocon.lock import LatentLock
from zerocon.settings import Settings

if TYPE_CHECKING:
    from zerocon.image.masks import UserMask
    from zerocon.prompt import Change
    from zerocon.request import EditRequest

CONTEXT = 0.25  # of its sides, added around a support on each side before it is cropped
SMALL = 1 / 3  # of the image's sides: larger boxes are not worth a second edit
ENLARGED = 3.0  # times the working size: smaller images gain little
FADE = 0.06  # of a crop's sides, over which the mask falls to zero at its border
UNCHANGED = "the edit changed nothing that can be seen: the result is the source image"
MISSED = 0.5  # share of the change outside a given mask above which the mask is doubted


@dataclass(frozen=True)
class Finished:
    """An edited image at native size, its support (None without compositing), and warnings."""

    image: Image.Image
    support: Support | None = None
    warnings: tuple[str, ...] = ()


def finish(
    image: Prepared,
    after: Tensor,
    before: Tensor | None,
    changes: Sequence[Change],
    settings: Settings,
    mask: UserMask | None = None,
) -> Finished:
    """The edited image in the size of the source.

    Args:
        image: The source image.
        after: The decoded edit, (3, height, width) in -1..1.
        before: The decoded source, like ``after``; None to enlarge ``after`` instead.
        changes: What changes between the captions.
        settings: ``lock`` decides whether the support limits the change.
        mask: Where the image may change, instead of a support that is found.
    """
    if before is None:
        return Finished(image.to_image(after))
    b, a = image.to_array(after), image.to_array(before)
    warnings: tuple[str, ...] = ()
    if mask is not None:
        part = mask.image if image.crop is None else mask.image.crop(image.crop)
        support = Support(Mask(part), "given", GIVEN)
        warnings = _doubts(part, a, b)
    else:
        support = find_support(a, b, changes)
        if settings.lock == "off":
            whole = Image.new("F", image.frame.inner, 1.0)
            support = replace(support, mask=Mask(whole), extent="all", reason=UNLOCKED)
    if image.crop is not None and mask is None:
        support = replace(support, mask=replace(support.mask, fade=_fade(image)))
    transfer = find_transfer(a, b, detail_of(changes))
    result = composite(image.image, transfer, support.mask, image.crop)
    if ImageChops.difference(result, image.image.convert("RGB")).getbbox() is None:
        warnings += (UNCHANGED,)
    return Finished(result, support, warnings)


def latent_lock(
    images: Sequence[Prepared],
    requests: Sequence[EditRequest],
    masks: Sequence[UserMask | None],
    settings: Settings,
    shape: torch.Size,
) -> Constraint:
    """The constraint of ``settings.lock`` for a batch of latents of ``shape``."""
    if settings.lock != "latent":
        return unconstrained
    given = [
        None if mask is None else _latent_mask(mask, image, shape)
        for mask, image in zip(masks, images, strict=True)
    ]
    kinds = [request.kinds for request in requests]
    begins = [settings.begin_for(each) for each in kinds]
    return LatentLock(settings.steps, kinds, given, begins)


def automatic_crop(image: Prepared, support: Support | None) -> Box | None:
    """The part of a large image around a small support that is worth an edit of its own.

    With 25 % context on every side, and at least the working size; None if the image is not over
    three times the working size or the support's box is not under a third of both sides.
    """
    if support is None or image.crop is not None:
        return None
    size, working = image.image.size, max(image.frame.inner)
    box = native_mask(image, support).getbbox()
    if box is None or max(size) <= ENLARGED * working:
        return None
    spans = [(box[0], box[2]), (box[1], box[3])]
    if any(end - start >= SMALL * side for (start, end), side in zip(spans, size, strict=True)):
        return None
    sides = [
        _widened(start, end, side, least)
        for (start, end), side, least in zip(spans, size, image.frame.inner, strict=True)
    ]
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


def native_mask(image: Prepared, support: Support) -> Image.Image:
    """The support in the size of the source image: mode L, 255 = replaced, 0 = the source."""
    return support.mask.enlarged(image.image, image.crop)


def _widened(start: int, end: int, side: int, least: int) -> tuple[int, int]:
    """A span with context, at least ``least`` long, inside 0..side."""
    length = min(side, max(least, round((end - start) * (1 + 2 * CONTEXT))))
    first = min(max(0, (start + end - length) // 2), side - length)
    return first, first + length


def _fade(image: Prepared) -> Image.Image:
    """Falls to zero at those borders of a crop that are inside the image; mode F in 0..1."""
    assert image.crop is not None
    left, upper, right, lower = image.crop
    width, height = image.image.size
    ends = ((upper > 0, lower < height), (left > 0, right < width))
    ramps = [
        _ramp(length, *inside)
        for length, inside in zip(reversed(image.frame.inner), ends, strict=True)
    ]
    return Image.fromarray(np.minimum(ramps[0][:, None], ramps[1]))


def _ramp(length: int, first: bool, last: bool) -> Array:
    """Ones that fall to zero at the ends that are named."""
    ramp = (np.arange(length, dtype=np.float32) / max(1.0, FADE * length)).clip(0, 1)
    ones = np.ones(length, np.float32)
    return np.minimum(ramp if first else ones, ramp[::-1] if last else ones)


def _latent_mask(mask: UserMask, image: Prepared, shape: torch.Size) -> Tensor:
    """A given mask at the size of the latents: (rows, columns) in 0..1, padding included."""
    part = mask.image if image.crop is None else mask.image.crop(image.crop)
    inner = np.asarray(part.resize(image.frame.inner, Image.Resampling.BILINEAR), np.float32) / 255
    (right, lower), rows_columns = image.padding, (shape[-2], shape[-1])
    padded = torch.from_numpy(np.pad(inner, ((0, lower), (0, right)), mode="edge"))
    # the largest value of every cell: a latent that any white pixel needs may change
    return torch.nn.functional.adaptive_max_pool2d(padded[None], rows_columns)[0]


def _doubts(mask: Image.Image, before: Array, after: Array) -> tuple[str, ...]:
    """A warning if most of the change lies where the mask allows none."""
    change = np.abs(after - before).sum(-1)
    height, width = change.shape
    allowed = np.asarray(mask.resize((width, height), Image.Resampling.BOX), np.float32) / 255
    total = float(change.sum())
    outside = float((change * (1 - allowed)).sum())
    if total / change.size < 1 / 255 or outside < MISSED * total:
        return ()
    share = round(100 * outside / total)
    return (f"{share} % of the edit's change lies outside the mask, and is left out",)
