"""The recipe of a translation: one line of JSON in the image's file, that repeats it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerocon.errors import FileFormatError, MismatchError
from zerocon.exemplar.translation_settings import AUTO, TranslationSettings
from zerocon.image import MEGAPIXELS
from zerocon.image.compare import ImageComparison
from zerocon.image.formats import format_named
from zerocon.image.metadata import Provenance
from zerocon.image.reading import Photograph
from zerocon.image.saving import encode_image
from zerocon.recipe import (
    LARGEST,
    LONGEST,
    computing_as,
    differences,
    load_options,
    name_of_model,
    require_plain,
    require_weights,
)
from zerocon.recipe.limits import STEPS
from zerocon.storage import strict_json
from zerocon.storage.escaping import one_line
from zerocon.storage.hashing import image_hash
from zerocon.storage.versions import package_versions

if TYPE_CHECKING:
    from PIL.Image import Image

    from zerocon.exemplar.translation import Progress, Translation
    from zerocon.model import Model

TRANSLATION_SCHEMA = "zerocon.translation-recipe/1"


@dataclass(frozen=True)
class ExemplarReference:
    """An exemplar of a translation: hash of its pixels, and its weight."""

    hash: str
    weight: float


@dataclass(frozen=True)
class TranslationRecipe:
    """Everything that the pixels of a translation depend on.

    Attributes:
        condition: Hash of the condition's pixels; see ``image_hash``.
        exemplars: In the order in which they were given.
        size: Working size (width, height) of the condition, padding included.
        model: Hub id, or the name of a file or folder without its parents.
        weights: Hash of the model's files; None for a model that was not loaded from files.
        network: Hash of the trained translation network, of methods and matchers that use it.
        prediction: What the U-Net predicts.
        compute: How the networks computed, as in ``Recipe``.
        settings: With the kind of the condition that was detected.
        versions: Versions of the packages, by name.
        unknown: Keys of a later version.
    """

    condition: str
    exemplars: tuple[ExemplarReference, ...]
    size: tuple[int, int]
    model: str
    weights: str | None
    network: str | None
    prediction: str
    compute: Mapping[str, Any]
    settings: TranslationSettings
    versions: Mapping[str, str]
    unknown: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, translation: Translation, model: Model) -> TranslationRecipe:
        """The recipe of a translation with ``model``."""
        exemplars = [
            ExemplarReference(image_hash(each.image), each.weight) for each in translation.exemplars
        ]
        return cls(
            condition=image_hash(translation.condition.source),
            exemplars=tuple(exemplars),
            size=translation.size,
            model=name_of_model(model.name),
            weights=model.fingerprint(),
            network=translation.network,
            prediction=model.prediction,
            compute=translation.compute,
            settings=translation.settings,
            versions=package_versions(),
        )

    @classmethod
    def from_json(cls, text: str) -> TranslationRecipe:
        """Read the output of ``to_json``; ``FileFormatError`` if it is damaged."""
        try:
            return cls._of(strict_json.parse(text))
        except (LookupError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
            line = one_line(" ".join(str(error).split()), LONGEST)
            raise FileFormatError(f"the recipe is damaged: {line!r}") from None

    @classmethod
    def _of(cls, record: Mapping[str, Any]) -> TranslationRecipe:
        require_plain(record)
        if record["schema"] != TRANSLATION_SCHEMA:
            raise ValueError(f"the schema {record['schema']!r}")
        names = {each.name for each in fields(cls)} - {"unknown"} | {"schema"}
        values: dict[str, Any] = {n: str(record[n]) for n in ("condition", "model", "prediction")}
        for name in ("weights", "network"):
            values[name] = None if record[name] is None else str(record[name])
        values["exemplars"] = tuple(
            ExemplarReference(str(each["hash"]), float(each["weight"]))
            for each in record["exemplars"]
        )
        if not values["exemplars"] or not all(each.weight > 0 for each in values["exemplars"]):
            raise ValueError("exemplars")
        width, height = map(int, record["size"])
        if not (0 < width <= LARGEST and 0 < height <= LARGEST):
            raise ValueError(f"the size {width}x{height}")
        compute = {name: str(record["compute"][name]) for name in ("device", "dtype")}
        recipe = cls(
            **values,
            size=(width, height),
            compute={**record["compute"], **compute},
            settings=TranslationSettings.of(record["settings"]),
            versions={name: str(version) for name, version in record["versions"].items()},
            unknown={name: value for name, value in record.items() if name not in names},
        )
        read_back = json.loads(recipe.to_json())
        for name in record.keys() - {"settings"}:  # those have checked their own types
            if read_back[name] != record[name]:
                raise ValueError(name)
        return recipe

    def to_json(self) -> str:
        """One line of ASCII; equal recipes give equal lines."""
        return json.dumps(self.record(), sort_keys=True, separators=(",", ":"))

    def record(self) -> dict[str, Any]:
        """The schema ``zerocon.translation-recipe/1``, unknown keys included."""
        record = {"schema": TRANSLATION_SCHEMA, **asdict(self)}
        return {**record.pop("unknown"), **record}

    def load_options(self) -> dict[str, Any]:
        """Arguments of ``zerocon.load`` with which the model computes as it did."""
        return load_options(self.compute, self.prediction)

    def differences(self, other: TranslationRecipe) -> list[str]:
        """What is different in ``other``, one line each: ``torch 2.12 -> 2.13``."""
        return differences(_facts(self), _facts(other))

    def require_replayable(self) -> None:
        """Raise ``MismatchError`` if it cannot be repeated, or takes without end."""
        if self.settings.steps > STEPS:
            raise MismatchError(
                f"{self.settings.steps} steps are more than the {STEPS} of a file's settings"
            )
        if self.settings.condition == AUTO:
            raise MismatchError("the recipe does not say which kind the condition has")

    def require_network(self, folder: Path | None = None) -> None:
        """Raise ``MismatchError`` if ``folder``, by default the package's, has other weights."""
        from zerocon.exemplar.networks import WEIGHTS
        from zerocon.exemplar.translators import network_hash

        if (network := network_hash(self.settings, folder or WEIGHTS)) != self.network:
            raise MismatchError(
                f"the translation network ({network}) is not the recipe's ({self.network}); "
                "--network DIR names the directory of another one"
            )

    def find(self, images: Mapping[str, Sequence[Path]]) -> tuple[Path, list[Path]]:
        """The files of condition and exemplars, by the hash of their pixels.

        Raises:
            MismatchError: One of them is missing.
        """
        hashes = [self.condition, *(each.hash for each in self.exemplars)]
        if not all(each in images for each in hashes):
            raise MismatchError("no image has the pixels of the recipe's condition or exemplars")
        condition, *exemplars = (images[each][0] for each in hashes)
        return condition, exemplars

    def require_condition(self, image: Image) -> None:
        """Raise ``MismatchError`` if ``image`` is not the condition of the translation."""
        if image_hash(image) != self.condition:
            raise MismatchError("the source is another image: its pixels are not the recipe's")

    def require_model(self, model: Model) -> None:
        """Raise ``MismatchError`` if ``model`` has other weights."""
        require_weights(model, self.model, self.weights)

    def weighted(self, images: Iterable[Image]) -> list[tuple[Image, float]]:
        """The exemplars, each with its weight, in the recipe's order.

        Raises:
            MismatchError: One of them is missing from ``images``, or one is not the recipe's.
        """
        given = {image_hash(image): image for image in images}
        expected = {each.hash for each in self.exemplars}
        if missing := expected - given.keys():
            raise MismatchError(
                f"{len(missing)} of the recipe's {len(expected)} exemplars are missing: "
                "--exemplar FILE"
            )
        if given.keys() - expected:
            raise MismatchError("an exemplar is not one of the recipe's")
        return [(given[each.hash], each.weight) for each in self.exemplars]

    def repeat(
        self,
        condition: Image,
        exemplars: Sequence[Image],
        model: Model,
        *,
        network: Path | None = None,
        progress: Progress | None = None,
    ) -> Translation:
        """Repeat the translation. With equal ``compute`` and ``versions`` the pixels are equal.

        Args:
            condition: The condition.
            exemplars: The exemplars, in any order.
            model: Loaded with ``load_options``.
            network: Directory of the trained networks; by default that of the package.
            progress: As in ``zerocon.translate``.

        Raises:
            MismatchError: One of these is not the recipe's, or the recipe cannot be replayed.
        """
        from zerocon.exemplar.condition import read_condition
        from zerocon.exemplar.translation import translate_condition
        from zerocon.exemplar.translation_checks import Exemplar

        self.require_replayable()
        self.require_condition(condition)
        self.require_model(model)
        self.require_network(network)
        read = read_condition(condition, self.settings.condition)
        references = [Exemplar(image, weight) for image, weight in self.weighted(exemplars)]
        with computing_as(model, self.compute):
            return translate_condition(
                read, references, self.settings, model=model, network=network, progress=progress
            )

    def __repr__(self) -> str:
        return f"TranslationRecipe({self.settings.method}, {self.model}, seed {self.settings.seed})"


def compare_replay(
    file: Path, translation: Translation, *, max_megapixels: float = MEGAPIXELS
) -> ImageComparison:
    """Compare ``file``, a translated image, with the repeated translation, encoded as it is."""
    saved = Photograph.read(file, max_megapixels=max_megapixels)
    provenance = None if saved.recipe is None else Provenance(saved.recipe)
    replayed = encode_image(translation.image, format_named(saved.kind), provenance)
    return ImageComparison.of(file.read_bytes(), replayed)


def is_translation(text: str) -> bool:
    """Whether a recipe's text is that of a translation; false for a damaged one."""
    try:
        record = strict_json.parse(text)
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("schema") == TRANSLATION_SCHEMA


def _facts(recipe: TranslationRecipe) -> dict[str, Any]:
    """All fields in one mapping."""
    record = recipe.record()
    record["working size"] = record.pop("size")
    record["condition hash"] = record.pop("condition")
    parts = [record.pop(name) for name in ("versions", "compute", "settings")]
    return {**record, **parts[0], **parts[1], **parts[2]}
