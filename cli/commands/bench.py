"""``zerocon bench``: how good edits are where the right answer is known, and how fast."""

from __future__ import annotations

import click

from .speed import command as speed
from .tables import command as table
from .world import command as world


@click.group("bench")
def command() -> None:
    """Measure edits where the right answer is known."""


command.add_command(world)
command.add_command(table)
command.add_command(speed)
