"""The command line: ``zerocon edit cat.png --to dog``. It parses, calls the library and prints."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import cloup

from zerocon import __version__
from zerocon.errors import (
    CommandError,
    ConfigurationError,
    ExitCode,
    Interrupted,
    OutOfMemoryError,
    ZeroconError,
    classify,
)
from zerocon.storage.processes import use_safe_environment

from . import config_file, render, stdio
from .help import WIDTH, HelpGroup
from .options import FORMAT, VERBOSE, format_in

# Each is imported from commands/NAME.py on demand, and its body imports torch: help stays fast.
SECTIONS = {
    "Edit images": ("edit", "translate", "batch", "invert", "caption", "direction"),
    "Inspect and reproduce edits": ("inspect", "replay"),
    "Set up": ("models", "calibrate", "methods", "config", "cache", "completion"),
    "Find problems": ("doctor", "errors"),
    "Develop": ("bench", "train"),
}
COMMANDS = tuple(name for names in SECTIONS.values() for name in names)

NO_MEMORY = "out of memory, after all ways to save memory were tried; try {}--device cpu"


class CommandFailure(click.ClickException):
    """An error of a command: the class that explains it, its file, and what would be right."""

    def __init__(self, error: Exception, kind: type[ZeroconError], ctx: click.Context) -> None:
        text = str(error) or type(error).__name__
        if kind is OutOfMemoryError:
            command = _import(ctx.invoked_subcommand) if ctx.invoked_subcommand else ctx.command
            fast = any("--fast" in parameter.opts for parameter in command.params)
            text = NO_MEMORY.format("--fast or " if fast else "")
        super().__init__(text)
        self.kind, self.ctx = kind, ctx
        path = error.filename if isinstance(error, OSError) else None
        self.path: str | None = getattr(error, "path", None) or (path and os.fsdecode(path))
        self.hints: tuple[str, ...] = getattr(error, "hints", ())


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
            raise CommandFailure(error, kind, ctx) from error

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        extra["standalone_mode"] = False  # click would print three lines for an error
        extra["obj"] = args is None  # whether the process is the command's own, for options.loading
        words = [*(sys.argv[1:] if args is None else args)]
        if args is None:
            use_safe_environment()
            stdio.open_closed_streams()
        with stdio.clean_streams(), _broken_pipe():
            try:
                result = super().main(args, *rest, **extra)
                sys.stdout.flush()
            except click.exceptions.NoArgsIsHelpError as error:
                error.show()
                sys.exit(CommandError.code)
            except click.ClickException as error:
                sys.exit(_print_error(error, words))
            except click.Abort:
                render.print_error(format_in(words) or "human", Interrupted, "Interrupted")
                sys.exit(Interrupted.code)
            sys.exit(result if isinstance(result, int) else 0)


@contextmanager
def _broken_pipe() -> Iterator[None]:
    """Exit status 1 without a message where whatever reads stdout or stderr has ended."""
    try:
        yield
    except BrokenPipeError:
        # what is left in the buffers would raise it again at the end of the process
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(null, stream.fileno())
        sys.exit(ExitCode.CHECK_FAILED)


def _print_error(error: click.ClickException, words: Sequence[str]) -> ExitCode:
    """The error on one line, and as JSON if that is the format; returns the exit status."""
    text, place = " ".join(error.format_message().split()), _place(error)
    kind: type[ZeroconError] = CommandError
    path: str | None = None
    hints: tuple[str, ...] = ()
    if isinstance(error, CommandFailure):
        kind, path, hints = error.kind, error.path, error.hints
    elif place:
        kind, text = ConfigurationError, f"{text} ({place})"
        path = place if Path(place).is_file() else None
    ctx: click.Context | None = getattr(error, "ctx", None)
    form = format_in(words) or (ctx.meta.get(FORMAT) if ctx else None) or "human"
    render.print_error(form, kind, text, path, hints)
    return kind.code


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
    return config_file.origin(error.ctx, error.param) or ""
