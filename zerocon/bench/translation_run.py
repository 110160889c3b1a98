"""The benchmark of translation: methods on conditions and exemplars whose exact result is known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zerocon.bench.results import MethodRecord
from zerocon.bench.runner import ResumableRun, fingerprint, model_setup
from zerocon.bench.speed import peak_memory, wait
from zerocon.bench.translation_methods import pick
from zerocon.bench.translation_metrics import (
    FeatureEncoder,
    Pixels8,
    TranslationReference,
    warp_accuracy,
)
from zerocon.bench.translation_row import TranslationRow
from zerocon.bench.translation_tasks import TaskNumber, TranslationBatch, TranslationTask, draw
from zerocon.errors import ModelNotFoundError
from zerocon.image.contact_sheet import sheet
from zerocon.model.clip import ClipScorer

if TYPE_CHECKING:
    from zerocon.model.stable_diffusion import StableDiffusion
    from zerocon.tensor_types import Pixels

TranslationWork = Sequence[tuple[TaskNumber, list[str]]]


@dataclass(frozen=True)
class TranslationBenchmark(ResumableRun):
    """Several methods on the same tasks, measured in the same way.

    Attributes:
        model: The embedded model, with CLIP.
        methods: Names, with options, as ``translation_methods.pick`` reads them.
        samples: Random seeds (from 0) of methods that sample, each measured by itself.
        mean_of: Number of samples of the mean image.
        batch_size: Tasks translated as one batch: faster, and equal up to rounding.
    """

    model: StableDiffusion
    methods: tuple[str, ...]
    samples: int = 3
    mean_of: int = 8
    batch_size: int = 8

    def __post_init__(self) -> None:
        for name in self.methods:  # mistakes are reported before the work
            pick(name).recipe()

    @cached_property
    def setup(self) -> dict[str, str]:
        """What all rows of this run share, for ``MethodRecord``."""
        return {
            **model_setup(self.model),
            "features": fingerprint(self.encoder.network),
            "samples": str(self.samples),
            "mean_of": str(self.mean_of),
            "batch_size": str(self.batch_size),
        }

    @cached_property
    def encoder(self) -> FeatureEncoder:
        """Computes the features of the metrics."""
        if not isinstance(self.model.scorer, ClipScorer):
            raise ModelNotFoundError("the metrics need the model's CLIP, which it does not have")
        return FeatureEncoder(self.model.scorer)

    def recipe(self, name: str) -> MethodRecord:
        """The record of one method; raises ``MethodError`` for an unknown name."""
        return MethodRecord(self.setup, name, json.loads(json.dumps(pick(name).recipe())))

    def run(self, work: TranslationWork) -> Iterator[tuple[TranslationRow, Image.Image]]:
        """Translate and measure; yields the row and the first sample as soon as each is done.

        Consecutive tasks that need the same methods are translated in batches of ``batch_size``.
        """
        for names, group in groupby(work, lambda part: part[1]):
            numbers = [number for number, _ in group]
            for start in range(0, len(numbers), self.batch_size):
                tasks = [draw(number) for number in numbers[start : start + self.batch_size]]
                batch = TranslationBatch(tasks, self.model)
                references = [_reference(task, self.encoder) for task in batch.tasks]
                for name in names:
                    yield from self._rows(batch, references, name)

    def _rows(
        self, batch: TranslationBatch, references: Sequence[TranslationReference], name: str
    ) -> Iterator[tuple[TranslationRow, Image.Image]]:
        method, record, device = pick(name), self.recipe(name), self.model.device
        seeds = range(max(self.samples, self.mean_of)) if method.sampled else range(1)
        peak, start = peak_memory(device), perf_counter()
        results = [method(batch, seed) for seed in seeds]
        wait(device)
        seconds, memory = (perf_counter() - start) / len(seeds) / len(batch), peak()
        images = [to_samples(result.pixels) for result in results]
        means = None
        if method.sampled:
            mean = torch.stack([result.pixels for result in results[: self.mean_of]]).mean(0)
            means = to_samples(mean)
        for i, (task, reference) in enumerate(zip(batch.tasks, references, strict=True)):
            row = TranslationRow(
                method=name,
                recipe=record.hash,
                seed=task.seed,
                kind=task.kind,
                samples=tuple(reference.measure(each[i]) for each in images[: self.samples]),
                mean_image=None if means is None else reference.measure(means[i]),
                warp_accuracy=_warp_accuracy(batch, results[0].warped_classes, i),
                target_embedding=reference.target_embedding,
                evaluations=results[0].evaluations,
                seconds=round(seconds, 4),
                memory=memory,
                settings=record.settings,
                setup=record.setup,
            )
            yield row, Image.fromarray(images[0][i])


def to_samples(pixels: Pixels) -> Pixels8:
    """Images in -1..1 as 8-bit samples, (batch, height, width, 3)."""
    values = ((pixels.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return np.asarray(values.permute(0, 2, 3, 1).byte().cpu())


def page(
    numbers: Sequence[TaskNumber],
    methods: Sequence[str],
    results: Iterable[tuple[TranslationRow, Image.Image]],
) -> Image.Image:
    """A contact sheet with a line for each task: condition, exemplar, target and all results."""
    images: list[Image.Image | None] = []
    labels: list[str] = []
    by_task = {(row.seed, row.method): (row, image) for row, image in results}
    for task in map(draw, numbers):
        inputs = {f"{task.kind} {task.seed}": task.condition, "exemplar": task.exemplar}
        for name, samples in {**inputs, "target": task.target}.items():
            images.append(Image.fromarray(samples))
            labels.append(name)
        for method in methods:
            row, image = by_task[task.seed, method]
            images.append(image)
            labels.append(f"{method} {row.samples[0].psnr:.1f} dB")
    return sheet(images, labels, 3 + len(methods), gap=4)


def _reference(task: TranslationTask, encoder: FeatureEncoder) -> TranslationReference:
    return TranslationReference(
        task.target, task.exemplar, task.edges, task.classes, task.exemplar_classes, encoder
    )


def _warp_accuracy(batch: TranslationBatch, warped: Tensor | None, number: int) -> float | None:
    if warped is None:
        return None
    task, brought = batch.tasks[number], warped[number].cpu().numpy()
    return warp_accuracy(brought, task.classes, task.exemplar_classes, batch.grid)
