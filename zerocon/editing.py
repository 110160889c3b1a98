"""The edit, walked beside its source. Read this page first.

An inversion is a path ``X_0 .. X_N`` from the picture to noise. The edited picture walks the same
way down, but as its *difference* ``D`` from that path: asked for nothing, ``D`` stays zero and the
picture comes back as it was, however bad the inversion. At every level

    x     = X_t + D
    x     = x - gradient of the guidances                      (what must not change, pulls back)
    eps^  = eps(x, c) + w (eps(x, c + dc) - eps(x, c))          (what was asked for, pushes on)
    D     = ((x - X_t) - psi (eps^ - eps(X_t, c))) / phi        (one DDIM step of the difference)

with ``c`` the caption, ``dc`` the edit direction and ``w`` the guidance scale: pix2pix-zero with
its caption as negative prompt, its attention loss on the half that carries the edit, and the step
corrected by the source's own error (direct inversion), which has this closed form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from zerocon.diffusion import coefficients
from zerocon.guidance import Guidance
from zerocon.inversion import Inversion
from zerocon.observation import Conditioning, Observation, observe
from zerocon.shapes import Latents

if TYPE_CHECKING:
    from zerocon.model import Model


@dataclass(frozen=True)
class Plan:
    """How an edit is walked; the numbers come from ``Settings``, which explains them."""

    scale: float
    guidance: Sequence[Guidance] = ()
    guided: tuple[float, float] = (0.0, 1.0)
    cap: float | None = None
    remember: bool = True
    seeds: tuple[int, ...] = (0,)

    def guides(self, done: float) -> bool:
        """Whether guidance acts after this share of the steps, counted from noise."""
        return bool(self.guidance) and self.guided[0] <= done < self.guided[1]

    @property
    def watches(self) -> frozenset[str]:
        """Every layer some guidance wants to see."""
        return frozenset(pattern for each in self.guidance for pattern in each.watches)


@torch.no_grad()
def edit(
    model: Model, inversion: Inversion, c: Conditioning, edited: Conditioning, plan: Plan
) -> Iterator[Latents]:
    """Walk a batch of edits from noise to picture, yielding the edited latents after every step.

    ``c`` describes the sources and ``edited`` (``c + dc``) the wish, one sentence per picture; the
    last latents yielded are the result. Stop whenever you like: there is nothing to close.
    """
    alphas = inversion.schedule.alphas
    difference = torch.zeros_like(inversion.latents[0])
    for level in range(inversion.schedule.steps, 0, -1):
        t, source = inversion.schedule.times[level], recall(inversion, level, c, plan)
        phi, psi = coefficients(alphas[level - 1], alphas[level])
        x = source.x + difference
        if plan.guides(1 - level / inversion.schedule.steps):
            x = x - nudge(model, x, t, source, c, edited, plan)
        eps, eps_source = predict(model, x, t, source, c, edited, plan)
        difference = ((x - source.x) - psi * (eps - eps_source)) / phi
        yield inversion.latents[level - 1] + difference


def recall(inversion: Inversion, level: int, c: Conditioning, plan: Plan) -> Observation:
    """The source at ``level``: all the inversion saw there, or only where it stood."""
    if plan.remember and plan.guidance:
        if not plan.watches <= inversion.watches:
            raise ValueError(
                "this inversion remembers no maps: look again, or recollect them first"
            )
        return replace(inversion.seen[level], seeds=plan.seeds)
    return Observation(inversion.latents[level], inversion.eps[level], c.ids, plan.seeds)


def nudge(
    model: Model,
    x: Latents,
    t: int,
    source: Observation,
    c: Conditioning,
    edited: Conditioning,
    plan: Plan,
) -> Latents:
    """The step away from the source that the guidances would take back: their weighted gradient."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        if plan.remember:
            now = observe(model, x, t, edited, plan.watches, plan.seeds)
        else:  # both in one batch: what is equal then comes out equal to the last bit
            beside = torch.cat([source.x, x])
            both = observe(model, beside, t, c + edited, plan.watches, plan.seeds * 2)
            source, now = both.rows(slice(len(x))).detach(), both.rows(slice(len(x), None))
        loss = torch.stack([each.weight * each(source, now) for each in plan.guidance]).sum()
        (gradient,) = torch.autograd.grad(loss, x)
    return gradient if plan.cap is None else capped(gradient, x.detach(), plan.cap)


def predict(
    model: Model,
    x: Latents,
    t: int,
    source: Observation,
    c: Conditioning,
    edited: Conditioning,
    plan: Plan,
) -> tuple[Latents, Latents]:
    """Guided epsilon at ``x``, and the source's own to compare it with."""
    if plan.remember:
        tokens = torch.cat([c.tokens, edited.tokens])
        plain, wished = model.eps(torch.cat([x, x]), t, tokens).chunk(2)
        eps_source = source.eps
    else:
        tokens = torch.cat([c.tokens, c.tokens, edited.tokens])
        eps_source, plain, wished = model.eps(torch.cat([source.x, x, x]), t, tokens).chunk(3)
    return plain + plan.scale * (wished - plain), eps_source


def capped(gradient: Latents, x: Latents, cap: float) -> Latents:
    """Shorten each picture's gradient to at most ``cap`` times the length of its latents."""
    length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
    allowed = cap * x.flatten(1).norm(dim=1)
    factor: Latents = (allowed / length).clamp_max(1.0).view(-1, 1, 1, 1)
    return factor * gradient
