"""Cost of a translation before it runs: U-Net evaluations, floating-point operations, memory."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from zerocon.conditioning import Conditioning
from zerocon.diagnostics.cost import (
    CostEstimate,
    MeasuredUNet,
    coding_bytes,
    fake_copy,
    highest,
    is_small,
    weight_bytes,
)
from zerocon.diffusion import Schedule
from zerocon.exemplar.encoders import Matcher
from zerocon.exemplar.networks import Matched
from zerocon.exemplar.promote import match, sample, starting_noise
from zerocon.exemplar.translators import (
    AttentionTranslator,
    PromoteTranslator,
    TranslationInputs,
    find_correspondence,
    trained_networks,
    translator_of,
    uses_network,
)
from zerocon.model.attention import call_unet
from zerocon.tensor_types import Latents, Pixels

SWAPPED = 0.5  # share of the steps at which attention to exemplars takes most memory


def estimate_translation(inputs: TranslationInputs) -> CostEstimate:
    """Estimate the cost of a translation; nothing of it is computed.

    Operations are those of a U-Net evaluation at the size of the condition. Memory is measured by
    calling the networks on zeros: small ones themselves, of large ones copies with fake tensors.

    Args:
        inputs: As for a translator.

    Raises:
        SettingError: for more steps than the model has.
    """
    model: Any = inputs.model
    translator = translator_of(inputs.settings)
    if "steps" in translator.USES:
        model.schedule(inputs.settings.steps)  # raises for more than the model has
    spent = translator.evaluations(inputs)
    shape = _latent_shape(model, inputs.condition)
    trained = isinstance(translator, PromoteTranslator)
    networks = trained_networks(model, inputs.network) if uses_network(inputs.settings) else ()
    # the trained U-Net belongs to the embedded model, which is small
    real = trained or is_small(model, shape)
    with model.lock, torch.no_grad(), nullcontext() if real else FakeTensorMode():
        unet, vae = (model.unet, model.vae) if real else map(fake_copy, (model.unet, model.vae))
        substitute = _Substitute(model, unet, vae)
        coding = _coding_bytes(inputs, substitute)
        if isinstance(translator, PromoteTranslator):
            cached, working = _promote_bytes(translator, inputs)
        elif isinstance(translator, AttentionTranslator):
            cached, working = _attention_bytes(translator, inputs, substitute)
        else:
            matched = "matcher" in translator.USES
            cached, working = 0, _matching_bytes(inputs, substitute) if matched else 0
        each = MeasuredUNet(unet, model, shape).operations() if spent.total else 0.0
    pixels = sum(part.nbytes for part in (inputs.condition, *inputs.exemplars))
    return CostEstimate(
        evaluations=spent,
        operations=each * spent.total,
        weights=weight_bytes(model.unet, model.vae, model.text_encoder, *networks),
        cached=cached,
        # trajectories are freed before the result is decoded
        working=pixels + max(working, coding - cached),
        companions=sum(each.bytes for each in model.runtime.companions),
        apart=model.device.type != "cpu",
    )


@dataclass(frozen=True)
class _Substitute:
    """A model that computes with other networks, whose values are not checked."""

    model: Any
    unet: Any
    vae: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def encode(self, pixels: Pixels) -> Latents:
        posterior = self.vae.encode(pixels.to(self.model.device, self.vae.dtype)).latent_dist
        latents: Latents = posterior.mode().float()
        return latents

    def embed(self, texts: list[str]) -> Conditioning:
        shape = len(texts), self.model.max_tokens, self.unet.config.cross_attention_dim
        return Conditioning(torch.zeros(shape, device=self.model.device), ((),) * len(texts), "")

    def schedule(self, steps: int) -> Schedule:
        with unset_fake_temporarily():
            levels: Schedule = self.model.schedule(steps)
        return levels

    def eps(self, x: Latents, t: float, c: Conditioning) -> Latents:
        return call_unet(self.unet, x, t, c)


def _coding_bytes(inputs: TranslationInputs, model: Any) -> int:
    """Bytes at the highest point of encoding all images and decoding the result."""
    condition, *exemplars = _zeros(inputs, model)
    result = condition.nbytes + coding_bytes(model.vae, condition.to(model.vae.dtype))
    return max(result, *(highest(lambda: model.encode(each)) for each in exemplars))  # noqa: B023


def _promote_bytes(translator: PromoteTranslator, inputs: TranslationInputs) -> tuple[int, int]:
    """Bytes held while sampling, and those of matching or a step."""
    model, settings = inputs.model, inputs.settings
    network, matcher = trained_networks(model, inputs.network)
    levels, text = model.schedule(1).levels, model.embed([""]).tokens
    noise = starting_noise([0], *inputs.grid).to(model.device)
    structure, appearance = translator.scales(settings)
    scales: Any = {"structure": structure, "appearance": appearance}
    condition, *exemplars = _zeros(inputs, model)
    pairs = [(each, _latents(each, model)) for each in exemplars]
    results: list[Matched] = []
    matching = highest(lambda: results.append(match(matcher, condition, pairs, inputs.weights)))
    sampling = highest(lambda: sample(network, results[0], text, levels, noise, **scales))
    if settings.matcher != "trained":
        matching = max(matching, _matching_bytes(inputs, model))
    held = sum(part.nbytes for part in results[0] if part is not None)
    return held, max(matching, sampling)


def _attention_bytes(
    translator: AttentionTranslator, inputs: TranslationInputs, model: Any
) -> tuple[int, int]:
    """Bytes of all trajectories, and those of a step."""
    method, steps, c = translator.configured(inputs.settings), inputs.settings.steps, model.embed
    latents = [_latents(each, model) for each in (inputs.condition, *inputs.exemplars)]
    x, *exemplars = latents
    network = MeasuredUNet(model.unet, model.model, (x.shape[1], x.shape[2], x.shape[3]))
    guiding = network.guide(method.guard_plan(steps)) if method.guard else 0
    predicting = highest(lambda: method.predict(model, x, exemplars, 1.0, c([""]), SWAPPED))
    trajectories = sum(2 * (steps + 1) * each.nbytes for each in latents)  # x and eps
    return trajectories, max(guiding, predicting)


def _matching_bytes(inputs: TranslationInputs, model: Any) -> int:
    """Bytes at the highest point of matching."""
    condition, *exemplars = _zeros(inputs, model)
    if inputs.settings.matcher == "trained":
        _, matcher = trained_networks(inputs.model, inputs.network)
        if model.unet is not inputs.model.unet:  # of fake tensors
            with condition.device:
                matcher = Matcher(matcher.config)
        pairs = [(each, _latents(each, model)) for each in exemplars]
        return highest(lambda: match(matcher, condition, pairs, inputs.weights))
    few = replace(inputs.features, draws=2)  # which are computed one after another
    zeros = replace(inputs, model=model, condition=condition, exemplars=exemplars, features=few)
    return highest(lambda: find_correspondence(zeros))


def _zeros(inputs: TranslationInputs, model: Any) -> list[Tensor]:
    """Black images in the sizes of condition and exemplars, on the model's device."""
    images = (inputs.condition, *inputs.exemplars)
    return [torch.zeros(each.shape, device=model.device) for each in images]


def _latents(pixels: Pixels, model: Any) -> Latents:
    """Latents of zeros for an image."""
    return torch.zeros(1, *_latent_shape(model, pixels), device=model.device)


def _latent_shape(model: Any, pixels: Pixels) -> tuple[int, int, int]:
    height, width = pixels.shape[2:]
    factor = model.vae_scale_factor
    return int(model.vae.config.latent_channels), height // factor, width // factor
