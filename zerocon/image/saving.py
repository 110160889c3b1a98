"""Saving images: output paths checked before an edit, files written atomically."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from zerocon.errors import (
    MissingFolderError,
    NotWritableError,
    OutputExistsError,
    OutputFormatError,
    about_argument,
)
from zerocon.image.embedding import Parts, encoded
from zerocon.image.formats import ENDINGS, Format, format_of
from zerocon.image.metadata import Provenance
from zerocon.storage.atomic import require_short, require_writable, writing
from zerocon.storage.paths import require_no_inputs, require_output_name


@about_argument("path")
def check_output(
    path: Path | str,
    *,
    overwrite: bool = False,
    inputs: Iterable[Path | str] = (),
    endings: Collection[str] = ENDINGS,
) -> Path:
    """Return ``path`` if a file can be written there; cheap, call before editing.

    Raises:
        OutputFormatError: The extension is none of ``endings``.
        OutputIsInputError: It is the same file as one of ``inputs``, also through a link and with
            ``overwrite``.
        OutputExistsError: It exists, and ``overwrite`` is false.
        NotWritableError: The directory does not exist or is not writable, or ``path`` is one, is
            read-only, or its name is not valid on every system or has more than 255 bytes.
        MissingPackageError: The installed Pillow cannot write the format.
    """
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise OutputFormatError(f"{path} must end in {' or '.join(endings)}")
    require_short(path)
    require_output_name(path)
    require_no_inputs([path], inputs)
    if not path.parent.is_dir():
        raise MissingFolderError(
            f"the directory {path.parent} of {path.name} does not exist; create it"
        )
    if path.is_dir():
        raise NotWritableError(f"{path} is a directory; give a file name")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists already; add --overwrite or give another output")
    if path.exists() and not os.access(path, os.W_OK):
        raise NotWritableError(f"{path} is read-only; give another output")
    require_writable(path.parent)
    if endings is ENDINGS:
        format_of(path).require()
    return path


def save_image(
    image: Image.Image,
    path: Path | str,
    *,
    overwrite: bool = False,
    inputs: Iterable[Path | str] = (),
    provenance: Provenance | None = None,
) -> None:
    """Write an RGB image atomically; the extension is the format. See ``check_output``."""
    path = check_output(path, overwrite=overwrite, inputs=inputs)
    data = encode_image(image, format_of(path), provenance)
    with writing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)  # unlike Pillow, raises the system's error


def encode_image(image: Image.Image, format: Format, provenance: Provenance | None = None) -> bytes:
    """The bytes of a file with an RGB image and no other metadata than its provenance."""
    parts = Parts(dict(format.options))
    if provenance:
        fitting = provenance.within(format.name)
        packet = fitting.packet(format.name)
        parts = replace(parts, xmp=packet, recipe=fitting.recipe)
    return encoded(image, format.name, parts)
