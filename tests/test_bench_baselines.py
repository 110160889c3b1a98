"""diffusers' pipelines, on models of few weights."""

import pytest
import tiny
import torch

from zerocon.bench import tasks
from zerocon.bench.baselines import ImageToImage, LEditsPP, Pix2PixZero
from zerocon.bench.inputs import MethodSettings, SourceBatch, TaskSource
from zerocon.bench.random_weights import SHAPES, random_model
from zerocon.evaluation_count import BACKWARD
from zerocon.settings import Settings

SETTINGS = MethodSettings(Settings(guidance_scale=(4.0, 2.0), direction_from="bank"))


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


@pytest.fixture(scope="module", params=["sd1", "sd2"])
def timed(request):
    """Two scenes for a model with the blocks of a released one, which LEDITS++ reads maps of."""
    model = random_model(SHAPES[request.param].tiny(), torch.device("cpu"), torch.float32)
    tasks_ = tasks.choose("validation", 2)[:2]
    return SourceBatch([TaskSource(each, model, true_captions=True) for each in tasks_])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers' scheduler
@pytest.mark.parametrize(
    ("method", "evaluations"),
    [(LEditsPP(steps=4), 4 * 3), (ImageToImage(steps=5), 4 * 2)],
    ids=["ledits++", "img2img"],
)
def test_pipelines_for_timing_edit_and_are_counted(timed, method, evaluations):
    unet = timed.model.unet
    processors, settings = unet.attn_processors, MethodSettings(timed.model.settings)
    first, second = method(timed, settings), method(timed, settings)
    for result, source in zip(first, timed.sources, strict=True):
        assert result.evaluations == evaluations and result.seconds > 0
        assert result.caption == source.caption != result.target_caption
        assert result.image.size == source.image.size
        assert result.image.tobytes() != source.reconstruction.tobytes()
    images = [[each.image.tobytes() for each in results] for results in (first, second)]
    assert images[0] == images[1] and len(set(images[0])) == 2
    assert unet.attn_processors == processors and not unet._forward_pre_hooks
