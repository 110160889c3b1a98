"""Versions of the packages that decide what an edit looks like."""

from __future__ import annotations

from importlib.metadata import version

RECORDED = ("zerocon", "torch", "diffusers", "transformers", "pillow")


def package_versions() -> dict[str, str]:
    """The installed version of every package whose version is part of a recipe and a cache key."""
    return {name: version(name) for name in RECORDED}
