"""What made an edited picture: all of it in one line that travels in the picture's file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerocon.errors import FileFormatError, MismatchError
from zerocon.image.photo import Photograph
from zerocon.settings import Settings
from zerocon.storage.hashing import image_hash
from zerocon.storage.versions import package_versions

if TYPE_CHECKING:  # a recipe is read without torch
    from PIL.Image import Image
    from torch import Tensor

    from zerocon.api import Edit, Progress
    from zerocon.direction import Direction
    from zerocon.model import Model
    from zerocon.request import EditRequest
    from zerocon.trajectory import Inversion

SCHEMA = "zerocon.recipe/1"
WORDS = {"from": "from_", "to": "to", "to_caption": "to_caption"}  # and the arguments of an edit
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # could give a terminal orders


@dataclass(frozen=True)
class DirectionReference:
    """A direction that a recipe goes along: its words, how far, and the hash of its step."""

    words: str
    weight: float
    hash: str


@dataclass(frozen=True)
class Recipe:
    """All that an edit depends on, and nothing that changes from run to run.

    ``image`` is the hash of the source's pixels as they were read, ``size`` the (width, height)
    at which the model saw it. ``model`` is a hub id, or the name of a file or folder without the
    way to it, ``weights`` the hash of its files, None for a model that was made in memory.
    ``words`` are what was asked ("from", "to", "to_caption"), ``caption`` and ``target_caption``
    what was understood; ``inversion`` is the hash of the one that was given, if any.
    """

    image: str
    size: tuple[int, int]
    model: str
    weights: str | None
    prediction: str
    device: str
    dtype: str
    words: Mapping[str, str]
    caption: str
    target_caption: str
    directions: tuple[DirectionReference, ...]
    inversion: str | None
    settings: Settings
    versions: Mapping[str, str]

    @classmethod
    def of(
        cls, edited: Edit, image: Image, model: Model, inversion: Inversion | None = None
    ) -> Recipe:
        """The recipe of ``edited``, made of ``image``, with ``inversion`` if one was given."""
        from zerocon.image.transforms import fit

        height, width = fit(image, model.size, model.multiple).pixels.shape[2:]
        asked = edited.request.prompt
        return cls(
            image=image_hash(image),
            size=(width, height),
            model=_name(model.name),
            weights=model.fingerprint(),
            prediction=model.prediction,
            device=model.device.type,
            dtype=str(next(model.unet.parameters()).dtype).removeprefix("torch."),
            words={name: asked[each] for name, each in WORDS.items() if each in asked},
            caption=edited.caption,
            target_caption=edited.target_caption,
            directions=tuple(
                DirectionReference(str(direction), weight, _hash(direction.tokens))
                for direction, weight in edited.request.directions
            ),
            inversion=_hash(inversion.latents, inversion.eps) if inversion else None,
            settings=edited.settings,
            versions=package_versions(),
        )

    @classmethod
    def read(cls, file: Path | str) -> Recipe:
        """The recipe that a picture carries; ``ValueError`` for none, or a damaged one."""
        text = Photograph.read(file).recipe
        if text is None:
            raise FileFormatError(f"{file} carries no recipe of zerocon")
        return cls.from_json(text)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what ``to_json`` wrote; anything else is a ``ValueError``."""
        try:
            said = json.loads(text)
            schema = said["schema"]
            if schema == SCHEMA:
                return cls._of(said)
        except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
            line = " ".join(str(error).split())
            raise FileFormatError(f"the recipe is damaged: {line!r}") from None
        raise FileFormatError(
            f"the recipe is of the kind {schema!r}; this zerocon reads {SCHEMA!r}"
        )

    @classmethod
    def _of(cls, said: Mapping[str, Any]) -> Recipe:
        if any(map(CONTROL.search, _texts(said))):
            raise ValueError("there are control characters in it")
        names = ("image", "model", "prediction", "device", "dtype", "caption", "target_caption")
        known: dict[str, Any] = {name: str(said[name]) for name in names}
        for name in ("weights", "inversion"):
            known[name] = None if said[name] is None else str(said[name])
        known["versions"] = {name: str(number) for name, number in said["versions"].items()}
        known["words"] = {name: str(said["words"][name]) for name in WORDS if name in said["words"]}
        width, height = map(int, said["size"])
        known["size"] = (width, height)
        known["directions"] = tuple(
            DirectionReference(str(each["words"]), float(each["weight"]), str(each["hash"]))
            for each in said["directions"]
        )
        made = cls(**known, settings=Settings().overlay(said["settings"]))
        # settings have checked themselves, and a later zerocon may have more of them
        back = json.loads(made.to_json())
        for name in said.keys() | back.keys():
            if name != "settings" and said.get(name) != back.get(name):
                raise ValueError(name)
        return made

    def to_json(self) -> str:
        """One line of ASCII, which nothing on the way can spoil: equal recipes, equal lines."""
        return json.dumps(self.record(), sort_keys=True, separators=(",", ":"))

    def record(self) -> dict[str, Any]:
        """The schema ``zerocon.recipe/1``."""
        return {"schema": SCHEMA, **asdict(self)}

    def differences(self, other: Recipe) -> list[str]:
        """Where another one is not the same: ``torch 2.12 -> 2.13``."""
        mine, theirs = _facts(self), _facts(other)
        names = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
        return [f"{name} {mine.get(name)} -> {theirs.get(name)}" for name in names]

    def require_picture(self, image: Image) -> None:
        """Raise ``ValueError`` if ``image`` is not the source."""

        if image_hash(image) != self.image:
            raise MismatchError("the source is another picture: its pixels are not the recipe's")

    def require_model(self, model: Model) -> None:
        """Raise ``ValueError`` if ``model`` has other weights."""
        if (weights := model.fingerprint()) != self.weights:
            raise MismatchError(
                f"{model.name} has other weights ({weights}) than the recipe's {self.model} "
                f"({self.weights})"
            )

    def require_inversion(self, inversion: Inversion | None) -> None:
        """Raise ``ValueError`` if this is not what the edit was given, which may be none."""
        given = _hash(inversion.latents, inversion.eps) if inversion else None
        if given != self.inversion:
            needed = "the recipe needs the inversion that the edit was given: --inversion FILE"
            raise MismatchError("the inversion is not the recipe's" if given else needed)

    def uses(self, made: Direction | Inversion) -> bool:
        """Whether the edit went along this direction, or was given this inversion."""
        from zerocon.direction import Direction

        if isinstance(made, Direction):
            return _hash(made.tokens) in {each.hash for each in self.directions}
        return _hash(made.latents, made.eps) == self.inversion

    def along(self, directions: Sequence[Direction]) -> list[tuple[Direction, float]]:
        """The recipe's directions with their weights; ``ValueError`` if one lacks, or is none."""
        given = {_hash(direction.tokens): direction for direction in directions}
        wanted = {each.hash: each for each in self.directions}
        for strange in given.keys() - wanted.keys():
            raise MismatchError(f'the direction "{given[strange]}" is not one of the recipe\'s')
        for missing in wanted.keys() - given.keys():
            words = wanted[missing].words
            raise MismatchError(f'the recipe needs its direction "{words}": --direction FILE')
        return [(given[each.hash], each.weight) for each in self.directions]

    def repeat(
        self,
        image: Image,
        model: Model,
        *,
        directions: Sequence[Direction] = (),
        inversion: Inversion | None = None,
        on_request: Callable[[EditRequest], None] | None = None,
        progress: Progress | None = None,
    ) -> Edit:
        """Make the edit again, from the same things: ``ValueError`` where one of them is another.

        On the same device, with the same versions and threads, the same picture comes out.
        """
        from zerocon.api import edit

        self.require_picture(image)
        self.require_inversion(inversion)
        self.require_model(model)
        asked = self.words.get
        return edit(
            image, model=model,
            to=asked("to"), from_=asked("from"), to_caption=asked("to_caption"),
            caption=self.caption, directions=self.along(directions), inversion=inversion,
            settings=self.settings, on_request=on_request, progress=progress,
        )  # fmt: skip


def _name(model: str) -> str:
    """A model's name, without the way to it where it is a file or folder of this machine."""
    place = Path(model).expanduser()
    return place.resolve().name if place.exists() else model


def _hash(*tensors: Tensor) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _facts(recipe: Recipe) -> dict[str, Any]:
    """Everything by one name, since no two parts of a recipe share one."""
    record = recipe.record()
    inner: list[dict[str, Any]] = [record.pop(name) for name in ("versions", "settings", "words")]
    return {**record, **inner[0], **inner[1], **inner[2]}


def _texts(said: Any) -> Iterator[str]:
    """Every string in a JSON value, names included."""
    if isinstance(said, str):
        yield said
    elif isinstance(said, Mapping):
        yield from (text for pair in said.items() for each in pair for text in _texts(each))
    elif isinstance(said, list):
        yield from (text for each in said for text in _texts(each))
