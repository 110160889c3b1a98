"""Estimates: the cost of a batch, shared work counted once, and the batch size that fits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any

import torch

from zerocon.batch.executor import edited_size, shape
from zerocon.batch.job import Job
from zerocon.batch.translating import TranslationEstimate
from zerocon.cache import inversion_key
from zerocon.diagnostics import cost
from zerocon.diagnostics.cost import time_evaluation
from zerocon.editing import Plan
from zerocon.evaluation_count import Evaluations
from zerocon.image.transforms import Size
from zerocon.settings import Settings

LARGEST_BATCH, MEMORY_SHARE = 32, 0.8  # of an automatic batch size; the rest is for the device
UNREADABLE = (16, 16)  # for the size of an image that is not readable, or not with the crop


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


def estimate_cost(
    model: Any,
    jobs: Sequence[tuple[Job, Collection[str]]],
    translations: Sequence[tuple[Job, TranslationEstimate]] = (),
) -> BatchEstimate:
    """Estimate the cost of jobs on ``model``; times one evaluation per size.

    Args:
        model: A loaded model.
        jobs: Edits, each with its kinds of change.
        translations: Each with its own estimate.
    """
    total, seconds, inverted = Evaluations(), 0.0, set[tuple[object, ...]]()
    largest: dict[Settings, Size] = {}  # source image by settings

    @lru_cache
    def evaluations(settings: Settings, changes: frozenset[str], inverted: bool) -> Evaluations:
        about: Any = {"inverted": inverted, "changes": changes}
        watched = Plan.of(settings).cached_layers() if inverted else ()
        return cost.evaluations(model.schedule(settings.steps), settings, watched=watched, **about)

    @lru_cache
    def inversion(settings: Settings) -> tuple[object, ...]:
        return inversion_key(Plan.of(settings))

    @lru_cache
    def seconds_each(width: int, height: int) -> float:
        return time_evaluation(model, (width, height))

    for job, changes in jobs:
        settings, size = _settings_and_size(model, job)
        source = (job.image, job.prompt.get("caption"), inversion(settings))
        kind = replace(settings, seed=model.settings.seed)  # the seed does not change the cost
        each = evaluations(kind, frozenset(changes), source in inverted)
        inverted.add(source)
        total.forwards += each.forwards
        total.backwards += each.backwards
        seconds += each.total * seconds_each(*shape(size, model, settings))
        largest[kind] = max(largest.get(kind, size), size, key=lambda s: _pixels(s, model, kind))
    peaks = (cost.estimate_cost(model, kind, size).peak for kind, size in largest.items())
    peak = max((*peaks, *(counted.cost.peak for _, counted in translations)), default=0)
    for _, counted in translations:
        total, seconds = total + counted.cost.evaluations, seconds + counted.seconds
    images = {job.image for job, _ in (*jobs, *translations)}
    return BatchEstimate(len(images), total, seconds, peak)


def fitting_batch_size(model: Any, jobs: Iterable[Job]) -> int:
    """Return how many of the largest images of ``jobs`` fit into GPU memory; 1 on a CPU."""
    if model.device.type != "cuda":
        return 1
    settings, size = max(
        (_settings_and_size(model, job) for job in jobs if not job.exemplars),
        key=lambda each: _pixels(each[1], model, each[0]),
        default=(model.settings, UNREADABLE),
    )
    each = cost.estimate_cost(model, replace(model.settings, size=settings.size), size)
    free, _ = torch.cuda.mem_get_info(model.device)
    fitting = int(MEMORY_SHARE * free) // (each.cached + each.working)
    return max(1, min(LARGEST_BATCH, fitting))


def _settings_and_size(model: Any, job: Job) -> tuple[Settings, Size]:
    """Settings of a job, and size of the image or crop that it edits."""
    settings = model.settings.overlay(job.settings)
    return settings, edited_size(job.image, settings) or UNREADABLE


def _pixels(size: Size, model: Any, settings: Settings) -> int:
    """Pixels of an image of this size in the model."""
    return prod(shape(size, model, settings))
