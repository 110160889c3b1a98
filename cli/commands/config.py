"""``zerocon config``: show the effective settings."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerocon.settings import DEFAULT_MODEL, NONE

from .. import config_file, options, render
from ..config_file import KEYS
from ..help import group

if TYPE_CHECKING:
    from zerocon.model.defaults import ModelDefaults

ALIGNED = 60  # columns; longer values do not shift the origins of the others


@group(
    "config",
    examples=(
        "zerocon config show --origin",
        "zerocon config show > zerocon.toml",
        "ZEROCON_STEPS=30 zerocon config show --format json",
    ),
)
def command() -> None:
    """Show the settings that apply in this directory."""


@command.subcommand("show", examples=("zerocon config show --origin",))
@click.option("--origin", is_flag=True, help="Also print where each value is from.")
@options.output_format
@click.pass_context
def show(ctx: click.Context, origin: bool, form: str) -> None:
    """Print the settings of an edit without options, as TOML.

    Later sources override earlier ones: zerocon's defaults, the model's own (of mini or of a
    directory), the nearest zerocon.toml from this directory upwards, ZEROCON_NAME in the
    environment, options.
    """
    settings = effective(ctx)
    lines = [_line(name, value, source) for name, (value, source) in settings.items()]
    if origin:
        width = max(len(line) for line in lines if len(line) <= ALIGNED)
        lines = [
            f"{line:{width}}  # {settings[name][1]}"
            for line, name in zip(lines, settings, strict=True)
        ]
    file = config_file.current(ctx).path
    values = {
        name: {"value": value, "origin": source} for name, (value, source) in settings.items()
    }
    facts = {"file": None if file is None else str(file), "settings": values}
    render.print_result(form, lines, {"schema": "zerocon.config/1", **facts})


def _line(name: str, value: Any, source: str) -> str:
    """A line of zerocon.toml."""
    if value is not None:
        return f"{name} = {json.dumps(value)}"
    return f"# {name} is not set" if source == "default" else f'{name} = "{NONE}"'


def effective(ctx: click.Context) -> dict[str, tuple[Any, str]]:
    """The value of every setting of an edit, and its origin."""
    from .edit import command as edit

    config_file.current(ctx).apply(ctx, edit)
    with edit.make_context("edit", ["-"], parent=ctx) as inner:
        configured = {str(each.name): each for each in edit.params if config_file.key(each) in KEYS}
        origins = {name: config_file.origin(inner, option) for name, option in configured.items()}
        explicit = options.explicit_settings(inner.params)
        preset = inner.params["preset"] or "fast"
        of_model = _model_defaults(inner.params["model"] or DEFAULT_MODEL)
    final = asdict(of_model.settings_in().overlay(explicit))
    result: dict[str, tuple[Any, str]] = {}
    for name, option in configured.items():
        key = config_file.key(option)
        if name in final:
            default = str(of_model.file) if name in of_model.values else "default"
            source = origins[name] or f"preset {preset}"
            result[key] = (final[name], source if name in explicit else default)
            continue
        value = inner.params.get(name, inner.meta.get(options.QUIET))  # not exposed as a value
        value = DEFAULT_MODEL if name == "model" and value is None else value
        result[key] = (value, origins[name] or "default")
    return {name: result[name] for name in KEYS}


def _model_defaults(model: str) -> ModelDefaults:
    """The defaults of a model that is mini or a directory; zerocon's own for others."""
    from zerocon import mini
    from zerocon.model.defaults import ModelDefaults

    return ModelDefaults.read(mini.path() if model == "mini" else Path(model).expanduser())
