"""A picture as its file has it: what of it is edited, and all else that must come back."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, UnidentifiedImageError
from PIL.Image import Transpose

from zerocon.errors import (
    AnimatedImageError,
    ImageFormatError,
    ImageTooLargeError,
    ImageTooSmallError,
    InputError,
    OutputFormatError,
    UnreadableImageError,
)
from zerocon.image.color import ColorSpace, eight_bits, off_white, on_white, paletted
from zerocon.image.formats import CLEAR, GRAY, NAMED, Format, format_of
from zerocon.image.metadata import Provenance, recipe_of
from zerocon.image.saving import check_output
from zerocon.image.transforms import SMALLEST
from zerocon.storage.atomic import writing

# Others that Pillow knows are left out: some start programs (EPS), most hold no photograph.
READ = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "PPM", "JPEG2000")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")  # that are edited
# bytes of a file; as many pixels as Pillow reads, with 16 bits a channel, have 1.4 billion
LARGEST = 2_000_000_000
HUSHED = Lock()  # warnings are let in or kept out for all threads at once

UPRIGHT = {  # by EXIF's orientation: what makes a stored picture upright
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
STORED = UPRIGHT | {6: Transpose.ROTATE_90, 8: Transpose.ROTATE_270}
TURNED = {"TIFF", "HEIF"}  # comes upright from its decoder

# Tags of a TIFF that say how its own bytes lie, and copies of what is kept or left out elsewhere.
LAYOUT = {
    *range(254, 260), 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, *range(322, 326),
    330, 338, 339, 347, 512, 513, 514, 529, 530, 531, 532, 700, 33723, 34377, 34675,
}  # fmt: skip
COMPRESSIONS = {"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "group3", "group4"}  # exact


@dataclass(frozen=True)
class Photograph:
    """A still picture and what its file says besides.

    ``image`` is what is edited: upright, RGB in sRGB, on white. ``stored`` are the file's own
    pixels: its mode, its size, not turned by ``orientation`` (1..8 as in EXIF), in the colours of
    the ICC ``profile``. ``exif`` is without place (unless asked for), without the thumbnail, which
    would show the source, and with the orientation. ``encoding`` is how a file of the same
    ``kind`` is compressed alike; ``doubts`` say in a line each what could not be read; ``recipe``
    is zerocon's own, as written. Otherwise XMP, IPTC and a PNG's texts are not kept.
    """

    image: Image.Image
    stored: Image.Image
    kind: str
    orientation: int = 1
    profile: bytes | None = None
    exif: bytes = b""
    dpi: tuple[float, float] | None = None
    encoding: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    recipe: str | None = None

    @classmethod
    def read(
        cls, source: Path | str | bytes, *, keep_gps: bool = False, name: str = "the picture"
    ) -> Photograph:
        """Read a file, or its bytes, which an error then calls ``name``.

        Raises ``ValueError``, in one line, for anything that is not one whole still picture of at
        least 16 pixels a side with no more pixels than Pillow's limit, and ``MissingError`` for
        HEIC where pillow-heif is not installed.
        """
        if not isinstance(source, bytes):
            name, source = str(source), contents(Path(source))
        if not source:
            raise UnreadableImageError(f"{name} is empty, not a picture")
        formats: tuple[str, ...] = READ
        if _is_heic(source):
            NAMED["HEIF"].require()
            formats = ("HEIF",)
        with HUSHED, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on EXIF, and on half a bomb
            try:
                with Image.open(BytesIO(source), formats=formats) as image:
                    made = cls._of(image, source, keep_gps)
            except UnidentifiedImageError:
                known = ", ".join(NAMED).replace("HEIF", "HEIC")
                raise ImageFormatError(
                    f"{name} is not a picture of a known kind ({known})"
                ) from None
            except MemoryError:
                raise
            except Exception as error:  # damaged bytes make decoders raise nearly anything
                line = " ".join(str(error).split()) or type(error).__name__
                kind: type[InputError] = UnreadableImageError
                if isinstance(error, Image.DecompressionBombError):
                    kind = ImageTooLargeError
                elif isinstance(error, InputError):
                    kind = type(error)
                raise kind(f"{name} cannot be read as a picture: {line}") from error
        if min(made.image.size) < SMALLEST:
            size = "{}x{}".format(*made.image.size)
            raise ImageTooSmallError(f"{name} is {size}; a picture needs {SMALLEST} pixels a side")
        return made

    @classmethod
    def _of(cls, image: ImageFile.ImageFile, data: bytes, keep_gps: bool) -> Photograph:
        frames = getattr(image, "n_frames", 1)
        # MPO, and many a HEIC, is one photograph with a smaller one or its depth behind it
        if frames > 1 and image.format not in ("MPO", "HEIF"):
            raise AnimatedImageError(f"it has {frames} frames; give a still picture")
        deep = ";16" in str(image.tile) or image.info.get("bit_depth", 8) > 8
        doubts = []
        if image.format != "TIFF":  # which forgets its orientation when it is loaded
            image.load()
        orientation, exif = 1, b""
        try:
            orientation, exif = _exif(image, keep_gps)
        except Exception:  # it may hold anything
            doubts.append("the EXIF data are damaged, and left out")
        image.load()
        kind = {"MPO": "JPEG"}.get(image.format or "", image.format or "")
        encoding = _encoding(image, data)
        profile, dpi = image.info.get("icc_profile") or None, _dpi(image)
        stored = _kept(image)
        if kind in TURNED:
            stored = _turned(stored, STORED.get(orientation))
        if deep and stored.mode != "I;16":
            doubts.append("of 16 bits a channel, 8 are read and written")
        colors, _ = _layers(stored)
        try:
            ColorSpace(profile, colors.mode)
        except ValueError as error:
            doubts.append(f"the colour profile is left out: {error}")
            profile = None
        upright = _turned(_seen(stored, profile), UPRIGHT.get(orientation))
        return cls(
            upright, stored, kind, orientation, profile, exif, dpi, encoding, tuple(doubts),
            recipe_of(image),
        )  # fmt: skip

    @property
    def mode(self) -> str:
        """Of the stored pixels; ``PA`` for a palette with transparent entries."""
        clear = self.stored.mode == "P" and self.stored.has_transparency_data
        return "PA" if clear else self.stored.mode

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored; that of ``image`` may be the other way round."""
        return self.stored.size

    def restore(self, edited: Image.Image, kind: Format | None = None) -> Image.Image:
        """The edited ``image`` as the file had it: mode, size, orientation, colours, alpha.

        ``restore(image)`` is ``stored`` to the bit. Where ``kind`` cannot hold the mode, the
        colours are sRGB in the nearest mode that it can hold. Raises ``ValueError`` for another
        size.
        """
        if edited.size != self.image.size:
            raise ValueError(f"a picture of {self.image.size} cannot become one of {edited.size}")
        mode = self.mode if kind is None else kind.mode(self.mode)
        turned = _turned(edited.convert("RGB"), STORED.get(self.orientation))
        turned.info.clear()
        if mode != self.mode and mode not in CLEAR:
            return turned.convert(mode)
        colors, alpha = _layers(self.stored)
        space = ColorSpace(self.profile, colors.mode)
        under = turned
        if alpha is not None:
            under = off_white(turned, space.seen(colors), alpha)
        if mode == self.mode:
            under = space.carry(colors, under)
        if mode in ("P", "PA"):
            return paletted(under, alpha)
        if mode == "1":  # drawings and scans: no dots where an edit left a grey
            return under.point(lambda value: 255 * (value > 127), "1")
        if alpha is not None:
            under = under.convert(mode.rstrip("A"))
            under.putalpha(alpha)
        return under

    @property
    def located(self) -> bool:
        """Whether the EXIF data kept say where it was taken."""
        return ExifTags.IFD.GPSInfo in _tags(self.exif)

    def encode(
        self, edited: Image.Image, kind: Format, provenance: Provenance | None = None
    ) -> bytes:
        """A file of ``kind`` with the edited picture and all that its source's file said.

        ``provenance`` says besides how the edit was made.
        """
        return self._file(self.restore(edited, kind), kind, provenance)

    def save(
        self,
        edited: Image.Image,
        path: Path | str,
        *,
        overwrite: bool = False,
        provenance: Provenance | None = None,
    ) -> None:
        """Write ``encode``'s file, by the name's ending, whole or not at all."""
        path = check_output(path, overwrite=overwrite)
        data = self.encode(edited, format_of(path), provenance)
        with writing(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(data)

    def format_warnings(self, kind: Format) -> tuple[str, ...]:
        """What a file of ``kind`` cannot hold of this, in a line each; cheap, so ask before.

        Raises ``ValueError`` for a picture that it cannot hold at all, tried on an empty one.
        """
        mode = kind.mode(self.mode)
        try:
            self._file(Image.new(mode.replace("PA", "P"), self.size), kind)
        except MemoryError:
            raise
        except Exception as error:  # encoders have limits, and words, of their own
            line = " ".join(str(error).split()) or type(error).__name__
            raise OutputFormatError(
                f"the picture cannot be written as {kind.name}: {line}"
            ) from error
        lost = []
        if self.mode in CLEAR and mode not in CLEAR:
            lost.append("what is transparent is put on white")
        if self.mode == "I;16" != mode:
            lost.append("of 16 bits, 8 are written")
        if self.mode == "CMYK" != mode:
            lost.append("CMYK becomes sRGB")
        return tuple(f"as {kind.name}, {each}" for each in lost)

    def _file(
        self, image: Image.Image, kind: Format, provenance: Provenance | None = None
    ) -> bytes:
        more = dict(self.encoding if kind.name == self.kind and self.encoding else kind.options)
        if image.mode in GRAY:
            more.pop("subsampling", None)  # of what has no colours, AVIF would make some
        if self.exif:
            more["exif"] = self.exif
        if provenance:
            more |= provenance.options(kind.name, self.exif)
        tags = _tags(self.exif)
        if kind.name == "TIFF" and (ExifTags.IFD.Exif in tags or ExifTags.IFD.GPSInfo in tags):
            more["compression"] = "raw"  # Pillow compresses no TIFF with EXIF's own directories
        if self.dpi:
            more["dpi"] = self.dpi
        profile = self.profile if kind.mode(self.mode) == self.mode else None
        file = BytesIO()
        image.save(file, format=kind.name, icc_profile=profile, **more)
        return file.getvalue()


def peek(path: Path) -> tuple[int, int] | None:
    """Width and height as the head of a file tells them; None if it is no picture."""
    try:
        if not path.is_file():  # opening a pipe would wait
            return None
        with HUSHED, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=READ) as image:
                return image.size
    except Exception:  # a file may hold anything; reading all of it will say what
        return None


def contents(path: Path) -> bytes:
    """The bytes of a file; ``ValueError`` for what is none, or is too large for any picture."""
    try:
        if not path.exists():
            raise UnreadableImageError(f"there is no file {path}")
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no file"
            raise UnreadableImageError(f"{path} is {what}, not a picture")
        if path.stat().st_size > LARGEST:  # before memory is taken for it
            raise ImageTooLargeError(f"{path} has more than {LARGEST / 1e9:.0f} GB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"cannot read {path}: {error.strerror}") from error


def _is_heic(data: bytes) -> bool:
    brands = data[8 : min(64, int.from_bytes(data[:4]))]
    return data[4:8] == b"ftyp" and any(brand in brands for brand in (b"heic", b"heix", b"heim"))


def _exif(image: Image.Image, keep_gps: bool) -> tuple[int, bytes]:
    """Orientation, and the EXIF data that are written again."""
    exif = image.getexif()
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    orientation = image.info.get("original_orientation") or orientation  # HEIF's own
    if orientation not in range(1, 9):
        orientation = 1
    for tag in LAYOUT.intersection(exif):
        del exif[tag]
    if not keep_gps:
        exif.pop(ExifTags.IFD.GPSInfo, None)
    if orientation != 1:
        exif[ExifTags.Base.Orientation] = orientation
    return orientation, exif.tobytes() if exif else b""


def _tags(exif: bytes) -> Image.Exif:
    said = Image.Exif()
    said.load(exif)
    return said


def _encoding(image: Image.Image, data: bytes) -> dict[str, Any] | None:
    """How Pillow is told to compress as this file is compressed; None if nobody can say."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        sampling = JpegImagePlugin.get_sampling(image)  # -1 for a rare one: the finest
        return {"qtables": image.quantization, "subsampling": max(sampling, 0)}
    if image.format == "WEBP" and _is_lossless(data):
        return {"lossless": True, "exact": True}
    if image.format == "TIFF" and image.info.get("compression") in COMPRESSIONS:
        return {"compression": image.info["compression"]}
    return None


def _is_lossless(webp: bytes) -> bool:
    place = 12
    while place + 8 <= len(webp):
        if webp[place : place + 4] in (b"VP8L", b"VP8 "):
            return webp[place : place + 4] == b"VP8L"
        length = int.from_bytes(webp[place + 4 : place + 8], "little")
        place += 8 + length + length % 2
    return False


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    try:
        x, y = map(float, image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if all(math.isfinite(each) and 1 < each < 65536 for each in (x, y)) else None


def _kept(image: Image.Image) -> Image.Image:
    """The pixels, in one of ``MODES``; transparency as alpha, but for palettes."""
    if image.mode.startswith("I;16") and "transparency" not in image.info:
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode not in MODES or image.mode == "I;16":
        raise ImageFormatError(f"its pixels are {image.mode}; give {', '.join(MODES)}")
    if image.mode == "P":
        return image.copy()
    if "transparency" in image.info:  # one colour stands for nothing; an edit would not spare it
        image = image.convert("RGBA" if image.mode == "RGB" else "LA")
    image = image.copy()
    image.info.clear()
    return image


def _layers(stored: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours in mode L, RGB, CMYK or I;16, and alpha if there is one."""
    if stored.mode == "P":
        clear = stored.has_transparency_data
        stored = stored.convert("RGBA" if clear else "RGB")
    if stored.mode in ("RGBA", "LA"):
        return stored.convert(stored.mode[:-1]), stored.getchannel("A")
    return stored.convert("L") if stored.mode == "1" else stored, None


def _seen(stored: Image.Image, profile: bytes | None) -> Image.Image:
    colors, alpha = _layers(stored)
    seen = ColorSpace(profile, colors.mode).seen(eight_bits(colors))
    return seen if alpha is None else on_white(seen, alpha)


def _turned(image: Image.Image, how: Transpose | None) -> Image.Image:
    return image if how is None else image.transpose(how)
