"""Faults found by reading and running the reference code of this field, each asserted to be absent.

pix2pix-zero's code and its port in diffusers, and CDS's; what they do is said in each test.
"""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

import zerocon
from zerocon.editing import Plan, edit
from zerocon.guidance import Contrastive, CrossAttention
from zerocon.inversion import DDIM
from zerocon.model.attention import CROSS
from zerocon.nfe import count_evaluations
from zerocon.observation import Observer
from zerocon.trajectory import Inversion


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def invert(model, x, c, layer_patterns=frozenset(), steps=4):
    schedule = model.schedule(steps)
    path = DDIM()(Observer(model, c, layer_patterns), x, schedule)
    return Inversion.along(
        path, schedule=schedule, captions=("",), model="t", recipe={}, layer_patterns=layer_patterns
    )


def test_the_gradient_through_the_edited_sentence_moves_the_edit(model):
    """There, the latents that survive never feel it: at the first step they do not move at all."""
    x, c, edited = torch.randn(1, 4, 8, 8), model.embed(["a cat"]), model.embed(["a dog"])
    guidance_range = Plan(1.0, (CrossAttention(1.0),), cache_source=False)
    inversion = invert(model, x, c, steps=1)
    free = next(edit(model, inversion, c, edited, replace(guidance_range, guidance=())))
    held = next(edit(model, inversion, c, edited, guidance_range))
    theirs = next(
        edit(model, inversion, c, edited, replace(guidance_range, guidance_prompt="source"))
    )
    assert torch.equal(theirs.latents, free.latents)
    assert not torch.allclose(held.latents, free.latents, atol=1e-5)


def test_every_picture_of_a_batch_gets_its_own_edit(model):
    """There, the direction goes to row 1 of the batch, whatever stands there."""
    x, c = torch.randn(2, 4, 8, 8), model.embed(["a cat", "a cat"])
    edited = model.embed(["a dog", "a pig"])
    inversion = invert(model, x, c)
    *_, last = edit(model, inversion, c, edited, Plan(3.0))
    assert (last.difference.flatten(1).norm(dim=1) > 0.01).all()
    same = torch.cat([x[:1], x[:1]])
    *_, last = edit(model, invert(model, same, c), c, edited, Plan(3.0))
    assert not torch.allclose(last.latents[0], last.latents[1], atol=1e-3)


@pytest.mark.parametrize("inverter", ["ddim", "ddim:rounds=2", "fixed-point", "virtual"])
def test_an_inversion_repeats_whatever_chance_has_done_before(model, image, inverter):
    """There, the VAE's posterior is sampled and shifts come from a global generator."""
    settings = replace(model.settings, inverter=inverter)
    first = zerocon.invert(image, model, settings=settings)
    torch.manual_seed(1234)
    np.random.seed(1234)
    second = zerocon.invert(image, model, settings=settings)
    assert torch.equal(first.latents, second.latents)


def test_every_step_of_the_schedule_is_walked(model):
    """There, the first and the last step of the inversion are left out."""
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    with count_evaluations() as spent:
        inversion = invert(model, x, c, steps=50)
    assert len(inversion.latents) == spent.forwards == 51
    assert inversion.schedule.times[:3] == (0, 1, 21) and inversion.schedule.times[-1] == 981
    assert torch.equal(inversion.latents[0], x)
    assert len(list(edit(model, inversion, c, c, Plan(1.0)))) == 50


def test_maps_are_kept_once_and_only_where_an_edit_looks(model):
    """There, maps of self-attention and of both halves of the guidance wait in memory."""
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    inversion = invert(model, x, c, frozenset({CROSS}))
    assert not inversion.seen[0].maps
    layers = [n for n, _ in model.unet.named_modules() if n.endswith("attn2")]
    for seen in inversion.seen[1:]:
        assert sorted(seen.maps) == sorted(layers) and not seen.features
        assert all(len(maps) == 1 and not maps.requires_grad for maps in seen.maps.values())
    again = Plan(1.0, (CrossAttention(),), cache_source=False)
    bare = invert(model, x, c)
    assert not any(seen.maps for seen in bare.seen)
    *_, last = edit(model, bare, c, c, again)
    assert torch.equal(last.latents, x)


def test_patches_are_the_seeds_alone_and_pictures_need_not_be_square(model):
    """There, a global generator draws the patches, and a side is the root of the positions."""
    x, c, edited = torch.randn(1, 4, 6, 10), model.embed(["a cat"]), model.embed(["a dog"])
    plan = Plan(3.0, (Contrastive(50.0, patches=8),), seeds=(7,))
    inversion = invert(model, x, c, plan.layer_patterns)
    results = []
    for state in (0, 1):
        torch.manual_seed(state)
        np.random.seed(state)
        *_, last = edit(model, inversion, c, edited, plan)
        results.append(last.latents)
    assert torch.equal(*results)
