"""Events of a batch: frozen records that ``zerocon.batch.run`` passes to ``on_event``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from zerocon.batch.job import Job
from zerocon.errors import ZeroconError
from zerocon.evaluation_count import Evaluations


@dataclass(frozen=True)
class BatchStarted:
    """The jobs are in the journal and work begins.

    Args:
        output: The output directory.
        total: Number of jobs.
        skipped: Jobs that are done already.
        failed: Jobs that failed in an earlier run and are not retried.
        unchanged: Jobs whose images were as the prompt describes in an earlier run.
        ignored: Files in the input directories that are no images by their endings.
    """

    output: Path
    total: int
    skipped: int
    failed: int
    unchanged: int = 0
    ignored: tuple[Path, ...] = ()

    def __str__(self) -> str:
        text = f"{self.skipped} of {self.total} are done already"
        text += f", {self.unchanged} were unchanged" if self.unchanged else ""
        return text + (f", {self.failed} failed before" if self.failed else "")


@dataclass(frozen=True)
class JobDone:
    """A result is in place.

    Args:
        job: The job.
        output: File of the result.
        finished: Jobs that are done, unchanged or failed so far, earlier runs included.
        total: Number of jobs.
        failures: Jobs that failed so far, earlier runs included.
        caption: Source caption.
        target_caption: Target caption.
        evaluations: U-Net evaluations of this job; None if another process edited the image.
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
        return f"[{self.finished}/{self.total}] {self.text}"

    @property
    def text(self) -> str:
        """``NAME: "a cat" -> "a dog"``; one caption where a direction alone changes the image."""
        captions = dict.fromkeys(text for text in (self.caption, self.target_caption) if text)
        texts = " -> ".join(f'"{text}"' for text in captions)
        return f"{self.job.name}{texts and f': {texts}'}"


@dataclass(frozen=True)
class JobUnchanged:
    """An image is as the prompt describes it already, so there is nothing to edit.

    Args:
        job: The job.
        output: File of the copy, or that was not written.
        reason: Why nothing would change; it ends in an error id.
        finished: Jobs that are done, unchanged or failed so far, earlier runs included.
        total: Number of jobs.
        failures: Jobs that failed so far, earlier runs included.
        caption: Source caption.
        copied: Whether the source image was copied to ``output``.
        warnings: Messages about the copy.
    """

    job: Job
    output: Path
    reason: str
    finished: int
    total: int
    failures: int
    caption: str | None = None
    copied: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The error id of ``reason``."""
        return id_of(self.reason)

    @property
    def text(self) -> str:
        """``NAME: unchanged: "a dog": REASON``"""
        state = "unchanged, source copied" if self.copied else "unchanged"
        return f'{self.job.name}: {state}: "{self.caption}": {self.reason}'

    def __str__(self) -> str:
        return f"[{self.finished}/{self.total}] {self.text}"


@dataclass(frozen=True)
class JobFailed:
    """A job failed; the others go on.

    Args:
        job: The job.
        output: File that was not written.
        reason: Error message, which ends in an error id.
        finished: Jobs that are done, unchanged or failed so far, earlier runs included.
        total: Number of jobs.
        failures: Jobs that failed so far, earlier runs included.
        caption: Source caption; None if the image could not be read.
    """

    job: Job
    output: Path
    reason: str
    finished: int
    total: int
    failures: int
    caption: str | None = None

    @property
    def id(self) -> str:
        """The error id of ``reason``."""
        return id_of(self.reason)

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
    """A job of the run that failed, now or in an earlier run.

    Args:
        job: The job.
        output: File that was not written.
        reason: Error message, which ends in an error id.
        caption: Source caption; None if the image could not be read.
    """

    job: Job
    output: Path
    reason: str
    caption: str | None = None

    @property
    def id(self) -> str:
        """The error id of ``reason``."""
        return id_of(self.reason)


@dataclass(frozen=True)
class JobWarnings:
    """A job of the run that is done or unchanged, and the messages about its result."""

    job: Job
    output: Path
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class WrittenSheet:
    """A review sheet: its file, how many edits it shows, and how many it has no room for."""

    file: Path
    shown: int
    left_out: int


@dataclass(frozen=True)
class BatchSummary:
    """The result of a run; also its last event.

    Args:
        output: The output directory.
        total: Number of jobs.
        done: Jobs whose result is in place, earlier runs included.
        skipped: Jobs that were done before this run.
        failures: Failed jobs, earlier runs included.
        unchanged: Jobs whose images are as the prompt describes already, earlier runs included.
        copied: How many of these have a copy of the source image as their result.
        warnings: Jobs with warnings, earlier runs included.
        sheet: The review sheet, if one was written.
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
    unchanged: int = 0
    copied: int = 0
    warnings: tuple[JobWarnings, ...] = ()
    sheet: WrittenSheet | None = None

    @property
    def failed(self) -> int:
        """Number of failed jobs."""
        return len(self.failures)

    @property
    def left(self) -> int:
        """Number of jobs neither done, unchanged nor failed."""
        return self.total - self.done - self.unchanged - self.failed

    @property
    def complete(self) -> bool:
        """Whether every job is done or unchanged: exit status 0 of the command, else 1."""
        return self.done + self.unchanged == self.total

    def __str__(self) -> str:
        unchanged = f", {self.unchanged} unchanged" if self.unchanged else ""
        counts = f"{self.done} of {self.total} done{unchanged}, {self.failed} failed"
        return f"{counts}, in {self.output}"


BatchEvent = (
    BatchStarted
    | JobDone
    | JobUnchanged
    | JobFailed
    | BatchWarning
    | BatchInterrupted
    | BatchSummary
)


def id_of(reason: str) -> str:
    """The error id at the end of a reason; that of unspecific errors if there is none."""
    match = re.search(r"\[(ZC-E\d+)\]$", reason)
    return match[1] if match else ZeroconError.id
