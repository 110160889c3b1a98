"""Exemplar-based translation: the structure of a condition in the appearance of an exemplar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image as PILImage
from PIL.Image import Image

from zerocon import api
from zerocon.api import ImageSource
from zerocon.errors import MismatchError, SettingError
from zerocon.evaluation_count import Evaluations, count_evaluations
from zerocon.exemplar.condition import Condition, read_condition
from zerocon.exemplar.cross_image import adain
from zerocon.exemplar.networks import WEIGHTS
from zerocon.exemplar.translation_checks import (
    Exemplar,
    check_inputs,
    check_result,
    checked_weight,
    file_warnings,
)
from zerocon.exemplar.translation_settings import (
    AUTO,
    DEFAULT_TRANSLATION_MODEL,
    TranslationSettings,
)
from zerocon.exemplar.translators import (
    TranslatedLatents,
    TranslationInputs,
    network_hash,
    translator_of,
)
from zerocon.image.metadata import Provenance
from zerocon.image.saving import save_image
from zerocon.image.transforms import Prepared, prepare
from zerocon.model import Model, precision
from zerocon.tensor_types import Latents, require_finite

ExemplarSource = ImageSource | tuple[ImageSource, float]  # an exemplar, or one with its weight
Progress = Callable[[int, int], None]  # called with (done, total) denoising steps


@dataclass(frozen=True)
class Translation:
    """A translated image and what it was made from.

    Attributes:
        image: RGB, in the size of the condition.
        condition: The condition, as it was read.
        exemplars: In the order in which they were given.
        settings: What it was made with; the kind of the condition and the method's options are
            resolved.
        warped: The exemplars moved to where they match the condition, in its size; None for a
            method without correspondence.
        confidence: Of the match, gray in the condition's size, white where it is certain; or None.
        warnings: What is doubtful, one line each.
        evaluations: U-Net evaluations.
        model: Its name.
        weights: Hash of the model's files.
        network: Hash of the trained translation network; None for a translation without one.
        compute: How the networks computed: device, dtype and so on.
        size: Working size (width, height) of the condition.
    """

    image: Image
    condition: Condition
    exemplars: tuple[Exemplar, ...]
    settings: TranslationSettings
    warped: Image | None = field(repr=False)
    confidence: Image | None = field(repr=False)
    warnings: tuple[str, ...]
    evaluations: Evaluations
    model: str
    weights: str | None
    network: str | None
    compute: Mapping[str, Any] = field(repr=False)
    size: tuple[int, int] = field(repr=False)

    @property
    def condition_kind(self) -> str:
        """Kind of the condition, one of ``translation_settings.KINDS``."""
        return self.settings.condition

    @property
    def mean_confidence(self) -> float | None:
        """Mean of ``confidence`` in 0..1; None where there is none."""
        if self.confidence is None:
            return None
        return round(float(np.asarray(self.confidence).mean()) / 255, 4)

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the image in the format of the name's ending, atomically.

        With IPTC's mark of images that a model made in part, and no other metadata: it is a new
        image, not an edit of the condition's file.
        """
        save_image(self.image, path, overwrite=overwrite, provenance=Provenance())

    def __repr__(self) -> str:
        width, height = self.image.size
        return (
            f"Translation({self.condition_kind} condition, exemplars: {len(self.exemplars)}, "
            f"{self.settings.method}, {width}x{height}, {self.evaluations.total:.1f} U-Net "
            "evaluations)"
        )

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.image.save(file, "PNG")
        return file.getvalue()


def translate(
    condition: ImageSource,
    exemplars: ExemplarSource | Sequence[ExemplarSource],
    *,
    method: str = TranslationSettings.method,
    matcher: str = TranslationSettings.matcher,
    condition_kind: str = TranslationSettings.condition,
    steps: int = TranslationSettings.steps,
    seed: int = TranslationSettings.seed,
    structure: float = TranslationSettings.structure,
    appearance: float = TranslationSettings.appearance,
    range: tuple[float, float] = TranslationSettings.range,
    color_match: str = TranslationSettings.color_match,
    prompt: str = TranslationSettings.prompt,
    model: Model | str | None = None,
    network: Path | str | None = None,
    progress: Progress | None = None,
    on_condition: Callable[[Condition], object] | None = None,
    on_warning: Callable[[str], object] | None = None,
) -> Translation:
    """Give the structure of a condition the appearance of an exemplar.

    Args:
        condition: An edge map, label map, sketch or image, as for ``zerocon.edit``.
        exemplars: An image, or several, each alone or with its weight: ``("fox.png", 0.5)``.
        method: Name and options of a method: "promote", "attention", "warp" or "adain"; see
            ``zerocon methods``.
        matcher: What compares condition and exemplar: "trained", "dift" or "position".
        condition_kind: "edge", "label", "sketch", "image", or "auto" to detect it.
        steps: Denoising steps.
        seed: Random seed.
        structure: Scale of the guidance by the condition.
        appearance: Scale of the guidance by the exemplar.
        range: Share of the steps, counted from noise, at which the warp is blended in; of
            "promote:reinjection=X" only.
        color_match: "global" gives the result the exemplar's mean color and contrast.
        prompt: Caption of the result.
        model: A loaded model or its name; by default ``mini``, which "promote" always uses.
        network: Directory that ``zerocon train translate`` wrote; by default that of the package.
        progress: Called with (done, total) steps.
        on_condition: Called with the condition before anything is computed.
        on_warning: Called with a line for each warning.

    Raises:
        SettingError: for a bad value, or without an exemplar.
        ModelNotFoundError: for a method whose weights are not on this machine.
        NotFiniteError: if the networks compute NaN.
    """
    settings = TranslationSettings(
        method, matcher, condition_kind, steps, seed, structure, appearance, range, color_match,
        prompt,
    )  # fmt: skip
    image, photograph = api.read_source(condition)
    read = read_condition(image, settings.condition, file_warnings(photograph, "the condition"))
    return translate_condition(
        read,
        read_exemplars(exemplars),
        settings,
        model=model_for(settings, model),
        network=network,
        progress=progress,
        on_condition=on_condition,
        on_warning=on_warning,
    )


def translate_condition(
    condition: Condition,
    exemplars: Sequence[Exemplar],
    settings: TranslationSettings,
    *,
    model: Model,
    network: Path | str | None = None,
    progress: Progress | None = None,
    on_condition: Callable[[Condition], object] | None = None,
    on_warning: Callable[[str], object] | None = None,
) -> Translation:
    """``translate`` with everything read; arguments as there."""
    settings = resolved(settings, condition)
    if on_condition is not None:
        on_condition(condition)
    prepared, warnings = condition.prepare(model.working_size), list[str]()

    def warn(line: str) -> None:
        if line not in warnings:
            warnings.append(line)
            if on_warning is not None:
                on_warning(line)

    for line in check_inputs(condition, exemplars, prepared):
        warn(line)
    inputs = inputs_of(
        condition, exemplars, settings, model=model, network=network, progress=progress
    )
    computed = _compute(inputs, prepared, warn)
    image, result = computed.image, computed.result
    doubts = check_result(image, exemplars, condition, prepared, result)
    for line in (*computed.warnings, *doubts):
        warn(line)
    return Translation(
        image, condition, tuple(exemplars), settings,
        warped=computed.warped, confidence=_confidence_image(result, prepared),
        warnings=tuple(warnings), evaluations=computed.evaluations, model=model.name,
        weights=model.fingerprint(), network=network_hash(settings, inputs.network),
        compute=computed.compute, size=prepared.size,
    )  # fmt: skip


def inputs_of(
    condition: Condition,
    exemplars: Sequence[Exemplar],
    settings: TranslationSettings,
    *,
    model: Model,
    network: Path | str | None = None,
    progress: Progress | None = None,
) -> TranslationInputs:
    """What a translator is given, at the working size of ``model``; arguments as of ``translate``.

    ``settings`` have the kind of the condition.
    """
    return TranslationInputs(
        model,
        condition.prepare(model.working_size).pixels,
        [prepare(each.image, model.working_size).pixels for each in exemplars],
        [each.weight for each in exemplars],
        settings,
        progress or (lambda *_: None),
        Path(network or WEIGHTS),
    )


class _Computed(NamedTuple):
    """What the networks computed of a translation.

    Attributes:
        result: What the translator returned.
        image: The result in the size of the condition.
        warped: The warped exemplars in that size, or None.
        evaluations: U-Net evaluations.
        compute: How the networks computed: device, dtype and so on.
    """

    result: TranslatedLatents
    image: Image
    warped: Image | None
    evaluations: Evaluations
    compute: Mapping[str, Any]

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each part that computed again in float32."""
        return precision.warnings([self.compute.get("float32", "")], self.compute["dtype"])


def _compute(inputs: TranslationInputs, prepared: Prepared, warn: api.OnWarning) -> _Computed:
    """Translate with less memory or in float32 where needed, as an edit does."""
    model = inputs.model
    guided = translator_of(inputs.settings).evaluations(inputs).backwards > 0

    def attempt() -> _Computed:
        # new inputs, since tiles change what these keep of the exemplars
        return api.run_saving_memory(
            lambda: _attempt(replace(inputs), prepared), model, warn, gradients=guided
        )

    return api.run_finite(attempt, model, warn)


def _attempt(inputs: TranslationInputs, prepared: Prepared) -> _Computed:
    model, translator = inputs.model, translator_of(inputs.settings)
    with (
        model.runtime.working(), model.lock, torch.no_grad(),
        count_evaluations() as evaluations, precision.record_float32() as record,
    ):  # fmt: skip
        result = _in_colors(translator(inputs), inputs)
        match, image = result.correspondence, _decoded(result.latents, model, prepared)
        warped = None if match is None else _decoded(match.warped, model, prepared)
        compute = model.runtime.compute_options()
    if parts := precision.join([record.all(), compute.get("float32", "")]):
        compute["float32"] = parts
    return _Computed(result, image, warped, evaluations, compute)


def resolved(settings: TranslationSettings, condition: Condition) -> TranslationSettings:
    """The settings with the kind of the condition that was detected."""
    if settings.condition != AUTO or condition.detected is None:
        return settings
    return replace(settings, condition=condition.detected.kind)


def model_for(settings: TranslationSettings, model: Model | str | None = None) -> Model:
    """The model that a method uses: the one given, by default ``mini``; "promote" has its own.

    Raises:
        MismatchError: A loaded model is given that the method's weights do not belong to.
    """
    named = model is None or isinstance(model, str)
    if settings.uses_shipped_model and named:
        return api.model_of(DEFAULT_TRANSLATION_MODEL)
    chosen = api.model_of(DEFAULT_TRANSLATION_MODEL if model is None else model)
    if settings.uses_shipped_model and chosen.name != DEFAULT_TRANSLATION_MODEL:
        raise MismatchError(
            f'the weights of "{settings.method_name}" belong to the model '
            f"{DEFAULT_TRANSLATION_MODEL}, not to {chosen.name}"
        )
    return chosen


def read_exemplars(exemplars: ExemplarSource | Sequence[ExemplarSource]) -> list[Exemplar]:
    """The exemplars, each with its weight.

    Raises:
        SettingError: There is none, or a weight is not a number above 0.
    """
    several = isinstance(exemplars, Sequence) and not isinstance(exemplars, str | bytes)
    if several and isinstance(exemplars, tuple) and len(exemplars) == 2:
        several = not isinstance(exemplars[1], int | float)
    sources: Sequence[Any] = exemplars if several else [exemplars]  # type: ignore[assignment]
    if not sources:
        raise SettingError("a translation needs at least one exemplar")
    result = []
    for number, each in enumerate(sources, 1):
        source, weight = each if isinstance(each, tuple) else (each, 1.0)
        name = str(source) if isinstance(source, str | Path) else f"exemplar {number}"
        image, photograph = api.read_source(source)
        doubts = file_warnings(photograph, name)
        result.append(Exemplar(image.convert("RGB"), checked_weight(weight), name, doubts))
    return result


def _in_colors(result: TranslatedLatents, inputs: TranslationInputs) -> TranslatedLatents:
    """The result with the exemplars' weighted mean and deviation, if the settings want it."""
    if inputs.settings.color_match == "none":
        return result
    return result._replace(latents=adain(result.latents, inputs.encoded, inputs.weights))


def _decoded(latents: Latents, model: Model, prepared: Prepared) -> Image:
    """The image of latents in the size of the condition."""
    require_finite(latents, "the latents of the translation", "unet")
    pixels = model.decode(latents)[0]
    require_finite(pixels, "the pixels of the translation", "vae")
    return prepared.to_image(pixels)


def _confidence_image(result: TranslatedLatents, prepared: Prepared) -> Image | None:
    """The confidence in the condition's size, each cell as a square of its own."""
    if result.correspondence is None:
        return None
    values = (result.correspondence.confidence[0, 0].float().cpu() * 255).round().byte().numpy()
    cells = PILImage.fromarray(values)
    padded = cells.resize(prepared.size, PILImage.Resampling.NEAREST)
    inner = padded.crop((0, 0, *prepared.frame.inner))
    return inner.resize(prepared.frame.source, PILImage.Resampling.NEAREST)
