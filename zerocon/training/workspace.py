"""The workspace of a training: directory, device and time limit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerocon.storage.atomic import writing

if TYPE_CHECKING:  # the processes that draw scenes do not need torch
    import torch


@dataclass(frozen=True)
class Workspace:
    """The argument of every stage; ``minutes`` limits the time of each stage, None does not."""

    folder: Path
    device: str = "cpu"
    minutes: float | None = None
    workers: int = 1  # processes that draw scenes
    say: Callable[[str], None] = print
    began: float = field(default_factory=time.monotonic)

    def place(self, stage: str) -> Path:
        """The directory of a stage, created if needed."""
        folder = self.folder / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def spent(self) -> float:
        """Share of the time limit that has passed, 0 without a limit."""
        return (time.monotonic() - self.began) / 60 / self.minutes if self.minutes else 0.0

    def autocast(self) -> torch.autocast:
        """bfloat16 autocast where the hardware multiplies bfloat16; elsewhere it is slower."""
        import torch

        if self.device.startswith("cuda"):
            return torch.autocast("cuda", torch.bfloat16)
        capabilities = torch.cpu.get_capabilities()
        enabled = bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
        return torch.autocast("cpu", torch.bfloat16, enabled=enabled)

    def note(self, stage: str, **facts: Any) -> None:
        """Save facts about the result of a stage, for later stages and the model card."""
        merged = self.facts(stage) | facts
        with writing(self.place(stage) / "facts.json", overwrite=True) as file:
            file.write_text(json.dumps(merged, indent=1) + "\n")

    def facts(self, stage: str) -> dict[str, Any]:
        """The facts that ``note`` has saved."""
        file = self.folder / stage / "facts.json"
        facts: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
        return facts

    def log(self, stage: str, **numbers: Any) -> None:
        """Append a line to the log of a stage."""
        with (self.place(stage) / "log.jsonl").open("a") as file:
            file.write(json.dumps(numbers) + "\n")
