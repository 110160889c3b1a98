"""Stage 2: the autoencoder (2112.10752), 128 x 128 pixels to 4 x 16 x 16 latents and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from zerocon import world
from zerocon.image.contact_sheet import sheet
from zerocon.image.transforms import unfit
from zerocon.training.augment import as_pixels, crops, frame
from zerocon.training.dataset import SIZE, drawn
from zerocon.training.loop import Rng, TrainingRun, restore, train
from zerocon.training.torch_compile import compiled

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon.training.workspace import Workspace

FLAT = 1e-3  # mean square error below which a crop, such as plain sky, hardly counts


@dataclass(frozen=True)
class VaeStage(TrainingRun):
    """Train the autoencoder on crops, then measure its PSNR and the scale of its latents."""

    steps: int = 40_000
    batch: int = 32
    lr: float = 1e-3
    channels: tuple[int, ...] = (
        16,
        48,
        96,
        96,
    )  # downsampled three times: f = 8; narrow where it costs most
    layers: int = 1
    attention: bool = False  # in the middle block: trained on crops, it would fail on whole images
    crop: int = 64  # pixels a side: four crops cost as much as one image and vary more
    kl: float = 1e-5  # weight of the mean per latent value; 1e-3 collapses the latents
    l1: float = 1.0  # weight of the mean absolute error: faster than the square at first
    mse: float = 4.0  # weight of the mean square error, which PSNR measures: more at the end
    decibels: float = 0.0  # weight of the mean PSNR: the mean square error neglects good crops
    edges: float = 0.5  # weight of the error in neighbor differences, for sharp outlines
    dressed: float = 0.2  # share of scenes in another's colors, to separate outlines from colors
    evaluated: int = 256  # held-out images of the final measurement
    freeze_encoder: bool = False  # train the decoder only: latents and U-Net stay valid
    compiled: bool = True  # a third faster after two minutes of compiling; needs a C++ compiler

    def build(self) -> Any:
        from diffusers import AutoencoderKL

        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(self.channels),
            up_block_types=("UpDecoderBlock2D",) * len(self.channels),
            block_out_channels=self.channels,
            layers_per_block=self.layers,
            latent_channels=4,
            norm_num_groups=8,
            sample_size=SIZE,
            mid_block_add_attention=self.attention,
        )

    def run(self, work: Workspace) -> None:
        network = self.build().to(work.device, memory_format=torch.channels_last)
        if self.freeze_encoder:
            network.encoder.requires_grad_(False)
            network.quant_conv.requires_grad_(False)
        encode, decode = network.encode, network.decode
        if self.compiled:
            encode, decode = compiled(network, "encode"), compiled(network, "decode")
        plain, dressed = drawn(work, "train").images, drawn(work, "dressed").images

        def losses(rng: Rng) -> dict[str, Tensor]:
            count = int(rng.binomial(self.batch, self.dressed))
            parts = [
                crops(plain, self.batch - count, self.crop, rng),
                crops(dressed, count, self.crop, rng),
            ]
            x = torch.cat(parts).to(work.device, memory_format=torch.channels_last)
            with work.autocast():
                posterior = encode(x).latent_dist
                y = decode(posterior.sample()).sample
            return self.terms(x, y.float(), posterior)

        held_out = as_pixels(drawn(work, "validation").images[:8]).to(work.device)

        def preview(average: nn.Module) -> tuple[Image, dict[str, float]]:
            y = _reconstruct(average, held_out)
            images = [unfit(x, frame()) for x in torch.cat([held_out, y])]
            names = ["image"] * len(held_out) + ["reconstruction"] * len(y)
            return sheet(images, names, len(held_out)), {"psnr": float(psnr(held_out, y).mean())}

        average, step = train(work, "vae", self, network, losses, preview)
        if work.facts("vae").get("step") != step:
            if not self.freeze_encoder:
                work.note("vae", scaling_factor=_scaling(average, plain, work))
            values = measure(
                lambda x: _reconstruct(average, x.to(work.device)),
                world.VALIDATION[: self.evaluated],
            )
            work.note("vae", step=step, psnr=values)
            work.say(f"vae: {work.facts('vae')}")

    def terms(self, x: Tensor, y: Tensor, posterior: Any) -> dict[str, Tensor]:
        """Weighted loss terms of images ``x`` and reconstructions ``y`` (n, 3, h, w) in -1..1."""
        error = y - x
        squares = error.square().mean((1, 2, 3))
        down, right = error.diff(dim=2), error.diff(dim=3)
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        return {
            "l1": self.l1 * error.abs().mean(),
            "mse": self.mse * squares.mean(),
            "decibels": self.decibels * (squares + FLAT).log().mean(),
            "edges": self.edges * (down.abs().mean() + right.abs().mean()),
            "kl": self.kl * kl,
        }


def load(work: Workspace) -> Any:
    """The trained autoencoder, with the scaling factor of its latents in its config."""
    settings, weights = restore(work, "vae")
    network = VaeStage(**settings).build()
    network.load_state_dict(weights)
    network.register_to_config(scaling_factor=work.facts("vae").get("scaling_factor", 1.0))
    network = network.to(work.device, memory_format=torch.channels_last)  # faster on CPUs too
    return network.eval().requires_grad_(False)


def psnr(x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """PSNR (n,) in dB of images (n, 3, h, w) in -1..1; inside a mask (n, h, w) if given."""
    error = ((x - y.clamp(-1, 1)) / 2).square().mean(1)
    inside = torch.ones_like(error) if mask is None else mask.to(error)
    mse = (error * inside).sum((1, 2)) / inside.sum((1, 2))
    return -10 * mse.clamp_min(1e-10).log10()


def measure(reconstruct: Callable[[Tensor], Tensor], seeds: Sequence[int]) -> dict[str, float]:
    """Mean PSNR in dB of reconstructed scenes: of all, by style, and inside accessories."""
    values = defaultdict(list)
    for scene in map(world.sample, seeds):
        x = as_pixels(np.asarray(world.render(scene, SIZE))[None])
        y = reconstruct(x).cpu()
        for name in ("all", scene.style):
            values[name].append(float(psnr(x, y)))
        mask = world.masks(scene, SIZE).get("accessory")
        if mask is not None and mask.any():
            values["accessories"].append(float(psnr(x, y, torch.from_numpy(mask)[None])))
    return {name: round(float(np.mean(each)), 2) for name, each in values.items()}


@torch.no_grad()
def _reconstruct(network: Any, x: Tensor) -> Tensor:
    y: Tensor = network.decode(network.encode(x).latent_dist.mode()).sample
    return y


@torch.no_grad()
def _scaling(network: Any, images: np.ndarray[Any, Any], work: Workspace) -> float:
    """The factor that gives the latents a standard deviation of 1."""
    parts = np.array_split(images[:512], max(1, len(images[:512]) // 16))
    means = [network.encode(as_pixels(part).to(work.device)).latent_dist.mode() for part in parts]
    return 1 / float(torch.cat(means).std())
