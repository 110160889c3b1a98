"""pix2pix-zero in diffusers' implementation, on a model of a few thousand weights."""

import pytest
import tiny
import torch

from zerocon.bench import tasks
from zerocon.bench.baselines import Pix2PixZero
from zerocon.bench.inputs import MethodSettings, SourceBatch, TaskSource
from zerocon.evaluation_count import BACKWARD
from zerocon.settings import Settings

SETTINGS = MethodSettings(Settings(guidance_scale=(4.0, 2.0)))


@pytest.fixture(scope="module")
def task():
    return tasks.choose("validation", 1)[0]


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def run(model, task, **options):
    batch = SourceBatch([TaskSource(task, model, true_captions=True)])
    return Pix2PixZero(steps=3, **options)(batch, SETTINGS)[0]


def test_a_step_costs_seven_forward_and_two_backward_passes(model, task):
    """Forward: 1 for inversion, 2 for the reference, 2 for guidance, 2 for the step."""
    assert run(model, task).evaluations == pytest.approx(3 * (7 + 2 * BACKWARD))


def test_the_same_seed_gives_the_same_image(model, task):
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
    assert images[0] == images[3], "the mean of 4 and 2"
    assert len(set(images)) == 3


def test_the_model_is_restored(model, task):
    processors, pass_hooks = model.unet.attn_processors, model.unet._forward_pre_hooks
    run(model, task)
    assert model.unet.attn_processors == processors and not pass_hooks
    assert not any(p.requires_grad or p.grad is not None for p in model.unet.parameters())


def test_its_recipe_has_the_options_of_the_run():
    recipe = Pix2PixZero(amount=0.3).recipe(SETTINGS)
    assert (recipe["amount"], recipe["guidance_scale"], recipe["steps"]) == (0.3, 3.0, 50)
    with pytest.raises(ValueError, match="needs a guidance scale above 1, not 1"):
        Pix2PixZero(guidance_scale=1.0).recipe(SETTINGS)
