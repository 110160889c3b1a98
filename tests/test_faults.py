"""Faults of reference implementations in this field, each shown to be absent here.

They are in the code of pix2pix-zero, in its port in diffusers, and in the code of CDS; each test's
docstring says what that code does.
"""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

import zerocon
from zerocon.editing import edit
from zerocon.evaluation_count import count_evaluations
from zerocon.guidance import Contrastive, CrossAttention
from zerocon.model.attention import CROSS


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def test_the_gradient_through_the_target_prompt_moves_the_edit(model):
    """Theirs is taken through the other half of the batch: the first step does not move at all."""
    x, c, c_edit = torch.randn(1, 4, 8, 8), model.embed(["a cat"]), model.embed(["a dog"])
    plan = tiny.plan(1.0, (CrossAttention(1.0),), cache_source=False)
    inversion = tiny.invert(model, x, c, steps=1)
    free = next(edit(model, inversion, c, c_edit, tiny.plan(1.0, cache_source=False)))
    guided = next(edit(model, inversion, c, c_edit, plan))
    theirs = next(edit(model, inversion, c, c_edit, tiny.vary(plan, guidance_prompt="source")))
    assert torch.equal(theirs.latents, free.latents)
    assert not torch.allclose(guided.latents, free.latents, atol=1e-5)


def test_every_image_of_a_batch_gets_its_edit(model):
    """Theirs adds the direction to row 1 of the batch, whichever image that is."""
    x, c = torch.randn(2, 4, 8, 8), model.embed(["a cat", "a cat"])
    c_edit, plan = model.embed(["a dog", "a pig"]), tiny.plan(3.0, seeds=(0, 0))
    *_, last = edit(model, tiny.invert(model, x, c), c, c_edit, plan)
    assert (last.difference.flatten(1).norm(dim=1) > 0.01).all()
    same = torch.cat([x[:1], x[:1]])
    *_, last = edit(model, tiny.invert(model, same, c), c, c_edit, plan)
    assert not torch.allclose(last.latents[0], last.latents[1], atol=1e-3)


@pytest.mark.parametrize("inverter", ["ddim", "ddim:rounds=2", "fixed-point", "virtual"])
def test_an_inversion_does_not_depend_on_global_random_states(model, image, inverter):
    """Theirs samples the VAE's posterior and draws shifts from a global generator."""
    settings = replace(model.settings, inverter=inverter)
    first = zerocon.invert(image, model=model, settings=settings)
    torch.manual_seed(1234)
    np.random.seed(1234)
    second = zerocon.invert(image, model=model, settings=settings)
    assert torch.equal(first.latents, second.latents)


def test_every_step_of_the_schedule_is_taken(model):
    """Theirs leaves out the first and the last step of the inversion."""
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    with count_evaluations() as evaluations:
        inversion = tiny.invert(model, x, c, steps=50)
    assert len(inversion.latents) == evaluations.forwards == 51
    assert inversion.schedule.times[:3] == (0, 1, 21) and inversion.schedule.times[-1] == 981
    assert torch.equal(inversion.latents[0], x)
    assert len(list(edit(model, inversion, c, c, tiny.plan(1.0)))) == 50


def test_maps_are_cached_once_and_only_where_an_edit_needs_them(model):
    """Theirs keeps maps of self-attention, and of both halves of the batch."""
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    inversion = tiny.invert(model, x, c, frozenset({CROSS}))
    assert not inversion.observations[0].maps
    layers = [n for n, _ in model.unet.named_modules() if n.endswith("attn2")]
    for each in inversion.observations[1:]:
        assert sorted(each.maps) == sorted(layers) and not each.features
        assert all(len(maps) == 1 and not maps.requires_grad for maps in each.maps.values())
    recomputed = tiny.plan(1.0, (CrossAttention(),), cache_source=False)
    bare = tiny.invert(model, x, c)
    assert not any(each.maps for each in bare.observations)
    *_, last = edit(model, bare, c, c, recomputed)
    assert torch.equal(last.latents, x)


def test_patches_depend_on_the_seed_alone_and_images_need_not_be_square(model):
    """Theirs draws patches from a global generator, and takes the root of the pixels for a side."""
    x, c, c_edit = torch.randn(1, 4, 6, 10), model.embed(["a cat"]), model.embed(["a dog"])
    plan = tiny.plan(3.0, (Contrastive(50.0, patches=8),), seeds=(7,))
    inversion = tiny.invert(model, x, c, plan.cached_layers(4))
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        *_, last = edit(model, inversion, c, c_edit, plan)
        results.append(last.latents)
    assert torch.equal(*results)
