"""Prior and denoiser of exemplar-based translation, on top of a trained matcher.

The prior network is trained first, by regression; then the embedded model's U-Net is tuned to
predict the noise of the process that the prior shifts, together with the prior network. The matcher
is frozen. Part of its warps is corrupted on purpose, since the exemplars made from the target match
better than those of users.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from zerocon.exemplar.correspondence import corrupt
from zerocon.exemplar.encoders import Matcher
from zerocon.exemplar.networks import (
    WEIGHTS,
    Guide,
    Matched,
    TranslationConfig,
    TranslationNetwork,
    save_weights,
    unet_input,
)
from zerocon.exemplar.prior import NoiseLevels, noised, shifted_noise
from zerocon.exemplar.promote import (
    BRIDGE_TIMES,
    bridge_mean,
    bridge_variance,
    match,
    sample,
    sample_bridge,
    starting_noise,
)
from zerocon.image.contact_sheet import sheet
from zerocon.image.transforms import unfit
from zerocon.model import ModelSpec
from zerocon.model import load as load_model
from zerocon.rng import seeded_generator
from zerocon.training import matcher as matcher_stage
from zerocon.training.augment import frame
from zerocon.training.loop import Rng, TrainingRun, restore, train
from zerocon.training.torch_compile import compiled
from zerocon.training.triplets import CONDITIONS, TripletBatch, TripletSampler
from zerocon.training.unet import alpha_bars, use_unfused_attention
from zerocon.training.vae import psnr

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon.model import Model
    from zerocon.training.workspace import Workspace

STARTING_DEVIATION = 1e-3  # of weights that are zero in an untrained adapter
SHOWN = 12  # validation triplets on a sample sheet
STEPS = 20  # of the samples on it
COLUMNS = ("condition", "exemplar", "warp", "prior", "sample", "target")


@dataclass(frozen=True)
class _TranslationRun(TrainingRun):
    """What both stages share.

    Attributes:
        width: Channels of the prior network on the grid of latents.
        channels: Of a small U-Net in place of the embedded model's; empty for the embedded one.
        corruption: Largest share of the warp's blocks that are replaced.
        drop_condition: Share of the samples without condition, and so on.
        gated: Multiply the warp by its confidence.
        structure: Give the features of the prior network to the U-Net.
    """

    width: int = 96
    channels: tuple[int, ...] = ()
    corruption: float = 0.5
    drop_condition: float = 0.1
    drop_exemplar: float = 0.1
    drop_both: float = 0.05
    gated: bool = False
    structure: bool = True

    def build(self, base: Any, **fields: Any) -> TranslationNetwork:
        """The untrained network on top of the embedded model's U-Net."""
        fields |= {"width": self.width, "stem": self.width // 2, "inner": self.width * 2 // 3}
        fields |= {"channels": self.channels, "gated": self.gated, "structure": self.structure}
        config = TranslationConfig(**fields)
        torch.manual_seed(self.seed)
        network = TranslationNetwork(base, config)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not network.is_frozen(name))
            if parameter.requires_grad and not parameter.any():
                # no gradient would reach what comes before it
                nn.init.normal_(parameter, std=STARTING_DEVIATION)
        return network

    def draw(self, shared: _Shared, rng: Rng) -> tuple[TripletBatch, Matched]:
        """A batch, matched and corrupted."""
        batch = shared.sampler.batch(self.batch, rng).to(shared.work.device)
        shares = torch.from_numpy(rng.uniform(0, self.corruption, self.batch).astype(np.float32))
        return batch, matched_batch(shared.matcher, batch, shares, f"{rng.integers(2**62)}")

    def used(self, work: Workspace, rng: Rng) -> tuple[Tensor, Tensor]:
        """1 where the condition and where the exemplar is used, (batch,) each."""
        drawn = rng.random(self.batch)
        ends = np.cumsum([self.drop_both, self.drop_condition, self.drop_exemplar])
        both, condition, exemplar = (drawn < end for end in ends)
        kept = ~condition, ~both & (condition | ~exemplar)
        one, other = (torch.from_numpy(part.astype(np.float32)).to(work.device) for part in kept)
        return one, other


@dataclass(frozen=True)
class PriorStage(_TranslationRun):
    """Train the prior network alone: its absolute error of the latents."""

    steps: int = 400
    batch: int = 32
    lr: float = 1.2e-3
    warmup: int = 30

    def run(self, work: Workspace) -> None:
        shared = _Shared.load(work)
        network = self.build(shared.model.unet).to(work.device)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name.startswith("prior."))

        def losses(rng: Rng) -> dict[str, Tensor]:
            batch, matched = self.draw(shared, rng)
            _, exemplar = self.used(work, rng)
            with work.autocast():
                P = network.guide(matched, shared.text, torch.ones_like(exemplar), exemplar).prior
            return {"prior": (P - batch.target_latents).abs().mean()}

        def preview(average: nn.Module) -> tuple[None, dict[str, float]]:
            assert isinstance(average, TranslationNetwork)
            P = shared.guide(average).prior
            return None, {"psnr": shared.psnr(shared.model.decode(P))}

        _, step = train(work, "prior", self, network, losses, preview)
        work.note("prior", step=step, samples=step * self.batch)


@dataclass(frozen=True)
class DenoiserStage(_TranslationRun):
    """Tune the embedded model's U-Net, or train a small one, with the prior network.

    Attributes:
        name: Directory of the checkpoints in the workspace.
        prior: Of the diffusion process, see ``zerocon.exemplar.prior``.
        prior_weight: Of the prior's absolute error in the loss.
        start: Directory of the checkpoint to start with; empty for none.
        bridge: Train a Brownian bridge from the condition's latents (BBDM, arXiv 2205.07680).
        compiled: A third faster after some minutes of compiling; needs a C++ compiler.
    """

    steps: int = 2_500
    batch: int = 32
    lr: float = 5e-4
    warmup: int = 100
    decay: float = 0.5
    every: float = 6.0
    name: str = "denoiser"
    prior: str = "terminal"
    prior_weight: float = 0.5
    start: str = "prior"
    bridge: bool = False
    compiled: bool = True

    def run(self, work: Workspace) -> None:
        shared = _Shared.load(work)
        network = self.network(shared.model.unet)
        if self.start and not (work.folder / self.name / "checkpoint.pt").exists():
            network.load_state_dict(restore(work, self.start)[1])
        network.to(work.device)
        network.unet.to(memory_format=torch.channels_last)
        if work.device == "cpu":
            use_unfused_attention(network.unet)
        predict = compiled(network.unet) if self.compiled else network.unet
        levels = alpha_bars().to(work.device)

        def losses(rng: Rng) -> dict[str, Tensor]:
            batch, matched = self.draw(shared, rng)
            condition, exemplar = self.used(work, rng)
            if self.bridge:
                matched = matched._replace(start=shared.model.encode(batch.condition))
            with work.autocast():
                guide = network.guide(matched, shared.text, condition, exemplar)
            z0 = batch.target_latents
            # stratified times, one in each of as many parts of the schedule: less variance
            times = (torch.randperm(len(z0)) + torch.rand(len(z0))) / len(z0)
            terms = self.loss(predict, guide, z0, times.to(z0.device), levels, work)
            if self.prior_weight and not self.bridge:
                error = (guide.prior - z0).abs().mean((1, 2, 3))
                terms["prior"] = self.prior_weight * (error * condition).sum() / condition.sum()
            return terms

        def preview(average: nn.Module) -> tuple[Image, dict[str, float]]:
            whole = self.network(shared.model.unet).to(work.device)
            whole.load_state_dict(average.state_dict())
            return shared.preview(whole.eval())

        _, step = train(work, self.name, self, network, losses, preview)
        work.note(self.name, step=step, samples=step * self.batch)

    def network(self, base: Any) -> TranslationNetwork:
        """The untrained network of this stage."""
        return self.build(base, prior=self.prior, bridge=self.bridge)

    def loss(
        self,
        predict: Any,
        guide: Guide,
        z0: Tensor,
        times: Tensor,
        levels: Tensor,
        work: Workspace,
    ) -> dict[str, Tensor]:
        """The prior denoising loss, on the shifted noise, or that of a Brownian bridge.

        Args:
            predict: The U-Net.
            guide: What it is given besides latents and timestep.
            z0: Latents of the targets, (batch, 4, rows, columns).
            times: From image (0) to noise (1), (batch,).
            levels: Alpha-bar of all timesteps.
            work: For the dtype of the computation.
        """
        P, name = guide.prior, "bridge" if self.bridge else "eps"
        task = _bridged(P, z0, times) if self.bridge else _noised(P, z0, times, levels, self.prior)
        error = _predict(predict, task.x, task.t, guide, work) - task.target
        return {name: (task.weight * error.square()).mean()}


class _Task(NamedTuple):
    """What the U-Net is to predict in one batch, and the weights of its errors."""

    x: Tensor
    t: Tensor
    target: Tensor
    weight: Tensor | float


def _noised(P: Tensor, z0: Tensor, times: Tensor, levels: Tensor, prior: str) -> _Task:
    """The shifted noise, from noised latents.

    An error of it is one of the clean latents times alpha / sigma. The weight lies between both, as
    in ``zerocon.training.unet``.
    """
    t = (times * len(levels)).long().clamp(max=len(levels) - 1)
    level, eps = NoiseLevels.variance_preserving(levels[t]), torch.randn_like(z0)
    z = noised(z0, P, eps, level, prior)
    return _Task(z, t, shifted_noise(eps, P, level, prior), level.sigma / level.alpha)


def _bridged(P: Tensor, z0: Tensor, times: Tensor) -> _Task:
    """``x_t - z_0``, from a Brownian bridge to the latents (BBDM, eq. 13)."""
    column = times[:, None, None, None]
    m, deviation = bridge_mean(column), bridge_variance(column).sqrt()
    x = (1 - m) * z0 + m * P + deviation * torch.randn_like(z0)
    return _Task(x, (times * (BRIDGE_TIMES - 1)).round(), x - z0, 1.0)


@dataclass(frozen=True)
class TranslationExportStage:
    """Write the trained matcher, prior and denoiser to the package, or to another directory."""

    name: str = "denoiser"
    to: str = ""  # a directory; empty for the package's

    def run(self, work: Workspace) -> None:
        folder = Path(self.to) if self.to else WEIGHTS
        model = load_model(ModelSpec("mini", device="cpu", dtype="float32"))
        network = load(work, model.unet, self.name)
        save_weights(folder, network, matcher_stage.load(work))
        size = sum(file.stat().st_size for file in folder.iterdir())
        work.say(f"export: {size / 1e6:.1f} MB in {folder}")


def load(work: Workspace, base: Any, name: str = "denoiser") -> TranslationNetwork:
    """The trained prior and denoiser; ``ValueError`` if there are none."""
    settings, weights = restore(work, name)
    network = DenoiserStage(**settings).network(base)
    network.load_state_dict(weights)
    return network.to(work.device).eval().requires_grad_(False)


@torch.no_grad()
def matched_batch(matcher: Matcher, batch: TripletBatch, shares: Tensor, key: str) -> Matched:
    """What a matcher finds in a batch, with a share of each warp's blocks replaced.

    Args:
        matcher: A trained one.
        batch: On the matcher's device.
        shares: Probability of a block of each image, (batch,).
        key: Of the random blocks.
    """
    z_r = batch.exemplar_latents
    matched = match(matcher, batch.condition, [(batch.exemplar, z_r)])
    warped = corrupt(matched.warped, z_r, shares, seeded_generator(f"corruption/{key}"))
    return matched._replace(warped=warped)


def _predict(predict: Any, z: Tensor, t: Tensor, guide: Guide, work: Workspace) -> Tensor:
    x = unet_input(z, guide).to(memory_format=torch.channels_last)
    with work.autocast():
        output: Tensor = predict(x, t, guide.tokens, return_dict=False)[0]
    return output.float()


@dataclass(frozen=True)
class _Shared:
    """What does not change during a training."""

    work: Workspace
    model: Model
    matcher: Matcher
    sampler: TripletSampler
    text: Tensor  # tokens of the empty caption
    shown: TripletBatch  # for sample sheets
    matched: Matched

    @classmethod
    def load(cls, work: Workspace) -> _Shared:
        model = load_model(ModelSpec("mini", device=work.device, dtype="float32"))
        matcher = matcher_stage.load(work)
        sampler = TripletSampler(work)
        unseen = TripletSampler(work, "validation")
        kinds = [CONDITIONS[i % len(CONDITIONS)] for i in range(SHOWN)]
        numbers = np.arange(SHOWN) % len(unseen)
        shown = unseen.select(numbers, kinds, np.full(SHOWN, -1)).to(work.device)
        matched = matched_batch(matcher, shown, torch.zeros(SHOWN), "")
        matched = matched._replace(start=model.encode(shown.condition))
        text = model.embed([""]).tokens
        return cls(work, model, matcher, sampler, text, shown, matched)

    def guide(self, network: TranslationNetwork) -> Guide:
        used = torch.ones(SHOWN, device=self.work.device)
        return network.guide(self.matched, self.text, used, used)

    def psnr(self, pixels: Tensor) -> float:
        """Mean PSNR of images to the exact targets, in dB."""
        return float(psnr(self.shown.target, pixels.clamp(-1, 1)).mean())

    def preview(self, network: TranslationNetwork) -> tuple[Image, dict[str, float]]:
        """A sample sheet, and the PSNR of warps, priors and samples."""
        noise = starting_noise(range(SHOWN), *self.matched.warped.shape[2:]).to(self.work.device)
        if network.config.bridge:
            z = sample_bridge(network, self.matched, self.text, STEPS, range(SHOWN))
        else:
            levels = self.model.schedule(STEPS).levels
            z = sample(network, self.matched, self.text, levels, noise)
        P = self.guide(network).prior
        warp, prior, images = map(self.model.decode, (self.matched.warped, P, z))
        pixels = (self.shown.condition, self.shown.exemplar, warp, prior, images, self.shown.target)
        tiles = [unfit(row, frame()) for rows in zip(*pixels, strict=True) for row in rows]
        numbers = {
            name: self.psnr(part)
            for name, part in (("warp", warp), ("prior", prior), ("psnr", images))
        }
        return sheet(tiles, COLUMNS * SHOWN, len(COLUMNS)), numbers
