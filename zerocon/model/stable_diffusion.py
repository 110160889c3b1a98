"""Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from zerocon.conditioning import Conditioning, Ids
from zerocon.diffusion import NoiseLevel, Schedule
from zerocon.errors import SettingError
from zerocon.evaluation_count import count
from zerocon.image import SizeRule
from zerocon.image.transforms import WorkingSize
from zerocon.model import Captioner, ModelSpec, Scorer
from zerocon.model.attention import LAYERS, call_unet, is_watched
from zerocon.model.captioner import load_captioner
from zerocon.model.checkpoint import read_checkpoint
from zerocon.model.clip import load_scorer
from zerocon.model.companion import companion_dtype
from zerocon.model.defaults import ModelDefaults
from zerocon.model.families import require_networks
from zerocon.model.fingerprint import weights_hash
from zerocon.model.loading import is_hub_id, read_folder
from zerocon.model.networks import fix_sample_size
from zerocon.model.other_vae import plan_other_vae
from zerocon.model.precision import compute_finite
from zerocon.model.runtime import Runtime, pick_device, pick_dtype
from zerocon.model.tokenizing import token_limit, unknown_words, unread_text
from zerocon.settings import Settings
from zerocon.tensor_types import Latents, Pixels, require_finite

TEXT_BATCH = 64  # texts encoded at a time: fits next to a U-Net on a small GPU

P = ParamSpec("P")
T = TypeVar("T")


def load(path: Path, spec: ModelSpec) -> StableDiffusion:
    """Load a diffusers directory or a single-file checkpoint.

    Args:
        path: The directory or file.
        spec: Load options; its name is used in messages.

    Raises:
        The errors of ``zerocon.model.load``.
    """
    device, defaults = pick_device(spec.device), ModelDefaults.read(path)
    read, parent = (read_checkpoint, path.parent) if path.is_file() else (read_folder, path)
    dtype = pick_dtype(spec.dtype, device)
    vae = None if spec.vae is None else plan_other_vae(spec.vae, str(dtype).removeprefix("torch."))
    half = companion_dtype(dtype, device)
    model = StableDiffusion(
        spec.name,
        **read(path, spec.name, dtype, spec.prediction, vae),
        device=device,
        settings=defaults.settings_in(str(dtype).removeprefix("torch.")),
        size_rule=defaults.size_rule,
        words=defaults.words,
        clip_skip=spec.clip_skip,
        weights=lambda: weights_hash(path, str(dtype).removeprefix("torch."), spec.vae),
        captioner=lambda: load_captioner(parent, spec.captioner, device, half),
        scorer=lambda: load_scorer(parent, spec.clip, device, half),
    )
    runtime = model.runtime
    if spec.clip_skip:
        runtime.model_options["clip_skip"] = spec.clip_skip
    if spec.vae is not None:
        runtime.model_options["vae"] = spec.vae if is_hub_id(spec.vae) else Path(spec.vae).name
    for wanted, switch in (
        (spec.offload, runtime.offload),
        (spec.tile, runtime.tile),
        (spec.compile, runtime.compile),
    ):
        if wanted:
            switch()
    return model


def locked(
    method: Callable[Concatenate[StableDiffusion, P], T],
) -> Callable[Concatenate[StableDiffusion, P], T]:
    """Let one thread at a time into a method: tokenizers and schedulers keep state."""

    @wraps(method)
    def wrapper(self: StableDiffusion, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.lock:
            return method(self, *args, **kwargs)

    return wrapper


class StableDiffusion:
    """A ``Model`` of diffusers' and transformers' networks, with frozen weights."""

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
        captioner: Callable[[], Captioner],
        scorer: Callable[[], Scorer | None],
        settings: Settings | None = None,
        size_rule: SizeRule = ModelDefaults.size_rule,
        words: Collection[str] = ModelDefaults.words,
        clip_skip: int = 0,
        weights: Callable[[], str] | None = None,
    ) -> None:
        """Move the networks to ``device``.

        Args:
            unet: diffusers' ``UNet2DConditionModel``, and ``vae`` its ``AutoencoderKL``.
            text_encoder: transformers' ``CLIPTextModel``, with its ``tokenizer``.
            scheduler: diffusers' ``DDIMScheduler``, which holds the noise schedule.
            captioner: Called when captions are first needed.
            scorer: Called when similarities are first needed.
            settings: Default settings of an edit.
            size_rule: What the sample size of ``unet`` is, see ``WorkingSize``.
            words: All words of its training captions; empty if they are not listed.
            clip_skip: Number of last layers of ``text_encoder`` that are left out.
            weights: Hash of the weight files, for ``fingerprint``; None if there are no files.

        Raises:
            UnsupportedModelError: The U-Net takes other inputs than latents and tokens.
            SettingError: The text encoder has no more than ``clip_skip`` layers.
        """
        self.name, self.settings = name, settings or Settings()
        self.unet, self.vae, self.text_encoder = unet, vae, text_encoder
        self.tokenizer, self.scheduler = tokenizer, scheduler
        self._hash_weights, self._load_captioner, self._load_scorer = weights, captioner, scorer
        self.clip_skip = _require_layers(clip_skip, text_encoder)
        self._words = frozenset(words)
        require_networks(name, unet, vae, scheduler)
        self.prediction: str = scheduler.config.prediction_type
        fix_sample_size(unet, self.prediction, name)
        self.vae_scale_factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self.working_size = WorkingSize(
            size=unet.config.sample_size * self.vae_scale_factor,
            multiple=self.vae_scale_factor * 2 ** (len(unet.config.block_out_channels) - 1),
            rule=size_rule,
        )
        self.runtime = Runtime(
            device, unet=unet, vae=vae, text_encoders=(text_encoder,), tile=self.size // 2
        )

    @property
    def size(self) -> int:
        """``working_size.size``"""
        return self.working_size.size

    @property
    def multiple(self) -> int:
        """``working_size.multiple``"""
        return self.working_size.multiple

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return self.runtime.device

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held by every method; re-entrant."""
        return self.runtime.lock

    @property
    def captioner(self) -> Captioner:
        """BLIP, loaded on first use."""
        with self.lock:
            return self._captioner

    @property
    def scorer(self) -> Scorer | None:
        """CLIP, loaded on first use; None if it is not on this machine."""
        with self.lock:
            return self._scorer

    @locked
    @torch.no_grad()
    def encode(self, pixels: Pixels) -> Latents:
        """Latents of images in -1..1: the mean of the posterior, which needs no random numbers."""

        def call(pixels: Pixels) -> Latents:
            posterior = self.vae.encode(pixels.to(self.device, self.vae.dtype)).latent_dist
            latents: Latents = posterior.mode().float() * float(self.vae.config.scaling_factor)
            return latents

        what = f"the latents that the VAE of {self.name} encoded"
        return compute_finite("vae", self.vae, call, pixels, what)

    @locked
    @torch.no_grad()
    def decode(self, latents: Latents) -> Pixels:
        """Images of latents, in about -1..1 (not clipped)."""

        def call(latents: Latents) -> Pixels:
            scaled = latents / float(self.vae.config.scaling_factor)
            pixels: Pixels = self.vae.decode(scaled.to(self.vae.dtype)).sample.float()
            return pixels

        what = f"the pixels that the VAE of {self.name} decoded"
        return compute_finite("vae", self.vae, call, latents, what)

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that ``embed`` reads, start and end tokens included."""
        return token_limit(self.tokenizer, self.text_encoder.config.max_position_embeddings)

    @locked
    def unread_text(self, text: str) -> str:
        """The end of a text that ``embed`` does not read; see ``Denoiser.unread_text``."""
        return unread_text(self.tokenizer, text, self.max_tokens)

    @locked
    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words that the text encoder was not trained on; see ``Denoiser.unknown_words``."""
        return unknown_words(self.tokenizer, text, self._words)

    @locked
    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Conditioning:
        """Last hidden states of the text encoder, padded to its full length."""
        ids = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        ).input_ids

        def call(ids: Tensor) -> Tensor:
            batches = torch.split(ids, TEXT_BATCH)
            parts = [self._hidden_states(each.to(self.device)) for each in batches]
            return torch.cat([part.float() for part in parts])

        what = f"the text embeddings of {self.name}"
        tokens = compute_finite("text_encoder", self.text_encoder, call, ids, what)
        unpadded = tuple(_unpadded(row, self.tokenizer.eos_token_id) for row in ids.tolist())
        return Conditioning(tokens, unpadded, self._encoder)

    def _hidden_states(self, ids: Tensor) -> Tensor:
        """Output of the last layer that is not left out, normalized as the last one is."""
        if not self.clip_skip:
            last: Tensor = self.text_encoder(ids)[0]
            return last
        states = self.text_encoder(ids, output_hidden_states=True).hidden_states
        network = getattr(self.text_encoder, "text_model", self.text_encoder)  # of transformers 5.5
        skipped: Tensor = network.final_layer_norm(states[-1 - self.clip_skip])
        return skipped

    @locked
    def eps(self, x: Latents, t: float, c: Conditioning) -> Latents:
        """Predicted noise in ``x`` at timestep ``t``, whatever the U-Net was trained to predict.

        ``v = alpha eps - sigma x_0`` (arXiv 2202.00512, app. D) gives ``eps = alpha v + sigma x``.
        Evaluations are counted: forward passes here, backward passes when ``x`` gets a gradient.

        Raises:
            NotFiniteError: The U-Net predicted NaN or infinity.
        """
        count(x)
        simple = not x.requires_grad and not is_watched(self.unet)
        output = call_unet(self.runtime.compiled_unet if simple else self.unet, x, t, c)
        what = f"the noise that the U-Net of {self.name} predicted"
        require_finite(output.detach(), f"{what} in {self.runtime.unet_dtype}", "unet")
        if self.prediction == "epsilon":
            return output
        alpha_bar = float(self.scheduler.alphas_cumprod[int(t)])
        eps: Latents = alpha_bar**0.5 * output + (1 - alpha_bar) ** 0.5 * x
        return eps

    @locked
    def schedule(self, steps: int) -> Schedule:
        """Noise levels of an edit in ``steps`` steps, spaced as by the model's own scheduler.

        A schedule with zero terminal SNR ends at a timestep where no signal is left and a step
        would divide by zero; the last timestep with signal takes its place.
        """
        config, alpha_bars = self.scheduler.config, self.scheduler.alphas_cumprod
        most = config.num_train_timesteps - 1
        if not 1 <= steps <= most:
            raise SettingError(f"steps must be between 1 and {most} for {self.name}, not {steps}")
        clean = int(config.timestep_spacing == "linspace")  # its first timestep is the image
        self.scheduler.set_timesteps(steps + clean)
        spaced = self.scheduler.timesteps[: steps + clean]  # rounding may append one before 0
        last = int((alpha_bars > 0).nonzero().max())
        times = [min(int(t), last) for t in reversed(spaced)][clean:]
        levels = [NoiseLevel.variance_preserving(t, float(alpha_bars[t])) for t in times]
        image = NoiseLevel.variance_preserving(0, float(self.scheduler.final_alpha_cumprod))
        return Schedule((image, *levels))

    def layers(self, kind: str) -> str:
        """Pattern of the names of attention layers of one kind; see ``Denoiser.layers``."""
        return LAYERS.get(kind, kind)

    def fingerprint(self) -> str | None:
        """Hash of the weight files, with ``clip_skip``; None for a model built in memory."""
        with self.lock:
            return self._weights

    @cached_property
    def _captioner(self) -> Captioner:
        captioner = self._load_captioner()
        self.runtime.attach(captioner)
        return captioner

    @cached_property
    def _scorer(self) -> Scorer | None:
        scorer = self._load_scorer()
        self.runtime.attach(scorer)
        return scorer

    @cached_property
    def _weights(self) -> str | None:
        if self._hash_weights is None:
            return None
        skipped = f"-clip-skip-{self.clip_skip}" if self.clip_skip else ""
        return self._hash_weights() + skipped

    @cached_property
    def _encoder(self) -> str:
        """Fingerprint of the text encoder, from float16 so that it does not depend on the dtype."""
        weights = self.text_encoder.state_dict()
        digest = hashlib.blake2b(digest_size=8)
        for name in sorted(weights):
            if name.endswith("q_proj.weight"):
                digest.update(weights[name].half().cpu().numpy().tobytes())
        if self.clip_skip:
            digest.update(b"clip_skip=%d" % self.clip_skip)
        return digest.hexdigest()


def _require_layers(clip_skip: int, text_encoder: Any) -> int:
    """``clip_skip``, or ``SettingError`` if the text encoder has not more layers than it."""
    layers = text_encoder.config.num_hidden_layers
    if not 0 <= clip_skip < layers:
        raise SettingError(
            f"clip_skip must be between 0 and {layers - 1} for this model, not {clip_skip}"
        )
    return clip_skip


def _unpadded(row: list[int], end: int) -> Ids:
    """Token ids up to and including the end token."""
    return tuple(row[: row.index(end) + 1]) if end in row else tuple(row)
