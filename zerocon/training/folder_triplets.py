"""Training pairs of translation from a folder of images: conditions, exemplars, targets.

    DATA/images/NAME.jpg, DATA/labels/NAME.png (optional)

They are written as ``TripletsStage`` writes those of the drawn world. A target's exemplar of
another structure is the image that is nearest to it by CLIP; the condition of the kind "image" is
the target in other colors.
"""

from __future__ import annotations

import colorsys
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from zerocon.errors import CommandError, MismatchError
from zerocon.exemplar.condition import edges_of, labels_of
from zerocon.image.reading import Photograph
from zerocon.model import ModelSpec
from zerocon.model import load as load_model
from zerocon.recipe.replay import images as image_files
from zerocon.training.dataset import SIZE
from zerocon.training.triplets import TripletsStage, image_records, map_records
from zerocon.world import CLASSES

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

FEWEST = 8  # images
MOST_LABELS = 256  # colors of all label maps together: they are stored as bytes
VALIDATION = 0.05  # share of the images, at least one
ALIKE = 0.02  # relative difference of the aspect ratios of an image and its label map

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FolderTripletsStage(TripletsStage):
    """Read the images of a folder, and encode them with the embedded model's VAE."""

    folder: str = ""

    def draw(self, work: Workspace, split: str, count: int) -> None:
        """Write the images of a split; ``count`` is ignored."""
        files = listed(Path(self.folder))
        marks = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
        digest = hashlib.blake2b("\n".join(marks).encode(), digest_size=16).hexdigest()
        if work.facts("folder").get("digest") != digest:
            for each in ("train", "validation"):
                image_records(work, each).cut(0)
                map_records(work, each).cut(0)
                (work.place("triplets") / f"{each}.f16").unlink(missing_ok=True)
            work.note("folder", digest=digest, palette=None)
        names = split_names([file.name for file in files], split)
        if len(map_records(work, split)) == len(names) == len(image_records(work, split)):
            return
        read = [_read(file, Path(self.folder) / "labels") for file in files]
        pixels = np.stack([image for image, _ in read])
        palette, numbers = _label_numbers([labels for _, labels in read])
        work.note("folder", digest=digest, palette=palette.tolist())
        _write(work, split, [f.name in names for f in files], pixels, numbers, len(palette))
        work.say(f"triplets: {split} {len(names)} of {len(names)}")


def listed(folder: Path) -> list[Path]:
    """The images of ``folder/images``, sorted.

    Raises:
        CommandError: There are fewer than ``FEWEST``.
    """
    files = image_files(folder / "images")
    if len(files) < FEWEST:
        raise CommandError(
            f"{folder / 'images'} has {len(files)} images; training needs at least {FEWEST}"
        )
    return files


def split_names(names: list[str], split: str) -> set[str]:
    """The names of a split: a fixed random part is for validation."""
    order = sorted(names, key=lambda name: hashlib.blake2b(name.encode()).digest())
    count = max(1, round(VALIDATION * len(names)))
    return set(order[:count] if split == "validation" else order[count:])


def nearest(features: Array) -> Array:
    """The number of the most similar other row of unit vectors (n, d), by their cosine."""
    cosines = features @ features.T
    np.fill_diagonal(cosines, -np.inf)
    result: Array = cosines.argmax(1)
    return result


def recolored(image: Array, rng: np.random.Generator) -> Array:
    """An image (height, width, 3) with its hues turned, and channels scaled: the same structure."""
    turn = rng.uniform(0.2, 0.8)
    basis = np.array([colorsys.hsv_to_rgb(turn + i / 3, 1, 1) for i in range(3)])
    basis /= basis.sum(0, keepdims=True)  # gray stays gray, up to the gains below
    gains, gamma = rng.uniform(0.7, 1.3, 3), rng.uniform(0.7, 1.4)
    values = (image / 255) @ basis * gains
    result: Array = (255 * values.clip(0, 1) ** gamma).round().astype(np.uint8)
    return result


def _read(file: Path, labels: Path) -> tuple[Array, Array | None]:
    """Center of an image and of its label map, (SIZE, SIZE, 3) each."""
    image = Photograph.read(file).image
    label = labels / f"{file.stem}.png"
    pixels = np.asarray(_square(image, Image.Resampling.LANCZOS))
    if not label.is_file():
        return pixels, None
    drawn = Photograph.read(label).image
    ratios = [size[0] / size[1] for size in (image.size, drawn.size)]
    if abs(ratios[0] / ratios[1] - 1) > ALIKE:
        raise MismatchError(f"{label} has another aspect ratio than {file}")
    exact = Image.fromarray(labels_of(np.asarray(drawn)))
    return pixels, np.asarray(_square(exact, Image.Resampling.NEAREST))


def _square(image: Image.Image, filter: Image.Resampling) -> Image.Image:
    side = min(image.size)
    left, upper = (image.width - side) // 2, (image.height - side) // 2
    box = (left, upper, left + side, upper + side)
    return image.resize((SIZE, SIZE), filter, box=box)


def _label_numbers(maps: list[Array | None]) -> tuple[Array, Array]:
    """The colors (n, 3) of all label maps, and the maps as numbers of colors.

    Images without a map have the number 0. Without any map there are no colors.

    Raises:
        CommandError: There are more than ``MOST_LABELS`` colors, or maps of some images only.
    """
    numbers = np.zeros((len(maps), SIZE, SIZE), np.uint8)
    given = [each for each in maps if each is not None]
    if not given:
        return np.zeros((0, 3), np.uint8), numbers
    if len(given) < len(maps):
        raise CommandError(f"{len(maps) - len(given)} of {len(maps)} images have no label map")
    colors, indices = np.unique(np.stack(given).reshape(-1, 3), axis=0, return_inverse=True)
    if len(colors) > MOST_LABELS:
        raise CommandError(
            f"the label maps have {len(colors)} colors together, more than {MOST_LABELS}; save "
            "them as PNG with one color per label"
        )
    return colors, indices.reshape(numbers.shape).astype(np.uint8)


def _write(
    work: Workspace, split: str, chosen: list[bool], images: Array, labels: Array, count: int
) -> None:
    """Write the chosen images: target, exemplar and recolored; edges, labels and classes."""
    partners = nearest(_features(images, work))
    classes = labels if count <= len(CLASSES) else np.zeros_like(labels)
    targets, maps = [], []
    for number in np.flatnonzero(chosen):
        other, rng = partners[number], np.random.default_rng([int(number), 23])
        edges = np.asarray(edges_of(Image.fromarray(images[number])))[..., 0]
        changed = recolored(images[number], rng)
        targets.append(np.stack([images[number], images[other], changed]))
        maps.append(np.stack([edges, labels[number], classes[number], classes[other]]))
    for records, arrays in (
        (image_records(work, split), targets),
        (map_records(work, split), maps),
    ):
        records.cut(0)
        records.append(np.stack(arrays))


def _features(images: Array, work: Workspace) -> Array:
    """CLIP's embeddings of images, (n, width), of unit length."""
    model = load_model(ModelSpec("mini", device=work.device, dtype="float32"))
    scorer = model.scorer
    assert scorer is not None  # the embedded model has one
    rows = [scorer.embed(Image.fromarray(image)) for image in images]
    return torch.cat(rows).numpy()
