"""Stage 7: the classifiers, trained half on renders and half on their reconstructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from zerocon.bench.classifiers import AttributeNetwork
from zerocon.training import vae
from zerocon.training.array_file import ArrayFile
from zerocon.training.augment import as_pixels, mirrored, shifted
from zerocon.training.dataset import SIZE, drawn
from zerocon.training.loop import Rng, TrainingRun, restore, train
from zerocon.world import VALUES

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

Images = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ClassifiersStage(TrainingRun):
    """Train one classifier for each named parameter."""

    steps: int = 6_000
    batch: int = 128
    lr: float = 2e-3
    again: int = 12_000  # training scenes that are used as reconstructions too
    shift: int = 4  # pixels, so that the position of an object is no cue

    def run(self, work: Workspace) -> None:
        scenes, unseen = drawn(work, "train"), drawn(work, "validation")
        network: Any = AttributeNetwork()
        network = network.to(work.device, memory_format=torch.channels_last)
        reconstructed = _reconstructions(work, "train", self.again)
        unseen_reconstructed = _reconstructions(work, "validation", len(unseen))
        if not len(reconstructed):
            return  # the time limit was reached before any were computed
        labels, unseen_labels = _labels(scenes.truths), _labels(unseen.truths)

        def losses(rng: Rng) -> dict[str, Tensor]:
            half = self.batch // 2
            plain = np.sort(rng.integers(len(scenes), size=self.batch - half))
            again = np.sort(rng.integers(len(reconstructed), size=half))
            x = as_pixels(np.concatenate([scenes.images[plain], reconstructed[again]]))
            x = mirrored(shifted(x, self.shift, rng), rng)
            x = x.to(work.device, memory_format=torch.channels_last)
            target = labels[np.concatenate([plain, again])].to(work.device)
            with work.autocast():
                logits = network(x)
            return {
                name: cross_entropy(rows.float(), target[:, i])
                for i, (name, rows) in enumerate(logits.items())
            }

        def preview(average: Any) -> tuple[None, dict[str, float]]:
            return None, measure(average, unseen_reconstructed[:384], unseen_labels[:384], work)

        average, step = train(work, "classifiers", self, network, losses, preview)
        if work.facts("classifiers").get("step") != step:
            renders = measure(average, unseen.images, unseen_labels, work)
            again = measure(average, unseen_reconstructed, unseen_labels, work)
            work.note("classifiers", step=step, renders=renders, reconstructions=again)
            work.say(f"classifiers: {work.facts('classifiers')}")


def load(work: Workspace) -> AttributeNetwork:
    """The trained classifiers."""
    _, weights = restore(work, "classifiers")
    network = AttributeNetwork()
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def measure(network: Any, images: Images, labels: Tensor, work: Workspace) -> dict[str, float]:
    """Accuracy on images for each named parameter."""
    correct = []
    for first in range(0, len(images), 64):
        logits = network(as_pixels(images[first : first + 64]).to(work.device))
        rows = torch.stack([values.argmax(1) for values in logits.values()], 1).cpu()
        correct.append((rows == labels[first : first + len(rows)]).float())
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
    for first in range(len(records), count, 32):
        if work.spent() > 1:
            break
        x = as_pixels(scenes.images[first : min(first + 32, count)]).to(work.device)
        with torch.no_grad(), work.autocast():
            again = network.decode(network.encode(x).latent_dist.mode()).sample
        values = ((again.float() + 1) * 127.5).round().clamp(0, 255).byte()
        records.append(values.permute(0, 2, 3, 1).cpu().numpy())
        if first // 32 % 20 == 0 or len(records) == count:
            work.say(f"classifiers: {len(records)} of {count} reconstructions, {split}")
    return records.read()[:count]


def _labels(truths: list[dict[str, str]]) -> Tensor:
    """Class numbers (n, names)."""
    return torch.tensor([[VALUES[name].index(truth[name]) for name in VALUES] for truth in truths])
