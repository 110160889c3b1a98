"""Networks next to the U-Net: captioner, CLIP, segmentation model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from PIL import Image

from zerocon.errors import ModelNotFoundError, UnsupportedModelError
from zerocon.model.config import IMAGE_CONFIGS, IMAGES, choose, read_json, shorten
from zerocon.model.loading import find_part, model_errors
from zerocon.model.networks import NetworkPlan
from zerocon.model.precision import in_float32
from zerocon.model.tokenizing import load_tokenizer

CPU = torch.device("cpu")
LARGEST_IMAGE = 2048  # pixels a side that a companion may scale images to


class Companion:
    """A network with its tokenizer and image processor.

    It is on its device from its first use until ``release``, then in main memory until the next
    use: a U-Net needs the device's memory more.

    Attributes:
        network: The network, frozen.
        device: Where it computes.
        parked: Whether it computes in main memory instead, in float32.
    """

    def __init__(
        self, network: Any, tokenizer: Any, images: Any, device: torch.device | str
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.tokenizer, self.images, self.device = tokenizer, images, torch.device(device)
        self.parked = self.on_device = False
        self._lock = RLock()  # tokenizers keep state

    @property
    def bytes(self) -> int:
        """Size of the weights."""
        return sum(parameter.nbytes for parameter in self.network.parameters())

    @contextmanager
    def in_use(self) -> Iterator[torch.device]:
        """The network is on the device that is yielded, for this thread alone."""
        with self._lock:
            device = CPU if self.parked else self.device
            self.network.to(device)
            self.on_device = device != CPU
            half = device == CPU and self.parked and self.network.dtype != torch.float32
            with in_float32(self.network) if half else nullcontext():
                yield device

    def release(self) -> None:
        """Move the network to main memory; waits for another thread that uses it."""
        with self._lock:
            if self.on_device:
                self.network.to(CPU)
                self.on_device = False

    def park(self, on: bool = True) -> None:
        """Compute in main memory from now on, or no longer."""
        with self._lock:
            self.release()
            self.parked = on


def companion_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of a companion of a model in ``dtype``: float32 on a CPU.

    Elsewhere float16 for models in half precision: cosines of CLIP differ by hundredths between
    captions, and bfloat16 has steps of 0.004 at 1.
    """
    return torch.float32 if device == CPU or dtype == torch.float32 else torch.float16


def find_companion(parent: Path, part: str, name: str | None, default: str) -> Path:
    """The directory of a companion: ``name`` if given, else ``parent/part``, else the default one.

    Raises:
        MissingError: It is not on this machine; or ``PickleRefusedError``.
    """
    bundled = parent / part
    return bundled if bundled.is_dir() and name is None else find_part(name or default)


def load_parts(
    folder: Path,
    plan: Callable[[Path, str, str], NetworkPlan],
    tokenizer: type,
    images: type,
    dtype: torch.dtype,
    *,
    any_size: bool = False,
) -> tuple[Any, Any, Any]:
    """Network, tokenizer and image processor of a companion in a directory.

    Args:
        folder: The directory.
        plan: Checks the network: one of the functions of ``networks``.
        tokenizer: Class of the tokenizer.
        images: Class of the image processor.
        dtype: Of the network.
        any_size: The network takes images of any size, and not only of that in its configuration.

    Raises:
        ModelNotFoundError: It is not complete.
        PickleRefusedError: Its weights are pickles.
        UnsupportedModelError: It is another model, or damaged.
    """
    name = str(folder)
    with model_errors(name):
        planned = plan(folder, name, str(dtype).removeprefix("torch."))
        text, vision = planned.network.config.text_config, planned.network.config.vision_config
        positions, words = text.max_position_embeddings, text.vocab_size
        tokens = load_tokenizer(tokenizer, folder, name, positions, words)
        processor = load_images(images, folder, name, None if any_size else vision.image_size)
        return planned.load(dtype), tokens, processor


def load_images(kind: type, folder: Path, name: str, side: int | None) -> Any:
    """An image processor of transformers, tried on an image.

    Args:
        kind: Its class.
        folder: With its configuration.
        name: Of the model, for messages.
        side: Of the only images that the network takes, in pixels; None for any size.

    Raises:
        ModelNotFoundError: There is no configuration.
        UnsupportedModelError: It is damaged, or makes images that the network does not take.
    """
    images = kind(**image_config(folder, name))
    pixels = images(Image.new("RGB", (48, 32)), return_tensors="pt").pixel_values
    shape = tuple(pixels.shape[1:])
    if shape != ((3, *shape[1:]) if side is None else (3, side, side)):
        wanted = "RGB images" if side is None else f"3x{side}x{side}"
        raise UnsupportedModelError(
            f"{name} is damaged: images are scaled to {'x'.join(map(str, shape))}, and the network "
            f"takes {wanted}"
        )
    return images


def image_config(folder: Path, name: str) -> dict[str, Any]:
    """The options of an image processor in a model's directory.

    Raises:
        ModelNotFoundError: There are none.
        UnsupportedModelError: They are damaged, or scale images to sizes that no network takes.
    """
    file = next((folder / each for each in IMAGE_CONFIGS if (folder / each).is_file()), None)
    if file is None:
        raise ModelNotFoundError(f"{name} is not complete: there is no {IMAGE_CONFIGS[1]}")
    values = read_json(file, name)
    inner = values.get("image_processor", values)  # newer versions of transformers nest it
    if file.name == IMAGE_CONFIGS[0] and inner is values and (folder / IMAGE_CONFIGS[1]).is_file():
        inner = read_json(folder / IMAGE_CONFIGS[1], name)
    if not isinstance(inner, dict):
        raise UnsupportedModelError(f"{name} is damaged: image_processor is not an object")
    chosen = choose(inner, IMAGES, name, file.name)
    for key in ("size", "crop_size"):
        size = chosen.get(key)
        sides = size.values() if isinstance(size, dict) else [] if size is None else [size]
        if not all(isinstance(side, int) and 1 <= side <= LARGEST_IMAGE for side in sides):
            raise UnsupportedModelError(f"{name} is damaged: {key} of images is {shorten(size)}")
    for key in ("image_mean", "image_std"):
        numbers = chosen.get(key, [1.0])
        numbers = numbers if isinstance(numbers, list) else [numbers]
        low = -math.inf if key == "image_mean" else 0
        if not all(isinstance(each, int | float) and each > low for each in numbers):
            raise UnsupportedModelError(f"{name} is damaged: {key} is {shorten(chosen[key])}")
    return chosen
