"""Images at a model's working size: scaled, padded, as a tensor, and back to the source's size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zerocon.errors import CropError
from zerocon.image import SizeRule
from zerocon.settings import CROP
from zerocon.storage.hashing import image_hash

if TYPE_CHECKING:  # the command line checks an image before it imports torch
    from torch import Tensor

    from zerocon.tensor_types import Pixels

SMALLEST = 16  # pixels per side; below, the latents are too small for the U-Net's levels

# Of images scaled by area, in multiples of the size (768 pixels for 512): a panorama would become
# several times as long as the images that a model was trained on, and its content would repeat.
LONGEST_SIDE = 1.5

Size: TypeAlias = tuple[int, int]  # (width, height)
Box: TypeAlias = tuple[int, int, int, int]  # (left, upper, right, lower), as Pillow has it


@dataclass(frozen=True)
class WorkingSize:
    """How images are scaled and padded for a model.

    Attributes:
        size: In pixels.
        multiple: Both sides are padded, on the right and at the bottom, to a multiple of it.
        rule: What ``size`` is: "area", the square root of the area, with a longest side of at most
            ``LONGEST_SIDE`` times ``size``; or "longest", the longest side.
    """

    size: int
    multiple: int
    rule: SizeRule

    def with_size(self, size: int | None) -> WorkingSize:
        """The same with another ``size``; None changes nothing."""
        return self if size is None else replace(self, size=size)

    def scaled(self, source: Size) -> Size:
        """Size of an image after scaling, enlargement included; at least one pixel a side."""
        scale = self.size / max(source)
        if self.rule == "area":
            scale = min(self.size / sqrt(source[0] * source[1]), LONGEST_SIDE * scale)
        width, height = (max(1, round(side * scale)) for side in source)
        return width, height

    def padded(self, source: Size) -> Size:
        """Size of an image after scaling and padding."""
        width, height = (side + -side % self.multiple for side in self.scaled(source))
        return width, height


@dataclass(frozen=True)
class Frame:
    """Geometry that ``unfit`` needs to undo scaling and padding. Sizes are (width, height)."""

    source: Size
    inner: Size  # after scaling, before padding

    @property
    def reduction(self) -> float:
        """Longest side of the source over that of the scaled image; below 1 if it is enlarged."""
        return max(self.source) / max(self.inner)


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image with everything that a model's working size decides about it, computed once.

    Made by ``prepare``, and passed on in place of the image: encoding, decoding, cache keys and
    recipes read the same hash, geometry and tensor. ``hash``, ``key`` and ``pixels`` are computed
    on first use and then kept.

    Attributes:
        image: The source image, at its own size.
        frame: Size of the part that the model is given, before and after scaling.
        size: Working size (width, height), after padding: both sides divisible by the model's
            ``multiple``.
        crop: The part of the image that the model is given, in pixels of ``image``; None for all.
    """

    image: Image.Image
    frame: Frame
    size: Size
    crop: Box | None = None

    @cached_property
    def hash(self) -> str:
        """Hash of all of ``image``'s pixels, its size and mode; see ``image_hash``."""
        return image_hash(self.image)

    @cached_property
    def key(self) -> str:
        """The image at working size: ``hash``, crop, and size before and after padding.

        Two crops or sizes of one image have two keys.
        """
        box = self.crop or (0, 0, *self.image.size)
        return "{} {},{},{},{} {}x{} {}x{}".format(self.hash, *box, *self.frame.inner, *self.size)

    @property
    def padding(self) -> Size:
        """Pixels added on the right and at the bottom, at working size."""
        return self.size[0] - self.frame.inner[0], self.size[1] - self.frame.inner[1]

    @cached_property
    def pixels(self) -> Pixels:
        """The image at working size, (1, 3, height, width), RGB in -1..1, float32 on the CPU.

        The padding continues the image by reflection as far as there are pixels to reflect, then
        by its last row or column.
        """
        import torch

        part = self.image if self.crop is None else self.image.crop(self.crop)
        inner = part.convert("RGB").resize(self.frame.inner, Image.Resampling.LANCZOS)
        values = np.asarray(inner)
        for axis, missing in enumerate(reversed(self.padding)):
            mirrored = min(missing, values.shape[axis] - 1)
            values = _padded(values, axis, mirrored, "reflect")
            values = _padded(values, axis, missing - mirrored, "edge")
        pixels = torch.from_numpy(values).permute(2, 0, 1)[None].float() / 127.5 - 1
        return pixels.contiguous()

    def to_image(self, pixels: Tensor) -> Image.Image:
        """Pixels (3, height, width) in -1..1 enlarged to the source's size, inside the crop."""
        part = unfit(pixels, self.frame)
        if self.crop is None:
            return part
        whole = self.image.convert("RGB")
        whole.paste(part, self.crop[:2])
        return whole

    def to_array(self, pixels: Tensor) -> NDArray[np.float32]:
        """Pixels (3, height, width) in -1..1 without padding: (height, width, 3) in 0..1."""
        width, height = self.frame.inner
        inner = pixels.detach()[:, :height, :width].float().cpu().permute(1, 2, 0)
        values: NDArray[np.float32] = ((inner + 1) / 2).numpy()
        return values


def prepare(image: Image.Image, working_size: WorkingSize, crop: Box | None = None) -> Prepared:
    """Decide how a model is given ``image``; cheap, nothing is resized or hashed yet.

    Args:
        image: Any size and mode.
        working_size: The model's, with the ``size`` of the settings.
        crop: Use only this part of the image, (left, upper, right, lower).
    """
    source = image.size if crop is None else (crop[2] - crop[0], crop[3] - crop[1])
    frame = Frame(source, working_size.scaled(source))
    return Prepared(image, frame, working_size.padded(source), crop)


def crop_box(text: str, size: Size) -> Box | None:
    """The box of ``Settings.crop``; None for "off" and for "auto", which needs an edit first.

    Raises:
        CropError: if it does not lie in an image of ``size``, or is smaller than an image may be.
    """
    numbers = CROP.fullmatch(text)
    if numbers is None:
        return None
    left, upper, width, height = map(int, numbers.groups())
    if min(width, height) < SMALLEST:
        raise CropError(f"the crop {text} is {width}x{height}; it needs {SMALLEST} pixels per side")
    if left + width > size[0] or upper + height > size[1]:
        raise CropError(f"the crop {text} does not lie in the image of {size[0]}x{size[1]} pixels")
    return left, upper, left + width, upper + height


def unfit(pixels: Tensor, frame: Frame) -> Image.Image:
    """Cut the padding off ``pixels`` (3, height, width) in -1..1 and scale to the source's size."""
    width, height = frame.inner
    inner = pixels.detach()[:, :height, :width].float().cpu()
    values = ((inner + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
    image = Image.fromarray(values.contiguous().numpy())
    return image.resize(frame.source, Image.Resampling.LANCZOS)


def _padded(
    values: NDArray[np.uint8], axis: int, more: int, mode: Literal["reflect", "edge"]
) -> NDArray[np.uint8]:
    return np.pad(values, [(0, more if each == axis else 0) for each in range(3)], mode=mode)
