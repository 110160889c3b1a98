"""Inversions: trajectories of images through the noise levels, kept in memory or in a file."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zerocon.activations import Observation, Observer
from zerocon.diffusion import Schedule
from zerocon.errors import FileFormatError, MismatchError, about_argument
from zerocon.model.tensor_file import (
    TensorFile,
    numbers,
    read_tensor_file,
    require,
    text,
    texts,
    write_tensor_file,
)
from zerocon.tensor_types import Trajectory, require_finite

if TYPE_CHECKING:
    from zerocon.image.transforms import Prepared

FORMAT = "zerocon.inversion/3"
LEVELS, IMAGES, CHANNELS, SIDE = 10_001, 4096, 64, 2048  # at most, in a file
LATENT_CHANNELS = 4  # of all models that are read
NOUN = "an inversion"
COLUMNS = ("times", "alphas", "sigmas")

LayersByLevel = tuple[frozenset[str], ...]  # patterns of layer names at each level from 0 on


@dataclass(frozen=True)
class Inversion:
    """The trajectories of a batch of images from noise level 0, the image, to the noisiest.

    Attributes:
        latents: (levels, images, channels, height, width).
        eps: Predicted noise at each level, in the shape of ``latents``.
        schedule: The noise levels.
        captions: Caption under which each image was inverted.
        images: Key of each image at working size, ``Prepared.key``; of files that were written
            without one, the hash of its pixels.
        model: Name of the model.
        recipe: What else decides the trajectory: text encoder, inverter, seed, version.
        observations: One per level, with the activations of the layers in ``layer_patterns``;
            empty where none were recorded. ``save`` leaves them out, since they are many times
            larger than the trajectory; ``recompute_observations`` takes one evaluation per level.
        layer_patterns: The layers that were recorded at each level, as shell patterns; empty where
            there are no observations.
        float32: For each image, the parts of the model that computed in float32 what was not finite
            in half precision, such as "vae"; "" where there was none. Empty for no images at all.
    """

    latents: Trajectory
    eps: Trajectory
    schedule: Schedule
    captions: tuple[str, ...]
    images: tuple[str, ...]
    model: str
    recipe: Mapping[str, str]
    observations: tuple[Observation, ...] = field(default=(), repr=False, compare=False)
    layer_patterns: LayersByLevel = field(default=(), compare=False)
    float32: tuple[str, ...] = field(default=(), compare=False)

    def __repr__(self) -> str:
        height, width = self.latents.shape[-2:]
        n = len(self.captions)
        text = repr(shorten(self.captions[0], 60, placeholder=" ...")) if n == 1 else f"{n} images"
        return (
            f"Inversion({text}: {self.schedule.steps} steps, "
            f"{width}x{height} latents, model {self.model!r})"
        )

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the trajectory, without its observations, to a safetensors file, atomically.

        Raises:
            OutputExistsError: if ``path`` exists, unless ``overwrite``.
            OutputFormatError: if it has more than 136 MB.
        """
        tensors, metadata = self.to_tensors()
        write_tensor_file(
            Path(path), tensors, "inversion", metadata, noun=NOUN, overwrite=overwrite
        )

    def to_tensors(self, *, observations: bool = False) -> tuple[dict[str, Tensor], str]:
        """Tensors by name, on the CPU, and all else as one line of JSON, for ``from_tensors``.

        Args:
            observations: Include the recorded activations.
        """
        columns = {name: getattr(self.schedule, name) for name in COLUMNS}
        metadata: dict[str, Any] = {
            "format": FORMAT,
            "schedule": columns,
            "captions": self.captions,
            "images": self.images,
            "model": self.model,
            "recipe": dict(self.recipe),
        }
        if any(self.float32):
            metadata["float32"] = self.float32
        tensors = {"latents": self.latents, "eps": self.eps}
        if observations:
            for kind in ("maps", "features"):  # in the U-Net's order, in which losses are added
                metadata[kind] = [[*getattr(each, kind)] for each in self.observations]
            metadata["ids"] = self.observations[-1].ids
            metadata["layer_patterns"] = [sorted(patterns) for patterns in self.layer_patterns]
            for level, each in enumerate(self.observations):
                layers = {**each.maps, **each.features}
                tensors |= {f"{level}/{layer}": tensor for layer, tensor in layers.items()}
        line = json.dumps(metadata, sort_keys=True, ensure_ascii=False)
        return {name: tensor.cpu() for name, tensor in tensors.items()}, line

    @property
    def observation_bytes(self) -> int:
        """Size of the recorded activations in bytes."""
        levels = [(*each.maps.values(), *each.features.values()) for each in self.observations]
        return sum(tensor.nbytes for level in levels for tensor in level)

    @classmethod
    def from_observations(
        cls,
        observations: Iterable[Observation],
        *,
        schedule: Schedule,
        captions: tuple[str, ...],
        images: tuple[str, ...] = (),
        model: str,
        recipe: Mapping[str, str],
        layer_patterns: LayersByLevel = (),
        float32: tuple[str, ...] = (),
    ) -> Inversion:
        """Collect what an inverter yields, with the ``layer_patterns`` recorded at each level.

        Raises:
            NotFiniteError: if latents or predicted noise are NaN or infinite.
        """
        levels = tuple(observations)
        latents = torch.stack([level.x for level in levels])
        eps = torch.stack([level.eps for level in levels])
        for values in (latents, eps):
            require_finite(values, "the latents or the predicted noise of the inversion", "unet")
        recorded = any(layer_patterns)
        return cls(
            latents=latents,
            eps=eps,
            schedule=schedule,
            captions=captions,
            images=images,
            model=model,
            recipe=recipe,
            observations=_on_trajectory(levels, latents, eps) if recorded else (),
            layer_patterns=layer_patterns if recorded else (),
            float32=float32,
        )

    def recorded(self, needed: LayersByLevel) -> bool:
        """Whether at each level the layers were recorded that are ``needed`` there."""
        return joined(self.layer_patterns, needed) == self.layer_patterns or not any(needed)

    def without_observations(self) -> Inversion:
        """The trajectory alone; its tensors are not copied."""
        return replace(self, observations=(), layer_patterns=())

    def require_images(self, images: Sequence[Prepared], vae_scale_factor: int) -> None:
        """Raise ``MismatchError`` unless it is the inversion of ``images`` at their working size.

        Files with hashes in place of keys were written before there were crops, and the latents
        tell the size.
        """
        hashes = tuple(key.partition(" ")[0] for key in self.images)
        if hashes != tuple(image.hash for image in images):
            raise MismatchError("the inversion does not match the image; invert the image first")
        height, width = (side * vae_scale_factor for side in self.latents.shape[-2:])
        for key, image in zip(self.images, images, strict=True):
            if image.size != (width, height):
                raise MismatchError(
                    f"the inversion was made at {width}x{height} pixels, the edit works at "
                    f"{image.size[0]}x{image.size[1]}; invert the image again, or edit at the size "
                    "of the inversion"
                )
            if key != image.key and (key != image.hash or image.crop is not None):
                raise MismatchError(
                    "the inversion was made with another size or crop; invert the image again"
                )

    def to(self, device: torch.device) -> Inversion:
        """The same trajectories on another device."""
        levels = tuple(level.to(device) for level in self.observations)
        latents, eps = self.latents.to(device), self.eps.to(device)
        observations = _on_trajectory(levels, latents, eps) if levels else ()
        return replace(self, latents=latents, eps=eps, observations=observations)

    def rows(self, rows: slice) -> Inversion:
        """The trajectories of some of the images."""
        return replace(
            self,
            latents=self.latents[:, rows],
            eps=self.eps[:, rows],
            captions=self.captions[rows],
            images=self.images[rows],
            observations=tuple(level.rows(rows) for level in self.observations),
            float32=self.float32[rows],
        )

    @classmethod
    def cat(cls, parts: Sequence[Inversion]) -> Inversion:
        """The rows of several inversions as one batch, in order.

        Observations are kept if all parts recorded the same layers.

        Raises:
            MismatchError: for parts of different models, schedules, recipes or latent sizes.
        """
        first = parts[0]
        if len(parts) == 1:  # not copied, since it may be large
            return first
        recipes = {(p.model, p.schedule, json.dumps(dict(p.recipe), sort_keys=True)) for p in parts}
        if len(recipes) > 1 or len({part.latents.shape[2:] for part in parts}) > 1:
            raise MismatchError(
                "cannot batch inversions with different model, settings or latent size"
            )
        same = all(p.observations and p.layer_patterns == first.layer_patterns for p in parts)
        levels = zip(*(part.observations for part in parts), strict=True) if same else ()
        latents = _cat_levels([part.latents for part in parts])
        eps = _cat_levels([part.eps for part in parts])
        observations = _on_trajectory([*map(Observation.cat, levels)], latents, eps) if same else ()
        return replace(
            first,
            latents=latents,
            eps=eps,
            captions=tuple(caption for part in parts for caption in part.captions),
            images=tuple(image for part in parts for image in part.images),
            observations=observations,
            layer_patterns=first.layer_patterns if same else (),
            float32=tuple(text for p in parts for text in p.float32 or ("",) * len(p.captions)),
        )

    @classmethod
    @about_argument("path")
    def load(cls, path: Path | str) -> Inversion:
        """Read what ``save`` wrote.

        Raises:
            FileFormatError: for any other file.
        """
        file = read_tensor_file(
            path,
            entry="inversion",
            format=FORMAT,
            noun=NOUN,
            names=("latents", "eps"),
            dimensions=_is_shape,
        )
        try:
            return cls.from_tensors(file.tensors, _checked(file))
        except (LookupError, TypeError, ValueError) as error:
            raise FileFormatError(f"{path} is not a valid inversion: {error}") from None

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Inversion:
        """The inversion of which ``to_tensors`` made ``tensors`` and, as JSON, ``metadata``."""
        latents, eps = tensors["latents"], tensors["eps"]
        layer_patterns = tuple(map(frozenset, metadata.get("layer_patterns", ())))
        columns = (metadata["schedule"][name] for name in COLUMNS)

        def layers(level: int, kind: str) -> dict[str, Tensor]:
            return {layer: tensors[f"{level}/{layer}"] for layer in metadata[kind][level]}

        def observation(level: int) -> Observation:
            maps, features = layers(level, "maps"), layers(level, "features")
            ids = tuple(map(tuple, metadata["ids"]))
            return Observation(latents[level], eps[level], ids, maps=maps, features=features)

        return cls(
            latents,
            eps,
            schedule=Schedule.of(*columns),
            captions=tuple(metadata["captions"]),
            images=tuple(metadata["images"]),
            model=metadata["model"],
            recipe=metadata["recipe"],
            observations=tuple(map(observation, range(len(latents)))) if layer_patterns else (),
            layer_patterns=layer_patterns,
            float32=tuple(metadata.get("float32", ())),
        )


def bytes_in_file(levels: int, size: tuple[int, int], vae_scale_factor: int) -> int:
    """Bytes of the trajectory of one image of ``size`` (width, height) in pixels."""
    width, height = (side // vae_scale_factor for side in size)
    return levels * 2 * LATENT_CHANNELS * height * width * 4  # latents and noise, float32


def recompute_observations(observer: Observer, inversion: Inversion) -> Iterator[Observation]:
    """The observations along an inversion's trajectory, as an inverter yields them.

    One U-Net evaluation per level from 1 on where the observer records a layer that the inversion
    has not.
    """
    kept = inversion.layer_patterns
    for i, level in enumerate(inversion.schedule.levels):
        x, eps = inversion.latents[i], inversion.eps[i]
        needed = frozenset(observer.kept_at(level.time) if i else ())
        if not needed <= (kept[i] if kept else frozenset()):
            yield observer(x, level.time)
        elif kept:
            yield inversion.observations[i]
        else:
            yield Observation(x, eps, observer.c.ids)


def joined(one: LayersByLevel, other: LayersByLevel) -> LayersByLevel:
    """The layers of both at each level; either may be empty."""
    if not one or not other:
        return one or other
    return tuple(a | b for a, b in zip(one, other, strict=True))


def layers_by_time(schedule: Schedule, layers: LayersByLevel) -> dict[float, frozenset[str]]:
    """For an ``Observer``: the layers of each timestep; level 0 is never recorded."""
    by_time: dict[float, frozenset[str]] = {}
    for level, patterns in zip(schedule.levels[1:], layers[1:], strict=True):
        by_time[level.time] = by_time.get(level.time, frozenset()) | patterns
    return by_time


def _on_trajectory(
    levels: Sequence[Observation], latents: Trajectory, eps: Trajectory
) -> tuple[Observation, ...]:
    """The observations with views of the trajectory in place of the same values."""
    rows = zip(levels, latents, eps, strict=True)
    return tuple(replace(level, x=x, eps=noise) for level, x, noise in rows)


def _cat_levels(trajectories: Sequence[Trajectory]) -> Trajectory:
    """Batches joined level by level, which keeps the memory layout that rounding depends on."""
    return torch.stack([torch.cat(rows) for rows in zip(*trajectories, strict=True)])


def _is_shape(name: str, shape: Sequence[int]) -> bool:
    """Whether a trajectory in a file may have this shape."""
    limits = (LEVELS, IMAGES, CHANNELS, SIDE, SIDE)
    return len(shape) == len(limits) and all(
        1 <= side <= most for side, most in zip(shape, limits, strict=True)
    )


def _checked(file: TensorFile) -> dict[str, Any]:
    """The metadata of an inversion; ``ValueError`` or ``LookupError`` if it is not valid."""
    latents, metadata = file.tensors["latents"], dict(file.metadata)
    require(latents.shape == file.tensors["eps"].shape, "the shapes of latents and eps")
    levels, rows = latents.shape[:2]
    schedule = metadata["schedule"]
    require(isinstance(schedule, dict), "schedule")
    times, alphas, sigmas = (numbers(schedule[name], name, 0, 1e6) for name in COLUMNS)
    require(len(times) == len(alphas) == len(sigmas) == levels, "the lengths of the schedule")
    require(all(map(operator.ge, times[1:], times)), "the schedule's order")
    noise = [sigma / alpha for sigma, alpha in zip(sigmas, alphas, strict=True) if alpha > 0]
    require(len(noise) == levels and all(map(operator.ge, noise[1:], noise)), "the noise levels")
    for name in ("captions", "images"):
        metadata[name] = list(texts(metadata[name], name, most=IMAGES))
        require(len(metadata[name]) == rows, f"the number of {name}")
    float32 = texts(metadata.get("float32", []), "float32", most=IMAGES)
    require(len(float32) in (0, rows), "float32")
    recipe = metadata["recipe"]
    require(isinstance(recipe, dict), "recipe")
    texts([*recipe, *recipe.values()], "recipe")
    names = ("schedule", "captions", "images", "float32", "recipe")  # observations are not saved
    return {name: metadata[name] for name in names if name in metadata} | {
        "model": text(metadata["model"], "model")
    }
