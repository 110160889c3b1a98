"""A run of many edits: entered in the journal, worked on, and told of."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerocon.errors import DeviceNotFoundError

from . import batch_jobs, options, render
from .batch_report import BatchReport

if TYPE_CHECKING:
    from zerocon import Model
    from zerocon.batch import backends
    from zerocon.batch.job import Job
    from zerocon.batch.journal import JobRecord, Journal

# what every worker of a run must be told, beside its orders
TOLD = ("model", *options.LOAD_OPTIONS, "metadata", "keep_gps", "no_cache")


@dataclass
class Run:
    """Orders, and what the journal knows of them: to be entered, or to stay as they are."""

    values: Mapping[str, Any]
    outputs: Path
    model: Model
    jobs: list[Job]
    entered: list[tuple[JobRecord | None, JobRecord]]
    kept: list[str]
    journal: Journal | None


@contextmanager
def opened(images: Iterable[str], values: Mapping[str, Any]) -> Iterator[Run]:
    """Everything known that can be, before any time is spent; nothing is written for a dry run."""
    from zerocon.batch import commit
    from zerocon.batch.journal import FOLDER, Journal
    from zerocon.batch.launch import own_device

    outputs, images = values["outputs"], list(images)
    named = bool(images or values["manifest"] or values["files_from"])
    if not named and not values["resume"]:
        raise click.UsageError("name pictures, folders or patterns, or give --manifest or --resume")
    file = journal_of(values["shard"])
    there = (outputs / FOLDER / file).is_file()
    if not named and not there:
        raise click.UsageError(f"{outputs} holds no journal to resume from")
    jobs = batch_jobs.jobs(images, values) if named else []
    if named and not jobs:
        raise click.UsageError(f"no pictures in {', '.join(map(str, images)) or 'the list'}")
    jobs = [job for job in jobs if batch_jobs.mine(job.image, values["shard"])]
    journal = Journal(outputs, file) if there or not values["dry_run"] else None
    try:
        if journal and not values["dry_run"]:
            commit.recover(journal)
        if journal and not named:
            number, told = journal.last() or (0, {})
            values = {**told, **{name: said for name, said in values.items() if _said(name, told)}}
            jobs = [entry.job for entry in journal.entries(number)]
        # where others do the work, this one needs to know the model and not to compute
        local = values["backend"] == "local" and values["devices"] is None
        model = options.load_model(
            {**values, "device": values["device"] or own_device()}
            if local
            else {**values, "device": "cpu", "compile": False}
        )
        entered, kept = commit.plan(
            journal.entry if journal else lambda _: None,
            outputs,
            _described(jobs, model, values),
            inputs=options.input_files(values, *_lists(values)),
            overwrite=values["overwrite"],
            verify=values["resume"],
            retry=values["retry_failed"],
        )
        yield Run(values, outputs, model, jobs, entered, kept, journal)
    finally:
        if journal:
            journal.close()


def _described(
    jobs: Iterable[Job], model: Model, values: Mapping[str, Any]
) -> Iterator[tuple[Job, str, str]]:
    """Each order with the hash of all that decides its result but the picture, and its shape."""
    from zerocon.batch.executor import shape_of

    shared = {name: values[name] for name in ("metadata", "keep_gps", "captioner", "clip")}
    shared |= {"weights": model.fingerprint() or model.name, "prediction": model.prediction}
    for job in jobs:
        settings = model.settings.overlay(job.settings)
        yield job, job.hash({**shared, **asdict(settings)}), shape_of(job.image, model)


def _lists(values: Mapping[str, Any]) -> list[Path]:
    """The file of ``--files-from``, unless it is stdin."""
    file = values["files_from"]
    return [Path(file.name)] if file is not None and isinstance(file.name, str) else []


def work(run: Run) -> int:
    """Carry a run out; its exit code."""
    journal, values = run.journal, run.values
    assert journal is not None
    from zerocon.batch.launch import rank

    number = journal.begin({name: values[name] for name in TOLD}, run.entered, run.kept)
    if rank():  # one of several, and the first one talks
        return quietly(_results(run, journal, number))
    told = BatchReport(values["form"], options.is_quiet(), run.outputs, len(run.jobs))
    told.begin(journal.counts(number))
    try:
        with told.bar(), closing(_results(run, journal, number)) as results:
            for done in results:
                told.one(done, journal.counts(number))
                if done.failure and values["fail_fast"]:
                    break
    except KeyboardInterrupt:
        told.interrupted(journal.counts(number))
        raise
    counts = journal.counts(number)
    told.end(counts, journal.entries(number, "failed"))
    return 0 if counts.get("done", 0) == len(run.jobs) else 1


def _results(run: Run, journal: Journal, number: int) -> backends.Results:
    """The work, by the engine that was asked for."""
    from zerocon.batch import backends

    values, model = run.values, run.model
    count = batch_jobs.count(values["batch_size"], model)
    if values["backend"] == "ray":
        told = journal.told(number)
        return backends.on_ray(journal, number, told, count, values["devices"] or 0)
    if values["devices"] is not None:
        size = str(values["batch_size"] or batch_jobs.AUTO)
        join = ["-o", str(run.outputs), "--join", str(number), "--batch-size", size]
        shard = ["--shard", "{}/{}".format(*values["shard"])] if values["shard"] else []
        return backends.many(
            journal, number, ["zerocon.cli", "batch", *join, *shard], values["devices"] or _gpus()
        )
    return backends.alone(journal, number, model, count, lambda said: render.warn([said]))


def join(values: Mapping[str, Any]) -> int:
    """Work on a run that another process has begun, and say nothing."""
    from zerocon.batch import backends
    from zerocon.batch.journal import Journal
    from zerocon.batch.launch import own_device

    journal = Journal(values["outputs"], journal_of(values["shard"]))
    told = journal.told(values["join"])
    model = options.load_model({**told, "device": own_device() or told["device"]})
    count = batch_jobs.count(values["batch_size"], model)
    return quietly(backends.alone(journal, values["join"], model, count))


def quietly(results: backends.Results) -> int:
    """Work, and say nothing: another process looks at the journal."""
    with closing(results):
        for _ in results:
            pass
    return 0


def _gpus() -> int:
    import torch

    if count := torch.cuda.device_count():
        return count
    raise DeviceNotFoundError("no GPU is here; give a number of processes: --devices 2")


def journal_of(shard: tuple[int, int] | None) -> str:
    """Its own for every part, since a journal is for one machine."""
    from zerocon.batch.journal import FILE

    return "journal-{}-of-{}.sqlite".format(*shard) if shard else FILE


def _said(name: str, told: Mapping[str, Any]) -> bool:
    """Whether an option's value counts beside what a run was told before."""
    return name not in told or options.on_command_line(name)


@contextmanager
def terminated() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
