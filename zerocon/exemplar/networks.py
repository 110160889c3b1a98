"""The networks of prior-guided translation: the prior, and the U-Net that is given it.

The prior network estimates the latents of the result from the condition and the warped exemplar;
the U-Net takes the estimate, the warp and its confidence as further input channels (as Paint by
Example, arXiv 2211.13227, takes an image and a mask) and the appearance of the exemplar as image
tokens by decoupled cross-attention (IP-Adapter, arXiv 2308.06721). All new outputs start at zero,
so that an untrained adapter leaves the base model unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zerocon.errors import FileFormatError, ModelNotFoundError
from zerocon.exemplar.encoders import CELL, ChannelNorm, DilatedBlock, Matcher, MatcherConfig
from zerocon.model.weights import require_header
from zerocon.storage import strict_json
from zerocon.storage.bounded import read_text
from zerocon.tensor_types import Latents, Pixels, Tokens, require_finite

CHANNELS = 4  # of latents
WARP_CHANNELS = CHANNELS + 1  # warp, confidence
IMAGE_TOKENS = 4
PALETTE = 4  # cells a side of the mean latents in an appearance vector

WEIGHTS = Path(__file__).with_name("weights")
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
FORMAT = "zerocon-translation-2"
LONGEST_CONFIG = 100_000  # bytes


@dataclass(frozen=True)
class TranslationConfig:
    """The architecture of a translation network, and the process that it was trained for.

    Attributes:
        prior: The shift of the diffusion process, see ``zerocon.exemplar.prior``.
        bridge: A Brownian bridge from the condition's latents instead (a baseline).
        features: Of a token of the matcher.
        pooled: Of the matcher's vector of a whole image.
        stem: Channels of the prior network at a quarter of the image side.
        width: Its channels on the grid of latents.
        inner: Channels of the 3 x 3 convolutions in its residual blocks.
        dilations: One residual block each.
        bound: Largest absolute value of the prior; latents have unit variance.
        channels: Of a small U-Net in place of the base model's; empty for the base model's.
        gated: Whether the warp is multiplied by its confidence.
        structure: Whether the U-Net gets the features of the prior network too. The prior alone is
            blurred where the result is uncertain, and its structure with it.
    """

    prior: str = "terminal"
    bridge: bool = False
    features: int = 64
    pooled: int = 128
    stem: int = 48
    width: int = 96
    inner: int = 64
    dilations: tuple[int, ...] = (1, 2, 4, 1)
    bound: float = 4.0
    channels: tuple[int, ...] = ()
    gated: bool = False
    structure: bool = True

    @property
    def structure_channels(self) -> int:
        """Channels of the features that the prior network passes to the U-Net."""
        return 2 * self.width if self.structure and not self.bridge else 0

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> TranslationConfig:
        """A configuration from decoded JSON, in which tuples are lists."""
        decoded: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**decoded)


class Matched(NamedTuple):
    """A batch of conditions with what the matcher found in their exemplars.

    Attributes:
        pixels: Of the conditions, (batch, 3, height, width) in -1..1.
        features: Tokens of the conditions, (batch, rows * columns, features).
        warped: Latents of the exemplars in the grid of the conditions, not gated by the confidence,
            (batch, 4, rows, columns).
        confidence: Of the warp, (batch, 1, rows, columns) in 0..1.
        appearance: Of the exemplars, see ``appearance_vector``, (batch, features).
        start: Latents of the conditions, (batch, 4, rows, columns), for a bridge only.
    """

    pixels: Pixels
    features: Tensor
    warped: Latents
    confidence: Tensor
    appearance: Tensor
    start: Latents | None = None


class Guide(NamedTuple):
    """What the denoiser is given besides latents and timestep.

    Attributes:
        prior: Estimate of the clean latents, (batch, 4, rows, columns).
        warp: Warp and confidence, (batch, 5, rows, columns).
        structure: Features of the prior network, (batch, any number, rows, columns).
        tokens: Text tokens, then image tokens, (batch, positions, features).
    """

    prior: Latents
    warp: Tensor
    structure: Tensor
    tokens: Tokens


class PriorNetwork(nn.Module):
    """The prior ``r_phi``: an estimate of the result's latents, without noise.

    Its own stem reads the pixels of the condition, since the fine structure of the result reaches
    the U-Net through this network only. The prior is bounded: an unbounded one could raise the
    signal-to-noise ratio of the shifted process.
    """

    def __init__(self, config: TranslationConfig) -> None:
        super().__init__()
        stem, width, self.bound = config.stem, config.width, config.bound
        self.stem = nn.Sequential(
            *(nn.PixelUnshuffle(CELL // 2), nn.Conv2d(3 * (CELL // 2) ** 2, stem, 3, 1, 1)),
            *(nn.SiLU(), nn.Conv2d(stem, stem, 3, 1, 1)),
            *(nn.SiLU(), nn.Conv2d(stem, width, 2, 2)),
        )
        self.join = nn.Conv2d(width + WARP_CHANNELS, width, 1)
        self.features = nn.Conv2d(config.features, width, 1, bias=False)
        self.blocks = nn.Sequential(
            *(DilatedBlock(width, config.inner, dilation) for dilation in config.dilations)
        )
        self.norm = ChannelNorm(width)
        self.head = nn.Conv2d(width, CHANNELS, 3, padding=1)

    def forward(self, pixels: Pixels, features: Tensor, warp: Tensor) -> tuple[Latents, Tensor]:
        """The prior, and the features of its stem and its last layer, (batch, 2 width, ...).

        Args:
            pixels: Of the conditions, (batch, 3, height, width).
            features: Their tokens, (batch, rows * columns, features).
            warp: Warp and confidence as the U-Net gets them, (batch, 5, rows, columns).
        """
        stem = self.stem(pixels)
        tokens = features.mT.reshape(len(stem), -1, *stem.shape[2:])
        x = self.join(torch.cat([stem, warp], 1)) + self.features(tokens)
        x = F.silu(self.norm(self.blocks(x)))
        prior = torch.tanh(self.head(x).float() / self.bound) * self.bound
        return prior, torch.cat([F.silu(stem), x], 1).float()


class ExtendedInput(nn.Module):
    """A first convolution for latents and conditions, (batch, 4 + channels, rows, columns).

    It is the sum of the base model's and a new one without bias, which starts at zero.
    """

    def __init__(self, base: nn.Conv2d, channels: int) -> None:
        super().__init__()
        self.base = base
        self.added = nn.Conv2d(channels, base.out_channels, 3, padding=1, bias=False)
        nn.init.zeros_(self.added.weight)

    def forward(self, x: Tensor) -> Tensor:
        latents, condition = x[:, : self.base.in_channels], x[:, self.base.in_channels :]
        return self.base(latents) + self.added(condition)  # type: ignore[no-any-return]


class DecoupledAttention(nn.Module):
    """Cross-attention to text, plus one to image tokens with the same queries.

    The output of the second starts at zero. The context holds the text tokens first.
    """

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.text = text
        width, context = text.to_q.out_features, text.to_k.in_features
        self.key = nn.Linear(context, width, bias=False)
        self.value = nn.Linear(context, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, encoder_hidden_states: Tensor, **options: Any) -> Tensor:
        words = encoder_hidden_states[:, :-IMAGE_TOKENS]
        image = encoder_hidden_states[:, -IMAGE_TOKENS:]
        q, k, v = (
            part.unflatten(-1, (self.text.heads, -1)).transpose(1, 2)
            for part in (self.text.to_q(x), self.key(image), self.value(image))
        )
        maps = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        mixed = (maps @ v).transpose(1, 2).flatten(2)
        described: Tensor = self.text(x, encoder_hidden_states=words, **options)
        appearance: Tensor = self.out(mixed)
        return described + appearance


def extend_unet(unet: Any, channels: int) -> Any:
    """A copy of a U-Net that also takes conditions and image tokens, and predicts the same.

    Its input has that many further channels, and its context 4 further tokens at the end. The
    middle block, which is not trained, takes only the text.
    """
    unet = deepcopy(unet)
    unet.conv_in = ExtendedInput(unet.conv_in, channels)
    unet.register_to_config(in_channels=unet.config.in_channels + channels)
    for name, block in unet.named_modules():
        if hasattr(block, "attn2"):
            block.attn2 = (
                _TextOnly(block.attn2)
                if name.startswith("mid_block")
                else DecoupledAttention(block.attn2)
            )
    return unet


class _TextOnly(nn.Module):
    """Cross-attention that leaves out the image tokens."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.text = text

    def forward(self, x: Tensor, encoder_hidden_states: Tensor, **options: Any) -> Tensor:
        words = encoder_hidden_states[:, :-IMAGE_TOKENS]
        return self.text(x, encoder_hidden_states=words, **options)  # type: ignore[no-any-return]


class TranslationNetwork(nn.Module):
    """The prior network, the extended U-Net and the image tokens."""

    def __init__(self, base: Any, config: TranslationConfig) -> None:
        """Extend ``base``, or a small U-Net with its other settings, without trained weights."""
        super().__init__()
        self.config = config
        if config.channels:
            levels = len(config.channels)
            smaller = {
                "block_out_channels": config.channels,
                "down_block_types": base.config.down_block_types[-levels:],
                "up_block_types": base.config.up_block_types[:levels],
            }
            base = type(base).from_config({**base.config, **smaller})
        self.prior = None if config.bridge else PriorNetwork(config)
        self.unet = extend_unet(base, CHANNELS + WARP_CHANNELS + config.structure_channels)
        size = config.pooled + 2 * CHANNELS + CHANNELS * PALETTE**2
        self.image_tokens = nn.Sequential(
            nn.Linear(size, IMAGE_TOKENS * base.config.cross_attention_dim),
            nn.Unflatten(1, (IMAGE_TOKENS, base.config.cross_attention_dim)),
            nn.LayerNorm(base.config.cross_attention_dim),
        )

    def is_frozen(self, name: str) -> bool:
        """Whether a tensor is not trained but the base model's: text attention, middle block."""
        base = name.startswith("unet.mid_block.") or ".attn2.text." in name
        return base and not self.config.channels

    def guide(self, matched: Matched, text: Tokens, condition: Tensor, exemplar: Tensor) -> Guide:
        """Everything that the U-Net is given, where condition or exemplar may be left out.

        Args:
            matched: A batch.
            text: Tokens of the prompt, (1 or batch, positions, features).
            condition: 1 where the condition is used, 0 where it is left out, (batch,). Without it
                the prior is zero, and there is no warp.
            exemplar: The same for the exemplar.
        """
        c = condition[:, None, None, None]
        warp = self.warp_channels(matched, condition * exemplar)
        if self.prior is None:
            assert matched.start is not None
            prior, structure = matched.start * c, warp[:, :0]
        else:
            prior, structure = self.prior(matched.pixels * c, matched.features * c[:, 0], warp)
            prior, structure = prior * c, structure[:, : self.config.structure_channels] * c
        image = self.image_tokens(matched.appearance * exemplar[:, None]).float()
        text = text.expand(len(image), -1, -1)
        return Guide(prior, warp, structure, torch.cat([text, image], 1))

    def warp_channels(self, matched: Matched, used: Tensor) -> Tensor:
        """Warp and confidence, zero where they are not ``used`` (batch,)."""
        confidence = matched.confidence * used[:, None, None, None]
        gate = confidence if self.config.gated else used[:, None, None, None]
        return torch.cat([matched.warped * gate, confidence], 1)


def unet_input(z: Latents, guide: Guide) -> Tensor:
    """Latents with the conditions as further channels."""
    return torch.cat([z, guide.prior, guide.warp, guide.structure], 1)


def appearance_vector(pooled: Tensor, z_r: Latents) -> Tensor:
    """What image tokens are made of: statistics of the exemplar's latents and its pooled features.

    The pooled features alone do not suffice: aligned with those of conditions, which have no
    colors, they hold no colors.

    Args:
        pooled: Of the matcher, (batch, features).
        z_r: The exemplar's latents, (batch, 4, rows, columns).
    """
    mean, deviation = z_r.mean((2, 3)), z_r.std((2, 3))
    coarse = F.adaptive_avg_pool2d(z_r, PALETTE).flatten(1)
    return torch.cat([F.layer_norm(pooled, pooled.shape[1:]), mean, deviation, coarse], 1)


def save_weights(folder: Path, network: TranslationNetwork, matcher: Matcher) -> None:
    """Write both networks in float16: two files.

    They hold the tensors of the base model too, so that its U-Net can be trained on without them.

    Raises:
        NotFiniteError: A weight is NaN, infinite, or too large for float16.
    """
    from safetensors.torch import save_file

    parts = {"denoiser.": network.state_dict(), "matcher.": matcher.state_dict()}
    weights = {
        prefix + name: tensor.detach().half().cpu().contiguous()
        for prefix, state in parts.items()
        for name, tensor in state.items()
    }
    for name, tensor in weights.items():
        require_finite(tensor, f"the weights {name} in float16")
    config = {
        "format": FORMAT,
        "denoiser": asdict(network.config),
        "matcher": asdict(matcher.config),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors creates it readable by its owner only
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def load_weights(base: Any, folder: Path = WEIGHTS) -> tuple[TranslationNetwork, Matcher]:
    """The networks that ``save_weights`` has written, frozen, in float32 on the device of ``base``.

    Args:
        base: A U-Net of the architecture that they were trained on. Its weights are not used, and
            it is not changed.
        folder: Where the two files are; by default those of the package.

    Raises:
        ModelNotFoundError: A file is missing.
        FileFormatError: The files are damaged, are of another architecture, or belong to another
            version.
        NotFiniteError: A weight is NaN or infinite.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelNotFoundError(f"there is no {name} of a translation network in {folder}")
    values = _read_config(folder / CONFIG_FILE)
    try:
        config = TranslationConfig.from_fields(values["denoiser"])
        network = TranslationNetwork(base, config).float()
        matcher = Matcher(MatcherConfig.from_fields(values["matcher"]))
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise FileFormatError(
            f"{folder / CONFIG_FILE} does not match this version: {error}"
        ) from error
    weights = _read_weights(folder / WEIGHTS_FILE)
    _load_part(network, weights, "denoiser.", folder)
    _load_part(matcher, weights, "matcher.", folder)
    if weights:
        raise FileFormatError(f"{folder / WEIGHTS_FILE} has an unknown tensor {min(weights)[:60]}")
    device = next(base.parameters()).device
    for part in (network, matcher):
        part.to(device).eval().requires_grad_(False)
    return network, matcher


def _read_config(file: Path) -> dict[str, Any]:
    text = read_text(file, longest=LONGEST_CONFIG)
    try:
        values = strict_json.parse(text)
    except ValueError as error:
        raise FileFormatError(f"cannot read {file}: {error}") from error
    if not isinstance(values, dict) or values.keys() != {"format", "denoiser", "matcher"}:
        raise FileFormatError(f"{file} is not the configuration of a translation network")
    if values["format"] != FORMAT:
        raise FileFormatError(f"{file} has the format {str(values['format'])[:40]}, not {FORMAT}")
    return values


def _read_weights(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        require_header(file)
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise FileFormatError(f"cannot read {file}: {error}") from error


def _load_part(network: nn.Module, weights: dict[str, Tensor], prefix: str, folder: Path) -> None:
    """Load the tensors of one network, and remove them from ``weights``."""
    state = {}
    for name, tensor in network.state_dict().items():
        read = weights.pop(prefix + name, None)
        if read is None or read.shape != tensor.shape:
            fault = "no tensor" if read is None else f"the shape {tuple(read.shape)} for"
            raise FileFormatError(f"{folder / WEIGHTS_FILE} has {fault} {prefix + name}")
        require_finite(read, f"the weights {prefix + name} in {folder / WEIGHTS_FILE}")
        state[name] = read.float()
    network.load_state_dict(state)
