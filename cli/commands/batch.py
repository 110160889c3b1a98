"""``zerocon batch``: many edits of many images into one directory."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click
import cloup

from zerocon.batch.manifest import COLUMNS
from zerocon.batch.parameters import ALL, AUTO, BACKENDS, SHARED, BatchOptions
from zerocon.image import naming
from zerocon.model.spec import LOAD_OPTIONS
from zerocon.settings import Settings

from .. import edit_outputs, options
from ..batch_report import BatchReport, print_plan, print_status
from ..help import ExpertOption, HelpGroup
from ..progress import progress_bar, status

STDIN = Path("-")
F = TypeVar("F", bound=Callable[..., Any])


def _number_or(word: str, text: str) -> int | str:
    if text == word:
        return text
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f'{text!r} is neither "{word}" nor a number from 1')
    return int(text)


def batch_size(text: str) -> int | str:
    """A number from 1, or ``auto``."""
    return _number_or(AUTO, text)


def devices(text: str) -> int | str:
    """A number from 1, or ``all``."""
    return _number_or(ALL, text)


def output_directory(help: str) -> Callable[[F], F]:
    """The option ``-o``."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, file_okay=False),
        required=True,
        metavar="DIR",
        help=help,
    )


prompt = cloup.option_group(
    "Prompt",
    click.option(
        "--to",
        "tos",
        multiple=True,
        metavar="TEXT",
        help='Target prompt: "dog", "at night". Repeat for several edits of every image.',
    ),
    click.option(
        "--from", "from_", metavar="TEXT", help='Content to replace; removed if --to is "".'
    ),
    click.option("--to-caption", metavar="TEXT", help="Target caption of all images."),
    click.option(
        "--caption",
        metavar="TEXT",
        help="Source caption of all images. [default: generated for each]",
    ),
    click.option(
        "--sidecars",
        is_flag=True,
        help=f"Read source captions from NAME{naming.SIDECAR} next to images, where it exists.",
    ),
    options.directions,
    click.option(
        "--strength",
        "strengths",
        type=float,
        multiple=True,
        help="Scale of the edit direction; repeat for several edits. "
        f"[default: model's, else {Settings.strength}]",
    ),
    click.option(
        "--seed",
        "seeds",
        type=int,
        multiple=True,
        help=f"Random seed; repeat for several edits. [default: model's, else {Settings.seed}]",
    ),
)

inputs = cloup.option_group(
    "Input",
    click.option(
        "--files-from",
        type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
        metavar="FILE",
        help="Read more image names from a file, one per line; - is stdin.",
    ),
    options.lenient,
    click.option(
        "-0", "--null", is_flag=True, help="Names of --files-from are separated by zero bytes."
    ),
    click.option(
        "--manifest",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help=f"Read edits from a .csv, .jsonl or .toml file with columns {', '.join(COLUMNS)} and "
        "any setting; the rest is as for all.",
    ),
)

output = cloup.option_group(
    "Output",
    output_directory("Output directory; it gets the subdirectories of the inputs."),
    click.option(
        "--name",
        default=BatchOptions.name,
        show_default=True,
        metavar="TEMPLATE",
        help=f"Name of a result, with {', '.join(f'{{{each}}}' for each in naming.FIELDS)}; may "
        "contain directories.",
    ),
    options.overwrite,
    edit_outputs.copy_unchanged,
    click.option(
        "-n",
        "--dry-run",
        is_flag=True,
        help="Print how each prompt is understood, and the cost only.",
    ),
    click.option(
        "--sheet",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Also save a sheet of sources, edits and captions: .png, .jpg or .pdf.",
    ),
    edit_outputs.metadata,
)

run = cloup.option_group(
    "Jobs",
    click.option(
        "--resume",
        is_flag=True,
        help="Verify results by their hashes and redo those missing, with --overwrite also those "
        "changed; without a prompt, of the last run.",
    ),
    click.option(
        "--retry-failed",
        is_flag=True,
        help="Run jobs again that failed or were unchanged before.",
    ),
    click.option("--fail-fast", is_flag=True, help="Stop at the first failure."),
    click.option(
        "--shard",
        cls=ExpertOption,
        type=options.shard,
        metavar="I/N",
        help="Do part I of N, with a journal of its own: for job arrays of clusters.",
    ),
    click.option("--join", type=int, hidden=True),  # a run that another process has begun
    click.option("--digest", hidden=True),  # and its hash
)

performance = cloup.option_group(
    "Performance",
    click.option(
        "--batch-size",
        type=batch_size,
        default=str(BatchOptions.batch_size),
        show_default=True,
        metavar="N",
        help="Images of one size edited together; auto is 1 on a CPU, and what fits on a GPU.",
    ),
    click.option(
        "--devices",
        type=devices,
        metavar="all|N",
        help="Work in one process per GPU, or in N; one that dies is restarted.",
    ),
    click.option(
        "--backend",
        type=click.Choice(BACKENDS),
        default=BatchOptions.backend,
        show_default=True,
        help="ray: actors of the running Ray cluster, or of a local one, one per GPU or core, or "
        "--devices N. Needs the extra [ray].",
    ),
    options.no_cache,
    *options.performance,
)


class BatchGroup(HelpGroup):
    """``zerocon batch IMAGES``, and the subcommand ``status`` as the first argument."""

    allow_interspersed_args = True  # options may follow IMAGES, unlike in other groups

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Make the context of the subcommand if it is the first argument."""
        if args and (command := self.commands.get(args[0])):
            defaults = ((parent and parent.default_map) or {}).get(str(info_name), {})
            extra.setdefault("default_map", defaults.get(args[0]))
            return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@cloup.group(
    "batch",
    cls=BatchGroup,
    invoke_without_command=True,
    subcommand_metavar="",
    examples=(
        'zerocon batch photos -o edited --to "at night" --to watercolor',
        "zerocon batch photos -o edited --to dog --devices all",
        "zerocon batch --manifest edits.csv -o edited --fast",
        "zerocon batch -o edited --resume",
        "zerocon batch status -o edited",
    ),
)
@click.argument("images", nargs=-1, metavar="[IMAGES]...")
@prompt
@inputs
@output
@run
@options.common_method
@options.model_names
@performance
@options.max_megapixels
@options.output_format
@options.verbosity
def command(images: tuple[str, ...], **values: Any) -> int:
    """Edit many images into one directory; resumable.

    IMAGES are files, directories or patterns. A journal in DIR/.zerocon records what is done: the
    same command again does only what is missing, also after Ctrl-C, a crash or a power cut. Several
    commands may use one directory at a time. Exit status: 0 everything is done or unchanged, 1
    something failed. `zerocon batch status -o DIR` shows how far a batch is.
    """
    from zerocon import batch
    from zerocon.batch.launcher import rank

    with interrupted_by_sigterm():
        if values["join"]:
            size, part = values["batch_size"], values["shard"]
            run = (values["output"], values["join"], values["digest"])
            batch.join(*run, batch_size=size, shard=part)
            return 0
        arguments, quiet = batch_arguments(images, values), options.is_quiet()
        loading = "Listing the images and loading the model ..."
        if values["dry_run"]:
            with status(loading, quiet), progress_bar("Reading", quiet) as tick:
                plan = batch.plan(**arguments, progress=tick)
            print_plan(values["form"], plan)
            return 0
        report = BatchReport(values["form"], quiet)
        with status(loading, quiet), report.bar():
            summary = batch.run(**arguments, on_event=report)
        if rank():  # of several processes the first one reports
            return 0
        report.summary(summary)
        return 0 if summary.complete else 1


@command.subcommand("status", examples=("zerocon batch status -o edited",))
@output_directory("Output directory of the batch.")
@options.output_format
@options.verbosity
def show_status(output: Path, form: str) -> None:
    """Show the state of a run and its failures.

    Of the last run into the directory, also while it works. An image or a directory with the name
    "status" is edited as ./status.
    """
    from zerocon import batch

    print_status(form, batch.status(output))


def batch_arguments(images: tuple[str, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``zerocon.batch.run`` from the options' values."""
    for name in {*images} & {*command.commands}:
        raise click.UsageError(
            f"`zerocon batch {name}` is a command of its own; an image or a directory of this name "
            f"is ./{name}"
        )
    names = {each.name for each in fields(BatchOptions)}
    arguments = {name: value for name, value in values.items() if name in names}
    arguments |= {name: values.get(name) for name in (*SHARED, *LOAD_OPTIONS)}
    arguments |= {"to": values["tos"], "strength": values["strengths"], "seed": values["seeds"]}
    arguments |= {"images": images, "settings": options.explicit_settings(values), "preset": None}
    arguments |= {"cache": not values["no_cache"], "inputs": options.input_files(values)}
    if values["files_from"] == STDIN:
        listed = read_stdin_names(null=values["null"])
        arguments |= {"images": (*images, *listed), "files_from": None}
    if not _names_edits(arguments["images"], values):
        # a resumed run keeps its parameters, except those on the command line
        shared = {name: name for name in ("model", *SHARED, *LOAD_OPTIONS)} | {"cache": "no_cache"}
        for argument, option in shared.items():
            if not options.on_command_line(option):
                arguments[argument] = None
    return arguments


def _names_edits(images: Sequence[str], values: Mapping[str, Any]) -> bool:
    """Whether the command line says what is edited; see ``BatchOptions.has_inputs``."""
    if values["files_from"] or values["manifest"]:
        return True
    prompt = (values["tos"], values["from_"], values["to_caption"], values["directions"])
    return bool(images) and (any(each not in (None, ()) for each in prompt) or not values["resume"])


def read_stdin_names(*, null: bool) -> list[str]:
    """Read image names from stdin."""
    from zerocon.batch.discovery import read_list, split_names

    return split_names(read_list(sys.stdin.buffer, "stdin"), "stdin", null=null)


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
