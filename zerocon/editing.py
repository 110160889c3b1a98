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
scale. With the setting ``push_limit``, the noise is predicted at ``x`` and ``g`` is Polyak's step,
at most that share of what ``eps_edit - eps_src`` moves ``D`` at this step: no magnitude of a loss,
size of the latents, number of steps or prediction type enters. The DDIM step is linear, so that the
step of the differences is the difference of an edit step and the source's own step: an edit with
``dc = 0`` has ``D = 0`` throughout and returns the source, however inexact the inversion is.

An attention control puts attention of the source at the same level in place of the edit's own, in
both predictions of ``eps_edit`` (see ``zerocon.attention_control``). With the setting
``difference_threshold``, ``D`` is set to zero after each of the middle steps at positions where it
is small (see ``threshold``). With the setting ``begin``, ``D`` is zero at the first levels. All of
them, and the limits of ``g``, may differ by kind of change and so between the images of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zerocon.activations import Observation, observe
from zerocon.attention_control import AttentionControl
from zerocon.conditioning import Conditioning, Ids
from zerocon.diffusion import CLEAN, NoiseLevel, ddim_coefficients, ddim_noise, ddim_step
from zerocon.errors import MethodError
from zerocon.guidance import REFERENCE_STEPS, Guidance
from zerocon.inversion import Inverter
from zerocon.model.attention import PROJECTIONS, change_layers
from zerocon.registry import resolve
from zerocon.sampling import scale_at
from zerocon.settings import Settings, number_for
from zerocon.tensor_types import Latents, PerImage, require_finite
from zerocon.trajectory import Inversion, LayersByLevel

if TYPE_CHECKING:
    from zerocon.model import Model

# Losses are multiplied by it before the gradient, which is divided by it: in half precision small
# gradients inside the U-Net would become zero. A power of two, so that scaling is exact.
LOSS_SCALE = 2.0**10

# Shares of the steps between which ``settings.difference_threshold`` acts: earlier ``D`` does not
# show yet where the edit will be, and the last steps fit the edges together.
THRESHOLD_RANGE = (0.3, 0.8)
THRESHOLD_UNIT = 0.9  # the quantile of the norm of ``D`` over the image that thresholds refer to

# Called after each step with the source's and the edited image's observation before the step, the
# new D and its level (0 is the image); it returns the D to go on with.
Constraint = Callable[[Observation, Observation, Latents, int], Latents]


@dataclass(frozen=True)
class ImagePlan:
    """What may differ between the images of a batch, since their changes are of different kinds.

    Attributes:
        seed: Random seed of the image's edit.
        attention: Attention control; None for none.
        begin: Share of the steps, counted from noise, before the edit begins.
        guidance_limit: Largest norm of the guidance gradient in norms of the latents.
        push_limit: Largest norm of the guidance gradient in norms of the prompt's push.
        difference_threshold: See ``threshold``.
    """

    seed: int = 0
    attention: AttentionControl | None = None
    begin: float = 0.0
    guidance_limit: float = inf
    push_limit: float = inf
    difference_threshold: float = 0.0

    @classmethod
    def of(cls, settings: Settings, changes: Collection[str]) -> ImagePlan:
        """The plan of an edit with changes of these kinds."""
        attention = settings.attention_for(changes)
        return cls(
            seed=settings.seed,
            attention=None if attention == "none" else resolve("attention", attention),
            begin=settings.begin_for(changes),
            guidance_limit=number_for(settings.guidance_limit, changes),
            push_limit=number_for(settings.push_limit, changes),
            difference_threshold=number_for(settings.difference_threshold, changes),
        )

    def edits(self, progress: float) -> bool:
        """Whether ``D`` may differ from zero after the step at this share of the steps."""
        return progress >= self.begin

    def controlled_layers(self, progress: float) -> Collection[str]:
        """The layers that the attention control changes at this share of the steps."""
        return () if self.attention is None else self.attention.layers_at(progress)


@dataclass(frozen=True)
class Plan:
    """Settings with their methods resolved: what the loop runs with.

    Made once per edit and passed on.

    Attributes:
        settings: See ``Settings``.
        inverter: ``settings.inverter`` as an object.
        guidance: ``settings.guidance`` as objects.
        images: What is each image's own.
        controls: The attention controls for changes of every kind: an inversion records what any
            edit of its image will need.
    """

    settings: Settings
    inverter: Inverter
    guidance: tuple[Guidance, ...] = ()
    images: tuple[ImagePlan, ...] = (ImagePlan(),)
    controls: tuple[AttentionControl, ...] = ()

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
            images=tuple(ImagePlan.of(settings, kinds) for kinds in changes),
            controls=tuple(resolve("attention", each) for each in settings.attention_controls),
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """Random seed of each image's edit."""
        return tuple(each.seed for each in self.images)

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
        """Names of every layer that an attention control changes, as shell patterns."""
        return frozenset(pattern for each in self.controls for pattern in each.layer_patterns)

    def layers_at(self, progress: float) -> frozenset[str]:
        """The source's layers that an edit needs at this share of the steps, as shell patterns.

        Those of changes of every kind, so that further edits of the image need no others.
        """
        if progress < self.settings.earliest_begin:
            return frozenset()
        controlled = frozenset(name for each in self.controls for name in each.layers_at(progress))
        return controlled | (self.guidance_layers if self.guides(progress) else frozenset())

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
        loss has a gradient, and no attention control an effect, where nothing has changed.
        """
        settings = self.settings
        unscaled = not self.guidance and settings.guidance_scale in (0, (0, 0))
        unguided = all(getattr(each, "zero_at_source", False) for each in self.guidance)
        same = all(
            each.attention is None or getattr(each.attention, "same_at_source", False)
            for each in self.images
        )
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
        """Whether ``D`` of some image may differ from zero after the step at this share."""
        return any(each.edits(progress) for each in self.images)

    def controlled_layers(self, progress: float) -> frozenset[str]:
        """The layers that attention controls change at this share of the steps."""
        return frozenset(name for each in self.images for name in each.controlled_layers(progress))

    def thresholds_at(self, done: float) -> tuple[float, ...]:
        """Every image's threshold of ``D`` after this share of the steps."""
        acts = THRESHOLD_RANGE[0] <= done <= THRESHOLD_RANGE[1]
        return tuple(each.difference_threshold if acts else 0.0 for each in self.images)

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
        eps_edit, eps_src, edited = network.predict(x, t, source, guided, progress)
        eps = eps_edit - network.step_noise(inversion, i, eps_src)
        g = network.limit_to_push(guided.gradient, eps, t, s)
        clean, D = ddim_step(D - g, eps, t, CLEAN), ddim_step(D - g, eps, t, s)
        D = threshold(D, plan.thresholds_at(1 - (i - 1) / steps))
        D = network.begun(constraint(source, edited, D, i - 1), progress)
        require_finite(D, f"the latents after step {steps - i + 1} of {steps}", "unet")
        x_src, losses = inversion.latents[i - 1], guided.losses
        del guided, edited  # else their activations are held during the next guidance pass
        yield Step(i - 1, x_src + D, D, inversion.latents[0] + clean, losses)


@dataclass(frozen=True)
class Guided:
    """What guidance gives at one step.

    Attributes:
        gradient: ``g``, limited but for ``push_limit``; zeros where guidance does not act.
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
        for scale in (LOSS_SCALE, 1.0):  # the second one only if the first overflows
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                losses, edited = self._losses(x, t, source)
                losses = self.pace * self.weights.to(losses) * losses
                gradient = _gradient(scale * losses.sum(), x) / scale
            losses, edited = losses.detach(), edited.detach()
            if bool(gradient.isfinite().all()):
                break
        require_finite_gradient(gradient)
        if plan.settings.push_limit is not None:
            gradient = polyak_step(gradient, losses.sum(0))
        elif plan.settings.polyak_step:
            gradient = limit_to_polyak_step(gradient, losses.sum(0))
        limits = [self.pace * each.guidance_limit for each in plan.images]
        gradient = limit_norm(gradient, x.detach(), torch.tensor(limits))
        return Guided(gradient, losses, edited)

    def limit_to_push(
        self, gradient: Latents, eps: Latents, t: NoiseLevel, s: NoiseLevel
    ) -> Latents:
        """``g`` of at most ``push_limit`` times what ``eps_edit - eps_src`` moves ``D``."""
        if self.plan.settings.push_limit is None:
            return gradient
        limits = torch.tensor([each.push_limit for each in self.plan.images])
        return limit_norm(gradient, ddim_coefficients(t, s)[1] * eps, limits)

    def begun(self, difference: Latents, progress: float) -> Latents:
        """``D``, zero for images whose edit has not begun."""
        begun = [each.edits(progress) for each in self.plan.images]
        if all(begun):
            return difference
        return difference * torch.tensor(begun, device=difference.device).view(-1, 1, 1, 1)

    def predict(
        self, x: Latents, t: NoiseLevel, source: Observation, guided: Guided, progress: float
    ) -> tuple[Latents, Latents, Observation]:
        """``eps_edit``, ``eps_src`` and the edited images' observation, in one U-Net call.

        With ``reuse_prediction`` a guided step predicts at ``x``, where the guidance pass has
        predicted the noise under the target caption already, instead of at ``x - g``. That pass is
        without attention control, so that a controlled step does not reuse it. With ``push_limit``
        every step predicts at ``x``: ``g`` is limited by the prediction.
        """
        reuse = self.plan.settings.reuse_prediction and guided.edited is not None
        reuse = reuse and not self.plan.controlled_layers(progress)
        if not reuse and self.plan.settings.push_limit is None:
            x = x - guided.gradient
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
        eps_edit = eps_c + scale_at(self.plan.settings.scale, progress) * (eps_target - eps_c)
        edited = guided.edited or Observation(x, eps_target, self.c_edit.ids, self.plan.seeds)
        return eps_edit, eps_src, edited

    def _controlled(
        self, source: Observation, c: Conditioning, progress: float
    ) -> AbstractContextManager[None]:
        """The attention control of a prediction under ``c``, whose rows are those of ``predict``.

        The source's layers are cached, or those of the first rows of the same call.
        """
        names, n = self.plan.controlled_layers(progress), len(source.x)
        if not names:
            return nullcontext()
        cached = self.plan.settings.cache_source
        layers = {**source.maps, **source.features}

        def change(layer: str, output: Tensor) -> Tensor:
            parts = list(output.chunk(len(output) // n))
            reference = layers[layer] if cached else parts[0]
            for k in range(not cached, len(parts)):
                ids = tuple(zip(source.ids, c.ids[k * n : (k + 1) * n], strict=True))
                parts[k] = self._change(layer, reference, parts[k], ids, progress)
            return torch.cat(parts)

        return change_layers(self.model.unet, names, change)

    def _change(
        self,
        layer: str,
        source: Tensor,
        edited: Tensor,
        ids: Sequence[tuple[Ids, Ids]],
        progress: float,
    ) -> Tensor:
        """What takes the place of one layer's output, each image's by its own control."""
        for control, rows in self._controls.items():
            if not any(fnmatchcase(layer, each) for each in control.layers_at(progress)):
                continue
            if len(rows) == len(edited):
                return control(layer, source, edited, ids)
            chosen = torch.tensor(rows, device=edited.device)
            part = control(layer, source[chosen], edited[chosen], [ids[row] for row in rows])
            edited = edited.index_copy(0, chosen, part)
        return edited

    @cached_property
    def _controls(self) -> Mapping[AttentionControl, Sequence[int]]:
        """The attention controls of the batch, each with the images that it acts on."""
        rows: dict[AttentionControl, list[int]] = {}
        for row, each in enumerate(self.plan.images):
            if each.attention is not None:
                rows.setdefault(each.attention, []).append(row)
        return rows

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
        losses = [_mean_loss(each, source, views) for each in plan.guidance]
        return torch.stack(losses), views[0]

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
            gradients = [_scaled_gradient(loss.sum(), x) for loss in losses]
            for gradient in gradients:
                require_finite_gradient(gradient)
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients])
        lengths = weights.abs() * norms.to(weights)
        factors = plan.settings.guidance_balance * lengths[0] / lengths
        factors[0] = 1.0
        return weights * torch.where((lengths > 0) & (lengths[0] > 0), factors, 1.0)


def _mean_loss(guidance: Guidance, source: Observation, views: Sequence[Observation]) -> PerImage:
    """One loss of each image, averaged over the captions under which it was observed."""
    losses = torch.stack([guidance(source, view) for view in views])
    if losses.shape != (len(views), len(source.x)):
        shape = tuple(losses.shape[1:])
        raise MethodError(
            f"{type(guidance).__name__} must return one loss per image, ({len(source.x)},), not "
            f"a tensor of shape {shape}"
        )
    return losses.mean(0)


def _gradient(loss: Tensor, x: Latents, *, keep_graph: bool = False) -> Latents:
    """Gradient of ``loss`` with respect to ``x``; zeros for a loss that does not depend on it."""
    if not loss.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(loss, x, retain_graph=keep_graph, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


def _scaled_gradient(loss: Tensor, x: Latents) -> Latents:
    """``_gradient`` at ``LOSS_SCALE``, or without it where that overflows; the graph is kept."""
    gradient = _gradient(LOSS_SCALE * loss, x, keep_graph=True) / LOSS_SCALE
    if bool(gradient.isfinite().all()):
        return gradient
    return _gradient(loss, x, keep_graph=True)


def require_finite_gradient(gradient: Latents) -> None:
    """Raise ``NotFiniteError`` for a gradient that has no length.

    Limits would turn it into zeros, or into NaN.
    """
    norms = gradient.detach().flatten(1).norm(dim=1)
    require_finite(norms, "the gradients of the guidance losses", "unet")


def threshold(difference: Latents, limits: Sequence[float]) -> Latents:
    """``D`` without its small values: a soft mask, found from ``D`` itself.

    What a prompt moves where nothing was asked to change is small against the edit. The norm of
    ``D`` at each position is smoothed over its neighbors (binomial, 3 x 3) and divided by its 90th
    percentile over the image, so that no magnitude of the latents enters. DiffEdit (arXiv
    2210.11427) and LEDITS++ (arXiv 2311.16711) make masks of such norms of noise predictions.

    Args:
        difference: (images, channels, height, width).
        limits: Of each image: below it ``D`` becomes zero, above twice as much it stays, and in
            between the factor rises linearly. 0 for no threshold.
    """
    if not any(limits):
        return difference
    norm = difference.float().square().sum(1, keepdim=True).sqrt()
    padded = torch.nn.functional.pad(norm, (1, 1, 1, 1), mode="replicate")
    weights = torch.tensor([1.0, 2.0, 1.0], device=norm.device) / 4
    smooth = torch.nn.functional.conv2d(padded, torch.outer(weights, weights)[None, None])
    unit = torch.quantile(smooth.flatten(1), THRESHOLD_UNIT, dim=1).view(-1, 1, 1, 1)
    limit = torch.tensor(limits, device=norm.device).view(-1, 1, 1, 1)
    factor = (smooth / (limit * unit).clamp_min(1e-12) - 1).clamp(0.0, 1.0)
    return difference * torch.where(limit > 0, factor, 1.0)


def polyak_step(gradient: Latents, losses: Tensor, longest: float = inf) -> Latents:
    """Each image's step of Polyak: ``loss / |gradient|^2`` times the gradient.

    No step of a convex loss whose minimum is zero overshoots the minimum, whatever the curvature;
    longer steps oscillate, and grow. A factor of the loss does not change the step.

    Args:
        gradient: (images, channels, height, width).
        losses: Weighted losses, (images,).
        longest: Largest factor of the gradient.
    """
    square = gradient.flatten(1).square().sum(1)
    factor = (losses.to(square) / square.clamp_min(1e-30)).clamp(0.0, longest)
    return factor.view(-1, 1, 1, 1) * gradient


def limit_to_polyak_step(gradient: Latents, losses: Tensor) -> Latents:
    """Shorten each image's gradient to Polyak's step; shorter ones, of small weight, stay."""
    return polyak_step(gradient, losses, longest=1.0)


def limit_norm(gradient: Latents, x: Latents, limits: Tensor) -> Latents:
    """Shorten each image's gradient to at most its ``limits`` times the norm of its latents."""
    norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
    size, limits = x.flatten(1).norm(dim=1), limits.to(x)
    allowed = torch.where(limits.isinf(), limits, limits * size)  # infinity times zero is NaN
    factor: Latents = (allowed / norm).clamp_max(1.0).view(-1, 1, 1, 1)
    return factor * gradient
