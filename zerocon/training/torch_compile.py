"""``torch.compile`` for diffusers' networks, without the part that it compiles wrongly."""

from __future__ import annotations

from typing import Any

import torch


def compiled(network: Any, method: str = "forward") -> Any:
    """Compile a method of a diffusers network for one batch shape.

    Upsampling is excluded: compiled for CPUs by torch 2.13, the gradient of nearest-neighbor
    interpolation is zero in bfloat16, and the layers below would not learn.
    """
    from diffusers.models.upsampling import Upsample2D

    for module in network.modules():
        if isinstance(module, Upsample2D):
            module.forward = torch.compiler.disable(module.forward)  # type: ignore[no-untyped-call]
    return torch.compile(getattr(network, method), dynamic=False)
