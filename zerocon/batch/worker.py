"""A worker: claims jobs from a journal until none is left; reads and writes in threads."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep
from typing import Protocol

from zerocon.batch.commit import put, recover
from zerocon.batch.executor import COMMON, ExecutedJob, NoResult, SourceImage, reason
from zerocon.batch.job import Job
from zerocon.batch.journal import JobRecord, Journal, Outcome
from zerocon.batch.parameters import RunParameters
from zerocon.errors import NothingToChangeError, NotWritableError, classify
from zerocon.image import MEGAPIXELS
from zerocon.image.formats import format_of
from zerocon.image.reading import Photograph, contents
from zerocon.image.writing import copied_file

PAUSE = 0.2  # seconds between checks of what other workers do
FATAL = (*COMMON, NotWritableError)  # no job can be finished after one of these

Claimed = list[tuple[JobRecord, Future[SourceImage]]]  # jobs, and their images being read


class JobExecutor(Protocol):
    """Executes jobs: a ``BatchExecutor``, or a function that calls one in another process."""

    def __call__(self, jobs: Sequence[tuple[Job, SourceImage]]) -> list[ExecutedJob | NoResult]: ...


@dataclass(frozen=True)
class JobResult:
    """A finished job, as it is in the journal, and the edit if this process made one."""

    record: JobRecord
    edited: ExecutedJob | None = None

    @property
    def failure(self) -> str | None:
        """Why the job failed; None if it did not."""
        return self.record.message if self.record.state == "failed" else None


@dataclass(frozen=True)
class Worker:
    """Executes the jobs of one run of a journal.

    ``batch_size`` jobs are claimed at a time; the next images are read while these are edited, and
    results are written while the next are edited.
    """

    journal: Journal
    run: int
    execute: JobExecutor
    batch_size: int = 1
    keep_gps: bool = False
    copy_unchanged: bool = False
    max_megapixels: float = MEGAPIXELS

    @classmethod
    def of(cls, journal: Journal, run: int, execute: JobExecutor, batch_size: int) -> Worker:
        """A worker with the parameters of the run."""
        parameters = RunParameters.from_json(journal.parameters(run))
        return cls(
            journal,
            run,
            execute,
            batch_size,
            parameters.keep_gps,
            parameters.copy_unchanged,
            parameters.max_megapixels,
        )

    def __call__(self) -> Generator[JobResult]:
        """Work until every job of the run is done, unchanged or failed, by any worker.

        Jobs of other workers are waited for, and claimed when their worker has died. Whatever ends
        this early, Ctrl-C included, files being written are completed and the rest queued again.

        Yields:
            Results of this worker.
        """
        with self.journal.worker() as name:
            try:
                with ThreadPoolExecutor(1) as readers, ThreadPoolExecutor(1) as writers:
                    yield from self._work(name, readers, writers)
            finally:
                self.journal.release(name)

    def _work(
        self, name: str, readers: ThreadPoolExecutor, writers: ThreadPoolExecutor
    ) -> Iterator[JobResult]:
        pending: list[Future[JobResult]] = []
        claimed = self._claim(name, readers, [])
        while claimed or pending or self._others_work():
            if not claimed:
                yield from self._written(pending, wait=True)
                claimed = self._claim(name, readers, []) or self._wait(name, readers)
                continue
            following = self._claim(name, readers, claimed)
            records = [record for record, _ in claimed]
            sources = [source.result() for _, source in claimed]
            results = self.execute([(r.job, s) for r, s in zip(records, sources, strict=True)])
            for record, source, result in zip(records, sources, results, strict=True):
                pending.append(writers.submit(self._finish, name, record, source, result))
            claimed = following
            yield from self._written(pending, wait=False)

    def _claim(self, name: str, readers: ThreadPoolExecutor, current: Claimed) -> Claimed:
        """Claim the next jobs and read their images, except those of ``current`` jobs."""
        reading = {record.job.image: source for record, source in current}
        last = current[-1][0].job.image if current else None
        claimed = []
        for record in self.journal.claim(self.run, name, self.batch_size, last):
            image = record.job.image
            if image not in reading:
                reading[image] = readers.submit(self._read, image)
            claimed.append((record, reading[image]))
        return claimed

    def _read(self, image: Path) -> SourceImage:
        limit = self.max_megapixels
        return SourceImage.read(image, keep_gps=self.keep_gps, max_megapixels=limit)

    def _finish(
        self, name: str, record: JobRecord, source: SourceImage, result: ExecutedJob | NoResult
    ) -> JobResult:
        """Write a result, or record why there is none."""
        try:
            outcome, file = self._outcome(record.job, source, result)
            if file is not None:
                put(self.journal, record, name, file, source.file_hash, outcome)
        except Exception as error:
            if issubclass(classify(error) or Exception, FATAL):
                raise
            outcome = Outcome("failed", reason(error), caption=result.caption)
        self.journal.finish(record.name, name, outcome, source.file_hash or None)
        edited = result if isinstance(result, ExecutedJob) and outcome.state == "done" else None
        finished = self.journal.record(record.name)
        if finished is None or finished.outcome is None:  # another worker took this one for dead
            finished = replace(record, state=outcome.state, message=outcome.message)
        return JobResult(finished, edited)

    def _outcome(
        self, job: Job, source: SourceImage, result: ExecutedJob | NoResult
    ) -> tuple[Outcome, bytes | None]:
        """How a job ends, and the bytes of its file if it gets one; raises if it fails."""
        if isinstance(result, ExecutedJob):
            texts = (result.warnings, result.caption, result.target_caption)
            return Outcome("done", None, *texts), result.encode(job.name.suffix)
        if not isinstance(result.error, NothingToChangeError):
            raise result.error
        outcome = Outcome("unchanged", reason(result.error), caption=result.caption)
        if not self.copy_unchanged or not isinstance(source.photograph, Photograph):
            return outcome, None
        format = format_of(Path(job.name))
        data = contents(job.image, max_megapixels=self.max_megapixels)
        photograph = source.photograph
        warnings = photograph.format_warnings(format) if photograph.kind != format.name else ()
        copy = copied_file(data, format, keep_gps=self.keep_gps, max_megapixels=self.max_megapixels)
        return replace(outcome, warnings=warnings), copy

    def _written(self, pending: list[Future[JobResult]], *, wait: bool) -> Iterator[JobResult]:
        """Yield what has been written, in order; errors of the writing thread are raised here."""
        while pending and (wait or len(pending) > self.batch_size or pending[0].done()):
            yield pending.pop(0).result()

    def _others_work(self) -> bool:
        """Whether other workers have jobs of the run, or have queued some again."""
        counts = self.journal.counts(self.run)
        return any(counts.get(state) for state in ("queued", "running", "placing"))

    def _wait(self, name: str, readers: ThreadPoolExecutor) -> Claimed:
        sleep(PAUSE)
        recover(self.journal)
        return self._claim(name, readers, [])
