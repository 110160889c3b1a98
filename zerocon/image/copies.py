"""Copies of source images, for outputs of images that need no edit."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ExifTags, Image

from zerocon.image.formats import format_of
from zerocon.image.saving import check_output
from zerocon.storage.atomic import writing

if TYPE_CHECKING:
    from zerocon.image.formats import Format
    from zerocon.image.reading import Photograph


def copied_bytes(photograph: Photograph, data: bytes, format: Format) -> bytes:
    """The bytes of a copy: those of the file itself, with all of its metadata, or encoded again.

    It is encoded again where ``format`` is not the file's own, with what an edit keeps: the pixels
    as far as the format can hold them, EXIF and profile. No copy is marked as edited.

    Args:
        photograph: The source image.
        data: The bytes of its file.
        format: The output's format.
    """
    if photograph.kind == format.name:
        return data
    return photograph.encode(photograph.image, format)


def copy_warnings(photograph: Photograph, data: bytes, format: Format) -> tuple[str, ...]:
    """Warnings about a copy: what its format cannot hold, and a GPS position that it keeps."""
    if photograph.kind != format.name:
        return photograph.format_warnings(format)
    if photograph.has_location or not _has_location(data):  # in the former case on request
        return ()
    return ("the copy has the GPS position of its source",)


def save_copy(
    photograph: Photograph, data: bytes, output: Path | str, *, overwrite: bool = False
) -> None:
    """Write a copy of the source image atomically; the extension of ``output`` is the format.

    Raises as ``zerocon.image.saving.check_output``.
    """
    output = check_output(output, overwrite=overwrite)
    copy = copied_bytes(photograph, data, format_of(output))
    with writing(output, overwrite=overwrite) as temporary:
        temporary.write_bytes(copy)


def _has_location(data: bytes) -> bool:
    try:
        with Image.open(BytesIO(data)) as image:
            return ExifTags.IFD.GPSInfo in image.getexif()
    except Exception:  # damaged EXIF makes Pillow raise nearly anything
        return False
