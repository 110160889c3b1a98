"""``zerocon models``: which models are on this machine, getting one, and whether it is whole."""

from __future__ import annotations

import click

from .. import options, render

GIGABYTE = 1e9


@click.group("models")
def command() -> None:
    """List, get and check models in the Hub's cache (HF_HOME says where that is)."""


@command.command("list")
@options.form
@options.talk
def listing(form: str) -> None:
    """List the models on this machine that zerocon can use."""
    from zerocon.model import hub

    found = hub.scan()
    rows = [f"{each.name}  {each.use}  {each.size / GIGABYTE:.2f} GB" for each in found]
    models = [
        {"name": each.name, "use": each.use, "folder": str(each.folder), "bytes": each.size}
        for each in found
    ]
    page = "\n".join(["mini  diffusion, captioner, clip  (embedded)", *rows])
    render.tell(form, page, {"schema": "zerocon.models/1", "models": models})


@command.command("pull")
@click.argument("name")
@options.form
@options.talk
def pulling(name: str, form: str) -> None:
    """Download NAME, a hub id, into the Hub's cache, and verify it.

    Pickles and safety checkers are left out. No other command asks the network for anything.
    """
    from zerocon.model import hub

    folder = str(hub.pull(name))
    render.tell(form, folder, {"schema": "zerocon.pull/1", "name": name, "folder": folder})


@command.command("verify")
@click.argument("name")
@options.form
@options.talk
def verifying(name: str, form: str) -> None:
    """Check that every file of NAME is there and whole: a hub id, a folder or a file."""
    from zerocon.model import hub

    files = [str(file) for file in hub.verify(name)]
    whole = f"{name} is whole: {len(files)} files"
    render.tell(form, whole, {"schema": "zerocon.verify/1", "name": name, "files": files})
