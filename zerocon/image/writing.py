"""Copies of source images, for edits that need no change."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from zerocon.image.formats import Format, format_of
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
) -> None:
    """Write the source image to ``output`` atomically, as ``copied_file`` makes it.

    Args:
        source: An image file, or the bytes of one.
        output: The extension is the format.
        overwrite: Replace an existing file.
        inputs: Files that are never replaced; ``source`` is one of them.
        keep_gps: Keep the GPS position.
        lenient: As in ``Photograph.read``.

    Raises:
        InputError: ``source`` is not a readable image, or ``output`` cannot be written.
    """
    files = (*inputs, *([] if isinstance(source, bytes) else [source]))
    output = check_output(output, overwrite=overwrite, inputs=files)
    data = copied_file(source, format_of(output), keep_gps=keep_gps, lenient=lenient)
    with writing(output, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def copied_file(
    source: Path | str | bytes, format: Format, *, keep_gps: bool = False, lenient: bool = False
) -> bytes:
    """The bytes of ``source`` if it is of this format, else the same image encoded in it.

    A file with a GPS position is encoded again unless ``keep_gps`` is set: an edit drops the
    position too. The copy has neither recipe nor mark, since no model made any of it.
    """
    data = source if isinstance(source, bytes) else contents(Path(source))
    name = "the image" if isinstance(source, bytes) else str(source)
    photograph = Photograph.read(data, keep_gps=True, lenient=lenient, name=name)
    if photograph.kind == format.name and (keep_gps or not photograph.has_location):
        return data
    if not keep_gps:
        photograph = Photograph.read(data, lenient=lenient, name=name)
    return photograph.encode(photograph.image, format)
