"""A batch from its arguments to its summary: jobs, journal, model, backend and events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import torch

import zerocon
from zerocon.batch import backends, commit
from zerocon.batch.estimate import estimate_cost, fitting_batch_size
from zerocon.batch.events import (
    BatchEvent,
    BatchInterrupted,
    BatchStarted,
    BatchSummary,
    BatchWarning,
    JobDone,
    JobFailed,
    JobUnchanged,
    JobWarnings,
    WrittenSheet,
)
from zerocon.batch.executor import BatchExecutor, shape_of
from zerocon.batch.expansion import check_settings, expand, ignored_files, in_shard
from zerocon.batch.job import Job, require_distinct
from zerocon.batch.journal import ENDED, FILE, FOLDER, JobRecord, Journal
from zerocon.batch.launcher import rank, worker_device
from zerocon.batch.parameters import ALL, AUTO, BatchOptions, RunParameters
from zerocon.batch.planning import BatchPlan, plan_jobs
from zerocon.batch.references import require_named
from zerocon.batch.review_sheet import check_sheet, is_sheet, write_sheet
from zerocon.batch.run_status import failure_of
from zerocon.batch.translating import require_short
from zerocon.batch.worker import JobResult
from zerocon.errors import CommandError, DeviceNotFoundError, UntrustedReferenceError
from zerocon.exemplar.networks import WEIGHTS
from zerocon.exemplar.translation_settings import TranslationSettings
from zerocon.exemplar.translators import network_hash
from zerocon.image.naming import SIDECAR
from zerocon.model import Model
from zerocon.model.local_files import files_of
from zerocon.recipe.limits import require_within_limits
from zerocon.request import kinds_of
from zerocon.settings import DEFAULT_SEGMENTER, Settings

OnEvent = Callable[[BatchEvent], object]
WORKER_COMMAND = ("zerocon.cli", "batch")  # started with --join by ``devices``
NONE: Mapping[str, Any] = {}
CHANGED = "the file was changed since it was written, and is kept; --overwrite computes it again"


def _ignore(*_: object) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class BatchSession:
    """Jobs with their state in the journal; ``journal`` is None for a plan without one.

    ``kept`` are the records that stay as they are, ``ignored`` the files in the input directories
    that are no images by their endings, ``changed`` the records of results that were changed since
    they were written.
    """

    options: BatchOptions
    model: Model
    jobs: list[Job]
    changes: commit.Changes
    kept: list[JobRecord]
    journal: Journal | None
    ignored: tuple[Path, ...] = ()
    changed: tuple[JobRecord, ...] = ()

    def plan(self, progress: Callable[[int, int], object] = _ignore) -> BatchPlan:
        """Parse the prompts of the jobs, and estimate the cost of the edits."""
        updated = [new for _, new in self.changes if new.state in ENDED]
        ended = {each.name: each.outcome for each in (*self.kept, *updated) if each.state in ENDED}
        edits = plan_jobs(
            self.jobs,
            {name: outcome for name, outcome in ended.items() if outcome},
            BatchExecutor(self.model, reading=self.options.parameters.reading),
            self.options.output,
            reading=self.options.parameters.reading,
            progress=progress,
        )
        planned = tuple(edits)
        todo = [each for each in planned if each.state == "todo"]
        jobs = [(each.job, kinds_of(each.changes)) for each in todo if not each.translation]
        others = [(each.job, each.translation) for each in todo if each.translation]
        estimate = estimate_cost(self.model, jobs, others)
        return BatchPlan(self.options.output, planned, estimate)

    def run(self, on_event: OnEvent) -> BatchSummary:
        """Execute the jobs; of several processes the first one alone reports events."""
        assert self.journal is not None
        parameters = replace(self.options.parameters, overwrite=self.options.overwrite).to_json()
        with self.journal.worker() as session:
            number = self.journal.begin(parameters, self.changes, self.kept, session=session)
            report = _Report(
                self.journal, number, len(self.jobs), on_event if rank() == 0 else _ignore
            )
            report.start(self.ignored)
            report.changed(self.changed)
            try:
                with closing(self._results(number, report.warn)) as results:
                    for result in results:
                        report.result(result)
                        if result.failure and self.options.fail_fast:
                            break
            except KeyboardInterrupt:
                report.interrupt()
                raise
            return report.end(self._write_sheet(number))

    def _write_sheet(self, number: int) -> WrittenSheet | None:
        """Write the review sheet, if there is to be one; of several processes only the first."""
        assert self.journal is not None
        if self.options.sheet is None or rank():
            return None
        mark = self.options.parameters.metadata != "none"
        return write_sheet(self.journal, number, self.options.sheet, mark=mark)

    def _results(self, number: int, on_warning: Callable[[str], None]) -> backends.Results:
        """Start the backend."""
        options, journal = self.options, self.journal
        assert journal is not None
        if options.backend == "ray":
            workers = options.devices if isinstance(options.devices, int) else 0
            size = _batch_size(options, self.model, self.jobs)
            return backends.run_on_ray(journal, number, size, workers)
        if options.devices is not None:
            count = _gpus() if options.devices == ALL else int(options.devices)
            command = _join_command(options, number, journal.digest(number))
            return backends.run_processes(journal, number, command, count)
        size = _batch_size(options, self.model, self.jobs)
        return backends.run_local(journal, number, self.model, size, on_warning)


class _Report:
    """Turns the results of one run into events and adds up its cost."""

    def __init__(self, journal: Journal, run: int, total: int, on_event: OnEvent) -> None:
        self.journal, self.run, self.total, self.on_event = journal, run, total, on_event
        self.started, self.edited, self.evaluations = monotonic(), 0, 0.0
        self.kept: dict[str, str] = {}  # warnings about results of earlier runs, by name
        self.before = journal.counts(run)
        self.skipped = self.before.get("done", 0)

    def start(self, ignored: tuple[Path, ...]) -> None:
        failed, unchanged = self.before.get("failed", 0), self.before.get("unchanged", 0)
        output = self.journal.output
        self.on_event(BatchStarted(output, self.total, self.skipped, failed, unchanged, ignored))

    def warn(self, message: str) -> None:
        self.on_event(BatchWarning(message))

    def changed(self, records: Sequence[JobRecord]) -> None:
        """Say which results were changed since they were written: they are kept as they are."""
        for record in records:
            self.kept[record.name] = CHANGED
            self.warn(f"{self.journal.output / record.job.name}: {CHANGED}")

    def result(self, result: JobResult) -> None:
        record, edited = result.record, result.edited
        outcome = record.outcome
        assert outcome is not None
        counts = self.journal.counts(self.run)
        facts: dict[str, Any] = {
            "job": record.job,
            "output": self.journal.output / record.job.name,
            "finished": sum(counts.get(state, 0) for state in ENDED),
            "total": self.total,
            "failures": counts.get("failed", 0),
            "caption": outcome.caption,
        }
        if outcome.state == "failed":
            self.on_event(JobFailed(**facts, reason=outcome.reason or ""))
            return
        facts["warnings"] = outcome.warnings
        if outcome.state == "unchanged":
            self.on_event(JobUnchanged(**facts, reason=outcome.reason or "", copied=record.copied))
            return
        cost = edited.evaluations if edited else None
        self.edited += edited is not None
        self.evaluations += cost.total if cost else 0
        target = outcome.target_caption
        self.on_event(JobDone(**facts, target_caption=target, evaluations=cost))

    def interrupt(self) -> None:
        self.on_event(BatchInterrupted(self.journal.counts(self.run).get("done", 0), self.total))

    def end(self, sheet: WrittenSheet | None) -> BatchSummary:
        output, counts = self.journal.output, self.journal.counts(self.run)
        failed = self.journal.records(self.run, "failed")
        results = self.journal.records(self.run, "done", "unchanged")
        summary = BatchSummary(
            output=output,
            total=self.total,
            done=counts.get("done", 0),
            skipped=self.skipped,
            failures=tuple(failure_of(output, each) for each in failed),
            unchanged=counts.get("unchanged", 0),
            copied=sum(each.copied for each in results),
            warnings=tuple(
                JobWarnings(each.job, output / each.job.name, lines)
                for each in results
                if each.outcome and (lines := (*each.outcome.warnings, *self._kept(each)))
            ),
            sheet=sheet,
            edited=self.edited,
            evaluations=self.evaluations,
            seconds=monotonic() - self.started,
        )
        self.on_event(summary)
        return summary

    def _kept(self, record: JobRecord) -> tuple[str, ...]:
        return (self.kept[record.name],) if record.name in self.kept else ()


@contextmanager
def open_session(options: BatchOptions, *, dry_run: bool = False) -> Iterator[BatchSession]:
    """Check everything that can be checked before time is spent; a dry run writes nothing.

    Raises:
        ValueError: For arguments that cannot be carried out. If the output directory has no journal
            yet, nothing is written then.
    """
    file = journal_file(options.shard)
    exists = (options.output / FOLDER / file).is_file()
    if not options.has_inputs:
        _require_resumable(options, exists)
    jobs = expand(options) if options.has_inputs else []
    jobs = [job for job in jobs if in_shard(job.image, options.shard)]
    model, planned = None, None
    commit.require_places(options.output, jobs, _input_files(options, jobs))
    if not exists:
        _check_sheet(options, jobs, None)
        model = _load(options)
        planned = _plan(options, model, jobs, None)
    journal = Journal(options.output, file) if exists or not dry_run else None
    try:
        if journal and not dry_run:
            commit.recover(journal)
        if journal and not options.has_inputs:
            options, jobs = _resumed(options, journal)
        if journal:
            _check_sheet(options, jobs, journal)
        model = model or _load(options)
        if planned is None or (journal and journal.last_run()):  # begun by another process since
            planned = _plan(options, model, jobs, journal)
        changes, kept, changed = planned
        facts = (jobs, changes, kept, journal, ignored_files(options), changed)
        yield BatchSession(_named(options, model), model, *facts)
    finally:
        if journal:
            journal.close()


def _resumed(options: BatchOptions, journal: Journal) -> tuple[BatchOptions, list[Job]]:
    """Options and jobs of the last run, checked as if a stranger had written them."""
    number, recorded = journal.last_run() or (0, NONE)
    parameters = RunParameters.from_json(recorded)
    jobs = [record.job for record in journal.records(number)]
    if not journal.is_own(number):
        require_named(options, parameters, jobs)
    for job in jobs:
        if job.exemplars:
            require_short(job.settings)
        else:
            require_within_limits(Settings().overlay(check_settings(job.settings)))
    return options.resumed(parameters), jobs


def join_run(options: BatchOptions, run: int, digest: str | None = None) -> None:
    """Work on a run that another process has begun, without events: as ``devices`` starts it.

    Raises:
        UntrustedReferenceError: The run is not that of ``digest``, or without one not this user's.
    """
    journal = Journal(options.output, journal_file(options.shard))
    try:
        if not (journal.is_own(run) if digest is None else journal.digest(run) == digest):
            raise UntrustedReferenceError(f"run {run} of {journal.file} was not begun by this user")
        parameters = RunParameters.from_json(journal.parameters(run))
        model = _load(replace(options, model=None, parameters=parameters))
        size = _batch_size(options, model, [record.job for record in journal.records(run)])
        with closing(backends.run_local(journal, run, model, size)) as results:
            for _ in results:
                pass
    finally:
        journal.close()


def journal_file(shard: tuple[int, int] | None) -> str:
    """Return the journal's name; every shard has its own, since a journal is for one machine."""
    return "journal-{}-of-{}.sqlite".format(*shard) if shard else FILE


def _require_resumable(options: BatchOptions, exists: bool) -> None:
    if not options.resume:
        raise CommandError("name images, directories or patterns, or use --manifest or --resume")
    if not exists:
        raise CommandError(f"{options.output} has no journal to resume from")


def _check_sheet(options: BatchOptions, jobs: list[Job], journal: Journal | None) -> None:
    """Check that the review sheet can be written; one of an earlier run is replaced."""
    if options.sheet is not None:
        inputs = _input_files(options, jobs)
        results = [options.output / job.name for job in jobs]
        replace = options.overwrite or (journal is not None and is_sheet(journal, options.sheet))
        check_sheet(options.sheet, options.output, results, inputs, overwrite=replace)


def _input_files(options: BatchOptions, jobs: Sequence[Job]) -> set[Path]:
    """Every file that a batch reads: nothing that it writes may be one of them."""
    parameters = options.parameters
    parts = [parameters.load.get(name) for name in ("captioner", "clip", "vae")]
    parts.append(parameters.segmenter)
    files = {*options.inputs, *commit.inputs_of(jobs), *files_of(parameters.model, *parts)}
    files |= {file for file in (options.manifest, options.files_from) if file is not None}
    if options.sidecars:
        files |= {job.image.with_suffix(SIDECAR) for job in jobs}
    return files


def _load(options: BatchOptions) -> Model:
    """Load the model; if other processes use it, on the CPU, as only its properties are needed."""
    if options.model is not None and not isinstance(options.model, str):
        model: Model = options.model
        return model
    load = dict(options.parameters.load)
    if options.local:
        load["device"] = load.get("device") or worker_device()
    else:
        load |= {"device": "cpu", "compile": False}
    model = zerocon.load(options.parameters.model, **load)
    return model


def _named(options: BatchOptions, model: Model) -> BatchOptions:
    """Options that name a model given as an object, so that a later run can load it."""
    if options.model is None or isinstance(options.model, str):
        return options
    return replace(options, parameters=replace(options.parameters, model=model.name))


def _plan(
    options: BatchOptions, model: Model, jobs: list[Job], journal: Journal | None
) -> tuple[commit.Changes, list[JobRecord], tuple[JobRecord, ...]]:
    """Changes of the journal, records that stay, and those of results that were changed since."""
    require_distinct(jobs)
    changed: list[JobRecord] = []
    find: Callable[[str], JobRecord | None] = journal.record if journal else lambda _: None
    changes, kept = commit.plan(
        find,
        options.output,
        list(_described(jobs, model, options.parameters)),
        inputs=_input_files(options, jobs),
        overwrite=options.overwrite,
        verify=options.resume,
        retry=options.retry_failed,
        copy=options.parameters.copy_unchanged,
        on_changed=changed.append,
    )
    return changes, kept, tuple(changed)


def _described(
    jobs: list[Job], model: Model, parameters: RunParameters
) -> Iterator[tuple[Job, str, str]]:
    """Yield each job with its recipe hash and its shape."""
    load = parameters.load
    shared = {"metadata": parameters.metadata, "keep_gps": parameters.keep_gps}
    shared |= {"captioner": load.get("captioner"), "clip": load.get("clip")}
    shared |= {"weights": model.fingerprint() or model.name, "prediction": model.prediction}
    shared |= {"working_size": asdict(model.working_size)}
    segmenter = {"segmenter": parameters.segmenter or DEFAULT_SEGMENTER}
    for job in jobs:
        if job.exemplars:
            translation = TranslationSettings.of(job.settings)
            network = network_hash(translation, WEIGHTS)
            yield job, job.hash({**shared, **asdict(translation), "network": network}), ""
            continue
        settings = model.settings.overlay(job.settings)
        facts = {**shared, **asdict(settings), **(segmenter if job.mask_text else {})}
        limit = {"max_megapixels": parameters.max_megapixels}
        yield job, job.hash(facts), shape_of(job.image, model, settings, **limit)


def _batch_size(options: BatchOptions, model: Model, jobs: Sequence[Job]) -> int:
    size = options.batch_size
    return size if isinstance(size, int) else fitting_batch_size(model, jobs)


def _join_command(options: BatchOptions, number: int, digest: str) -> list[str]:
    """Module and arguments of a worker process."""
    size = str(options.batch_size or AUTO)
    join = ["-o", str(options.output), "--join", str(number), "--digest", digest]
    join += ["--batch-size", size]
    shard = ["--shard", "{}/{}".format(*options.shard)] if options.shard else []
    return [*WORKER_COMMAND, *join, *shard]


def _gpus() -> int:
    if count := torch.cuda.device_count():
        return count
    raise DeviceNotFoundError("there is no GPU here; give a number of processes: --devices 2")
