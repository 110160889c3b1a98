"""Events of a batch: frozen records that ``zerocon.batch.run`` passes to ``on_event``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zerocon.batch.job import Job
from zerocon.evaluation_count import Evaluations


@dataclass(frozen=True)
class BatchStarted:
    """The jobs are in the journal and work begins.

    Args:
        output: The output directory.
        total: Number of jobs.
        skipped: Jobs that are done already.
        failed: Jobs that failed in an earlier run and are not retried.
    """

    output: Path
    total: int
    skipped: int
    failed: int

    def __str__(self) -> str:
        before = f", {self.failed} failed before" if self.failed else ""
        return f"{self.skipped} of {self.total} are done already{before}"


@dataclass(frozen=True)
class JobDone:
    """A result is in place.

    Args:
        job: The job.
        output: File of the result.
        finished: Jobs that are done or failed so far, earlier runs included.
        total: Number of jobs.
        failures: Jobs that failed so far, earlier runs included.
        caption: Source caption.
        target_caption: Target caption.
        evaluations: U-Net evaluations of this job; None, as the captions, if another process
            edited the image.
        warnings: Messages about the result.
    """

    job: Job
    output: Path
    finished: int
    total: int
    failures: int
    caption: str | None = None
    target_caption: str | None = None
    evaluations: Evaluations | None = None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"[{self.finished}/{self.total}] {self.job.name}"


@dataclass(frozen=True)
class JobFailed:
    """A job failed; the others go on.

    Args:
        job: The job.
        output: File that was not written.
        reason: Error message, which ends in an error id.
        finished: Jobs that are done or failed so far, earlier runs included.
        total: Number of jobs.
        failures: Jobs that failed so far, earlier runs included.
    """

    job: Job
    output: Path
    reason: str
    finished: int
    total: int
    failures: int

    def __str__(self) -> str:
        return f"[{self.finished}/{self.total}] {self.job.name}: {self.reason}"


@dataclass(frozen=True)
class BatchWarning:
    """A warning that concerns no single job, as of a cache that cannot be written."""

    message: str

    def __str__(self) -> str:
        return f"Warning: {self.message}"


@dataclass(frozen=True)
class BatchInterrupted:
    """``KeyboardInterrupt`` stopped the run; the same call resumes it."""

    done: int
    total: int

    def __str__(self) -> str:
        return f"{self.done} of {self.total} are done; the same command continues"


@dataclass(frozen=True)
class JobFailure:
    """A job of the run that failed, now or in an earlier run, and the error message."""

    job: Job
    output: Path
    reason: str


@dataclass(frozen=True)
class BatchSummary:
    """The result of a run; also its last event.

    Args:
        output: The output directory.
        total: Number of jobs.
        done: Jobs whose result is in place, earlier runs included.
        skipped: Jobs that were done before this run.
        failures: Failed jobs, earlier runs included.
        edited: Images edited by this process.
        evaluations: U-Net evaluations of this process, in forward passes per image.
        seconds: Duration of the run.
    """

    output: Path
    total: int
    done: int
    skipped: int
    failures: tuple[JobFailure, ...]
    edited: int
    evaluations: float
    seconds: float

    @property
    def failed(self) -> int:
        """Number of failed jobs."""
        return len(self.failures)

    @property
    def left(self) -> int:
        """Number of jobs neither done nor failed."""
        return self.total - self.done - self.failed

    @property
    def complete(self) -> bool:
        """Whether every job is done: exit status 0 of the command, else 1."""
        return self.done == self.total

    def __str__(self) -> str:
        return f"{self.done} of {self.total} done, {self.failed} failed, in {self.output}"


BatchEvent = BatchStarted | JobDone | JobFailed | BatchWarning | BatchInterrupted | BatchSummary
