"""What a batch would do: every job's prompt as it is understood, and the cost of the edits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zerocon.batch.estimate import BatchEstimate
from zerocon.batch.events import id_of
from zerocon.batch.executor import BatchExecutor, NoResult, PreparedJob, SourceImage, reason
from zerocon.batch.job import Job
from zerocon.batch.journal import Outcome
from zerocon.batch.translating import PreparedTranslation, TranslationEstimate
from zerocon.errors import NothingToChangeError
from zerocon.image.read_options import ReadOptions
from zerocon.prompt import Change

PlanState = Literal["todo", "refused", "unchanged", "done", "failed"]


@dataclass(frozen=True)
class PlannedJob:
    """What a run would do with one job.

    Args:
        job: The job.
        output: File of its result.
        state: "todo": the image is edited; "refused": the job fails; "unchanged": the image is as
            the prompt describes it already; "done" and "failed": in an earlier run, and not again.
        reason: Why it is refused, unchanged or failed; it ends in an error id.
        caption: Source caption; None if the image could not be read.
        target_caption: Target caption, where there is one.
        changes: What changes between the captions, if it is to do.
        warnings: What is doubtful, one line each.
        translation: Cost of a translation that is to do; None for an edit.
    """

    job: Job
    output: Path
    state: PlanState
    reason: str | None = None
    caption: str | None = None
    target_caption: str | None = None
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    translation: TranslationEstimate | None = None

    @property
    def id(self) -> str | None:
        """The error id of ``reason``."""
        return None if self.reason is None else id_of(self.reason)


@dataclass(frozen=True)
class BatchPlan:
    """What a batch would do, and its estimated cost; nothing is written.

    Args:
        output: The output directory.
        edits: All jobs, each with how its prompt is understood.
        estimate: Cost of those to do.
    """

    output: Path
    edits: tuple[PlannedJob, ...]
    estimate: BatchEstimate

    @property
    def total(self) -> int:
        """Number of jobs."""
        return len(self.edits)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Those that would be edited."""
        return tuple(each.job for each in self.edits if each.state == "todo")

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of results that are done already."""
        return tuple(str(each.job.name) for each in self.edits if each.state == "done")

    def count(self, state: PlanState) -> int:
        """How many jobs have this state."""
        return sum(each.state == state for each in self.edits)


def plan_jobs(
    jobs: Sequence[Job],
    ended: Mapping[str, Outcome],
    executor: BatchExecutor,
    output: Path,
    *,
    reading: ReadOptions,
    progress: Callable[[int, int], object],
) -> Iterator[PlannedJob]:
    """Read the images and parse the prompts of ``jobs``; nothing is inverted.

    Args:
        jobs: All jobs of the batch, those of one image in a row so that it is read once.
        ended: How jobs ended in an earlier run and do not run again, by the names of their results.
        executor: Captions the images and parses the prompts.
        output: The output directory.
        reading: How the images are read.
        progress: Called after every job with the number of planned jobs and of all.
    """
    image, source = None, None
    for number, job in enumerate(jobs, 1):
        outcome, path = ended.get(str(job.name)), output / job.name
        if outcome is not None:
            texts = (outcome.reason, outcome.caption, outcome.target_caption)
            yield PlannedJob(job, path, outcome.state, *texts, warnings=outcome.warnings)
        else:
            if source is None or job.image != image:
                image = job.image
                source = SourceImage.read(image, reading)
            (prepared,) = executor.prepare([(job, source)])
            if isinstance(prepared, PreparedTranslation):
                prepared = executor.translate.checked(prepared)
            yield _planned(job, path, prepared)
        progress(number, len(jobs))


def _planned(
    job: Job, output: Path, prepared: PreparedJob | PreparedTranslation | NoResult
) -> PlannedJob:
    if isinstance(prepared, NoResult):
        same = isinstance(prepared.error, NothingToChangeError)
        state: PlanState = "unchanged" if same else "refused"
        return PlannedJob(job, output, state, reason(prepared.error), prepared.caption)
    if isinstance(prepared, PreparedTranslation):
        facts: Any = {"warnings": prepared.warnings, "translation": prepared.estimate}
        return PlannedJob(job, output, "todo", None, *prepared.texts, **facts)
    request = prepared.request
    texts = (None, request.caption, request.target_caption, request.changes)
    return PlannedJob(job, output, "todo", *texts, prepared.warnings)
