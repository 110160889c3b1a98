"""Estimates: the cost of a batch, shared work counted once, and the batch size that fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from time import perf_counter
from typing import Any

import torch

from zerocon.batch.executor import inversion_key, shape_of
from zerocon.batch.job import Job
from zerocon.diagnostics import cost
from zerocon.editing import Plan
from zerocon.evaluation_count import Evaluations
from zerocon.settings import Settings

LARGEST_BATCH, MEMORY_SHARE = 32, 0.8  # of an automatic batch size; the rest is for the device
SMALLEST = "16x16"  # size of an image that cannot be edited: not readable, or not with the crop


@dataclass(frozen=True)
class BatchEstimate:
    """Cost of a batch, one image at a time.

    Args:
        images: Number of images.
        evaluations: U-Net evaluations; with ``crop="auto"`` those of the whole images alone.
        seconds: The evaluations times one that was timed at each size on this machine; without
            captioning, reading and writing.
        peak: Largest memory in bytes.
    """

    images: int
    evaluations: Evaluations
    seconds: float
    peak: int


def estimate_cost(model: Any, jobs: Sequence[Job]) -> BatchEstimate:
    """Estimate the cost of ``jobs`` on ``model``; times one evaluation per size."""
    total, seconds, largest = Evaluations(), 0.0, (1, 1)
    kinds, inverted = set[Settings](), set[tuple[object, ...]]()

    @lru_cache
    def evaluations(settings: Settings, inverted: bool) -> Evaluations:
        watched = Plan.of(settings).layer_patterns if inverted else ()
        return cost.evaluations(
            model.schedule(settings.steps), settings, inverted=inverted, watched=watched
        )

    @lru_cache
    def seconds_each(width: int, height: int) -> float:
        return time_evaluation(model, (width, height))

    for job in jobs:
        settings = model.settings.overlay(job.settings)
        inversion = (job.image, job.prompt.get("caption"), *inversion_key(settings))
        kind = replace(settings, seed=model.settings.seed)  # the seed does not change the cost
        kinds.add(kind)
        each = evaluations(kind, inversion in inverted)
        inverted.add(inversion)
        total.forwards += each.forwards
        total.backwards += each.backwards
        width, height = map(int, (shape_of(job.image, model, settings) or SMALLEST).split("x"))
        seconds += each.total * seconds_each(width, height)
        largest = max(largest, (width, height), key=lambda size: size[0] * size[1])
    peak = max((cost.estimate_cost(model, kind, largest).peak for kind in kinds), default=0)
    return BatchEstimate(len({job.image for job in jobs}), total, seconds, peak)


def fitting_batch_size(model: Any) -> int:
    """Return how many images of the model's size fit into GPU memory together; 1 on a CPU."""
    if model.device.type != "cuda":
        return 1
    each = cost.estimate_cost(model, model.settings, (model.size, model.size))
    free, _ = torch.cuda.mem_get_info(model.device)
    fitting = int(MEMORY_SHARE * free) // (each.cached + each.working)
    return max(1, min(LARGEST_BATCH, fitting))


@torch.no_grad()
def time_evaluation(model: Any, size: tuple[int, int]) -> float:
    """Return the seconds of one evaluation at ``size`` (width, height): the second of two."""
    width, height = size
    x = model.encode(torch.zeros(1, 3, height, width))
    c, t = model.embed([""]), model.schedule(2).times[1]
    model.eps(x, t, c)
    start = perf_counter()
    model.eps(x, t, c)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return perf_counter() - start
