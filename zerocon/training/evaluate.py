"""Stage 9: the shipped parts on scenes of the test split, against what they should reach."""

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
from zerocon.training.captioner import READ, hear
from zerocon.training.clip import GROUP
from zerocon.training.dataset import SIZE
from zerocon.training.model_card import write_card
from zerocon.training.sample import paint

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon.model import Model
    from zerocon.training.workspace import Workspace
    from zerocon.world import Scene

Shares = dict[str, float]

# world.VALUES' parameters of generated pictures, and what the model is asked to reach
GOOD: dict[str, Shares] = {
    "generated": {"kind": 0.9, "color": 0.9, "place": 0.95, "style": 0.95},
    "captioner": {"kind": 0.95, "color": 0.95, "place": 0.95},
    "CLIP": {"caption among 64": 0.95},
    "PSNR": {"all": 28.0},
    "classifiers, renders": dict.fromkeys(world.VALUES, 0.99),
    "classifiers, reconstructions": dict.fromkeys(world.VALUES, 0.99),
}


@dataclass(frozen=True)
class EvaluationStage:
    """Measure the exported model; print the table and put it on the card."""

    generated: int = 128  # pictures painted and judged
    scenes: int = 512  # looked at by everything else
    steps: int = 50
    scale: float = 3.0
    seed: int = 0
    weights: str = ""  # a folder; empty for the package's own
    classifiers: str = ""  # a file; empty for the package's own

    def run(self, work: Workspace) -> None:
        folder = Path(self.weights) if self.weights else mini.path()
        parts = model.load(model.ModelSpec.of(str(folder), device=work.device))
        panel = classifiers.load(
            Path(self.classifiers) if self.classifiers else classifiers.WEIGHTS, device=work.device
        )
        scenes = [world.sample(seed) for seed in world.TEST[: max(self.generated, self.scenes)]]
        seen = scenes[: self.scenes]
        images = [world.render(scene, SIZE) for scene in seen]
        again = [_again(parts, image) for image in images]
        captions = [world.caption(scene) for scene in scenes[: self.generated]]
        painted = paint(parts, captions, self.steps, self.scale, self.seed)
        sheet(painted[:64], captions[:64], 8).save(work.place("evaluate") / "generated.png")
        found: dict[str, Shares] = {
            "generated": _judged(panel, painted, scenes),
            "captioner": _captioned(parts, images, seen),
            "CLIP": {"caption among 64": _matched(parts, images, seen)},
            "PSNR": vae.measure(lambda x: parts.decode(parts.encode(x)), world.TEST[: self.scenes]),
            "classifiers, renders": _judged(panel, images, seen),
            "classifiers, reconstructions": _judged(panel, again, seen),
        }
        how = {"images": self.generated, "steps": self.steps, "guidance_scale": self.scale}
        work.note("evaluate", how=how, found=found)
        write_card(work, folder)
        for part, numbers in found.items():
            for name, number in numbers.items():
                wanted = GOOD[part].get(name)
                verdict = (
                    "" if wanted is None else f"  wanted {wanted:g}  {_verdict(number, wanted)}"
                )
                work.say(f"{part:24} {name:18} {number:.3f}{verdict}")


def _verdict(number: float, wanted: float) -> str:
    return "good" if number >= wanted else "not yet"


def _judged(panel: classifiers.Classifiers, images: list[Image], scenes: list[Scene]) -> Shares:
    """Share of pictures that show what their scene is, for each parameter."""
    read = panel.read(images)
    return {
        name: float(
            np.mean([r[name] == world.truth(s)[name] for r, s in zip(read, scenes, strict=False)])
        )
        for name in world.VALUES
    }


def _captioned(parts: Model, images: list[Image], scenes: list[Scene]) -> Shares:
    heard = [hear(caption_image(image, parts)) for image in images]
    truths = [world.truth(scene) for scene in scenes]
    return {
        name: float(np.mean([h[name] == t[name] for h, t in zip(heard, truths, strict=True)]))
        for name in READ
    }


def _matched(parts: Model, images: list[Image], scenes: list[Scene]) -> float:
    """Share of pictures most alike to their own caption among 64."""
    captions = [world.caption(scene) for scene in scenes]
    right, scorer = [], parts.scorer
    for i, image in enumerate(images):
        group = captions[i - i % GROUP :][:GROUP]
        right.append(
            scorer is not None
            and group[int(np.argmax(scorer.similarity(image, group)))] == captions[i]
        )
    return float(np.mean(right))


def _again(parts: Model, image: Image) -> Image:
    from zerocon.image.transforms import unfit

    seen: Any = parts.decode(parts.encode(as_pixels(np.asarray(image)[None])))
    return unfit(seen[0], frame())
