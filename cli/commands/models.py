"""``zerocon models``: list, download and verify models."""

from __future__ import annotations

import click

from .. import options, render
from ..help import group

GIGABYTE = 1e9


@group(
    "models",
    examples=(
        "zerocon models list",
        "zerocon models pull stable-diffusion-v1-5/stable-diffusion-v1-5",
        "zerocon models verify ./my-stable-diffusion",
    ),
)
def command() -> None:
    """List, download and verify models in the Hub cache (HF_HOME)."""


@command.subcommand("list", examples=("zerocon models list --format json",))
@options.output_format
@options.verbosity
def list_models(form: str) -> None:
    """List the local models that zerocon can use."""
    from zerocon.model import hub

    local = hub.scan()
    rows = [f"{each.name}  {each.use}  {each.size / GIGABYTE:.2f} GB" for each in local]
    models = [
        {"name": each.name, "use": each.use, "folder": str(each.folder), "bytes": each.size}
        for each in local
    ]
    page = "\n".join(["mini  diffusion, captioner, clip  (embedded)", *rows])
    render.print_result(form, page, {"schema": "zerocon.models/1", "models": models})


@command.subcommand("pull", examples=("zerocon models pull openai/clip-vit-large-patch14",))
@click.argument("name")
@options.output_format
@options.verbosity
def pull(name: str, form: str) -> None:
    """Download the model NAME, a Hub id, and verify it.

    Pickles and safety checkers are not downloaded. No other command uses the network.
    """
    from zerocon.model import hub

    folder = str(hub.pull(name))
    render.print_result(form, folder, {"schema": "zerocon.pull/1", "name": name, "folder": folder})


@command.subcommand("verify", examples=("zerocon models verify openai/clip-vit-large-patch14",))
@click.argument("name")
@options.output_format
@options.verbosity
def verify(name: str, form: str) -> None:
    """Check that all files of NAME are complete.

    NAME is a Hub id, a directory or a file.
    """
    from zerocon.model import hub

    files = [str(file) for file in hub.verify(name)]
    summary = f"{name} is complete: {len(files)} files"
    record = {"schema": "zerocon.verify/1", "name": name, "files": files}
    render.print_result(form, summary, record)
