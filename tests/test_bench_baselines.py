"""pix2pix-zero as others ship it, on a model of a few thousand weights."""

import pytest
import tiny
import torch

from zerocon.bench import tasks
from zerocon.bench.baselines import Pix2PixZero
from zerocon.bench.inputs import MethodSettings, SourceBatch, TaskSource
from zerocon.nfe import BACKWARD
from zerocon.settings import Settings

ASKED = MethodSettings(Settings(guidance_scale=(4.0, 2.0)))


@pytest.fixture(scope="module")
def task():
    return tasks.choose("validation", 1)[0]


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def run(model, task, **options):
    batch = SourceBatch([TaskSource(task, model, told=True)])
    return Pix2PixZero(steps=3, **options)(batch, ASKED)[0]


def test_a_step_costs_seven_forwards_and_two_backwards(model, task):
    """One to invert, two to remember, two to guide (and back), two to step."""
    assert run(model, task).evaluations == pytest.approx(3 * (7 + 2 * BACKWARD))


def test_the_same_seed_the_same_picture(model, task):
    torch.manual_seed(0)
    first = run(model, task)
    torch.manual_seed(1)
    second = run(model, task)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.image.size == (tasks.SIZE, tasks.SIZE)
    assert first.caption and first.target_caption != first.caption


def test_amount_and_scale_matter(model, task):
    images = [
        run(model, task, **options).image.tobytes()
        for options in ({}, {"amount": 100.0}, {"guidance_scale": 9.0}, {"guidance_scale": 3.0})
    ]
    assert images[0] == images[3], "the middle of 4..2"
    assert len(set(images)) == 3


def test_the_model_is_given_back_as_it_was(model, task):
    processors, pass_hooks = model.unet.attn_processors, model.unet._forward_pre_hooks
    run(model, task)
    assert model.unet.attn_processors == processors and not pass_hooks
    assert not any(p.requires_grad or p.grad is not None for p in model.unet.parameters())


def test_its_recipe_says_what_it_was_run_with():
    recipe = Pix2PixZero(amount=0.3).recipe(ASKED)
    assert (recipe["amount"], recipe["guidance_scale"], recipe["steps"]) == (0.3, 3.0, 50)
    with pytest.raises(ValueError, match="needs a scale above 1, not 1"):
        Pix2PixZero(guidance_scale=1.0).recipe(ASKED)
