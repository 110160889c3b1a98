"""How the embedded model is made: stages in order, each of which continues where it stopped.

    zerocon train mini --work DIR

A stage is a frozen dataclass: its fields are its settings, ``run`` does the work. To add one, write
the class and its line here.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

_HERE = "zerocon.training."
STAGES: dict[str, str | type] = {
    "scenes": _HERE + "dataset:Scenes",
    "vae": _HERE + "vae:Vae",
    "clip": _HERE + "clip:Clip",
    "captioner": _HERE + "captioner:Captioner",
    "latents": _HERE + "latents:Latents",
    "unet": _HERE + "unet:UNet",
    "classifiers": _HERE + "classifiers:ClassifierTraining",
    "export": _HERE + "export:Export",
    "evaluate": _HERE + "evaluate:Evaluation",
}


class TrainingStage(Protocol):
    """A step of the training; what it needs and what it makes lie in the work folder."""

    def run(self, work: Workspace) -> None: ...


def run(stage: TrainingStage, work: Workspace) -> None:
    """Run a stage, its time limit counted from now."""
    stage.run(replace(work, began=time.monotonic()))
