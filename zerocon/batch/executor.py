"""Edits by one model: what they share is found once, and what has one shape goes together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

from PIL.Image import Image

from zerocon import api, request
from zerocon.api import Edit
from zerocon.batch.job import Order
from zerocon.cache import Cache
from zerocon.direction import Direction
from zerocon.errors import (
    NoDeviceError,
    NoModelError,
    NoSpaceError,
    OutOfMemoryError,
    ZeroconError,
    classify,
)
from zerocon.image.formats import format_of
from zerocon.image.metadata import Provenance
from zerocon.image.photo import Photograph, contents, peek
from zerocon.image.transforms import shrunk
from zerocon.model import Model
from zerocon.model.captioner import caption_images
from zerocon.nfe import Evaluations, counting
from zerocon.recipe import Recipe
from zerocon.request import Understanding
from zerocon.settings import Settings
from zerocon.trajectory import Inversion

Key = tuple[object, ...]  # of a picture's path to noise

# not the fault of a picture: the next one would fail for the same reason
COMMON = (NoDeviceError, NoModelError, NoSpaceError, OutOfMemoryError)


@dataclass(frozen=True)
class Source:
    """A picture's file in memory: the hash of its bytes, and the photograph or why it is none."""

    content: str
    photograph: Photograph | Exception

    @classmethod
    def read(cls, file: Path, *, keep_gps: bool = False) -> Source:
        """Read a file; what is wrong with it is told, not raised."""
        try:
            data = contents(file)
        except ZeroconError as error:
            return cls("", error)
        content = blake2b(data, digest_size=16).hexdigest()
        try:
            return cls(content, Photograph.read(data, keep_gps=keep_gps, name=str(file)))
        except Exception as error:  # whatever it is, it is this picture's alone
            return cls(content, error)


@dataclass(frozen=True)
class Made:
    """An edit, and the rest of what its file will say."""

    picture: Image
    source: Source
    caption: str
    target_caption: str
    evaluations: Evaluations
    provenance: Provenance | None
    warnings: tuple[str, ...]

    def encode(self, kind: str) -> bytes:
        """The bytes of a file that ends in ``kind``; needs no model, and so no turn at one."""
        photograph, form = self.source.photograph, format_of(Path(f"picture{kind}"))
        assert isinstance(photograph, Photograph)
        said = self.provenance and self.provenance.within(form.name)
        return photograph.encode(self.picture, form, said)


@dataclass(frozen=True)
class Job:
    """An order, its picture, and what was understood of it."""

    order: Order
    source: Source
    picture: Image
    settings: Settings
    understanding: Understanding
    warnings: tuple[str, ...]


class Studio:
    """A model at work on orders; ``metadata`` is as in ``zerocon edit``.

    Paths to noise are taken from the ``cache`` and kept in it, and those of the last call are at
    hand besides.
    """

    def __init__(self, model: Model, *, metadata: str = "full", cache: Cache | None = None) -> None:
        self.model, self.metadata, self.cache = model, metadata, cache
        self.paths: dict[Key, Inversion] = {}  # of the pictures of the last call

    def __call__(self, orders: Sequence[tuple[Order, Source]]) -> list[Made | Exception]:
        """Carry out orders, as many together as their shapes and settings allow.

        What goes wrong with one is in its place in the list; what would go wrong with every other,
        too (``COMMON``), is raised.
        """
        results: dict[int, Made | Exception] = {}
        jobs: dict[int, Job] = {}
        said = self._captions(orders)
        for index, (order, source) in enumerate(orders):
            try:
                jobs[index] = self._understand(order, source, said)
            except Exception as error:
                results[index] = _own(error)
        ordered = sorted(jobs, key=lambda index: self._kin(jobs[index]))
        for _, group in groupby(ordered, key=lambda index: self._kin(jobs[index])):
            places = list(group)
            results |= dict(zip(places, self._edit([jobs[place] for place in places]), strict=True))
        return [results[index] for index in range(len(orders))]

    def _captions(self, orders: Sequence[tuple[Order, Source]]) -> Mapping[str, str]:
        """Captions of those pictures that nobody has described, by the hash of their bytes."""
        asked = {
            source.content: source.photograph.picture
            for order, source in orders
            if "caption" not in order.words and isinstance(source.photograph, Photograph)
        }
        if len(asked) < 2:  # one is looked at where it is understood
            return {}
        return dict(zip(asked, caption_images(list(asked.values()), self.model), strict=True))

    def _understand(self, order: Order, source: Source, said: Mapping[str, str]) -> Job:
        if isinstance(source.photograph, Exception):
            raise source.photograph
        photograph, settings = source.photograph, self.model.settings.overlay(order.settings)
        losses = photograph.losses(format_of(Path(order.name)))
        words = {"caption": said.get(source.content), **order.words}
        understanding = request.understand(
            photograph.picture,
            self.model,
            directions=[(Direction.load(file), weight) for file, weight in order.directions],
            settings=settings,
            **words,
        )
        warnings = photograph.doubts + losses + understanding.warnings
        return Job(order, source, photograph.picture, settings, understanding, warnings)

    def _kin(self, job: Job) -> tuple[object, ...]:
        """Equal for jobs that can be edited together."""
        return (*shape(job.picture.size, self.model), repr(job.settings))

    def _edit(self, jobs: Sequence[Job]) -> list[Made | Exception]:
        try:
            return [*self._together(jobs)]
        except Exception as error:
            if len(jobs) == 1:
                return [_own(error)]
        return [made for job in jobs for made in self._edit([job])]  # together they were too many

    def _together(self, jobs: Sequence[Job]) -> list[Made]:
        doubts: list[str] = []
        inversion, spent = self._invert(jobs)
        edits = api.edit_together(
            [job.picture for job in jobs],
            [job.understanding for job in jobs],
            model=self.model,
            inversion=inversion,
            settings=jobs[0].settings,
            warn=doubts.append,
        )
        return [
            self._made(edited, job, own, doubts)
            for edited, job, own in zip(edits, jobs, spent, strict=True)
        ]

    def _made(self, edited: Edit, job: Job, own: Evaluations, doubts: Sequence[str]) -> Made:
        recipe = Recipe.of(edited, job.picture, self.model)
        provenance = Provenance.at(self.metadata, recipe.to_json)
        losses = provenance.losses(format_of(Path(job.order.name)).name) if provenance else ()
        return Made(
            edited.picture,
            job.source,
            edited.caption,
            edited.wording.target_caption,
            edited.evaluations + own,
            provenance,
            (*job.warnings, *doubts, *losses),
        )

    def _invert(self, jobs: Sequence[Job]) -> tuple[Inversion, list[Evaluations]]:
        """The paths of the jobs' pictures, a row for each, and what each job spent on its own.

        A path is found once for all jobs of its picture, at the cost of the first.
        """
        settings = jobs[0].settings
        keys = [
            (job.source.content, job.understanding.wording.caption, *path_of(settings))
            for job in jobs
        ]
        known = {key: self.paths[key] for key in keys if key in self.paths}
        self.paths = known  # what nobody needs is gone before more is found
        missing: dict[Key, Job] = {}
        for key, job in zip(keys, jobs, strict=True):
            if key not in known:
                missing.setdefault(key, job)
        with counting() as spent:
            known |= self._find(missing, settings)
        each = Evaluations(*(n // max(1, len(missing)) for n in (spent.forwards, spent.backwards)))
        costs = [each if missing.pop(key, None) else Evaluations() for key in keys]
        return Inversion.together([known[key] for key in keys]), costs

    def _find(self, missing: Mapping[Key, Job], settings: Settings) -> dict[Key, Inversion]:
        pictures = [job.picture for job in missing.values()]
        said = [job.understanding.wording.caption for job in missing.values()]
        if not missing:
            return {}
        if len(missing) == 1:
            path = api.invert(
                pictures[0], self.model, caption=said[0], settings=settings, cache=self.cache
            )
            return dict.fromkeys(missing, path)
        paths = api.invert_together(pictures, self.model, said, settings=settings, cache=self.cache)
        return {key: paths.rows(slice(i, i + 1)) for i, key in enumerate(missing)}


def path_of(settings: Settings) -> tuple[object, ...]:
    """What a path to noise, and what is seen along it, depends on beside picture and caption."""
    return (settings.steps, settings.inverter, settings.seed, settings.remember, settings.guidance)


def shape_of(picture: Path, model: Model) -> str:
    """In which ``model`` sees a picture, as far as the head of its file tells; else ""."""
    size = peek(picture)
    return "" if size is None else "{}x{}".format(*shape(size, model))


def shape(size: tuple[int, int], model: Model) -> tuple[int, int]:
    """Width and height in which ``model`` sees a picture of this size."""
    width, height = (
        -(-side // model.multiple) * model.multiple for side in shrunk(size, model.size)
    )
    return width, height


def _own(error: Exception) -> Exception:
    """The error, unless it is everybody's: then it is raised."""
    kind = classify(error)
    if kind is not None and issubclass(kind, COMMON):
        raise error
    return error


def reason(error: Exception) -> str:
    """What is noted of an order that failed: a line that ends in an id."""
    kind = classify(error) or ZeroconError
    line = " ".join(str(error).split()) or type(error).__name__
    said = line if classify(error) else f"{type(error).__name__}: {line}"
    return f"{said} [{kind.id}]"
