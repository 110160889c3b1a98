"""``zerocon bench``: how good edits are where the right answer is known, how fast, how safe."""

from __future__ import annotations

import click

from .faults import command as faults
from .soak import command as soak
from .speed import command as speed
from .tables import command as table
from .world import command as world


@click.group("bench")
def command() -> None:
    """Measure edits where the right answer is known."""


command.add_command(world)
command.add_command(table)
command.add_command(speed)
command.add_command(faults)
command.add_command(soak)
