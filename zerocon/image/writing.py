"""Copies of source images, for edits that need no change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from zerocon.image import MEGAPIXELS
from zerocon.image.formats import Format, format_of
from zerocon.image.read_options import ReadOptions
from zerocon.image.reading import Photograph, contents
from zerocon.image.saving import check_output
from zerocon.storage.atomic import writing


def copy_image(
    source: Path | str | bytes,
    output: Path | str,
    *,
    overwrite: bool = False,
    inputs: Iterable[Path | str] = (),
    keep_gps: bool = False,
    lenient: bool = False,
    max_megapixels: float = MEGAPIXELS,
) -> None:
    """Write the source image to ``output`` atomically, as ``copied_file`` makes it.

    Args:
        source: An image file, or the bytes of one.
        output: The extension is the format.
        overwrite: Replace an existing file.
        inputs: Files that are never replaced; ``source`` is one of them.
        keep_gps: Keep the GPS position.
        lenient: As in ``Photograph.read``.
        max_megapixels: Limit of million pixels of ``source``.

    Raises:
        InputError: ``source`` is not a readable image, or ``output`` cannot be written.
    """
    files = (*inputs, *([] if isinstance(source, bytes) else [source]))
    output = check_output(output, overwrite=overwrite, inputs=files)
    options = ReadOptions(keep_gps, lenient, max_megapixels)
    data = copied_file(source, format_of(output), **options.arguments())
    with writing(output, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def copied_file(
    source: Path | str | bytes,
    format: Format,
    *,
    keep_gps: bool = False,
    lenient: bool = False,
    max_megapixels: float = MEGAPIXELS,
) -> bytes:
    """The bytes of ``source`` if it is of this format, else the same image encoded in it.

    A file with a GPS position is encoded again unless ``keep_gps`` is set: an edit drops the
    position too. The copy has neither recipe nor mark, since no model made any of it.
    """
    data, name = source, "the image"
    if not isinstance(data, bytes):
        data, name = contents(Path(data), max_megapixels=max_megapixels), str(source)
    options = ReadOptions(True, lenient, max_megapixels)
    photograph = Photograph.read(data, name=name, **options.arguments())
    if photograph.kind == format.name and (keep_gps or not photograph.has_location):
        return data
    if not keep_gps:
        options = replace(options, keep_gps=False)
        photograph = Photograph.read(data, name=name, **options.arguments())
    return photograph.encode(photograph.image, format)
