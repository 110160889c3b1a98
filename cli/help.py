"""Help pages: options in groups, a few examples, and expert options on ``--help-all`` only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
import cloup

WIDTH = 100  # columns of a help page, on terminals that have them
QUIET = "zerocon.quiet"  # in the context's meta: whether only results and warnings are printed
META = "zerocon.help_all"  # in the context's meta: whether expert options are listed
GENERAL = "General"  # the group of the options that no other group has


class ExpertOption(cloup.Option):
    """An option that ``--help-all`` lists and ``--help`` leaves out."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option and its help, or None where it is left out."""
        return super().get_help_record(ctx) if ctx.meta.get(META) else None


class HelpCommand(cloup.Command):
    """A command whose help page ends with ``examples``, one command line each."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.params.append(_help_all(self.params))

    def invoke(self, ctx: click.Context) -> Any:
        """Say which configuration file applies, and run the command."""
        from . import config_file, render

        # of a group with a subcommand, the subcommand says it
        runs = not (isinstance(self, click.Group) and ctx._protected_args)
        line = config_file.announce(ctx, bool(ctx.meta.get(QUIET))) if runs else None
        if line:
            render.print_message(line)
        return super().invoke(ctx)

    def get_default_option_group(
        self, ctx: click.Context, is_the_only_visible_option_group: bool = False
    ) -> cloup.OptionGroup:
        """The options that are in no group, ``--help`` included."""
        group = super().get_default_option_group(ctx, is_the_only_visible_option_group)
        group.title = GENERAL if self.option_groups else "Options"
        return group

    def get_ungrouped_options(self, ctx: click.Context) -> Sequence[click.Option]:
        """The same options, with ``--help-all`` after ``--help``."""
        return [*super().get_ungrouped_options(ctx), *self.params[-1:]]  # type: ignore[list-item]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and the epilog."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            formatter.write_paragraph()
            formatter.write_heading("Examples")
            formatter.write("".join(f"  {line}\n" for line in self.examples))


class HelpGroup(HelpCommand, cloup.Group):
    """A command with subcommands; their help is laid out alike."""

    def subcommand(
        self, name: str, **attributes: Any
    ) -> Callable[[Callable[..., Any]], HelpCommand]:
        """Like ``command``, with ``examples``."""
        return self.command(name, cls=HelpCommand, **attributes)


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], HelpCommand]:
    """Like ``click.command``, with ``examples`` below the options."""
    return cloup.command(name, cls=HelpCommand, **attributes)


def group(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], HelpGroup]:
    """Like ``click.group``, with ``examples`` below the options."""
    return cloup.group(name, cls=HelpGroup, **attributes)


def _help_all(params: Sequence[click.Parameter]) -> click.Option:
    """``--help-all``, itself listed where there are expert options."""
    return click.Option(
        ["--help-all"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        hidden=not any(isinstance(param, ExpertOption) for param in params),
        callback=_show_all,
        help="Show this message with the expert options, and exit.",
    )


def _show_all(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[META] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()
