"""The card that lies with the weights: what they are, how they were made, how good they are."""

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

A latent diffusion model of the classes and the file layout of Stable Diffusion 1, small enough to
lie in a package: 128 x 128 pixels, latents of 4 x 16 x 16, float16 on disk. It knows the drawn
world of `zerocon.world` and nothing else: no photographs, no people, no words beyond a few hundred.
It is there to try the tool without a download, to test it on trained weights, and to measure edits
against a known truth. It says nothing about photographs.

## How it was made

All training pictures are drawn by this project's own code (`zerocon.world`, training seeds); no
other picture, text or weight was used. `zerocon train mini` makes it again, in as many sittings as
one likes; these are the options of each part's last, where they are not the defaults.

{made}

## How good it is

On scenes that no part was trained on{how}.

{table}

`captioner/` is a BLIP and `clip/` a CLIP of the same kind and data; the text half of CLIP is the
text encoder. Defaults of the tool that were measured on this model are in `zerocon.json`.

Licence: Apache-2.0, as the project.
"""


def write_card(work: Workspace, folder: Path) -> None:
    """Write ``README.md`` into a folder of weights, from what the stages have noted."""
    measured = work.facts("evaluate")
    how = ""
    if measured:
        how = ", {pictures} pictures painted in {steps} steps with guidance {scale}".format(
            **measured["how"]
        )
    table = _table(measured["found"]) if measured else "Not measured yet."
    text = _TEXT.format(made=_made(work), how=how, table=table)
    (folder / "README.md").write_text(text)


def _made(work: Workspace) -> str:
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
    """What a stage was last trained with; not how often it was to show itself, nor how long."""
    last, defaults = restore(work, stage)[0], asdict(usual)
    given = {name: value for name, value in last.items() if value != defaults.get(name)}
    return " ".join(f"`{k}={v}`" for k, v in given.items() if k not in ("every", "steps"))


def _table(found: Mapping[str, Mapping[str, float]]) -> str:
    rows = ["| what | measured |", "|---|---|"]
    for part, numbers in found.items():
        said = ", ".join(f"{name} {_number(part, number)}" for name, number in numbers.items())
        rows.append(f"| {part} | {said} |")
    return "\n".join(rows)


def _number(part: str, number: float) -> str:
    return f"{number:.1f} dB" if "PSNR" in part else f"{100 * number:.1f} %"
