"""Speed: zerocon's presets and a baseline in one process, on one device and dtype."""

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

BASELINE = "pix2pix-zero"  # the method that ratios refer to
SIDE = {"cpu": 2048}  # of the matrices whose product measures the device's throughput
PRODUCTS = 10
RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # Linux
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")

Run = Callable[[SourceBatch], tuple[float, float]]  # seconds and U-Net evaluations per image


@dataclass(frozen=True)
class Timing:
    """Cost of one method per image.

    Attributes:
        seconds: Median over the repetitions.
        evaluations: U-Net evaluations (NFE).
        operations: Floating-point operations of the U-Net.
        memory: Peak bytes in use, weights included; None where they cannot be measured.
    """

    name: str
    seconds: float
    evaluations: float
    operations: float
    memory: int | None


def race(
    model: StableDiffusion, steps: int, *, repeats: int = 1, together: int = 1
) -> Iterator[Timing]:
    """Time every method on ``together`` images as one batch, each after a warm-up of two steps."""
    tasks = choose("validation", together)[:together]
    batch = SourceBatch([TaskSource(task, model, true_captions=True) for task in tasks])
    per_evaluation = operations(model, (model.size, model.size))
    warmups = methods(model, 2)
    for name, run in methods(model, steps).items():
        warmups[name](batch)  # kernels are chosen and memory is allocated before the timing
        peak = _peak_memory(model.device)
        laps = [run(batch) for _ in range(repeats)]
        seconds, evaluations = median(lap[0] for lap in laps), laps[0][1]
        yield Timing(name, seconds, evaluations, evaluations * per_evaluation, peak())


def as_markdown(laps: Sequence[Timing], best: float) -> str:
    """A table with the speedup over the first method; ``best`` is the device's ``rate``."""
    head = ("method", "seconds", "speedup", "evaluations", "TFLOP", "of peak rate", "GB")
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


def methods(model: StableDiffusion, steps: int) -> Mapping[str, Run]:
    """The timed methods by name; ``fast`` takes its usual share of ``steps``."""
    usual = model.settings.overlay({"steps": steps})
    share = max(1, round(FAST["steps"] / Settings.steps * steps))
    fast = usual.overlay({**FAST, "steps": share})

    def baseline(batch: SourceBatch) -> tuple[float, float]:
        results = Pix2PixZero(steps=steps)(batch, MethodSettings(model.settings))
        return sum(each.seconds for each in results) / len(results), results[0].evaluations

    return {
        BASELINE: baseline,
        "default": _timed_edit(model, usual),
        "second edit": _timed_edit(model, usual, inverted=True),
        "fast": _timed_edit(model, fast),
    }


def _timed_edit(model: StableDiffusion, settings: Settings, *, inverted: bool = False) -> Run:
    """Edit a batch; with ``inverted``, from an inversion that is not timed."""

    def run(batch: SourceBatch) -> tuple[float, float]:
        requests = [_parse(source, settings) for source in batch.sources]
        captions = [source.caption for source in batch.sources]
        invert = api.invert_batch
        inversion = invert(batch.images, model, captions, settings=settings) if inverted else None
        _wait(model.device)
        start = perf_counter()
        edits = api.edit_batch(
            batch.images, requests, model=model, inversion=inversion, settings=settings
        )
        _wait(model.device)
        return (perf_counter() - start) / len(edits), edits[0].evaluations.total

    return run


def rate(model: StableDiffusion) -> float:
    """Floating-point operations per second of a matrix product, on the model's device and dtype."""
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


def _parse(source: TaskSource, settings: Settings) -> EditRequest:
    request = source.parse_request(settings)
    if isinstance(request, MethodResult):
        raise ValueError(f"a prompt of the speed test was refused: {request.target_caption}")
    return request


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _peak_memory(device: torch.device) -> Callable[[], int | None]:
    """Reset the peak memory; the returned function reads it in bytes, None where impossible."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return lambda: torch.cuda.max_memory_allocated(device)
    try:
        RESET.write_text("5")  # resets the peak
    except OSError:
        return lambda: None

    def read() -> int | None:
        match = PEAK.search(STATUS.read_text())
        return int(match[1]) * 1024 if match else None

    return read
