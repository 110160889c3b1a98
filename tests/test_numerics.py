"""NaN and infinity at any call of any network end in an error or in an image like float32's.

The tolerance of an image in half precision is stated by ``tolerance``: that of an edit in which
nothing failed, against the float32 run of the same weights. torch's CPU runs all three dtypes.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tiny
import torch
from conftest import gradient
from torch import nn

import zerocon
from zerocon.api import edit_batch
from zerocon.cache import Cache
from zerocon.editing import edit
from zerocon.errors import NotFiniteError
from zerocon.guidance import CrossAttention
from zerocon.model import precision
from zerocon.recipe import Recipe
from zerocon.request import parse_request

EDITS, SMALL, SEED = 136, 66, 5  # injections during edits, and during calls of CLIP and captioner
PARTS = ("unet", "encode", "decode", "text", "maps", "gradient")
COMPANIONS = ("clip image", "clip text", "captioner")
CALLS = {"unet": 3, "maps": 2, "gradient": 1, "decode": 1, "encode": 1, "text": 2}  # of an edit
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
METHODS: dict[str, dict[str, Any]] = {
    "free": {"guidance": ()},
    "guided": {"guidance": ("cross-attention", "contrastive:weight=1")},
    "controlled": {"guidance": (), "attention": ("injection",)},
    "both": {"guidance": ("cross-attention",), "attention": ("injection:self=0.5",)},
}


@cache
def companions() -> tuple[Any, Any]:
    """CLIP and captioner of the embedded model."""
    shipped = zerocon.load("mini")
    return shipped.scorer, shipped.captioner


@cache
def companion_in(part: str, dtype: torch.dtype, *, rounded: bool = False) -> Any:
    """CLIP or the captioner in ``dtype``, or in float32 after rounding."""
    companion = companions()[part == "captioner"]
    network = deepcopy(companion.network).to(dtype)
    network = network.float() if rounded else network
    return type(companion)(network, companion.tokenizer, companion.images, "cpu")


def answer(part: str, companion: Any) -> Any:
    """A caption, or cosines to one decimal."""
    image = gradient(64, 48)
    if part == "captioner":
        return companion.describe([image])
    return [round(each, 1) for each in companion.similarity(image, ["a fox", "the sea"])]


def in_dtype(dtype: torch.dtype, *, rounded: bool = False) -> Any:
    """The tiny model in ``dtype``, or in float32 after rounding."""
    model = tiny.model()
    for network in (model.unet, model.vae, model.text_encoder):
        network.to(dtype)
        if rounded:
            network.float()
    return model


@cache
def model_in(dtype: torch.dtype, *, rounded: bool = False) -> Any:
    return in_dtype(dtype, rounded=rounded)


@cache
def reference(dtype: torch.dtype, method: str, size: int) -> Outcome:
    """The edit in float32, with weights rounded to ``dtype``."""
    return edited(model_in(dtype, rounded=True), method, size)


@cache
def tolerance(dtype: torch.dtype, method: str, size: int) -> float:
    """What is allowed in levels of 255: 1, and 1.5 times the usual error of ``dtype``."""
    usual = edited(model_in(dtype), method, size)
    return 1 + 1.5 * deviation(usual, reference(dtype, method, size))


def deviation(outcome: Outcome, other: Outcome) -> float:
    """The largest mean difference of two images."""
    pairs = zip(outcome.images, other.images, strict=True)
    return max(float(np.abs(image - expected).mean()) for image, expected in pairs)


class Outcome(NamedTuple):
    """Edited images and the edits."""

    images: list[np.ndarray]
    edits: list[Any]


def edited(model: Any, method: str, size: int, **more: Any) -> Outcome:
    """One image edited, or two in a batch."""
    steps = 2 if size == 2 or method == "both" else 1
    settings = replace(tiny.PLAIN, steps=steps, guidance_scale=2.0, composite="model")
    settings = settings.overlay({"direction_from": "caption", **METHODS[method]})
    images = [gradient(64, 48), gradient(64, 48).rotate(180)][:size]
    words = {"to": "dog", "caption": "a cat", "settings": settings}
    requests = [parse_request(each, model, **words) for each in images]
    edits = edit_batch(images, requests, model=model, settings=settings, **more)
    return Outcome([np.asarray(each.image, np.float32) for each in edits], edits)


def part_of(model: Any, part: str) -> nn.Module:
    """The module whose output is spoiled, of a model, of CLIP or of a captioner."""
    modules: dict[str, Callable[[], nn.Module]] = {
        "unet": lambda: model.unet,
        "encode": lambda: model.vae.encoder,
        "decode": lambda: model.vae.decoder,
        "text": lambda: model.text_encoder.final_layer_norm,
        "maps": lambda: next(m for n, m in model.unet.named_modules() if n.endswith("attn2")),
        "gradient": lambda: model.unet.mid_block,
        "clip image": lambda: model.network.visual_projection,
        "clip text": lambda: model.network.text_projection,
        "captioner": lambda: model.network.text_decoder.cls,
    }
    return modules[part]()


@contextmanager
def injected(
    model: Any, part: str, call: int, value: float, *, always: bool
) -> Iterator[list[bool]]:
    """Spoil an element of a part's output, or of its gradient, from its call number ``call`` on.

    Without ``always`` not in float32, in whose range the values would be. The list that is yielded
    is empty until the first time.
    """
    calls, spoiled = itertools.count(), list[bool]()

    def spoil(output: torch.Tensor) -> torch.Tensor:
        if next(calls) < call or (output.dtype == torch.float32 and not always):
            return output
        spoiled.append(True)
        output = output.clone()
        output[call % len(output)][..., -1] = value
        return output

    def hook(_: Any, __: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return spoil(output)
        output.sample = spoil(output.sample)
        return output

    def watch_gradient(_: Any, __: Any, output: torch.Tensor) -> None:
        if output.requires_grad:
            output.register_hook(spoil)

    module = part_of(model, part)
    if part == "maps":  # formed where they are recorded or changed, not in fused kernels
        with pytest.MonkeyPatch.context() as patch:
            scores: Any = module.get_attention_scores
            patch.setattr(module, "get_attention_scores", lambda *args: spoil(scores(*args)))
            yield spoiled
        return
    handle = module.register_forward_hook(watch_gradient if part == "gradient" else hook)
    try:
        yield spoiled
    finally:
        handle.remove()


def cases() -> list[tuple[Any, ...]]:
    """Part, call, value, dtype, method, batch size, and whether float32 fails too."""
    drawn = random.Random(SEED)
    pick, chosen = drawn.choice, []
    methods = {"gradient": ["guided", "both"], "maps": ["guided", "controlled", "both"]}
    for i in range(EDITS):
        part, dtype = PARTS[i % len(PARTS)], DTYPES[i // len(PARTS) % 3]
        method, call = pick(methods.get(part, [*METHODS])), drawn.randrange(CALLS[part])
        value, size = pick([math.nan, math.inf, -math.inf]), pick([1, 1, 1, 1, 1, 2])
        chosen.append((part, call, value, dtype, method, size, drawn.random() < 0.25))
    return chosen


@pytest.fixture
def portable_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without oneDNN, whose rounding in bfloat16 differs between processors."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", [*METHODS])
def test_a_text_encoder_that_is_computed_again_gives_the_bits_of_float32(
    dtype: torch.dtype, method: str
) -> None:
    mixed = in_dtype(dtype)
    mixed.text_encoder.float()
    with injected(model_in(dtype), "text", 0, math.nan, always=False) as spoiled:
        outcome = edited(model_in(dtype), method, 1)
    assert spoiled
    assert deviation(outcome, edited(mixed, method, 1)) == 0


@pytest.mark.usefixtures("portable_kernels")
def test_what_is_not_finite_ends_in_an_error_or_in_the_image_of_float32(tmp_path: Path) -> None:
    outcomes, kept = Counter[str](), Cache(tmp_path / "cache")
    for part, call, value, dtype, method, size, always in cases():
        model, label = model_in(dtype), f"{part} {call} {value} {dtype} {method} {size} {always}"
        before = model.runtime.compute_options()
        with injected(model, part, call, value, always=always or dtype == torch.float32) as spoiled:
            try:
                outcome = edited(model, method, size, cache=kept)
            except NotFiniteError as error:
                assert error.id == "ZC-E072" and spoiled, label
                assert always or dtype == torch.float32, label
                outcomes["error"] += 1
                continue
            finally:
                assert model.runtime.compute_options() == before, label
        assert spoiled, label
        outcomes["image"] += 1
        expected, allowed = reference(dtype, method, size), tolerance(dtype, method, size)
        assert deviation(outcome, expected) <= allowed, label
        if part != "maps":  # a control replaces columns of the maps, spoiled ones too
            assert any("float32" in each.compute for each in outcome.edits), label
    assert min(outcomes["error"], outcomes["image"]) >= 30, outcomes
    assert outcomes.total() == EDITS and EDITS + SMALL >= 200


def test_captions_and_similarities_are_those_of_float32_or_an_error() -> None:
    drawn = random.Random(SEED)
    errors = 0
    for i in range(SMALL):
        part, dtype = COMPANIONS[i % 3], DTYPES[i // 3 % 3]
        always, value = drawn.random() < 0.25, drawn.choice([math.nan, math.inf, -math.inf])
        companion, fails = companion_in(part, dtype), always or dtype == torch.float32
        with injected(companion, part, 0, value, always=fails) as spoiled:
            try:
                given = answer(part, companion)
            except NotFiniteError as error:
                assert fails and error.part == part.partition(" ")[0], part
                errors += 1
                continue
        assert spoiled and not fails
        assert given == answer(part, companion_in(part, dtype, rounded=True))
    assert 10 <= errors <= SMALL - 10


@pytest.mark.parametrize(("dtype", "largest"), [(torch.float16, 4), (torch.bfloat16, 30)])
@pytest.mark.usefixtures("portable_kernels")
def test_the_tolerance_excludes_black_images_and_noise(dtype: torch.dtype, largest: float) -> None:
    for method, size in itertools.product(METHODS, (1, 2)):
        expected, allowed = reference(dtype, method, size), tolerance(dtype, method, size)
        assert allowed < largest
        for image in expected.images:
            assert np.abs(image).mean() > allowed and image.std() > 1


def test_an_infinite_gradient_is_an_error_and_not_zeros() -> None:
    model = tiny.model()
    infinite = tiny.plan(2.0, (CrossAttention(1e38),), guidance_range=(0.0, 1.0))
    x, c, c_edit = torch.randn(1, 4, 8, 8), model.embed(["a cat"]), model.embed(["a dog"])
    inversion = tiny.invert(model, x, c, infinite.cached_layers(4))
    images = tuple(replace(each, guidance_limit=0.01) for each in infinite.images)
    infinite = replace(infinite, images=images)
    with pytest.raises(NotFiniteError, match="gradients of the guidance losses") as caught:
        list(edit(model, inversion, c, c_edit, infinite))
    assert caught.value.part == "unet"


def test_neighbors_of_an_image_that_is_computed_again_keep_their_bytes() -> None:
    model, size = model_in(torch.float16), 2
    usual = edited(model, "guided", size)
    decoder, calls = model.vae.decoder, itertools.count()

    def spoil(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        if not next(calls):
            output[1] = math.nan
        return output

    handle = decoder.register_forward_hook(spoil)
    lines: list[str] = []
    try:
        outcome = edited(model, "guided", size, on_warning=lines.append)
    finally:
        handle.remove()
    assert np.array_equal(outcome.images[0], usual.images[0])
    assert 0 < np.abs(outcome.images[1] - usual.images[1]).mean() < 1
    assert [each.compute.get("float32") for each in outcome.edits] == [None, "vae"]
    assert lines.count(precision.warning("vae", "float16")) == 1


def test_an_edit_in_float32_is_announced_recorded_and_replayed(tmp_path: Path) -> None:
    model = model_in(torch.float16)
    lines: list[str] = []
    with injected(model, "unet", 4, math.nan, always=False) as spoiled:
        settings = replace(tiny.PLAIN, steps=2, direction_from="caption")
        words = {"to": "dog", "caption": "a cat", "settings": settings}
        done = zerocon.edit(gradient(64, 48), model=model, on_warning=lines.append, **words)
    assert spoiled and lines.count(precision.warning("unet", "float16")) == 1
    recipe = Recipe.of(done, model)
    assert recipe.compute["float32"] == "unet" and recipe.compute["dtype"] == "float16"
    assert Recipe.from_json(recipe.to_json()) == recipe
    again = recipe.repeat(gradient(64, 48), model)  # without the NaN: still in float32
    assert again.image.tobytes() == done.image.tobytes()
    assert Recipe.of(again, model) == recipe
    usual = zerocon.edit(gradient(64, 48), model=model, **words)
    assert usual.image.tobytes() != done.image.tobytes() and model.unet.dtype == torch.float16


def test_weights_are_restored_to_the_bit_after_float32() -> None:
    model = model_in(torch.bfloat16)
    before = {name: value.clone() for name, value in model.unet.state_dict().items()}
    with pytest.raises(ZeroDivisionError), model.runtime.upcast():
        assert model.unet.dtype == torch.float32 and model.runtime.dtype == "bfloat16"
        raise ZeroDivisionError
    after = model.unet.state_dict()
    assert all(after[n].dtype == v.dtype and torch.equal(after[n], v) for n, v in before.items())
