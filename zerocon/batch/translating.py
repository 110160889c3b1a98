"""Translations among the jobs of a batch: rows of a manifest with an exemplar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from zerocon import api
from zerocon.batch.job import Job
from zerocon.diagnostics.cost import CostEstimate, time_evaluation
from zerocon.diagnostics.translation_cost import estimate_translation
from zerocon.errors import MismatchError
from zerocon.evaluation_count import Evaluations
from zerocon.exemplar.condition import Condition, read_condition
from zerocon.exemplar.translation import inputs_of, resolved, translate_condition
from zerocon.exemplar.translation_checks import Exemplar, check_inputs, file_warnings
from zerocon.exemplar.translation_settings import DEFAULT_TRANSLATION_MODEL, TranslationSettings
from zerocon.exemplar.translators import TranslationInputs, translator_of
from zerocon.image.metadata import Provenance
from zerocon.image.read_options import ReadOptions
from zerocon.image.reading import Photograph
from zerocon.model import Model
from zerocon.recipe.limits import STEPS
from zerocon.recipe.translation_recipe import TranslationRecipe

NAMES = tuple(each.name for each in fields(TranslationSettings))


@dataclass(frozen=True)
class PreparedTranslation:
    """A job with an exemplar, read: all that is done before anything is computed."""

    job: Job
    condition: Condition
    exemplars: tuple[Exemplar, ...]
    settings: TranslationSettings
    warnings: tuple[str, ...] = ()
    estimate: TranslationEstimate | None = None

    @classmethod
    def of(cls, job: Job, photograph: Photograph, reading: ReadOptions) -> PreparedTranslation:
        """Read the exemplars and detect the kind of the condition; raises for bad input."""
        settings = TranslationSettings.of(job.settings)
        translator_of(settings)
        doubts = file_warnings(photograph, str(job.image))
        condition = read_condition(photograph.image, settings.condition, doubts)
        exemplars = tuple(
            Exemplar(read.image, weight, file, file_warnings(read, file))
            for file, weight in job.exemplars
            if (read := Photograph.read(Path(file), **reading.arguments()))
        )
        return cls(job, condition, exemplars, resolved(settings, condition))

    @property
    def texts(self) -> tuple[str, str]:
        """What takes the place of the captions of an edit."""
        return f"{self.settings.condition} condition", f"translation by {self.settings.method}"


@dataclass(frozen=True)
class TranslationEstimate:
    """Cost of a translation, and its seconds on this machine."""

    cost: CostEstimate
    seconds: float


class TranslationExecutor:
    """Executes translations; the embedded model is loaded for the first job that needs it."""

    def __init__(self, model: Model, metadata: str) -> None:
        self.model, self.metadata = model, metadata
        self.embedded: Model | None = None
        self.estimates: dict[str, TranslationEstimate] = {}  # by all that they depend on

    def __call__(self, prepared: PreparedTranslation) -> TranslatedJob:
        model = self.model_for(prepared.settings)
        result = translate_condition(
            prepared.condition, prepared.exemplars, prepared.settings, model=model
        )
        recipe = TranslationRecipe.of(result, model)
        provenance = Provenance.at(self.metadata, recipe.to_json)
        return TranslatedJob(result.image, result.evaluations, provenance, result.warnings)

    def checked(self, prepared: PreparedTranslation) -> PreparedTranslation:
        """The job with the warnings about its input, and with its cost."""
        condition, exemplars, settings = prepared.condition, prepared.exemplars, prepared.settings
        model = self.model_for(settings)
        lines = check_inputs(condition, exemplars, condition.prepare(model.working_size))
        estimate = self._estimate(inputs_of(condition, exemplars, settings, model=model))
        return replace(prepared, warnings=tuple(lines), estimate=estimate)

    def _estimate(self, inputs: TranslationInputs) -> TranslationEstimate:
        """The cost of a translation, computed once for equal sizes and settings."""
        shapes = [tuple(each.shape) for each in (inputs.condition, *inputs.exemplars)]
        settings = replace(inputs.settings, seed=0, prompt="")  # which do not change it
        key = repr((inputs.model.name, shapes, settings))
        if key not in self.estimates:
            cost, (height, width) = estimate_translation(inputs), inputs.condition.shape[2:]
            total = cost.evaluations.total
            each = time_evaluation(inputs.model, (width, height)) if total else 0.0
            self.estimates[key] = TranslationEstimate(cost, total * each)
        return self.estimates[key]

    def model_for(self, settings: TranslationSettings) -> Model:
        """The batch's model, or the embedded one for a method whose weights belong to it."""
        if not settings.uses_shipped_model or self.model.name == DEFAULT_TRANSLATION_MODEL:
            return self.model
        if self.embedded is None:
            device = str(self.model.device)
            self.embedded = api.load(DEFAULT_TRANSLATION_MODEL, device=device)
        return self.embedded


@dataclass(frozen=True)
class TranslatedJob:
    """What a translation puts into its file, and what it cost."""

    image: Any
    evaluations: Evaluations
    provenance: Provenance | None
    warnings: tuple[str, ...]


def translation_settings(values: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Those of several sets of settings that a translation has; later ones override.

    Raises:
        SettingError: For an invalid value.
        MethodError: For an unknown method, or a bad option of one.
    """
    merged = {name: value for each in values for name, value in each.items() if name in NAMES}
    translator_of(TranslationSettings.of(merged))
    return merged


def require_short(settings: Mapping[str, Any]) -> None:
    """Raise ``MismatchError`` for settings of a file that would take without end."""
    if TranslationSettings.of(settings).steps > STEPS:
        raise MismatchError(f"a translation of a file has at most {STEPS} steps")
