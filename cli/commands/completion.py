"""``zerocon completion``: shell completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ..help import command as help_command

SHELLS = ("bash", "zsh", "fish")


@help_command(
    "completion",
    examples=(
        'eval "$(zerocon completion bash)"        # in ~/.bashrc',
        'eval "$(zerocon completion zsh)"         # in ~/.zshrc',
        "zerocon completion fish | source         # in ~/.config/fish/config.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    It completes commands, options, presets and local models.
    """
    completion = get_completion_class(shell)
    assert completion is not None, shell
    root = ctx.find_root()
    click.echo(completion(root.command, {}, "zerocon", "_ZEROCON_COMPLETE").source())
