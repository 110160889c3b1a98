"""How image files are read: the options that every command and every worker passes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from zerocon.image import MEGAPIXELS


@dataclass(frozen=True)
class ReadOptions:
    """Arguments of ``Photograph.read``.

    Attributes:
        keep_gps: Keep the GPS position in the metadata.
        lenient: Read a JPEG whose end is missing, or a JPEG 2000 without some tiles, with a
            warning.
        max_megapixels: Limit of million pixels.
    """

    keep_gps: bool = False
    lenient: bool = False
    max_megapixels: float = MEGAPIXELS

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ReadOptions:
        """Those among the options of a command, or the parameters of a run."""
        names = [each.name for each in fields(cls) if each.name in values]
        return cls(**{name: values[name] for name in names})

    def arguments(self) -> dict[str, Any]:
        """The options as keyword arguments."""
        return asdict(self)
