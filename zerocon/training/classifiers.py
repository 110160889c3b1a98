"""Stage 7: the classifiers, on renders and on what the autoencoder makes of them, half and half."""

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

Pictures = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ClassifiersStage(TrainingRun):
    """Train one classifier for each named parameter."""

    steps: int = 6_000
    batch: int = 128
    lr: float = 2e-3
    again: int = 12_000  # training scenes whose reconstructions are judged too
    shift: int = 4  # pixels, so that no judge learns where a thing must be

    def run(self, work: Workspace) -> None:
        scenes, unseen = drawn(work, "train"), drawn(work, "validation")
        network: Any = AttributeNetwork()
        network = network.to(work.device, memory_format=torch.channels_last)
        remade = _reconstructions(work, "train", self.again)
        unseen_remade = _reconstructions(work, "validation", len(unseen))
        if not len(remade):
            return  # the sitting was over before any were made
        answers, unseen_answers = _answers(scenes.truths), _answers(unseen.truths)

        def losses(rng: Rng) -> dict[str, Tensor]:
            half = self.batch // 2
            plain = np.sort(rng.integers(len(scenes), size=self.batch - half))
            again = np.sort(rng.integers(len(remade), size=half))
            x = as_pixels(np.concatenate([scenes.images[plain], remade[again]]))
            x = mirrored(shifted(x, self.shift, rng), rng)
            x = x.to(work.device, memory_format=torch.channels_last)
            right = answers[np.concatenate([plain, again])].to(work.device)
            with work.autocast():
                logits = network(x)
            return {
                name: cross_entropy(rows.float(), right[:, i])
                for i, (name, rows) in enumerate(logits.items())
            }

        def preview(average: Any) -> tuple[None, dict[str, float]]:
            return None, measure(average, unseen_remade[:384], unseen_answers[:384], work)

        average, step = train(work, "classifiers", self, network, losses, preview)
        if work.facts("classifiers").get("step") != step:
            renders = measure(average, unseen.images, unseen_answers, work)
            again = measure(average, unseen_remade, unseen_answers, work)
            work.note("classifiers", step=step, renders=renders, reconstructions=again)
            work.say(f"judges: {work.facts('classifiers')}")


def load(work: Workspace) -> AttributeNetwork:
    """The trained classifiers."""
    _, weights = restore(work, "classifiers")
    network = AttributeNetwork()
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def measure(network: Any, images: Pictures, answers: Tensor, work: Workspace) -> dict[str, float]:
    """Share of pictures that are read right, for each named parameter."""
    right = []
    for first in range(0, len(images), 64):
        logits = network(as_pixels(images[first : first + 64]).to(work.device))
        rows = torch.stack([values.argmax(1) for values in logits.values()], 1).cpu()
        right.append((rows == answers[first : first + len(rows)]).float())
    means = torch.cat(right).mean(0).tolist()
    return {name: round(mean, 4) for name, mean in zip(VALUES, means, strict=True)}


def _reconstructions(work: Workspace, split: str, count: int) -> Pictures:
    """What the autoencoder makes of the first scenes of a split, made once for each autoencoder."""
    network, scenes = vae.load(work), drawn(work, split)
    records = ArrayFile(work.place("classifiers") / f"{split}.u8", (SIZE, SIZE, 3))
    made_by = {f"vae_of_{split}": work.facts("vae").get("step")}
    if not made_by.items() <= work.facts("classifiers").items():
        records.cut(0)
        work.note("classifiers", **made_by)
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
            work.say(f"judges: {len(records)} of {count} reconstructions, {split}")
    return records.read()[:count]


def _answers(truths: list[dict[str, str]]) -> Tensor:
    """Class numbers (n, names)."""
    return torch.tensor([[VALUES[name].index(truth[name]) for name in VALUES] for truth in truths])
