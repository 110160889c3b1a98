"""``zerocon batch``: many pictures, many wishes, and a folder of results that loses nothing."""

from __future__ import annotations

from typing import Any

import click

from .. import batch_jobs, batch_run, dry_run, edit_outputs, options
from ..help import command as help_command

EXAMPLES = (
    'zerocon batch photos -o edited --to "at night" --to watercolor',
    "zerocon batch photos -o edited --to dog --devices all",
    "zerocon batch --manifest edits.csv -o edited",
    "zerocon batch -o edited --resume",
)


@help_command("batch", examples=EXAMPLES)
@batch_jobs.asked
@options.overwrite
@edit_outputs.metadata
@options.no_cache
@click.option(
    "--resume",
    is_flag=True,
    help="Check results by their hashes and make again what is missing, cut off or changed; "
    "without PICTURES, of the folder's last run.",
)
@click.option("--retry-failed", is_flag=True, help="Try again what has failed before.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first failure.")
@click.option(
    "--batch-size",
    type=batch_jobs.size,
    default="auto",
    show_default=True,
    metavar="N",
    help="Pictures of one shape that go through the network together: auto is 1 on a CPU, where "
    "results are then those of `zerocon edit` to the byte, and what fits on a GPU.",
)
@batch_jobs.spread
@options.dry_run
@options.output_format
@options.verbosity
@options.common_method
@options.model
def command(images: tuple[str, ...], **values: Any) -> int:
    """Edit PICTURES (files, folders, patterns) as `zerocon edit` would, into one folder.

    A journal in FOLDER/.zerocon knows what is done: the same command again does only what is
    missing, also after Ctrl-C, a crash or a power cut. Several may work on one folder at a time.
    Exit code 0 if everything is done, 1 if something failed.
    """
    with batch_run.terminated():
        if values["join"]:
            return batch_run.join(values)
        with batch_run.opened(images, values) as run:
            if values["dry_run"]:
                return dry_run.print_batch_plan(run)
            return batch_run.work(run)
