"""Stage 6: the U-Net, on cached latents and the output of the frozen text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from zerocon.image.contact_sheet import sheet
from zerocon.training import clip, vae
from zerocon.training.caption_fragments import fragment
from zerocon.training.dataset import SIZE, drawn
from zerocon.training.latents import encoded
from zerocon.training.loop import Rng, TrainingRun, restore, train
from zerocon.training.regions import part_shares
from zerocon.training.sample import SCHEDULE, assemble, sample_images
from zerocon.training.tokenizers import framed, ids
from zerocon.training.torch_compile import compiled

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon.training.workspace import Workspace


@dataclass(frozen=True)
class UNetStage(TrainingRun):
    """Train the U-Net to predict the noise in latents, conditioned on captions (2006.11239)."""

    steps: int = 15_000
    batch: int = 64
    lr: float = 1e-3
    warmup: int = 300
    channels: tuple[int, ...] = (64, 112, 128)  # at 16x16, 8x8 and 4x4, all with attention
    layers: int = 1
    heads: int = 4
    dropout: float = 0.1  # share of empty captions, for classifier-free guidance (2207.12598)
    fragments: float = 0.1  # share of captions replaced by a fragment such as "a fox"
    # weights of the squared error where a latent shows these; each latent has a loss of its own,
    # so that weights change what the network learns first and not what it should predict
    subject: float = 1.0
    companion: float = 1.0
    accessory: float = 1.0
    scale: float = 2.5  # guidance scale of the sample sheets
    compiled: bool = True  # a third faster after two minutes of compiling; needs a C++ compiler

    def build(self, width: int) -> Any:
        from diffusers import UNet2DConditionModel

        levels = len(self.channels)
        return UNet2DConditionModel(
            sample_size=SIZE // 8,
            in_channels=4,
            out_channels=4,
            block_out_channels=self.channels,
            layers_per_block=self.layers,
            down_block_types=("CrossAttnDownBlock2D",) * levels,
            up_block_types=("CrossAttnUpBlock2D",) * levels,
            cross_attention_dim=width,
            attention_head_dim=self.heads,  # the number of heads, despite its name
            norm_num_groups=16,
        )

    def run(self, work: Workspace) -> None:
        autoencoder, (text_image, tokenizer) = vae.load(work), clip.load(work)
        text_encoder = text_image.text_model
        scenes, latents = drawn(work, "train"), encoded(work, autoencoder)
        network = self.build(text_encoder.config.hidden_size)
        network = network.to(work.device, memory_format=torch.channels_last)
        if work.device == "cpu":
            use_unfused_attention(network)
        predict = compiled(network) if self.compiled else network
        levels = alpha_bars().to(work.device)
        parts = self._part_weights(work, len(latents))

        def losses(rng: Rng) -> dict[str, Tensor]:
            chosen = np.sort(rng.integers(len(latents), size=self.batch))
            captions = [self.caption(scenes.captions[i], scenes.truths[i], rng) for i in chosen]
            x0 = torch.from_numpy(np.array(latents[chosen], np.float32)).to(work.device)
            eps = torch.randn_like(x0)
            # stratified timesteps, one in each of as many parts of the schedule: less variance
            t = (torch.randperm(len(x0)) + torch.rand(len(x0))) * 1000 / len(x0)
            t = t.long().clamp(max=999).to(x0.device)
            a = levels[t][:, None, None, None]
            x = (a.sqrt() * x0 + (1 - a).sqrt() * eps).to(memory_format=torch.channels_last)
            with work.autocast():
                with torch.no_grad():
                    tokens = text_encoder(ids(tokenizer, captions).to(work.device))[0]
                predicted = predict(x, t, tokens, return_dict=False)[0]
            weight = _weights(a, None if parts is None else parts[chosen])
            return {"eps": (weight * (predicted.float() - eps).square()).mean()}

        unseen = drawn(work, "validation").captions[:16]

        def preview(average: nn.Module) -> tuple[Image, dict[str, float]]:
            model = assemble(average, autoencoder, text_encoder, tokenizer, work.device)
            with work.autocast():
                return sheet(sample_images(model, unseen, 25, self.scale), unseen, 8), {}

        _, step = train(work, "unet", self, network, losses, preview)
        work.note("unet", step=step, samples=step * self.batch)

    def _part_weights(self, work: Workspace, count: int) -> np.ndarray[Any, Any] | None:
        """Weights of every latent (count, 16, 16), None if all are 1."""
        above_1 = np.array([self.subject, self.companion, self.accessory], np.float32) - 1
        if not above_1.any():
            return None
        shares = part_shares(work, count)
        return np.asarray(1 + np.einsum("npyx,p->nyx", shares, above_1 / 255, dtype=np.float32))

    def caption(self, caption: str, truth: dict[str, str], rng: Rng) -> str:
        """A training caption of a scene: its caption, a fragment, or empty."""
        draw = rng.random()
        if draw < self.dropout:
            return ""
        if draw < self.dropout + self.fragments:
            caption = fragment(truth, rng)[0]
        return framed(caption, rng, 0.1)


def _weights(a: Tensor, parts: np.ndarray[Any, Any] | None) -> Tensor:
    """Weights of the squared error at levels ``a`` (n, 1, 1, 1), and of latents (n, 16, 16).

    1 / sqrt(SNR): unweighted, low noise levels, where the caption hardly matters, dominate the
    gradient over the high ones that decide what is drawn.
    """
    weight = ((1 - a) / a).sqrt()
    if parts is None:
        return weight
    here = torch.from_numpy(parts).to(a.device)[:, None]
    return weight * here / here.mean()


def load(work: Workspace) -> Any:
    """The trained U-Net."""
    settings, weights = restore(work, "unet")
    width = weights["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[1]
    network = UNetStage(**settings).build(width)
    network.load_state_dict(weights)
    return network.to(work.device).eval().requires_grad_(False)


def use_unfused_attention(network: Any) -> None:
    """On CPUs the backward pass of fused attention takes two thirds of a training step."""
    from diffusers.models.attention_processor import AttnProcessor

    network.set_attn_processor(AttnProcessor())


def alpha_bars() -> Tensor:
    """DDPM's cumulative product at every timestep of the embedded model."""
    from diffusers import DDIMScheduler

    levels: Tensor = DDIMScheduler(**SCHEDULE).alphas_cumprod
    return levels
