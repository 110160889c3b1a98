"""The editing loop. Read this file first.

pix2pix-zeroCon (arXiv 2503.20484): pix2pix-zero (arXiv 2302.03027) with a second, patch-wise
contrastive guidance loss, in the difference form of direct inversion (arXiv 2310.01506).

An inversion is a trajectory ``x_src`` of the source image through the noise levels of a schedule,
with the predicted noise ``eps_src`` at each level. The edited image follows it as the difference
``D`` from it. At each level, from noise to image:

    x        = x_src + D
    g        = gradient of the guidance losses at x, limited          (2302.03027, eq. 5)
    eps_edit = eps(x - g, c) + w (eps(x - g, c + dc) - eps(x - g, c))  (guidance; c is the negative)
    D        = DDIM step of (D - g, eps_edit - eps_src)               (2010.02502, eq. 12)

where ``c`` is the source caption's conditioning, ``dc`` the edit direction and ``w`` the guidance
scale. The DDIM step is linear, so the step of the differences is the difference of an edit step and
the source's own step: an edit with ``dc = 0`` has ``D = 0`` throughout and returns the source,
however inexact the inversion is.

An attention control puts attention of the source at the same level in place of the edit's own, in
both predictions of ``eps_edit`` (see ``zerocon.attention_control``). With the setting ``begin``,
``D`` is zero at the first levels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zerocon.activations import Observation, observe
from zerocon.attention_control import AttentionControl
from zerocon.conditioning import Conditioning
from zerocon.diffusion import CLEAN, NoiseLevel, ddim_noise, ddim_step
from zerocon.guidance import REFERENCE_STEPS, Guidance
from zerocon.inversion import Inverter
from zerocon.model.attention import PROJECTIONS, change_layers
from zerocon.registry import resolve
from zerocon.sampling import scale_at
from zerocon.settings import Settings
from zerocon.tensor_types import Latents, require_finite
from zerocon.trajectory import Inversion, LayersByLevel

if TYPE_CHECKING:
    from zerocon.model import Model

# Called after each step with the source's and the edited image's observation before the step, the
# new D and its level (0 is the image); it returns the D to go on with.
Constraint = Callable[[Observation, Observation, Latents, int], Latents]


@dataclass(frozen=True)
class Plan:
    """Settings with their methods resolved: what the loop runs with.

    Made once per edit and passed on.

    Attributes:
        settings: See ``Settings``.
        inverter: ``settings.inverter`` as an object.
        guidance: ``settings.guidance`` as objects.
        limits: Largest norm of the guidance gradient in norms of the latents, one per image.
        seeds: Random seed of each image's edit.
        attention: ``settings.attention`` as an object; None for "none".
    """

    settings: Settings
    inverter: Inverter
    guidance: tuple[Guidance, ...] = ()
    limits: tuple[float, ...] = (inf,)
    seeds: tuple[int, ...] = (0,)
    attention: AttentionControl | None = None

    @classmethod
    def of(cls, settings: Settings, changes: Sequence[Collection[str]] = ((),)) -> Plan:
        """The plan of ``settings`` for a batch; ``changes`` are each image's kinds of change.

        Raises:
            MethodError: for an unknown method, or a bad option of one.
        """
        return cls(
            settings,
            inverter=resolve("inverter", settings.inverter),
            guidance=tuple(resolve("guidance", each) for each in settings.guidance),
            limits=tuple(map(settings.guidance_limit_for, changes)),
            seeds=(settings.seed,) * len(changes),
            attention=(
                None if settings.attention == "none" else resolve("attention", settings.attention)
            ),
        )

    @property
    def layer_patterns(self) -> frozenset[str]:
        """Names of every layer of the source that the edit needs, as shell patterns."""
        return self.guidance_layers | self.attention_layers

    @property
    def explicit_layers(self) -> tuple[str, ...]:
        """The patterns on which the rounding of an inversion depends, sorted.

        Cross-attention that is recorded is not computed by fused kernels. An inversion computes it
        so at all levels, whether it is recorded there or not, so that its trajectory is the same.
        """
        inert = ("attn1", *PROJECTIONS)
        return tuple(sorted(each for each in self.layer_patterns if not each.endswith(inert)))

    @property
    def guidance_layers(self) -> frozenset[str]:
        """Names of every layer that some guidance loss needs, as shell patterns."""
        return frozenset(pattern for each in self.guidance for pattern in each.layer_patterns)

    @property
    def attention_layers(self) -> frozenset[str]:
        """Names of every layer that the attention control changes, as shell patterns."""
        return frozenset(() if self.attention is None else self.attention.layer_patterns)

    def layers_at(self, progress: float) -> frozenset[str]:
        """The source's layers that the step at this share of the steps needs, as shell patterns."""
        if not self.edits(progress):
            return frozenset()
        control = () if self.attention is None else self.attention.layers_at(progress)
        return frozenset(control) | (self.guidance_layers if self.guides(progress) else frozenset())

    def layers_by_level(self, steps: int | None = None) -> LayersByLevel:
        """``layers_at`` for every noise level of a schedule, level 0, the image, first."""
        steps = steps or self.settings.steps
        return (frozenset(), *(self.layers_at(1 - i / steps) for i in range(1, steps + 1)))

    def cached_layers(self, steps: int | None = None) -> LayersByLevel:
        """At each level, the layers whose activations an inversion records for the edit."""
        layers = self.layers_by_level(steps)
        return layers if self.settings.cache_source else (frozenset(),) * len(layers)

    @property
    def keeps_source(self) -> bool:
        """Whether ``D`` is zero at every step: the edit is the source, without any evaluation.

        That is so without a direction, if each step is corrected by the source's own error and no
        loss has a gradient, and no attention control an effect, where nothing has changed; and if
        the edit begins after the last step.
        """
        settings = self.settings
        if not self.edits(1 - 1 / settings.steps):
            return True
        scales = settings.guidance_scale
        unscaled = not self.guidance and scales in (0, (0, 0))
        unguided = all(getattr(each, "zero_at_source", False) for each in self.guidance)
        same = self.attention is None or getattr(self.attention, "same_at_source", False)
        undirected = settings.strength == 0 or unscaled
        return undirected and settings.source_correction and unguided and same

    @property
    def inverter_draws(self) -> bool:
        """Whether the inversion may depend on the seeds."""
        return bool(getattr(self.inverter, "stochastic", True))

    def guidance_draws(self, latents: tuple[int, int]) -> bool:
        """Whether a loss may draw from the seeds, for latents of this size (rows, columns)."""
        return any(getattr(each, "draws", lambda _: True)(latents) for each in self.guidance)

    def edits(self, progress: float) -> bool:
        """Whether ``D`` may differ from zero after the step at this share of the steps."""
        return progress >= self.settings.begin

    def controls(self, progress: float) -> bool:
        """Whether the attention control acts at this share of the steps, counted from noise."""
        return self.attention is not None and bool(self.attention.layers_at(progress))

    def guides(self, progress: float) -> bool:
        """Whether guidance acts at this share of the steps, counted from noise."""
        first, last = self.settings.guidance_range
        return bool(self.guidance) and first <= progress < last


@dataclass(frozen=True)
class Step:
    """The state of an edit after one step.

    Attributes:
        level: Noise level that was reached; 0 is the image.
        latents: Latents of the edited images at ``level``.
        difference: ``D``, their difference from the source's latents at ``level``.
        clean: The predicted noise-free latents (DDIM's predicted x_0).
        losses: Weighted guidance losses, (losses, images); None at a step without guidance.
    """

    level: int
    latents: Latents
    difference: Latents
    clean: Latents
    losses: Tensor | None

    def __repr__(self) -> str:
        height, width = self.latents.shape[-2:]
        return f"Step(level {self.level}, {len(self.latents)} x {width}x{height} latents)"


def unconstrained(
    source: Observation, edited: Observation, difference: Latents, level: int
) -> Latents:
    """The constraint of an edit without masks or locks: ``D`` as it is."""
    return difference


@torch.no_grad()
def edit(
    model: Model,
    inversion: Inversion,
    c: Conditioning,
    c_edit: Conditioning,
    plan: Plan,
    constraint: Constraint = unconstrained,
) -> Iterator[Step]:
    """Denoise a batch of edits, yielding after every step; the last step's latents are the result.

    Symbols as in the module's docstring. The iteration may be abandoned at any step. Threads that
    share a model must hold ``model.lock`` from the first step to the last.

    Args:
        model: Predicts the noise.
        inversion: The source's trajectory, one row per image.
        c: Conditioning of the source captions, one row per image.
        c_edit: ``c + dc``.
        plan: From ``Plan.of``.
        constraint: Applied to ``D`` after each step from ``settings.begin`` on.

    Raises:
        NotFiniteError: if the latents become NaN or infinite.
    """
    levels, steps = inversion.schedule.levels, inversion.schedule.steps
    network = GuidedDenoiser(model, c, c_edit, plan, REFERENCE_STEPS / steps)
    D = torch.zeros_like(inversion.latents[0])
    for i in range(steps, 0, -1):
        t, s, progress = levels[i], levels[i - 1], 1 - i / steps
        if not plan.edits(progress):
            yield Step(i - 1, inversion.latents[i - 1], D, inversion.latents[0], None)
            continue
        source = network.source(inversion, i)
        x = source.x + D
        guided = network.guide(x, t, source, progress)
        g = guided.gradient
        eps_edit, eps_src, edited = network.predict(x, t, source, guided, progress)
        eps_src = network.step_noise(inversion, i, eps_src)
        clean = ddim_step(D - g, eps_edit - eps_src, t, CLEAN)
        D = ddim_step(D - g, eps_edit - eps_src, t, s)
        D = constraint(source, edited, D, i - 1)
        require_finite(D, f"the latents after step {steps - i + 1} of {steps}", "unet")
        x_src, losses = inversion.latents[i - 1], guided.losses
        del guided, edited  # else their activations are held during the next guidance pass
        yield Step(i - 1, x_src + D, D, inversion.latents[0] + clean, losses)


@dataclass(frozen=True)
class Guided:
    """What guidance gives at one step.

    Attributes:
        gradient: ``g``, already limited; zeros where guidance does not act.
        losses: Weighted losses, (losses, images), or None.
        edited: Observation of the edited images, with the layers that guidance recorded, or None.
    """

    gradient: Latents
    losses: Tensor | None = None
    edited: Observation | None = None


@dataclass
class GuidedDenoiser:
    """The U-Net calls of an edit: cached or recomputed source, guidance, controlled predictions.

    ``pace`` is the ratio of ``REFERENCE_STEPS`` to the number of steps: the weights and limits of
    guidance are those of 50 steps, and fewer steps are each guided more, by as much in total.
    """

    model: Model
    c: Conditioning
    c_edit: Conditioning
    plan: Plan
    pace: float = 1.0
    weights: Tensor | None = None  # (losses, images), from the first guided step on

    def source(self, inversion: Inversion, i: int) -> Observation:
        """The source at level ``i``: with its cached activations if the plan needs them."""
        needed = self.plan.layers_at(1 - i / inversion.schedule.steps)
        if self.plan.settings.cache_source and needed:
            if not inversion.layer_patterns or not needed <= inversion.layer_patterns[i]:
                raise ValueError("the inversion has not recorded the layers that the edit needs")
            return replace(inversion.observations[i], seeds=self.plan.seeds)
        return Observation(inversion.latents[i], inversion.eps[i], self.c.ids, self.plan.seeds)

    def step_noise(self, inversion: Inversion, i: int, eps_src: Latents) -> Latents:
        """The noise of the source's own step from level ``i``: predicted, or the trajectory's.

        With the predicted noise, the step of ``D`` corrects the inversion's error (direct
        inversion). With the noise that leads exactly along the trajectory, the edited latents take
        a plain DDIM step.
        """
        if self.plan.settings.source_correction:
            return eps_src
        levels, latents = inversion.schedule.levels, inversion.latents
        return ddim_noise(latents[i], latents[i - 1], levels[i], levels[i - 1])

    def guide(self, x: Latents, t: NoiseLevel, source: Observation, progress: float) -> Guided:
        """Gradient and losses of guidance at ``x``, if it acts at this step."""
        plan = self.plan
        if not plan.guides(progress):
            return Guided(torch.zeros_like(x))
        if self.weights is None:
            self.weights = self._balance(x, t, source)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            losses, edited = self._losses(x, t, source)
            losses = self.pace * self.weights.to(losses) * losses
            gradient = _gradient(losses.sum(), x)
            require_finite_gradient(gradient)
        losses, edited = losses.detach(), edited.detach()
        if plan.settings.polyak_step:
            gradient = limit_to_polyak_step(gradient, losses.sum(0))
        limits = self.pace * torch.tensor(plan.limits)
        gradient = limit_norm(gradient, x.detach(), limits)
        return Guided(gradient, losses, edited)

    def predict(
        self, x: Latents, t: NoiseLevel, source: Observation, guided: Guided, progress: float
    ) -> tuple[Latents, Latents, Observation]:
        """``eps_edit``, ``eps_src`` and the edited images' observation, in one U-Net call.

        With ``reuse_prediction`` a guided step predicts at ``x``, where the guidance pass has
        predicted the noise under the target caption already, instead of at ``x - g``. That pass is
        without attention control, so that a controlled step does not reuse it.
        """
        reuse = self.plan.settings.reuse_prediction and guided.edited is not None
        reuse = reuse and not self.plan.controls(progress)
        x = x if reuse else x - guided.gradient
        eps_target = None
        if reuse and guided.edited is not None and self.plan.settings.guidance_prompt != "source":
            eps_target = guided.edited.eps
        latents, conditionings = [x], [self.c]
        if not self.plan.settings.cache_source:
            latents, conditionings = [source.x, x], [self.c, self.c]
        if eps_target is None:
            latents, conditionings = [*latents, x], [*conditionings, self.c_edit]
        inputs = torch.cat(latents), t.time, Conditioning.cat(conditionings)
        with self._controlled(source, inputs[-1], progress):
            eps = self.model.eps(*inputs)
        parts = list(eps.chunk(len(latents)))
        eps_src = source.eps if self.plan.settings.cache_source else parts.pop(0)
        eps_c = parts.pop(0)
        eps_target = parts[0] if eps_target is None else eps_target
        eps_edit = eps_c + scale_at(self.plan.settings.guidance_scale, progress) * (
            eps_target - eps_c
        )
        edited = guided.edited or Observation(x, eps_target, self.c_edit.ids, self.plan.seeds)
        return eps_edit, eps_src, edited

    def _controlled(
        self, source: Observation, c: Conditioning, progress: float
    ) -> AbstractContextManager[None]:
        """The attention control of a prediction under ``c``, whose rows are those of ``predict``.

        The source's layers are cached, or those of the first rows of the same call.
        """
        control, n = self.plan.attention, len(source.x)
        if control is None or not self.plan.controls(progress):
            return nullcontext()
        cached = self.plan.settings.cache_source
        layers = {**source.maps, **source.features}

        def change(layer: str, output: Tensor) -> Tensor:
            parts = list(output.chunk(len(output) // n))
            reference = layers[layer] if cached else parts[0]
            for k in range(not cached, len(parts)):
                ids = zip(source.ids, c.ids[k * n : (k + 1) * n], strict=True)
                parts[k] = control(layer, reference, parts[k], tuple(ids))
            return torch.cat(parts)

        return change_layers(self.model.unet, control.layers_at(progress), change)

    def _losses(self, x: Latents, t: NoiseLevel, source: Observation) -> tuple[Tensor, Observation]:
        """Unweighted losses of ``x``, (losses, images), and the edited images' observation.

        ``settings.guidance_prompt`` decides under which caption ``x`` is observed: the target
        caption, the source caption (as the released pix2pix-zero does), or both, whose losses are
        averaged.
        """
        plan, n = self.plan, len(x)
        prompts = {
            "target": [self.c_edit],
            "source": [self.c],
            "both": [self.c_edit, self.c],
        }[plan.settings.guidance_prompt]
        latents, conditionings = [x] * len(prompts), prompts
        if not plan.settings.cache_source:  # one batch, so that equal inputs give equal bits
            latents, conditionings = [source.x, *latents], [self.c, *prompts]
        seeds = plan.seeds * len(latents)
        c = Conditioning.cat(conditionings)
        edited = observe(self.model, torch.cat(latents), t.time, c, plan.guidance_layers, seeds)
        source = source.only(plan.guidance_layers)
        if not plan.settings.cache_source:
            source, edited = edited.rows(slice(n)).detach(), edited.rows(slice(n, None))
        views = [edited.rows(slice(i, i + n)) for i in range(0, n * len(prompts), n)]
        losses = [[_image_loss(each, source, views, i) for i in range(n)] for each in plan.guidance]
        return torch.stack([torch.stack(row) for row in losses]), views[0]

    def _balance(self, x: Latents, t: NoiseLevel, source: Observation) -> Tensor:
        """Weights of the losses, (losses, images): their own, or balanced by their gradients.

        With ``settings.guidance_balance`` the gradient of each loss after the first is scaled to
        that many times the first one's length, at the first guided step. A loss whose gradient is
        zero keeps its own weight.
        """
        plan = self.plan
        weights = torch.tensor([[each.weight] * len(x) for each in plan.guidance], device=x.device)
        if plan.settings.guidance_balance is None or len(weights) < 2:
            return weights
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            losses, _ = self._losses(x, t, source)
            gradients = [_gradient(loss.sum(), x, keep_graph=True) for loss in losses]
            for gradient in gradients:
                require_finite_gradient(gradient)
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients])
        lengths = weights.abs() * norms.to(weights)
        factors = plan.settings.guidance_balance * lengths[0] / lengths
        factors[0] = 1.0
        return weights * torch.where((lengths > 0) & (lengths[0] > 0), factors, 1.0)


def _image_loss(
    guidance: Guidance, source: Observation, views: Sequence[Observation], i: int
) -> Tensor:
    """One loss of image ``i``, averaged over the captions under which it was observed."""
    row = slice(i, i + 1)
    return torch.stack([guidance(source.rows(row), view.rows(row)) for view in views]).mean()


def _gradient(loss: Tensor, x: Latents, *, keep_graph: bool = False) -> Latents:
    """Gradient of ``loss`` with respect to ``x``; zeros for a loss that does not depend on it."""
    if not loss.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(loss, x, retain_graph=keep_graph, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


def require_finite_gradient(gradient: Latents) -> None:
    """Raise ``NotFiniteError`` for a gradient that has no length.

    Limits would turn it into zeros, or into NaN.
    """
    norms = gradient.detach().flatten(1).norm(dim=1)
    require_finite(norms, "the gradients of the guidance losses", "unet")


def limit_to_polyak_step(gradient: Latents, losses: Tensor) -> Latents:
    """Shorten each image's gradient to Polyak's step, ``loss / |gradient|^2`` times the gradient.

    No step of a convex loss whose minimum is zero then overshoots the minimum, whatever the
    curvature; longer steps oscillate, and grow. Gradients of small enough weight are unchanged.

    Args:
        gradient: (images, channels, height, width).
        losses: Weighted losses, (images,).
    """
    square = gradient.flatten(1).square().sum(1)
    factor = (losses.to(square) / square.clamp_min(1e-30)).clamp(0.0, 1.0)
    return factor.view(-1, 1, 1, 1) * gradient


def limit_norm(gradient: Latents, x: Latents, limits: Tensor) -> Latents:
    """Shorten each image's gradient to at most its ``limits`` times the norm of its latents."""
    norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
    size, limits = x.flatten(1).norm(dim=1), limits.to(x)
    allowed = torch.where(limits.isinf(), limits, limits * size)  # infinity times zero is NaN
    factor: Latents = (allowed / norm).clamp_max(1.0).view(-1, 1, 1, 1)
    return factor * gradient
