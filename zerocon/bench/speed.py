"""Speed: zerocon's presets and a baseline in one process, on one device and dtype."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from zerocon.settings import FAST, PAPER, Settings

if TYPE_CHECKING:
    from zerocon.model.stable_diffusion import StableDiffusion

BASELINE = "pix2pix-zero"  # the method that ratios refer to
# Side of the matrices whose product measures the device's throughput, and number of products.
PRODUCT = {"cpu": (1024, 6)}
LARGE_PRODUCT = (8192, 100)
RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # Linux
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")

Lap = tuple[float, float]  # seconds and U-Net evaluations per image
Run = Callable[[SourceBatch], Lap]
Baseline = Callable[[SourceBatch, MethodSettings], Sequence[MethodResult]]


@dataclass(frozen=True)
class Timing:
    """Cost of one method per image.

    Attributes:
        seconds: Median over the repetitions.
        evaluations: U-Net evaluations (NFE).
        operations: Floating-point operations of the U-Net.
        memory: Peak bytes in use, weights included; None where they cannot be measured.
        warm_up: Seconds of the run before the timing, in which kernels are chosen or compiled.
    """

    name: str
    seconds: float
    evaluations: float
    operations: float
    memory: int | None
    warm_up: float = 0.0


def race(
    model: StableDiffusion, steps: int, *, repeats: int = 1, together: int = 1
) -> Iterator[Timing]:
    """Time every method on ``together`` images as one batch, each after a warm-up of two steps."""
    batch, per_evaluation = sources(model, together), operations(model, (model.size, model.size))
    warm_ups = methods(model, 2)
    for name, run in methods(model, steps).items():
        yield measure(
            name, partial(run, batch), per_evaluation, model.device,
            repeats=repeats, warm_up=partial(warm_ups[name], batch),
        )  # fmt: skip


def sources(model: StableDiffusion, count: int) -> SourceBatch:
    """So many scenes with their true captions, which are edited as one batch."""
    tasks = choose("validation", count)[:count]
    return SourceBatch([TaskSource(task, model, true_captions=True) for task in tasks])


def measure(
    name: str,
    run: Callable[[], Lap],
    per_evaluation: float,
    device: torch.device,
    *,
    warm_up: Callable[[], Lap] | None = None,
    repeats: int = 1,
) -> Timing:
    """Time ``run`` after a ``warm_up``, in which kernels are chosen and memory is allocated.

    Args:
        name: Of the method.
        run: Runs it once, and returns seconds and evaluations per image.
        per_evaluation: Floating-point operations of one U-Net evaluation.
        device: Where it runs.
        warm_up: Run once before, if given.
        repeats: Number of timed runs.
    """
    start = perf_counter()
    if warm_up:
        warm_up()
    before = perf_counter() - start
    peak = peak_memory(device)
    laps = [run() for _ in range(repeats)]
    seconds, evaluations = median(lap[0] for lap in laps), laps[0][1]
    return Timing(name, seconds, evaluations, evaluations * per_evaluation, peak(), before)


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
    """The timed methods by name: pix2pix-zero in ``steps`` steps, the others in their share.

    The share is that of the model's own number of steps in pix2pix-zero's 50.
    """
    share = max(1, round(model.settings.steps / PAPER["steps"] * steps))
    usual = model.settings.overlay({"steps": share})
    fast = usual.overlay(FAST)

    return {
        BASELINE: timed_baseline(model, Pix2PixZero(steps=steps)),
        "default": timed_edit(model, usual),
        "second edit": timed_edit(model, usual, inverted=True),
        "fast": timed_edit(model, fast),
    }


def timed_baseline(model: StableDiffusion, method: Baseline) -> Run:
    """Edit a batch with a pipeline, which measures its seconds and evaluations itself."""

    def run(batch: SourceBatch) -> Lap:
        results = method(batch, MethodSettings(model.settings))
        return sum(each.seconds for each in results) / len(results), results[0].evaluations

    return run


def timed_edit(model: StableDiffusion, settings: Settings, *, inverted: bool = False) -> Run:
    """Edit a batch; with ``inverted``, from an inversion that is not timed."""

    def run(batch: SourceBatch) -> Lap:
        requests = [_parse(source, settings) for source in batch.sources]
        captions = [source.caption for source in batch.sources]
        invert = api.invert_batch
        inversion = invert(batch.images, model, captions, settings=settings) if inverted else None
        wait(model.device)
        start = perf_counter()
        edits = api.edit_batch(
            batch.images, requests, model=model, inversion=inversion, settings=settings
        )
        wait(model.device)
        return (perf_counter() - start) / len(edits), edits[0].evaluations.total

    return run


def rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a product of large matrices of random numbers."""
    side, products = PRODUCT.get(device.type, LARGE_PRODUCT)
    a, b = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    for timed in (False, True):
        wait(device)
        start = perf_counter()
        for _ in range(products if timed else products // 3):
            a @ b
        wait(device)
    return products * 2 * side**3 / (perf_counter() - start)


def _parse(source: TaskSource, settings: Settings) -> EditRequest:
    request = source.parse_request(settings)
    if isinstance(request, MethodResult):
        raise ValueError(f"a prompt of the speed test was refused: {request.target_caption}")
    return request


def wait(device: torch.device) -> None:
    """Return when all work of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory(device: torch.device) -> Callable[[], int | None]:
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
