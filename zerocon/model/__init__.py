"""The interface of a latent diffusion model, and ``load``. Only this package imports diffusers.

Importing this needs no torch: implementations are imported by ``load``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from zerocon.errors import about
from zerocon.model.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from zerocon.conditioning import Conditioning
    from zerocon.diffusion import Schedule
    from zerocon.image.transforms import WorkingSize
    from zerocon.model.runtime import Runtime
    from zerocon.settings import Settings
    from zerocon.tensor_types import Latents, Pixels

__all__ = ["Captioner", "Denoiser", "Model", "ModelSpec", "Scorer", "load"]


class Denoiser(Protocol):
    """Autoencoder, text encoder and U-Net.

    Latents, tokens and predicted noise are float32 on the model's device whatever dtype the
    networks compute in. Pixels are RGB in -1..1.

    Attributes:
        unet: The U-Net whose layers an ``Observer`` records; call ``eps``, not this.
        prediction: What the U-Net was trained to predict; ``eps`` always returns noise.
        working_size: How images are scaled for it, to the size of those it was trained on.
        vae_scale_factor: Pixels per latent along a side.
    """

    unet: Any
    prediction: str
    working_size: WorkingSize
    vae_scale_factor: int

    @property
    def size(self) -> int:
        """``working_size.size``"""

    @property
    def multiple(self) -> int:
        """``working_size.multiple``: both sides of an image must be divisible by it."""

    def encode(self, pixels: Pixels) -> Latents:
        """Latents of images, (batch, channels, rows, columns)."""

    def decode(self, latents: Latents) -> Pixels:
        """Images of latents, (batch, 3, height, width), not clipped."""

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that ``embed`` reads, start and end tokens included."""

    def embed(self, texts: Sequence[str]) -> Conditioning:
        """Conditioning on texts, one row per text; only ``max_tokens`` of each are read."""

    def unread_text(self, text: str) -> str:
        """The end of a text that ``embed`` does not read, from a whole word on; "" if none."""

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of a text, in lower case, that the text encoder was not trained on.

        Empty for a model that does not tell: the vocabulary of CLIP's tokenizer spells every word.
        """

    def eps(self, x: Latents, t: float, c: Conditioning) -> Latents:
        """Predicted noise in ``x`` at timestep ``t``; the only call of the U-Net."""

    def schedule(self, steps: int) -> Schedule:
        """Noise levels of an edit in so many steps."""

    def layers(self, kind: str) -> str:
        """Pattern of the names of attention layers of one kind.

        Args:
            kind: ``"cross_attention"``, ``"self_attention_decoder"`` or
                ``"self_attention_encoder"``; anything else is a pattern already (shell wildcards)
                and is returned as it is.
        """


class Captioner(Protocol):
    """Generates captions."""

    def describe(self, images: Sequence[Image]) -> list[str]:
        """One caption per RGB image of any size."""


class Scorer(Protocol):
    """Compares images with texts."""

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are read, start and end tokens included."""

    def unread_text(self, text: str) -> str:
        """The end of a text that is not read, from a whole word on; "" if none."""

    def embed(self, image: Image) -> torch.Tensor:
        """The image's embedding, of unit length, (1, width)."""

    def similarity(self, image: Image, texts: Sequence[str]) -> list[float]:
        """Cosine similarity of the image's and each text's embedding, -1..1."""


class Model(Denoiser, Protocol):
    """A denoiser with everything an edit needs besides: captioner, CLIP, device, defaults.

    All methods hold ``lock``, which is re-entrant. Code that records layers of ``unet`` or wants
    gradients through it holds the lock for as long.

    Attributes:
        name: As given to ``load``.
        settings: Default settings, measured on this model where its directory has them.
        runtime: Device, dtype, lock, and options such as tiling and offloading.
    """

    name: str
    settings: Settings
    runtime: Runtime

    @property
    def device(self) -> torch.device:
        """``runtime.device``"""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """``runtime.lock``"""

    @property
    def captioner(self) -> Captioner:
        """Loaded on first use; ``ModelNotFoundError`` if it is not on this machine."""

    @property
    def scorer(self) -> Scorer | None:
        """CLIP, loaded on first use; None if none is on this machine and none was named."""

    def fingerprint(self) -> str | None:
        """Hash of the weight files; None for a model built in memory."""


def load(spec: ModelSpec) -> Model:
    """Load the model that ``spec`` describes. Nothing is downloaded.

    Captioner and CLIP are loaded when they are first needed.

    Raises:
        ModelNotFoundError: The model, or a part of it, is not on this machine.
        DeviceNotFoundError: The device is not on this machine.
        UnsupportedModelError: It is a model of another family, or damaged.
        PickleRefusedError: The weights are a pickle.
    """
    from zerocon.model.loading import family_of, find, local_path  # with safetensors

    with about(local_path(spec.name)):
        path = find(spec.name)
        return family_of(path, spec.name).load(path, spec)
