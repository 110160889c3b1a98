"""Stage 7: the classifiers, trained on renders, their reconstructions and ambiguous images.

A third of each batch is of each sort. The labels of ambiguous images are soft, so that a subject
without a shape, or one that is half changed, gets no probable value. Afterwards every parameter
gets the probability from which its value is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from zerocon.bench.classifiers import AttributeNetwork
from zerocon.training import vae
from zerocon.training.ambiguous_images import LABELS, AmbiguousImage, flat, make_ambiguous, one_hot
from zerocon.training.array_file import ArrayFile
from zerocon.training.augment import as_pixels, mirrored, shifted
from zerocon.training.dataset import SIZE, drawn
from zerocon.training.loop import Rng, TrainingRun, restore, train
from zerocon.world import VALUES

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

BATCH = 32  # images that the autoencoder encodes and decodes at a time

Images = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ClassifiersStage(TrainingRun):
    """Train one classifier for each named parameter."""

    steps: int = 6_000
    batch: int = 129
    lr: float = 2e-3
    again: int = 12_000  # training scenes that are used as reconstructions too
    ambiguous: int = 6_000  # ambiguous images
    shift: int = 4  # pixels, so that the position of an object is no cue
    threshold: float = 0.35  # probability from which a value is predicted, chosen by eye; lower
    rejected: float = 0.004  # if this share of clean images would lose their correct prediction

    def run(self, work: Workspace) -> None:
        scenes, unseen = drawn(work, "train"), drawn(work, "validation")
        network: Any = AttributeNetwork()
        network = network.to(work.device, memory_format=torch.channels_last)
        unseen_again = _reconstructions(work, "validation", len(unseen))
        reconstructed = _reconstructions(work, "train", self.again)
        altered, soft = _ambiguous(work, self.ambiguous)
        if not len(reconstructed) or not len(altered):
            return  # the time limit was reached before any were computed
        labels = torch.from_numpy(np.stack([flat(one_hot(truth)) for truth in scenes.truths]))
        parts = ((scenes.images, labels), (reconstructed, labels), (altered, soft))

        def losses(rng: Rng) -> dict[str, Tensor]:
            images, target = self._sample(parts, rng)
            x = mirrored(shifted(as_pixels(images), self.shift, rng), rng)
            x = x.to(work.device, memory_format=torch.channels_last)
            with work.autocast():
                logits = network(x)
            targets = torch.split(
                target.to(work.device), [len(values) for values in VALUES.values()], 1
            )
            return {
                name: cross_entropy(rows.float(), probabilities)
                for (name, rows), probabilities in zip(logits.items(), targets, strict=True)
            }

        truths = _labels(unseen.truths)

        def preview(average: Any) -> tuple[None, dict[str, float]]:
            return None, measure(average, unseen_again[:128], truths[:128], work)

        average, step = train(work, "classifiers", self, network, losses, preview)
        if work.facts("classifiers").get("step") != step:
            clean = ((unseen.images, truths), (unseen_again, truths))
            average.thresholds.copy_(self._thresholds(average, clean, work))
            renders, again = (measure(average, images, truth, work) for images, truth in clean)
            limits = dict(zip(VALUES, average.thresholds.tolist(), strict=True))
            facts = {"thresholds": limits, "renders": renders, "reconstructions": again}
            work.note("classifiers", step=step, **facts)
            work.say(f"classifiers: {work.facts('classifiers')}")

    def _sample(self, parts: Sequence[tuple[Images, Tensor]], rng: Rng) -> tuple[Images, Tensor]:
        """The images and labels of a batch, in equal parts from each of ``parts``."""
        counts = [len(part) for part in np.array_split(np.arange(self.batch), len(parts))]
        chosen = [
            np.sort(rng.integers(len(images), size=count))
            for (images, _), count in zip(parts, counts, strict=True)
        ]
        picks = list(zip(parts, chosen, strict=True))
        images = np.concatenate([images[rows] for (images, _), rows in picks])
        return images, torch.cat([labels[rows] for (_, labels), rows in picks])

    @torch.no_grad()
    def _thresholds(
        self, network: Any, clean: Sequence[tuple[Images, Tensor]], work: Workspace
    ) -> Tensor:
        """The probability for every parameter from which its value is predicted."""
        best, correct = [], []
        for images, truths in clean:
            for first in range(0, len(images), BATCH):
                x = as_pixels(images[first : first + BATCH]).to(work.device)
                values = [rows.max(1) for rows in network.probabilities(x).values()]
                best.append(torch.stack([p for p, _ in values], 1).cpu())
                predicted = torch.stack([numbers for _, numbers in values], 1).cpu()
                correct.append(predicted == truths[first : first + BATCH])
        p = torch.cat(best).where(torch.cat(correct), 1)  # a wrong prediction is no loss
        return p.quantile(self.rejected, 0).clamp(max=self.threshold)


def load(work: Workspace) -> AttributeNetwork:
    """The trained classifiers."""
    _, weights = restore(work, "classifiers")
    network = AttributeNetwork()
    network.load_state_dict(weights)
    if limits := work.facts("classifiers").get("thresholds"):
        network.thresholds.copy_(torch.tensor([limits[name] for name in VALUES]))
    return network.eval().requires_grad_(False)


@torch.no_grad()
def measure(network: Any, images: Images, labels: Tensor, work: Workspace) -> dict[str, float]:
    """Accuracy on images for each named parameter; a value that is unclear is wrong."""
    correct = []
    for first in range(0, len(images), BATCH):
        predicted = network.predict(as_pixels(images[first : first + BATCH]).to(work.device)).cpu()
        correct.append((predicted == labels[first : first + len(predicted)]).float())
    means = torch.cat(correct).mean(0).tolist()
    return {name: round(mean, 4) for name, mean in zip(VALUES, means, strict=True)}


def _reconstructions(work: Workspace, split: str, count: int) -> Images:
    """Reconstructions of the first ``count`` scenes, computed once per autoencoder."""
    network, scenes = vae.load(work), drawn(work, split)
    records = ArrayFile(work.place("classifiers") / f"{split}.u8", (SIZE, SIZE, 3))
    origin = {f"vae_of_{split}": work.facts("vae").get("step")}
    if not origin.items() <= work.facts("classifiers").items():
        records.cut(0)
        work.note("classifiers", **origin)
    records.cut(len(records))
    count = min(count, len(scenes))
    for first in range(len(records), count, BATCH):
        if work.spent() > 1:
            break
        x = as_pixels(scenes.images[first : min(first + BATCH, count)])
        x = x.to(work.device, memory_format=torch.channels_last)
        with torch.no_grad(), work.autocast():
            again = network.decode(network.encode(x).latent_dist.mode()).sample
        records.append(_as_bytes(again))
        if first // BATCH % 20 == 0 or len(records) == count:
            work.say(f"classifiers: {len(records)} of {count} reconstructions, {split}")
    return records.read()[:count]


def _ambiguous(work: Workspace, count: int) -> tuple[Images, Tensor]:
    """Ambiguous images and their labels (n, LABELS), computed once per autoencoder."""
    network, folder = vae.load(work), work.place("classifiers")
    images = ArrayFile(folder / "ambiguous.u8", (SIZE, SIZE, 3))
    labels = ArrayFile(folder / "ambiguous.f16", (LABELS,), "float16")
    origin = {"vae_of_ambiguous": work.facts("vae").get("step")}
    if not origin.items() <= work.facts("classifiers").items():
        images.cut(0)
        work.note("classifiers", **origin)
    start = min(len(images), len(labels))
    for records in (images, labels):
        records.cut(start)
    for first in range(start, count, BATCH):
        if work.spent() > 1:
            break
        parts = [make_ambiguous(number) for number in range(first, min(first + BATCH, count))]
        images.append(_decoded(network, parts, work))
        labels.append(np.stack([flat(part.labels) for part in parts]))
        if first // BATCH % 20 == 0 or len(images) == count:
            work.say(f"classifiers: {len(images)} of {count} ambiguous images")
    count = min(count, len(images), len(labels))
    return images.read()[:count], torch.from_numpy(np.array(labels.read()[:count], np.float32))


@torch.no_grad()
def _decoded(network: Any, parts: list[AmbiguousImage], work: Workspace) -> Images:
    x = as_pixels(np.concatenate([np.stack(part.images) for part in parts]))
    x = x.to(work.device, memory_format=torch.channels_last)
    with work.autocast():
        latents = network.encode(x).latent_dist.mode().float().cpu()
        groups = latents.split([len(part.images) for part in parts])
        z = torch.stack([part.combine(group) for part, group in zip(parts, groups, strict=True)])
        z = z.to(work.device, memory_format=torch.channels_last)
        return _as_bytes(network.decode(z).sample)


def _as_bytes(pixels: Tensor) -> Images:
    values = ((pixels.float() + 1) * 127.5).round().clamp(0, 255).byte()
    return values.permute(0, 2, 3, 1).cpu().numpy()


def _labels(truths: list[dict[str, str]]) -> Tensor:
    """Class numbers (n, names)."""
    return torch.tensor([[VALUES[name].index(truth[name]) for name in VALUES] for truth in truths])
