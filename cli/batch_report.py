"""What is said of a run of many edits while it runs, and at its end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from . import render
from .progress import Tick, progress_bar

if TYPE_CHECKING:
    from zerocon.batch.journal import JobRecord
    from zerocon.batch.worker import JobResult

SHOWN = 20  # failures in the table at the end; all are in the records and in the journal


class BatchReport:
    """Talk on stderr, records on stdout: of ``count`` edits into ``outputs``."""

    def __init__(self, form: str, quiet: bool, outputs: Path, count: int) -> None:
        self.form, self.quiet, self.outputs, self.count = form, quiet, outputs, count
        self.out = sys.stdout  # for records alone, whatever an engine makes of it
        self.tick: Tick | None = None
        self.start, self.evaluations, self.made, self.skipped = monotonic(), 0.0, 0, 0

    @contextmanager
    def bar(self) -> Iterator[None]:
        """With a bar, where somebody looks."""
        with progress_bar("Editing", self.quiet) as self.tick:
            yield

    def begin(self, counts: Mapping[str, int]) -> None:
        """What there is to do, and what is done already."""
        self.skipped, failed = counts.get("done", 0), counts.get("failed", 0)
        self._event("begin", of=self.count, skipped=self.skipped, failed=failed)
        if not self.quiet and (self.skipped or failed):
            more = f", {failed} failed before (--retry-failed tries again)" if failed else ""
            click.echo(f"{self.skipped} of {self.count} are done already{more}", err=True)

    def one(self, done: JobResult, counts: Mapping[str, int]) -> None:
        """One order done, or failed."""
        finished, job = counts.get("done", 0) + counts.get("failed", 0), done.entry.job
        where = {"input": str(job.image), "output": str(self.outputs / job.name)}
        now = {"finished": finished, "of": self.count, "failures": counts.get("failed", 0)}
        if done.failure is not None:
            self._event("failed", **where, reason=done.failure, **now)
        elif done.made is None:  # by another process
            self._event("done", **where, **now)
        else:
            cost = render.cost(done.made.evaluations)
            self.made, self.evaluations = self.made + 1, self.evaluations + cost["total"]
            said = {"caption": done.made.caption, "target_caption": done.made.target_caption}
            more = {"evaluations": cost, "warnings": list(done.made.warnings)}
            self._event("done", **where, **said, **more, **now)
        if self.tick:
            failures = counts.get("failed", 0)
            self.tick(finished, self.count, f"{failures} failed" if failures else "")
        elif not self.quiet:
            click.echo(f"[{finished}/{self.count}] {_line(done)}", err=True)
        elif done.failure:
            click.echo(f"Failed: {_line(done)}", err=True)

    def interrupted(self, counts: Mapping[str, int]) -> None:
        """The run ends early, and can go on."""
        done = counts.get("done", 0)
        click.echo(f"{done} of {self.count} are done; the same command goes on", err=True)

    def end(self, counts: Mapping[str, int], failed: Sequence[JobRecord]) -> None:
        """What became of all."""
        done, seconds = counts.get("done", 0), monotonic() - self.start
        left = self.count - done - len(failed)
        names = [(each.job, each.reason or "") for each in failed]
        record = {
            "schema": "zerocon.batch/1",
            "output": str(self.outputs),
            "of": self.count,
            "done": done,
            "skipped": self.skipped,
            "failed": len(failed),
            "left": left,
            "evaluations": round(self.evaluations, 2),
            "seconds": round(seconds, 3),
            "failures": [
                {
                    "input": str(job.image),
                    "output": str(self.outputs / job.name),
                    "reason": why,
                }
                for job, why in names
            ],
        }
        rows = [
            ("done", f"{done} of {self.count}" + f", {self.skipped} before" * (self.skipped > 0))
        ]
        rows += [("failed", str(len(failed)))] * bool(failed) + [("not done", str(left))] * bool(
            left
        )
        rows += [("", f"{job.name}: {why}") for job, why in names[:SHOWN]]
        rows += [("", f"and {len(names) - SHOWN} more")] * (len(names) > SHOWN)
        if self.made:
            rows.append(("cost", f"{self.evaluations:.1f} U-Net evaluations, {seconds:.0f} s"))
        rows.append(("in", str(self.outputs)))
        render.print_result(self.form, "\n".join(f"{name:10}{said}" for name, said in rows), record)

    def _event(self, event: str, **facts: Any) -> None:
        if self.form == "jsonl":
            line = {"schema": "zerocon.batch-event/1", "event": event, **facts}
            render.echo(json.dumps(line, ensure_ascii=False), self.out)


def _line(done: JobResult) -> str:
    return done.entry.name + (f": {done.failure}" if done.failure else "")
