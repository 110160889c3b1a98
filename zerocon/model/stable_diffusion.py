"""Stable Diffusion's parts behind one door: encode, decode, embed, eps, describe, similarity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, wraps
from pathlib import Path
from threading import RLock
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from PIL.Image import Image

from zerocon.conditioning import Conditioning, Ids
from zerocon.diffusion import NoiseLevel, Schedule
from zerocon.errors import SettingError
from zerocon.model.attention import checkpoint, watched
from zerocon.model.captioner import Captioner, load_captioner
from zerocon.model.checkpoint import read as read_single
from zerocon.model.clip import Clip, load_clip
from zerocon.model.families import require_networks
from zerocon.model.fingerprint import weights_hash
from zerocon.model.loading import read, reading
from zerocon.model.runtime import pick_device, pick_dtype
from zerocon.model.spec import ModelSpec
from zerocon.nfe import count
from zerocon.settings import Settings
from zerocon.shapes import Latents, Pixels, require_finite

SENTENCES = 64  # encoded at a time: what fits beside a U-Net on a small card

P = ParamSpec("P")
T = TypeVar("T")


def alone(
    method: Callable[Concatenate[StableDiffusion, P], T],
) -> Callable[Concatenate[StableDiffusion, P], T]:
    """Let one thread at a time into a method: networks, tokenizers and schedulers have states."""

    @wraps(method)
    def called(self: StableDiffusion, /, *given: P.args, **named: P.kwargs) -> T:
        with self.lock:
            return method(self, *given, **named)

    return called


class StableDiffusion:
    """A Stable Diffusion model, its weights frozen, with a captioner and CLIP beside it.

    Built from diffusers' and transformers' own classes; ``load`` reads them from a folder or file.
    ``captioner`` and ``clip`` are called on first use, since an edit may need neither.
    """

    def __init__(
        self,
        name: str,
        *,
        unet: Any,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        scheduler: Any,
        device: torch.device,
        settings: Settings | None = None,
        place: Path | None = None,
        captioner: Callable[[], Captioner],
        clip: Callable[[], Clip | None],
    ) -> None:
        self.name, self.device, self.settings = name, device, settings or Settings()
        self.lock: AbstractContextManager[Any] = RLock()
        self.offloaded = False
        self._compiled: Any = None
        self.unet, self.vae, self.text_encoder = unet, vae, text_encoder
        self.tokenizer, self.scheduler = tokenizer, scheduler
        self._place, self._load_captioner, self._load_clip = place, captioner, clip
        for network in (unet, vae, text_encoder):
            network.to(device).eval().requires_grad_(False)
        require_networks(name, unet, vae, scheduler)
        self.prediction = scheduler.config.prediction_type
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.size: int = unet.config.sample_size * factor
        self.multiple: int = factor * 2 ** (len(unet.config.block_out_channels) - 1)

    @classmethod
    def load(cls, place: Path, spec: ModelSpec) -> StableDiffusion:
        """Read the diffusers folder or single file ``place``; errors as ``zerocon.model.load``."""
        device = pick_device(spec.device)
        single = place.is_file()
        reading = (place, spec.name, pick_dtype(spec.dtype, device), spec.prediction)
        parts = read_single(*reading) if single else read(*reading)
        beside = place.parent if single else place
        model = cls(
            spec.name,
            **parts,
            device=device,
            settings=Settings() if single else _measured(place),
            place=place,
            captioner=lambda: load_captioner(beside, spec.captioner, device),
            clip=lambda: load_clip(beside, spec.clip, device),
        )
        if spec.offload:
            model.offload()
        if spec.tile:
            model.tile()
        if spec.compile:
            model.compile()
        return model

    @alone
    @torch.no_grad()
    def encode(self, pixels: Pixels) -> Latents:
        """Latents of pictures: the posterior's mean, since a sample differs from run to run."""
        posterior = self.vae.encode(pixels.to(self.device, self.vae.dtype)).latent_dist
        latents: Latents = posterior.mode().float() * float(self.vae.config.scaling_factor)
        require_finite(latents, f"the latents that the VAE of {self.name} encoded in {self._dtype}")
        return latents

    @alone
    @torch.no_grad()
    def decode(self, latents: Latents) -> Pixels:
        """Pictures of latents, -1..1 (not clipped)."""
        scaled = latents / float(self.vae.config.scaling_factor)
        pixels: Pixels = self.vae.decode(scaled.to(self.vae.dtype)).sample.float()
        require_finite(pixels, f"the pixels that the VAE of {self.name} decoded in {self._dtype}")
        return pixels

    @alone
    @torch.no_grad()
    def embed(self, sentences: Sequence[str]) -> Conditioning:
        """Sentences as the U-Net reads them: last hidden states, padded to the full length."""
        ids = self.tokenizer(
            list(sentences),
            padding="max_length",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids
        parts = [
            self.text_encoder(part.to(self.device))[0].float() for part in ids.split(SENTENCES)
        ]
        for part in parts:
            require_finite(part, f"the text embeddings of {self.name} in {self._dtype}")
        spoken = tuple(_spoken(row, self.tokenizer.eos_token_id) for row in ids.tolist())
        return Conditioning(torch.cat(parts), spoken, self._encoder)

    @alone
    def eps(self, x: Latents, t: float, c: Conditioning) -> Latents:
        """The noise the U-Net sees in ``x`` at time ``t``, whatever it was trained to predict.

        Counts its passes: forwards here, backwards when a gradient comes back to ``x``.
        """
        count(x)
        plain = not x.requires_grad and not watched(self.unet)
        unet = self._compiled if self._compiled is not None and plain else self.unet
        said: Latents = unet(x.to(self.unet.dtype), t, c.tokens.to(self.unet.dtype)).sample.float()
        if self.prediction == "epsilon":
            return said
        a = float(self.scheduler.alphas_cumprod[int(t)])
        eps: Latents = a**0.5 * said + (1 - a) ** 0.5 * x  # v = sqrt(a) eps - sqrt(1-a) x0
        return eps

    @alone
    def schedule(self, steps: int) -> Schedule:
        """The levels of an edit in ``steps`` steps, as the model's own scheduler spaces them.

        A schedule with zero terminal SNR ends at a time where nothing of any picture is left and
        a step divides by zero; there the walk turns at the last time before, where something is.
        """
        config, known = self.scheduler.config, self.scheduler.alphas_cumprod
        most = config.num_train_timesteps - 1
        if not 1 <= steps <= most:
            raise SettingError(f"steps must be between 1 and {most} for {self.name}, not {steps}")
        own = int(config.timestep_spacing == "linspace")  # its first time is level 0, the picture's
        self.scheduler.set_timesteps(steps + own)
        spaced = self.scheduler.timesteps[: steps + own]  # rounding may append one before time 0
        turn = int((known > 0).nonzero().max())
        times = [min(int(t), turn) for t in reversed(spaced)][own:]
        alphas = [float(self.scheduler.final_alpha_cumprod), *(float(known[t]) for t in times)]
        return Schedule(tuple(map(NoiseLevel.variance_preserving, (0, *times), alphas)))

    @alone
    def compile(self) -> None:
        """Compile the U-Net for calls that nobody looks into and no gradient comes back from.

        The first such call then takes minutes, all later ones of its shape less than before.
        """
        self._compiled = torch.compile(self.unet)

    @alone
    def offload(self) -> None:
        """Let each network lie in the computer's memory until it is called."""
        from accelerate import cpu_offload_with_hook

        before = None
        for network in (self.text_encoder, self.unet, self.vae):  # each sends the one before home
            network.to("cpu")
            _, before = cpu_offload_with_hook(network, self.device, prev_module_hook=before)
        self.offloaded = True

    @alone
    def tile(self) -> None:
        """Encode and decode tiles of half the model's size, blended where they overlap."""
        self.vae.enable_slicing()
        self.vae.enable_tiling()
        self.vae.tile_sample_min_size = self.size // 2
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.vae.tile_latent_min_size = self.size // 2 // factor

    @alone
    def spare(self) -> str | None:
        """Need less memory from now on, by one step, and say by which; None if none is left."""
        if not self.unet.is_gradient_checkpointing:
            checkpoint(self.unet)
            return "computing again on the way back what is not kept"
        if self.device.type != "cpu" and not self.offloaded:
            self.offload()
            return "keeping networks in the computer's memory until they are called"
        if not self.vae.use_tiling:
            self.tile()
            return "encoding and decoding in tiles"
        return None

    @property
    def manner(self) -> str:
        """How it computes, as far as results depend on it: device, dtype, tiles, compiled."""
        ways = {"tiled": self.vae.use_tiling, "compiled": self._compiled is not None}
        return " ".join([self.device.type, self._dtype, *(way for way, on in ways.items() if on)])

    @property
    def _dtype(self) -> str:
        return str(self.unet.dtype).removeprefix("torch.")

    def fingerprint(self) -> str | None:
        """A hash of the weights' files; None for a model that was made in memory."""
        return self._weights

    @alone
    def describe(self, images: Sequence[Image]) -> list[str]:
        """The captioner's sentence about each picture; ``MissingError`` without one."""
        return self._captioner.describe(images)

    @alone
    def similarity(self, image: Image, sentences: Sequence[str]) -> list[float] | None:
        """CLIP's cosine of the picture to each sentence, -1..1; None where there is no CLIP."""
        return None if self._clip is None else self._clip.similarity(image, sentences)

    @cached_property
    def _captioner(self) -> Captioner:
        return self._load_captioner()

    @cached_property
    def _clip(self) -> Clip | None:
        return self._load_clip()

    @cached_property
    def _weights(self) -> str | None:
        return None if self._place is None else weights_hash(self._place)

    @cached_property
    def _encoder(self) -> str:
        """Which text encoder it is: a hash in float16, so that it does not depend on the dtype."""
        weights = self.text_encoder.state_dict()
        digest = hashlib.blake2b(digest_size=8)
        for name in sorted(weights):
            if name.endswith("q_proj.weight"):
                digest.update(weights[name].half().cpu().numpy().tobytes())
        return digest.hexdigest()


def _spoken(row: list[int], end: int) -> Ids:
    """A padded row up to and including its end token."""
    return tuple(row[: row.index(end) + 1]) if end in row else tuple(row)


def _measured(folder: Path) -> Settings:
    """Defaults lying with the weights, measured on them, over the papers'."""
    file = folder / "zerocon.json"
    with reading(str(file)):
        return Settings().overlay(json.loads(file.read_text())) if file.is_file() else Settings()
