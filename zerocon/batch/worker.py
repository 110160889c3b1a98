"""A worker: takes orders from a journal until there are none, and reads and writes meanwhile."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import sleep
from typing import Protocol

from zerocon.batch.commit import put, recover
from zerocon.batch.executor import COMMON, ExecutedJob, SourceImage, reason
from zerocon.batch.job import Job
from zerocon.batch.journal import JobRecord, Journal
from zerocon.errors import NotWritableError, classify

PAUSE = 0.2  # seconds between looks at what others do
# no order can be finished where these stand in the way
FATAL = (*COMMON, NotWritableError)


class JobExecutor(Protocol):
    """Who carries out orders: a ``BatchExecutor``, or something that asks one elsewhere."""

    def __call__(
        self, jobs: Sequence[tuple[Job, SourceImage]]
    ) -> list[ExecutedJob | Exception]: ...


@dataclass(frozen=True)
class JobResult:
    """What became of one order: what was made, or why nothing."""

    entry: JobRecord
    made: ExecutedJob | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Worker:
    """Someone who works on one run of a journal.

    ``count`` orders are taken at a time, the next ones read while these are edited, and results
    written while the next are.
    """

    journal: Journal
    run: int
    make: JobExecutor
    count: int = 1
    keep_gps: bool = False

    def __call__(self) -> Generator[JobResult]:
        """Work until every order of the run is done or failed, by whomever; yield one's own.

        Others' orders are waited for, and taken over when their worker has ended. Whatever ends
        this early, Ctrl-C included, what is being written is finished and the rest queued again.
        """
        with self.journal.working() as name:
            try:
                with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
                    yield from self._work(name, reading, writing)
            finally:
                self.journal.put_back(name)

    def _work(
        self, name: str, reading: ThreadPoolExecutor, writing: ThreadPoolExecutor
    ) -> Iterator[JobResult]:
        pending: list[Future[JobResult]] = []
        taken = self._take(name, reading, [])
        while taken or pending or self._others():
            if not taken:
                yield from self._written(pending, wait=True)
                taken = self._take(name, reading, []) or self._wait(name, reading)
                continue
            ahead = self._take(name, reading, taken)
            sources = [source.result() for _, source in taken]
            entries = [entry for entry, _ in taken]
            made = self.make([(each.job, s) for each, s in zip(entries, sources, strict=True)])
            for entry, source, result in zip(entries, sources, made, strict=True):
                pending.append(writing.submit(self._finish, name, entry, source, result))
            taken = ahead
            yield from self._written(pending, wait=False)

    def _take(
        self,
        name: str,
        reading: ThreadPoolExecutor,
        before: Sequence[tuple[JobRecord, Future[SourceImage]]],
    ) -> list[tuple[JobRecord, Future[SourceImage]]]:
        """The next orders, being read; a picture that is in hand already is not read again."""
        known = {entry.job.image: source for entry, source in before}
        beside = before[-1][0].job.image if before else None
        taken = []
        for entry in self.journal.take(self.run, name, self.count, beside):
            image = entry.job.image
            if image not in known:
                known[image] = reading.submit(SourceImage.read, image, keep_gps=self.keep_gps)
            taken.append((entry, known[image]))
        return taken

    def _finish(
        self, name: str, entry: JobRecord, source: SourceImage, made: ExecutedJob | Exception
    ) -> JobResult:
        """Put a result in place, or note why there is none."""
        try:
            if isinstance(made, Exception):
                raise made
            data = made.encode(entry.job.name.suffix)
            put(self.journal, entry, name, data, source.content)
            self.journal.finish(entry.name, name, "; ".join(made.warnings) or None)
        except Exception as error:
            if issubclass(classify(error) or Exception, FATAL):
                raise
            self.journal.fail(entry.name, name, reason(error))
            return JobResult(entry, failure=reason(error))
        return JobResult(entry, made=made)

    def _written(self, pending: list[Future[JobResult]], *, wait: bool) -> Iterator[JobResult]:
        """What has been written, in order; its errors are raised here."""
        while pending and (wait or len(pending) > self.count or pending[0].done()):
            yield pending.pop(0).result()

    def _others(self) -> bool:
        """Whether orders of the run are in the hands of others, or queued again by them."""
        counts = self.journal.counts(self.run)
        return any(counts.get(state) for state in ("queued", "running", "placing"))

    def _wait(
        self, name: str, reading: ThreadPoolExecutor
    ) -> list[tuple[JobRecord, Future[SourceImage]]]:
        sleep(PAUSE)
        recover(self.journal)
        return self._take(name, reading, [])
