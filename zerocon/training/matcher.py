"""The matcher of exemplar-based translation: both encoders, trained on triplets.

No correspondence is given. The exemplar has the appearance of the target, so a warp of its colors
to the condition is right where it gives the target's colors (L_warp); the same for the target's own
features (L_wx), and for the way back (L_cyc, as in CoCosNet, arXiv 2004.05571). The global and the
local loss are the contrastive losses of PROMOTE (ACM Multimedia 2024), as far as its abstract
defines them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zerocon.exemplar.alignment import Divergence, Geometry, Reading, global_loss, local_loss
from zerocon.exemplar.correspondence import correspond
from zerocon.exemplar.encoders import Matcher, MatcherConfig
from zerocon.training.augment import CELL, mirrored
from zerocon.training.loop import Rng, TrainingRun, restore, train
from zerocon.training.triplets import CONDITIONS, TripletBatch, TripletSampler
from zerocon.world import CLASSES

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

BATCH = 64  # triplets that are measured at a time
SHOWN = 128  # validation triplets that are measured during training


@dataclass(frozen=True)
class MatcherStage(TrainingRun):
    """Train the encoders of conditions and images."""

    name: str = "matcher"  # directory of the checkpoints in the workspace
    steps: int = 2_400
    batch: int = 16
    lr: float = 2e-3
    warmup: int = 100
    decay: float = 0.5
    warp: float = 1.0  # weight of the error of the exemplar's colors, warped by the condition
    image_warp: float = 1.0  # of the same, warped by the target
    cycle: float = 0.5  # of the error of the exemplar's colors, warped there and back
    global_weight: float = 0.02
    local_weight: float = 0.1
    geometry: Geometry = "poincare"  # of the global loss
    divergence: Divergence = "fisher-rao"  # of the local loss
    reading: Reading = "cross"  # which correlations the local loss compares
    distorted: float = 0.5  # share of exemplars that are the target, distorted
    temperature: float = 0.03  # of the warp
    width: int = 96  # channels of the encoders

    def build(self) -> Matcher:
        return Matcher(MatcherConfig(width=self.width, temperature=self.temperature))

    def run(self, work: Workspace) -> None:
        sampler = TripletSampler(work, distorted=self.distorted)
        unseen = TripletSampler(work, "validation")
        torch.manual_seed(self.seed)
        network: Any = self.build()
        network = network.to(work.device, memory_format=torch.channels_last)

        def losses(rng: Rng) -> dict[str, Tensor]:
            parts = flipped(sampler.batch(self.batch, rng), rng)
            pixels = [x.to(work.device, memory_format=torch.channels_last) for x in parts]
            return self.terms(network, work, *pixels)

        def preview(average: Any) -> tuple[None, dict[str, float]]:
            return None, measure(average, unseen, min(SHOWN, len(unseen)), work)

        average, step = train(work, self.name, self, network, losses, preview)
        if work.facts(self.name).get("step") != step:
            values = measure(average, unseen, len(unseen), work)
            work.note(self.name, step=step, samples=step * self.batch, validation=values)
            work.say(f"{self.name}: {work.facts(self.name)}")

    def terms(
        self, network: Matcher, work: Workspace, condition: Tensor, exemplar: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """Weighted loss terms of a batch of pixels, each (batch, 3, height, width)."""
        with work.autocast():  # the encoders only: distances are rounding errors in bfloat16
            c = network.condition_encoder(condition)
            x, r = network.image_encoder(torch.cat([target, exemplar])).halves()
        values, wanted = colors(exemplar), colors(target)
        scores = c.tokens @ r.tokens.mT / self.temperature
        warped = scores.softmax(-1) @ values
        terms = {"warp": self.warp * F.l1_loss(warped, wanted)}
        if self.image_warp:
            match = (x.tokens @ r.tokens.mT / self.temperature).softmax(-1)
            terms["image_warp"] = self.image_warp * F.l1_loss(match @ values, wanted)
        if self.cycle:
            returned = scores.mT.softmax(-1) @ warped
            terms["cycle"] = self.cycle * F.l1_loss(returned, values)
        if self.global_weight:
            loss = global_loss(c.pooled, x.pooled, self.geometry)
            terms["global"] = self.global_weight * loss
        if self.local_weight:
            loss = local_loss(c.tokens, x.tokens, r.tokens, self.reading, self.divergence)
            terms["local"] = self.local_weight * loss
        return terms


def load(work: Workspace, name: str = "matcher") -> Matcher:
    """The trained matcher."""
    settings, weights = restore(work, name)
    network: Any = MatcherStage(**settings).build()
    network.load_state_dict(weights)
    network = network.to(work.device, memory_format=torch.channels_last)
    matcher: Matcher = network.eval().requires_grad_(False)
    return matcher


def colors(pixels: Tensor) -> Tensor:
    """Mean colors of the cells, (batch, tokens, 3)."""
    return F.avg_pool2d(pixels, CELL).flatten(2).mT


def flipped(batch: TripletBatch, rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
    """Condition, exemplar and target; half of the structures and of the exemplars mirrored."""
    structure = mirrored(torch.cat([batch.condition, batch.target], 1), rng)
    condition, target = structure.chunk(2, 1)
    return condition, mirrored(batch.exemplar, rng), target


@torch.no_grad()
def measure(
    network: Matcher, sampler: TripletSampler, count: int, work: Workspace
) -> dict[str, float]:
    """How well exemplars of another structure are matched, on the first triplets of a split.

    Counted are cells of one class, which the exemplar has too.

    Returns:
        The warp accuracy of each kind of condition: the share of the cells that are matched to a
        cell that is mainly of their class; ``position`` is that of a match to the same position.
        Of all kinds together ``psnr`` in dB of the warped colors, and the mean confidence of
        cells whose match is ``right`` and ``wrong``.
    """
    results = {
        kind: torch.cat(
            [
                _measured(network, sampler, np.arange(first, min(first + BATCH, count)), kind, work)
                for first in range(0, count, BATCH)
            ]
        )
        for kind in CONDITIONS
    }
    values = {kind: float(rows[:, 0].mean()) for kind, rows in results.items()}
    right, position, error, confidence = torch.cat(list(results.values())).unbind(1)
    values["position"] = float(position.mean())
    values["psnr"] = float(-10 * error.mean().log10())
    values["right"] = float(confidence[right > 0].mean())
    values["wrong"] = float(confidence[right == 0].mean())
    return {name: round(value, 4) for name, value in values.items()}


def _measured(
    network: Matcher,
    sampler: TripletSampler,
    numbers: np.ndarray[tuple[int], np.dtype[np.int64]],
    kind: str,
    work: Workspace,
) -> Tensor:
    """Of each counted cell: whether it and its position are right, square error, confidence."""
    batch = sampler.select(numbers, [kind] * len(numbers), np.full(len(numbers), -1))
    with work.autocast():
        c = network.condition_encoder(batch.condition.to(work.device))
        r = network.image_encoder(batch.exemplar.to(work.device))
    matched, colored = (
        correspond(
            c.tokens.cpu(),
            r.tokens.cpu(),
            values,
            temperature=network.config.temperature,
            grid_c=c.grid,
            grid_r=r.grid,
        )
        for values in (batch.exemplar_latents.flatten(2).mT, colors(batch.exemplar))
    )
    of_condition, of_exemplar = _shares(batch.classes_c), _shares(batch.classes_r)
    pure, expected = of_condition.max(-1)
    counted = (pure == 1) & (of_exemplar.sum(1) > 0).gather(1, expected)
    mainly = of_exemplar.argmax(-1)
    error = (colored.warped.flatten(2).mT - colors(batch.target)).square().mean(-1) / 4
    columns = (
        mainly.gather(1, matched.match) == expected,
        mainly == expected,
        error,
        matched.confidence.flatten(1),
    )
    return torch.stack([column.float()[counted] for column in columns], 1)


def _shares(classes: Tensor) -> Tensor:
    """Share of each class in the cells, (batch, tokens, classes), of (batch, height, width)."""
    one_hot = F.one_hot(classes.long(), len(CLASSES)).movedim(-1, 1).float()
    return F.avg_pool2d(one_hot, CELL).flatten(2).mT
