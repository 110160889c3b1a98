"""The command line: ``zerocon edit cat.png --to dog``. It asks the library and does the talking."""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import click

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
from .options import VERBOSE

# Read from cli/<name>.py when asked for. Inside them torch is imported by the command's body, so
# that help costs nothing.
COMMANDS = (
    "edit", "batch", "invert", "direction", "caption", "inspect", "replay", "methods", "models",
    "cache", "config", "completion", "doctor", "errors", "bench", "train",
)  # fmt: skip

NO_MEMORY = "not enough memory, with all spared that can be; try --fast or --device cpu"


class CommandFailure(click.ClickException):
    """An error and the class that explains it, on its way out."""

    def __init__(self, message: str, kind: type[ZeroconError]) -> None:
        super().__init__(message)
        self.kind = kind


class CommandGroup(click.Group):
    """Commands loaded on demand, and one line for every mistake."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f".commands.{name}", __package__).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader has gone; click knows what to do
            raise
        except Exception as error:
            kind = classify(error)
            if kind is None:  # click's own, or a bug, whose traceback is wanted
                raise
            if ctx.meta.get(VERBOSE):
                traceback.print_exception(error)
            said = NO_MEMORY if kind is OutOfMemoryError else str(error) or type(error).__name__
            raise CommandFailure(said, kind) from error

    def main(self, *args: Any, **extra: Any) -> Any:
        extra["standalone_mode"] = False  # click would say three lines where one will do
        try:
            result = super().main(*args, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(CommandError.code)
        except click.ClickException as error:
            said, place = " ".join(error.format_message().split()), _whence(error)
            kind = error.kind if isinstance(error, CommandFailure) else CommandError
            kind = ConfigurationError if place else kind
            click.echo(f"Error: {said}{place} [{kind.id}]", err=True)
            sys.exit(kind.code)
        except click.Abort:
            click.echo(f"Interrupted [{Interrupted.id}]", err=True)
            sys.exit(Interrupted.code)
        sys.exit(result if isinstance(result, int) else 0)


@click.group("zerocon", cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--offline", is_flag=True, help="Let nothing ask the network (HF_HUB_OFFLINE=1).")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help=f"Read this instead of the nearest {config_file.FILE}.",
)
@click.pass_context
def main(ctx: click.Context, offline: bool, file: Path | None) -> None:
    """Edit a real picture by saying what should be different.

    Data goes to stdout, talk to stderr. Exit codes: 0 done, 1 what was checked is not so (replay,
    doctor, cache verify), 2 a mistake in the command or the picture, 3 a model, device or package
    that is not here, 130 interrupted. Errors end in an id that `zerocon errors` explains.
    """
    if offline:  # read by the Hub's library when a command's body first imports it
        os.environ["HF_HUB_OFFLINE"] = "1"
    command = main.get_command(ctx, ctx.invoked_subcommand or "")
    if command and (command.name in config_file.LISTENING or command.name == "config"):
        ctx.meta[config_file.META] = found = config_file.read(file)
        found.listen(ctx, command)
    elif file:
        raise click.UsageError(f"{ctx.invoked_subcommand} listens to no {config_file.FILE}")


def _whence(error: click.ClickException) -> str:
    """Where a bad value was said, if it was not said on the command line."""
    if not isinstance(error, click.BadParameter) or not error.ctx or not error.param:
        return ""
    place = config_file.origin(error.ctx, error.param)
    return f" ({place})" if place else ""
