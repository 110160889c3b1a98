"""The model card of the embedded model: description, training options, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from zerocon.training.captioner import CaptionerStage
from zerocon.training.classifiers import ClassifiersStage
from zerocon.training.clip import ClipStage
from zerocon.training.loop import TrainingRun, restore
from zerocon.training.unet import UNetStage
from zerocon.training.vae import VaeStage

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

_TEXT = """\
# The embedded model

A latent diffusion model with the classes and the file layout of Stable Diffusion 1, small enough to
be part of the package: 128 x 128 pixels, latents of 4 x 16 x 16, float16 on disk. It was trained
only on the drawn world of `zerocon.world`: it knows no photographs, no people, and a few hundred
words. It serves to try the tool without a download, to test the tool on trained weights, and to
measure edits against an exact result. Its results do not predict those on photographs.

## Training

All training images are drawn by this project's code (`zerocon.world`, training seeds); no other
image, text or weights were used. `zerocon train mini` repeats the training, in any number of runs.
The options are those of the last run of each part that differ from the defaults.

{stages}

## Metrics

On scenes that no part was trained on{how}.

{table}

`captioner/` is a BLIP and `clip/` a CLIP, both small and trained on the same scenes; the text tower
of CLIP is the text encoder of the U-Net. `zerocon.json` holds the tool's default settings that were
tuned on this model, that its longest side is 128 pixels, as it was trained (`size_rule`), and all
words of its captions (`words`).

License: Apache-2.0, as the project.
"""
_HOW = "; {images} images sampled in {steps} steps with guidance scale {guidance_scale}"


def write_card(work: Workspace, folder: Path) -> None:
    """Write ``README.md`` into a directory of weights, from the facts of the stages."""
    measured = work.facts("evaluate")
    how, table = "", "Not measured yet."
    if "metrics" in measured:
        how, table = _HOW.format(**measured["how"]), _table(measured["metrics"])
    text = _TEXT.format(stages=_stages(work), how=how, table=table)
    (folder / "README.md").write_text(text)


def _stages(work: Workspace) -> str:
    stages = {
        "vae": VaeStage,
        "clip": ClipStage,
        "captioner": CaptionerStage,
        "unet": UNetStage,
        "classifiers": ClassifiersStage,
    }
    rows = [
        f"| {stage} | {step} | {_options(work, stage, cls())} |"
        for stage, cls in stages.items()
        if (step := work.facts(stage).get("step"))
    ]
    return "\n".join(["| part | steps | options |", "|---|---|---|", *rows])


def _options(work: Workspace, stage: str, usual: TrainingRun) -> str:
    """The options of the last run of a stage that are not defaults, except its length."""
    last, defaults = restore(work, stage)[0], asdict(usual)
    options = {name: value for name, value in last.items() if value != defaults.get(name)}
    return " ".join(f"`{k}={v}`" for k, v in options.items() if k not in ("every", "steps"))


def _table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    rows = ["| metric | value |", "|---|---|"]
    for part, numbers in metrics.items():
        values = ", ".join(f"{name} {_number(part, number)}" for name, number in numbers.items())
        rows.append(f"| {part} | {values} |")
    return "\n".join(rows)


def _number(part: str, number: float) -> str:
    return f"{number:.1f} dB" if "PSNR" in part else f"{100 * number:.1f} %"
