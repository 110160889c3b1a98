"""The triplets that translation is trained on: drawn and encoded once, sampled with distortions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zerocon.model import ModelSpec, load
from zerocon.training.array_file import ArrayFile
from zerocon.training.augment import CELL, as_pixels
from zerocon.training.dataset import CHUNK, SIZE, mapper
from zerocon.training.latents import encoder_mark
from zerocon.training.triplet_scenes import (
    CONDITIONS,
    Array,
    Triplet,
    draw_images,
    sketch,
    triplet,
)
from zerocon.world.rendering import LABEL_COLORS

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

__all__ = [
    "CONDITIONS",
    "Triplet",
    "TripletBatch",
    "TripletSampler",
    "TripletsStage",
    "distorted",
    "triplet",
]

TARGET, EXEMPLAR, OTHER = range(3)  # what draw_images draws
EDGES, LABELS, CLASSES_C, CLASSES_R = range(4)
FLIP, ANGLE, SCALE, SHIFT, WARP = 0.5, 15.0, (0.8, 1.25), (0.05, 0.25), 0.12


@dataclass(frozen=True)
class TripletsStage:
    """Draw triplets and encode their images with the embedded model's VAE."""

    train: int = 4_096
    validation: int = 256
    distortions: int = 2  # fixed distortions of a target, whose latents are computed once
    batch: int = 32

    def run(self, work: Workspace) -> None:
        for split, count in (("train", self.train), ("validation", self.validation)):
            self.draw(work, split, count)
        vae = _load_vae(work.device)
        facts = {"encoder": encoder_mark(vae), "distortions": self.distortions}
        if work.facts("triplets") != facts:
            for split in ("train", "validation"):
                (work.place("triplets") / f"{split}.f16").unlink(missing_ok=True)
            work.note("triplets", **facts)
        for split in ("train", "validation"):
            self._encode_split(work, split, vae)

    def draw(self, work: Workspace, split: str, count: int) -> None:
        """Draw the triplets of a split that are missing."""
        _draw_split(work, split, count)

    def _encode_split(self, work: Workspace, split: str, vae: Any) -> None:
        images, records = image_records(work, split).read(), _latents(work, split, self.distortions)
        records.cut(len(records))
        for first in range(len(records), len(images), self.batch):
            if work.spent() > 1:
                return
            part = images[first : first + self.batch]
            targets, exemplars = as_pixels(part[:, TARGET]), as_pixels(part[:, EXEMPLAR])
            numbers = range(first, first + len(part))
            changed = [
                distorted(targets, [(number, i) for number in numbers])
                for i in range(self.distortions)
            ]
            x = torch.cat([targets, exemplars, *changed])
            x = x.to(work.device, memory_format=torch.channels_last)
            with torch.no_grad(), work.autocast():
                means = vae.encode(x).latent_dist.mode().float() * vae.config.scaling_factor
            z = means.cpu().unflatten(0, (2 + self.distortions, len(part)))
            records.append(z.transpose(0, 1).numpy())
            if first // self.batch % 20 == 0 or len(records) == len(images):
                work.say(f"triplets: {split} {len(records)} of {len(images)} encoded")


@dataclass(frozen=True)
class TripletBatch:
    """A batch of triplets; pixels (n, 3, SIZE, SIZE) in -1..1, latents (n, 4, 16, 16), scaled."""

    kinds: tuple[str, ...]  # of the conditions, each one of CONDITIONS
    condition: Tensor
    exemplar: Tensor
    target: Tensor
    exemplar_latents: Tensor
    target_latents: Tensor
    classes_c: Tensor  # (n, SIZE, SIZE) uint8, indices of world.CLASSES, of condition and target
    classes_r: Tensor  # of the exemplar

    def __len__(self) -> int:
        return len(self.kinds)

    def to(self, device: str | torch.device) -> TripletBatch:
        """The batch with its tensors on a device."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return TripletBatch(self.kinds, **moved)


class TripletSampler:
    """Random batches of the drawn triplets.

    An exemplar is a distorted target with probability ``distorted``, never the target itself;
    otherwise it is another structure in the target's appearance. ``shares`` are the frequencies
    of ``CONDITIONS``.

    Raises:
        ValueError: There are no triplets, or none encoded with the embedded model's VAE.
    """

    def __init__(
        self,
        work: Workspace,
        split: str = "train",
        *,
        shares: Sequence[float] = (0.35, 0.3, 0.1, 0.25),
        distorted: float = 0.5,
    ) -> None:
        self.shares, self.distorted = np.array(shares) / sum(shares), distorted
        self.distortions = int(work.facts("triplets").get("distortions", 0))
        latents = _latents(work, split, self.distortions)
        self.count = min(
            len(latents), len(image_records(work, split)), len(map_records(work, split))
        )
        if not self.count:
            raise ValueError(f"there are no encoded {split} triplets in {work.folder}")
        self.latents = latents.read()
        palette = work.facts("folder").get("palette")  # of a user's label maps
        self.palette = LABEL_COLORS if not palette else np.array(palette, np.uint8)
        if palette == []:
            self.shares = self.shares * [kind != "label" for kind in CONDITIONS]
            self.shares = self.shares / self.shares.sum()
        self.images, self.maps = image_records(work, split).read(), map_records(work, split).read()

    def __len__(self) -> int:
        return self.count

    def batch(self, size: int, rng: np.random.Generator) -> TripletBatch:
        """A random batch."""
        numbers = np.sort(rng.integers(self.count, size=size))
        kinds = rng.choice(CONDITIONS, size, p=self.shares).tolist()
        chosen = rng.integers(self.distortions, size=size) if self.distortions else np.full(size, 0)
        changed = rng.random(size) < (self.distorted if self.distortions else 0)
        return self.select(numbers, kinds, np.where(changed, chosen, -1))

    def select(self, numbers: Array, kinds: Sequence[str], distortions: Array) -> TripletBatch:
        """The triplets of ``numbers`` (n,).

        ``distortions`` (n,) are the numbers of the targets' distortions that serve as exemplars,
        -1 for the exemplar of another structure.
        """
        other = distortions < 0
        target = as_pixels(self.images[numbers, TARGET])
        exemplar = as_pixels(self.images[numbers, np.where(other, EXEMPLAR, TARGET)])
        classes_c = torch.from_numpy(self.maps[numbers, CLASSES_C])
        classes_r = torch.from_numpy(self.maps[numbers, np.where(other, CLASSES_R, CLASSES_C)])
        if not other.all():
            rows = torch.from_numpy(np.flatnonzero(~other))
            keys = list(zip(numbers[~other], distortions[~other], strict=True))
            grid = _grid(keys, SIZE)
            exemplar[rows] = _moved(exemplar[rows], grid)
            moved = _moved(classes_r[rows][:, None].float(), grid, "nearest")
            classes_r[rows] = moved[:, 0].to(torch.uint8)
        z_r = self.latents[numbers, np.where(other, EXEMPLAR, distortions + 2)]
        return TripletBatch(
            tuple(kinds),
            as_pixels(self._conditions(numbers, kinds)),
            exemplar,
            target,
            torch.from_numpy(z_r.astype(np.float32)),
            torch.from_numpy(self.latents[numbers, TARGET].astype(np.float32)),
            classes_c,
            classes_r,
        )

    def _conditions(self, numbers: Array, kinds: Sequence[str]) -> Array:
        conditions = np.empty((len(numbers), SIZE, SIZE, 3), np.uint8)
        for row, (number, kind) in enumerate(zip(numbers, kinds, strict=True)):
            if kind == "image":
                conditions[row] = self.images[number, OTHER]
            elif kind == "label":
                conditions[row] = self.palette[self.maps[number, LABELS]]
            elif kind == "edge":
                conditions[row] = self.maps[number, EDGES, ..., None]
            else:
                rng = np.random.default_rng([number, 18])
                conditions[row] = sketch(self.maps[number, EDGES], rng)
        return conditions


def distorted(images: Tensor, keys: Sequence[tuple[int, int]]) -> Tensor:
    """Images (n, c, h, w) flipped, rotated, scaled, shifted and smoothly warped.

    Every image by its own distortion, a function of its key; each moves the whole image by at
    least 5 % of its side. What comes from outside is a reflection.
    """
    return _moved(images, _grid(keys, images.shape[-1]))


def _moved(images: Tensor, grid: Tensor, mode: str = "bilinear") -> Tensor:
    return F.grid_sample(images, grid, mode, padding_mode="reflection", align_corners=False)


def _grid(keys: Sequence[tuple[int, int]], size: int) -> Tensor:
    """Where every pixel comes from: (n, size, size, 2) in -1..1."""
    drawn = [_distortion(np.random.default_rng([*key, 19])) for key in keys]
    matrices = torch.from_numpy(np.stack([matrix for matrix, _ in drawn]))
    bends = torch.from_numpy(np.stack([bend for _, bend in drawn]))
    smooth = F.interpolate(bends, (size, size), mode="bicubic", align_corners=True)
    shape = [len(drawn), 1, size, size]
    grid: Tensor = F.affine_grid(matrices, shape, align_corners=False) + smooth.permute(0, 2, 3, 1)
    return grid


def _distortion(rng: np.random.Generator) -> tuple[Array, Array]:
    """A matrix (2, 3) and a displacement (2, 4, 4) of one distortion, float32."""
    turn = np.radians(rng.uniform(-ANGLE, ANGLE))
    scale = np.exp(rng.uniform(*np.log(SCALE)))
    flip = -1 if rng.random() < FLIP else 1
    # in coordinates of -1..1, so shares of the side count twice
    shift = 2 * rng.uniform(*SHIFT, 2) * rng.choice([-1, 1], 2)
    c, s = np.cos(turn) / scale, np.sin(turn) / scale
    matrix = np.array([[flip * c, -flip * s, shift[0]], [s, c, shift[1]]])
    bend = rng.uniform(-WARP, WARP, (2, 4, 4))
    return matrix.astype(np.float32), bend.astype(np.float32)


def _draw_split(work: Workspace, split: str, count: int) -> None:
    images, maps = image_records(work, split), map_records(work, split)
    start = min(len(images), len(maps))
    images.cut(start)
    maps.cut(start)
    with mapper(work.workers) as apply:
        for first in range(start, count, CHUNK):
            if work.spent() > 1:
                return
            numbers = range(first, min(first + CHUNK, count))
            drawn = list(apply(partial(draw_images, split), numbers))
            images.append(np.stack([each[0] for each in drawn]))
            maps.append(np.stack([each[1] for each in drawn]))
            if first % (CHUNK * 10) == 0 or numbers.stop == count:
                work.say(f"triplets: {split} {numbers.stop} of {count}")


def _load_vae(device: str) -> Any:
    model: Any = load(ModelSpec("mini", device=device, dtype="float32"))
    return model.vae.to(memory_format=torch.channels_last)


def image_records(work: Workspace, split: str) -> ArrayFile:
    """Of each triplet the target, the exemplar, and the target in another appearance."""
    return ArrayFile(work.place("triplets") / f"{split}.u8", (3, SIZE, SIZE, 3))


def map_records(work: Workspace, split: str) -> ArrayFile:
    """Of each triplet edges and label numbers, and the classes of target and exemplar."""
    return ArrayFile(work.place("triplets") / f"{split}-maps.u8", (4, SIZE, SIZE))


def _latents(work: Workspace, split: str, distortions: int) -> ArrayFile:
    shape = (2 + distortions, 4, SIZE // CELL, SIZE // CELL)
    return ArrayFile(work.place("triplets") / f"{split}.f16", shape, "float16")
