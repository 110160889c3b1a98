"""The rows of ``zerocon bench translate``: what was measured of one method and task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from zerocon.bench.results import RowFormat, parse_fields
from zerocon.bench.translation_metrics import TranslationMetrics


@dataclass(frozen=True)
class TranslationRow:
    """The results of one method for one condition and exemplar.

    Attributes:
        recipe: Hash of the ``MethodRecord``.
        seed: Of the task.
        kind: Of the condition.
        samples: Metrics of the result of every sampling seed, one for a method without sampling.
        mean_image: Metrics of the mean image of several samples; None without sampling.
        warp_accuracy: Share of tokens to which the correspondence brings their own class, see
            ``translation_metrics.warp_accuracy``; None for methods without correspondence.
        target_embedding: CLIP's embedding of the target.
        evaluations: U-Net evaluations (NFE) of one image.
        seconds: Time of one image: its share of the batch.
        memory: Peak bytes in use, weights included; None where they cannot be measured.
    """

    method: str
    recipe: str
    seed: int
    kind: str
    samples: tuple[TranslationMetrics, ...]
    mean_image: TranslationMetrics | None
    warp_accuracy: float | None
    target_embedding: tuple[float, ...]
    evaluations: float
    seconds: float
    memory: int | None
    settings: dict[str, Any]
    setup: dict[str, str]


def _parse(values: Any) -> TranslationRow:
    row = parse_fields(values, TranslationRow)
    return replace(
        row,
        samples=tuple(_parse_metrics(each) for each in row.samples),
        mean_image=None if row.mean_image is None else _parse_metrics(row.mean_image),
        target_embedding=tuple(row.target_embedding),
    )


def _parse_metrics(values: Any) -> TranslationMetrics:
    metrics = parse_fields(values, TranslationMetrics)
    return replace(metrics, embedding=tuple(metrics.embedding))


TRANSLATIONS = RowFormat("zerocon.bench.translation-row/1", _parse)
