import shutil

import pytest
import tiny
import torch
from conftest import gradient

import zerocon
from zerocon.errors import MissingError
from zerocon.evaluation_count import count_evaluations
from zerocon.model.loading import find
from zerocon.model.runtime import pick_device


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def test_sizes_follow_the_architecture(model):
    assert (model.size, model.multiple) == (64, 16)
    latents = model.encode(torch.rand(1, 3, 64, 48) * 2 - 1)
    assert latents.shape == (1, 4, 8, 6) and latents.dtype == torch.float32
    assert model.decode(latents).shape == (1, 3, 64, 48)


def test_encoding_needs_no_random_numbers(model):
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    torch.manual_seed(1)
    first = model.encode(pixels)
    torch.manual_seed(2)
    assert torch.equal(first, model.encode(pixels))


def test_texts_are_padded_and_keep_their_token_ids(model):
    c = model.embed(["a cat", "dog", ""])
    assert c.tokens.shape == (3, tiny.POSITIONS, 16) and len(c) == 3
    assert [len(ids) for ids in c.ids] == [6, 5, 2]
    assert c.encoder == tiny.model().embed(["x"]).encoder != tiny.model(seed=1).embed(["x"]).encoder


def test_many_sentences_are_the_same_as_each_alone(model):
    many = model.embed([f"cat {'a' * (i % 9)}" for i in range(130)]).tokens
    assert torch.allclose(many[77], model.embed([f"cat {'a' * (77 % 9)}"]).tokens[0], atol=1e-6)


def test_a_predicted_velocity_is_converted_to_eps():
    velocity, epsilon = tiny.model("v_prediction"), tiny.model()
    x, t = torch.randn(1, 4, 8, 8), 400
    c = epsilon.embed(["a cat"])
    v = epsilon.eps(x, t, c)  # same weights: the same raw answer, read as v
    a = float(velocity.scheduler.alphas_cumprod[t])
    x0 = a**0.5 * x - (1 - a) ** 0.5 * v
    assert torch.allclose(velocity.eps(x, t, c), (x - a**0.5 * x0) / (1 - a) ** 0.5, atol=1e-4)


def test_unknown_predictions_are_refused():
    with pytest.raises(ValueError, match="sample"):
        tiny.model("sample")


def test_passes_are_counted_per_image_and_in_every_open_counter(model):
    x, c = torch.randn(3, 4, 8, 8), model.embed(["a", "b", "c"])
    with count_evaluations() as outer:
        model.eps(x, 10, c)
        with count_evaluations() as inner:
            leaf = x.clone().requires_grad_()
            eps = model.eps(leaf, 10, c)
            assert inner.backwards == 0
        torch.autograd.grad(eps.sum(), leaf)
    assert (outer.forwards, outer.backwards) == (6, 3)
    assert (inner.forwards, inner.backwards) == (3, 3)
    assert inner.total == pytest.approx(3 + 1.15 * 3)


@pytest.mark.parametrize("steps", [1, 3, 50, 999])
def test_a_schedule_has_any_number_of_steps(model, steps):
    schedule = model.schedule(steps)
    assert schedule.steps == steps and schedule.times[0] == 0
    assert list(schedule.alphas) == sorted(schedule.alphas, reverse=True)


def test_fifty_steps_have_the_timesteps_of_stable_diffusion(model):
    assert model.schedule(50).times[:3] == (0, 1, 21) and model.schedule(50).times[-1] == 981


@pytest.mark.parametrize("steps", [0, 1000])
def test_impossible_steps_are_refused(model, steps):
    with pytest.raises(ValueError, match="between 1 and 999"):
        model.schedule(steps)


def test_missing_weights_name_the_command_that_gets_them_and_the_alternative():
    with pytest.raises(
        MissingError, match=r"zerocon models pull someone/something, .*--model mini"
    ):
        find("someone/something")
    with pytest.raises(MissingError, match="diffusers directory"):
        find("no-such-model")


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(MissingError, match=r"model_index\.json"):
        find(str(tmp_path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_missing_devices_are_named():
    with pytest.raises(MissingError, match="there are: cpu"):
        pick_device("cuda")
    with pytest.raises(ValueError, match="there are"):
        pick_device("abacus")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("models") / "mine")


def test_a_folder_gives_the_model_that_was_saved(folder, model):
    loaded = zerocon.load(str(folder), device="cpu")
    x = torch.randn(1, 4, 8, 8)
    c = model.embed(["a cat"])
    assert torch.allclose(loaded.eps(x, 300, c), model.eps(x, 300, c), atol=1e-6)
    assert loaded.embed(["a cat"]).ids == c.ids and loaded.embed(["a"]).encoder == c.encoder
    assert loaded.scorer is None
    with pytest.raises(MissingError, match=r"zerocon models pull Salesforce/blip.*--caption"):
        loaded.captioner.describe([gradient(32, 32)])


def test_a_hub_id_is_found_in_the_cache_and_nowhere_else(folder, tmp_path, monkeypatch):
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / "abc"
    shutil.copytree(folder, snapshot)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert find("someone/tiny") == snapshot
    assert zerocon.load("someone/tiny", device="cpu").name == "someone/tiny"


def test_an_incomplete_folder_is_named(folder, tmp_path):
    half = shutil.copytree(folder, tmp_path / "half")
    shutil.rmtree(half / "unet")
    with pytest.raises(MissingError, match="half is not complete"):
        zerocon.load(str(half), device="cpu")


def test_a_captioner_or_clip_given_by_name_must_exist(folder):
    loaded = zerocon.load(str(folder), device="cpu", captioner="no/blip", clip="no/clip")
    with pytest.raises(MissingError, match="no/blip"):
        loaded.captioner.describe([gradient(32, 32)])
    with pytest.raises(MissingError, match="no/clip"):
        loaded.scorer.similarity(gradient(32, 32), ["a cat"])


def test_measured_defaults_lie_over_the_papers(folder, tmp_path):
    tuned = shutil.copytree(folder, tmp_path / "tuned")
    (tuned / "zerocon.json").write_text(
        '{"guidance_scale": 2.0, "guidance": ["contrastive:weight=1"]}'
    )
    settings = zerocon.load(str(tuned), device="cpu").settings
    assert (settings.guidance_scale, settings.guidance, settings.steps) == (
        2.0,
        ("contrastive:weight=1",),
        24,
    )


def test_half_precision_networks_have_float32_edges(folder):
    loaded = zerocon.load(str(folder), device="cpu", dtype="bfloat16")
    x = loaded.encode(torch.zeros(1, 3, 64, 64))
    c = loaded.embed(["a cat"])
    for values in (x, c.tokens, loaded.eps(x, 5, c), loaded.decode(x)):
        assert values.dtype == torch.float32
