"""Pictures as tensors of the model's size and back, as outputs, side by side on sheets."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from zerocon.errors import (
    NoFolderError,
    OutputExistsError,
    OutputIsInputError,
    OutputKindError,
    UnwritableError,
)
from zerocon.formats import ENDINGS, format_of
from zerocon.provenance import Provenance
from zerocon.storage.atomic import require_writable, writing

if TYPE_CHECKING:  # the command line looks at the picture before it pays for torch
    from torch import Tensor

    from zerocon.shapes import Pixels

SMALLEST = 16  # pixels a side; below, there is nothing to see, and the U-Net's levels run out


@dataclass(frozen=True)
class Frame:
    """What ``fit`` did to a picture, so that ``unfit`` can undo it. Sizes are (width, height)."""

    source: tuple[int, int]
    inner: tuple[int, int]  # after scaling, before padding


@dataclass(frozen=True)
class Fit:
    """A picture at the model's working size: (1, 3, h, w) in -1..1, RGB, and how it got there."""

    pixels: Pixels
    frame: Frame


def fit(picture: Image.Image, size: int, multiple: int) -> Fit:
    """Scale the longest side to ``size`` (never squashing) and pad both sides to ``multiple``.

    The padding continues the picture to the right and below: by reflection as far as there is
    something to reflect, then by the last row or column.
    """
    import torch

    inner = shrunk(picture.size, size)
    scaled = picture.convert("RGB").resize(inner, Image.Resampling.LANCZOS)
    values = np.asarray(scaled)
    for axis, side in enumerate(reversed(inner)):
        missing = -side % multiple
        mirrored = min(missing, side - 1)
        values = _padded(values, axis, mirrored, "reflect")
        values = _padded(values, axis, missing - mirrored, "edge")
    pixels = torch.from_numpy(values).permute(2, 0, 1)[None].float() / 127.5 - 1
    return Fit(pixels.contiguous(), Frame(picture.size, inner))


def shrunk(source: tuple[int, int], size: int) -> tuple[int, int]:
    """Width and height of a picture whose longest side is made ``size``."""
    scale = size / max(source)
    width, height = (max(1, round(side * scale)) for side in source)
    return width, height


def unfit(pixels: Tensor, frame: Frame) -> Image.Image:
    """Cut the padding off ``pixels`` (3, h, w) in -1..1 and scale to the source's size."""
    width, height = frame.inner
    inner = pixels.detach()[:, :height, :width].float().cpu()
    values = ((inner + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
    picture = Image.fromarray(values.contiguous().numpy())
    return picture.resize(frame.source, Image.Resampling.LANCZOS)


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
        raise OutputKindError(f"{path} must end in {' or '.join(endings)}")
    require_not_input(path, inputs)
    if not path.parent.is_dir():
        raise NoFolderError(f"there is no folder {path.parent} to write {path.name} to")
    if path.is_dir():
        raise UnwritableError(f"{path} is a folder; give a file")
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


def save_picture(
    picture: Image.Image,
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
    picture.save(file, format=kind.name, **kind.options, **more)
    with writing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(file.getvalue())  # Pillow would not say why it cannot write


def sheet(pictures: Sequence[Image.Image], labels: Sequence[str], columns: int) -> Image.Image:
    """Pictures side by side, ``columns`` to a row, each in a cell with its label below it."""
    width = max(picture.width for picture in pictures)
    height = max(picture.height for picture in pictures)
    font = ImageFont.load_default(max(10, width // 24))
    strip = round(1.8 * max(10, width // 24))
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * width, rows * (height + strip)), "white")
    draw = ImageDraw.Draw(page)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = index % columns * width, index // columns * (height + strip)
        page.paste(picture, (x, y))
        text = _shortened(label, lambda words: draw.textlength(words, font) <= width - 8)
        draw.text((x + width / 2, y + height + strip / 2), text, "black", font, anchor="mm")
    return page


def _padded(
    values: NDArray[np.uint8], axis: int, more: int, mode: Literal["reflect", "edge"]
) -> NDArray[np.uint8]:
    return np.pad(values, [(0, more if each == axis else 0) for each in range(3)], mode=mode)


def _shortened(label: str, fits: Callable[[str], bool]) -> str:
    if fits(label):
        return label
    lengths = (n for n in range(len(label), 0, -1) if fits(label[:n].rstrip() + "..."))
    return label[: next(lengths, 0)].rstrip() + "..."
