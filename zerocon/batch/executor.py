"""Execution of jobs on one model: shared inversions computed once, equal shapes in one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from traceback import clear_frames
from typing import Any

from PIL.Image import Image

from zerocon import api
from zerocon.api import Edit
from zerocon.batch.commit import stamp
from zerocon.batch.job import Job
from zerocon.batch.translating import PreparedTranslation, TranslationExecutor
from zerocon.cache import Cache, inversion_key
from zerocon.direction import Direction
from zerocon.editing import Plan
from zerocon.errors import (
    CropError,
    DeviceNotFoundError,
    ModelNotFoundError,
    NoSpaceError,
    OutOfMemoryError,
    ZeroconError,
    classify,
)
from zerocon.evaluation_count import Evaluations, count_evaluations
from zerocon.image import MEGAPIXELS
from zerocon.image.formats import format_of
from zerocon.image.masks import UserMask, read_mask
from zerocon.image.metadata import Provenance
from zerocon.image.read_options import ReadOptions
from zerocon.image.reading import Photograph, Written, contents, peek
from zerocon.image.saving import encode_image
from zerocon.image.transforms import Size, crop_box
from zerocon.model import Model
from zerocon.model.captioner import caption_image, caption_images
from zerocon.model.segmenter import Segmenter
from zerocon.recipe import Recipe
from zerocon.request import EditRequest, parse_request
from zerocon.settings import Settings
from zerocon.trajectory import Inversion

Key = tuple[object, ...]  # identifies an inversion

# errors that do not depend on the image: every other job would fail in the same way
COMMON = (DeviceNotFoundError, ModelNotFoundError, NoSpaceError, OutOfMemoryError)


@dataclass(frozen=True)
class SourceImage:
    """An image file in memory: hash of its bytes, and the photograph or why it is unreadable."""

    file_hash: str
    photograph: Photograph | Exception

    @classmethod
    def read(cls, file: Path, options: ReadOptions | None = None) -> SourceImage:
        """Read a file; an error is returned in place of the photograph, not raised."""
        options = options or ReadOptions()
        try:
            data = contents(file, max_megapixels=options.max_megapixels)
        except ZeroconError as error:
            return cls("", error)
        digest = blake2b(data, digest_size=16).hexdigest()
        try:
            photograph = Photograph.read(data, name=str(file), **options.arguments())
            return cls(digest, photograph)
        except Exception as error:  # whatever a decoder raises concerns this image alone
            return cls(digest, error)


@dataclass(frozen=True)
class ExecutedJob:
    """An edited image with all that its file will contain.

    ``evaluations`` are the job's own: its share of a batch, and the inversion if it was the first.
    """

    image: Image
    source: SourceImage
    caption: str
    target_caption: str
    evaluations: Evaluations
    provenance: Provenance | None
    warnings: tuple[str, ...]
    is_new: bool = False  # a translation, which has no metadata of its condition

    def write(self, suffix: str) -> Written:
        """Return a file with this suffix; needs no model and no lock."""
        if self.is_new:
            form = format_of(Path(f"image{suffix}"))
            return Written(encode_image(self.image, form, self.provenance))
        photograph, form = self.source.photograph, format_of(Path(f"image{suffix}"))
        assert isinstance(photograph, Photograph)
        return photograph.write(self.image, form, self.provenance)


@dataclass(frozen=True)
class NoResult:
    """Why a job has no result, and the source caption if the image could be read."""

    error: Exception
    caption: str | None = None


@dataclass(frozen=True)
class PreparedJob:
    """A job with its image, its settings, its parsed request, and the image's size in the model."""

    job: Job
    source: SourceImage
    image: Image
    mask: UserMask | None
    settings: Settings
    request: EditRequest
    shape: Size
    warnings: tuple[str, ...]


Prepared = PreparedJob | PreparedTranslation


class BatchExecutor:
    """Executes jobs on one model.

    Captions and inversions of the last call are kept; other inversions are read from the ``cache``
    and written to it.

    Args:
        model: The model.
        metadata: What the results' metadata contain: "full", "minimal" or "none".
        cache: Cache of inversions; None: no cache.
        segmenter: Name of the segmentation model, loaded for the first job with a text for a mask;
            None: the default one.
        reading: How the files of masks and exemplars are read.
    """

    def __init__(
        self,
        model: Model,
        *,
        metadata: str = "full",
        cache: Cache | None = None,
        segmenter: str | None = None,
        reading: ReadOptions | None = None,
    ) -> None:
        self.reading = reading or ReadOptions()
        self.model, self.metadata, self.cache = model, metadata, cache
        self.segmenter_name = segmenter
        self.segmenter: Segmenter | None = None  # until a job needs it
        self.translate = TranslationExecutor(model, metadata)
        self.inversions: dict[Key, Inversion] = {}  # of the images of the last call
        self.captions: dict[str, str] = {}  # of the same, by the hash of their files
        self.directions: dict[str, tuple[str, Direction]] = {}  # of the last job: stamp, content

    def __call__(self, jobs: Sequence[tuple[Job, SourceImage]]) -> list[ExecutedJob | NoResult]:
        """Execute jobs, in one batch as far as their shapes and settings are equal.

        Returns:
            For every job its result, or the error that concerns it alone.

        Raises:
            Exception: An error that would concern every job (``COMMON``), or every job with a text
                for a mask.
        """
        if self.segmenter is None and any(job.mask_text for job, _ in jobs):
            self.segmenter = Segmenter.load(self.segmenter_name, self.model.device)
            self.model.runtime.attach(self.segmenter)
        prepared = dict(enumerate(self.prepare(jobs)))
        results: dict[int, ExecutedJob | NoResult] = {
            index: each for index, each in prepared.items() if isinstance(each, NoResult)
        }
        results |= {
            index: self._translated(each, jobs[index][1])
            for index, each in prepared.items()
            if isinstance(each, PreparedTranslation)
        }
        ready = {i: each for i, each in prepared.items() if isinstance(each, PreparedJob)}
        ordered = sorted(ready, key=lambda index: self._group(ready[index]))
        for _, group in groupby(ordered, key=lambda index: self._group(ready[index])):
            indices = list(group)
            edited = self._edit([ready[index] for index in indices])
            results |= dict(zip(indices, edited, strict=True))
        return [results[index] for index in range(len(jobs))]

    def prepare(self, jobs: Sequence[tuple[Job, SourceImage]]) -> list[Prepared | NoResult]:
        """Caption the images and parse the prompts: all that is done before anything is inverted.

        A text for a mask is left out until the segmentation model is loaded.
        """
        self._caption_together(jobs)
        return [self._prepared(job, source) for job, source in jobs]

    def _caption_together(self, jobs: Sequence[tuple[Job, SourceImage]]) -> None:
        """Caption the images without a caption in one batch, if there are several."""
        images = {
            source.file_hash: source.photograph.image
            for job, source in jobs
            if "caption" not in job.prompt and isinstance(source.photograph, Photograph)
            if not job.exemplars
        }
        self.captions = {key: self.captions[key] for key in images if key in self.captions}
        missing = [key for key in images if key not in self.captions]
        if len(missing) > 1:  # a single one is captioned by its job, which an error then concerns
            captions = caption_images([images[key] for key in missing], self.model)
            self.captions |= dict(zip(missing, captions, strict=True))

    def _prepared(self, job: Job, source: SourceImage) -> Prepared | NoResult:
        try:
            if job.exemplars:
                return self._prepare_translation(job, source)
            return self._prepare(job, source)
        except Exception as error:
            readable = isinstance(source.photograph, Photograph)
            caption = job.prompt.get("caption", self.captions.get(source.file_hash))
            return NoResult(_single(error), caption if readable else None)

    def _prepare(self, job: Job, source: SourceImage) -> PreparedJob:
        if isinstance(source.photograph, Exception):
            raise source.photograph
        photograph, settings = source.photograph, self.model.settings.overlay(job.settings)
        size = shape(cropped(photograph.image.size, settings), self.model, settings)
        mask = self._mask(job, photograph)
        losses = photograph.format_warnings(format_of(Path(job.name)))
        if "caption" not in job.prompt and source.file_hash not in self.captions:
            self.captions[source.file_hash] = caption_image(photograph.image, self.model)
        prompt = {"caption": self.captions.get(source.file_hash), **job.prompt}
        self.directions = {file: self._direction(file) for file, _ in job.directions}
        request = parse_request(
            photograph.image,
            self.model,
            directions=[(self.directions[file][1], weight) for file, weight in job.directions],
            settings=settings,
            **prompt,
        )
        warnings = photograph.warnings + losses + request.warnings + (mask.warnings if mask else ())
        return PreparedJob(job, source, photograph.image, mask, settings, request, size, warnings)

    def _direction(self, file: str) -> tuple[str, Direction]:
        """A direction and the stamp of its file, read again only if the file has changed."""
        now = stamp(Path(file))
        before = self.directions.get(file)
        return before if before and now and before[0] == now else (now, Direction.load(file))

    def _prepare_translation(self, job: Job, source: SourceImage) -> PreparedTranslation:
        if isinstance(source.photograph, Exception):
            raise source.photograph
        return PreparedTranslation.of(job, source.photograph, self.reading)

    def _translated(
        self, prepared: PreparedTranslation, source: SourceImage
    ) -> ExecutedJob | NoResult:
        caption, target = prepared.texts
        try:
            done = self.translate(prepared)
        except Exception as error:
            return NoResult(_single(error), caption)
        provenance, warnings = done.provenance, done.warnings
        facts = (caption, target, done.evaluations, provenance, warnings)
        return ExecutedJob(done.image, source, *facts, is_new=True)

    def _mask(self, job: Job, photograph: Photograph) -> UserMask | None:
        """The mask that the job gives; None where the edit finds its support."""
        image = photograph.image
        if job.mask_text:
            if self.segmenter is None:
                return None
            return read_mask(self.segmenter.mask(image, job.mask_text), image.size)
        if job.mask is None:
            return None
        return read_mask(job.mask, image.size, max_megapixels=self.reading.max_megapixels)

    def _group(self, prepared: PreparedJob) -> tuple[object, ...]:
        """Return what is equal for jobs that can be edited in one batch."""
        return (*prepared.shape, repr(prepared.settings))

    def _edit(self, batch: Sequence[PreparedJob]) -> list[ExecutedJob | NoResult]:
        """Edit a batch; if it fails, its jobs one by one, so that only the faulty ones fail."""
        try:
            return [*self._edit_together(batch)]
        except Exception as error:
            if len(batch) == 1:
                return [NoResult(_single(error), batch[0].request.caption)]
        self.inversions.clear()  # a row shares the memory of the whole batch
        api.free_memory()
        return [result for prepared in batch for result in self._edit([prepared])]

    def _edit_together(self, batch: Sequence[PreparedJob]) -> list[ExecutedJob]:
        warnings: list[str] = []
        inversion, costs = self._invert(batch)
        edits = api.edit_batch(
            [prepared.image for prepared in batch],
            [prepared.request for prepared in batch],
            model=self.model,
            inversion=inversion,
            masks=[prepared.mask for prepared in batch],
            settings=batch[0].settings,
            on_warning=warnings.append,
            cache=self.cache,
        )
        each = {line for edited in edits for line in edited.warnings}  # these are reported too
        shared = [line for line in warnings if line not in each]
        return [
            self._executed(edited, prepared, cost, shared)
            for edited, prepared, cost in zip(edits, batch, costs, strict=True)
        ]

    def _executed(
        self, edited: Edit, prepared: PreparedJob, cost: Evaluations, warnings: Sequence[str]
    ) -> ExecutedJob:
        # computed here, if for several jobs: a replay computes it again, and needs no file
        recipe = Recipe.of(replace(edited, inversion_source="computed"), self.model)
        provenance = Provenance.at(self.metadata, recipe.to_json)
        photograph, format = prepared.source.photograph, format_of(Path(prepared.job.name))
        assert isinstance(photograph, Photograph)
        losses = provenance.format_warnings(format.name, photograph.kept.xmp) if provenance else ()
        return ExecutedJob(
            edited.image,
            prepared.source,
            edited.caption,
            edited.target_caption,
            edited.evaluations + cost,
            provenance,
            (*prepared.warnings, *warnings, *edited.warnings, *losses),
        )

    def _invert(self, batch: Sequence[PreparedJob]) -> tuple[Inversion, list[Evaluations]]:
        """Return the inversion of the batch, a row per job, and what each job spent on it.

        An image is inverted once for all its jobs, at the cost of the first.
        """
        settings = batch[0].settings
        shared = inversion_key(Plan.of(settings))
        keys = [
            (prepared.source.file_hash, prepared.request.rewrite.caption, *shared)
            for prepared in batch
        ]
        inversions = {key: self.inversions[key] for key in keys if key in self.inversions}
        self.inversions = inversions  # frees the others before more are computed
        missing: dict[Key, PreparedJob] = {}
        for key, prepared in zip(keys, batch, strict=True):
            if key not in inversions:
                missing.setdefault(key, prepared)
        with count_evaluations() as spent:
            inversions |= self._compute(missing, settings)
        each = Evaluations(*(n // max(1, len(missing)) for n in (spent.forwards, spent.backwards)))
        costs = [each if missing.pop(key, None) else Evaluations() for key in keys]
        return Inversion.cat([inversions[key] for key in keys]), costs

    def _compute(
        self, missing: Mapping[Key, PreparedJob], settings: Settings
    ) -> dict[Key, Inversion]:
        images = [prepared.image for prepared in missing.values()]
        captions = [prepared.request.rewrite.caption for prepared in missing.values()]
        shared: dict[str, Any] = {"settings": settings, "cache": self.cache}
        if not missing:
            return {}
        if len(missing) == 1:  # alone it is retried with less memory
            inversion = api.invert(images[0], model=self.model, caption=captions[0], **shared)
            return dict.fromkeys(missing, inversion)
        inversion = api.invert_batch(images, self.model, captions, **shared)
        return {key: inversion.rows(slice(i, i + 1)) for i, key in enumerate(missing)}


def shape_of(
    image: Path, model: Model, settings: Settings, *, max_megapixels: float = MEGAPIXELS
) -> str:
    """Return "WIDTHxHEIGHT" of a file's image, or of its crop, in the model.

    It is "" if the header is unreadable, or if the crop does not lie in the image.
    """
    size = edited_size(image, settings, max_megapixels=max_megapixels)
    return "" if size is None else "{}x{}".format(*shape(size, model, settings))


def edited_size(
    image: Path, settings: Settings, *, max_megapixels: float = MEGAPIXELS
) -> Size | None:
    """Return width and height of a file's image, or of its crop; None where there is neither."""
    size = peek(image, max_megapixels=max_megapixels)
    try:
        return None if size is None else cropped(size, settings)
    except CropError:
        return None


def cropped(size: Size, settings: Settings) -> Size:
    """Return width and height of an image of this size, or of its crop.

    Raises:
        CropError: If the crop does not lie in the image.
    """
    left, upper, right, lower = crop_box(settings.crop, size) or (0, 0, *size)
    return right - left, lower - upper


def shape(size: Size, model: Model, settings: Settings) -> Size:
    """Return width and height in the model of an image or crop of this size, in pixels."""
    return model.working_size.with_size(settings.size).padded(size)


def _single(error: Exception) -> Exception:
    """Return an error that concerns one job; raise one that would concern every job.

    What the frames of its traceback hold is freed: the error is kept while other jobs run.
    """
    kind = classify(error)
    if kind is not None and issubclass(kind, COMMON):
        raise error
    each: BaseException | None = error
    while each is not None:
        clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__
    return error


def reason(error: Exception) -> str:
    """Return the message that is recorded for a failed job: one line that ends in an error id."""
    kind = classify(error) or ZeroconError
    line = " ".join(str(error).split()) or type(error).__name__
    message = line if classify(error) else f"{type(error).__name__}: {line}"
    return f"{message} [{kind.id}]"
