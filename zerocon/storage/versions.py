"""Versions of the packages that an edit's pixels depend on."""

from __future__ import annotations

from importlib.metadata import version

RECORDED = ("zerocon", "torch", "diffusers", "transformers", "pillow")


def package_versions() -> dict[str, str]:
    """Installed version of each package that recipes and cache keys record."""
    return {name: version(name) for name in RECORDED}
