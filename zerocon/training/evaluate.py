"""Stage 9: metrics of the exported model on the test split, compared with their targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zerocon import mini, model, world
from zerocon.bench import classifiers
from zerocon.image.contact_sheet import sheet
from zerocon.model.captioner import caption_image
from zerocon.training import vae
from zerocon.training.augment import as_pixels, frame
from zerocon.training.captioner import MEASURED, parse_caption
from zerocon.training.clip import GROUP
from zerocon.training.dataset import SIZE
from zerocon.training.model_card import write_card
from zerocon.training.sample import sample_images

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon.model import Model
    from zerocon.training.workspace import Workspace
    from zerocon.world import Scene

Shares = dict[str, float]

# by metric: the parameters of world.VALUES, and the value that the model should reach
TARGETS: dict[str, Shares] = {
    "generated": {"kind": 0.9, "color": 0.9, "place": 0.95, "style": 0.95},
    "captioner": {"kind": 0.95, "color": 0.95, "place": 0.95},
    "CLIP": {"caption among 64": 0.95},
    "PSNR": {"all": 28.0},
    "classifiers, renders": dict.fromkeys(world.VALUES, 0.99),
    "classifiers, reconstructions": dict.fromkeys(world.VALUES, 0.99),
}


@dataclass(frozen=True)
class EvaluationStage:
    """Measure the exported model, print the metrics and write them to the model card."""

    generated: int = 128  # images sampled and classified
    scenes: int = 512  # of all other metrics
    steps: int = 50
    scale: float = 3.0
    seed: int = 0
    weights: str = ""  # a directory; empty for the package's
    classifiers: str = ""  # a file; empty for the package's

    def run(self, work: Workspace) -> None:
        folder = Path(self.weights) if self.weights else mini.path()
        parts = model.load(model.ModelSpec.of(str(folder), device=work.device))
        trained = classifiers.load(
            Path(self.classifiers) if self.classifiers else classifiers.WEIGHTS, device=work.device
        )
        scenes = [world.sample(seed) for seed in world.TEST[: max(self.generated, self.scenes)]]
        shown = scenes[: self.scenes]
        images = [world.render(scene, SIZE) for scene in shown]
        reconstructions = [_reconstruct(parts, image) for image in images]
        captions = [world.caption(scene) for scene in scenes[: self.generated]]
        generated = sample_images(parts, captions, self.steps, self.scale, self.seed)
        sheet(generated[:64], captions[:64], 8).save(work.place("evaluate") / "generated.png")
        metrics: dict[str, Shares] = {
            "generated": _classified(trained, generated, scenes),
            "captioner": _captioned(parts, images, shown),
            "CLIP": {"caption among 64": _retrieved(parts, images, shown)},
            "PSNR": vae.measure(lambda x: parts.decode(parts.encode(x)), world.TEST[: self.scenes]),
            "classifiers, renders": _classified(trained, images, shown),
            "classifiers, reconstructions": _classified(trained, reconstructions, shown),
        }
        how = {"images": self.generated, "steps": self.steps, "guidance_scale": self.scale}
        work.note("evaluate", how=how, metrics=metrics)
        write_card(work, folder)
        for part, numbers in metrics.items():
            for name, number in numbers.items():
                target = _compare(number, TARGETS[part].get(name))
                work.say(f"{part:24} {name:18} {number:.3f}{target}")


def _compare(number: float, target: float | None) -> str:
    if target is None:
        return ""
    return f"  target {target:g}  {'reached' if number >= target else 'not reached'}"


def _classified(
    trained: classifiers.Classifiers, images: list[Image], scenes: list[Scene]
) -> Shares:
    """Share of images with the predicted value of their scene, for each parameter."""
    predictions = trained.read(images)
    return {
        name: float(
            np.mean(
                [r[name] == world.truth(s)[name] for r, s in zip(predictions, scenes, strict=False)]
            )
        )
        for name in world.VALUES
    }


def _captioned(parts: Model, images: list[Image], scenes: list[Scene]) -> Shares:
    parsed = [parse_caption(caption_image(image, parts)) for image in images]
    truths = [world.truth(scene) for scene in scenes]
    return {
        name: float(np.mean([p[name] == t[name] for p, t in zip(parsed, truths, strict=True)]))
        for name in MEASURED
    }


def _retrieved(parts: Model, images: list[Image], scenes: list[Scene]) -> float:
    """Share of images whose caption is the most similar of 64."""
    captions = [world.caption(scene) for scene in scenes]
    correct, scorer = [], parts.scorer
    for i, image in enumerate(images):
        group = captions[i - i % GROUP :][:GROUP]
        best = None if scorer is None else group[int(np.argmax(scorer.similarity(image, group)))]
        correct.append(best == captions[i])
    return float(np.mean(correct))


def _reconstruct(parts: Model, image: Image) -> Image:
    from zerocon.image.transforms import unfit

    pixels: Any = parts.decode(parts.encode(as_pixels(np.asarray(image)[None])))
    return unfit(pixels[0], frame())
