"""Correspondence between condition and exemplar: match, warp and confidence.

A token of the condition is matched to the exemplar's tokens by a softmax over inner products
(CoCosNet, arXiv 2004.05571, eq. 2 and 3); the warp is the mean of the exemplar's values under it.
The confidence is the share of the values' variance that the match explains. The usual check of the
way forward and back (MIDMs, arXiv 2209.11047) does not tell right from wrong matches here: in a
region of one class, such as the sky, all tokens match equally well, and hardly one returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, prod
from typing import NamedTuple

import torch
from torch import Tensor

from zerocon.exemplar.encoders import Grid

BLOCK = 4096  # tokens: at most the square of this many scores of an image are in memory
SMALLEST = 0.5  # least variance of an exemplar: in latents, one color has 0.1, a scene at least 0.7
BLOCKS = 8  # blocks a side that ``corrupt`` replaces


class Correspondence(NamedTuple):
    """Where the exemplar's values belong in the condition's grid.

    Attributes:
        warped: Mean of the exemplar's values under the match, (batch, channels, rows, columns).
        confidence: 1 where all matched tokens have one value, 0 where they differ as much as the
            whole exemplar, (batch, 1, rows, columns).
        match: Index of the most similar exemplar token of every condition token, (batch, tokens).
    """

    warped: Tensor
    confidence: Tensor
    match: Tensor


def correspond(
    f_c: Tensor,
    f_r: Tensor,
    values: Tensor,
    *,
    temperature: float,
    grid_c: Grid,
    grid_r: Grid | Sequence[Grid],
    log_weights: Tensor | None = None,
    block: int = BLOCK,
) -> Correspondence:
    """Match the tokens of a condition to those of exemplars and warp the exemplars' values.

    Scores are computed for some rows at a time, so that memory grows linearly with the number of
    tokens. The warp has gradients with respect to features and values.

    Args:
        f_c: Tokens of the condition, (batch, n, features).
        f_r: Tokens of the exemplar, (batch, m, features); those of several exemplars one after
            another, see ``join_exemplars``.
        values: What is warped, latents as a rule, one row per exemplar token, (batch, m, channels).
            The confidence is about all of its channels.
        temperature: Divides the inner products; towards 0 the warp copies the best match.
        grid_c: Rows and columns of the condition's tokens.
        grid_r: Rows and columns of the exemplar's tokens, or of each of the exemplars'.
        log_weights: Added to the scores of the exemplar tokens, (m,) or (batch, m).
        block: Memory limit: at most ``block * block`` scores of an image at a time.

    Raises:
        ValueError: The number of tokens or values does not match the grids, or the temperature is
            not above 0.
    """
    _require_sizes(f_c, f_r, values, grid_c, grid_r)
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    with torch.autocast(f_c.device.type, enabled=False):  # variances of half precision are noise
        warped, confidence, match = _matched(f_c, f_r, values, temperature, log_weights, block)
    return Correspondence(_on_grid(warped, grid_c), _on_grid(confidence, grid_c), match)


def join_exemplars(tokens: Sequence[Tensor], weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Tokens of several exemplars as those of one, for ``correspond``.

    Args:
        tokens: (batch, tokens, features) of each exemplar.
        weights: One number above 0 for each; only their ratios matter.

    Returns:
        The tokens, (batch, m, features), and the logarithms of their weights, (m,).

    Raises:
        ValueError: There are not as many weights as exemplars, or one is not above 0.
    """
    logarithms = _log_shares(weights, len(tokens))
    offsets = [
        part.new_full((part.shape[1],), each, dtype=torch.float32)
        for part, each in zip(tokens, logarithms, strict=True)
    ]
    return torch.cat(list(tokens), 1), torch.cat(offsets)


def shares_of(weights: Sequence[float], count: int) -> list[float]:
    """Weights of ``count`` exemplars that add up to 1.

    Raises:
        ValueError: There are not as many weights as exemplars, or one is not above 0.
    """
    return [exp(each) for each in _log_shares(weights, count)]


def _log_shares(weights: Sequence[float], count: int) -> list[float]:
    """Logarithms of the shares, which are finite for any weights."""
    if len(weights) != count or not weights or min(weights) <= 0:
        raise ValueError(f"{count} exemplars need as many weights above 0, not {weights}")
    total = log(max(weights)) + log(sum(weight / max(weights) for weight in weights))
    return [log(weight) - total for weight in weights]


def corrupt(
    warped: Tensor, z_r: Tensor, share: float | Tensor, generator: torch.Generator
) -> Tensor:
    """Replace random blocks of a warp by other parts of the exemplar, as wrong matches would.

    Args:
        warped: (batch, channels, rows, columns).
        z_r: The exemplar's latents, (batch, channels, any rows, any columns).
        share: Probability of each of 8 x 8 blocks, for all images or (batch,).
        generator: A CPU generator, see ``zerocon.rng``.

    Returns:
        A tensor like ``warped``. A replaced block holds a connected part of the exemplar, which
        continues at the opposite border, from a random place.
    """
    b, _, h, w = warped.shape
    drawn = torch.rand(b, BLOCKS, BLOCKS, generator=generator)
    replaced = drawn < torch.as_tensor(share, dtype=torch.float32).cpu().reshape(-1, 1, 1)
    starts = torch.rand(b, BLOCKS, BLOCKS, 2, generator=generator)
    y, x = (torch.arange(n) for n in (h, w))
    rows, columns = (y * BLOCKS // h)[:, None], (x * BLOCKS // w)[None]
    begin = (starts[:, rows, columns] * torch.tensor(z_r.shape[2:])).long()  # (b, h, w, 2)
    source = (begin[..., 0] + y[:, None]) % z_r.shape[2] * z_r.shape[3]
    source = (source + (begin[..., 1] + x) % z_r.shape[3]).to(warped.device)
    other = z_r.flatten(2).gather(2, source.flatten(1)[:, None].expand(-1, z_r.shape[1], -1))
    where = replaced[:, rows, columns][:, None].to(warped.device)
    return torch.where(where, other.reshape(warped.shape), warped)


def _require_sizes(
    f_c: Tensor, f_r: Tensor, values: Tensor, grid_c: Grid, grid_r: Grid | Sequence[Grid]
) -> None:
    grids: list[Grid] = [grid_r] if isinstance(grid_r[0], int) else list(grid_r)  # type: ignore
    counts = f_c.shape[1], f_r.shape[1], values.shape[1]
    tokens = sum(map(prod, grids))
    if counts != (prod(grid_c), tokens, tokens):
        raise ValueError(
            f"grids of {prod(grid_c)} and {tokens} cells need as many tokens and values: "
            f"{prod(grid_c)}, {tokens}, {tokens}, not {counts}"
        )


def _matched(
    f_c: Tensor,
    f_r: Tensor,
    values: Tensor,
    temperature: float,
    log_weights: Tensor | None,
    block: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Warp, confidence and match of every row, (batch, n, ...); arguments of ``correspond``."""
    f_c, f_r, values = f_c.float(), f_r.float(), values.float()
    m = f_r.shape[1]
    offset = torch.zeros(1, 1) if log_weights is None else log_weights.reshape(-1, 1, m)
    offset = offset.to(f_r.device)
    mean = values.mean(1, keepdim=True)
    centered = values - mean
    squares = centered.square().sum(-1, keepdim=True)  # (batch, m, 1)
    parts = []
    step = max(1, block * block // m)
    for first in range(0, f_c.shape[1], step):
        scores = f_c[:, first : first + step] @ f_r.mT / temperature + offset
        shares = scores.softmax(-1)
        parts.append((shares @ centered, shares @ squares, scores.argmax(-1)))
    warped, spread, match = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    variance = spread - warped.square().sum(-1, keepdim=True)
    whole = squares.mean(1, keepdim=True)
    if log_weights is not None:  # the variance of the exemplars by their weights
        prior = offset.softmax(-1)
        whole = prior @ squares - (prior @ centered).square().sum(-1, keepdim=True)
    confidence = 1 - variance / whole.clamp_min(SMALLEST)
    return warped + mean, confidence.clamp(0, 1), match


def _on_grid(tokens: Tensor, grid: Grid) -> Tensor:
    return tokens.mT.reshape(len(tokens), -1, *grid)
