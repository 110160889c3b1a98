"""Diffusers' networks through ``torch.compile``, where that is right."""

from __future__ import annotations

from typing import Any

import torch


def compiled(network: Any, method: str = "forward") -> Any:
    """A method of a diffusers network, compiled for one shape of batch.

    Upsampling stays outside: compiled for CPUs by torch 2.13, the gradient of nearest-neighbour
    interpolation is zero in bfloat16, and nothing below it would learn.
    """
    from diffusers.models.upsampling import Upsample2D

    for module in network.modules():
        if isinstance(module, Upsample2D):
            module.forward = torch.compiler.disable(module.forward)  # type: ignore[no-untyped-call]
    return torch.compile(getattr(network, method), dynamic=False)
