"""Cross-Image Attention: a translation with any Stable Diffusion model, without training.

The output is denoised along the trajectory of the structure image, as an edit is (see
``zerocon.editing``). In the decoder's self-attention its queries meet the keys and values of the
exemplar (arXiv 2311.03335), so that each part is filled with what attention finds most similar
there. The patch-wise contrastive loss of an edit guards the structure. With ``D`` the difference
from the structure image's trajectory ``x_src``, at each level from noise to image:

    x        = x_src + D
    g        = gradient of the contrastive loss at x, limited
    eps_swap = eps(x) with the exemplar's keys and values, and attention contrast
    eps_out  = eps(x) + w (eps_swap - eps(x))
    D        = DDIM step of (D - g, eps_out - eps_src)
    x_src + D takes the exemplar's mean and variance of each channel (AdaIN)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from zerocon.activations import Observer, layer_size
from zerocon.conditioning import Conditioning
from zerocon.diffusion import ddim_step
from zerocon.editing import GuidedDenoiser, ImagePlan, Plan
from zerocon.errors import MethodError
from zerocon.evaluation_count import Evaluations
from zerocon.exemplar.correspondence import join_exemplars, shares_of
from zerocon.guidance import REFERENCE_STEPS, Contrastive
from zerocon.model.attention import DECODER_SELF, Change, change_layers, watch
from zerocon.registry import resolve
from zerocon.settings import Settings
from zerocon.tensor_types import Features, Latents, require_finite
from zerocon.trajectory import Inversion

if TYPE_CHECKING:
    from zerocon.model import Model

SMALLEST = 1e-5  # standard deviation of a channel, in denominators


@dataclass(frozen=True)
class CrossImageAttention:
    """Exemplar's keys and values in the decoder's self-attention (Cross-Image Attention).

    Ranges are shares of the steps, counted from noise. The defaults were measured on the embedded
    model. Published for Stable Diffusion 1.5 are an appearance of 3.5, a contrast of 1.67, and no
    guard; there, every fifth of the first steps keeps the structure image's keys and values.

    Attributes:
        appearance: Guidance scale of the prediction with the exemplar's keys and values over the
            one without.
        contrast: Factor of the attention probabilities' differences from their mean.
        finest: Range in which self-attention at the latents' size is swapped.
        half: The same at half the size. Coarser self-attention stays the output's own.
        statistics: Range in which the latents take the exemplar's mean and deviation.
        guard: Largest step of the structure guard in steps of the prediction; 0 for none.
        guard_range: Range in which the guard acts.
        inverter: "ddim" or "virtual", see ``zerocon.inversion``.
    """

    appearance: float = 1.0
    contrast: float = 1.0
    finest: tuple[float, ...] = (0.1, 0.9)
    half: tuple[float, ...] = (0.1, 0.7)
    statistics: tuple[float, ...] = (0.2, 1.0)
    guard: float = 1.0
    guard_range: tuple[float, ...] = (0.0, 1.0)
    inverter: Literal["ddim", "virtual"] = "ddim"

    def __post_init__(self) -> None:
        for name in ("finest", "half", "statistics", "guard_range"):
            limits = getattr(self, name)
            if len(limits) != 2 or not 0 <= limits[0] <= limits[1] <= 1:
                raise ValueError(f"{name} must be two shares of the steps, such as 0.1+0.9")
        if self.guard_range[0] == self.guard_range[1]:
            raise ValueError("guard_range must not be empty; guard=0 is no guard")
        if self.guard < 0:
            raise ValueError(f"guard must be 0 or more, not {self.guard}")

    @torch.no_grad()
    def __call__(
        self,
        model: Model,
        structure: Latents,
        exemplars: Sequence[Latents],
        c: Conditioning,
        *,
        steps: int,
        seed: int = 0,
        weights: Sequence[float] = (),
    ) -> Iterator[Latents]:
        """Denoise a batch of translations, yielding the latents after every step.

        Threads that share a model must hold ``model.lock`` from the first step to the last.

        Args:
            model: Predicts the noise.
            structure: Latents of the structure images, (images, channels, rows, columns).
            exemplars: Latents of one or more exemplars, each with as many images, of any size;
                attention is over the positions of all of them.
            c: One caption per image, for structure, exemplar and output alike.
            steps: Number of denoising steps.
            seed: For the guard's patches, and for the noise of the inverter "virtual".
            weights: Of each exemplar, above 0; by default all are equal. Attention takes a position
                that much more often, and statistics are their weighted mean.

        Raises:
            NotFiniteError: if the latents become NaN or infinite.
        """
        source = self._invert(model, structure, c, steps, seed)
        references = [self._invert(model, each, c, steps, seed) for each in exemplars]
        plan = self.guard_plan(steps, seed, len(c))
        network = GuidedDenoiser(model, c, c, plan, REFERENCE_STEPS / steps)
        levels, D = source.schedule.levels, torch.zeros_like(structure)
        for i in range(steps, 0, -1):
            t, s, progress = levels[i], levels[i - 1], 1 - i / steps
            x = source.latents[i] + D
            guided = network.guide(x, t, network.source(source, i), progress)
            at_level = [each.latents[i] for each in references]
            eps = self.predict(model, x, at_level, t.time, c, progress, weights) - source.eps[i]
            D = ddim_step(D - network.limit_to_push(guided.gradient, eps, t, s), eps, t, s)
            x = source.latents[i - 1] + D
            if _within(self.statistics, progress):
                x = adain(x, [each.latents[i - 1] for each in references], weights)
                D = x - source.latents[i - 1]
            require_finite(D, f"the latents after step {steps - i + 1} of {steps}", "unet")
            yield x

    def evaluations(self, steps: int, exemplars: int) -> Evaluations:
        """U-Net evaluations of one translation in ``steps`` steps with so many exemplars."""
        spent = Evaluations((1 + exemplars) * (steps + 1))  # inversions: one per level
        for i in range(steps, 0, -1):
            progress = 1 - i / steps
            swapped = bool(self.appearance and self._sizes(progress))
            guided = 2 * (self.guard > 0 and _within(self.guard_range, progress))
            spent += Evaluations(guided + 1 + swapped * (exemplars + 1), guided)
        return spent

    def predict(
        self,
        model: Model,
        x: Latents,
        exemplars: Sequence[Latents],
        t: float,
        c: Conditioning,
        progress: float,
        weights: Sequence[float] = (),
    ) -> Latents:
        """The noise in ``x``, guided towards the prediction with the exemplars' keys and values."""
        eps = model.eps(x, t, c)
        sizes = self._sizes(progress)
        if not sizes or not self.appearance:
            return eps
        swap = exemplar_attention(model, exemplars, t, c, sizes, weights)
        change = swap.change(model.unet, self.contrast)
        with change_layers(model.unet, swap.names, change, swap.key_bias):
            return eps + self.appearance * (model.eps(x, t, c) - eps)

    def _sizes(self, progress: float) -> frozenset[int]:
        """By how much the sides of layers that are swapped are smaller than the latents'."""
        ranges = {1: self.finest, 2: self.half}
        return frozenset(each for each, limits in ranges.items() if _within(limits, progress))

    def _invert(
        self, model: Model, x: Latents, c: Conditioning, steps: int, seed: int
    ) -> Inversion:
        schedule, inverter = model.schedule(steps), resolve("inverter", self.inverter)
        return Inversion.from_observations(
            inverter(Observer(model, c), x, schedule, (seed,) * len(x)),
            schedule=schedule,
            captions=("",) * len(x),
            model=model.name,
            recipe={},
        )

    def guard_plan(self, steps: int, seed: int = 0, images: int = 1) -> Plan:
        """Guidance of an edit whose only loss is the contrastive one."""
        settings = Settings(
            steps=steps,
            guidance_range=(self.guard_range[0], self.guard_range[1]),
            guidance_prompt="source",
            guidance_balance=None,
            push_limit=self.guard or None,
            cache_source=False,
        )
        return Plan(
            settings,
            resolve("inverter", self.inverter),
            guidance=(Contrastive(),) if self.guard else (),
            images=(ImagePlan(seed=seed, push_limit=self.guard),) * images,
        )


@dataclass(frozen=True)
class ExemplarAttention:
    """Keys and values of exemplars, which take the place of those of another image.

    Attributes:
        projections: By the name of a projection (``*.to_k``, ``*.to_v``), its output at all
            positions of all exemplars, (images, positions, features).
        key_bias: By the name of a layer, the logarithms of the exemplars' shares at all positions,
            (positions,); empty if they are equal.
    """

    projections: Mapping[str, Features]
    key_bias: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def names(self) -> Collection[str]:
        """The layers that ``change`` is for."""
        layers = {name.rpartition(".")[0] for name in self.projections}
        return layers | self.projections.keys()

    def change(self, unet: Any, contrast: float) -> Change:
        """For ``change_layers``: the exemplars' projections, and attention contrast.

        The probabilities ``A`` of a layer become ``mean(A) + contrast (A - mean(A))``. All means
        are one over the number of positions, so that the layer's output is changed alike, by what
        uniform attention would give; the probabilities need not be formed. Of weighted exemplars
        it is what attention gives by their weights alone.
        """

        def change(name: str, output: Tensor) -> Tensor:
            if name in self.projections:
                return self.projections[name].to(output)
            values = self.projections[f"{name}.to_v"].to(output)
            mean = values.mean(1, keepdim=True)
            if name in self.key_bias:
                mean = self.key_bias[name].softmax(0).to(output)[None, None] @ values
            for layer in unet.get_submodule(name).to_out:  # projection, dropout
                mean = layer(mean)
            return mean + contrast * (output - mean)

        return change


def exemplar_attention(
    model: Model,
    exemplars: Sequence[Latents],
    t: float,
    c: Conditioning,
    sizes: Collection[int],
    weights: Sequence[float] = (),
) -> ExemplarAttention:
    """Keys and values of the decoder's self-attention for exemplars at one noise level.

    Args:
        model: Its U-Net is called once for each exemplar.
        exemplars: Latents at timestep ``t``.
        t: The timestep.
        c: One caption per image.
        sizes: Layers are used whose sides are those of the latents divided by one of these.
        weights: Of each exemplar, above 0; by default all are equal.

    Raises:
        MethodError: The decoder has no self-attention of these sizes.
    """
    parts: dict[str, list[Features]] = {}
    for x in exemplars:
        with watch(model.unet, [f"{DECODER_SELF}.to_k", f"{DECODER_SELF}.to_v"]) as recorded:
            model.eps(x, t, c)
        rows, columns = x.shape[-2:]
        for name, output in recorded.features.items():
            if rows // layer_size(output.shape[1], (rows, columns))[0] in sizes:
                parts.setdefault(name, []).append(output)
    if not parts:
        raise MethodError("the model has no self-attention in the decoder at these sizes")
    joined = {
        name: join_exemplars(outputs, weights or [1.0] * len(outputs))
        for name, outputs in parts.items()
    }
    biases = {name.rpartition(".")[0]: offsets for name, (_, offsets) in joined.items()}
    equal = len(set(weights)) < 2
    return ExemplarAttention(
        {name: tokens for name, (tokens, _) in joined.items()}, {} if equal else biases
    )


def adain(x: Latents, references: Sequence[Latents], weights: Sequence[float] = ()) -> Latents:
    """``x`` with the mean and standard deviation of each channel of ``references`` (1703.06868).

    Args:
        x: (images, channels, rows, columns).
        references: Any number of any size; of several, means and deviations are averaged.
        weights: Of each reference, above 0; by default all are equal.
    """
    shares = shares_of(weights or [1.0] * len(references), len(references))
    statistics = [_statistics(each.flatten(2)) for each in references]
    mean, deviation = (
        torch.stack([share * part for share, part in zip(shares, parts, strict=True)]).sum(0)
        for parts in zip(*statistics, strict=True)
    )
    own_mean, own_deviation = (part[..., None] for part in _statistics(x.flatten(2)))
    unit = (x - own_mean) / own_deviation.clamp_min(SMALLEST)
    return unit * deviation[..., None] + mean[..., None]


def _statistics(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each row, (..., 1)."""
    return values.mean(-1, keepdim=True), values.std(-1, keepdim=True, correction=0)


def _within(limits: Sequence[float], progress: float) -> bool:
    return limits[0] <= progress < limits[1]
