"""What is said before any option: ``zerocon.toml`` < ``ZEROCON_*`` in the environment < options.

The file is the nearest one from the working folder upwards, or what ``--config`` names. Its keys
are the long names of options, its tables ``[presets.NAME]`` are sets of them. Measuring commands
(``bench``, ``train``) listen to neither file nor environment: their numbers mean the same
everywhere.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from zerocon.errors import ConfigurationError
from zerocon.settings import PRESETS, Settings

FILE, PREFIX, META = "zerocon.toml", "ZEROCON_", "zerocon.configuration"
LISTENING = ("edit", "batch", "invert", "direction", "caption")
KEYS = (
    "model", "device", "dtype", "prediction", "captioner", "clip", "offload", "tile", "compile",
    "preset", "fast", *(each.name.replace("_", "-") for each in fields(Settings)),
    "no-cache", "keep-gps", "metadata", "format", "quiet",
)  # fmt: skip
RANKS = (ParameterSource.DEFAULT_MAP, ParameterSource.ENVIRONMENT, ParameterSource.COMMANDLINE)

Values = Mapping[str, Any]  # by key; strings, booleans and lists of strings, as options take them


@dataclass(frozen=True)
class ConfigFile:
    """A project's file, read; ``path`` is None where there is none."""

    path: Path | None = None
    values: Values = field(default_factory=dict)
    presets: Mapping[str, Values] = field(default_factory=dict)

    def listen(self, ctx: click.Context, command: click.Command) -> None:
        """Let ``command``, about to be run under ``ctx``, hear the file and the environment."""
        options = list(_options(command))
        for option in options:
            option.envvar = PREFIX + key(option).upper().replace("-", "_")
        known = {
            str(option.name): _listed(option, self.values[key(option)])
            for option in options
            if key(option) in self.values
        }
        inner = command.commands if isinstance(command, click.Group) else {}
        ctx.default_map = {str(command.name): {**known, **dict.fromkeys(inner, known)}}

    def preset(self, name: str) -> Values:
        """The values of a preset, the project's own or one of ours."""
        if name not in self.presets and name not in PRESETS:
            there = ", ".join([*PRESETS, *self.presets])
            raise click.UsageError(f'no preset "{name}"; there are: {there}')
        return self.presets[name] if name in self.presets else _said(PRESETS[name])


def read(named: Path | None = None) -> ConfigFile:
    """The file at ``named``, or the nearest; a ``ConfigurationError`` for what is not right."""
    here = Path.cwd()
    near = (folder / FILE for folder in (here, *here.parents))
    path = named or next((file for file in near if file.is_file()), None)
    if path is None:
        return ConfigFile()
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is no TOML: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    presets = said.pop("presets", {})
    if not isinstance(presets, dict) or not all(
        isinstance(each, dict) for each in presets.values()
    ):
        raise ConfigurationError(f"{path}: a preset is a table, [presets.NAME]")
    for name, values in presets.items():
        _require(values, [key for key in KEYS if key != "preset"], f"{path}, preset {name}")
    _require(said, KEYS, str(path))
    return ConfigFile(path, _said(said), {name: _said(each) for name, each in presets.items()})


def current(ctx: click.Context) -> ConfigFile:
    """What the command of this context listens to."""
    found: ConfigFile = ctx.meta.get(META) or ConfigFile()
    return found


def complete_preset(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:
    """Names of presets that begin with what was typed, for the shell."""
    try:
        own = read().presets
    except (ValueError, OSError):  # to be said when the command is run, not while it is typed
        own = {}
    return [name for name in (*PRESETS, *own) if name.startswith(typed)]


def complete_model(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Models that are here and begin with what was typed, and files, for the shell."""
    from huggingface_hub import constants

    cached = Path(constants.HF_HUB_CACHE).glob("models--*--*")
    names = ["mini", *sorted("/".join(folder.name.split("--")[1:3]) for folder in cached)]
    found = [CompletionItem(name) for name in names if name.startswith(typed)]
    return [*found, CompletionItem(typed, type="file")]


def key(option: click.Parameter) -> str:
    """What an option is called in a file: ``--keep-gps`` is ``keep-gps``."""
    return max(option.opts, key=len).lstrip("-")


def merged(ctx: click.Context, values: Mapping[str, Any]) -> dict[str, Any]:
    """The option values of a command, presets laid under what was said in the same place.

    A preset that was named on the command line is so above what the file says, and under what other
    options say.
    """
    named = {str(option.name): option for option in _options(ctx.command)}
    rank = {name: _rank(ctx, name) for name in named}
    result, configuration = dict(values), current(ctx)
    chosen = [("fast", "fast")] if values.get("fast") else []
    chosen += [("preset", values["preset"])] if values.get("preset") else []
    for option, name in chosen:
        for each, said in configuration.preset(name).items():
            target = next((n for n, option in named.items() if key(option) == each), None)
            if target is not None and rank[target] < rank[option]:
                result[target] = named[target].type_cast_value(ctx, said)
    return result


def origin(ctx: click.Context, option: click.Parameter) -> str | None:
    """Which file or variable a value came from; None for one given as an option, or by nobody."""
    source = ctx.get_parameter_source(str(option.name))
    if source is ParameterSource.ENVIRONMENT:
        return str(option.envvar)
    return str(current(ctx).path) if source is ParameterSource.DEFAULT_MAP else None


def _options(command: click.Command) -> Iterator[click.Option]:
    """Those of a command, and of the commands in it, that a file may speak of."""
    for param in command.params:
        if isinstance(param, click.Option) and key(param) in KEYS:
            yield param
    for inner in (command.commands if isinstance(command, click.Group) else {}).values():
        yield from _options(inner)


def _rank(ctx: click.Context, name: str) -> int:
    source = ctx.get_parameter_source(name)
    return RANKS.index(source) if source in RANKS else -1


def _require(values: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for name, value in values.items():
        if name.replace("_", "-") not in {each.replace("_", "-") for each in known}:
            raise ConfigurationError(f'{where}: no setting "{name}"; there are: {", ".join(known)}')
        if isinstance(value, dict):
            raise ConfigurationError(f"{where}: {name} must be one value, not a table")


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as somebody would type them: 0.6 as "0.6", [7, 3] as "7..3"."""
    return {name.replace("_", "-"): _typed(value) for name, value in values.items()}


def _listed(option: click.Option, value: Any) -> Any:
    """One value of an option that takes several, as a list of one."""
    return [value] if option.multiple and isinstance(value, str) else value


def _typed(value: Any) -> Any:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, list | tuple):
        texts = [str(each) for each in value]
        return texts if any(isinstance(each, str) for each in value) else "..".join(texts)
    return str(value)
