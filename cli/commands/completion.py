"""``zerocon completion``: what a shell needs to finish words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = {
    "bash": 'eval "$(zerocon completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(zerocon completion zsh)"  in ~/.zshrc',
    "fish": "zerocon completion fish | source  in ~/.config/fish/config.fish",
}


@click.command("completion", epilog="\b\n" + "\n".join(SHELLS.values()))
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete zerocon's commands, options, presets and models."""
    found = get_completion_class(shell)
    assert found is not None, shell
    root = ctx.find_root()
    click.echo(found(root.command, {}, "zerocon", "_ZEROCON_COMPLETE").source())
