"""What a model's directory says about the model: ``zerocon.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from zerocon import mini
from zerocon.errors import CommandError, OutputExistsError, SettingError
from zerocon.image import SizeRule
from zerocon.model import hub
from zerocon.model.config import json_object
from zerocon.model.loading import find
from zerocon.settings import FAST, Settings
from zerocon.storage.atomic import require_writable, writing

FILE = "zerocon.json"


@dataclass(frozen=True)
class ModelDefaults:
    """Facts and default settings of a model.

    Attributes:
        file: Where they are from; None for a model without the file.
        values: Settings that were measured on the model, by name; the others are zerocon's own.
        size_rule: What the size of its training images was: see ``WorkingSize``.
        words: All words of its training captions, in lower case; empty for a model of any words.
            This and ``size_rule`` are no settings: users cannot change how a model was trained.
    """

    file: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    size_rule: SizeRule = "area"  # Stable Diffusion was trained on squares
    words: tuple[str, ...] = ()  # it was trained on more captions than a list could hold

    @classmethod
    def read(cls, folder: Path) -> ModelDefaults:
        """The defaults of a model's directory; zerocon's own where there is no such file.

        Raises:
            UnsupportedModelError: The file is not a JSON object.
            SettingError: It has an unknown key, or a bad value.
        """
        file = folder / FILE
        if not file.is_file():
            return cls()
        values = _read(file)
        rule = values.pop("size_rule", cls.size_rule)
        if rule not in get_args(SizeRule):
            rules = ", ".join(get_args(SizeRule))
            raise SettingError(f"{file}: size_rule must be one of {rules}, not {rule!r}")
        words = values.pop("words", [])
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise SettingError(f"{file}: words must be a list of words")
        try:
            Settings().overlay(values)
        except SettingError as error:
            raise SettingError(f"{file}: {error}") from None
        return cls(file, values, rule, tuple(words))

    def settings_in(self, dtype: str = "float32") -> Settings:
        """Settings of an edit where the user gives none.

        In bfloat16 there is no guidance: its 8 bits do not resolve the gradient of a loss.
        """
        without = FAST if dtype == "bfloat16" else {}
        return Settings().overlay(self.values).overlay(without)


def writable_file(name: str, *, overwrite: bool = False) -> Path:
    """The ``zerocon.json`` of a model's own directory, which may take a guidance scale.

    Args:
        name: Of the model, as for ``load``.
        overwrite: Whether a guidance scale that it has may be replaced.

    Raises:
        CommandError: for the embedded model, the Hub cache and single files.
        OutputExistsError: if it has a guidance scale, and ``overwrite`` is false.
        NotWritableError: if no file can be created in the directory.
    """
    folder = find(name)
    where = folder.resolve()
    if reason := _shared(where):
        raise CommandError(
            f"--write needs a directory of your own, and {name} is {reason}; without --write the "
            "scale is kept in the cache directory"
        )
    file = folder / FILE
    if not overwrite and file.exists() and _read(file).get("guidance_scale") is not None:
        raise OutputExistsError(f"{file} has a guidance_scale already; add --overwrite")
    require_writable(folder)
    return file


def write_guidance_scale(file: Path, scale: float) -> None:
    """Set the guidance scale of a ``zerocon.json``; its other keys are kept."""
    values = _read(file) if file.exists() else {}
    text = json.dumps({**values, "guidance_scale": scale}, indent=2, ensure_ascii=False)
    with writing(file, overwrite=True) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")


def _shared(where: Path) -> str | None:
    """Why a model's files are not to be changed; None for a directory of the user's own."""
    if where.is_file():
        return "a single file"
    if where.is_relative_to(mini.path().resolve()):
        return "part of zerocon"
    cached = where.is_relative_to(hub.cache_folder().resolve())
    return "in the Hub cache, which an update replaces" if cached else None


def _read(file: Path) -> dict[str, Any]:
    """The keys of a ``zerocon.json``; ``UnsupportedModelError`` if it is not a JSON object."""
    return json_object(file, str(file.parent))
