"""The library's front door: load a model, invert an image, edit it. It prints nothing.

Every function may be called from any number of threads: edits with one model wait for each other,
edits with two models run in parallel. Only loading and cost estimates must not overlap with edits,
since torch's default dtype belongs to the whole process.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from io import BytesIO
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from PIL import Image as PILImage
from PIL.Image import Image
from tqdm.auto import tqdm

from zerocon import __version__, editing
from zerocon.activations import Observer
from zerocon.cache import Cache, key_of
from zerocon.conditioning import Conditioning
from zerocon.diagnostics.review import EditReview, doubts, review_edit
from zerocon.diagnostics.trace import EditTrace, Tracer
from zerocon.direction import Direction
from zerocon.editing import Plan, Step
from zerocon.errors import (
    ImageFormatError,
    MismatchError,
    NotFiniteError,
    OutOfMemoryError,
    SettingError,
    classify,
)
from zerocon.evaluation_count import Evaluations, count_evaluations
from zerocon.finishing import Finished, automatic_crop, finish, latent_lock
from zerocon.image.masks import MaskSource, UserMask, read_mask
from zerocon.image.metadata import Provenance
from zerocon.image.reading import Photograph
from zerocon.image.saving import save_image
from zerocon.image.support import Support
from zerocon.image.transforms import Prepared, crop_box, prepare
from zerocon.model import Model, ModelSpec, precision
from zerocon.model import load as load_model
from zerocon.model.captioner import caption_image
from zerocon.model.guidance_scale import EVALUATIONS as SCALE_EVALUATIONS
from zerocon.model.guidance_scale import MeasuredScale, measured_scale
from zerocon.model.runtime import MemorySaving
from zerocon.request import EditRequest, edited_conditioning, parse_request
from zerocon.settings import PRESETS, Settings
from zerocon.tensor_types import Latents
from zerocon.trajectory import Inversion, joined, layers_by_time, recompute_observations

ImageSource = Path | str | bytes | BinaryIO | Image | np.ndarray | Photograph
Progress = Callable[[int, int], None]  # called with (done, total) denoising steps
OnWarning = Callable[[str], None]  # called with one line

T = TypeVar("T")

RECOMPUTE_SOURCE = MemorySaving(
    "recomputing the source's activations instead of caching them", nullcontext()
)


@dataclass(frozen=True)
class Edit:
    """An edited image and what it was made from.

    Attributes:
        image: The edited image, RGB, in the size of the source image.
        request: Captions, changes and edit direction.
        inversion: The source's inversion, for further edits of the same image.
        evaluations: U-Net evaluations of this edit.
        settings: What it was made with.
        source: The source image at the model's working size.
        inversion_source: Whether the inversion was "computed", "cached" or "given".
        compute: How the networks computed: device, dtype, tiling, threads and so on.
        photograph: The source's file, where one was read.
        support: Where the edit acts, inside ``source.crop``; None with ``composite="model"``.
        mask: The mask that the edit was given.
        warnings: What is doubtful about the result, one line each.
        review: How much the result differs from the source, and its similarity to both captions.
        trace: How far each step moved the latents from the source's; without steps, empty.
    """

    image: Image
    request: EditRequest
    inversion: Inversion = field(repr=False)
    evaluations: Evaluations
    settings: Settings
    source: Prepared = field(repr=False)
    inversion_source: str = "computed"
    compute: Mapping[str, Any] = field(default_factory=dict, repr=False)
    photograph: Photograph | None = field(default=None, repr=False)
    support: Support | None = field(default=None, repr=False)
    mask: UserMask | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()
    review: EditReview | None = None
    trace: EditTrace = field(default_factory=EditTrace, repr=False)

    @property
    def caption(self) -> str:
        """The source caption."""
        return self.request.caption

    @property
    def target_caption(self) -> str:
        """The target caption."""
        return self.request.target_caption

    @property
    def direction(self) -> Conditioning:
        """The edit direction, one row, before ``strength``."""
        return self.request.direction

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the edited image in the format of the name's ending, atomically.

        With the source file's mode, color profile and metadata where a file was edited, and with
        IPTC's mark of images that a model made in part. ``Recipe.of(edit, model)`` makes a recipe
        to store with ``Photograph.save``.
        """
        mark = Provenance()
        if self.photograph is None:
            save_image(self.image, path, overwrite=overwrite, provenance=mark)
        else:
            self.photograph.save(self.image, path, overwrite=overwrite, provenance=mark)

    def __repr__(self) -> str:
        width, height = self.image.size
        captions = " -> ".join(
            f'"{shorten(text, 45, placeholder=" ...")}"'
            for text in (self.caption, self.target_caption)
        )
        return (
            f"Edit({captions}, {width}x{height}, "
            f"{self.evaluations.total:.1f} U-Net evaluations, inversion {self.inversion_source})"
        )

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.image.save(file, "PNG")
        return file.getvalue()


def load(name: str | None = None, **options: Any) -> Model:
    """Load a model: ``mini`` (embedded), a diffusers directory, a ``.safetensors`` file, a hub id.

    Nothing is downloaded.

    Args:
        name: Default: the environment's ``ZEROCON_MODEL``, else Stable Diffusion 1.5.
        options: Fields of ``ModelSpec``: device, dtype, captioner, clip, prediction, vae,
            clip_skip, offload, tile, compile.

    Raises:
        MissingError: for a model, part or device that is not on this machine.
        InputError: for an unknown option, a pickle, or a model of another family.
    """
    return load_model(ModelSpec.of(name, **options))


def invert(
    image: ImageSource,
    model: Model | str | None = None,
    *,
    caption: str | None = None,
    preset: str | None = None,
    settings: Settings | None = None,
    progress: Progress | bool | None = None,
    on_warning: OnWarning | None = None,
    cache: Cache | None = None,
    **overrides: Any,
) -> Inversion:
    """Invert an image under its caption, for any number of edits.

    Args:
        image: As for ``edit``.
        model: As for ``edit``.
        caption: The source caption; generated by default.
        preset: As for ``edit``.
        settings: As for ``edit``.
        progress: As for ``edit``.
        on_warning: Called with a line if memory runs out and less is used.
        cache: Where the inversion is looked up, and kept.
        overrides: As for ``edit``.
    """
    model = model_of(model)
    settings = _settings(model, settings, preset, overrides)
    prepared = prepared_for(read_source(image)[0], model, settings)
    caption = caption_image(prepared.image, model) if caption is None else caption

    def run(settings: Settings) -> Inversion:
        with _Progress(progress, settings.steps + 1, "Inverting") as bar:
            return invert_batch(
                [prepared], model, [caption], settings=settings, progress=bar.update, cache=cache
            )

    def attempt() -> Inversion:
        return run_within_memory(run, model, settings, on_warning)

    inversion = run_finite(attempt, model, on_warning)
    for line in precision.warnings(inversion.float32, model.runtime.dtype):
        if on_warning is not None and "U-Net" not in line:  # reported when it was repeated
            on_warning(line)
    return inversion


def edit(
    image: ImageSource,
    *,
    to: str | None = None,
    from_: str | None = None,
    to_caption: str | None = None,
    caption: str | None = None,
    directions: Sequence[tuple[Direction, float]] = (),
    inversion: Inversion | None = None,
    mask: MaskSource | UserMask | None = None,
    model: Model | str | None = None,
    preset: str | None = None,
    settings: Settings | None = None,
    on_request: Callable[[EditRequest], None] | None = None,
    progress: Progress | bool | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_warning: OnWarning | None = None,
    cache: Cache | None = None,
    **overrides: Any,
) -> Edit:
    """Edit an image by a few words.

    Args:
        image: A path, a file's bytes, a binary file object, a PIL image, an array (height, width,
            3) of uint8, or a ``Photograph``; any size, the result has the same.
        to: New content or style: a word or phrase ("dog", "at night"); "" removes ``from_``.
        from_: The content to replace; found in the source caption by default.
        to_caption: The whole target caption, instead of ``to``.
        caption: The source caption; generated by default.
        directions: Ready-made directions with weights, added to that of the prompt; with them the
            prompt may be left out.
        inversion: Of this very image; saves inverting it again.
        mask: Where the image may change: an image file, a PIL image or an array (height, width) of
            the image's size or aspect ratio, white where it may; found from the edit by default.
        model: A loaded model or its name, as for ``load``. A model that is named is loaded once and
            kept until another one is named.
        preset: Name of a set of settings, such as "fast".
        settings: All settings; by default the model's own.
        on_request: Called with the parsed request, before inversion and denoising.
        progress: Called with (done, total) steps; True shows a progress bar, in notebooks too.
        on_step: Called with the ``Step`` after every denoising step.
        on_warning: Called with a line for each warning about mask and result, and if memory runs
            out and the edit is tried again with less.
        cache: Where the image's inversion is looked up, and kept.
        overrides: Single settings, which lie over preset and settings: ``steps=24``.

    Raises:
        PromptError: for a prompt that is empty, has no effect, or does not fit the caption.
        MismatchError: for an inversion of another image or working size, or a direction of another
            text encoder.
        MissingError: if a caption must be generated and there is no captioner.
        SettingError: for an unknown setting or preset, or a bad value.
    """
    model = model_of(model)
    settings = _settings(model, settings, preset, overrides)
    source, photograph = read_source(image)
    prepared, user_mask = prepared_for(source, model, settings), _user_mask(mask, source)
    if user_mask is not mask and user_mask is not None and on_warning is not None:
        for warning in user_mask.warnings:
            on_warning(warning)
    if inversion is not None:
        caption, settings = settings_for(inversion, prepared, model, caption, settings)
    request = parse_request(
        source, model, to=to, from_=from_, to_caption=to_caption,
        caption=caption, directions=directions, settings=settings,
    )  # fmt: skip
    if on_request is not None:
        on_request(request)
    (edited,) = edit_batch(
        [prepared], [request], model=model, inversion=inversion, masks=[user_mask],
        settings=settings, progress=progress, on_step=on_step, on_warning=on_warning, cache=cache,
    )  # fmt: skip
    return replace(edited, photograph=photograph)


def settings_for(
    inversion: Inversion,
    image: Prepared,
    model: Model,
    caption: str | None,
    settings: Settings,
) -> tuple[str, Settings]:
    """Caption and settings of an edit with a given ``inversion``, whose steps and inverter hold.

    Raises:
        MismatchError: if it does not match the image, model or caption.
        SettingError: with ``crop="auto"``, which edits a part that it is not the inversion of.
    """
    if settings.crop == "auto":
        raise SettingError('crop="auto" edits a crop, of which there is no inversion: omit one')
    _check(inversion, [image], model, None if caption is None else [caption])
    return inversion.captions[0], _with_steps_of(inversion, settings)


def edit_batch(
    images: Sequence[Image | Prepared],
    requests: Sequence[EditRequest],
    *,
    model: Model,
    inversion: Inversion | None = None,
    masks: Sequence[UserMask | None] | None = None,
    settings: Settings | None = None,
    progress: Progress | bool | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_warning: OnWarning | None = None,
    cache: Cache | None = None,
) -> list[Edit]:
    """Edit several images in one batch; otherwise as ``edit``.

    Sums are rounded differently than for one image, and guidance amplifies the difference: compare
    the measurements in ``docs/batch.md``. ``evaluations`` are each image's own. If the U-Net
    computes NaN in half precision, the images are edited one by one, and only those where it does
    so again are repeated with the U-Net in float32.
    ``inversion`` has a row for every image, and ``masks`` an entry; ``on_step`` sees all of them at
    every step. With ``crop="auto"`` an image whose support is small is then edited once more by
    itself, from its crop.

    Raises:
        ValueError: for images with different working sizes.
    """
    settings = with_guidance_scale(settings or model.settings, model, on_warning)
    prepared, masks = _prepared(images, model, settings), masks or [None] * len(images)
    if any(masks) and settings.composite == "model" and settings.lock != "latent":
        raise SettingError('a mask needs composite="native" or lock="latent"')
    if inversion is not None:
        captions = [request.caption for request in requests]
        _check(inversion, prepared, model, captions)
        inversion, settings = inversion.to(model.device), _with_steps_of(inversion, settings)
    reports: list[str] = []

    def warn(line: str) -> None:
        if on_warning is not None and line not in reports:
            on_warning(line)
        reports.append(line)

    context = _Context(progress, on_step, cache)
    batch = _Batch(tuple(prepared), tuple(requests), model, inversion, settings, tuple(masks))
    edits = batch.run(warn, context)
    for line in dict.fromkeys(line for each in edits for line in each.warnings):
        warn(line)
    return edits


def with_guidance_scale(
    settings: Settings, model: Model, on_warning: OnWarning | None = None
) -> Settings:
    """The settings with a guidance scale: where they have none, the one measured on the model.

    Measured once per checkpoint; ``on_warning`` is then called with a line.
    """
    if settings.guidance_scale is not None:
        return settings

    def measure(_: Settings) -> MeasuredScale:
        return run_finite(lambda: measured_scale(model), model, on_warning)

    result = run_within_memory(measure, model, settings, on_warning)
    if result.measured and on_warning is not None:
        on_warning(
            f"guidance scale {result.scale:g} measured on {model.name}, in "
            f"{SCALE_EVALUATIONS} U-Net evaluations; kept for later edits"
        )
    return replace(settings, guidance_scale=result.scale)


def invert_batch(
    images: Sequence[Image | Prepared],
    model: Model,
    captions: Sequence[str],
    *,
    settings: Settings | None = None,
    progress: Progress | None = None,
    cache: Cache | None = None,
) -> Inversion:
    """Invert several images in one batch; the same as one by one, but for rounding.

    They are taken from the ``cache`` if it has all of them, inverted in a batch of this size, and
    else kept in it.

    Raises:
        ValueError: for images with different working sizes.
    """
    plan = Plan.of(settings or model.settings)
    prepared = _prepared(images, model, plan.settings)
    cached = find_cached(prepared, model, captions, plan=plan, cache=cache)
    if cached is not None:
        return cached
    return _invert_batch(prepared, model, captions, plan, progress=progress, cache=cache)


def find_cached(
    images: Sequence[Image | Prepared],
    model: Model,
    captions: Sequence[str],
    *,
    plan: Plan,
    cache: Cache | None,
) -> Inversion | None:
    """What ``invert_batch`` would compute, from the ``cache``; None unless all of it is there."""
    if cache is None:
        return None
    parts = []
    for key in _keys(_prepared(images, model, plan.settings), model, captions, plan):
        inversion = None if key is None else cache.find(key)
        if inversion is None:
            return None
        if not plan.settings.cache_source:
            inversion = inversion.without_observations()
        # the model's name and the seed may have been others for the same trajectory
        settings = plan.settings
        recipe = {
            **inversion.recipe,
            "inverter": settings.inverter,
            "seed": str(settings.seed),
        }
        parts.append(replace(inversion, model=model.name, recipe=recipe).to(model.device))
    return Inversion.cat(parts)


def reconstruct(image: Image, model: Model) -> Image:
    """The image after encoding and decoding alone: the most that an edit can preserve."""
    prepared = prepared_for(image, model)
    return prepared.to_image(model.decode(model.encode(prepared.pixels))[0])


def run_within_memory(
    run: Callable[[Settings], T],
    model: Model,
    settings: Settings,
    on_warning: OnWarning | None = None,
) -> T:
    """``run(settings)`` of an edit, repeated with less memory each time that it runs out.

    The savings are those of ``run_saving_memory``; the first one is to recompute the source's
    activations instead of caching them.

    Args:
        run: Called with settings.
        model: What ``run`` computes with.
        settings: For the first call.
        on_warning: Called with a sentence before every repetition.
    """

    def without_cache() -> Iterator[MemorySaving]:
        nonlocal settings
        if any(Plan.of(settings).cached_layers()):
            settings = replace(settings, cache_source=False)
            yield RECOMPUTE_SOURCE

    return run_saving_memory(lambda: run(settings), model, on_warning, first=without_cache())


def run_saving_memory(
    run: Callable[[], T],
    model: Model,
    on_warning: OnWarning | None = None,
    *,
    first: Iterable[MemorySaving] = (),
    gradients: bool = True,
) -> T:
    """``run()``, repeated with less memory each time that it runs out.

    First captioner and CLIP leave the device if they are there, then ``first`` and the steps of
    ``model.runtime.memory_ladder()`` follow, one at a time. Afterwards the model computes as
    before, also after an exception. Errors that are not about memory are raised at once, and the
    last one about memory when there are no steps left.

    Args:
        run: Called without arguments.
        model: What ``run`` computes with.
        on_warning: Called with a sentence before every repetition.
        first: Savings of the caller's own.
        gradients: Whether ``run`` computes gradients of the U-Net.
    """
    ladder = chain(first, model.runtime.memory_ladder(gradients=gradients))
    with ExitStack() as savings:
        while True:
            try:
                return run()
            except (MemoryError, RuntimeError) as error:
                if classify(error) is not OutOfMemoryError:
                    raise
                saving = model.runtime.parking() or next(ladder, None)
                if saving is None:
                    raise
            free_memory()
            savings.enter_context(saving.active)
            if on_warning is not None:
                on_warning(f"out of memory; {saving.description}")


def run_finite(
    run: Callable[[], T],
    model: Model,
    on_warning: OnWarning | None = None,
    *,
    upcast: bool = False,
) -> T:
    """``run()``, repeated with the U-Net in float32 if it is not finite in half precision.

    Args:
        run: Called without arguments.
        model: What ``run`` computes with; afterwards it computes as before.
        on_warning: Called with a sentence before the repetition.
        upcast: Whether the U-Net is in float32 from the first time on.

    Raises:
        NotFiniteError: if another part than the U-Net failed, or it was in float32.
    """
    if not upcast:
        try:
            return run()
        except NotFiniteError as error:
            if not _can_upcast(error, model):
                raise
        free_memory()
        if on_warning is not None:
            on_warning(precision.warning("unet", model.runtime.dtype))
    with model.runtime.upcast():
        return run()


def _can_upcast(error: NotFiniteError, model: Model) -> bool:
    return error.part == "unet" and model.runtime.unet_dtype != "float32"


def free_memory() -> None:
    """Free what a failed attempt held, once its error is gone, and with it all its frames."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class _Batch:
    """Images to edit together, checked and prepared; arguments as of ``edit_batch``."""

    images: tuple[Prepared, ...]
    requests: tuple[EditRequest, ...]
    model: Model
    inversion: Inversion | None
    settings: Settings
    masks: tuple[UserMask | None, ...]

    def run(self, warn: OnWarning, context: _Context) -> list[Edit]:
        """Edit with less memory or in float32 where needed; see ``edit_batch``."""
        model = self.model
        inverted = () if self.inversion is None else self.inversion.float32
        upcast = any("unet" in text for text in inverted)

        def attempt() -> list[Edit]:
            return run_within_memory(
                lambda settings: self._edit(settings, context), model, self.settings, warn
            )

        if len(self.images) == 1:
            return run_finite(attempt, model, warn, upcast=upcast)
        if not upcast:
            try:
                return attempt()
            except NotFiniteError as error:
                if not _can_upcast(error, model):
                    raise
            free_memory()
        rows = range(len(self.images))
        return [edited for i in rows for edited in self._row(i).run(warn, context)]

    def _row(self, i: int) -> _Batch:
        row = slice(i, i + 1)
        inversion = None if self.inversion is None else self.inversion.rows(row)
        batch = replace(self, images=self.images[row], requests=self.requests[row])
        return replace(batch, inversion=inversion, masks=self.masks[row])

    def _edit(self, settings: Settings, context: _Context) -> list[Edit]:
        """One attempt, with the settings that it is left with."""
        inversion = self.inversion
        if inversion is not None and not settings.cache_source:
            inversion = inversion.without_observations()
        work = (self.images, self.requests, self.model, inversion, settings, self.masks)
        edits = _edit_batch(*work, context)
        if settings.crop == "auto":
            edits = [_edit_crop(edit, self.model, context) for edit in edits]
        return [_reviewed(edit, self.model) for edit in edits]


class _FinishedInversions:
    """Trajectories that the attempts of one edit have computed: later attempts do not invert again.

    Without activations, which are what memory runs out for.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Inversion, str, Evaluations]] = {}

    def find(
        self, images: Sequence[Prepared], model: Model
    ) -> tuple[Inversion, str, Evaluations] | None:
        """The inversion, its source and the evaluations it took; None if there is none."""
        return self._kept.get(self._key(images, model))

    def keep(
        self,
        images: Sequence[Prepared],
        model: Model,
        inversion: Inversion,
        source: str,
        spent: Evaluations,
    ) -> None:
        """Keep the trajectory, unless it was given; its tensors are not copied."""
        if source != "given":
            key = self._key(images, model)
            self._kept[key] = (inversion.without_observations(), source, replace(spent))

    @staticmethod
    def _key(images: Sequence[Prepared], model: Model) -> str:
        """Images, and what the trajectory depends on: tiles change the encoded latents."""
        options = {**model.runtime.compute_options(), "checkpointed": None, "offloaded": None}
        return repr([[image.key for image in images], options])


@dataclass(frozen=True)
class _Context:
    """What an edit is given besides what decides its result; arguments as of ``edit_batch``."""

    progress: Progress | bool | None
    on_step: Callable[[Step], None] | None
    cache: Cache | None
    finished: _FinishedInversions = field(default_factory=_FinishedInversions)

    def bar(self, total: int) -> _Progress:
        """What counts so many steps."""
        return _Progress(self.progress, total, "Editing")


def _edit_batch(
    images: Sequence[Prepared],
    requests: Sequence[EditRequest],
    model: Model,
    inversion: Inversion | None,
    settings: Settings,
    masks: Sequence[UserMask | None],
    context: _Context,
) -> list[Edit]:
    captions, on_step, cache = [each.caption for each in requests], context.on_step, context.cache
    plan = Plan.of(settings, [request.kinds for request in requests])
    with model.runtime.working(), precision.record_float32() as record:
        c = model.embed(captions)
        c_edit = edited_conditioning(model, requests, c, settings)
        work = (images, model, captions, plan)
        inversion, source, earlier = _find_inversion(*work, inversion, context)
        skipped = on_step is None and plan.keeps_source
        missing = inversion is None or not (skipped or inversion.recorded(plan.cached_layers()))
        bar = context.bar(settings.steps * (1 - skipped + missing) + missing)
        with bar, model.lock, count_evaluations() as evaluations:
            if inversion is None:
                inversion = _invert_batch(*work, progress=bar.update, cache=cache)
            elif missing:
                kept = cache if source == "cached" else None
                inversion = _with_observations(inversion, images, model, c, plan, bar, kept)
            context.finished.keep(images, model, inversion, source, evaluations + earlier)
            constraint = latent_lock(images, requests, masks, settings, inversion.latents[0].shape)
            steps = editing.edit(model, inversion, c, c_edit, plan, constraint)
            latents, traces = _denoise(() if skipped else bar(steps), inversion, on_step)
        results = _finish_batch(images, requests, model, inversion, latents, settings, masks)
    cost, compute = (evaluations + earlier).per_image(len(images)), model.runtime.compute_options()
    return [
        _with_float32(Edit(
            each.image, requests[i], inversion.rows(slice(i, i + 1)), cost, settings, images[i],
            source, compute, None, each.support, masks[i], each.warnings, trace=traces[i],
        ), record.text(i))
        for i, each in enumerate(results)
    ]  # fmt: skip


def _with_float32(edited: Edit, parts: str) -> Edit:
    """The edit with a record of, and warnings about, parts that computed again in float32."""
    compute, dtype = edited.compute, edited.compute["dtype"]
    again = precision.join([parts, *edited.inversion.float32, compute.get("float32", "")])
    lines = precision.warnings([again], dtype)
    if everything := precision.join([again, edited.request.float32]):
        compute = {**compute, "float32": everything}
    return replace(edited, compute=compute, warnings=edited.warnings + lines)


def _find_inversion(
    images: Sequence[Prepared],
    model: Model,
    captions: Sequence[str],
    plan: Plan,
    given: Inversion | None,
    context: _Context,
) -> tuple[Inversion | None, str, Evaluations]:
    """The inversion if there is one, where it is from, and what earlier attempts spent on it."""
    if given is not None:
        return given, "given", Evaluations()
    if (kept := context.finished.find(images, model)) is not None:
        return kept
    cached = find_cached(images, model, captions, plan=plan, cache=context.cache)
    return cached, "computed" if cached is None else "cached", Evaluations()


def _denoise(
    steps: Iterable[Step], inversion: Inversion, on_step: Callable[[Step], None] | None
) -> tuple[Latents, list[EditTrace]]:
    """The latents after the last of the steps, the source's where there are none; and traces."""
    latents = inversion.latents[0]
    trace = Tracer(latents)
    for step in steps:
        latents = step.latents
        trace(step)
        if on_step is not None:
            on_step(step)
    return latents, trace.traces()


def _finish_batch(
    images: Sequence[Prepared],
    requests: Sequence[EditRequest],
    model: Model,
    inversion: Inversion,
    latents: Latents,
    settings: Settings,
    masks: Sequence[UserMask | None],
) -> list[Finished]:
    """Decode the edited latents and, for native results, the source's; composite them."""
    after = model.decode(latents)
    native = settings.composite == "native"
    before = model.decode(inversion.latents[0]) if native else [None] * len(images)
    return [
        finish(images[i], after[i], before[i], requests[i].changes, settings, masks[i])
        for i in range(len(images))
    ]


def _edit_crop(edited: Edit, model: Model, context: _Context) -> Edit:
    """The same edit from the part of the image that its support asks for, if that is small."""
    whole = edited.source
    box = automatic_crop(whole, edited.support)
    if box is None:
        return edited
    part = prepare(whole.image, model.working_size.with_size(edited.settings.size), box)
    (second,) = _edit_batch(
        [part], [edited.request], model, None, edited.settings, [edited.mask], context
    )
    return replace(second, evaluations=edited.evaluations + second.evaluations)


def _reviewed(edited: Edit, model: Model) -> Edit:
    """The edit with a review of its image, and doubts about its steps and its image."""
    with precision.record_float32() as record:
        review = review_edit(edited.image, edited.source, edited.request, model)
    lines = record.warnings(edited.compute["dtype"])
    warnings = edited.trace.doubts() + doubts(review, edited.request, edited.settings) + lines
    return replace(edited, review=review, warnings=edited.warnings + warnings)


def _with_observations(
    inversion: Inversion,
    images: Sequence[Prepared],
    model: Model,
    c: Conditioning,
    plan: Plan,
    bar: _Progress,
    cache: Cache | None,
) -> Inversion:
    """The inversion with the activations that the plan needs too, recomputed; for the cache too.

    Those that it has already are kept, so that edits that need others do not replace each other's.
    """
    layers = joined(inversion.layer_patterns, plan.cached_layers())
    observer = Observer(model, c, plan.layer_patterns, layers_by_time(inversion.schedule, layers))
    levels = tuple(bar(recompute_observations(observer, inversion)))
    inversion = replace(inversion, observations=levels, layer_patterns=layers)
    rows = [inversion.rows(slice(i, i + 1)) for i in range(len(images))]
    if cache is not None and all(map(cache.keeps_activations, rows)):
        _keep(inversion, images, model, plan, cache)
    return inversion


def _invert_batch(
    images: Sequence[Prepared],
    model: Model,
    captions: Sequence[str],
    plan: Plan,
    *,
    progress: Progress | None,
    cache: Cache | None,
) -> Inversion:
    """Compute the inversion, and keep each image's row."""
    settings, seeds = plan.settings, (plan.settings.seed,) * len(images)
    schedule = model.schedule(settings.steps)
    bar = _Progress(progress, settings.steps + 1)
    with model.runtime.working(), model.lock, precision.record_float32() as record:
        c, latents = model.embed(captions), model.encode(_pixels(images))
        kept = layers_by_time(schedule, plan.cached_layers())
        observer = Observer(model, c, plan.layer_patterns, kept)
        levels = tuple(bar(plan.inverter(observer, latents, schedule, seeds)))
    inversion = Inversion.from_observations(
        levels,
        schedule=schedule,
        captions=tuple(captions),
        images=tuple(image.key for image in images),
        model=model.name,
        recipe={
            "encoder": c.encoder,
            "inverter": settings.inverter,
            "seed": str(settings.seed),
            "zerocon": __version__,
        },
        layer_patterns=plan.cached_layers(),
        float32=tuple(
            precision.join([record.text(i), "unet" if model.runtime.upcasted else ""])
            for i in range(len(images))
        ),
    )
    if cache is not None:
        _keep(inversion, images, model, plan, cache)
    return inversion


def _keep(
    inversion: Inversion, images: Sequence[Prepared], model: Model, plan: Plan, cache: Cache
) -> None:
    """Write each image's row to the cache."""
    for i, key in enumerate(_keys(images, model, inversion.captions, plan)):
        if key is not None:
            cache.keep(key, inversion.rows(slice(i, i + 1)))


def _keys(
    images: Sequence[Prepared], model: Model, captions: Sequence[str], plan: Plan
) -> list[str | None]:
    """Cache keys of the images' inversions in this batch."""
    return [
        key_of(model, plan, image.key, caption, batch_size=len(images))
        for image, caption in zip(images, captions, strict=True)
    ]


def model_of(model: Model | str | None) -> Model:
    """A loaded model as it is; one that is named is loaded, and kept until another is named."""
    if model is not None and not isinstance(model, str):
        return model
    return _named_model(ModelSpec.of(model).name)  # of the environment as it is now


@lru_cache(maxsize=1)
def _named_model(name: str) -> Model:
    return load(name)


def _settings(
    model: Model, settings: Settings | None, preset: str | None, overrides: Mapping[str, Any]
) -> Settings:
    """The model's settings, or those given, under the preset, under single overrides."""
    if preset is not None and preset not in PRESETS:
        raise SettingError(f'no preset "{preset}"; there are: {", ".join(PRESETS)}')
    base = settings or model.settings
    return base.overlay(PRESETS[preset] if preset else {}).overlay(overrides)


def read_source(image: ImageSource) -> tuple[Image, Photograph | None]:
    """The pixels to edit, and the file they come from if there is one."""
    if isinstance(image, Image):
        return image, None
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise ImageFormatError(
                "an array must be (height, width, 3) of uint8, not "
                f"{tuple(image.shape)} of {image.dtype}"
            )
        return PILImage.fromarray(image), None
    photograph = image if isinstance(image, Photograph) else Photograph.read(image)
    return photograph.image, photograph


def prepared_for(image: Image, model: Model, settings: Settings | None = None) -> Prepared:
    """The image at the model's working size: the crop, if ``settings`` name one, or all of it."""
    settings = settings or model.settings
    working_size = model.working_size.with_size(settings.size)
    return prepare(image, working_size, crop_box(settings.crop, image.size))


def _prepared(
    images: Sequence[Image | Prepared], model: Model, settings: Settings
) -> list[Prepared]:
    return [
        image if isinstance(image, Prepared) else prepared_for(image, model, settings)
        for image in images
    ]


def _user_mask(mask: MaskSource | UserMask | None, image: Image) -> UserMask | None:
    """The mask at the image's size."""
    if mask is None or isinstance(mask, UserMask):
        return mask
    return read_mask(mask, image.size)


def _pixels(images: Sequence[Prepared]) -> torch.Tensor:
    """Images at working size as one batch, (images, 3, height, width) in -1..1."""
    sizes = {f"{width}x{height}" for width, height in (image.size for image in images)}
    if len(sizes) > 1:
        raise ValueError(f"images of a batch must have one working size, not {', '.join(sizes)}")
    return torch.cat([image.pixels for image in images])


def _with_steps_of(inversion: Inversion, settings: Settings) -> Settings:
    """Settings with the steps and the inverter of an inversion."""
    return replace(settings, steps=inversion.schedule.steps, inverter=inversion.recipe["inverter"])


def _check(
    inversion: Inversion, images: Sequence[Prepared], model: Model, captions: Sequence[str] | None
) -> None:
    inversion.require_images(images, model.vae_scale_factor)
    of_other = inversion.recipe.get("encoder") != model.embed([""]).encoder
    if of_other or "inverter" not in inversion.recipe:
        raise MismatchError(f"the inversion was made with {inversion.model}, not with {model.name}")
    channels = model.unet.config.in_channels
    if inversion.latents.shape[2] != channels:
        raise MismatchError(
            f"the inversion has {inversion.latents.shape[2]} latent channels, {model.name} has "
            f"{channels}"
        )
    if captions is not None and tuple(captions) != inversion.captions:
        texts = '", "'.join(inversion.captions)
        raise MismatchError(f'the inversion was made with the caption "{texts}"')


class _Progress:
    """Counts steps over several loops, and reports them to a function or a progress bar."""

    def __init__(self, progress: Progress | bool | None, total: int, label: str = "") -> None:
        self.report = progress if callable(progress) else None
        self.bar: Any = tqdm(total=total, desc=label, unit="step") if progress is True else None
        self.total, self.done = total, 0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self, *_: int) -> None:
        """One more step."""
        self.done += 1
        if self.report is not None:
            self.report(self.done, self.total)
        if self.bar is not None:
            self.bar.update()

    def __call__(self, steps: Iterable[T]) -> Iterator[T]:
        for step in steps:
            self.update()
            yield step
