"""``zerocon direction show``: what a direction was made of, and where it is long."""

from __future__ import annotations

from pathlib import Path

import click

from .. import options, render
from . import account


@click.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@options.form
@options.talk
def command(file: Path, form: str) -> None:
    """Show what is in FILE: words, sentences, model, and the length at every position.

    Lengths are relative to those of the source sentences' own tokens, "share" is of the squared
    length. Position 0 is the start of a sentence, where all are alike; most positions of most
    sentences stand after their end.
    """
    import zerocon

    direction = zerocon.Direction.load(file)
    render.tell(form, account.page(direction), {"file": str(file), **account.record(direction)})
