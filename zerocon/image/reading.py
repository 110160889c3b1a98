"""Reading an image with everything its file holds, and writing an edit of it the same way."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from threading import Lock
from typing import IO, Any, TypeAlias

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
    about_argument,
)
from zerocon.image import MEGAPIXELS, codestream, embedding, keyed
from zerocon.image import exif as exif_data
from zerocon.image import kept as kept_metadata
from zerocon.image.bounds import (
    LENGTH,
    PIPE_BYTES,
    SAMPLES,
    WIDTH,
    check_file,
    check_opened,
    file_limit,
)
from zerocon.image.cicp import StatedColors, bits_per_channel, is_hdr, refuse_hdr, stated_colors
from zerocon.image.color import ColorSpace, color_mode, colors_and_alpha, off_white, to_srgb
from zerocon.image.embedding import Parts
from zerocon.image.formats import ALPHA, GRAY, NAMED, Format, format_named, format_of
from zerocon.image.indexed import recolored
from zerocon.image.kept import Kept
from zerocon.image.libtiff import quiet_libtiff
from zerocon.image.metadata import Provenance, recipe_of
from zerocon.image.read_options import ReadOptions
from zerocon.image.saving import check_output
from zerocon.image.transforms import SMALLEST
from zerocon.storage.atomic import writing

# Pillow reads more formats; of those, some start programs (EPS), and most hold no photographs.
READ = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "PPM", "JPEG2000")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")  # of images that can be edited
WITHOUT_RESOLUTION = {"WEBP", "AVIF", "HEIF"}
DEFAULT_DPI = {(72.0, 72.0), (96.0, 96.0)}  # written by programs that know no resolution
STRIP = 16  # pixels of one side of a blank image that is tried
JPEG, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
LENIENT = "; --lenient reads what is there"
TRUNCATED = "the end of the file is missing: the lower part of the image may be gray"
UNREAD_TILES = "parts of the image may be black or blurred"
WARNINGS = Lock()  # warning filters are global to all threads

Source: TypeAlias = Path | str | bytes | IO[bytes]

UPRIGHT = {  # by EXIF orientation: turns the stored pixels upright
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
STORED = UPRIGHT | {6: Transpose.ROTATE_90, 8: Transpose.ROTATE_270}
PLANAR = 284  # TIFF tag: whether each channel has strips of its own
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height
TURNED = {"TIFF", "HEIF"}  # Pillow's decoders turn them upright

COMPRESSIONS = {"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "group3", "group4"}  # lossless


@dataclass(frozen=True)
class Written:
    """The bytes of a file, and what of the source's metadata could not be written."""

    data: bytes
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Photograph:
    """A still image, and the metadata of its file.

    Attributes:
        image: The image to edit: upright, RGB in sRGB, on white where it is transparent.
        stored: The pixels in the file's mode, size and color space, before ``orientation``.
        kind: The file's format, Pillow's name.
        orientation: 1..8, as in EXIF.
        profile: ICC profile of ``stored``; None for sRGB.
        exif: EXIF data, byte by byte those of the file, but without the thumbnail (it would show
            the source) and, unless it was asked for, without the GPS position.
        dpi: Resolution (x, y) in dots per inch.
        encoding: Arguments of Pillow's ``save`` that compress as the file is compressed.
        warnings: What of the file could not be read or cannot be written, one line each.
        recipe: JSON of zerocon's recipe, as it was written; None if there is none.
        kept: XMP, IPTC, comments and texts; without a GPS position, as ``exif``.
        truncation: The one of ``warnings`` that is about missing pixels, if there is one.
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
    kept: Kept = field(default_factory=Kept)
    truncation: tuple[str, ...] = ()

    @classmethod
    @about_argument("source")
    def read(
        cls,
        source: Source,
        *,
        keep_gps: bool = False,
        name: str = "the image",
        lenient: bool = False,
        max_megapixels: float = MEGAPIXELS,
    ) -> Photograph:
        """Read an image file.

        Args:
            source: Path, bytes, or a file opened in binary mode.
            keep_gps: Keep the GPS position in ``exif`` and ``kept``.
            name: Name of bytes and of files without a name, in errors.
            lenient: Read a JPEG whose end is missing, or a JPEG 2000 without some tiles, with a
                warning.
            max_megapixels: Limit of million pixels. Reading takes at most 6 times width x height x
                channels x bytes per sample (JPEG 2000: 7.5).

        Raises:
            InputError: It is not one complete still image of at least 16 pixels per side, or
                exceeds a limit of ``image.bounds``; see the subclasses in ``zerocon.errors``.
            MissingPackageError: It is HEIC and pillow-heif is not installed.
        """
        data, name = _contents(source, name, max_megapixels)
        if not data:
            raise UnreadableImageError(f"{name} is empty, not an image")
        formats = _formats(data)
        with _decoding():
            try:
                options = ReadOptions(keep_gps, lenient, max_megapixels)
                photograph = cls._decoded(data, formats, options)
                data = b""  # not held while the pixels are converted
                photograph = photograph._converted()
            except MemoryError:
                raise
            except Exception as error:  # damaged bytes make decoders raise nearly anything
                raise _unreadable(error, name, data, lenient=lenient) from error
        if min(photograph.image.size) < SMALLEST:
            size = "{}x{}".format(*photograph.image.size)
            raise ImageTooSmallError(f"{name} is {size}; an image needs {SMALLEST} pixels per side")
        return photograph

    @classmethod
    def _decoded(cls, data: bytes, formats: tuple[str, ...], options: ReadOptions) -> Photograph:
        """``image`` is ``stored``; see ``_converted``."""
        check_file(data)
        given, missing = _readable_part(data, options.lenient)
        with Image.open(BytesIO(given), formats=formats) as image:
            check_opened(image, options.max_megapixels)
            photograph = cls._of(image, given, options.keep_gps)
        return replace(photograph, warnings=(*photograph.warnings, *missing), truncation=missing)

    @classmethod
    def _of(cls, image: ImageFile.ImageFile, data: bytes, keep_gps: bool) -> Photograph:
        colors = stated_colors(image, data)
        frames = getattr(image, "n_frames", 1)
        # the further frames of MPO and HEIC are previews or depth maps of one photograph
        pages = image.format == "TIFF" and exif_data.only_thumbnails_follow(data)
        if frames > 1 and image.format not in ("MPO", "HEIF") and not pages:
            raise AnimatedImageError(f"it has {frames} frames; give a still image")
        if image.format == "TIFF":
            _require_covered(image)
        bits = 16 if ";16" in str(image.tile) else 8
        if image.format in ("AVIF", "HEIF"):
            bits = max(bits_per_channel(data), image.info.get("bit_depth", 8))
        problems = []
        if image.format != "TIFF":  # Pillow drops a TIFF's orientation on load
            image.load()
        metadata = kept_metadata.find(image, data, keep_gps=keep_gps)
        orientation, exif, lines = _exif(image, data, metadata.exif, keep_gps)
        problems += [*lines, *metadata.problems]
        image.load()
        kind = {"MPO": "JPEG"}.get(image.format or "", image.format or "")
        encoding = _encoding(image, data)
        profile, dpi = image.info.get("icc_profile") or None, _dpi(image)
        vars(image).pop("_decoder", None)  # of WebP and AVIF: holds the pixels twice
        stored, recipe = stored_pixels(image), recipe_of(image)
        image.close()  # else there would be two copies of the pixels
        if kind in TURNED:
            stored = _turned(stored, STORED.get(orientation))
        if bits > 8 and stored.mode != "I;16":
            problems.append(f"{bits} bits per channel are reduced to 8")
        profile, faults = _usable(profile, colors, color_mode(stored))
        problems += faults
        return cls(
            stored, stored, kind, orientation, profile, exif, dpi, encoding, tuple(problems),
            recipe, metadata.kept,
        )  # fmt: skip

    def _converted(self) -> Photograph:
        """With the image to edit."""
        turn = UPRIGHT.get(self.orientation)
        return replace(self, image=to_srgb(self.stored, self.profile, turn))

    @property
    def mode(self) -> str:
        """Pillow's mode of ``stored``; ``PA`` for a palette with transparent entries."""
        alpha = self.stored.mode == "P" and self.stored.has_transparency_data
        return "PA" if alpha else self.stored.mode

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of ``stored``; ``image`` may be turned by 90 degrees."""
        return self.stored.size

    @property
    def transparency(self) -> float:
        """Share of the pixels that are not opaque, 0..1."""
        alpha = colors_and_alpha(self.stored)[1]
        return 0.0 if alpha is None else 1 - alpha.histogram()[255] / (alpha.width * alpha.height)

    def turn_upright(self, image: Image.Image) -> Image.Image:
        """An image of ``stored``'s size, turned as ``image`` is."""
        return _turned(image, UPRIGHT.get(self.orientation))

    def restore(self, edited: Image.Image, format: Format | None = None) -> Image.Image:
        """``edited`` in the mode, orientation, color space and alpha of ``stored``.

        Where ``edited`` equals ``image`` the result equals ``stored`` exactly, palette indices
        included. If ``format`` cannot hold the mode, the result is sRGB in the nearest mode that it
        can hold.

        Raises:
            ValueError: ``edited`` has another size than ``image``.
        """
        if edited.size != self.image.size:
            raise ValueError(f"the edited image is {edited.size}, not {self.image.size}")
        mode = self.mode if format is None else format.mode(self.mode)
        rgb = edited if edited.mode == "RGB" else edited.convert("RGB")
        turned = _turned(rgb, STORED.get(self.orientation))
        if mode == self.mode or mode in ALPHA:
            result = self._in_mode(mode, turned)
        else:
            result = turned if mode == "RGB" else turned.convert(mode)
        result = result.copy() if result is edited else result
        if mode not in ("P", "PA", "I;16"):
            result.info.clear()  # of ``edited``
        return result

    def _in_mode(self, mode: str, turned: Image.Image) -> Image.Image:
        """``turned``, RGB in sRGB, in the color space and with the alpha of ``stored``.

        Args:
            mode: That of ``stored``, or one with alpha.
            turned: Of ``stored``'s size; returned itself if it needs no change.
        """
        colors, alpha = colors_and_alpha(self.stored)
        space = ColorSpace(self.profile, colors.mode)
        under = turned
        if alpha is not None:
            under = off_white(turned, space.to_srgb(colors), alpha)
        if mode == self.mode:
            under = keyed.with_key(space.carry(colors, under), self.stored)
        if mode in ("P", "PA"):
            return recolored(self.stored, under)
        if mode == "1":  # thresholded: dithering would add dots to drawings and scans
            return under.point(lambda value: 255 * (value > 127), "1")
        if alpha is not None:
            under = under.convert(mode.rstrip("A"))
            under.putalpha(alpha)
        return under

    @property
    def has_location(self) -> bool:
        """Whether ``exif`` or ``kept`` have a GPS position."""
        return exif_data.has_gps(self.exif) or self.kept.has_position

    def encode(
        self, edited: Image.Image, format: Format | str, provenance: Provenance | None = None
    ) -> bytes:
        """The bytes of a file with the edited image and the metadata of this one.

        See ``write``, which also returns what of the metadata could not be written.
        """
        return self.write(edited, format, provenance).data

    def write(
        self, edited: Image.Image, format: Format | str, provenance: Provenance | None = None
    ) -> Written:
        """A file with the edited image and the metadata of this one.

        What an encoder refuses of the metadata or of the source's compression is left out, with a
        warning.

        Args:
            edited: RGB, of ``image``'s size.
            format: A ``Format``, or its name: "PNG", "jpeg", ".webp".
            provenance: Label and recipe of the edit.

        Raises:
            OutputFormatError: No format has this name, or it cannot hold the image.
        """
        format = format_named(format) if isinstance(format, str) else format
        return self._file(self.restore(edited, format), format, provenance)

    def save(
        self,
        edited: Image.Image,
        path: Path | str,
        *,
        overwrite: bool = False,
        provenance: Provenance | None = None,
    ) -> tuple[str, ...]:
        """Write the output of ``encode`` atomically; the extension of ``path`` is the format.

        Returns:
            The warnings of ``write``.
        """
        path = check_output(path, overwrite=overwrite)
        written = self.write(edited, format_of(path), provenance)
        with writing(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(written.data)
        return written.warnings

    def format_warnings(self, format: Format) -> tuple[str, ...]:
        """Warnings about what ``format`` cannot hold of this image; cheap, call before editing.

        Raises:
            OutputFormatError: It cannot hold an image of this size or mode; two blank strips, as
                wide and as high as the image, are tried.
        """
        mode = format.mode(self.mode)
        width, height = self.size
        lines = []
        if self.kind not in NAMED:
            lines.append(f"{self.kind} is read but not written: the result is {format.name}")
        for size in ((width, min(height, STRIP)), (min(width, STRIP), height)):
            strip = Image.new(mode.replace("PA", "P"), size)
            lines += [each for each in self._file(strip, format).warnings if each not in lines]
        if self.mode in ALPHA and mode not in ALPHA:
            lines.append(f"{format.name} has no transparency: transparent pixels become white")
        if keyed.key_of(self.stored) is not None and format.name != "PNG":
            lines.append(f"transparency of 16-bit gray is not kept in {format.name}")
        if self.mode == "I;16" != mode:
            lines.append(f"16 bits per channel are reduced to 8 in {format.name}")
        if self.mode == "CMYK" != mode:
            lines.append(f"CMYK is converted to sRGB in {format.name}")
        if self.dpi and self.dpi not in DEFAULT_DPI and format.name in WITHOUT_RESOLUTION:
            lines.append(f"the resolution is not kept in {format.name}")
        return (*lines, *self.kept.losses(format.name))

    def _file(
        self, image: Image.Image, format: Format, provenance: Provenance | None = None
    ) -> Written:
        """With everything; where that fails, without one part of it, and at last without all."""
        whole = self._parts(image, format, provenance)
        try:
            return Written(embedding.encoded(image, format.name, whole))
        except MemoryError:
            raise
        except Exception as error:  # encoders have limits of their own
            first = error
        label = provenance.packet(format.name) if provenance else b""
        upright = b""  # what displays the image upright is not left out
        if self.orientation != 1:
            upright = exif_data.with_orientation(b"", self.orientation)
        plain = Parts(_usual(format, image))
        attempts = {
            "compression": replace(whole, options=self._colors(format) | plain.options),
            "EXIF data": replace(whole, exif=upright),
            "XMP data": replace(whole, xmp=label),
            "IPTC data, comments and texts": replace(whole, kept=Kept()),
            "color profile": replace(whole, options=whole.options | {"icc_profile": None}),
            "metadata": replace(plain, exif=upright, orientation=self.orientation, xmp=label),
        }
        for name, parts in attempts.items():
            try:
                data = embedding.encoded(image, format.name, parts)
            except MemoryError:
                raise
            except Exception:
                continue
            return Written(data, (f"{format.name} does not take the {name} of the source",))
        line = " ".join(str(first).split()) or type(first).__name__
        raise OutputFormatError(f"cannot write this image as {format.name}: {line}") from first

    def _parts(self, image: Image.Image, format: Format, provenance: Provenance | None) -> Parts:
        """What is written next to the pixels."""
        options = _usual(format, image)
        if self.encoding and format.name == self.kind:
            options = dict(self.encoding)
        options |= self._colors(format)
        packet = self.kept.xmp
        provenance = provenance and provenance.within(format.name, packet)
        return Parts(
            options, self.exif, self.orientation,
            provenance.packet(format.name, packet) if provenance else packet,
            provenance.recipe if provenance else None,
            self.kept, self.kind == "TIFF",
        )  # fmt: skip

    def _colors(self, format: Format) -> dict[str, Any]:
        """Options of color profile and resolution."""
        profile = self.profile if format.mode(self.mode) == self.mode else None
        return {"icc_profile": profile, **({"dpi": self.dpi} if self.dpi else {})}

    def __repr__(self) -> str:
        width, height = self.image.size
        return f"Photograph({self.kind}, {self.mode}, {width}x{height})"

    def _repr_png_(self) -> bytes:
        """``image`` in a notebook."""
        self.image.save(file := BytesIO(), format="PNG")
        return file.getvalue()


def peek(path: Path, *, max_megapixels: float = MEGAPIXELS) -> tuple[int, int] | None:
    """(width, height) of the upright image, from a file's header; None if it is not an image.

    None also for a file that is larger than ``bounds.file_limit`` of this many pixels.
    """
    try:
        # opening a pipe would block; holes of a file take no space
        if not path.is_file() or path.stat().st_size > file_limit(max_megapixels):
            return None
        with _decoding(), path.open("rb") as file:
            with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
                check_file(data)
            with Image.open(file, formats=READ) as image:
                return image.size[::-1] if _is_sideways(image) else image.size
    except Exception:  # any decoder error; ``read`` reports it
        return None


@contextmanager
def _decoding() -> Iterator[None]:
    """Without Pillow's warnings and its own limit of pixels, which ``check_size`` replaces."""
    with WARNINGS, quiet_libtiff(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        usual = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def contents(path: Path, *, max_megapixels: float = MEGAPIXELS) -> bytes:
    """The bytes of an image file.

    Raises:
        UnreadableImageError: It is not a file, or cannot be read.
        ImageTooLargeError: It is larger than ``bounds.file_limit`` of this many pixels.
    """
    limit = file_limit(max_megapixels)
    try:
        if not path.exists():
            raise UnreadableImageError(f"there is no file {path}")
        if not path.is_file():
            what = "a directory" if path.is_dir() else "not a regular file"
            raise UnreadableImageError(f"{path} is {what}, not an image")
        if path.stat().st_size > limit:  # checked before memory is allocated for it
            raise ImageTooLargeError(f"{path} is larger than {limit / 1e6:.0f} MB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"cannot read {path}: {error.strerror}") from error


def stored_pixels(image: Image.Image) -> Image.Image:
    """The pixels in one of ``MODES``; transparency becomes alpha, except in palettes.

    Raises:
        ImageFormatError: The mode is none of those, and has no equivalent among them.
    """
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):
        return keyed.deep_gray(image)
    if image.mode not in MODES:
        raise ImageFormatError(
            f"its mode {image.mode} is not supported; convert it to one of {', '.join(MODES)}"
        )
    if "transparency" in image.info and image.mode != "P":
        # one transparent color, which an edit could produce too
        image = image.convert("RGBA" if image.mode == "RGB" else "LA")
    image = image.copy()
    for key in image.info.keys() - {"transparency"}:
        del image.info[key]
    return image


def _contents(source: Source, name: str, max_megapixels: float) -> tuple[bytes, str]:
    """The bytes of an image, and its name in errors."""
    limit = file_limit(max_megapixels)
    if isinstance(source, str | os.PathLike):
        return contents(Path(source), max_megapixels=max_megapixels), str(source)
    if isinstance(source, bytes):
        data = source
    else:
        path = getattr(source, "name", name)
        name = path if isinstance(path, str) else name
        limit = limit if source.seekable() else min(limit, PIPE_BYTES)
        data = source.read(limit + 1)
    if not isinstance(data, bytes):
        raise UnreadableImageError(f"{name} is open in text mode; open it in binary mode")
    if len(data) > limit:
        raise ImageTooLargeError(f"{name} is larger than {limit / 1e6:.0f} MB")
    return data, name


def _require_covered(image: Any) -> None:
    """Check that the strips or tiles of an opened TIFF cover it: Pillow leaves the rest black.

    Raises:
        UnreadableImageError: They do not.
    """
    width, height = image.tag_v2[WIDTH], image.tag_v2[LENGTH]
    planes = image.tag_v2.get(SAMPLES, 1) if image.tag_v2.get(PLANAR, 1) == 2 else 1
    extents = (each.extents for each in image.tile)
    covered = sum((min(x1, width) - x0) * (min(y1, height) - y0) for x0, y0, x1, y1 in extents)
    # a library that reads all planes at once has one tile for them
    if covered < width * height * (planes if len(image.tile) > 1 else 1):
        raise UnreadableImageError("its strips or tiles do not cover it")


def _is_cut(data: bytes) -> bool:
    """Whether the end of a JPEG is missing."""
    return data.startswith(JPEG) and not kept_metadata.is_complete(data)


def _readable_part(data: bytes, lenient: bool) -> tuple[bytes, tuple[str, ...]]:
    """What a decoder is given, and a line about the pixels that are missing, if any are.

    Raises:
        UnreadableImageError: Tiles of a JPEG 2000 are missing, and it is not ``lenient``, or none
            is there.
    """
    if lenient and _is_cut(data):
        return data + JPEG_END, (TRUNCATED,)
    gaps = codestream.gaps(data)
    if gaps is None or not (lenient or gaps.incomplete):
        return data, ()
    if not lenient or not gaps.parts:
        raise UnreadableImageError(gaps.line)
    return gaps.readable(data), (f"{gaps.line}: {UNREAD_TILES}" if gaps.incomplete else gaps.line,)


def _has_readable_part(data: bytes) -> bool:
    """Whether a file that was refused is one that ``lenient`` reads."""
    gaps = codestream.gaps(data)
    return _is_cut(data) or bool(gaps and gaps.parts)


def _unreadable(error: Exception, name: str, data: bytes, *, lenient: bool) -> InputError:
    """The error of zerocon for one that a decoder raised."""
    if isinstance(error, UnidentifiedImageError):
        formats = ", ".join(NAMED).replace("HEIF", "HEIC")
        return ImageFormatError(f"{name} is not an image of a supported format ({formats})")
    # for another reason than missing pixels
    refused = isinstance(error, InputError) and not isinstance(error, UnreadableImageError)
    hint = "" if refused or lenient or not _has_readable_part(data) else LENIENT
    line = " ".join(str(error).split()) or type(error).__name__
    kind: type[InputError] = UnreadableImageError
    if isinstance(error, InputError):
        kind = type(error)
    return kind(f"{name} cannot be read as an image: {line}{hint}")


def _formats(data: bytes) -> tuple[str, ...]:
    """Pillow's names of the formats to try."""
    if not _is_heic(data):
        return READ
    NAMED["HEIF"].require()
    return ("HEIF",)


def _is_heic(data: bytes) -> bool:
    brands = data[8 : min(64, int.from_bytes(data[:4]))]
    return data[4:8] == b"ftyp" and any(brand in brands for brand in (b"heic", b"heix", b"heim"))


def _exif(
    image: Image.Image, data: bytes, raw: bytes, keep_gps: bool
) -> tuple[int, bytes, tuple[str, ...]]:
    """Orientation, the EXIF data to write with the edit, and lines about what is not kept."""
    displayed = image.info.get("original_orientation")  # HEIF, whose EXIF data have 1 by now
    try:
        if image.format == "TIFF":
            patched = exif_data.of_tiff(data, keep_gps=keep_gps)
        elif raw:
            patched = exif_data.patch(raw, keep_gps=keep_gps, orientation=displayed)
        else:
            patched = exif_data.Patched()
    except ValueError:
        patched = exif_data.Patched(problems=("the EXIF data are damaged and are not kept",))
    orientation, written = _orientation(image, displayed or patched.orientation), patched.data
    if orientation != (exif_data.orientation_in(written) or 1):  # of a container, or of XMP
        written = exif_data.with_orientation(written, orientation)
    return orientation, written, patched.problems


def _orientation(image: Image.Image, stored: int | None) -> int:
    """That of the EXIF data, else that of AVIF's container or of XMP; 1..8."""
    if stored is None or image.format == "AVIF":
        try:
            # of the base class, since that of PNG decodes the image
            stored = Image.Image.getexif(image).get(ExifTags.Base.Orientation, stored or 1)
        except Exception:  # damaged EXIF makes Pillow raise nearly anything
            stored = stored or 1
    return stored if stored in range(1, 9) else 1


def _is_sideways(image: ImageFile.ImageFile) -> bool:
    """Whether width and height of an opened file are exchanged when it is turned upright."""
    if image.format in TURNED:
        return False
    stored = exif_data.orientation_in(image.info.get("exif", b""))
    return _orientation(image, stored) in SIDEWAYS


def _usual(format: Format, image: Image.Image) -> dict[str, Any]:
    """The options of a format for an image from another one."""
    options = dict(format.options)
    if image.mode in GRAY:
        options.pop("subsampling", None)  # with it AVIF would convert gray to color
    return options


def _encoding(image: Image.Image, data: bytes) -> dict[str, Any] | None:
    """Arguments of Pillow's ``save`` to compress as this file is; None if that is unknown."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        sampling = JpegImagePlugin.get_sampling(image)  # -1 if it is none of Pillow's: none then
        return {"qtables": _tables(image), "subsampling": max(sampling, 0)}
    if image.format == "WEBP" and _is_lossless(data):
        return {"lossless": True, "exact": True}
    if image.format == "TIFF" and image.info.get("compression") in COMPRESSIONS:
        return {"compression": image.info["compression"]}
    return None


def _tables(image: JpegImagePlugin.JpegImageFile) -> list[list[int]]:
    """The quantization table of every channel, without repetitions of the last one.

    Files may number their tables in any way; Pillow numbers them by channels.
    """
    tables = [list(image.quantization[layer[3]]) for layer in image.layer]
    while len(tables) > 1 and tables[-1] == tables[-2]:
        tables.pop()
    return tables


def _is_lossless(webp: bytes) -> bool:
    place = 12
    while place + 8 <= len(webp):
        if webp[place : place + 4] in (b"VP8L", b"VP8 "):
            return webp[place : place + 4] == b"VP8L"
        length = int.from_bytes(webp[place + 4 : place + 8], "little")
        place += 8 + length + length % 2
    return False


def _usable(
    profile: bytes | None, colors: StatedColors, mode: str
) -> tuple[bytes | None, list[str]]:
    """The ICC profile, embedded or of what the file states, and why there is none."""
    if profile and (hdr := is_hdr(profile)):
        refuse_hdr(hdr)
    lines = [f"the stated color space is ignored: {colors.problem}"] if colors.problem else []
    profile = colors.profile(mode in GRAY) or profile  # cICP precedes iCCP (PNG 3, 4.3)
    try:
        ColorSpace(profile, mode)
    except ValueError as error:
        return None, [*lines, f"the color profile is ignored: {error}"]
    return profile, lines


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    try:
        x, y = map(float, image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if all(math.isfinite(each) and 1 < each < 65536 for each in (x, y)) else None


def _turned(image: Image.Image, method: Transpose | None) -> Image.Image:
    return image if method is None else image.transpose(method)
