"""The state of a run, read from the journals of its output directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zerocon.batch.events import JobFailure
from zerocon.batch.journal import FOLDER, JobRecord, Journal
from zerocon.errors import CommandError

JOURNALS = "journal*.sqlite"  # one, or one for each shard


@dataclass(frozen=True)
class RunStatus:
    """The state of the last run of an output directory, all shards together.

    Args:
        output: The output directory.
        total: Number of jobs.
        done: Jobs whose result is in place.
        unchanged: Jobs whose images are as the prompt describes already.
        failures: Failed jobs.
    """

    output: Path
    total: int
    done: int
    unchanged: int
    failures: tuple[JobFailure, ...]

    @property
    def failed(self) -> int:
        """Number of failed jobs."""
        return len(self.failures)

    @property
    def left(self) -> int:
        """Number of jobs neither done, unchanged nor failed."""
        return self.total - self.done - self.unchanged - self.failed


def read_status(output: Path) -> RunStatus:
    """Read the state of the last run; also while it is running.

    Raises:
        CommandError: If there is no run.
    """
    counts, failures = dict[str, int](), list[JobFailure]()
    runs = 0
    for file in sorted((output / FOLDER).glob(JOURNALS)):
        journal = Journal(output, file.name)
        try:
            if last := journal.last_run():
                runs += 1
                for state, count in journal.counts(last[0]).items():
                    counts[state] = counts.get(state, 0) + count
                records = journal.records(last[0], "failed")
                failures += [failure_of(output, record) for record in records]
        finally:
            journal.close()
    if not runs:
        raise CommandError(
            f"{output} has no run of zerocon batch; give the directory that was its -o"
        )
    done, unchanged = counts.get("done", 0), counts.get("unchanged", 0)
    return RunStatus(output, sum(counts.values()), done, unchanged, tuple(failures))


def failure_of(output: Path, record: JobRecord) -> JobFailure:
    """The failure that a record of the journal tells of."""
    reason = record.outcome.reason if record.outcome else None
    return JobFailure(record.job, output / record.job.name, reason or "", record.caption)
