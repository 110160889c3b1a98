"""Colours of files: their way to sRGB and back, what sRGB cannot say, palettes."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}  # of ICC's colour spaces
FADE = 32  # levels of change over which what sRGB could not say is given up
ENTRIES = 256  # of a palette
ROWS = 256  # arithmetic is done on so many at once, for the sake of memory


class ColorSpace:
    """The colours of a file in sRGB, and back, after its ICC profile if it has one.

    Relative colorimetric with black point compensation, both ways. Raises ``ValueError`` for a
    profile that is damaged or is of other colours than ``mode``'s (L, I;16, RGB or CMYK); one of
    RGB serves grey pictures too. Pictures are given, and come back, with 8 bits a channel.
    """

    def __init__(self, profile: bytes | None, mode: str) -> None:
        mode = "L" if mode == "I;16" else mode
        self.mode, self.profile = mode, profile
        if profile is None:
            return
        try:
            own = ImageCms.ImageCmsProfile(BytesIO(profile))
            self.device = MODES.get(own.profile.xcolor_space.strip(), "")
            if self.device != mode and (self.device, mode) != ("RGB", "L"):
                raise ValueError(f"it is of {own.profile.xcolor_space.strip()}, not of {mode}")
            srgb, how = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
            black = ImageCms.Flags.BLACKPOINTCOMPENSATION
            build = ImageCms.buildTransform
            self.forth = build(own, srgb, self.device, "RGB", how, black)
            self.back = build(srgb, own, "RGB", self.device, how, black)
        except (OSError, ImageCms.PyCMSError) as error:
            raise ValueError("it is damaged") from error

    def seen(self, stored: Image.Image) -> Image.Image:
        """sRGB of a picture in the file's own colours."""
        if self.profile is None:
            return stored.convert("RGB")
        return self.forth.apply(stored.convert(self.device))

    def unseen(self, image: Image.Image) -> Image.Image:
        """The file's own colours of a picture in sRGB."""
        if self.profile is None:
            return image.convert(self.mode)
        return self.back.apply(image).convert(self.mode)

    def carry(self, stored: Image.Image, edited: Image.Image) -> Image.Image:
        """The edit, in sRGB, carried over to what is stored, in mode L, RGB, CMYK or I;16.

        With ``back`` the way out of sRGB and ``seen`` the stored picture in sRGB,

            back(edited) + w (stored - back(seen)),    w = 1 - |edited - seen| / FADE, at least 0.

        Where the edit changes nothing the stored pixel is kept to the bit, its 16 bits, its colours
        outside sRGB and its black ink included; where it changes much it says all there is to say.
        """
        eight = eight_bits(stored)
        if self.profile is None and stored.mode == "RGB":
            return edited
        seen = self.seen(eight)
        top = 257 if stored.mode == "I;16" else 1  # 255 is 65535
        values, made, unmade = map(np.asarray, (stored, self.unseen(edited), self.unseen(seen)))
        after, before = np.asarray(edited), np.asarray(seen)
        result = np.empty_like(values)
        for part in _parts(len(values)):
            change = np.abs(after[part].astype(np.int16) - before[part]).max(-1)
            weight = (1 - change / FADE).clip(0)
            rest = values[part] - unmade[part].astype(np.float64) * top
            rest *= weight if values.ndim == 2 else weight[..., None]
            limit = np.iinfo(values.dtype).max
            result[part] = (made[part] * float(top) + rest).round().clip(0, limit)
        # not fromarray, which takes four channels for RGBA
        return Image.frombytes(stored.mode, stored.size, result.tobytes())


def eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey; any other picture as it is."""
    if image.mode != "I;16":
        return image
    return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))


def on_white(colors: Image.Image, alpha: Image.Image) -> Image.Image:
    """What is seen of RGB ``colors`` under their alpha."""
    return Image.composite(colors, Image.new("RGB", colors.size, "white"), alpha)


def off_white(edited: Image.Image, colors: Image.Image, alpha: Image.Image) -> Image.Image:
    """The colours that, under ``alpha`` and on white, are seen as ``edited``; see ``on_white``.

    ``colors + (edited - on_white(colors, alpha)) / alpha``: what is transparent keeps the colour
    that nobody sees, what did not change keeps its own to the bit.
    """
    seen, own, after = map(np.asarray, (on_white(colors, alpha), colors, edited))
    cover, result = np.asarray(alpha), np.empty_like(own)
    for part in _parts(len(own)):
        share = cover[part][..., None] / 255
        change = after[part].astype(np.float64) - seen[part]
        change = np.divide(change, share, out=np.zeros_like(change), where=share > 0)
        result[part] = (own[part] + change).round().clip(0, 255)
    return Image.fromarray(result)


def paletted(colors: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """RGB ``colors`` and their alpha with a palette: exact if there are no more than 256.

    Every level of alpha has entries of its own, so that alpha is exact in any case.
    """
    pixels = np.asarray(colors)
    cover = np.full(pixels.shape[:2], 255, np.uint8) if alpha is None else np.asarray(alpha)
    rows = {level: Image.fromarray(pixels[cover == level][None]) for level in np.unique(cover)}
    needs = {
        level: len(row.getcolors(ENTRIES) or range(ENTRIES + 1)) for level, row in rows.items()
    }
    exact, left = sum(needs.values()) <= ENTRIES, cover.size
    indices, entries, clear = np.empty_like(cover), b"", b""
    for number, level in enumerate(sorted(rows, key=needs.__getitem__)):
        # whoever needs few takes no more; the others share by area, one entry at least
        free = ENTRIES - len(clear) - (len(rows) - number)
        share = needs[level] if exact else 1 + free * rows[level].width // left
        count = min(needs[level], share)
        coded = rows[level].quantize(count, Image.Quantize.MEDIANCUT)
        indices[cover == level] = np.asarray(coded)[0] + len(clear)
        own = bytes(coded.getpalette() or [])[: 3 * count]
        entries, clear = entries + own, clear + bytes([level]) * (len(own) // 3)
        left -= rows[level].width
    result = Image.fromarray(indices).convert("P")
    result.putpalette(entries)
    if alpha is not None:
        result.info["transparency"] = clear
    return result


def _parts(rows: int) -> list[slice]:
    return [slice(first, first + ROWS) for first in range(0, rows, ROWS)]
