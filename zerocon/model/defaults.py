"""What a model's directory says about the model: ``zerocon.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from zerocon.errors import SettingError
from zerocon.image import SizeRule
from zerocon.model.loading import model_errors
from zerocon.settings import FAST, Settings

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
        with model_errors(str(file)):
            values = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ValueError("it is not a JSON object")
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
