"""``zerocon models``: list, download and verify models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .. import options, render, stdio
from ..help import group
from ..progress import status

if TYPE_CHECKING:
    from zerocon.model.hub import Download

GIGABYTE = 1e9
LARGE = GIGABYTE  # bytes that are downloaded without a question


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

    models = [hub.embedded(), *hub.scan()]
    rows = [f"{each.name}  {each.use}  {size(each.size)}" for each in models[1:]]
    records = [
        {"name": each.name, "use": each.use, "folder": str(each.folder), "bytes": each.size}
        for each in models
    ]
    page = [f"{models[0].name}  {models[0].use}  (embedded)", *rows]
    render.print_result(form, page, {"schema": "zerocon.models/1", "models": records})


@command.subcommand("pull", examples=("zerocon models pull openai/clip-vit-large-patch14",))
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before a large download.")
@options.output_format
@options.verbosity
def pull(name: str, yes: bool, form: str) -> None:
    """Download the model NAME, a Hub id, and verify it.

    The sizes are printed first; on a terminal, more than 1 GB is downloaded only after a question.
    After an interruption the same command downloads the files that are missing. Pickles and safety
    checkers are not downloaded. No other command uses the network.
    """
    from zerocon.model import hub

    with status(f"Listing the files of {name} ...", options.is_quiet()):
        download = hub.plan_download(name)
    if not options.is_quiet():
        for line in _sizes(download):
            render.print_message(line)
    if download.size > LARGE and not yes and stdio.is_interactive():
        if not click.confirm(f"Download {size(download.size)}?", default=True, err=True):
            render.print_message("Nothing is downloaded")
            return
    folder = str(hub.pull(download, quiet=options.is_quiet()))
    facts = {"name": name, "folder": folder, "downloaded": download.size}
    render.print_result(form, folder, {"schema": "zerocon.pull/1", **facts})


def size(count: float) -> str:
    """``4.27 GB``, ``0.59 MB``: a number of bytes."""
    return f"{count / GIGABYTE:.2f} GB" if count >= GIGABYTE / 100 else f"{count / 1e6:.2f} MB"


def _sizes(download: Download) -> list[str]:
    """Every file to download with its size, and the sum."""
    name, here = download.name, len(download.files) - len(download.missing)
    if not download.missing:
        return [f"{name}: all {here} files are here"]
    lines = [f"{file}  {size(count)}" for file, count in download.missing.items()]
    rest = f", {here} are here" if here else ""
    return [*lines, f"{name}: {size(download.size)} in {len(lines)} files{rest}"]


@command.subcommand("verify", examples=("zerocon models verify openai/clip-vit-large-patch14",))
@click.argument("name")
@options.output_format
@options.verbosity
def verify(name: str, form: str) -> None:
    """Check that NAME would load: files, configurations, shapes of weights.

    NAME is a Hub id, a directory or a file. Files in the Hub cache are compared with their hashes.
    Values of weights are checked when the model is loaded.
    """
    from zerocon.model import hub

    verified = hub.verify(name)
    files = [str(file) for file in verified.files]
    variants = [f"{part} {kind}" for part, kind in verified.variants.items() if kind]
    shards = [f"{part} in {n} shards" for part, n in verified.shards.items() if n > 1]
    hashed = [f"{verified.hashed} with the Hub's hash"] if verified.hashed else []
    summary = "; ".join([f"{name} is complete: {len(files)} files", *variants, *shards, *hashed])
    facts = {"variants": verified.variants, "shards": verified.shards, "hashed": verified.hashed}
    record = {"schema": "zerocon.verify/1", "name": name, "files": files, **facts}
    render.print_result(form, summary, record)
