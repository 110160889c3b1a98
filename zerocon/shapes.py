"""Every tensor shape of the project, named once.

The names are plain tensors to a type checker. Where jaxtyping is installed (the ``test`` extra)
they carry their dimensions, and the tests check them at run time.

Ranges and orders that a shape cannot say:

* ``Pixels`` are in -1..1, RGB.
* ``Latents`` are scaled by the VAE's factor and always float32.
* A batch that holds both sides of an edit is ordered *source first, edited second*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

if TYPE_CHECKING:
    Pixels: TypeAlias = Tensor
    Latents: TypeAlias = Tensor
    Trajectory: TypeAlias = Tensor
    Tokens: TypeAlias = Tensor
    CrossMaps: TypeAlias = Tensor
    Features: TypeAlias = Tensor
    Scalar: TypeAlias = Tensor
else:
    try:
        from jaxtyping import Float

        Pixels = Float[Tensor, "batch 3 height width"]
        Latents = Float[Tensor, "batch channels height width"]
        Trajectory = Float[Tensor, "levels batch channels height width"]
        Tokens = Float[Tensor, "sentences positions features"]
        CrossMaps = Float[Tensor, "batch heads pixels positions"]
        Features = Float[Tensor, "batch pixels features"]
        Scalar = Float[Tensor, ""]
    except ImportError:
        Pixels = Latents = Trajectory = Tokens = CrossMaps = Features = Scalar = Tensor
