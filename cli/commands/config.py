"""``zerocon config``: what edits are made with here, and who says so."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from zerocon.settings import DEFAULT_MODEL, Settings

from .. import config_file, options, render
from ..config_file import KEYS

MEASURED = "zerocon.json"  # what a model's folder says about settings


@click.group("config")
def command() -> None:
    """See the settings that hold in this folder."""


@command.command("show")
@click.option("--origin", is_flag=True, help="Say where every value comes from.")
@options.form
@click.pass_context
def show(ctx: click.Context, origin: bool, form: str) -> None:
    """Show the settings of `zerocon edit` without options, as a zerocon.toml.

    zerocon's own defaults < the model's, where it is mini or a folder < the nearest zerocon.toml
    from here upwards < ZEROCON_NAME in the environment < options.
    """
    found = effective(ctx)
    lines = [
        f"{name} = {json.dumps(value)}" if value is not None else f"# {name} is not set"
        for name, (value, _) in found.items()
    ]
    if origin:
        width = max(map(len, lines))
        lines = [f"{line:{width}}  # {found[n][1]}" for line, n in zip(lines, found, strict=True)]
    file = config_file.current(ctx).path
    said = {name: {"value": value, "origin": whose} for name, (value, whose) in found.items()}
    facts = {"file": None if file is None else str(file), "settings": said}
    render.tell(form, "\n".join(lines), {"schema": "zerocon.config/1", **facts})


def effective(ctx: click.Context) -> dict[str, tuple[Any, str]]:
    """Every setting of an edit: its value, and who says so."""
    from .edit import command as edit

    config_file.current(ctx).listen(ctx, edit)
    with edit.make_context("edit", ["-"], parent=ctx) as inner:
        known = {str(each.name): each for each in edit.params if config_file.key(each) in KEYS}
        whose = {name: config_file.origin(inner, option) for name, option in known.items()}
        given = options.given(inner.params)
        chosen = inner.params["preset"] or "fast"  # what else says a setting
        folder = _folder(inner.params["model"] or DEFAULT_MODEL)
    measured = json.loads(folder.read_text()) if folder else {}
    final = asdict(Settings().overlay(measured).overlay(given))
    found: dict[str, tuple[Any, str]] = {}
    for name, option in known.items():
        if name not in final:
            value = inner.params.get(name, inner.meta.get(options.QUIET))  # it has none of its own
            default = DEFAULT_MODEL if name == "model" else value
            found[config_file.key(option)] = (
                default if value is None else value,
                whose[name] or "default",
            )
            continue
        said = whose[name] or f"preset {chosen}"
        own = str(folder) if name in measured else "default"
        found[config_file.key(option)] = (final[name], said if name in given else own)
    return {name: found[name] for name in KEYS}


def _folder(model: str) -> Path | None:
    """The file in which a model's folder says its settings, if it can be found for nothing."""
    from zerocon import mini

    file = (mini.path() if model == "mini" else Path(model).expanduser()) / MEASURED
    return file if file.is_file() else None
