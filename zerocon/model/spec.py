"""Which model to load and how to compute with it: all load options in one value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from zerocon.errors import SettingError
from zerocon.model.families import PREDICTIONS
from zerocon.settings import DEFAULT_MODEL

LAYERS = 64  # more than any text encoder has
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class ModelSpec:
    """The argument of ``load``. To add a load option, add a field here and use it in ``load``.

    Attributes:
        name: ``mini`` (embedded), a diffusers folder, a ``.safetensors`` file, or a hub id.
        device: Default: CUDA, else MPS, else CPU. Whether it exists is checked by ``load``.
        dtype: Of the networks. Default: ``float16`` on a GPU, ``float32`` on a CPU.
        captioner: Folder or hub id. Default: ``captioner/`` next to the weights, else BLIP.
        clip: Folder or hub id. Default: ``clip/`` next to the weights, else CLIP if it is cached.
        prediction: What the U-Net predicts, where its files do not say or are wrong.
        vae: Another VAE than the model's own: a directory, a ``.safetensors`` file or a hub id.
        clip_skip: Number of last layers of the text encoder that are left out. Programs that call
            the last layer 1 count one more: their 2 is 1 here.
        offload: Keep each network in main memory until it is called.
        tile: Encode and decode in overlapping tiles.
        compile: Compile the U-Net with ``torch.compile``.
    """

    name: str = DEFAULT_MODEL
    device: str | None = None
    dtype: str | None = None
    captioner: str | None = None
    clip: str | None = None
    prediction: str | None = None
    vae: str | None = None
    clip_skip: int = 0
    offload: bool = False
    tile: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if field.default is None and value is None:
                continue
            if type(value) is not (str if field.default is None else kind):
                right = {bool: "true or false", int: "a whole number"}.get(kind, "text")
                raise SettingError(f"{field.name} must be {right}, not {value!r}")
        if not 0 <= self.clip_skip <= LAYERS:
            raise SettingError(f"clip_skip must be between 0 and {LAYERS}, not {self.clip_skip}")
        for name, choices in (("dtype", DTYPES), ("prediction", PREDICTIONS)):
            if getattr(self, name) not in (None, *choices):
                raise SettingError(
                    f'no {name} "{getattr(self, name)}"; there are: {", ".join(choices)}'
                )

    @classmethod
    def of(cls, name: str | None = None, **options: Any) -> ModelSpec:
        """A spec from options by name, where None means the default.

        Args:
            name: Default: the environment's ``ZEROCON_MODEL``, else Stable Diffusion 1.5.
            options: Values of the other fields.

        Raises:
            SettingError: There is no such option, or its value has the wrong type or name.
        """
        if unknown := options.keys() - set(LOAD_OPTIONS):
            raise SettingError(
                f'no load option "{min(unknown)}"; there are: {", ".join(LOAD_OPTIONS)}'
            )
        given = {option: value for option, value in options.items() if value is not None}
        return cls(name or os.environ.get("ZEROCON_MODEL") or DEFAULT_MODEL, **given)

    def to_json(self) -> dict[str, Any]:
        """The name and all options that differ from their defaults, for ``from_json``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {f.name: values[f.name] for f in fields(self) if values[f.name] != f.default}
        return {"name": self.name} | changed

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelSpec:
        """The spec whose ``to_json`` this is; ``SettingError`` for anything else."""
        if not isinstance(values.get("name"), str):
            raise SettingError("a model spec needs a name")
        return cls.of(**values)


LOAD_OPTIONS = tuple(field.name for field in fields(ModelSpec) if field.name != "name")
