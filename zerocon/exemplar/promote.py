"""Sampling of prior-guided translation (after PROMOTE): from noise around the prior to an image.

The matcher warps the exemplar to the condition, the prior network estimates the result, and the
U-Net samples around the estimate. Two-way classifier-free guidance (as in InstructPix2Pix, arXiv
2211.09800) scales the influence of the condition and of the exemplar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import overload

import torch
from torch import Tensor

from zerocon.conditioning import Conditioning
from zerocon.diffusion import CLEAN, NoiseLevel, ddim_noise, ddim_step
from zerocon.evaluation_count import count
from zerocon.exemplar.correspondence import correspond, join_exemplars, shares_of
from zerocon.exemplar.encoders import Matcher
from zerocon.exemplar.networks import (
    Guide,
    Matched,
    TranslationNetwork,
    appearance_vector,
    unet_input,
)
from zerocon.exemplar.prior import shifted_ddim_step, without_shift
from zerocon.model.attention import call_unet, weight_dtype
from zerocon.rng import seeded_generator
from zerocon.tensor_types import Latents, Pixels, Tokens, require_finite

Predict = Callable[[Latents, NoiseLevel], Latents]  # the shifted noise in latents at a level
Progress = Callable[[int, int], object]
Change = Callable[[Latents, float], Latents]  # of the clean latents, at a share of the steps
BRIDGE_START = 0.999  # of the bridge's mean at its noisiest level
BRIDGE_TIMES = 1000


def match(
    matcher: Matcher,
    pixels: Pixels,
    exemplars: Sequence[tuple[Pixels, Latents]],
    weights: Sequence[float] = (1.0,),
) -> Matched:
    """Warp the exemplars' latents to the condition.

    Args:
        matcher: Trained encoders.
        pixels: The conditions, (batch, 3, height, width) in -1..1, sides multiples of 8.
        exemplars: Pixels and latents of one exemplar or of several per condition.
        weights: Of each exemplar, above 0.
    """
    c = matcher.condition_encoder(pixels)
    images = [matcher.image_encoder(image) for image, _ in exemplars]
    tokens, log_weights = join_exemplars([each.tokens for each in images], weights)
    values = torch.cat([z_r.flatten(2).mT for _, z_r in exemplars], 1)
    correspondence = correspond(
        c.tokens,
        tokens,
        values,
        temperature=matcher.config.temperature,
        grid_c=c.grid,
        grid_r=[each.grid for each in images],
        log_weights=log_weights if len(exemplars) > 1 else None,
    )
    shares = shares_of(weights, len(exemplars))
    appearance = [
        share * appearance_vector(each.pooled, z_r)
        for share, each, (_, z_r) in zip(shares, images, exemplars, strict=True)
    ]
    vector = torch.stack(appearance).sum(0)
    return Matched(pixels, c.tokens, *correspondence[:2], vector)


def starting_noise(seeds: Sequence[int], rows: int, columns: int) -> Latents:
    """Noise for each seed; an image does not depend on the others of its batch."""
    generators = [seeded_generator(f"translation/{seed}") for seed in seeds]
    return torch.stack([torch.randn(4, rows, columns, generator=each) for each in generators])


@torch.no_grad()
def sample(
    network: TranslationNetwork,
    matched: Matched,
    text: Tokens,
    levels: Sequence[NoiseLevel],
    noise: Latents,
    *,
    structure: float = 1.0,
    appearance: float = 1.0,
    reinjection: float = 0.0,
    span: tuple[float, float] = (0.0, 1.0),
    progress: Progress | None = None,
) -> Latents:
    """Latents of translated images.

    With the clean latents ``z0(condition, exemplar)`` that are predicted with both, without the
    exemplar, and without either, a step uses

        z0(0, 0) + structure (z0(c, 0) - z0(0, 0)) + appearance (z0(c, r) - z0(c, 0))

    which is ``z0(c, r)``, one evaluation of the U-Net, where both scales are 1; two evaluations if
    one of the three vanishes, as with equal scales, otherwise three.

    Args:
        network: A trained one.
        matched: A batch of conditions with their warped exemplars.
        text: Tokens of the prompt, (1 or batch, positions, features).
        levels: From the image to the noisiest, see ``zerocon.diffusion.Schedule``.
        noise: See ``starting_noise``.
        structure: Scale of the condition.
        appearance: Scale of the exemplar.
        reinjection: How far the predicted clean latents are moved to the warp where it is
            confident, 0..1 (as in MIDMs, arXiv 2209.11047).
        span: First and last share of the steps with reinjection, from noise (0) to image (1).
        progress: Called after each step with the number of steps done and of all.
    """
    branches = guidance_branches(structure, appearance)
    guides = [_guide(network, matched, text, c, r) for _, c, r in branches]
    weights = [weight for weight, _, _ in branches]
    P, prior = guides[-1].prior, network.config.prior
    # the noisiest level still holds a share of the clean latents, of which the prior is an estimate
    start = noise if prior == "none" else noise + levels[-1].alpha * P

    def predict(z: Latents, a: NoiseLevel) -> Latents:
        unshifted = without_shift(z, P, a, prior)
        shifted = [without_shift(unshifted, -each.prior, a, prior) for each in guides[:-1]] + [z]
        eps = _eps(network, shifted, a.time, guides)
        if len(guides) == 1:  # the weights add up to 1
            return eps[0]
        parts = zip(weights, shifted, eps, strict=True)
        z0 = sum((w * ddim_step(each, e, a, CLEAN) for w, each, e in parts), torch.zeros(()))
        return ddim_noise(z, z0, a, CLEAN)

    def reinject(z0: Latents, progress: float) -> Latents:
        inside = span[0] <= progress <= span[1]
        share = reinjection * matched.confidence * inside
        return z0 + share * (matched.warped - z0)

    change = reinject if reinjection else None
    return sample_shifted(predict, start, P, levels, prior, change, progress)


def sample_shifted(
    predict: Predict,
    noise: Latents,
    P: Latents,
    levels: Sequence[NoiseLevel],
    prior: str,
    change: Change | None = None,
    progress: Progress | None = None,
) -> Latents:
    """DDIM of the shifted process, from ``noise + gamma P`` at the noisiest level.

    With the prior ``"none"`` it is ordinary DDIM to the bit.

    Args:
        predict: The shifted noise, see ``zerocon.exemplar.prior.shifted_noise``.
        noise: Unit variance, as everywhere in this project.
        P: The prior, the same at all levels.
        levels: From the image to the noisiest.
        prior: See ``zerocon.exemplar.prior``.
        change: Of the predicted clean latents; its second argument is the share of the steps that
            are done.
        progress: As in ``sample``.
    """
    steps = len(levels) - 1
    z = without_shift(noise, -P, levels[-1], prior)
    for i in range(steps, 0, -1):
        a, b = levels[i], levels[i - 1]
        eps = predict(z, a)
        if change is not None:
            z0 = change(ddim_step(z, eps, a, CLEAN), 1 - i / steps)
            eps = ddim_noise(z, z0, a, CLEAN)
        z = shifted_ddim_step(z, eps, a, b, P, P, prior)
        if progress is not None:
            progress(steps - i + 1, steps)
    return without_shift(z, P, levels[0], prior)


@torch.no_grad()
def sample_bridge(
    network: TranslationNetwork, matched: Matched, text: Tokens, steps: int, seeds: Sequence[int]
) -> Latents:
    """Latents from a Brownian bridge that begins at the condition's (BBDM, arXiv 2205.07680).

    Args:
        network: One that was trained as a bridge.
        matched: A batch with ``start``.
        text: Tokens of the prompt, (1 or batch, positions, features).
        steps: From the condition to the image.
        seeds: Of the noise of each image.
    """
    guide = _guide(network, matched, text, True, True)
    y, generators = guide.prior, [seeded_generator(f"bridge/{seed}") for seed in seeds]
    x = y
    for i in range(steps, 0, -1):
        t, s = i / steps, (i - 1) / steps
        x0 = x - _eps(network, [x], round(t * (BRIDGE_TIMES - 1)), [guide])[0]
        if s == 0:
            return x0
        noise = torch.stack([torch.randn(y.shape[1:], generator=each) for each in generators])
        x = bridge_step(x, x0, y, t, s, noise.to(x.device))
    return x


def bridge_step(x: Latents, x0: Latents, y: Latents, t: float, s: float, noise: Latents) -> Latents:
    """From time ``t`` to ``s < t`` of the bridge between ``x0`` and ``y`` (BBDM, eq. 11)."""
    m_t, m_s = bridge_mean(t), bridge_mean(s)
    d_t, d_s = bridge_variance(t), bridge_variance(s)
    fresh = (d_t - d_s * ((1 - m_t) / (1 - m_s)) ** 2) * d_s / d_t
    rest = sqrt((d_s - fresh) / d_t)
    kept = x - (1 - m_t) * x0 - m_t * y
    return (1 - m_s) * x0 + m_s * y + rest * kept + sqrt(fresh) * noise


@overload
def bridge_mean(t: float) -> float: ...
@overload
def bridge_mean(t: Tensor) -> Tensor: ...
def bridge_mean(t: float | Tensor) -> float | Tensor:
    """Share of the condition at a time 0..1."""
    return t * BRIDGE_START


@overload
def bridge_variance(t: float) -> float: ...
@overload
def bridge_variance(t: Tensor) -> Tensor: ...
def bridge_variance(t: float | Tensor) -> float | Tensor:
    """Variance of the bridge at a time 0..1, at most 1/2."""
    m = bridge_mean(t)
    return 2 * (m - m**2)


def guidance_branches(structure: float, appearance: float) -> list[tuple[float, bool, bool]]:
    """Weights of the predictions, and whether each has condition and exemplar."""
    branches = [
        (1 - structure, False, False),
        (structure - appearance, True, False),
        (appearance, True, True),
    ]
    return [branch for branch in branches if branch[0] != 0]


def _guide(
    network: TranslationNetwork, matched: Matched, text: Tokens, condition: bool, exemplar: bool
) -> Guide:
    used = matched.confidence.new_ones(len(matched.pixels))
    return network.guide(matched, text, used * condition, used * exemplar)


def _eps(
    network: TranslationNetwork, z: Sequence[Latents], time: float, guides: Sequence[Guide]
) -> tuple[Tensor, ...]:
    """The U-Net's predictions for batches of latents, in one call."""
    inputs = [unet_input(*pair) for pair in zip(z, guides, strict=True)]
    x, tokens = torch.cat(inputs), torch.cat([each.tokens for each in guides])
    count(x)
    output: Tensor = call_unet(network.unet, x, time, Conditioning(tokens, ((),) * len(x), ""))
    dtype = str(weight_dtype(network.unet)).removeprefix("torch.")
    require_finite(output, f"the noise that the translation's U-Net predicted in {dtype}", "unet")
    return output.tensor_split(len(guides))
