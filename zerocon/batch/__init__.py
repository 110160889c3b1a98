"""Batch editing: many edits of many images, with a journal that survives interruptions.

``run`` edits, ``plan`` says what it would do, ``status`` how far the last run is. Arguments
(``parameters``) are expanded (``discovery``, ``manifest``, ``expansion``) into jobs (``job``),
recorded in the ``journal`` of the output directory,
claimed there by any number of workers (``worker``, ``backends``, ``launcher``), each with an
``executor`` on one model, and put in place one by one (``commit``). ``session`` combines them;
``planning``, ``run_status`` and ``review_sheet`` show what will be and was done.

Importing this package costs nothing; torch comes with the first run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zerocon.batch.estimate import BatchEstimate
    from zerocon.batch.events import (
        BatchEvent,
        BatchInterrupted,
        BatchStarted,
        BatchSummary,
        BatchWarning,
        JobDone,
        JobFailed,
        JobFailure,
        JobUnchanged,
        JobWarnings,
        WrittenSheet,
    )
    from zerocon.batch.job import Job
    from zerocon.batch.parameters import BatchOptions, PathLike
    from zerocon.batch.planning import BatchPlan, PlannedJob
    from zerocon.batch.run_status import RunStatus

_MODULES = {
    "BatchEstimate": "estimate",
    "BatchEvent": "events",
    "BatchInterrupted": "events",
    "BatchOptions": "parameters",
    "BatchPlan": "planning",
    "BatchStarted": "events",
    "BatchSummary": "events",
    "BatchWarning": "events",
    "Job": "job",
    "JobDone": "events",
    "JobFailed": "events",
    "JobFailure": "events",
    "JobUnchanged": "events",
    "JobWarnings": "events",
    "PlannedJob": "planning",
    "RunStatus": "run_status",
    "WrittenSheet": "events",
}

__all__ = [
    "BatchEstimate",
    "BatchEvent",
    "BatchInterrupted",
    "BatchOptions",
    "BatchPlan",
    "BatchStarted",
    "BatchSummary",
    "BatchWarning",
    "Job",
    "JobDone",
    "JobFailed",
    "JobFailure",
    "JobUnchanged",
    "JobWarnings",
    "PlannedJob",
    "RunStatus",
    "WrittenSheet",
    "join",
    "plan",
    "run",
    "status",
]


def run(
    images: str | PathLike | Job | Iterable[str | PathLike | Job] = (),
    *,
    output: PathLike,
    on_event: Callable[[BatchEvent], object] | None = None,
    **options: Any,
) -> BatchSummary:
    """Edit many images into one directory; the same call again does only what is missing.

        zerocon.batch.run(["photos"], to=["at night"], output="edited", model="mini", steps=24)

    Args:
        images: Files, directories, glob patterns or ``Job`` objects.
        output: Output directory for the results and the journal.
        on_event: Called with every event of the run, at last with the summary. An exception that
            it raises stops the run: files being written are completed, the rest stays queued.
        options: The fields of ``BatchOptions``, the options of ``zerocon.load``, ``metadata``,
            ``keep_gps``, ``lenient``, ``max_megapixels``, ``cache``, ``segmenter``,
            ``copy_unchanged``, and any setting; settings lie over the model's own.

    Returns:
        The summary. Failed jobs raise nothing: see ``BatchSummary.failures``.

    Raises:
        ValueError: For arguments that cannot be carried out, before any edit.
        MissingError: For a model, device or package that is not here.
        KeyboardInterrupt: After Ctrl-C; the same call resumes the run.
    """
    from zerocon.batch.parameters import BatchOptions
    from zerocon.batch.session import open_session

    with open_session(BatchOptions.of(images, output=output, **options)) as session:
        return session.run(on_event or (lambda _: None))


def plan(
    images: str | PathLike | Job | Iterable[str | PathLike | Job] = (),
    *,
    output: PathLike,
    progress: Callable[[int, int], object] | None = None,
    **options: Any,
) -> BatchPlan:
    """Return what ``run`` would do with the same arguments, and its cost; writes nothing.

    Every image is read and captioned and every prompt parsed, and one U-Net evaluation is timed for
    each image size. Raises as ``run``.

    Args:
        images: As for ``run``.
        output: As for ``run``.
        progress: Called after every job with the number of planned jobs and of all.
        options: As for ``run``.
    """
    from zerocon.batch.parameters import BatchOptions
    from zerocon.batch.session import open_session

    arguments = BatchOptions.of(images, output=output, **options)
    with open_session(arguments, dry_run=True) as session:
        return session.plan(progress or (lambda *_: None))


def status(output: PathLike) -> RunStatus:
    """Return the state of the last run of an output directory, also while it is running.

    Raises:
        CommandError: If there is no run.
    """
    from zerocon.batch.run_status import read_status

    return read_status(Path(output))


def join(output: PathLike, run: int, digest: str | None = None, **options: Any) -> None:
    """Work on a run that another process of this machine has begun; reports nothing.

    Args:
        output: Output directory of the run.
        run: Its number in the journal.
        digest: Hash of the run, from the process that has begun it; None: it is this user's own.
        options: ``batch_size`` and ``shard``, as in ``run``.
    """
    from zerocon.batch.parameters import BatchOptions
    from zerocon.batch.session import join_run

    join_run(BatchOptions.of(output=output, **options), run, digest)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'zerocon.batch' has no attribute {name!r}")
    return getattr(import_module(f"zerocon.batch.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
