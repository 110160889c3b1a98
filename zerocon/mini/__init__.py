"""The embedded model: small, trained on the drawn world, and real in every other respect."""

from __future__ import annotations

from pathlib import Path


def path() -> Path:
    """The folder of its weights, laid out as diffusers lays out Stable Diffusion."""
    return Path(__file__).parent / "weights"
