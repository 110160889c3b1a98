"""Picture in, picture out: what ``import zerocon`` offers. It computes, and prints nothing.

All of it may be called from any number of threads: walks on one model queue up, those on two run
side by side. Only loading and ``forecast`` must not overlap with edits, since torch's default
dtype, which belongs to the whole process, may be another meanwhile.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from PIL.Image import Image

from zerocon import __version__
from zerocon.cache import Cache, key_of
from zerocon.direction import Direction
from zerocon.editing import Plan, Step
from zerocon.editing import edit as walk
from zerocon.errors import MismatchError, OutOfMemoryError, classify
from zerocon.image.transforms import fit, unfit
from zerocon.model import Model, ModelSpec
from zerocon.model import load as load_model
from zerocon.model.captioner import caption_image
from zerocon.model.runtime import MemorySaving
from zerocon.nfe import Evaluations, count_evaluations
from zerocon.observation import Observer
from zerocon.prompt import CaptionRewrite
from zerocon.registry import available, parse
from zerocon.request import EditRequest, edited_conditioning, parse_request
from zerocon.settings import Settings
from zerocon.shapes import Pixels, Tokens
from zerocon.storage.hashing import image_hash
from zerocon.trajectory import Inversion, recompute_observations

Progress = Callable[[int, int], None]  # called with (done, total) network steps
Warn = Callable[[str], None]  # called with a sentence, while there is still time to stop

T = TypeVar("T")

RECOMPUTE_SOURCE = MemorySaving("recomputing the source's activations", nullcontext())


@dataclass(frozen=True)
class Edit:
    """An edited picture and all it was made of.

    ``origin`` says where the inversion comes from: "made" for this edit, "found" in a cache, or
    "given".
    """

    image: Image
    request: EditRequest
    inversion: Inversion
    evaluations: Evaluations
    settings: Settings
    origin: str = "made"

    @property
    def rewrite(self) -> CaptionRewrite:
        """Caption, target caption and the changes between them."""
        return self.request.rewrite

    @property
    def caption(self) -> str:
        """The sentence the source was inverted under."""
        return self.rewrite.caption

    @property
    def direction(self) -> Tokens:
        """The step in text space, (1, positions, features), before ``strength``."""
        return self.request.direction


def load(
    name: str | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    captioner: str | None = None,
    clip: str | None = None,
    prediction: str | None = None,
    offload: bool = False,
    tile: bool = False,
    compile: bool = False,
) -> Model:
    """Load ``mini`` (embedded), a diffusers folder, a ``.safetensors`` file, or a cached hub id.

    ``name`` defaults to the environment's ``ZEROCON_MODEL``, then to Stable Diffusion 1.5.
    ``prediction`` ("epsilon" or "v_prediction") is needed only where the model does not say.
    ``offload``, ``tile`` and ``compile`` are done to it as the model's methods say. Raises
    ``MissingError`` for a model, part or device that is not there, ``ValueError`` for a bad name,
    a pickle or a model of another family.
    """
    spec = ModelSpec.of(
        name, device=device, dtype=dtype, captioner=captioner, clip=clip,
        prediction=prediction, offload=offload, tile=tile, compile=compile,
    )  # fmt: skip
    return load_model(spec)


def invert(
    image: Image,
    model: Model,
    *,
    caption: str | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
    on_warning: Warn | None = None,
    cache: Cache | None = None,
) -> Inversion:
    """Find the path from ``image`` (any size) to noise under its caption: once for many.

    It is taken from the ``cache`` if it is there, and else kept in it.
    """
    caption = caption_image(image, model) if caption is None else caption
    return run_within_memory(
        lambda settings: invert_batch(
            [image], model, [caption], settings=settings, progress=progress, cache=cache
        ),
        model,
        settings or model.settings,
        on_warning,
    )


def invert_batch(
    images: Sequence[Image],
    model: Model,
    captions: Sequence[str],
    *,
    settings: Settings | None = None,
    progress: Progress | None = None,
    cache: Cache | None = None,
) -> Inversion:
    """The paths of several pictures in one batch: the same as one by one, but for rounding.

    They are taken from the ``cache`` if all of them are there, inverted as many together, and else
    kept in it. Raises ``ValueError`` for pictures that the model would see in different sizes.
    """
    settings = settings or model.settings
    found = find_cached(images, model, captions, settings=settings, cache=cache)
    if found is not None:
        return found
    return _invert(images, model, captions, settings, progress=progress, cache=cache)


def find_cached(
    images: Sequence[Image],
    model: Model,
    captions: Sequence[str],
    *,
    settings: Settings | None = None,
    cache: Cache | None,
) -> Inversion | None:
    """What ``invert_batch`` would make, out of the ``cache``; None if it is not all there."""
    if cache is None:
        return None
    settings, parts = settings or model.settings, []
    for key in _keys(images, model, captions, settings):
        found = None if key is None else cache.find(key)
        if found is None:
            return None
        # under whatever name and seed it was made, it is the one that would be made here
        recipe = {**found.recipe, "inverter": settings.inverter, "seed": str(settings.seed)}
        parts.append(replace(found, model=model.name, recipe=recipe).to(model.device))
    return Inversion.together(parts)


def _invert(
    images: Sequence[Image],
    model: Model,
    captions: Sequence[str],
    settings: Settings,
    *,
    progress: Progress | None,
    cache: Cache | None,
) -> Inversion:
    """Make it, and keep each picture's row."""
    layer_patterns = Plan.of(settings).layer_patterns if settings.cache_source else frozenset()
    tick = _Ticker(progress, settings.steps + 1)
    inverter = parse(settings.inverter, available("inverter"), "inverter")
    c = model.embed(captions)
    schedule = model.schedule(settings.steps)
    latents, seeds = model.encode(_fitted(images, model)), (settings.seed,) * len(images)
    with model.lock:
        path = tuple(tick(inverter(Observer(model, c, layer_patterns), latents, schedule, seeds)))
    made = Inversion.along(
        path,
        schedule=schedule,
        captions=tuple(captions),
        images=tuple(map(image_hash, images)),
        model=model.name,
        recipe={
            "encoder": c.encoder,
            "inverter": settings.inverter,
            "seed": str(settings.seed),
            "zerocon": __version__,
        },
        layer_patterns=layer_patterns,
    )
    if cache is not None:
        for i, key in enumerate(_keys(images, model, captions, settings)):
            if key is not None:
                cache.keep(key, made.rows(slice(i, i + 1)))
    return made


def _keys(
    images: Sequence[Image], model: Model, captions: Sequence[str], settings: Settings
) -> list[str | None]:
    """What each picture's inversion, made together with the others', is kept under."""
    return [
        key_of(model, settings, image_hash(image), caption, together=len(images))
        for image, caption in zip(images, captions, strict=True)
    ]


def edit(
    image: Image,
    *,
    model: Model,
    to: str | None = None,
    from_: str | None = None,
    to_caption: str | None = None,
    caption: str | None = None,
    directions: Sequence[tuple[Direction, float]] = (),
    inversion: Inversion | None = None,
    settings: Settings | None = None,
    on_request: Callable[[EditRequest], None] | None = None,
    progress: Progress | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_warning: Warn | None = None,
    cache: Cache | None = None,
) -> Edit:
    """Edit ``image`` (any size; the result has the same) by a few words.

    ``to`` is a word or phrase ("dog", "at night"), ``to_caption`` a whole description of the wanted
    picture; ``from_`` names what is replaced and may be left out; an empty ``to`` with a
    ``from_`` removes it. ``directions``, each with a weight, are added to what the words say; with
    them words may be left out, and the target caption is then the caption. ``caption`` describes
    the picture and is otherwise the captioner's; ``inversion`` (of this very picture) saves finding
    it again, and where none is given a ``cache`` does, from the second edit on. ``on_request`` hears
    what was understood before time is spent, ``progress`` the steps done of all, ``on_step`` sees
    where the edit stands after every step of its own. Where memory runs out it is tried again with
    less, one step at a time, and ``on_warning`` hears which.

    Raises ``ValueError`` for a wish that makes no sense, an inversion of another picture or a
    direction of another text encoder, and ``MissingError`` where a captioner is needed and none is
    here.
    """
    settings = settings or model.settings
    if inversion is not None:
        caption, settings = resume(inversion, image, model, caption, settings)
    request = parse_request(
        image, model, to=to, from_=from_, to_caption=to_caption,
        caption=caption, directions=directions, settings=settings,
    )  # fmt: skip
    if on_request is not None:
        on_request(request)
    (edited,) = edit_batch(
        [image], [request], model=model, inversion=inversion,
        settings=settings, progress=progress, on_step=on_step, on_warning=on_warning, cache=cache,
    )  # fmt: skip
    return edited


def resume(
    inversion: Inversion, image: Image, model: Model, caption: str | None, settings: Settings
) -> tuple[str, Settings]:
    """The caption and settings of an edit beside an ``inversion``, whose steps and scheme hold.

    Raises ``ValueError`` if it is of another picture, model or caption.
    """
    _check(inversion, [image], model, None if caption is None else [caption])
    return inversion.captions[0], _along(inversion, settings)


def edit_batch(
    images: Sequence[Image],
    requests: Sequence[EditRequest],
    *,
    model: Model,
    inversion: Inversion | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_warning: Warn | None = None,
    cache: Cache | None = None,
) -> list[Edit]:
    """Carry out what was understood of several pictures in one batch; otherwise as ``edit``.

    Every result is that of the picture alone, but for rounding; ``evaluations`` are each picture's
    own. ``inversion`` has a row for every picture, ``on_step`` sees all of them after every step.
    Raises ``ValueError`` for pictures that the model would see in different sizes.
    """
    settings = settings or model.settings
    if inversion is not None:
        captions = [request.rewrite.caption for request in requests]
        _check(inversion, images, model, captions)
        inversion, settings = inversion.to(model.device), _along(inversion, settings)

    def carry_out(settings: Settings) -> list[Edit]:
        work = (images, requests, model, inversion, settings)
        return _carry_out(*work, progress=progress, on_step=on_step, cache=cache)

    return run_within_memory(carry_out, model, settings, on_warning)


def _carry_out(
    images: Sequence[Image],
    requests: Sequence[EditRequest],
    model: Model,
    inversion: Inversion | None,
    settings: Settings,
    *,
    progress: Progress | None,
    on_step: Callable[[Step], None] | None,
    cache: Cache | None,
) -> list[Edit]:
    count = len(images)
    captions = [request.rewrite.caption for request in requests]
    changes = [{each.category for each in said.rewrite.changes} for said in requests]
    plan, c = Plan.of(settings, changes), model.embed(captions)
    edited = edited_conditioning(model, requests, c, settings)
    origin = "made" if inversion is None else "given"
    if inversion is None:
        inversion = find_cached(images, model, captions, settings=settings, cache=cache)
        origin = "made" if inversion is None else "found"
    missing = inversion is None or (
        settings.cache_source and not plan.layer_patterns <= inversion.layer_patterns
    )
    tick = _Ticker(progress, settings.steps * (1 + missing) + missing)
    with model.lock, count_evaluations() as evaluations:
        if inversion is None:
            inversion = _invert(images, model, captions, settings, progress=tick.step, cache=cache)
        elif missing:
            seen = tuple(
                tick(recompute_observations(Observer(model, c, plan.layer_patterns), inversion))
            )
            inversion = replace(inversion, seen=seen, layer_patterns=plan.layer_patterns)
        for last in tick(walk(model, inversion, c, edited, plan)):
            if on_step is not None:
                on_step(last)
    own = Evaluations(evaluations.forwards // count, evaluations.backwards // count)
    frames = [fit(image, model.size, model.multiple).frame for image in images]
    results = map(unfit, model.decode(last.latents), frames)
    return [
        Edit(result, requests[i], inversion.rows(slice(i, i + 1)), own, settings, origin)
        for i, result in enumerate(results)
    ]


def reconstruct(image: Image, model: Model) -> Image:
    """What the model's autoencoder alone makes of ``image``: the most that an edit can keep."""
    found = fit(image, model.size, model.multiple)
    return unfit(model.decode(model.encode(found.pixels))[0], found.frame)


def _fitted(images: Sequence[Image], model: Model) -> Pixels:
    """Pictures as the model sees them, in one batch."""
    fits = [fit(image, model.size, model.multiple).pixels for image in images]
    sizes = {f"{each.shape[3]}x{each.shape[2]}" for each in fits}
    if len(sizes) > 1:
        raise ValueError(f"pictures edited together must have one size, not {', '.join(sizes)}")
    return torch.cat(fits)


def _along(inversion: Inversion, settings: Settings) -> Settings:
    """Settings for an edit beside ``inversion``, which has its own steps and scheme."""
    steps, inverter = inversion.schedule.steps, inversion.recipe["inverter"]
    return replace(settings, steps=steps, inverter=inverter)


def _check(
    inversion: Inversion, images: Sequence[Image], model: Model, captions: Sequence[str] | None
) -> None:
    if inversion.images != tuple(map(image_hash, images)):
        raise MismatchError("the inversion is of another image; invert this one first")
    if inversion.recipe.get("encoder") != model.embed([""]).encoder:
        raise MismatchError(f"the inversion was made with {inversion.model}, not with {model.name}")
    if captions is not None and tuple(captions) != inversion.captions:
        said = '", "'.join(inversion.captions)
        raise MismatchError(f'the inversion was made under the caption "{said}"')


def run_within_memory(
    run: Callable[[Settings], T],
    model: Model,
    settings: Settings,
    on_warning: Warn | None = None,
) -> T:
    """``run(settings)``, repeated with less memory each time that it runs out.

    First the source's activations are recomputed instead of cached, then the steps of
    ``model.runtime.memory_ladder()`` follow, one at a time. Afterwards the model computes as
    before, also after an exception. Errors that are not about memory are raised at once, and the
    last one about memory when there are no steps left.

    Args:
        run: Called with settings.
        model: What ``run`` computes with.
        settings: For the first call.
        on_warning: Called with a sentence before every repetition.
    """
    ladder = model.runtime.memory_ladder()
    with ExitStack() as savings:
        while True:
            try:
                return run(settings)
            except (MemoryError, RuntimeError) as error:
                if classify(error) is not OutOfMemoryError:
                    raise
                if settings.cache_source and Plan.of(settings).layer_patterns:
                    saving = RECOMPUTE_SOURCE
                elif (step := next(ladder, None)) is not None:
                    saving = step
                else:
                    raise
            # the error, and with it all that its frames held, is gone only now
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            settings = replace(settings, cache_source=False)
            savings.enter_context(saving.active)
            if on_warning is not None:
                on_warning(f"out of memory; {saving.description}")


class _Ticker:
    """Counts network steps over several walks and tells ``progress`` after each."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def step(self, *_: int) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)

    def __call__(self, steps: Iterable[T]) -> Iterator[T]:
        for each in steps:
            self.step()
            yield each
