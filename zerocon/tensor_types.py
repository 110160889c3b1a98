"""Names of all tensor shapes, with their ranges and axis orders.

To a type checker they are ``Tensor``. If jaxtyping is installed (the ``test`` extra) they have
dimensions, which the tests check at run time.

* ``Pixels``: (batch, 3, height, width), RGB in -1..1.
* ``Latents``: (batch, channels, rows, columns), multiplied by the VAE's scaling factor, float32.
* ``Trajectory``: latents or noise predictions of all noise levels, (levels, batch, ...).
* ``Tokens``: embeddings of captions, (captions, positions, features).
* ``CrossMaps``: cross-attention probabilities in 0..1, (batch, heads, pixels, positions).
* ``Features``: inputs of attention layers, (batch, pixels, features).
* ``PerImage``: losses of the images of a batch, (batch,).
* ``Scalar``: one number.

A batch with both sides of an edit has the source in its first half, the edited image in its second.
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
    PerImage: TypeAlias = Tensor
    Scalar: TypeAlias = Tensor
else:
    try:
        from jaxtyping import Float

        # "_" may differ between arguments of one call, as layers differ in size
        Pixels = Float[Tensor, "batch 3 height width"]
        Latents = Float[Tensor, "batch channels rows columns"]
        Trajectory = Float[Tensor, "levels batch channels rows columns"]
        Tokens = Float[Tensor, "_ positions features"]
        CrossMaps = Float[Tensor, "batch _ _ positions"]
        Features = Float[Tensor, "batch _ _"]
        PerImage = Float[Tensor, "batch"]
        Scalar = Float[Tensor, ""]
    except ImportError:
        Pixels = Latents = Trajectory = Tokens = CrossMaps = Features = PerImage = Scalar = Tensor


def require_finite(values: Tensor, what: str, part: str | None = None) -> None:
    """Raise ``NotFiniteError`` if ``values`` hold NaN or infinity.

    Args:
        values: Any shape.
        what: Names them.
        part: The network that computed them, see ``zerocon.model.precision.PARTS``.
    """
    if not bool(values.isfinite().all()):
        raise not_finite(what, part)


def not_finite(what: str, part: str | None = None) -> NotFiniteError:
    """The error for values that hold NaN or infinity; arguments as of ``require_finite``."""
    error = NotFiniteError(f"{what} are not finite (NaN or infinity)")
    error.part = part
    return error
