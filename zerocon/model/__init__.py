"""The only door to diffusers and transformers: whatever a model predicts leaves it as ``eps``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from PIL.Image import Image

from zerocon.conditioning import Conditioning
from zerocon.diffusion import Schedule
from zerocon.errors import DeviceNotFoundError, SettingError
from zerocon.settings import Settings
from zerocon.shapes import Latents, Pixels

if TYPE_CHECKING:
    from zerocon.model.stable_diffusion import StableDiffusion

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


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


def load(
    name: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    captioner: str | None = None,
    clip: str | None = None,
    prediction: str | None = None,
) -> StableDiffusion:
    """Load ``mini`` (embedded), a diffusers folder, a ``.safetensors`` file, or a cached hub id.

    Nothing is ever downloaded here. ``prediction`` ("epsilon" or "v_prediction") is read from the
    model unless it is given: a single file of the second generation may not say. ``device``
    defaults to CUDA, then MPS, then CPU; ``dtype`` to float16 on a GPU and float32 on a CPU.
    Captioner and CLIP are taken from ``captioner/`` and ``clip/`` beside the weights where those
    exist, else from the given (or default) names, and only when they are first needed. Raises
    ``MissingError`` for a model or device that is not there, ``ValueError`` for a bad name, a
    pickle or a model of another family.
    """
    from zerocon.model.families import PREDICTIONS
    from zerocon.model.loading import find
    from zerocon.model.stable_diffusion import StableDiffusion

    where = pick_device(device)
    kind = pick_dtype(dtype, where)
    if prediction is not None and prediction not in PREDICTIONS:
        raise SettingError(f'no prediction "{prediction}"; there are: {", ".join(PREDICTIONS)}')
    return StableDiffusion.load(
        find(name), name, where, kind, captioner=captioner, clip=clip, prediction=prediction
    )


def pick_device(device: str | None) -> torch.device:
    """The device asked for, or the best one there is; ``MissingError`` if it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there["cpu"] = True
    if device is None:
        return torch.device(next(name for name, found in there.items() if found))
    names = ", ".join(name for name, found in there.items() if found)
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise SettingError(f'no device "{device}"; there are: {names}') from None
    many = torch.cuda.device_count() if wanted.type == "cuda" else 1
    if not there.get(wanted.type) or (wanted.index or 0) >= many:
        raise DeviceNotFoundError(f'device "{device}" is not on this machine; there are: {names}')
    return wanted


def pick_dtype(dtype: str | None, device: torch.device) -> torch.dtype:
    """The dtype the networks compute in."""
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.float16
    if dtype not in DTYPES:
        raise SettingError(f'no dtype "{dtype}"; there are: {", ".join(DTYPES)}')
    return DTYPES[dtype]
