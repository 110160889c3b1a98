"""How fast edits are: our settings beside a peer's, in one process, on one device and dtype."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from zerocon import api
from zerocon.bench.baselines import Pix2PixZero
from zerocon.bench.inputs import MethodResult, MethodSettings, SourceBatch, TaskSource
from zerocon.bench.tasks import choose
from zerocon.diagnostics.cost import operations
from zerocon.request import EditRequest
from zerocon.settings import FAST, Settings

if TYPE_CHECKING:
    from zerocon.model.stable_diffusion import StableDiffusion

PEER = "pix2pix-zero"  # what ratios are of
SIDE = {"cpu": 2048}  # of the matrices whose product tells a device's rate; else of a GPU
PRODUCTS = 10
RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # Linux
HIGHEST = re.compile(r"VmHWM:\s+(\d+) kB")

Run = Callable[
    [SourceBatch], tuple[float, float]
]  # to seconds and evaluations of the U-Net, a picture


@dataclass(frozen=True)
class Timing:
    """One contestant, a picture: median seconds, evaluations and operations of the U-Net.

    ``memory`` are bytes in use at the highest point, weights and all; None where none can tell.
    """

    name: str
    seconds: float
    evaluations: float
    operations: float
    memory: int | None


def race(
    model: StableDiffusion, steps: int, *, repeats: int = 1, together: int = 1
) -> Iterator[Timing]:
    """Time the contestants on ``together`` pictures at a time, each after a walk of two steps."""
    tasks = choose("validation", together)[:together]
    batch = SourceBatch([TaskSource(task, model, told=True) for task in tasks])
    each = operations(model, (model.size, model.size))
    short = contestants(model, 2)
    for name, run in contestants(model, steps).items():
        short[name](batch)  # what is done once is not timed: kernels chosen, memory taken
        highest = _highest(model.device)
        laps = [run(batch) for _ in range(repeats)]
        seconds, evaluations = median(lap[0] for lap in laps), laps[0][1]
        yield Timing(name, seconds, evaluations, evaluations * each, highest())


def as_markdown(laps: Sequence[Timing], best: float) -> str:
    """A table, with how many times as fast as the first one each is; ``best`` is ``rate``'s."""
    head = ("method", "seconds", "times as fast", "evaluations", "TFLOP", "of the rate", "GB")
    rows = [head, ("---",) * len(head)]
    for lap in laps:
        share = lap.operations / lap.seconds / best
        numbers = (
            f"{lap.seconds:.2f}", f"{laps[0].seconds / lap.seconds:.2f}",
            f"{lap.evaluations:.1f}", f"{lap.operations / 1e12:.3g}", f"{share:.0%}",
            "-" if lap.memory is None else f"{lap.memory / 1e9:.2f}",
        )  # fmt: skip
        rows.append((lap.name, *numbers))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def contestants(model: StableDiffusion, steps: int) -> Mapping[str, Run]:
    """By name; ``fast`` walks its own share of ``steps``."""
    usual = model.settings.overlay({"steps": steps})
    share = max(1, round(FAST["steps"] / Settings.steps * steps))
    quick = usual.overlay({**FAST, "steps": share})

    def ours(settings: Settings, kept: bool = False) -> Run:
        def run(batch: SourceBatch) -> tuple[float, float]:
            said = [_understood(source, settings) for source in batch.sources]
            captions = [source.caption for source in batch.sources]
            invert = api.invert_batch
            found = invert(batch.images, model, captions, settings=settings) if kept else None
            _wait(model.device)
            start, work = perf_counter(), (batch.images, said)
            made = api.edit_batch(*work, model=model, inversion=found, settings=settings)
            _wait(model.device)
            return (perf_counter() - start) / len(made), made[0].evaluations.total

        return run

    def peer(batch: SourceBatch) -> tuple[float, float]:
        made = Pix2PixZero(steps=steps)(batch, MethodSettings(model.settings))
        return sum(each.seconds for each in made) / len(made), made[0].evaluations

    return {
        PEER: peer,
        "default": ours(usual),
        "second edit": ours(usual, kept=True),
        "fast": ours(quick),
    }


def rate(model: StableDiffusion) -> float:
    """Floating-point operations a second of the device in the model's dtype: a matrix product."""
    side = SIDE.get(model.device.type, 8192)
    kind = {"dtype": model.unet.dtype, "device": model.device}
    a, b = torch.ones(side, side, **kind), torch.ones(side, side, **kind)
    a @ b
    _wait(model.device)
    start = perf_counter()
    for _ in range(PRODUCTS):
        a @ b
    _wait(model.device)
    return PRODUCTS * 2 * side**3 / (perf_counter() - start)


def _understood(source: TaskSource, settings: Settings) -> EditRequest:
    said = source.parse_request(settings)
    if isinstance(said, MethodResult):
        raise ValueError(f"the tool refuses a wish it is timed on: {said.target_caption}")
    return said


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _highest(device: torch.device) -> Callable[[], int | None]:
    """A function that says the most memory in use since now."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return lambda: torch.cuda.max_memory_allocated(device)
    try:
        RESET.write_text("5")  # forget the highest so far
    except OSError:
        return lambda: None

    def read() -> int | None:
        found = HIGHEST.search(STATUS.read_text())
        return int(found[1]) * 1024 if found else None

    return read
