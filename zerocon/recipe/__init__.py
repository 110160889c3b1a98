"""The recipe of an edit: one line of JSON, stored in the edited image's file, that repeats it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerocon.errors import FileFormatError, MismatchError, about_argument
from zerocon.image import MEGAPIXELS
from zerocon.image.reading import Photograph
from zerocon.image.transforms import Prepared
from zerocon.recipe import version1
from zerocon.settings import Settings
from zerocon.storage import strict_json
from zerocon.storage.escaping import has_control_characters, one_line
from zerocon.storage.hashing import image_hash
from zerocon.storage.versions import package_versions

if TYPE_CHECKING:  # a recipe is read without torch
    from PIL.Image import Image
    from torch import Tensor

    from zerocon.api import Edit, Progress
    from zerocon.direction import Direction
    from zerocon.image.masks import UserMask
    from zerocon.model import Model
    from zerocon.request import EditRequest
    from zerocon.trajectory import Inversion

SCHEMA = "zerocon.recipe/2"
PROMPT = {"from": "from_", "to": "to", "to_caption": "to_caption"}  # and the arguments of an edit
LOAD = {"tiled": "tile", "compiled": "compile", "offloaded": "offload"}  # and arguments of load
MODEL_OPTIONS = ("vae", "clip_skip")  # of ``compute``, and arguments of load
# records whose unknown keys are kept one by one
NESTED = {"prompt": PROMPT.keys(), "settings": {each.name for each in fields(Settings)}}
LONGEST = 500  # characters of a message about a recipe
LARGEST = 100_000  # pixels of a side of the working size


@dataclass(frozen=True)
class DirectionReference:
    """A direction that an edit was given: its change ("cat -> dog"), weight, and tensor's hash."""

    change: str
    weight: float
    hash: str


@dataclass(frozen=True)
class Recipe:
    """Everything that an edit's pixels depend on, and nothing that differs between two runs.

    Keys that this version does not know, written by a later one, are kept in ``unknown`` and
    written back. They do not stop a replay, except those of ``settings`` and ``prompt``.

    Attributes:
        image: Hash of the source image's pixels; see ``image_hash``.
        size: Working size (width, height) of the model, padding included.
        model: Hub id, or the name of a file or folder without its parents.
        weights: Hash of the model's files; None for a model that was not loaded from files.
        prediction: What the U-Net predicts: "epsilon" or "v_prediction".
        compute: How the networks computed: "device", "dtype", and, if recorded, "tiled",
            "compiled", "offloaded", "checkpointed" and "threads"; see
            ``Runtime.compute_options``. "float32" names the parts that computed in float32 what was
            not finite in half precision, as in "unet+vae". "clip_skip" and "vae" are there if the
            model was loaded with them; "vae" is a hub id, or a name without its parents.
        prompt: What the edit was given: "from", "to", "to_caption".
        caption: Source caption.
        target_caption: Target caption.
        directions: The directions that the edit was given, in order.
        inversion: Hash of the inversion that the edit was given; None if it was computed.
        mask: Hash of the mask that the edit was given; None if the support was found.
        settings: Settings of the edit.
        versions: Versions of the packages, by name.
        converted_from: Older schema in which the recipe was written; None for this one.
        unknown: Keys of a later version, at the place where they were found.
    """

    image: str
    size: tuple[int, int]
    model: str
    weights: str | None
    prediction: str
    compute: Mapping[str, Any]
    prompt: Mapping[str, str]
    caption: str
    target_caption: str
    directions: tuple[DirectionReference, ...]
    inversion: str | None
    settings: Settings
    versions: Mapping[str, str]
    mask: str | None = None
    converted_from: str | None = None
    unknown: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, edited: Edit, model: Model) -> Recipe:
        """The recipe of an edit with ``model``."""
        prompt, inversion = edited.request.prompt, edited.inversion
        given = edited.inversion_source == "given"
        return cls(
            image=edited.source.hash,
            size=edited.source.size,
            model=name_of_model(model.name),
            weights=model.fingerprint(),
            prediction=model.prediction,
            compute=edited.compute,
            prompt={key: prompt[name] for key, name in PROMPT.items() if name in prompt},
            caption=edited.caption,
            target_caption=edited.target_caption,
            directions=tuple(
                DirectionReference(one_line(direction), weight, _hash(direction.tokens))
                for direction, weight in edited.request.directions
            ),
            inversion=_hash(inversion.latents, inversion.eps) if given else None,
            settings=edited.settings,
            versions=package_versions(),
            mask=edited.mask.hash if edited.mask else None,
        )

    @classmethod
    @about_argument("file")
    def read(cls, file: Path | str, *, max_megapixels: float = MEGAPIXELS) -> Recipe:
        """The recipe in an image file; ``FileFormatError`` if there is none or it is damaged.

        ``max_megapixels`` is the limit of million pixels, as in ``Photograph.read``.
        """
        text = Photograph.read(file, max_megapixels=max_megapixels).recipe
        if text is None:
            raise FileFormatError(f"{file} has no zerocon recipe")
        return cls.from_json(text)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read the output of ``to_json``, or a recipe of version 0.1.

        Raises:
            FileFormatError: It is damaged, or has another schema.
        """
        try:
            record = strict_json.parse(text)
            schema = record["schema"]
            if schema == version1.SCHEMA:
                record = version1.convert(record) | {"converted_from": schema}
            if schema in (SCHEMA, version1.SCHEMA):
                return cls._of(record)
        except (LookupError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
            line = one_line(" ".join(str(error).split()), LONGEST)
            raise FileFormatError(f"the recipe is damaged: {line!r}") from None
        raise FileFormatError(
            f"the recipe has the schema {one_line(schema, 80)!r}; this version of zerocon reads "
            f"{SCHEMA!r} "
            f"and {version1.SCHEMA!r}"
        )

    @classmethod
    def _of(cls, record: Mapping[str, Any]) -> Recipe:
        require_plain(record)
        record, unknown = _without_unknown(record)
        names = ("image", "model", "prediction", "caption", "target_caption")
        values: dict[str, Any] = {name: str(record[name]) for name in names}
        values["converted_from"] = record.get("converted_from")
        for name in ("weights", "inversion", "mask"):
            values[name] = None if record.get(name) is None else str(record[name])
        for name in ("prompt", "versions"):
            values[name] = {key: str(value) for key, value in record[name].items()}
        compute = {name: str(record["compute"][name]) for name in ("device", "dtype")}
        values["compute"] = {**record["compute"], **compute}
        width, height = map(int, record["size"])
        if not (0 < width <= LARGEST and 0 < height <= LARGEST):
            raise ValueError(f"the size {width}x{height}")
        values["size"] = (width, height)
        values["directions"] = tuple(
            DirectionReference(str(each["change"]), float(each["weight"]), str(each["hash"]))
            for each in record["directions"]
        )
        settings = Settings().overlay(record["settings"])
        recipe = cls(**values, settings=settings, unknown=unknown)
        _require_same(record, recipe)
        return recipe

    def to_json(self) -> str:
        """One line of ASCII, which every file format keeps; equal recipes give equal lines."""
        return json.dumps(self.record(), sort_keys=True, separators=(",", ":"))

    def record(self) -> dict[str, Any]:
        """The schema ``zerocon.recipe/2``, unknown keys included."""
        record = {"schema": SCHEMA, **asdict(self)}
        unknown = record.pop("unknown")
        if self.converted_from is None:
            del record["converted_from"]
        for name in NESTED.keys() & unknown.keys():
            record[name] = {**unknown[name], **record[name]}
        return {**unknown, **record}

    def load_options(self) -> dict[str, Any]:
        """Arguments of ``zerocon.load`` with which the model computes as it did for the edit."""
        return load_options(self.compute, self.prediction)

    def differences(self, other: Recipe) -> list[str]:
        """What is different in ``other``, one line each: ``torch 2.12 -> 2.13``."""
        return differences(_facts(self), _facts(other))

    def require_replayable(self) -> None:
        """Raise ``MismatchError`` if this version of zerocon cannot repeat the edit."""
        if self.converted_from is not None:
            raise MismatchError(
                "recipes of zerocon 0.1 cannot be replayed: since 0.2 the same settings give other "
                "pixels"
            )
        self.require_known_settings()
        self.require_within_limits()

    def require_within_limits(self) -> None:
        """Raise ``MismatchError`` for settings that would take without end; see ``limits``."""
        from zerocon.recipe.limits import require_within_limits

        require_within_limits(self.settings)

    def require_known_settings(self) -> None:
        """Raise ``MismatchError`` if ``settings`` or ``prompt`` have keys of a later version."""
        names = [name for key in sorted(NESTED) for name in self.unknown.get(key, ())]
        if names:
            raise MismatchError(
                f"the recipe has settings that this version of zerocon does not know "
                f"({', '.join(names)}); use zerocon {self.versions.get('zerocon')}, which wrote it"
            )

    def require_source(self, image: Image | Prepared) -> None:
        """Raise ``MismatchError`` if ``image`` is not the source of the edit."""
        actual = image.hash if isinstance(image, Prepared) else image_hash(image)
        if actual != self.image:
            raise MismatchError("the source is another image: its pixels are not the recipe's")

    def require_model(self, model: Model) -> None:
        """Raise ``MismatchError`` if ``model`` has other weights."""
        require_weights(model, self.model, self.weights)

    def require_inversion(self, inversion: Inversion | None) -> None:
        """Raise ``MismatchError`` if the edit was given another inversion, or none."""
        given = _hash(inversion.latents, inversion.eps) if inversion else None
        if given != self.inversion:
            missing = "the recipe needs the inversion that the edit was given: --inversion FILE"
            raise MismatchError("the inversion is not the recipe's" if given else missing)

    def require_mask(self, mask: UserMask | None) -> None:
        """Raise ``MismatchError`` if the edit was given another mask, or none."""
        if (mask.hash if mask else None) != self.mask:
            missing = "the recipe needs the mask that the edit was given: --mask FILE"
            raise MismatchError("the mask is not the recipe's" if mask else missing)

    def uses(self, file: Direction | Inversion) -> bool:
        """Whether the edit was given this direction or inversion."""
        from zerocon.direction import Direction

        if isinstance(file, Direction):
            return _hash(file.tokens) in {each.hash for each in self.directions}
        return _hash(file.latents, file.eps) == self.inversion

    def weighted(self, directions: Sequence[Direction]) -> list[tuple[Direction, float]]:
        """The edit's directions, each with its weight, in the recipe's order.

        Raises:
            MismatchError: One of them is missing from ``directions``, or one is not the recipe's.
        """
        given = {_hash(direction.tokens): direction for direction in directions}
        expected = {each.hash: each for each in self.directions}
        for surplus in given.keys() - expected.keys():
            raise MismatchError(f'the direction "{given[surplus]}" is not one of the recipe\'s')
        for missing in expected.keys() - given.keys():
            change = expected[missing].change
            raise MismatchError(f'the recipe needs its direction "{change}": --direction FILE')
        return [(given[each.hash], each.weight) for each in self.directions]

    def repeat(
        self,
        image: Image,
        model: Model,
        *,
        directions: Sequence[Direction] = (),
        inversion: Inversion | None = None,
        mask: UserMask | None = None,
        on_request: Callable[[EditRequest], None] | None = None,
        progress: Progress | None = None,
    ) -> Edit:
        """Repeat the edit. With equal ``compute`` and ``versions`` the pixels are equal.

        Args:
            image: The source image.
            model: Loaded with ``load_options``.
            directions: The directions that the edit was given, in any order.
            inversion: The inversion that the edit was given.
            mask: The mask that the edit was given.
            on_request: As in ``zerocon.edit``.
            progress: As in ``zerocon.edit``.

        Raises:
            MismatchError: One of these is not the recipe's, or the recipe cannot be replayed.
        """
        from zerocon.api import edit

        self.require_replayable()
        self.require_source(image)
        self.require_inversion(inversion)
        self.require_mask(mask)
        self.require_model(model)
        prompt = self.prompt.get
        with computing_as(model, self.compute):
            return edit(
                image, model=model,
                to=prompt("to"), from_=prompt("from"), to_caption=prompt("to_caption"),
                caption=self.caption, directions=self.weighted(directions), inversion=inversion,
                mask=mask, settings=self.settings, on_request=on_request, progress=progress,
            )  # fmt: skip

    def __repr__(self) -> str:
        prompt = ", ".join(f"{name}={text!r}" for name, text in self.prompt.items())
        return f"Recipe({prompt or 'no prompt'}, {self.model}, seed {self.settings.seed})"


KEYS = {each.name for each in fields(Recipe)} - {"unknown"} | {"schema"}


def _without_unknown(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys that this version knows, and the others."""
    understood = {name: value for name, value in record.items() if name in KEYS}
    unknown = {name: value for name, value in record.items() if name not in KEYS}
    for name, keys in NESTED.items():
        understood[name] = {key: value for key, value in record[name].items() if key in keys}
        if others := {key: value for key, value in record[name].items() if key not in keys}:
            unknown[name] = others
    return understood, unknown


def _require_same(record: Mapping[str, Any], recipe: Recipe) -> None:
    """Raise ``ValueError`` if a value has not the recipe's type; settings have checked theirs."""
    read_back = json.loads(replace(recipe, unknown={}).to_json())
    for name in record.keys() - {"schema", "settings"}:
        if record[name] != read_back.get(name):
            raise ValueError(name)


def load_options(compute: Mapping[str, Any], prediction: str) -> dict[str, Any]:
    """Arguments of ``zerocon.load`` with which a model computes as ``compute`` says."""
    options: dict[str, Any] = {name: bool(compute.get(key)) for key, name in LOAD.items()}
    given = {name: compute[name] for name in MODEL_OPTIONS if name in compute}
    options |= {"device": compute["device"], "dtype": compute["dtype"], "prediction": prediction}
    return {**options, **given}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What is different in two sets of facts, one line each: ``torch 2.12 -> 2.13``."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [f"{name} {before.get(name)} -> {after.get(name)}" for name in names]


def computing_as(model: Model, compute: Mapping[str, Any]) -> AbstractContextManager[None]:
    """The U-Net computes in float32 inside the block if it did so in the end for ``compute``."""
    upcast = "unet" in str(compute.get("float32", "")).split("+")
    return model.runtime.upcast() if upcast else nullcontext()


def require_weights(model: Model, name: str, weights: str | None) -> None:
    """Raise ``MismatchError`` if ``model`` has other weights than the recipe's."""
    if (actual := model.fingerprint()) != weights:
        raise MismatchError(
            f"{model.name} has other weights ({actual}) than the recipe's {name} ({weights})"
        )


def require_plain(record: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` if a text in a record contains control characters."""
    if any(map(has_control_characters, _strings(record))):
        raise ValueError("it contains control characters")


def name_of_model(model: str) -> str:
    """A model's name; of a file or folder on this machine only the last part of its path."""
    path = Path(model).expanduser()
    # the name of a file may have characters that no recipe may contain
    return one_line(path.resolve().name) if path.exists() else model


def _hash(*tensors: Tensor) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _facts(recipe: Recipe) -> dict[str, Any]:
    """All fields in one mapping; of the parts' names only ``size`` is also a setting's."""
    record = recipe.record()
    record["working size"] = record.pop("size")
    parts = [record.pop(name) for name in ("versions", "compute", "settings", "prompt")]
    return {**record, **parts[0], **parts[1], **parts[2], **parts[3]}


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for pair in value.items() for each in pair for text in _strings(each))
    elif isinstance(value, list):
        yield from (text for each in value for text in _strings(each))
