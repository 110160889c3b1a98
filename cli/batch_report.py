"""Output of ``zerocon batch``: events as progress bar, lines, table or JSON; plans; the status."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from . import render
from .progress import Tick, progress_bar

if TYPE_CHECKING:
    from zerocon.batch import (
        BatchEvent,
        BatchPlan,
        BatchStarted,
        BatchSummary,
        JobDone,
        JobFailed,
        JobFailure,
        JobUnchanged,
        JobWarnings,
        PlannedJob,
        RunStatus,
    )
    from zerocon.batch.planning import PlanState

    JobEvent: TypeAlias = JobDone | JobUnchanged | JobFailed
    WithFiles: TypeAlias = JobEvent | JobFailure | JobWarnings | PlannedJob

SHOWN = 20  # reasons of failures in the table; the JSON summary and `batch status` have all
NAMED = 3  # files in a line


class BatchReport:
    """Prints the events of a run: messages on stderr, JSON and the summary on stdout."""

    def __init__(self, form: str, quiet: bool) -> None:
        self.form, self.quiet = form, quiet
        self.stdout = sys.stdout  # backends may redirect it
        self.tick: Tick | None = None
        self.reported: set[tuple[Path, str]] = set()  # images and their failures

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
        elif isinstance(event, batch.JobDone | batch.JobUnchanged | batch.JobFailed):
            self._job(event)
        elif isinstance(event, batch.BatchWarning):
            self._json("warning", message=event.message)
            self._print(str(event))
        elif isinstance(event, batch.BatchInterrupted):
            self._print(str(event))

    def summary(self, summary: BatchSummary) -> None:
        """Print the summary."""
        sheet = summary.sheet
        counts = ("done", "unchanged", "copied", "skipped", "failed", "left")
        record: dict[str, Any] = {
            "schema": "zerocon.batch/1",
            "output": str(summary.output),
            "of": summary.total,
            **{name: getattr(summary, name) for name in counts},
            "evaluations": round(summary.evaluations, 2),
            "seconds": round(summary.seconds, 3),
            "failures": _failures(summary.failures),
            "warnings": [
                {**_files(each), "warnings": list(each.warnings)} for each in summary.warnings
            ],
            "sheet": sheet
            and {"output": str(sheet.file), "shown": sheet.shown, "left_out": sheet.left_out},
        }
        render.print_result(self.form, _table(_rows(summary)), record)

    def _start(self, event: BatchStarted) -> None:
        facts = {"of": event.total, "skipped": event.skipped, "unchanged": event.unchanged}
        self._json("begin", **facts, failed=event.failed, ignored=len(event.ignored))
        if self.quiet:
            return
        if event.skipped or event.failed or event.unchanged:
            again = event.failed or event.unchanged
            self._print(f"{event}{' (--retry-failed runs them again)' if again else ''}")
        if event.ignored:
            files = _listed([*map(_shown, event.ignored)])
            self._print(f"Not images by their endings, and left out: {files}")

    def _job(self, event: JobEvent) -> None:
        from zerocon import batch

        progress = {"finished": event.finished, "of": event.total, "failures": event.failures}
        facts: dict[str, Any] = {**_files(event), "caption": event.caption}
        if isinstance(event, batch.JobDone):
            cost = {"evaluations": render.cost(event.evaluations)} if event.evaluations else {}
            facts |= {"target_caption": event.target_caption, **cost}
        else:
            facts |= {"reason": event.reason, "id": event.id}
        if isinstance(event, batch.JobUnchanged):
            facts["copied"] = event.copied
        if not isinstance(event, batch.JobFailed):
            facts["warnings"] = list(event.warnings)
        name = {batch.JobDone: "done", batch.JobUnchanged: "unchanged"}.get(type(event), "failed")
        self._json(name, **facts, **progress)
        for line in self._lines(event):
            self._print(line)
        if self.tick:
            note = f"{event.failures} failed" if event.failures else ""
            self.tick(event.finished, event.total, note)

    def _lines(self, event: JobEvent) -> Iterator[str]:
        """What is printed about a job; its number only where there is no bar that shows it."""
        from zerocon import batch

        number = "" if self.tick or self.quiet else f"[{event.finished}/{event.total}] "
        if isinstance(event, batch.JobFailed):
            # an image that cannot be read fails in all of its edits: that is one line
            if (event.job.image, event.reason) not in self.reported:
                yield f"{number}Failed: {_explained([_place(event)], _reason(event))}"
            self.reported.add((event.job.image, event.reason))
            return
        if not self.quiet:
            yield number + event.text
        yield from (f"Warning: {event.job.name}: {text}" for text in event.warnings)

    def _print(self, line: str) -> None:
        """A line on stderr, above the bar if there is one."""
        if self.tick:
            self.tick.write(line)
        else:
            render.print_message(line)

    def _json(self, event: str, **fields: Any) -> None:
        if self.form == "jsonl":
            line = {"schema": "zerocon.batch-event/1", "event": event, **fields}
            render.print_json(line, file=self.stdout)


def print_plan(form: str, plan: BatchPlan) -> None:
    """Print what a dry run found."""
    estimate, skipped = plan.estimate, plan.count("done")
    states: tuple[PlanState, ...] = ("unchanged", "refused", "failed")
    record: dict[str, Any] = {
        "schema": "zerocon.batch-plan/1",
        "output": str(plan.output),
        "of": plan.total,
        "skipped": skipped,
        **{state: plan.count(state) for state in states},
        "edits": [_planned_edit(each) for each in plan.edits],
        "evaluations": render.cost(estimate.evaluations),
        "seconds": round(estimate.seconds, 3),
        "bytes": estimate.peak,
    }
    counts = [f"{plan.count(state)} {state}" for state in states if plan.count(state)]
    counts += [f"{skipped} skipped as done"]
    end = (
        f"{_kinds(plan)} of {estimate.images} images, {', '.join(counts)}: "
        f"{estimate.evaluations.total:.1f} U-Net evaluations, about "
        f"{timedelta(seconds=round(estimate.seconds))} on this machine, "
        f"{estimate.peak / 1e9:.2f} GB peak memory"
    )
    lines = dict.fromkeys(line for each in plan.edits for line in _planned_lines(each))
    render.print_result(form, [*lines, end], record)


def _kinds(plan: BatchPlan) -> str:
    """How many edits and translations there are to do."""
    translations = sum(bool(job.exemplars) for job in plan.jobs)
    edits = len(plan.jobs) - translations
    parts = [f"{edits} edits"] if edits or not translations else []
    return " and ".join([*parts, *([f"{translations} translations"] if translations else [])])


def print_status(form: str, status: RunStatus) -> None:
    """Print how far a run is, and its failures."""
    counts = {name: getattr(status, name) for name in ("done", "unchanged", "failed", "left")}
    record = {
        "schema": "zerocon.batch-status/1",
        "output": str(status.output),
        "of": status.total,
        **counts,
        "failures": _failures(status.failures),
    }
    rows = [("done", f"{status.done} of {status.total}")]
    rows += [(name, str(counts[name])) for name in ("unchanged", "left") if counts[name]]
    rows += [*_failure_rows(status.failures, None), ("in", str(status.output))]
    render.print_result(form, _table(rows), record)


def _planned_edit(planned: PlannedJob) -> dict[str, Any]:
    return {
        **_files(planned),
        "state": planned.state,
        "caption": planned.caption,
        "target_caption": planned.target_caption,
        "changes": [
            {"category": change.category, "from": change.source, "to": change.target}
            for change in planned.changes
        ],
        "reason": planned.reason,
        "id": planned.id,
        "warnings": list(planned.warnings),
    }


def _planned_lines(planned: PlannedJob) -> Iterator[str]:
    """Lines about one job; equal ones, of an image that cannot be read, are printed once."""
    files = f"{_shown(planned.job.image)} -> {planned.output}"
    caption = f'"{planned.caption}"'
    if planned.translation:
        total = planned.translation.cost.evaluations.total
        yield f"{files}: {planned.caption}, {planned.target_caption}: {total:.1f} U-Net evaluations"
    elif planned.state == "todo":
        changes = "; ".join(map(str, planned.changes))
        target = f' -> "{planned.target_caption}": {changes}' if changes else ""
        yield f"{files}: {caption}{target}"
    elif planned.caption is None and planned.state != "done":
        image, reason = planned.job.image, planned.reason or ""
        yield f"{_shown(image)}: {planned.state}: {_here(reason, image)}"
    elif planned.state != "done":
        yield f"{files}: {planned.state}: {caption}: {planned.reason}"
    yield from (f"  warning: {warning}" for warning in planned.warnings)


def _files(event: WithFiles) -> dict[str, str]:
    return {"input": str(event.job.image), "output": str(event.output)}


def _failures(failures: Iterable[JobFailure]) -> list[dict[str, Any]]:
    """Failures as JSON: one for all edits of an image that fail for the same reason."""
    groups: dict[tuple[Path, str], list[JobFailure]] = {}
    for each in failures:
        groups.setdefault((each.job.image, each.reason), []).append(each)
    return [
        {
            **_files(group[0]),
            "outputs": [str(each.output) for each in group],
            "reason": group[0].reason,
            "id": group[0].id,
            "caption": group[0].caption,
        }
        for group in groups.values()
    ]


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name:10}{text}" for name, text in rows]


def _rows(summary: BatchSummary) -> Iterator[tuple[str, str]]:
    """Rows of the table: heading and text."""
    before = f", {summary.skipped} before" if summary.skipped else ""
    yield "done", f"{summary.done} of {summary.total}{before}"
    if summary.unchanged:
        copies = f"{summary.copied} source images copied" if summary.copied else ""
        hint = copies or "nothing written; --copy-unchanged copies the source images"
        yield "unchanged", f"{summary.unchanged}, as the prompt describes already ({hint})"
    yield from _failure_rows(summary.failures, SHOWN)
    if summary.left:
        yield "not done", f"{summary.left}; the same command continues"
    if summary.warnings:
        yield "warnings", f"on {len(summary.warnings)} results; --format json lists them"
    if summary.edited:
        cost = f"{summary.evaluations:.1f} U-Net evaluations, {summary.seconds:.0f} s"
        yield "cost", cost
    if sheet := summary.sheet:
        more = f", {sheet.left_out} left out" if sheet.left_out else ""
        yield "sheet", f"{sheet.file}, {sheet.shown} edits{more}" if sheet.shown else "no edits"
    yield "in", str(summary.output)


def _failure_rows(failures: Sequence[JobFailure], limit: int | None) -> Iterator[tuple[str, str]]:
    """Failures by their reasons, and what to do."""
    if not failures:
        return
    reasons: dict[str, dict[str, None]] = {}  # of each, the names without repetition
    for each in failures:
        reasons.setdefault(_reason(each), {})[_place(each)] = None
    images = len({each.job.image for each in failures})
    yield "failed", f"{len(failures)} edits of {images} images"
    for reason, names in list(reasons.items())[:limit]:
        yield "", _explained([*names], reason)
    if limit and len(reasons) > limit:
        yield "", f"and {len(reasons) - limit} more reasons; zerocon batch status lists them all"
    yield "", "`zerocon errors ID` explains an id; the same command runs images again that"
    yield "", "have changed, and with --retry-failed all of these"


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _explained(names: Sequence[str], reason: str) -> str:
    """``NAMES: REASON``; the only name is left out where the reason has it."""
    return reason if len(names) == 1 and names[0] in reason else f"{_listed(names)}: {reason}"


def _place(failure: JobFailed | JobFailure) -> str:
    """The image, if it could not be read, else the name of the edit."""
    return _shown(failure.job.image) if failure.caption is None else str(failure.job.name)


def _reason(failure: JobFailed | JobFailure) -> str:
    return _here(failure.reason, failure.job.image)


def _here(text: str, image: Path) -> str:
    """A message with the path of an image as it is typed here."""
    return text.replace(str(image), _shown(image))


def _shown(path: Path) -> str:
    """A path as it is typed here: relative to the working directory if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
