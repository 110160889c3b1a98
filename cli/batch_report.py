"""Output of ``zerocon batch``: events as progress bar, lines, table or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from . import render
from .progress import Tick, progress_bar

if TYPE_CHECKING:
    from zerocon.batch import BatchEvent, BatchPlan, BatchSummary, JobDone, JobFailed, JobFailure

SHOWN = 20  # failures in the table; the JSON summary and the journal have all


class BatchReport:
    """Prints the events of a run: messages on stderr, JSON and the summary on stdout."""

    def __init__(self, form: str, quiet: bool) -> None:
        self.form, self.quiet = form, quiet
        self.stdout = sys.stdout  # backends may redirect it
        self.tick: Tick | None = None

    @contextmanager
    def bar(self) -> Iterator[None]:
        """Show a progress bar on a terminal."""
        with progress_bar("Editing", self.quiet) as self.tick:
            yield

    def __call__(self, event: BatchEvent) -> None:
        """Print one event."""
        from zerocon import batch

        if isinstance(event, batch.BatchStarted):
            self._start(event)
        elif isinstance(event, batch.JobDone | batch.JobFailed):
            self._job(event)
        elif isinstance(event, batch.BatchWarning):
            render.warn([event.message])
        elif isinstance(event, batch.BatchInterrupted):
            click.echo(str(event), err=True)

    def summary(self, summary: BatchSummary) -> None:
        """Print the summary."""
        counts = ("done", "skipped", "failed", "left")
        record = {
            "schema": "zerocon.batch/1",
            "output": str(summary.output),
            "of": summary.total,
            **{name: getattr(summary, name) for name in counts},
            "evaluations": round(summary.evaluations, 2),
            "seconds": round(summary.seconds, 3),
            "failures": [{**_files(each), "reason": each.reason} for each in summary.failures],
        }
        table = "\n".join(f"{name:10}{text}" for name, text in _rows(summary))
        render.print_result(self.form, table, record)

    def _start(self, event: Any) -> None:
        self._json("begin", of=event.total, skipped=event.skipped, failed=event.failed)
        if not self.quiet and (event.skipped or event.failed):
            hint = " (--retry-failed runs them again)" if event.failed else ""
            click.echo(f"{event}{hint}", err=True)

    def _job(self, event: JobDone | JobFailed) -> None:
        from zerocon.batch import JobFailed

        progress = {"finished": event.finished, "of": event.total, "failures": event.failures}
        if isinstance(event, JobFailed):
            self._json("failed", **_files(event), reason=event.reason, **progress)
        else:
            self._json("done", **_files(event), **_edit(event), **progress)
        if self.tick:
            note = f"{event.failures} failed" if event.failures else ""
            self.tick(event.finished, event.total, note)
        elif not self.quiet:
            click.echo(str(event), err=True)
        elif isinstance(event, JobFailed):
            click.echo(f"Failed: {event.job.name}: {event.reason}", err=True)

    def _json(self, event: str, **fields: Any) -> None:
        if self.form == "jsonl":
            line = {"schema": "zerocon.batch-event/1", "event": event, **fields}
            render.echo(json.dumps(line, ensure_ascii=False), self.stdout)


def print_plan(form: str, plan: BatchPlan) -> None:
    """Print what a dry run found."""
    estimate = plan.estimate
    edits = [{"input": str(j.image), "output": str(plan.output / j.name)} for j in plan.jobs]
    record = {
        "schema": "zerocon.batch-plan/1",
        "output": str(plan.output),
        "of": plan.total,
        "skipped": len(plan.skipped),
        "edits": edits,
        "evaluations": render.cost(estimate.evaluations),
        "seconds": round(estimate.seconds, 3),
        "bytes": estimate.peak,
    }
    lines = [f"{edit['input']} -> {edit['output']}" for edit in edits]
    lines.append(
        f"{len(edits)} edits of {estimate.images} images, {len(plan.skipped)} skipped as done: "
        f"{estimate.evaluations.total:.1f} U-Net evaluations, about "
        f"{timedelta(seconds=round(estimate.seconds))} on this machine, "
        f"{estimate.peak / 1e9:.2f} GB peak memory"
    )
    render.print_result(form, "\n".join(lines), record)


def _files(event: JobDone | JobFailed | JobFailure) -> dict[str, str]:
    return {"input": str(event.job.image), "output": str(event.output)}


def _edit(event: JobDone) -> dict[str, Any]:
    """What is known of an edit by this process; another one's is not known."""
    if event.evaluations is None:
        return {}
    return {
        "caption": event.caption,
        "target_caption": event.target_caption,
        "evaluations": render.cost(event.evaluations),
        "warnings": list(event.warnings),
    }


def _rows(summary: BatchSummary) -> Iterator[tuple[str, str]]:
    """Rows of the table: heading and text."""
    before = f", {summary.skipped} before" if summary.skipped else ""
    yield "done", f"{summary.done} of {summary.total}{before}"
    if summary.failed:
        yield "failed", str(summary.failed)
    if summary.left:
        yield "not done", str(summary.left)
    for each in summary.failures[:SHOWN]:
        yield "", f"{each.job.name}: {each.reason}"
    if summary.failed > SHOWN:
        yield "", f"and {summary.failed - SHOWN} more"
    if summary.edited:
        cost = f"{summary.evaluations:.1f} U-Net evaluations, {summary.seconds:.0f} s"
        yield "cost", cost
    yield "in", str(summary.output)
