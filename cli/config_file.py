"""Values of options from ``zerocon.toml`` and from ``ZEROCON_<NAME>`` in the environment.

Order of precedence: options, environment, file, model, zerocon's defaults. The file is the nearest
one from the working directory upwards, or the one that ``--config`` names. Its keys are the names
of options with dashes or underscores, except of those for one command, such as ``--lenient``; its
tables ``[presets.NAME]`` are sets of settings of an edit. Measuring commands (``bench``, ``train``)
read neither file nor environment, so that their numbers mean the same everywhere.

A file that was found may be of another person, in a shared directory or in an unpacked archive. It
must belong to the user or to root, and no other user may have the right to write it. Which file is
used is said on stderr, and what it sets of ``ANNOUNCED`` is said even with ``--quiet``.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from zerocon.errors import ConfigurationError, FileFormatError, about_argument
from zerocon.image import MEGAPIXELS, METADATA_LEVELS
from zerocon.model.spec import LOAD_OPTIONS
from zerocon.registry import FAMILIES, describe_own
from zerocon.settings import NONE, PRESETS, Settings, split_change
from zerocon.storage import strict_toml
from zerocon.storage.bounded import read_text
from zerocon.storage.escaping import one_line

FILE, PREFIX, META = "zerocon.toml", "ZEROCON_", "zerocon.configuration"
COMMANDS = (
    "edit",
    "translate",
    "batch",
    "invert",
    "direction",
    "caption",
)  # that read file and environment
SETTINGS = tuple(each.name for each in fields(Settings))
KEYS = (
    "model", *LOAD_OPTIONS, "preset", "fast", *SETTINGS,
    "no_cache", "keep_gps", "max_megapixels", "metadata", "format", "quiet",
)  # fmt: skip
ANNOUNCED = (  # privacy, limits, and weights or code that are loaded
    "keep_gps", "metadata", "max_megapixels", "model", "vae", "captioner", "clip", "guidance",
    "inverter", "attention",
)  # fmt: skip
LONGEST = 256_000  # bytes of a file
RANKS = (ParameterSource.DEFAULT_MAP, ParameterSource.ENVIRONMENT, ParameterSource.COMMANDLINE)

Values = Mapping[str, Any]  # by key; strings, booleans and lists of strings, as options take them


@dataclass(frozen=True)
class ConfigFile:
    """A parsed ``zerocon.toml``; ``path`` is None where there is none."""

    path: Path | None = None
    values: Values = field(default_factory=dict)
    discovered: bool = False  # not named by --config
    presets: Mapping[str, Values] = field(default_factory=dict)

    def apply(self, ctx: click.Context, command: click.Command) -> None:
        """Let ``command``, about to run under ``ctx``, read this file and the environment."""
        options = list(_options(command))
        for option in options:
            option.envvar = PREFIX + key(option).upper()
        defaults = {
            str(option.name): _as_list(option, self.values[key(option)])
            for option in options
            if key(option) in self.values
        }
        inner = command.commands if isinstance(command, click.Group) else {}
        ctx.default_map = {str(command.name): {**defaults, **dict.fromkeys(inner, defaults)}}

    def preset(self, name: str) -> Values:
        """The values of a preset, of this file or built in."""
        if name not in self.presets and name not in PRESETS:
            names = ", ".join([*PRESETS, *self.presets])
            raise click.UsageError(f'no preset "{name}"; there are: {names}')
        return self.presets[name] if name in self.presets else _as_options(PRESETS[name])


def read(path: Path | None = None) -> ConfigFile:
    """Parse ``path``, or the nearest file.

    Raises:
        ConfigurationError: It is not valid; or it was found, and others may have written it.
    """
    if path is not None:
        return _parse(path, discovered=False)
    here = Path.cwd()
    nearest = (folder / FILE for folder in (here, *here.parents))
    path = next((file for file in nearest if file.is_file()), None)
    return ConfigFile() if path is None else _parse(path, discovered=True)


@about_argument("path")
def _parse(path: Path, *, discovered: bool) -> ConfigFile:
    if discovered:
        _require_own(path)
    try:
        content = strict_toml.parse(read_text(path, longest=LONGEST, pipes=not discovered))
    except FileFormatError as error:
        raise ConfigurationError(str(error)) from None
    except (ValueError, RecursionError) as error:  # ValueError: an integer of 5,000 digits
        raise ConfigurationError(f"{path} is not valid TOML: {one_line(error, 200)}") from None
    presets = content.pop("presets", {})
    if not isinstance(presets, dict) or not all(
        isinstance(each, dict) for each in presets.values()
    ):
        raise ConfigurationError(f"{path}: a preset must be a table, [presets.NAME]")
    for name, values in presets.items():
        _validate(values, SETTINGS, f"{path}, preset {name}")
    _validate(content, KEYS, str(path))
    presets = {name: _as_options(each) for name, each in presets.items()}
    return ConfigFile(path, _as_options(content), discovered, presets)


def announce(ctx: click.Context, quiet: bool) -> str | None:
    """The line about the file that was found, and applies to the command of this context.

    None for a file that ``--config`` names, and for one that sets nothing here; with ``quiet`` also
    where it sets nothing of ``ANNOUNCED``. The embedded model and built-in methods are no foreign
    weights or code.
    """
    config = current(ctx)
    if not config.discovered or config.path is None:
        return None
    used = {
        key(option): option
        for option in _options(ctx.command)
        if ctx.get_parameter_source(str(option.name)) is ParameterSource.DEFAULT_MAP
    }
    preset = ctx.params.get("preset")
    of_preset = config.presets.get(preset, {}) if isinstance(preset, str) else {}
    if not used and not of_preset:
        return None
    values = {name: config.values[name] for name in used} | dict(of_preset)
    parts = [f"{name} = {_shown(value)}" for name, value in values.items() if _matters(name, value)]
    if quiet and not parts:
        return None
    file = FILE if config.path.parent == Path.cwd() else config.path
    return f"Configuration: {file}{' sets ' if parts else ''}{', '.join(parts)}"


def _matters(name: str, value: Any) -> bool:
    """Whether a value of a file weakens privacy or limits, or loads weights or code of others."""
    if name == "max_megapixels":
        return str(value) != f"{MEGAPIXELS:g}"
    if name not in FAMILIES:
        return name in ANNOUNCED and value not in (False, "mini", METADATA_LEVELS[0])
    texts = value if isinstance(value, list) else [str(value)]
    names = {split_change(text)[1].partition(":")[0].strip() for text in texts}
    return not names <= {NONE, *(row.name for row in describe_own(name))}


def _shown(value: Any) -> str:
    return one_line(json.dumps(value, ensure_ascii=False), 120)


def _require_own(path: Path) -> None:
    """Raise ``ConfigurationError`` for a file that another user owns, or may write."""
    if not _is_posix():
        return
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    if status.st_uid not in (os.getuid(), 0):
        raise ConfigurationError(
            f"{path} belongs to another user and is not used; name a file of your own: "
            "--config FILE"
        )
    by_group = status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid)
    if by_group or status.st_mode & stat.S_IWOTH:
        raise ConfigurationError(
            f"other users may write {path}, which is not used; chmod go-w it, or give --config FILE"
        )


def _is_posix() -> bool:
    """Whether owner and mode of a file say who may write it."""
    return os.name == "posix"


def _is_private_group(group: int) -> bool:
    """Whether only the user is in a group, as where every user has a group of the same name."""
    import grp
    import pwd

    try:
        user, entry = pwd.getpwuid(os.getuid()), grp.getgrgid(group)
    except KeyError:
        return False
    alone = set(entry.gr_mem) <= {user.pw_name}
    return alone and entry.gr_gid == user.pw_gid and entry.gr_name == user.pw_name


def current(ctx: click.Context) -> ConfigFile:
    """The file that applies to the command of this context."""
    config: ConfigFile = ctx.meta.get(META) or ConfigFile()
    return config


def complete_preset(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of presets that begin with ``incomplete``, for the shell."""
    try:
        presets = read().presets
    except (ValueError, OSError):  # reported when the command runs, not during completion
        presets = {}
    return [name for name in (*PRESETS, *presets) if name.startswith(incomplete)]


def complete_model(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Local models that begin with ``incomplete``, and files, for the shell."""
    from zerocon.model.hub import cache_folder

    cached = cache_folder().glob("models--*--*")
    names = ["mini", *sorted("/".join(folder.name.split("--")[1:3]) for folder in cached)]
    items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return [*items, CompletionItem(incomplete, type="file")]


def key(option: click.Parameter) -> str:
    """The key of an option: ``--keep-gps`` is ``keep_gps``."""
    return max(option.opts, key=len).lstrip("-").replace("-", "_")


def with_presets(ctx: click.Context, values: Mapping[str, Any]) -> dict[str, Any]:
    """The option values of a command, with the values of presets below those of the same source.

    A preset on the command line thus overrides the file, and other options override the preset.
    """
    options = {str(option.name): option for option in _options(ctx.command)}
    names = {key(option): name for name, option in options.items()}
    rank = {name: _rank(ctx, name) for name in options}
    result, config = dict(values), current(ctx)
    chosen = [("fast", "fast")] if values.get("fast") else []
    chosen += [("preset", values["preset"])] if values.get("preset") else []
    for source, preset in chosen:
        for setting, value in config.preset(preset).items():
            name = names.get(setting)
            if name is not None and rank[name] < rank[source]:
                option = options[name]
                result[name] = option.type_cast_value(ctx, _as_list(option, value))
    return result


def origin(ctx: click.Context, option: click.Parameter) -> str | None:
    """The file or variable a value is from; None for one of the command line, or a default."""
    source = ctx.get_parameter_source(str(option.name))
    if source is ParameterSource.ENVIRONMENT:
        return str(option.envvar)
    return str(current(ctx).path) if source is ParameterSource.DEFAULT_MAP else None


def _options(command: click.Command) -> Iterator[click.Option]:
    """The options of a command, and of its subcommands, that have a key."""
    for param in command.params:
        if isinstance(param, click.Option) and key(param) in KEYS:
            yield param
    for inner in (command.commands if isinstance(command, click.Group) else {}).values():
        yield from _options(inner)


def _rank(ctx: click.Context, name: str) -> int:
    source = ctx.get_parameter_source(name)
    return RANKS.index(source) if source in RANKS else -1


def _validate(values: Mapping[str, Any], keys: Collection[str], place: str) -> None:
    for name, value in values.items():
        if name.replace("-", "_") not in keys:
            close = get_close_matches(name.replace("-", "_"), keys, 1)
            hint = f'did you mean "{close[0]}"?' if close else f"there are: {', '.join(keys)}"
            if name.replace("-", "_") in KEYS:
                hint = "a preset has settings of an edit only; write it above the presets"
            shown = one_line(name, 80)
            raise ConfigurationError(f'{place}: no setting "{shown}"; {hint}')
        if isinstance(value, dict):
            raise ConfigurationError(f"{place}: {name} must be one value, not a table")


def _as_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as on the command line: 0.6 as "0.6", [7, 3] as "7..3", no value as "none"."""
    return {name.replace("-", "_"): _as_option(value) for name, value in values.items()}


def _as_list(option: click.Option, value: Any) -> Any:
    """A list of one for an option that may be repeated."""
    return [value] if option.multiple and isinstance(value, str) else value


def _as_option(value: Any) -> Any:
    if value is None:
        return NONE
    if value in ((), []):
        return [NONE]
    if isinstance(value, bool | str):
        return value
    if isinstance(value, list | tuple):
        texts = [str(each) for each in value]
        return texts if any(isinstance(each, str) for each in value) else "..".join(texts)
    return str(value)
