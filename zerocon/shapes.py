"""Every tensor shape of the project, named once.

The names are plain tensors to a type checker. Where jaxtyping is installed (the ``test`` extra)
they carry their dimensions, and the tests check them at run time.

Ranges and orders that a shape cannot say:

* ``Pixels`` are in -1..1, RGB.
* ``Tokens`` are (sentences, positions, features), ``CrossMaps`` (batch, heads, pixels, positions),
  ``Features`` (batch, pixels, features).
* ``Latents`` are scaled by the VAE's factor and always float32.
* A batch that holds both sides of an edit is ordered *source first, edited second*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

from zerocon.errors import NotFiniteError

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

        # An underscore may differ between arguments of one call: layers differ in size, groups of
        # sentences in number.
        Pixels = Float[Tensor, "batch 3 height width"]
        Latents = Float[Tensor, "batch channels rows columns"]
        Trajectory = Float[Tensor, "levels batch channels rows columns"]
        Tokens = Float[Tensor, "_ positions features"]
        CrossMaps = Float[Tensor, "batch _ _ positions"]
        Features = Float[Tensor, "batch _ _"]
        Scalar = Float[Tensor, ""]
    except ImportError:
        Pixels = Latents = Trajectory = Tokens = CrossMaps = Features = Scalar = Tensor


def require_finite(values: Tensor, what: str) -> None:
    """Raise ``NotFiniteError`` if ``values`` hold NaN or infinity; ``what`` names them."""
    if not bool(values.isfinite().all()):
        raise NotFiniteError(f"{what} are not finite (NaN or infinity); try --dtype float32")
