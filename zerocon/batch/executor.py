"""Edits by one model: what they share is found once, and what has one shape goes together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

from PIL.Image import Image

from zerocon import api
from zerocon.api import Edit
from zerocon.batch.job import Job
from zerocon.cache import Cache
from zerocon.direction import Direction
from zerocon.errors import (
    DeviceNotFoundError,
    ModelNotFoundError,
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
from zerocon.nfe import Evaluations, count_evaluations
from zerocon.recipe import Recipe
from zerocon.request import EditRequest, parse_request
from zerocon.settings import Settings
from zerocon.trajectory import Inversion

Key = tuple[object, ...]  # of a picture's path to noise

# not the fault of a picture: the next one would fail for the same reason
COMMON = (DeviceNotFoundError, ModelNotFoundError, NoSpaceError, OutOfMemoryError)


@dataclass(frozen=True)
class SourceImage:
    """A picture's file in memory: the hash of its bytes, and the photograph or why it is none."""

    content: str
    photograph: Photograph | Exception

    @classmethod
    def read(cls, file: Path, *, keep_gps: bool = False) -> SourceImage:
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
class ExecutedJob:
    """An edit, and the rest of what its file will say."""

    image: Image
    source: SourceImage
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
        return photograph.encode(self.image, form, said)


@dataclass(frozen=True)
class PreparedJob:
    """An order, its picture, and what was understood of it."""

    job: Job
    source: SourceImage
    image: Image
    settings: Settings
    request: EditRequest
    warnings: tuple[str, ...]


class BatchExecutor:
    """A model at work on orders; ``metadata`` is as in ``zerocon edit``.

    Paths to noise are taken from the ``cache`` and kept in it, and those of the last call are at
    hand besides.
    """

    def __init__(self, model: Model, *, metadata: str = "full", cache: Cache | None = None) -> None:
        self.model, self.metadata, self.cache = model, metadata, cache
        self.paths: dict[Key, Inversion] = {}  # of the pictures of the last call

    def __call__(self, jobs: Sequence[tuple[Job, SourceImage]]) -> list[ExecutedJob | Exception]:
        """Carry out orders, as many together as their shapes and settings allow.

        What goes wrong with one is in its place in the list; what would go wrong with every other,
        too (``COMMON``), is raised.
        """
        results: dict[int, ExecutedJob | Exception] = {}
        batch: dict[int, PreparedJob] = {}
        said = self._captions(jobs)
        for index, (job, source) in enumerate(jobs):
            try:
                batch[index] = self._understand(job, source, said)
            except Exception as error:
                results[index] = _own(error)
        ordered = sorted(batch, key=lambda index: self._kin(batch[index]))
        for _, group in groupby(ordered, key=lambda index: self._kin(batch[index])):
            places = list(group)
            results |= dict(
                zip(places, self._edit([batch[place] for place in places]), strict=True)
            )
        return [results[index] for index in range(len(jobs))]

    def _captions(self, jobs: Sequence[tuple[Job, SourceImage]]) -> Mapping[str, str]:
        """Captions of those pictures that nobody has described, by the hash of their bytes."""
        asked = {
            source.content: source.photograph.image
            for job, source in jobs
            if "caption" not in job.words and isinstance(source.photograph, Photograph)
        }
        if len(asked) < 2:  # one is looked at where it is understood
            return {}
        return dict(zip(asked, caption_images(list(asked.values()), self.model), strict=True))

    def _understand(self, job: Job, source: SourceImage, said: Mapping[str, str]) -> PreparedJob:
        if isinstance(source.photograph, Exception):
            raise source.photograph
        photograph, settings = source.photograph, self.model.settings.overlay(job.settings)
        losses = photograph.format_warnings(format_of(Path(job.name)))
        words = {"caption": said.get(source.content), **job.words}
        request = parse_request(
            photograph.image,
            self.model,
            directions=[(Direction.load(file), weight) for file, weight in job.directions],
            settings=settings,
            **words,
        )
        warnings = photograph.warnings + losses + request.warnings
        return PreparedJob(job, source, photograph.image, settings, request, warnings)

    def _kin(self, prepared: PreparedJob) -> tuple[object, ...]:
        """Equal for jobs that can be edited together."""
        return (*shape(prepared.image.size, self.model), repr(prepared.settings))

    def _edit(self, batch: Sequence[PreparedJob]) -> list[ExecutedJob | Exception]:
        try:
            return [*self._together(batch)]
        except Exception as error:
            if len(batch) == 1:
                return [_own(error)]
        return [
            made for prepared in batch for made in self._edit([prepared])
        ]  # together they were too many

    def _together(self, batch: Sequence[PreparedJob]) -> list[ExecutedJob]:
        doubts: list[str] = []
        inversion, spent = self._invert(batch)
        edits = api.edit_batch(
            [prepared.image for prepared in batch],
            [prepared.request for prepared in batch],
            model=self.model,
            inversion=inversion,
            settings=batch[0].settings,
            on_warning=doubts.append,
        )
        return [
            self._made(edited, prepared, own, doubts)
            for edited, prepared, own in zip(edits, batch, spent, strict=True)
        ]

    def _made(
        self, edited: Edit, prepared: PreparedJob, own: Evaluations, doubts: Sequence[str]
    ) -> ExecutedJob:
        recipe = Recipe.of(edited, prepared.image, self.model)
        provenance = Provenance.at(self.metadata, recipe.to_json)
        losses = (
            provenance.format_warnings(format_of(Path(prepared.job.name)).name)
            if provenance
            else ()
        )
        return ExecutedJob(
            edited.image,
            prepared.source,
            edited.caption,
            edited.target_caption,
            edited.evaluations + own,
            provenance,
            (*prepared.warnings, *doubts, *losses),
        )

    def _invert(self, batch: Sequence[PreparedJob]) -> tuple[Inversion, list[Evaluations]]:
        """The paths of the jobs' pictures, a row for each, and what each job spent on its own.

        A path is found once for all jobs of its picture, at the cost of the first.
        """
        settings = batch[0].settings
        keys = [
            (prepared.source.content, prepared.request.rewrite.caption, *path_of(settings))
            for prepared in batch
        ]
        known = {key: self.paths[key] for key in keys if key in self.paths}
        self.paths = known  # what nobody needs is gone before more is found
        missing: dict[Key, PreparedJob] = {}
        for key, prepared in zip(keys, batch, strict=True):
            if key not in known:
                missing.setdefault(key, prepared)
        with count_evaluations() as spent:
            known |= self._find(missing, settings)
        each = Evaluations(*(n // max(1, len(missing)) for n in (spent.forwards, spent.backwards)))
        costs = [each if missing.pop(key, None) else Evaluations() for key in keys]
        return Inversion.cat([known[key] for key in keys]), costs

    def _find(self, missing: Mapping[Key, PreparedJob], settings: Settings) -> dict[Key, Inversion]:
        images = [prepared.image for prepared in missing.values()]
        said = [prepared.request.rewrite.caption for prepared in missing.values()]
        if not missing:
            return {}
        if len(missing) == 1:
            path = api.invert(
                images[0], self.model, caption=said[0], settings=settings, cache=self.cache
            )
            return dict.fromkeys(missing, path)
        paths = api.invert_batch(images, self.model, said, settings=settings, cache=self.cache)
        return {key: paths.rows(slice(i, i + 1)) for i, key in enumerate(missing)}


def path_of(settings: Settings) -> tuple[object, ...]:
    """What a path to noise, and what is seen along it, depends on beside picture and caption."""
    return (
        settings.steps,
        settings.inverter,
        settings.seed,
        settings.cache_source,
        settings.guidance,
    )


def shape_of(image: Path, model: Model) -> str:
    """In which ``model`` sees a picture, as far as the head of its file tells; else ""."""
    size = peek(image)
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
