"""The embedded model as it ships: the tool on trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zerocon
from zerocon import mini
from zerocon.bench import classifiers
from zerocon.editing import Plan, edit
from zerocon.image.transforms import prepare, unfit
from zerocon.model.captioner import caption_image
from zerocon.model.stable_diffusion import StableDiffusion

FOX = Path(__file__).parent.parent / "examples" / "fox.png"


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return zerocon.load("mini", device="cpu")  # type: ignore[return-value]


@pytest.fixture(scope="module")
def fox() -> Image.Image:
    return Image.open(FOX).convert("RGB")


def test_it_is_small_and_has_default_settings_and_a_card() -> None:
    sizes = {path: path.stat().st_size for path in mini.path().rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 28e6 and max(sizes.values()) <= 15e6
    assert mini.path() / "zerocon.json" in sizes and mini.path() / "README.md" in sizes


def test_diffusers_loads_it() -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(mini.path())
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    image = pipeline("a red fox", num_inference_steps=2, generator=generator).images[0]
    assert image.size == (128, 128)


def test_the_captioner_names_the_fox_and_clip_agrees(model: StableDiffusion, fox: Image.Image):
    caption = caption_image(fox, model)
    assert "fox" in caption and "orange" in caption and "forest" in caption
    similarity = model.scorer.similarity(fox, [caption, "a blue bus on the beach at night"])
    assert similarity is not None and similarity[0] > similarity[1] + 0.1


def test_clip_encodes_the_source_once_and_the_edited_image_once(fox: Image.Image) -> None:
    """The prompt compares two captions with the source, the request two more, the review two."""
    model, texts = zerocon.load("mini", device="cpu"), []
    clip = model.scorer
    with encoded_images(clip) as images, pytest.MonkeyPatch.context() as patch:
        similarity = clip.similarity
        patch.setattr(clip, "similarity", lambda *a: texts.append(a[1]) or similarity(*a))
        zerocon.edit(fox, model=model, to="at night", steps=4)
    assert len(texts) == 3 and len(images) == 2


def test_similarities_are_those_of_the_image_as_it_is_now(fox: Image.Image) -> None:
    clip, sentences = zerocon.load("mini", device="cpu").scorer, ["a red square", "a fox"]
    image = fox.copy()
    with encoded_images(clip) as images:
        before = clip.similarity(image, sentences)
        image.paste((255, 0, 0), (0, 0, *image.size))
        after = clip.similarity(image, sentences)
        assert clip.similarity(image, sentences[:1]) == pytest.approx(after[:1])
        assert clip.similarity(fox, sentences) == pytest.approx(before)
    assert len(images) == 3 and after[1] < before[1] - 0.1


@contextmanager
def encoded_images(clip: Any) -> Iterator[list[Any]]:
    """A list that grows with each pass of CLIP's image encoder."""
    images: list[Any] = []
    hook = clip.network.vision_model.register_forward_hook(lambda *call: images.append(call[2]))
    yield images
    hook.remove()


@pytest.mark.parametrize("cache_source", [False, True])
def test_a_zero_direction_gives_the_reconstruction(
    model: StableDiffusion, fox: Image.Image, cache_source: bool
) -> None:
    """Both guidances on, fifty steps: equal bits, or within 3e-4 in latents."""
    settings = replace(model.settings, cache_source=cache_source)
    inversion = zerocon.invert(fox, model, settings=settings)
    c = model.embed(inversion.captions)
    *_, last = edit(model, inversion, c, c, Plan.of(settings))
    difference = float((last.latents - inversion.latents[0]).abs().max())
    assert difference <= (3e-4 if cache_source else 0.0)


def test_the_papers_edit_has_the_stated_cost(model: StableDiffusion, fox: Image.Image) -> None:
    settings = {"preset": "paper", "steps": 10, "guidance_range": (0.0, 0.6)}
    spent = zerocon.edit(fox, to="cat", model=model, **settings).evaluations
    # 11 for the inversion, 6 guided steps of 10, two predictions per step
    assert (spent.forwards, spent.backwards) == (11 + 6 + 20, 6)


def test_an_edit_is_repeatable_has_the_stated_cost_and_changes_the_image(
    model: StableDiffusion, fox: Image.Image
) -> None:
    first, second = (zerocon.edit(fox, to="cat", model=model) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    steps, plan = model.settings.steps, Plan.of(model.settings, [["object"]])
    edited = [i / steps for i in range(steps) if plan.edits(i / steps)]
    guided = sum(plan.guides(progress) for progress in edited)
    assert 0 < guided < len(edited) and model.settings.guidance_balance is not None
    # the inversion, two predictions per step, guidance; the losses' balance is measured once
    forwards, backwards = steps + 1 + 2 * len(edited) + guided + 1, guided + 2
    assert (first.evaluations.forwards, first.evaluations.backwards) == (forwards, backwards)
    assert "cat" in first.target_caption
    working = prepare(fox, model.working_size)
    reconstruction = unfit(model.decode(model.encode(working.pixels))[0], working.frame)
    changed = np.abs(np.asarray(first.image, int) - np.asarray(reconstruction, int)).mean()
    assert 0.5 < changed < 64


@pytest.mark.parametrize(("to", "name"), [("bear", "kind"), ("blue", "color"), ("night", "time")])
def test_an_edit_succeeds_and_preserves_the_rest(
    model: StableDiffusion, fox: Image.Image, to: str, name: str
) -> None:
    edited = zerocon.edit(fox, to=to, model=model).image
    before, after = classifiers.load().read([fox.resize((128, 128)), edited.resize((128, 128))])
    assert after == before | {name: to} and before[name] != to
