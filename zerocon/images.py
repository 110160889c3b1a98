"""Pictures in and out: files, tensors, sizes, side-by-side sheets."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from zerocon.files import require_writable, writing

if TYPE_CHECKING:  # the command line looks at the picture before it pays for torch
    from torch import Tensor

    from zerocon.shapes import Pixels

SMALLEST = 16  # pixels a side; below, there is nothing to see, and the U-Net's levels run out
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
OPTIONS = {"PNG": {}, "JPEG": {"quality": 95, "subsampling": 0}}  # colours as sharp as the edit


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


def open_picture(path: Path | str) -> Image.Image:
    """Read a picture (PNG, JPEG, whatever Pillow reads) as RGB, upright; transparency on white.

    Raises ``ValueError``, in one line, for anything that is not one whole still picture of at
    least 16 pixels a side.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    if not path.is_file():
        raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'no file'}, not a picture")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty, not a picture")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on EXIF and on pictures half a bomb big
        try:
            with Image.open(path) as image:
                _require_still(image)
                picture = _flat(ImageOps.exif_transpose(image))
        except UnidentifiedImageError:
            raise ValueError(f"{path} is not a picture (PNG and JPEG are)") from None
        except Exception as error:  # damaged bytes make decoders raise nearly anything
            line = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{path} cannot be read as a picture: {line}") from error
    if min(picture.size) < SMALLEST:
        width, height = picture.size
        raise ValueError(f"{path} is {width}x{height}; a picture needs {SMALLEST} pixels a side")
    return picture


def fit(picture: Image.Image, size: int, multiple: int) -> Fit:
    """Scale the longest side to ``size`` (never squashing) and pad both sides to ``multiple``.

    The padding continues the picture by reflection, to the right and below.
    """
    import torch

    width, height = picture.size
    scale = size / max(width, height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    scaled = picture.convert("RGB").resize(inner, Image.Resampling.LANCZOS)
    right, below = (-side % multiple for side in inner)
    values = np.pad(np.asarray(scaled), ((0, below), (0, right), (0, 0)), mode="reflect")
    pixels = torch.from_numpy(values).permute(2, 0, 1)[None].float() / 127.5 - 1
    return Fit(pixels.contiguous(), Frame(picture.size, inner))


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
    source: Path | str | None = None,
    endings: Collection[str] = FORMATS,
) -> Path:
    """``path``, if a file may be written there: cheap, so ask before the work.

    Raises ``ValueError`` for a name without one of the ``endings``, a folder that is not there, a
    file that is (unless ``overwrite``), a folder that cannot be written to, and always for the
    ``source`` picture itself.
    """
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise ValueError(f"{path} must end in {' or '.join(endings)}")
    if source is not None and path.exists() and os.path.samefile(path, source):
        raise ValueError(f"{path} is the picture itself; give another output")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} to")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a file")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists already; give --overwrite or another -o")
    require_writable(path.parent)
    return path


def save_picture(
    picture: Image.Image,
    path: Path | str,
    *,
    overwrite: bool = False,
    source: Path | str | None = None,
) -> None:
    """Write a PNG or JPEG, by the name's ending, whole or not at all; see ``check_output``."""
    path = check_output(path, overwrite=overwrite, source=source)
    kind = FORMATS[path.suffix.lower()]
    with writing(path, overwrite=overwrite) as temporary:
        picture.save(temporary, format=kind, **OPTIONS[kind])


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


def _require_still(image: Image.Image) -> None:
    # MPO is what many cameras call a JPEG with a thumbnail or depth map behind it
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise ValueError(f"it has {frames} frames; give a still picture")


def _flat(image: Image.Image) -> Image.Image:
    """RGB of any mode: 16 bits become 8 by their size, what is transparent lies on white."""
    if image.mode.startswith("I"):
        values = (np.asarray(image, np.float64) / 257).round().clip(0, 255)
        image = Image.fromarray(values.astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _shortened(label: str, fits: Callable[[str], bool]) -> str:
    if fits(label):
        return label
    lengths = (n for n in range(len(label), 0, -1) if fits(label[:n].rstrip() + "..."))
    return label[: next(lengths, 0)].rstrip() + "..."
