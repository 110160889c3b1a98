"""The command line: ``zerocon edit cat.png --to dog``. It parses, calls the library and prints."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import cloup

from zerocon import __version__
from zerocon.errors import (
    CommandError,
    ConfigurationError,
    Interrupted,
    OutOfMemoryError,
    ZeroconError,
    classify,
)

from . import config_file
from .help import WIDTH, HelpGroup
from .options import VERBOSE

# Each is imported from commands/NAME.py on demand, and its body imports torch: help stays fast.
SECTIONS = {
    "Edit images": ("edit", "batch", "invert", "caption", "direction"),
    "Inspect and reproduce edits": ("inspect", "replay"),
    "Set up": ("models", "methods", "config", "cache", "completion"),
    "Find problems": ("doctor", "errors"),
    "Develop": ("bench", "train"),
}
COMMANDS = tuple(name for names in SECTIONS.values() for name in names)

NO_MEMORY = "out of memory, after all ways to save memory were tried; try --fast or --device cpu"


class CommandFailure(click.ClickException):
    """An error of a command, and the class that explains it."""

    def __init__(self, message: str, kind: type[ZeroconError]) -> None:
        super().__init__(message)
        self.kind = kind


class CommandGroup(HelpGroup):
    """Commands imported on demand; every error is printed on one line, with its id."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def list_sections(
        self, ctx: click.Context, include_default_section: bool = True
    ) -> list[cloup.Section]:
        return [
            cloup.Section(title, [_import(name) for name in names])
            for title, names in SECTIONS.items()
        ]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return _import(name) if name in COMMANDS else None

    def handle_bad_command_name(
        self, bad_name: str, valid_names: list[str], error: click.UsageError
    ) -> click.UsageError:
        return super().handle_bad_command_name(bad_name, list(COMMANDS), error)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # handled by click: whatever reads our stdout has ended
            raise
        except Exception as error:
            kind = classify(error)
            if kind is None:  # click's own, or a bug, which needs its traceback
                raise
            if ctx.meta.get(VERBOSE):
                traceback.print_exception(error)
            text = NO_MEMORY if kind is OutOfMemoryError else str(error) or type(error).__name__
            raise CommandFailure(text, kind) from error

    def main(self, *args: Any, **extra: Any) -> Any:
        extra["standalone_mode"] = False  # click would print three lines for an error
        try:
            result = super().main(*args, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(CommandError.code)
        except click.ClickException as error:
            text, place = " ".join(error.format_message().split()), _place(error)
            kind = error.kind if isinstance(error, CommandFailure) else CommandError
            kind = ConfigurationError if place else kind
            click.echo(f"Error: {text}{place} [{kind.id}]", err=True)
            sys.exit(kind.code)
        except click.Abort:
            click.echo(f"Interrupted [{Interrupted.id}]", err=True)
            sys.exit(Interrupted.code)
        sys.exit(result if isinstance(result, int) else 0)


def _import(name: str) -> click.Command:
    command: click.Command = import_module(f".commands.{name}", __package__).command
    return command


@cloup.group(
    "zerocon",
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
    examples=(
        "zerocon edit fox.png --to dog --model mini",
        'zerocon batch photos -o edited --to "at night"',
        "zerocon edit --help",
        "zerocon errors ZC-E020",
    ),
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--offline", is_flag=True, help="Forbid all network access (HF_HUB_OFFLINE=1).")
@click.option(
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"Configuration file. [default: nearest {config_file.FILE}]",
)
@click.pass_context
def main(ctx: click.Context, offline: bool, file: Path | None) -> None:
    """Edit existing images from a few words with a latent diffusion model.

    Results go to stdout, messages to stderr. Exit status: 0 success, 1 a check failed (batch,
    replay, doctor, cache verify), 2 invalid input, 3 a model, device or package is missing, 130
    interrupted. Error messages end in an id, which `zerocon errors ID` explains.
    """
    if offline:  # read by huggingface_hub when a command's body first imports it
        os.environ["HF_HUB_OFFLINE"] = "1"
    command = main.get_command(ctx, ctx.invoked_subcommand or "")
    if command and (command.name in config_file.COMMANDS or command.name == "config"):
        ctx.meta[config_file.META] = config = config_file.read(file)
        config.apply(ctx, command)
    elif file:
        raise click.UsageError(f"{ctx.invoked_subcommand} does not read {config_file.FILE}")


def _place(error: click.ClickException) -> str:
    """The file or variable of a bad value, unless it is from the command line."""
    if not isinstance(error, click.BadParameter) or not error.ctx or not error.param:
        return ""
    place = config_file.origin(error.ctx, error.param)
    return f" ({place})" if place else ""
