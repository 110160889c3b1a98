"""Methods of translation: from condition and exemplars at working size to latents.

A translator is a frozen dataclass whose fields are its options, and is called with
``TranslationInputs``. To add one, add a class, its line in ``TRANSLATORS`` and a row in the docs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch

from zerocon import api, registry
from zerocon.evaluation_count import Evaluations
from zerocon.exemplar.correspondence import Correspondence, correspond, join_exemplars
from zerocon.exemplar.cross_image import CrossImageAttention, adain
from zerocon.exemplar.dift import DiffusionFeatures
from zerocon.exemplar.encoders import Grid, Matcher
from zerocon.exemplar.networks import (
    WEIGHTS,
    WEIGHTS_FILE,
    TranslationNetwork,
    load_weights,
)
from zerocon.exemplar.promote import guidance_branches, match, sample, starting_noise
from zerocon.exemplar.translation_settings import (
    DEFAULT_TRANSLATION_MODEL,
    LARGEST_SCALE,
    TranslationSettings,
)
from zerocon.model import Model
from zerocon.storage.hashing import hash_of
from zerocon.tensor_types import Latents, Pixels

POSITION_TEMPERATURE = 0.1  # a neighboring cell gets a weight of e^-10 next to the cell's own


class TranslatedLatents(NamedTuple):
    """Result of a translator.

    Attributes:
        latents: (1, channels, rows, columns).
        correspondence: Of condition and exemplars, where the method computes one.
    """

    latents: Latents
    correspondence: Correspondence | None = None


@dataclass(frozen=True, eq=False)
class TranslationInputs:
    """What a translator is given.

    Attributes:
        model: Encodes, decodes, and predicts noise; locked by the caller.
        condition: Pixels of the condition, (1, 3, height, width) in -1..1.
        exemplars: Pixels of every exemplar, (1, 3, any height, any width).
        weights: Of the exemplars, above 0.
        settings: Those of the translation.
        progress: Called with the number of denoising steps done and of all.
        network: Directory of the trained networks.
        features: Of the U-Net, for the matcher "dift".
    """

    model: Model
    condition: Pixels
    exemplars: Sequence[Pixels]
    weights: Sequence[float]
    settings: TranslationSettings
    progress: Callable[[int, int], object]
    network: Path = WEIGHTS
    features: DiffusionFeatures = field(default_factory=DiffusionFeatures)

    @cached_property
    def encoded(self) -> list[Latents]:
        """Latents of the exemplars."""
        return [self.model.encode(pixels) for pixels in self.exemplars]

    @property
    def grid(self) -> Grid:
        """Rows and columns of the condition's latents."""
        height, width = self.condition.shape[2:]
        return height // self.model.vae_scale_factor, width // self.model.vae_scale_factor


class Translator(Protocol):
    """A method of translation.

    Attributes:
        USES: Names of the settings that change its result, besides those of all methods.
    """

    USES: ClassVar[frozenset[str]]

    def evaluations(self, inputs: TranslationInputs) -> Evaluations:
        """U-Net evaluations of a translation, without computing it."""

    def __call__(self, inputs: TranslationInputs) -> TranslatedLatents: ...


@dataclass(frozen=True)
class PromoteTranslator:
    """Prior-guided diffusion around a warp (after PROMOTE), with the embedded model's weights.

    Attributes:
        guidance: Scale of condition and exemplar; those of the settings multiply it.
        reinjection: See ``sample``.
    """

    guidance: float = 1.5  # chosen on drawn validation scenes
    reinjection: float = 0.0
    USES: ClassVar[frozenset[str]] = frozenset(
        {"matcher", "weights", "steps", "seed", "structure", "appearance", "range", "prompt"}
    )

    def __post_init__(self) -> None:
        if not 0 <= self.reinjection <= 1:
            raise ValueError(f"reinjection must be a number from 0 to 1, not {self.reinjection}")
        if not 0 < self.guidance <= LARGEST_SCALE:
            wanted = f"a number above 0, at most {LARGEST_SCALE:g}"
            raise ValueError(f"guidance must be {wanted}, not {self.guidance}")

    def evaluations(self, inputs: TranslationInputs) -> Evaluations:
        settings = inputs.settings
        branches = guidance_branches(*self.scales(settings))
        return matching_evaluations(inputs) + Evaluations(len(branches) * settings.steps)

    def scales(self, settings: TranslationSettings) -> tuple[float, float]:
        """Scales of the condition and of the exemplar."""
        return self.guidance * settings.structure, self.guidance * settings.appearance

    def __call__(self, inputs: TranslationInputs) -> TranslatedLatents:
        model, settings = inputs.model, inputs.settings
        network, matcher = _trained_networks(model, inputs.network)  # type: ignore[arg-type]
        pairs = list(zip(_on_device(inputs.exemplars, model), inputs.encoded, strict=True))
        matched = match(matcher, inputs.condition.to(model.device), pairs, inputs.weights)
        correspondence = Correspondence(matched.warped, matched.confidence, torch.empty(0))
        if settings.matcher != "trained":
            correspondence = find_correspondence(inputs)
            matched = matched._replace(
                warped=correspondence.warped, confidence=correspondence.confidence
            )
        structure, appearance = self.scales(settings)
        latents = sample(
            network,
            matched,
            model.embed([settings.prompt]).tokens,
            model.schedule(settings.steps).levels,
            starting_noise([settings.seed], *inputs.grid).to(model.device),
            structure=structure,
            appearance=appearance,
            reinjection=self.reinjection,
            span=settings.range,
            progress=inputs.progress,
        )
        return TranslatedLatents(latents, correspondence)


@dataclass(frozen=True)
class AttentionTranslator:
    """Exemplar's keys and values in self-attention (Cross-Image Attention), without training.

    See ``CrossImageAttention``, also for the published values.
    """

    scale: float = 1.0
    contrast: float = 1.0
    guard: float = 1.0
    inverter: Literal["ddim", "virtual"] = "ddim"
    USES: ClassVar[frozenset[str]] = frozenset(
        {"weights", "steps", "seed", "structure", "appearance", "prompt"}
    )

    def evaluations(self, inputs: TranslationInputs) -> Evaluations:
        method = self.configured(inputs.settings)
        return method.evaluations(inputs.settings.steps, len(inputs.exemplars))

    def configured(self, settings: TranslationSettings) -> CrossImageAttention:
        """The method with the scales of the settings."""
        return CrossImageAttention(
            appearance=self.scale * settings.appearance,
            contrast=self.contrast,
            guard=self.guard * settings.structure,
            inverter=self.inverter,
        )

    def __call__(self, inputs: TranslationInputs) -> TranslatedLatents:
        model, settings = inputs.model, inputs.settings
        method = self.configured(settings)
        latents, steps = model.encode(inputs.condition), settings.steps
        c = model.embed([settings.prompt])
        trajectory = method(
            model, latents, inputs.encoded, c,
            steps=steps, seed=settings.seed, weights=inputs.weights,
        )  # fmt: skip
        for done, latents in enumerate(trajectory, 1):  # noqa: B007  the last ones are the result
            inputs.progress(done, steps)
        return TranslatedLatents(latents)


@dataclass(frozen=True)
class WarpTranslator:
    """The exemplar's latents, moved to where they match the condition; no diffusion."""

    USES: ClassVar[frozenset[str]] = frozenset({"matcher", "weights"})

    def evaluations(self, inputs: TranslationInputs) -> Evaluations:
        return matching_evaluations(inputs)

    def __call__(self, inputs: TranslationInputs) -> TranslatedLatents:
        result = find_correspondence(inputs)
        return TranslatedLatents(result.warped, result)


@dataclass(frozen=True)
class AdainTranslator:
    """The condition's latents with the exemplar's mean and deviation; no matching, no diffusion."""

    USES: ClassVar[frozenset[str]] = frozenset({"weights"})

    def evaluations(self, inputs: TranslationInputs) -> Evaluations:
        return Evaluations()

    def __call__(self, inputs: TranslationInputs) -> TranslatedLatents:
        latents = inputs.model.encode(inputs.condition)
        return TranslatedLatents(adain(latents, inputs.encoded, inputs.weights))


TRANSLATORS: dict[str, type] = {
    "promote": PromoteTranslator,
    "attention": AttentionTranslator,
    "warp": WarpTranslator,
    "adain": AdainTranslator,
}


def translator_of(settings: TranslationSettings) -> Translator:
    """The method of ``settings``; ``MethodError`` if there is none, or its options are wrong."""
    translator: Translator = registry.resolve("translator", settings.method)
    return translator


def matching_evaluations(inputs: TranslationInputs) -> Evaluations:
    """U-Net evaluations of ``find_correspondence``: none but for features of the U-Net."""
    if inputs.settings.matcher != "dift":
        return Evaluations()
    return Evaluations(inputs.features.draws * (1 + len(inputs.exemplars)))


@torch.no_grad()
def find_correspondence(inputs: TranslationInputs) -> Correspondence:
    """The exemplars' latents in the grid of the condition, by the matcher of the settings."""
    features, temperature = _FEATURES[inputs.settings.matcher](inputs)
    (f_c, grid_c), *references = features
    values = torch.cat([z_r.flatten(2).mT for z_r in inputs.encoded], 1)
    tokens, log_weights = join_exemplars([tokens for tokens, _ in references], inputs.weights)
    return correspond(
        f_c,
        tokens,
        values,
        temperature=temperature,
        grid_c=grid_c,
        grid_r=[grid for _, grid in references],
        log_weights=log_weights if len(references) > 1 else None,
    )


def trained_networks(model: Model, folder: Path) -> tuple[TranslationNetwork, Matcher]:
    """The trained networks; they belong to the embedded model, whatever ``model`` is.

    Raises:
        ModelNotFoundError: There are none in ``folder``.
    """
    if model.name == DEFAULT_TRANSLATION_MODEL:
        return _trained_networks(model, folder)  # type: ignore[arg-type]
    return _trained_networks_on(str(model.device), folder)


def network_hash(settings: TranslationSettings, folder: Path) -> str | None:
    """Hash of the trained networks; None for a translation without them, or if there are none."""
    return hash_of(folder / WEIGHTS_FILE) if uses_network(settings) else None


def uses_network(settings: TranslationSettings) -> bool:
    """Whether a translation computes with the trained networks."""
    trained = settings.matcher == "trained" and "matcher" in translator_of(settings).USES
    return settings.uses_shipped_model or trained


Tokens = tuple[torch.Tensor, Grid]  # features of one image, (1, tokens, features), and their grid
Features = tuple[list[Tokens], float]  # of condition and exemplars, and the softmax's temperature


@lru_cache(maxsize=1)
def _trained_networks(model: Any, folder: Path) -> tuple[TranslationNetwork, Matcher]:
    """The networks for ``model``: the U-Net as it computes, the others in float32."""
    network, matcher = load_weights(model.unet, folder)
    model.runtime.adopt(network.unet)
    for part in (network, matcher):
        part.to(model.device)
    return network, matcher


@lru_cache(maxsize=1)
def _trained_networks_on(device: str, folder: Path) -> tuple[TranslationNetwork, Matcher]:
    model = api.load(DEFAULT_TRANSLATION_MODEL, device=device, dtype="float32")
    return load_weights(model.unet, folder)


def _trained_features(inputs: TranslationInputs) -> Features:
    _, matcher = trained_networks(inputs.model, inputs.network)
    outputs = [matcher.condition_encoder(inputs.condition.to(inputs.model.device))]
    outputs += map(matcher.image_encoder, _on_device(inputs.exemplars, inputs.model))
    return [(each.tokens, each.grid) for each in outputs], matcher.config.temperature


def _dift_features(inputs: TranslationInputs) -> Features:
    model, method = inputs.model, inputs.features
    c = model.embed([inputs.settings.prompt])
    images = [model.encode(inputs.condition), *inputs.encoded]
    outputs = [method(model, x, c, seed=inputs.settings.seed) for x in images]
    return [(each.tokens, each.grid) for each in outputs], method.temperature


def _position_features(inputs: TranslationInputs) -> Features:
    """Features whose inner products are ``-|u - v|^2``, in cells of the condition."""
    scale, device = torch.tensor(inputs.grid), inputs.model.device
    grids = [inputs.grid, *((z_r.shape[2], z_r.shape[3]) for z_r in inputs.encoded)]
    features = []
    for number, grid in enumerate(grids):
        u = _positions(grid) * scale
        square, one = -u.square().sum(1, keepdim=True), torch.ones(len(u), 1)
        parts = [2 * u, one, square] if number == 0 else [u, square, one]
        features.append((torch.cat(parts, 1)[None].to(device), grid))
    return features, POSITION_TEMPERATURE


def _positions(grid: Grid) -> torch.Tensor:
    """Centers of all cells in 0..1, (cells, 2), row by row."""
    sides = [(torch.arange(n) + 0.5) / n for n in grid]
    return torch.stack(torch.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 2)


def _on_device(pixels: Sequence[Pixels], model: Model) -> list[Pixels]:
    return [each.to(model.device) for each in pixels]


_FEATURES: dict[str, Callable[[TranslationInputs], Features]] = {
    "trained": _trained_features,
    "dift": _dift_features,
    "position": _position_features,
}
