"""Edit an existing image by a few words with a latent diffusion model.

    edited = zerocon.edit("fox.png", to="dog", model="mini")
    edited.save("dog.png")

Importing this package is cheap; torch is imported with the first name that needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zerocon import batch as batch
    from zerocon import errors as errors
    from zerocon.api import Edit, edit, invert, load
    from zerocon.cache import Cache
    from zerocon.direction import Direction
    from zerocon.errors import MissingError
    from zerocon.exemplar.translation import Translation, translate
    from zerocon.image.reading import Photograph
    from zerocon.model import Model
    from zerocon.recipe import Recipe
    from zerocon.request import EditRequest
    from zerocon.settings import Settings
    from zerocon.trajectory import Inversion

__version__ = "0.2.0.dev0"

_MODULES = {"batch", "errors"}  # found as attributes without an import of their own
_HOMES = {
    "Cache": "cache",
    "Direction": "direction",
    "Edit": "api",
    "EditRequest": "request",
    "Inversion": "trajectory",
    "MissingError": "errors",
    "Model": "model",
    "Photograph": "image.reading",
    "Recipe": "recipe",
    "Settings": "settings",
    "Translation": "exemplar.translation",
    "edit": "api",
    "invert": "api",
    "load": "api",
    "translate": "exemplar.translation",
}

__all__ = [
    "Cache",
    "Direction",
    "Edit",
    "EditRequest",
    "Inversion",
    "MissingError",
    "Model",
    "Photograph",
    "Recipe",
    "Settings",
    "Translation",
    "edit",
    "invert",
    "load",
    "translate",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"zerocon.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'zerocon' has no attribute {name!r}")
    return getattr(import_module(f"zerocon.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
