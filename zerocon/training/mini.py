"""Train the embedded model: stages in order, each of which resumes where it stopped.

    zerocon train mini --work DIR

A stage is a frozen dataclass: its fields are its settings, ``run`` does the work. To add one, add
a class and its line in ``STAGES``.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from zerocon.training.workspace import Workspace

_PACKAGE = "zerocon.training."
STAGES: dict[str, str | type] = {
    "scenes": _PACKAGE + "dataset:ScenesStage",
    "vae": _PACKAGE + "vae:VaeStage",
    "clip": _PACKAGE + "clip:ClipStage",
    "captioner": _PACKAGE + "captioner:CaptionerStage",
    "latents": _PACKAGE + "latents:LatentsStage",
    "unet": _PACKAGE + "unet:UNetStage",
    "classifiers": _PACKAGE + "classifiers:ClassifiersStage",
    "export": _PACKAGE + "export:ExportStage",
    "evaluate": _PACKAGE + "evaluate:EvaluationStage",
}


class TrainingStage(Protocol):
    """One stage of the training; its inputs and outputs are files of the workspace."""

    def run(self, work: Workspace) -> None: ...


def run(stage: TrainingStage, work: Workspace) -> None:
    """Run a stage; its time limit starts now."""
    stage.run(replace(work, began=time.monotonic()))
