"""Color spaces of image files: to sRGB and back, transparency."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageCms
from PIL.Image import Transpose

from zerocon.image import keyed

MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}  # Pillow's modes of ICC color spaces
FADE = 32  # levels of change over which the stored value's rounding and gamut are given up
STRIP = 1 << 18  # pixels converted at a time
ROWS = 256  # processed at a time, to limit the memory of intermediate arrays

SIDEWAYS = {
    Transpose.TRANSPOSE, Transpose.TRANSVERSE, Transpose.ROTATE_90, Transpose.ROTATE_270,
}  # fmt: skip
LAST_ROW_FIRST = {  # the last row becomes the first row or column
    Transpose.FLIP_TOP_BOTTOM, Transpose.ROTATE_180, Transpose.TRANSVERSE, Transpose.ROTATE_270,
}  # fmt: skip


class ColorSpace:
    """Conversion between a file's color space and sRGB, 8 bits per channel.

    Relative colorimetric with black point compensation in both directions.

    Args:
        profile: ICC profile of the file; None for sRGB.
        mode: Mode of the file's colors: L, I;16, RGB or CMYK. An RGB profile may have mode L.

    Raises:
        ValueError: The profile is damaged, or belongs to another mode.
    """

    def __init__(self, profile: bytes | None, mode: str) -> None:
        mode = "L" if mode == "I;16" else mode
        self.mode, self.profile = mode, profile
        if profile is None:
            return
        try:
            icc = ImageCms.ImageCmsProfile(BytesIO(profile))
            space = icc.profile.xcolor_space.strip()
            self.device = MODES.get(space, "")
            if self.device != mode and (self.device, mode) != ("RGB", "L"):
                raise ValueError(f"it is a {space} profile, but the image is {mode}")
            srgb, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
            black = ImageCms.Flags.BLACKPOINTCOMPENSATION
            build = ImageCms.buildTransform
            self._to_srgb = build(icc, srgb, self.device, "RGB", intent, black)
            self._from_srgb = build(srgb, icc, "RGB", self.device, intent, black)
        except (OSError, ImageCms.PyCMSError) as error:
            raise ValueError("it is damaged") from error

    def to_srgb(self, stored: Image.Image) -> Image.Image:
        """An image in the file's color space, as RGB in sRGB."""
        if self.profile is None:
            return stored.convert("RGB")
        return self._to_srgb.apply(stored.convert(self.device))

    def from_srgb(self, image: Image.Image) -> Image.Image:
        """An RGB image in sRGB, in the file's mode and color space."""
        if self.profile is None:
            return image.convert(self.mode)
        return self._from_srgb.apply(image).convert(self.mode)

    def carry(self, stored: Image.Image, edited: Image.Image) -> Image.Image:
        """Apply the edit, RGB in sRGB, to the stored pixels of mode L, RGB, CMYK or I;16.

        With ``F`` = ``from_srgb`` and ``source`` = ``to_srgb(stored)``:

            F(edited) + w (stored - F(source)),    w = max(0, 1 - |edited - source| / FADE)

        Unchanged pixels keep their stored value exactly: 16 bits, colors outside the gamut of sRGB,
        CMYK's black channel. Pixels that change much take the converted edit.
        """
        eight = eight_bits(stored)
        if self.profile is None and stored.mode == "RGB":
            return edited
        source = self.to_srgb(eight)
        scale = 257 if stored.mode == "I;16" else 1  # 255 corresponds to 65535
        images = stored, self.from_srgb(edited), self.from_srgb(source)
        values, converted, round_trip = map(np.asarray, images)
        after, before = np.asarray(edited), np.asarray(source)
        result = np.empty_like(values)
        for rows in _row_slices(len(values)):
            change = np.abs(after[rows].astype(np.int16) - before[rows]).max(-1)
            weight = (1 - change / FADE).clip(0)
            rest = values[rows] - round_trip[rows].astype(np.float64) * scale
            rest *= weight if values.ndim == 2 else weight[..., None]
            limit = np.iinfo(values.dtype).max
            result[rows] = (converted[rows] * float(scale) + rest).round().clip(0, limit)
        # not fromarray: it takes four channels for RGBA
        return Image.frombytes(stored.mode, stored.size, result.tobytes())


def eight_bits(image: Image.Image) -> Image.Image:
    """16-bit gray as 8-bit gray; other images unchanged."""
    if image.mode != "I;16":
        return image
    values = np.asarray(image)
    result = np.empty(values.shape, np.uint8)
    for rows in _row_slices(len(values)):
        result[rows] = (values[rows] / 257).round()
    return Image.fromarray(result)


def to_srgb(
    stored: Image.Image, profile: bytes | None, turn: Transpose | None = None
) -> Image.Image:
    """The pixels of a file as RGB in sRGB, on white, turned; with little memory except the result.

    Raises:
        ValueError: As ``ColorSpace``.
    """
    space = ColorSpace(profile, color_mode(stored))
    width, height = stored.size
    result = Image.new("RGB", (height, width) if turn in SIDEWAYS else (width, height))
    step = max(1, STRIP // width)
    for first in range(0, height, step):
        last = min(first + step, height)
        strip = stored.crop((0, first, width, last))
        colors, alpha = colors_and_alpha(strip)
        part = space.to_srgb(eight_bits(colors))
        part = keyed.on_white(part, strip) if alpha is None else on_white(part, alpha)
        place = height - last if turn in LAST_ROW_FIRST else first
        part = part if turn is None else part.transpose(turn)
        result.paste(part, (place, 0) if turn in SIDEWAYS else (0, place))
    return result


def color_mode(stored: Image.Image) -> str:
    """Mode of the colors that ``colors_and_alpha`` returns."""
    return {"P": "RGB", "RGBA": "RGB", "LA": "L", "1": "L"}.get(stored.mode, stored.mode)


def colors_and_alpha(stored: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colors in mode L, RGB, CMYK or I;16, and alpha if there is one."""
    if stored.mode == "P":
        stored = stored.convert("RGBA" if stored.has_transparency_data else "RGB")
    if stored.mode in ("RGBA", "LA"):
        return stored.convert(stored.mode[:-1]), stored.getchannel("A")
    return stored.convert("L") if stored.mode == "1" else stored, None


def on_white(colors: Image.Image, alpha: Image.Image) -> Image.Image:
    """RGB ``colors`` composited with their alpha onto white."""
    return Image.composite(colors, Image.new("RGB", colors.size, "white"), alpha)


def off_white(edited: Image.Image, colors: Image.Image, alpha: Image.Image) -> Image.Image:
    """The colors that give ``edited`` when composited onto white; inverse of ``on_white``.

    ``colors + (edited - on_white(colors, alpha)) / alpha``: fully transparent and unchanged pixels
    keep their color exactly.
    """
    composite, before, after = map(np.asarray, (on_white(colors, alpha), colors, edited))
    opacity, result = np.asarray(alpha), np.empty_like(before)
    for rows in _row_slices(len(before)):
        share = opacity[rows][..., None] / 255
        change = after[rows].astype(np.float64) - composite[rows]
        change = np.divide(change, share, out=np.zeros_like(change), where=share > 0)
        result[rows] = (before[rows] + change).round().clip(0, 255)
    return Image.fromarray(result)


def _row_slices(rows: int) -> list[slice]:
    return [slice(first, first + ROWS) for first in range(0, rows, ROWS)]
