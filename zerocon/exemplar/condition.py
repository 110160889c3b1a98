"""Conditions of a translation: edge maps, label maps, sketches and images, told apart and resized.

A condition is an RGB image of one of four kinds:

* ``edge``: light lines on black. Its form for the networks is white lines on black, without gray.
* ``label``: regions of one color each. Noise and mixed colors at borders are removed, and it is
  resized without interpolation.
* ``sketch``: dark lines on a light ground. It becomes an edge map.
* ``image``: anything else, used as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from zerocon.errors import SettingError
from zerocon.exemplar.translation_settings import AUTO, KINDS
from zerocon.image.transforms import Frame, Prepared, WorkingSize

GRAY = 24  # largest difference of two channels of a gray pixel: paper and JPEG have some color
GROUND = 32  # levels around the most frequent one that count as the ground of lines
GROUND_SHARE = 0.7  # of the pixels: lines with soft borders, in a small image, are nearly a third
CONTRAST = 64  # levels between the ground and a line
LEAST_LINES = 1e-4  # share of the pixels below which there are no lines
LINE_WIDTH = 1 / 32  # of the longest side: wider strokes are regions
LARGEST_REGIONS = 0.35  # share of the strokes' pixels that may be further inside than lines have
LABELS = 32  # most colors of a label map
FLAT = 16  # levels between neighboring pixels inside a region, where there is noise
FLAT_SHARE = 0.3  # of the pixels; the others are at borders
NOISE = 10  # levels of a channel around the color of a label, where there is noise
DISTANCE = 24  # levels between the colors of two labels, in one channel, where there is noise
LEAST_LABEL = 2e-3  # share of the pixels of a label, where there is noise
LABEL_SHARE = 0.92  # of the flat pixels that have the color of a label; a smooth gradient has 0.84
COVERED = 32  # of 255: a pixel is on a line if lines cover more of it, as in the training data
LARGEST = 1024  # pixels of a side at which a kind is detected: all widths are relative
FINE = 1.4  # standard deviation of the Gaussian before edge detection, in pixels of 128
STRONG, WEAK = 0.16, 0.06  # thresholds of edge detection in changes of 0..1 across an edge

Colors: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class Detected:
    """The kind of a condition, and by which property it was recognized."""

    kind: str
    reason: str


@dataclass(frozen=True, eq=False)
class Condition:
    """A condition, read as its kind.

    Attributes:
        kind: "edge", "label" or "image"; a sketch is an edge map by now.
        image: The source's size; edges are white on black, labels have exactly one color each.
        source: The image that was given.
        detected: What it was recognized as, and by what; None where the kind was given.
        warnings: What is doubtful, one line each.
    """

    kind: str
    image: Image.Image
    source: Image.Image
    detected: Detected | None = None
    warnings: tuple[str, ...] = ()

    def prepare(self, working_size: WorkingSize) -> Prepared:
        """The condition at a model's working size.

        ``image`` of the result is resized already: labels by their nearest pixel, edges so that
        thin lines stay, images by Lanczos. ``frame.source`` is the condition's own size, to which
        ``to_image`` enlarges a translation.
        """
        inner = working_size.scaled(self.image.size)
        resized = _RESIZE[self.kind](self.image, inner)
        frame = Frame(self.image.size, inner)
        return Prepared(resized, frame, working_size.padded(self.image.size))


def detect(image: Image.Image) -> Detected:
    """Recognize the kind of a condition; noise of JPEG files and antialiasing are allowed for.

    In this order: gray, more than 70 % of the pixels near one dark or light level, and the rest
    thin lines: an edge map or a sketch. At most 32 colors, or nearly so away from borders: a label
    map. Otherwise an image.

    Args:
        image: RGB, any size.
    """
    image = image.convert("RGB")
    if ground := _ground_of_lines(np.asarray(_at_most(image, Image.Resampling.BOX))):
        return Detected(*ground)
    if count := _label_count(image):
        return Detected("label", f"it has {count} color{'s' if count > 1 else ''}")
    return Detected("image", "it has neither lines on an even ground nor few colors")


def read_condition(image: Image.Image, kind: str = AUTO, warnings: Sequence[str] = ()) -> Condition:
    """The condition that an image is.

    Args:
        image: RGB, any size.
        kind: One of ``KINDS``, or "auto" to detect it.
        warnings: About its file.

    Raises:
        SettingError: For another kind.
    """
    if kind not in (AUTO, *KINDS):
        raise SettingError(f"condition must be auto or {', '.join(KINDS)}, not {kind!r}")
    image = image.convert("RGB")
    detected = detect(image) if kind == AUTO else None
    kind = detected.kind if detected else kind
    if kind == "image":
        return Condition(kind, image, image, detected, tuple(warnings))
    if kind == "label":
        result, doubt = _read_labels(image, given=detected is None)
    else:
        result, doubt = _read_lines(image, kind)
    kind = "edge" if kind == "sketch" else kind
    doubts = (*warnings, *([doubt] if doubt else []))
    return Condition(kind, result, image, detected, doubts)


def _read_labels(image: Image.Image, *, given: bool) -> tuple[Image.Image, str]:
    """The label map that an image is, and what is doubtful about it."""
    result = image
    if not _is_label_map(image):  # large ones would take minutes
        small = _at_most(image, Image.Resampling.NEAREST)
        labels = Image.fromarray(labels_of(np.asarray(small)))
        result = labels.resize(image.size, Image.Resampling.NEAREST)
    colors = result.getcolors(LABELS) or []
    if len(colors) == 1:
        return result, "the label map is empty: it has one color and no borders"
    if given and not _label_count(image):
        return result, f"the label map has many colors; {len(colors)} of them are used"
    return result, ""


def _read_lines(image: Image.Image, kind: str) -> tuple[Image.Image, str]:
    """The edge map that an image is, and what is doubtful about it."""
    values = _lines(np.asarray(image), dark=kind == "sketch")
    result = Image.fromarray(values).convert("RGB")
    if not values.any():
        return result, f"the {kind} condition is empty: it has no lines"
    lines = np.asarray(_at_most(result, Image.Resampling.BOX))[..., 0] >= CONTRAST
    if lines.mean() > 1 - GROUND_SHARE or not _are_thin(lines):
        return result, f"the {kind} condition has areas, not lines: it may be of another kind"
    return result, ""


def labels_of(values: Colors) -> Colors:
    """A label map (height, width, 3) in which every pixel has the exact color of a label.

    Pixels of mixed or noisy color get the color of the nearest pixel that has a label's. An image
    with more colors than a label map gets its ``LABELS`` most frequent ones.
    """
    if _distinct(values) <= LABELS:
        return values
    palette = _palette(values, _is_flat(values))
    distance = np.full(values.shape[:2], 256, np.int16)
    nearest = np.zeros(values.shape[:2], np.intp)
    for number, color in enumerate(palette):
        closer = _distance(values, color) < distance
        nearest[closer] = number
        distance = np.minimum(distance, _distance(values, color))
    far = distance > NOISE
    places = ndimage.distance_transform_edt(far, return_distances=False, return_indices=True)
    result: Colors = palette[nearest[tuple(places)]]
    return result


def edges_of(image: Image.Image) -> Image.Image:
    """The edges of a photograph or drawing, white on black: RGB, of the image's size.

    Gradient of a Gaussian per channel, thinned to its ridges, with two thresholds (Canny, "A
    computational approach to edge detection", 1986). Widths are relative to the image, so that a
    large photograph has the edges of its reduced form.
    """
    side = max(image.size)
    values = np.asarray(image.convert("RGB"), np.float32) / 255
    scale = FINE * max(1.0, side / 128)
    smooth = ndimage.gaussian_filter(values, (scale, scale, 0), mode="nearest")
    sobel = [ndimage.sobel(smooth, axis, mode="nearest") for axis in (0, 1)]
    gradients: NDArray[np.float32] = (np.stack(sobel) / 8).astype(np.float32)
    # of an ideal step of height 1 the smoothed gradient is 1 / (scale sqrt(2 pi))
    strength = np.sqrt((gradients**2).sum(0)).max(-1) * float(scale * np.sqrt(2 * np.pi))
    strongest = np.abs(gradients).sum(0).argmax(-1)
    direction = np.take_along_axis(gradients, strongest[None, ..., None], -1)[..., 0]
    ridge = _is_ridge(strength, direction)
    candidates, count = ndimage.label(ridge & (strength > WEAK), np.ones((3, 3)))
    strong = np.zeros(count + 1, bool)
    strong[candidates[ridge & (strength > STRONG)]] = True
    strong[0] = False
    return Image.fromarray(strong[candidates].astype(np.uint8) * 255).convert("RGB")


def _is_ridge(strength: NDArray[np.float32], direction: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where ``strength`` (rows, columns) is largest along ``direction`` (2, rows, columns)."""
    length = np.maximum(np.sqrt((direction**2).sum(0)), 1e-12)
    places = np.indices(strength.shape, np.float32)
    sides = [
        ndimage.map_coordinates(
            strength, places + sign * direction / length, order=1, mode="nearest"
        )
        for sign in (1, -1)
    ]
    # one of two equal neighbors is the ridge, else a line would be two pixels wide or missing
    ridge: NDArray[np.bool_] = (strength > sides[0]) & (strength >= sides[1])
    return ridge


def _ground_of_lines(values: Colors) -> tuple[str, str] | None:
    """Kind and reason of lines on a dark or light ground; None if it is no such image."""
    chroma = values.max(-1).astype(np.int16) - values.min(-1)
    if (chroma > GRAY).mean() > 0.02:
        return None
    level = _level(values)
    ground = int(np.bincount(level.ravel(), minlength=256).argmax())
    share = float((np.abs(level - ground) <= GROUND).mean())
    strokes = np.abs(level - ground) >= CONTRAST
    if share <= GROUND_SHARE or strokes.mean() < LEAST_LINES or not _are_thin(strokes):
        return None
    if ground <= GROUND:
        return "edge", f"gray lines on black, which is {share:.0%} of it"
    if ground >= 255 - 2 * GROUND:
        return "sketch", f"gray lines on white, which is {share:.0%} of it"
    return None


def _are_thin(strokes: NDArray[np.bool_]) -> bool:
    """Whether few pixels of the strokes are further from their borders than half a line."""
    inside = ndimage.distance_transform_edt(strokes) > max(1.0, LINE_WIDTH / 2 * max(strokes.shape))
    return bool(inside.sum() <= LARGEST_REGIONS * strokes.sum())


def _at_most(image: Image.Image, filter: Image.Resampling) -> Image.Image:
    """The image with a longest side of at most ``LARGEST``."""
    scale = LARGEST / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image if scale >= 1 else image.resize((width, height), filter)


def _level(values: Colors) -> NDArray[np.int16]:
    """Brightness (height, width), 0..255: the mean of the channels."""
    level: NDArray[np.int16] = values.mean(-1).round().astype(np.int16)
    return level


def _distinct(values: Colors) -> int:
    """Number of colors."""
    return len(np.unique(_packed(values)))


def _packed(values: Colors) -> NDArray[np.uint32]:
    """Every color as one number."""
    red, green, blue = np.moveaxis(values.astype(np.uint32), -1, 0)
    packed: NDArray[np.uint32] = (red << 16) | (green << 8) | blue
    return packed


def _is_label_map(image: Image.Image) -> bool:
    """Whether an image has no more colors than a label map, at no pixel."""
    return image.getcolors(LABELS) is not None


def _label_count(image: Image.Image) -> int:
    """The number of labels of a label map; 0 if it is none."""
    if _is_label_map(image):
        return len(image.getcolors(LABELS) or [])
    values = np.asarray(_at_most(image, Image.Resampling.NEAREST))
    flat = _is_flat(values)
    if flat.mean() < FLAT_SHARE:
        return 0
    palette = _palette(values, flat)
    colors = values[flat][None]
    near = np.min([_distance(colors, color) for color in palette], 0) <= NOISE
    return len(palette) if near.mean() >= LABEL_SHARE else 0


def _is_flat(values: Colors) -> NDArray[np.bool_]:
    """Where a pixel and its eight neighbors have nearly one color; everywhere, if nowhere else."""
    largest = ndimage.maximum_filter(values, (3, 3, 1)).astype(np.int16)
    flat: NDArray[np.bool_] = (largest - ndimage.minimum_filter(values, (3, 3, 1))).max(-1) <= FLAT
    return flat if flat.any() else ~flat


def _palette(values: Colors, flat: NDArray[np.bool_]) -> Colors:
    """The most frequent colors (n, 3) of the flat pixels, at most ``LABELS``.

    No two are closer than ``DISTANCE``, and each but the first has a share of ``LEAST_LABEL``.
    """
    packed, counts = np.unique(_packed(values[flat]), return_counts=True)
    order = np.argsort(-counts, kind="stable")[: 16 * LABELS]  # the others are noise
    colors = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.int16)[order]
    counts, palette = counts[order], [colors[0]]
    for color in colors[1:]:
        distances = np.abs(np.stack(palette) - color).max(-1)
        share = counts[np.abs(colors - color).max(-1) <= NOISE].sum() / flat.size
        if len(palette) < LABELS and distances.min() > DISTANCE and share >= LEAST_LABEL:
            palette.append(color)
    return np.stack(palette).astype(np.uint8)


def _distance(values: Colors, color: NDArray[np.generic]) -> NDArray[np.int16]:
    """Largest difference (height, width) of a channel to a color."""
    distance: NDArray[np.int16] = np.abs(values.astype(np.int16) - color.astype(np.int16)).max(-1)
    return distance


def _lines(values: Colors, *, dark: bool) -> Colors:
    """Lines (height, width) as 255 on 0, at half of the contrast between ground and lines."""
    level = _level(values)
    level = 255 - level if dark else level
    ground = int(np.bincount(level.ravel(), minlength=256).argmax())
    # the most frequent level is that of lines where there are more lines than ground
    ground = ground if ground < 128 else int(level.min())
    highest = int(np.percentile(level[level > ground], 95)) if (level > ground).any() else ground
    if highest - ground < CONTRAST:
        return np.zeros(level.shape, np.uint8)
    return (level > (ground + highest) / 2).astype(np.uint8) * 255


def _resize_lines(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Lines stay lines: a pixel is white if lines cover more than an eighth of it."""
    wider = max(image.size) / max(size)
    if wider > 4:  # a line of one pixel covers less than a quarter of the result's
        odd = 2 * round(wider / 8) + 1
        image = image.filter(ImageFilter.MaxFilter(odd))
    reduced = image.resize(size, Image.Resampling.BOX if wider > 1 else Image.Resampling.NEAREST)
    return reduced.point([255 * (value > COVERED) for value in range(256)] * 3)


def _resize_labels(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.NEAREST)


def _resize_image(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS)


_RESIZE: dict[str, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "edge": _resize_lines,
    "label": _resize_labels,
    "image": _resize_image,
}
