"""The embedded model: a small latent diffusion model, trained on the drawn world."""

from __future__ import annotations

from pathlib import Path


def path() -> Path:
    """The directory of its weights, in diffusers' layout of Stable Diffusion."""
    return Path(__file__).parent / "weights"
