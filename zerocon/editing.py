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

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from zerocon.conditioning import Conditioning
from zerocon.diffusion import CLEAN, ddim_coefficients, ddim_step
from zerocon.guidance import REFERENCE_STEPS, Guidance
from zerocon.observation import Observation, observe
from zerocon.registry import available, parse
from zerocon.settings import Settings
from zerocon.shapes import Latents, require_finite
from zerocon.trajectory import Inversion

if TYPE_CHECKING:
    from zerocon.model import Model


SHARED = (
    "guidance_scale",
    "guidance_range",
    "guidance_prompt",
    "reuse_prediction",
    "guidance_balance",
    "polyak_step",
    "source_correction",
    "cache_source",
)


@dataclass(frozen=True)
class Plan:
    """How an edit is walked; the numbers come from ``Settings``, which explains them.

    ``guidance_limit`` and ``seeds`` have one for every picture.
    """

    guidance_scale: float | tuple[float, float]
    guidance: Sequence[Guidance] = ()
    guidance_range: tuple[float, float] = (0.0, 1.0)
    guidance_prompt: str = "target"
    reuse_prediction: bool = False
    guidance_balance: float | None = None
    guidance_limit: tuple[float, ...] = (inf,)
    polyak_step: bool = False
    source_correction: bool = True
    cache_source: bool = True
    seeds: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, settings: Settings, changes: Sequence[Collection[str]] = ((),)) -> Plan:
        """The walk that ``settings`` ask for; ``ValueError`` as ``parse``.

        ``changes`` are the kinds of change, picture by picture.
        """
        known = available("guidance")
        own = {name: getattr(settings, name) for name in SHARED}
        guidance = tuple(parse(text, known) for text in settings.guidance)
        caps, seeds = (
            tuple(map(settings.guidance_limit_for, changes)),
            (settings.seed,) * len(changes),
        )
        return cls(**own, guidance=guidance, guidance_limit=caps, seeds=seeds)

    def guides(self, done: float) -> bool:
        """Whether guidance acts after this share of the steps, counted from noise."""
        return bool(self.guidance) and self.guidance_range[0] <= done < self.guidance_range[1]

    def scale_at(self, done: float) -> float:
        """The guidance scale after this share of the steps, counted from noise."""
        first, last = (
            self.guidance_scale
            if isinstance(self.guidance_scale, tuple)
            else (self.guidance_scale, self.guidance_scale)
        )
        return first + done * (last - first)

    @property
    def layer_patterns(self) -> frozenset[str]:
        """Every layer some guidance wants to see."""
        return frozenset(pattern for each in self.guidance for pattern in each.layer_patterns)


@dataclass(frozen=True)
class Step:
    """Where an edit stands after one step.

    ``latents`` is the edited picture at ``level`` (0 is the picture), ``difference`` how far it is
    from the source there, ``clean`` the picture it would be if the rest of the way were one step.
    ``losses`` are the guidances' weighted losses (guidances, pictures), None where none acted.
    """

    level: int
    latents: Latents
    difference: Latents
    clean: Latents
    losses: Tensor | None


class Pull(NamedTuple):
    """What guidance says at one level, and the eps under the wish that it saw on the way."""

    gradient: Latents
    losses: Tensor
    wished: Latents | None


@torch.no_grad()
def edit(
    model: Model, inversion: Inversion, c: Conditioning, edited: Conditioning, plan: Plan
) -> Iterator[Step]:
    """Walk a batch of edits from noise to picture, yielding after every step.

    ``c`` describes the sources and ``edited`` (``c + dc``) the wish, one sentence per picture; the
    last step's latents are the result. Stop whenever you like: there is nothing to close. Where
    several threads walk on one model, each holds ``model.lock`` from its first step to its last.
    """
    levels, steps = inversion.schedule.levels, inversion.schedule.steps
    walk, weights = Walk(model, c, edited, plan, REFERENCE_STEPS / steps), None
    difference = torch.zeros_like(inversion.latents[0])
    for level in range(steps, 0, -1):
        done, t = 1 - level / steps, levels[level].time
        source = walk.recall(inversion, level)
        x, pull = source.x + difference, None
        if plan.guides(done):
            if weights is None:
                weights = walk.weigh(x, t, source)
            pull = walk.nudge(x, t, source, weights)
        back = 0.0 if pull is None else pull.gradient
        if pull is None or not plan.reuse_prediction:
            plain, wished, own = walk.predict(x - back, t, source)
        else:  # at x, where guidance has looked already
            plain, wished, own = walk.predict(x, t, source, pull.wished)
        if (
            not plan.source_correction
        ):  # what leads back along the path, whatever the network says there
            phi, psi = ddim_coefficients(levels[level - 1], levels[level])
            own = (inversion.latents[level] - phi * inversion.latents[level - 1]) / psi
        eps = plain + plan.scale_at(done) * (wished - plain)
        difference = x - back - source.x
        clean = ddim_step(difference, eps - own, levels[level], CLEAN)
        difference = ddim_step(difference, eps - own, levels[level], levels[level - 1])
        require_finite(difference, f"the latents after step {steps - level + 1} of {steps}")
        yield Step(
            level - 1,
            inversion.latents[level - 1] + difference,
            difference,
            inversion.latents[0] + clean,
            None if pull is None else pull.losses,
        )


@dataclass(frozen=True)
class Walk:
    """What stays the same at every level of an edit, and what is asked of the network there.

    Each question is about latents ``x`` at time ``t``, beside a ``source`` at the same level. One
    step stands for ``pace`` steps of the walk for which weights and cap are meant: fewer steps pull
    harder at each, and as hard in all.
    """

    model: Model
    c: Conditioning
    edited: Conditioning
    plan: Plan
    pace: float = 1.0

    def recall(self, inversion: Inversion, level: int) -> Observation:
        """The source at ``level``: all the inversion saw there, or only where it stood."""
        if self.plan.cache_source and self.plan.guidance:
            if not self.plan.layer_patterns <= inversion.layer_patterns:
                raise ValueError(
                    "this inversion remembers no maps: look again, or recollect them first"
                )
            return replace(inversion.seen[level], seeds=self.plan.seeds)
        stood, said = inversion.latents[level], inversion.eps[level]
        return Observation(stood, said, self.c.ids, self.plan.seeds)

    def nudge(self, x: Latents, t: float, source: Observation, weights: Tensor) -> Pull:
        """The step away from the source that the guidances would take back: weighted gradient.

        ``weights`` are (guidances, pictures).
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            losses, wished = self.compare(x, t, source)
            losses = self.pace * weights.to(losses) * losses
            (gradient,) = torch.autograd.grad(losses.sum(), x)
        losses = losses.detach()
        gradient = (
            limit_to_polyak_step(gradient, losses.sum(0)) if self.plan.polyak_step else gradient
        )
        gradient = limit_norm(
            gradient, x.detach(), self.pace * torch.tensor(self.plan.guidance_limit)
        )
        return Pull(gradient, losses, wished)

    def weigh(self, x: Latents, t: float, source: Observation) -> Tensor:
        """Weights of the guidances, (guidances, pictures): their own, or balanced by a first look.

        With ``plan.guidance_balance`` each one after the first pulls, here, that many times as hard as the
        first does. A pull of no length has no balance; those weights stay as they are.
        """
        guidance = self.plan.guidance
        own = torch.tensor([[each.weight] * len(x) for each in guidance], device=x.device)
        if self.plan.guidance_balance is None or len(own) < 2:
            return own
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            losses, _ = self.compare(x, t, source)
            pulls = [torch.autograd.grad(loss.sum(), x, retain_graph=True)[0] for loss in losses]
        lengths = own.abs() * torch.stack([pull.flatten(1).norm(dim=1) for pull in pulls]).to(own)
        factors = self.plan.guidance_balance * lengths[0] / lengths
        factors[0] = 1.0
        return own * torch.where((lengths > 0) & (lengths[0] > 0), factors, 1.0)

    def compare(self, x: Latents, t: float, source: Observation) -> tuple[Tensor, Latents | None]:
        """Unweighted losses (guidances, pictures) of ``x`` against its source; eps under the wish.

        ``plan.guidance_prompt`` says under which sentence ``x`` is read: the wish, the caption (as in the
        released pix2pix-zero), or each in turn. Under the caption alone nothing is learned about
        the wish.
        """
        c, edited, plan = self.c, self.edited, self.plan
        n, told = (
            len(x),
            {"target": edited, "source": c, "both": Conditioning.cat([edited, c])}[
                plan.guidance_prompt
            ],
        )
        here, said = x.repeat(len(told) // n, 1, 1, 1), told
        if not plan.cache_source:  # all in one batch: what is equal then comes out equal to the bit
            here, said = torch.cat([source.x, here]), Conditioning.cat([c, told])
        seen = observe(
            self.model, here, t, said, plan.layer_patterns, plan.seeds * (len(said) // n)
        )
        if not plan.cache_source:
            source, seen = seen.rows(slice(n)).detach(), seen.rows(slice(n, None))
        halves = [seen.rows(slice(i, i + n)) for i in range(0, len(told), n)]
        rows = [slice(i, i + 1) for i in range(n)]
        losses = [
            [
                torch.stack(
                    [each(source.rows(i), guidance_prompt.rows(i)) for guidance_prompt in halves]
                ).mean()
                for i in rows
            ]
            for each in plan.guidance
        ]
        wished = None if plan.guidance_prompt == "source" else halves[0].eps.detach()
        return torch.stack([torch.stack(row) for row in losses]), wished

    def predict(
        self, x: Latents, t: float, source: Observation, wished: Latents | None = None
    ) -> tuple[Latents, Latents, Latents]:
        """Eps at ``x`` under the caption and under the wish (unless known), the source's own."""
        here, said = [x], self.c
        if not self.plan.cache_source:
            here, said = [source.x, *here], Conditioning.cat([self.c, said])
        if wished is None:
            here, said = [*here, x], Conditioning.cat([said, self.edited])
        parts = list(self.model.eps(torch.cat(here), t, said).chunk(len(here)))
        own = source.eps if self.plan.cache_source else parts.pop(0)
        plain = parts.pop(0)
        return plain, parts[0] if wished is None else wished, own


def limit_to_polyak_step(gradient: Latents, losses: Tensor) -> Latents:
    """Shorten each picture's gradient to Polyak's step, ``loss / |gradient|^2`` times the gradient.

    No step of a convex loss that can reach zero is then so long that it ends further from where it
    does, whatever the curvature; a longer one swings from side to side, and grows. Where the weight
    is small enough for the curvature nothing is shortened. ``losses`` are weighted, (pictures,).
    """
    square = gradient.flatten(1).square().sum(1)
    factor = (losses.to(square) / square.clamp_min(1e-30)).clamp(0.0, 1.0)
    return factor.view(-1, 1, 1, 1) * gradient


def limit_norm(gradient: Latents, x: Latents, guidance_limit: Tensor) -> Latents:
    """Shorten each picture's gradient to at most its ``guidance_limit`` times the length of its latents."""
    length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
    size, guidance_limit = x.flatten(1).norm(dim=1), guidance_limit.to(x)
    allowed = torch.where(
        guidance_limit.isinf(), guidance_limit, guidance_limit * size
    )  # not infinity times nothing
    factor: Latents = (allowed / length).clamp_max(1.0).view(-1, 1, 1, 1)
    return factor * gradient
