"""Losses that make the features of conditions and images agree, over pairs of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from zerocon.exemplar.fisher_rao import jensen_shannon, squared_distance
from zerocon.exemplar.hyperbolic import poincare_similarity
from zerocon.guidance import Similarity, info_nce
from zerocon.tensor_types import Scalar

Geometry = Literal["poincare", "cosine"]
Reading = Literal["cross", "self", "batch"]
Divergence = Literal["fisher-rao", "jensen-shannon"]


def cosine_similarity(q: Tensor, k: Tensor) -> Tensor:
    """Cosines of queries (..., n, features) with keys (..., m, features), (..., n, m)."""
    return F.normalize(q.float(), dim=-1) @ F.normalize(k.float(), dim=-1).mT


# similarity and temperature, both of Hyp-ViT (arXiv 2203.10833)
GEOMETRIES: Mapping[str, tuple[Similarity, float]] = {
    "poincare": (poincare_similarity, 0.2),
    "cosine": (cosine_similarity, 0.1),
}
DIVERGENCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "fisher-rao": squared_distance,
    "jensen-shannon": jensen_shannon,
}


def global_loss(g_c: Tensor, g_x: Tensor, geometry: Geometry = "poincare") -> Scalar:
    """InfoNCE between the conditions and the images of a batch, in both directions.

    Args:
        g_c: Pooled embeddings of the conditions, (batch, features).
        g_x: Those of their images; row ``i`` belongs to row ``i`` of ``g_c``, all other rows are
            negatives.
        geometry: Where they are compared: minus the distance in the Poincare ball at temperature
            0.2, or the cosine at 0.1.
    """
    similarity, temperature = GEOMETRIES[geometry]
    one = info_nce(g_c, g_x, temperature=temperature, similarity=similarity)
    other = info_nce(g_x, g_c, temperature=temperature, similarity=similarity)
    return (one + other) / 2


def local_loss(
    f_c: Tensor,
    f_x: Tensor,
    f_r: Tensor,
    reading: Reading = "cross",
    divergence: Divergence = "fisher-rao",
    temperature: float = 0.1,
) -> Scalar:
    """How far the condition's correlations are from those of its image; mean over the rows.

    The abstract of PROMOTE leaves open which correlations are compared:

    * ``cross``: of every token with the exemplar's tokens. The condition is to find in the exemplar
      what the image finds there.
    * ``self``: of every token with the tokens of the same image.
    * ``batch``: of every image with the exemplars of the batch, by their mean tokens.

    The image is the teacher: no gradient passes through its distributions.

    Args:
        f_c: Tokens of the conditions, (batch, tokens, features), of length one.
        f_x: Tokens of their images, in the same shape.
        f_r: Tokens of the exemplars, (batch, exemplar tokens, features).
        reading: See above.
        divergence: The squared Fisher-Rao distance or the Jensen-Shannon divergence.
        temperature: Divides the correlations.
    """
    if reading == "batch":
        f_c, f_x, f_r = (_pooled(f) for f in (f_c, f_x, f_r))
    log_p = _correlations(f_c, f_c if reading == "self" else f_r, temperature)
    log_q = _correlations(f_x, f_x if reading == "self" else f_r, temperature).detach()
    return DIVERGENCES[divergence](log_p, log_q).mean()


def _correlations(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    """Logarithms of the distribution of each query over the keys."""
    return (q.float() @ k.float().mT / temperature).log_softmax(-1)


def _pooled(f: Tensor) -> Tensor:
    """Images as the tokens of one batch: (batch, tokens, features) to (1, batch, features)."""
    return F.normalize(f.float().mean(1), dim=-1)[None]
