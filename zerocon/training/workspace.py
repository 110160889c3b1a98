"""Where a training happens: a folder outside the checkout, a device, and for how long."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerocon.storage.atomic import writing

if TYPE_CHECKING:  # the renderers' processes have no use for torch
    import torch


@dataclass(frozen=True)
class Workspace:
    """What every stage is given. ``minutes`` is the limit of one stage's sitting; None is none."""

    folder: Path
    device: str = "cpu"
    minutes: float | None = None
    workers: int = 1  # processes that render scenes
    say: Callable[[str], None] = print
    began: float = field(default_factory=time.monotonic)

    def place(self, stage: str) -> Path:
        """The folder of a stage."""
        folder = self.folder / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def spent(self) -> float:
        """Share of the sitting that is over, 0 without a limit."""
        return (time.monotonic() - self.began) / 60 / self.minutes if self.minutes else 0.0

    def autocast(self) -> torch.autocast:
        """bfloat16 where the hardware multiplies it: there it is faster, elsewhere slower."""
        import torch

        if self.device.startswith("cuda"):
            return torch.autocast("cuda", torch.bfloat16)
        able = bool(torch.cpu.get_capabilities().get("amx_bf16"))
        return torch.autocast("cpu", torch.bfloat16, enabled=able)

    def note(self, stage: str, **facts: Any) -> None:
        """Keep what was found out about a stage's result, for later stages and the card."""
        known = self.facts(stage) | facts
        with writing(self.place(stage) / "facts.json", overwrite=True) as file:
            file.write_text(json.dumps(known, indent=1) + "\n")

    def facts(self, stage: str) -> dict[str, Any]:
        """What ``note`` has kept; empty before."""
        file = self.folder / stage / "facts.json"
        known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
        return known

    def log(self, stage: str, **numbers: Any) -> None:
        """A line of the stage's log, to be plotted."""
        with (self.place(stage) / "log.jsonl").open("a") as file:
            file.write(json.dumps(numbers) + "\n")
