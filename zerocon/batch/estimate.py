"""What many edits will cost, what they share counted once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from time import perf_counter
from typing import Any

import torch

from zerocon.batch.executor import path_of, shape_of
from zerocon.batch.job import Job
from zerocon.diagnostics import cost
from zerocon.editing import Plan
from zerocon.nfe import Evaluations
from zerocon.settings import Settings


@dataclass(frozen=True)
class BatchEstimate:
    """Of a run: pictures, U-Net evaluations, seconds on this machine, bytes at the highest point.

    Seconds are those evaluations times one that was timed at each size: without captions, reading
    and writing, and with what a batch saves left out.
    """

    images: int
    evaluations: Evaluations
    seconds: float
    peak: int


def estimate_cost(model: Any, jobs: Sequence[Job]) -> BatchEstimate:
    """What ``jobs`` will cost on ``model``, one after the other."""
    total, seconds, largest = Evaluations(), 0.0, (1, 1)
    kinds, known = set[Settings](), set[tuple[object, ...]]()

    @lru_cache
    def evaluations(settings: Settings, inverted: bool) -> Evaluations:
        watched = Plan.of(settings).layer_patterns if inverted else ()
        return cost.evaluations(
            model.schedule(settings.steps), settings, inverted=inverted, watched=watched
        )

    @lru_cache
    def pace(width: int, height: int) -> float:
        return seconds_of(model, (width, height))

    for job in jobs:
        settings = model.settings.overlay(job.settings)
        path = (job.image, job.words.get("caption"), *path_of(settings))
        kind = replace(settings, seed=model.settings.seed)  # chance costs nothing
        kinds.add(kind)
        each = evaluations(kind, path in known)
        known.add(path)
        total.forwards += each.forwards
        total.backwards += each.backwards
        width, height = map(int, (shape_of(job.image, model) or "16x16").split("x"))
        seconds += each.total * pace(width, height)
        largest = max(largest, (width, height), key=lambda size: size[0] * size[1])
    peak = max((cost.estimate_cost(model, kind, largest).peak for kind in kinds), default=0)
    return BatchEstimate(len({job.image for job in jobs}), total, seconds, peak)


@torch.no_grad()
def seconds_of(model: Any, size: tuple[int, int]) -> float:
    """Seconds of one evaluation on a picture of ``size`` (width, height), the second of two."""
    width, height = size
    x = model.encode(torch.zeros(1, 3, height, width))
    c, t = model.embed([""]), model.schedule(2).times[1]
    model.eps(x, t, c)
    start = perf_counter()
    model.eps(x, t, c)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return perf_counter() - start
