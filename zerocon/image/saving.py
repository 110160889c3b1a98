"""Saving images: outputs checked before the work, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from io import BytesIO
from pathlib import Path

from PIL import Image

from zerocon.errors import (
    MissingFolderError,
    NotWritableError,
    OutputExistsError,
    OutputFormatError,
    OutputIsInputError,
)
from zerocon.image.formats import ENDINGS, format_of
from zerocon.image.metadata import Provenance
from zerocon.storage.atomic import require_writable, writing


def check_output(
    path: Path | str,
    *,
    overwrite: bool = False,
    inputs: Iterable[Path | str] = (),
    endings: Collection[str] = ENDINGS,
) -> Path:
    """``path``, if a file may be written there: cheap, so ask before the work.

    Raises ``ValueError`` for a name without one of the ``endings``, a folder that is not there, a
    file that is (unless ``overwrite``), a folder that cannot be written to, and always for a file
    that is one of the ``inputs``, also through a link; ``MissingError`` for an image format that
    cannot be written here.
    """
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise OutputFormatError(f"{path} must end in {' or '.join(endings)}")
    require_not_input(path, inputs)
    if not path.parent.is_dir():
        raise MissingFolderError(f"there is no folder {path.parent} to write {path.name} to")
    if path.is_dir():
        raise NotWritableError(f"{path} is a folder; give a file")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists already; give --overwrite or another -o")
    require_writable(path.parent)
    if endings is ENDINGS:
        format_of(path).require()
    return path


def require_not_input(path: Path, inputs: Iterable[Path | str]) -> None:
    """Raise ``OutputIsInputError`` if ``path`` is the same file as one of ``inputs``."""
    for each in inputs:
        if path.exists() and os.path.exists(each) and os.path.samefile(path, each):
            raise OutputIsInputError(f"{path} is an input of this command; give another output")


def save_image(
    image: Image.Image,
    path: Path | str,
    *,
    overwrite: bool = False,
    inputs: Iterable[Path | str] = (),
    provenance: Provenance | None = None,
) -> None:
    """Write an RGB picture, by the name's ending, whole or not at all; see ``check_output``."""
    path = check_output(path, overwrite=overwrite, inputs=inputs)
    kind, file = format_of(path), BytesIO()
    more = provenance.within(kind.name).options(kind.name) if provenance else {}
    image.save(file, format=kind.name, **kind.options, **more)
    with writing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(file.getvalue())  # Pillow would not say why it cannot write
