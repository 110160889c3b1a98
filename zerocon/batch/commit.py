"""Results put in place, so that after any accident everybody can tell what is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from zerocon.batch.job import Job
from zerocon.batch.journal import JobRecord, Journal
from zerocon.errors import OutputExistsError, OutputIsInputError
from zerocon.storage.atomic import writing
from zerocon.storage.hashing import file_hash

SHOWN = 3  # names in a message
PARTS = "parts"  # files on their way into place, below the journal's folder


def stamp(image: Path) -> str:
    """Size and time of a file: while both stay, nobody reads it again to see if it is the same."""
    try:
        state = image.stat()
    except OSError:
        return ""  # reading it will say why
    return f"{state.st_size} {state.st_mtime_ns}"


def put(journal: Journal, entry: JobRecord, worker: str, data: bytes, content: str) -> None:
    """Write a result, made of a picture of this ``content``; the journal knows of it before.

    Raises ``FileExistsError`` for a file that nobody asked to replace.
    """
    journal.require_here()
    path, result = journal.outputs / entry.job.name, blake2b(data, digest_size=16).hexdigest()
    if not journal.place(entry.name, worker, result, content):
        return  # somebody took us for dead, and makes the same
    if not entry.replace and _digest(path) == result:
        return  # the very file, by somebody who could not say so any more
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = journal.folder / PARTS
    parts.mkdir(exist_ok=True)
    with writing(path, overwrite=entry.replace, through=parts / f"{worker}-") as temporary:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # in place means: after a power cut, too


def recover(journal: Journal) -> None:
    """Queue again what workers left behind that have ended, but for what was in place already."""
    for worker in journal.dead(journal.workers()):
        for entry in journal.entries(None, "placing"):
            if entry.worker == worker and intact(journal.outputs, entry):
                journal.finish(entry.name, worker)
        journal.put_back(worker)
    for part in (journal.folder / PARTS).glob("*.part"):
        if journal.dead([part.name.partition("-")[0]]):
            part.unlink(missing_ok=True)


def intact(outputs: Path, entry: JobRecord) -> bool:
    """Whether the file in place is the one that was made."""
    return _digest(outputs / entry.job.name) == entry.result


def plan(
    known_of: Callable[[str], JobRecord | None],
    outputs: Path,
    jobs: Iterable[tuple[Job, str, str]],
    *,
    inputs: Iterable[Path] = (),
    overwrite: bool = False,
    verify: bool = False,
    retry: bool = False,
) -> tuple[list[tuple[JobRecord | None, JobRecord]], list[str]]:
    """What to enter of ``jobs`` (with recipe and shape), and the names of those that stay.

    Done by the same recipe from the same picture stays done while its file is there and, to
    ``verify``, is the file that was made. Failed stays failed unless ``retry``. Raises
    ``FileExistsError``, before anything begins, for results that would take the place of files
    made otherwise; ``overwrite`` lets them. Raises ``OutputIsInputError`` for a result that is the
    same file as a picture of any order, one of its directions, or one of ``inputs``.
    """
    jobs = list(jobs)
    require_no_inputs(outputs, [job for job, _, _ in jobs], inputs)
    entered, kept, taken = list[tuple[JobRecord | None, JobRecord]](), list[str](), list[Path]()
    for job, recipe, shape in jobs:
        known, path = known_of(str(job.name)), outputs / job.name
        new = JobRecord(job, recipe, stamp(job.image), shape, "queued", overwrite)
        if known is None or not _same(known, new):
            if os.path.lexists(path) and not overwrite:
                taken.append(path)
        elif known.state == "done":
            if intact(outputs, known) if verify else path.is_file():
                kept.append(known.name)
                continue
            new = replace(new, replace=overwrite or verify)
        elif known.state != "failed" or not retry:
            kept.append(known.name)
            continue
        entered.append((known, new))
    if taken:
        names = ", ".join(str(path) for path in taken[:SHOWN]) + " ..." * (len(taken) > SHOWN)
        raise OutputExistsError(
            f"{len(taken)} of the results exist already and were made otherwise ({names}); give "
            "--overwrite, another -o or another --name"
        )
    return entered, kept


def require_no_inputs(outputs: Path, jobs: Sequence[Job], inputs: Iterable[Path]) -> None:
    """Raise ``OutputIsInputError`` if a result of ``jobs`` would replace a file that is read.

    Files are compared as the system knows them, so that links and other spellings are found.
    """
    directions = {file for job in jobs for file, _ in job.directions}
    files = {*inputs, *map(Path, directions), *(job.image for job in jobs)}
    read = {number for file in files if (number := _file_number(file))}
    for job in jobs:
        path = outputs / job.name
        if (number := _file_number(path)) and number in read:
            raise OutputIsInputError(
                f"the result {path} is an input of this run; give another -o or another --name"
            )


def _file_number(file: Path) -> tuple[int, int] | None:
    """Device and inode of a file, links followed; None if there is none."""
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _same(known: JobRecord, new: JobRecord) -> bool:
    """Whether both are the same edit of the same picture; a moved or touched one is read to see."""
    if known.recipe != new.recipe:
        return False
    where = (known.job.image, known.stamp) == (new.job.image, new.stamp)
    return where or (known.content is not None and known.content == _digest(new.job.image))


def _digest(file: Path) -> str | None:
    try:
        return file_hash(file) if file.is_file() else None
    except OSError:
        return None
