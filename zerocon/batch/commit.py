"""Commit of results: written whole, recorded in the journal before and after, recovered later."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from zerocon.batch.job import Job
from zerocon.batch.journal import DONE, PLACED, JobRecord, Journal, Outcome
from zerocon.errors import NotWritableError, OutputExistsError
from zerocon.storage.atomic import writing
from zerocon.storage.hashing import hash_of
from zerocon.storage.paths import leads_out, require_no_inputs

SHOWN = 3  # names in a message
CLAIMED_STATES = ("running", "placing", "copying")
PARTS = "parts"  # temporary files, below the journal's directory

Changes = list[tuple[JobRecord | None, JobRecord]]  # expected in the journal, and replacement


def stamp(image: Path) -> str:
    """Return size and modification time; while both are equal, the file is not read again."""
    try:
        stat = image.stat()
    except OSError:
        return ""  # reading it will give the reason
    return f"{stat.st_size} {stat.st_mtime_ns}"


def put(
    journal: Journal,
    record: JobRecord,
    worker: str,
    data: bytes,
    image_hash: str,
    outcome: Outcome = DONE,
) -> None:
    """Write a result, after the journal has recorded its hash and that of the source image.

    ``outcome`` is what the journal records if this process dies once the file is in place.

    Raises:
        FileExistsError: For an existing file that the job may not overwrite.
    """
    journal.require_exists()
    path, result_hash = journal.output / record.job.name, blake2b(data, digest_size=16).hexdigest()
    if not journal.place(record.name, worker, result_hash, image_hash, outcome):
        return  # another worker took this one for dead, and computes the same
    require_below(journal.output, record.job)
    if not record.overwrite and hash_of(path) == result_hash:
        return  # the same file, by a worker that died before recording it
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = journal.folder / PARTS
    parts.mkdir(exist_ok=True)
    with writing(path, overwrite=record.overwrite, through=parts / f"{worker}-") as temporary:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # the content must be on disk before the name is


def recover(journal: Journal) -> None:
    """Queue the jobs of dead workers again, except those whose result is in place already."""
    for worker in journal.dead(journal.workers()):
        for record in journal.records(None, *PLACED):
            if record.worker == worker and intact(journal.output, record):
                journal.finish(record.name, worker, record.outcome or DONE)
        journal.release(worker)
    for part in (journal.folder / PARTS).glob("*.part"):
        if journal.dead([part.name.partition("-")[0]]):
            part.unlink(missing_ok=True)


def intact(output: Path, record: JobRecord) -> bool:
    """Whether the file of a result has the hash in the journal."""
    return hash_of(output / record.job.name) == record.result_hash


def plan(
    find_record: Callable[[str], JobRecord | None],
    output: Path,
    jobs: Iterable[tuple[Job, str, str]],
    *,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    verify: bool = False,
    retry: bool = False,
    copy: bool = False,
    on_changed: Callable[[JobRecord], object] = lambda _: None,
) -> tuple[Changes, list[JobRecord]]:
    """Decide which of ``jobs`` have to run; writes nothing.

    A job with the same recipe and image stays done while its file exists, and stays failed or
    unchanged unless ``retry``. ``copy``: one that is unchanged runs if its source has not been
    copied. ``jobs`` come with recipe hash and shape.

    A file is replaced only with ``overwrite``, that of this command: what an earlier one was
    allowed counts for nothing. With ``verify``, a file without the hash in the journal was changed
    since it was written: it is kept, and ``on_changed`` is called with its record, unless
    ``overwrite``.

    Returns:
        The records to add to the journal, and those that stay as they are.

    Raises:
        OutputExistsError: For files that are of no such job, unless ``overwrite``.
        OutputIsInputError: For a result that is an image, a direction, a mask or one of ``inputs``.
    """
    jobs = list(jobs)
    require_places(output, [job for job, _, _ in jobs], inputs)
    changes, kept, existing = Changes(), list[JobRecord](), list[Path]()
    for job, recipe_hash, shape in jobs:
        old, path = find_record(str(job.name)), output / job.name
        new = JobRecord(job, recipe_hash, stamp(job.image), shape, "queued", overwrite)
        same = old is not None and old.is_edit_of(new)
        if old is not None and same and _stays(old, output, overwrite, verify, retry, copy):
            if verify and _has_file(old) and not intact(output, old):
                on_changed(old)
            updated = old if old.state in CLAIMED_STATES else replace(old, job=job, stamp=new.stamp)
            if updated == old:
                kept.append(old)
            else:  # what the journal says about a job is not taken from it, only how it ended
                changes.append((old, updated))
            continue
        proved = old is not None and same and _has_file(old) and intact(output, old)
        if os.path.lexists(path) and not (overwrite or proved):
            existing.append(path)
        changes.append((old, new))
    _require_none(existing)
    return changes, kept


def inputs_of(jobs: Iterable[Job]) -> set[Path]:
    """Every file that jobs read: images, masks, directions."""
    files: set[Path] = set()
    for job in jobs:
        files |= {job.image, *(Path(file) for file, _ in (*job.directions, *job.exemplars))}
        files |= {job.mask} if job.mask else set()
    return files


def require_places(output: Path, jobs: Sequence[Job], inputs: Iterable[Path]) -> None:
    """Check that results lie in the output directory, and that none is a file that is read.

    Raises:
        OutputIsInputError: For a result that is an image, a direction, a mask or one of ``inputs``.
        NotWritableError: For one that is elsewhere by a symbolic link.
    """
    require_no_inputs((output / job.name for job in jobs), {*inputs, *inputs_of(jobs)})
    for parent in {job.name.parent: job for job in jobs}.values():
        require_below(output, parent)


def require_below(output: Path, job: Job) -> None:
    """Check that no symbolic link leads from the output directory to that of a result elsewhere.

    Raises:
        NotWritableError: One does.
    """
    if leads_out(output, job.name):
        raise NotWritableError(
            f"{output / job.name} is outside of {output} by a symbolic link; remove the link"
        )


def _require_none(existing: Sequence[Path]) -> None:
    if existing:
        names = ", ".join(map(str, existing[:SHOWN])) + " ..." * (len(existing) > SHOWN)
        raise OutputExistsError(
            f"{len(existing)} of the results exist already and are not of the same edit ({names}); "
            "use --overwrite, another -o or another --name"
        )


def _stays(
    record: JobRecord, output: Path, overwrite: bool, verify: bool, retry: bool, copy: bool
) -> bool:
    """Whether a record of the same job needs no new one."""
    if record.state in CLAIMED_STATES:  # of a worker that is alive
        return True
    if record.state == "queued" or (retry and record.state in ("failed", "unchanged")):
        return False
    if _has_file(record):
        exists = (output / record.job.name).is_file()
        return exists and not (verify and overwrite and not intact(output, record))
    return not (copy and record.state == "unchanged")


def _has_file(record: JobRecord) -> bool:
    """Whether the record is that of a file in place: a result, or a copied source."""
    return record.state == "done" or record.copied
