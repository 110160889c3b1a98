"""The only door to diffusers and transformers: whatever a model predicts leaves it as ``eps``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from zerocon.model.spec import ModelSpec as ModelSpec

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from zerocon.conditioning import Conditioning
    from zerocon.diffusion import Schedule
    from zerocon.model.stable_diffusion import StableDiffusion
    from zerocon.settings import Settings
    from zerocon.shapes import Latents, Pixels


@runtime_checkable
class Model(Protocol):
    """What the rest of zerocon asks of a latent diffusion model.

    Latents, tokens and eps are float32 on ``device`` whatever the network computes in; pixels are
    -1..1. ``size`` is the side of picture it was trained on, ``multiple`` what both sides of a
    picture must be divisible by, ``prediction`` what the network was trained to predict, ``manner``
    how it computes as far as results depend on it ("cpu float32"), and ``fingerprint`` a hash of
    its weights' files, None for a model that was made in memory.

    Every call holds ``lock``, which is re-entrant. Who looks into the ``unet``, or wants a gradient
    back through it, holds it for as long: all calls of one walk see the same network.
    """

    name: str
    device: torch.device
    lock: AbstractContextManager[Any]
    prediction: str
    unet: torch.nn.Module
    settings: Settings
    size: int
    multiple: int

    @property
    def manner(self) -> str: ...
    def encode(self, pixels: Pixels) -> Latents: ...
    def decode(self, latents: Latents) -> Pixels: ...
    def embed(self, sentences: Sequence[str]) -> Conditioning: ...
    def eps(self, x: Latents, t: float, c: Conditioning) -> Latents: ...
    def schedule(self, steps: int) -> Schedule: ...
    def offload(self) -> None: ...
    def tile(self) -> None: ...
    def compile(self) -> None: ...
    def spare(self) -> str | None: ...
    def fingerprint(self) -> str | None: ...
    def describe(self, images: Sequence[Image]) -> list[str]: ...
    def similarity(self, image: Image, sentences: Sequence[str]) -> list[float] | None: ...


def load(spec: ModelSpec) -> StableDiffusion:
    """Load the model that ``spec`` describes. Nothing is downloaded.

    Captioner and CLIP are loaded when they are first needed.

    Raises:
        ModelNotFoundError: The model, or a part of it, is not on this machine.
        DeviceNotFoundError: The device is not on this machine.
        UnsupportedModelError: It is a model of another family, or damaged.
        PickleRefusedError: The weights are a pickle.
    """
    from zerocon.model.loading import find
    from zerocon.model.stable_diffusion import StableDiffusion

    return StableDiffusion.load(find(spec.name), spec)
