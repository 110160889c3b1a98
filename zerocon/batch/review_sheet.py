"""Review sheets: source, edit and captions of a run's results, as an image or a PDF."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from zerocon.batch.events import WrittenSheet
from zerocon.batch.journal import JobRecord, Journal
from zerocon.errors import CommandError, OutputFormatError
from zerocon.image.contact_sheet import PageRow, page, reduced
from zerocon.image.metadata import Provenance
from zerocon.image.reading import Photograph
from zerocon.image.saving import check_output, save_image
from zerocon.storage.atomic import writing
from zerocon.storage.hashing import file_hash
from zerocon.storage.paths import file_number, folded, require_no_inputs, require_output_name

PDF, ENDINGS = ".pdf", (".png", ".jpg", ".jpeg", ".pdf")
ROWS = 24  # of an image; more would be too high for programs that show it
PAGE_ROWS, PAGES = 5, 60  # of a PDF
COLUMNS = ("source", "edit")


def check_sheet(
    file: Path,
    output: Path,
    results: Iterable[Path],
    inputs: Iterable[Path],
    *,
    overwrite: bool,
) -> None:
    """Check that a review sheet can be written; cheap, call before editing.

    Raises:
        CommandError: It is the file of a result.
        InputError: As ``check_output``; the output directory need not exist.
    """
    results = list(results)
    names = {folded(path.absolute()) for path in results}
    if folded(file.absolute()) in names or file_number(file) in {*map(file_number, results)} - {
        None
    }:
        raise CommandError(f"the sheet {file} is the file of a result; give it another name")
    if file.suffix.lower() not in ENDINGS:
        raise OutputFormatError(f"{file} must end in {' or '.join(ENDINGS)}")
    require_no_inputs([file], inputs)
    require_output_name(file)
    if file.parent.absolute() != output.absolute() or output.is_dir():
        check_output(file, overwrite=overwrite, endings=ENDINGS)


def is_sheet(journal: Journal, file: Path) -> bool:
    """Whether a file is a sheet of an earlier run, as that wrote it."""
    digest = journal.sheet_hash(file)
    return digest is not None and file.is_file() and file_hash(file) == digest


def write_sheet(journal: Journal, run: int, file: Path, *, mark: bool) -> WrittenSheet:
    """Write the sheet of a run's edits, in the order of its jobs; no file without any.

    An existing file is replaced: ``check_sheet`` is the place to refuse one.

    Args:
        journal: Journal of the run; sources and results are read from their files.
        run: Number of the run.
        file: The sheet; its suffix is the format.
        mark: Label it as containing generated images, except in PDF.
    """
    records = journal.records(run, "done")
    counts = journal.counts(run)
    limit = PAGES * PAGE_ROWS if file.suffix.lower() == PDF else ROWS
    shown = records[:limit]
    title = _title(journal.output, len(records), len(shown), counts)
    if not shown:
        return WrittenSheet(file, 0, 0)
    if file.suffix.lower() == PDF:
        _write_pdf(file, title, shown, journal.output)
    else:
        image = page(title, COLUMNS, [_row(each, journal.output) for each in shown])
        save_image(image, file, overwrite=True, provenance=Provenance() if mark else None)
    journal.record_sheet(file, file_hash(file))
    return WrittenSheet(file, len(shown), len(records) - len(shown))


def _title(output: Path, total: int, shown: int, counts: dict[str, int]) -> str:
    text = f"{output}: {shown} edits" if shown == total else f"{output}: {shown} of {total} edits"
    text += f", {total - shown} are left out for lack of room" if shown < total else ""
    others = [f"{counts[state]} {state}" for state in ("unchanged", "failed") if counts.get(state)]
    return text + (f"; not shown: {', '.join(others)}" if others else "")


def _row(record: JobRecord, output: Path) -> PageRow:
    job, outcome = record.job, record.outcome
    lines = {"to": job.prompt.get("to"), "from": job.prompt.get("from_")}
    lines |= {"source": record.caption, "target": record.target_caption}
    texts = [f"{name}: {text}" for name, text in lines.items() if text]
    texts += [f"warning: {warning}" for warning in (outcome.warnings if outcome else ())]
    return PageRow((_read(job.image), _read(output / job.name)), (str(job.name), *texts))


def _read(file: Path) -> Image.Image | None:
    try:
        return reduced(Photograph.read(file).image)
    except Exception:  # a file that was moved or changed since leaves its cell empty
        return None


def _write_pdf(file: Path, title: str, records: Sequence[JobRecord], output: Path) -> None:
    pages = [records[i : i + PAGE_ROWS] for i in range(0, len(records), PAGE_ROWS)]
    epoch = time.gmtime(0)  # the same edits give the same bytes
    options: dict[str, Any] = {"format": "PDF", "resolution": 96, "quality": 95, "title": title}
    options |= {"creationDate": epoch, "modDate": epoch}
    with writing(file, overwrite=True) as temporary:
        for number, part in enumerate(pages, 1):  # one in memory at a time
            heading = f"{title} (page {number} of {len(pages)})"
            image = page(heading, COLUMNS, [_row(each, output) for each in part])
            image.save(temporary, append=number > 1, **options)
