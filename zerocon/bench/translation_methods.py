"""The methods that ``zerocon bench translate`` compares: bounds, baselines, and the trained model.

A method is a frozen dataclass, whose fields are its options, with a line in ``METHODS`` at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zerocon.bench.translation_tasks import TranslationBatch, token_shares
from zerocon.bench.translation_weights import Networks, load_networks, weights_hash
from zerocon.errors import MethodError
from zerocon.evaluation_count import count_evaluations
from zerocon.exemplar.correspondence import Correspondence, correspond, corrupt
from zerocon.exemplar.encoders import Matcher, MatcherConfig
from zerocon.exemplar.networks import (
    WEIGHTS,
    WEIGHTS_FILE,
    Matched,
    TranslationConfig,
    TranslationNetwork,
)
from zerocon.exemplar.promote import match, sample, sample_bridge, starting_noise
from zerocon.exemplar.translation_settings import TranslationSettings
from zerocon.exemplar.translators import PromoteTranslator
from zerocon.registry import Classes, parse
from zerocon.rng import seeded_generator
from zerocon.tensor_types import Latents, Pixels, Tokens

PLACE = 0.4  # weight of the place against the classes, where these are matched
SHARP = 0.01  # a temperature at which all but the best match has no weight in float32
SEEDS = 1000  # more than the random seeds of a run
LEAST_DEVIATION = 1e-5  # of latents that are equal everywhere, in AdaIN


Matches = Literal["trained", "true", "position"]


class TranslationResult(NamedTuple):
    """The images of a batch.

    Attributes:
        pixels: In -1..1.
        warped_classes: Of methods with a correspondence, the class that it brings to every token,
            (batch, tokens).
        evaluations: U-Net evaluations (NFE) per image.
    """

    pixels: Pixels
    warped_classes: Tensor | None = None
    evaluations: float = 0.0


class PreparedBatch(NamedTuple):
    """A trained network and what it is given, with the classes that the correspondence brings."""

    network: TranslationNetwork
    matched: Matched
    text: Tokens
    classes: Tensor


@dataclass(frozen=True)
class TranslationMethod:
    """A method; its fields are its options.

    Attributes:
        sampled: Whether its results differ between random seeds.
    """

    sampled: ClassVar[bool] = False

    def recipe(self) -> dict[str, Any]:
        """What decides its results, as JSON values."""
        return asdict(self)

    def __call__(self, batch: TranslationBatch, seed: int) -> TranslationResult:
        """Translate a batch; a task's result does not depend on the other tasks."""
        raise NotImplementedError


@dataclass(frozen=True)
class ExactTarget(TranslationMethod):
    """The target itself: the bound of every metric."""

    def __call__(self, batch: TranslationBatch, seed: int) -> TranslationResult:
        return TranslationResult(batch.target)


@dataclass(frozen=True)
class ReconstructedTarget(TranslationMethod):
    """The target encoded and decoded: the bound of methods that compute latents."""

    def __call__(self, batch: TranslationBatch, seed: int) -> TranslationResult:
        return TranslationResult(batch.decode(batch.model.encode(batch.target)))


@dataclass(frozen=True)
class CopiedExemplar(TranslationMethod):
    """The exemplar itself."""

    def __call__(self, batch: TranslationBatch, seed: int) -> TranslationResult:
        return TranslationResult(batch.exemplar)


@dataclass(frozen=True)
class LatentStatistics(TranslationMethod):
    """Latents of the condition with the mean and deviation of the exemplar's channels.

    AdaIN (arXiv 1703.06868, eq. 8) in place of a trained model.
    """

    def __call__(self, batch: TranslationBatch, seed: int) -> TranslationResult:
        latents = batch.model.encode(batch.condition)
        deviation, mean = torch.std_mean(latents, (2, 3), keepdim=True)
        wanted, center = torch.std_mean(batch.exemplar_latents, (2, 3), keepdim=True)
        normalized = (latents - mean) / deviation.clamp_min(LEAST_DEVIATION)
        return TranslationResult(batch.decode(normalized * wanted + center))


@dataclass(frozen=True)
class ClassMeans(TranslationMethod):
    """The mean color that the exemplar has in the true class of each pixel.

    The bound of flat colors; a class that the exemplar lacks has the mean color of all of it.
    """

    def __call__(self, batch: TranslationBatch, seed: int) -> TranslationResult:
        pixels = batch.exemplar.clone()
        for image, exemplar, task in zip(pixels, batch.exemplar, batch.tasks, strict=True):
            classes, others = map(torch.from_numpy, (task.classes, task.exemplar_classes))
            for number in np.unique(task.classes):
                inside = exemplar[:, others == number] if (others == number).any() else exemplar
                image[:, classes == number] = inside.flatten(1).mean(1, keepdim=True)
        return TranslationResult(pixels)


@dataclass(frozen=True)
class Matching(TranslationMethod):
    """Where the exemplar's latents come from and go to; the common options of several methods.

    Attributes:
        matches: "trained" are those of the matcher, "true" those of the classes (a token takes the
            exemplar's tokens of its own class), "position" the same place.
        corruption: Share (0..1) of 8 x 8 blocks that are replaced by other parts of the exemplar.
        weights: Directory of trained weights, exported or of a training stage; empty for those of
            the package.
    """

    matches: Matches = "trained"
    corruption: float = 0.0
    weights: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.corruption <= 1:
            raise ValueError(f"corruption must be from 0 to 1, not {self.corruption}")

    def recipe(self) -> dict[str, Any]:
        """The options, and a hash of the trained weights if they are used."""
        return super().recipe() | ({"hash": weights_hash(self.folder)} if self.is_trained else {})

    @property
    def is_trained(self) -> bool:
        """Whether the trained weights are used."""
        return self.matches == "trained"

    @property
    def folder(self) -> Path:
        """Where the trained weights are."""
        return Path(self.weights) if self.weights else WEIGHTS

    def networks(self, batch: TranslationBatch) -> Networks:
        """The trained networks."""
        return load_networks(batch.model, self.folder)

    def find(self, batch: TranslationBatch) -> tuple[Correspondence, Tensor]:
        """The correspondence of the exemplar's latents, and the classes that it brings."""
        features = self._features(batch)
        correspondence, classes = (
            self._warp(batch, features, values)
            # apart, since the confidence is about all values
            for values in (batch.exemplar_latents.flatten(2).mT, batch.exemplar_shares)
        )
        return correspondence, classes.warped.argmax(1).flatten(1)

    def _features(self, batch: TranslationBatch) -> MatchingFeatures:
        if self.matches == "true":
            return true_features(batch)
        if self.matches == "position":
            return position_features(batch)
        return trained_features(batch, self.networks(batch).matcher)

    def _warp(
        self, batch: TranslationBatch, features: MatchingFeatures, values: Tensor
    ) -> Correspondence:
        """The correspondence of ``values``, whose blocks are replaced as those of all others."""
        condition, exemplar, temperature = features
        correspondence = correspond(
            condition, exemplar, values,
            temperature=temperature, grid_c=batch.grid, grid_r=batch.grid,
        )  # fmt: skip
        if not self.corruption:
            return correspondence
        source = values.mT.reshape(len(values), -1, *batch.grid)
        rows = [
            corrupt(
                correspondence.warped[i : i + 1], source[i : i + 1], self.corruption,
                seeded_generator(f"corrupted correspondences of {task.seed}"),
            )
            for i, task in enumerate(batch.tasks)
        ]  # fmt: skip
        return correspondence._replace(warped=torch.cat(rows))


class MatchingFeatures(NamedTuple):
    """What is matched: tokens of conditions and exemplars, and the temperature of the softmax."""

    condition: Tensor  # (batch, tokens, features)
    exemplar: Tensor
    temperature: float


@torch.no_grad()
def trained_features(batch: TranslationBatch, matcher: Matcher) -> MatchingFeatures:
    """The tokens of the trained encoders."""
    condition = matcher.condition_encoder(batch.condition).tokens
    exemplar = matcher.image_encoder(batch.exemplar).tokens
    return MatchingFeatures(condition, exemplar, matcher.config.temperature)


def true_features(batch: TranslationBatch) -> MatchingFeatures:
    """The classes of the tokens, and their places: the nearest tokens of a class come first."""
    classes = np.stack([task.classes for task in batch.tasks])
    others = np.stack([task.exemplar_classes for task in batch.tasks])
    condition, exemplar = (
        class_features(torch.from_numpy(maps), batch.grid).to(batch.exemplar_latents)
        for maps in (classes, others)
    )
    return MatchingFeatures(condition, exemplar, MatcherConfig().temperature)


def class_features(classes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Shares of the classes in every token, and its place: (batch, tokens, features).

    Args:
        classes: Class of every pixel, (batch, height, width).
        grid: Rows and columns of tokens.
    """
    shares = F.normalize(token_shares(classes, grid), dim=-1)
    sides = (torch.linspace(-PLACE, PLACE, n) for n in grid)
    place = torch.stack(torch.meshgrid(*sides, indexing="ij"), -1).flatten(0, 1)
    return F.normalize(torch.cat([shares, place.expand(len(shares), -1, -1)], -1), dim=-1)


def position_features(batch: TranslationBatch) -> MatchingFeatures:
    """Features of which every position has one of its own, so that each matches itself."""
    count = prod(batch.grid)
    unit = torch.eye(count).to(batch.exemplar_latents).expand(len(batch), -1, -1)
    return MatchingFeatures(unit, unit, SHARP)


@dataclass(frozen=True)
class WarpedExemplar(Matching):
    """The exemplar's latents, moved to where they match, without diffusion."""

    def __call__(self, batch: TranslationBatch, seed: int) -> TranslationResult:
        correspondence, classes = self.find(batch)
        return TranslationResult(batch.decode(correspondence.warped), classes)


@dataclass(frozen=True)
class PositionWarp(WarpedExemplar):
    """The exemplar's latents where they are: the floor of every correspondence."""

    matches: Matches = "position"


@dataclass(frozen=True)
class TrueWarp(WarpedExemplar):
    """The exemplar's latents moved by the true classes: the bound of every correspondence."""

    matches: Matches = "true"


@dataclass(frozen=True)
class Trained(Matching):
    """Methods of a trained translation network."""

    @property
    def is_trained(self) -> bool:
        """Always: the network itself is trained."""
        return True

    def prepare(self, batch: TranslationBatch) -> PreparedBatch:
        """The network, and what it is given."""
        matcher, network = self.networks(batch)
        if network is None:
            raise MethodError(f"there is only a matcher in {self.folder}; use method warp")
        correspondence, classes = self.find(batch)
        matched = match(matcher, batch.condition, [(batch.exemplar, batch.exemplar_latents)])
        matched = matched._replace(
            warped=correspondence.warped, confidence=correspondence.confidence
        )
        if network.config.bridge:
            matched = matched._replace(start=batch.model.encode(batch.condition))
        return PreparedBatch(network, matched, batch.model.embed([""]).tokens, classes)


@dataclass(frozen=True)
class PriorEstimate(Trained):
    """The prior of the trained network as the result: regression without diffusion."""

    @torch.no_grad()
    def __call__(self, batch: TranslationBatch, seed: int) -> TranslationResult:
        network, matched, text, classes = self.prepare(batch)
        if network.prior is None:
            raise MethodError(f"the network in {self.folder} is a bridge, which has no prior")
        used = matched.confidence.new_ones(len(batch))
        prior = network.guide(matched, text, used, used).prior
        return TranslationResult(batch.decode(prior), classes)


@dataclass(frozen=True)
class Sampled(Trained):
    """Methods that sample the result in ``steps`` denoising steps."""

    steps: int = TranslationSettings.steps

    sampled: ClassVar[bool] = True

    def __call__(self, batch: TranslationBatch, seed: int) -> TranslationResult:
        prepared = self.prepare(batch)
        self.require(prepared.network.config)
        # a seed for each image, so that a result does not depend on the others of its batch
        seeds = [task.seed * SEEDS + seed for task in batch.tasks]
        with count_evaluations() as evaluations:
            latents = self.sample(batch, prepared, seeds)
        count = evaluations.total / len(batch)
        return TranslationResult(batch.decode(latents), prepared.classes, count)

    def require(self, config: TranslationConfig) -> None:
        """Raise ``MethodError`` for a network that was trained for another method."""
        raise NotImplementedError

    def sample(
        self, batch: TranslationBatch, prepared: PreparedBatch, seeds: Sequence[int]
    ) -> Latents:
        """Latents of the results, with noise of ``seeds``, one for each image."""
        raise NotImplementedError


@dataclass(frozen=True)
class PriorGuided(Sampled):
    """Prior-guided diffusion, see ``zerocon.exemplar.promote``.

    Attributes:
        structure: Scale of the condition.
        appearance: Scale of the exemplar.
    """

    structure: float = PromoteTranslator.guidance
    appearance: float = PromoteTranslator.guidance

    def require(self, config: TranslationConfig) -> None:
        if config.bridge:
            raise MethodError(f"the network in {self.folder} is a bridge; use method bridge")

    def sample(
        self, batch: TranslationBatch, prepared: PreparedBatch, seeds: Sequence[int]
    ) -> Latents:
        network, matched, text, _ = prepared
        noise = starting_noise(seeds, *batch.grid).to(matched.warped)
        return sample(
            network, matched, text, batch.model.schedule(self.steps).levels, noise,
            structure=self.structure, appearance=self.appearance,
        )  # fmt: skip


@dataclass(frozen=True)
class WithoutPrior(PriorGuided):
    """Diffusion that is given the same inputs, without the shift: ``concat``."""

    def require(self, config: TranslationConfig) -> None:
        super().require(config)
        if config.prior != "none":
            raise MethodError(
                f"the network in {self.folder} was trained with the prior {config.prior}, not none"
            )


@dataclass(frozen=True)
class BrownianBridge(Sampled):
    """A Brownian bridge from the condition's latents (BBDM, arXiv 2205.07680)."""

    def require(self, config: TranslationConfig) -> None:
        if not config.bridge:
            raise MethodError(f"the network in {self.folder} is no bridge")

    def sample(
        self, batch: TranslationBatch, prepared: PreparedBatch, seeds: Sequence[int]
    ) -> Latents:
        network, matched, text, _ = prepared
        return sample_bridge(network, matched, text, self.steps, seeds)


def default_methods() -> tuple[str, ...]:
    """The methods that need no weights but those of the package."""
    trained = ("warp", "regression", "promote") if (WEIGHTS / WEIGHTS_FILE).is_file() else ()
    return (*UNTRAINED, *trained)


def pick(text: str) -> TranslationMethod:
    """The method of a name, with the options given after a colon, such as ``warp:corruption=0.2``.

    Raises:
        MethodError: There is no such method or option, or a bad value.
    """
    method: TranslationMethod = parse(text, METHODS, "method")
    return method


METHODS: Classes = {
    "target": ExactTarget,
    "vae": ReconstructedTarget,
    "copy": CopiedExemplar,
    "adain": LatentStatistics,
    "class-mean": ClassMeans,
    "position-warp": PositionWarp,
    "true-warp": TrueWarp,
    "warp": WarpedExemplar,
    "regression": PriorEstimate,
    "promote": PriorGuided,
    "concat": WithoutPrior,
    "bridge": BrownianBridge,
}
UNTRAINED = ("target", "vae", "copy", "adain", "position-warp", "class-mean", "true-warp")
