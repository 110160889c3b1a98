"""A sentence for a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL.Image import Image

if TYPE_CHECKING:
    from zerocon.model import Model


def caption(picture: Image, model: Model) -> str:
    """What the model's captioner says of ``picture`` (RGB, any size): one lower-case line.

    Raises ``MissingError`` where there is no captioner on this machine.
    """
    return captions([picture], model)[0]


def captions(pictures: Sequence[Image], model: Model) -> list[str]:
    """As ``caption``, of several pictures in one batch."""
    return [" ".join(said.lower().split()).rstrip(" .") for said in model.describe(pictures)]
