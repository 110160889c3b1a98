from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from conftest import gradient

import zerocon
from zerocon import api
from zerocon import request as request_module
from zerocon.image.transforms import prepare, unfit
from zerocon.nfe import count_evaluations
from zerocon.settings import Settings
from zerocon.storage.hashing import image_hash


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def image():
    return gradient(90, 51)


def test_an_edit_has_the_size_of_its_source_and_everything_it_depends_on(model, image):
    edited = zerocon.edit(image, model=model, to="dog")
    assert edited.image.size == image.size
    assert edited.caption == "a cat on a bench"
    assert edited.target_caption == "a dog on a bench"
    assert edited.request.sentences >= 128
    assert edited.request.similarity is None
    assert any("no CLIP" in warning for warning in edited.request.warnings)
    assert edited.evaluations.total == pytest.approx(5 + 4 * 3 + 4 * 1.15)
    assert edited.inversion.latents.shape[0] == 5


def test_the_same_prompt_gives_the_same_image(model, image):
    one, two = (zerocon.edit(image, model=model, to="dog").image for _ in range(2))
    assert one.tobytes() == two.tobytes()
    other = zerocon.edit(image, model=model, to="bus").image
    assert other.tobytes() != one.tobytes()


def test_strength_zero_returns_the_image_encoded_and_decoded(model, image):
    settings = replace(model.settings, strength=0.0, cache_source=False)
    same = zerocon.edit(image, model=model, to="dog", settings=settings).image
    prepared = prepare(image, model.size, model.multiple)
    again = unfit(model.decode(model.encode(prepared.pixels))[0], prepared.frame)
    assert np.array_equal(np.asarray(same), np.asarray(again))


def test_a_given_inversion_gives_the_same_edit_with_fewer_evaluations(model, image, tmp_path):
    inversion = zerocon.invert(image, model)
    first = zerocon.edit(image, model=model, to="dog")
    second = zerocon.edit(image, model=model, to="dog", inversion=inversion)
    assert second.image.tobytes() == first.image.tobytes()
    assert second.evaluations.forwards == first.evaluations.forwards - 5
    inversion.save(tmp_path / "cat.safetensors")
    loaded = zerocon.Inversion.load(tmp_path / "cat.safetensors")
    third = zerocon.edit(image, model=model, to="dog", inversion=loaded)
    assert third.image.tobytes() == first.image.tobytes()
    assert third.evaluations.forwards == first.evaluations.forwards - 1


def test_an_inversion_of_another_image_model_or_caption_is_rejected(model, image):
    inversion = zerocon.invert(image, model)
    with pytest.raises(ValueError, match="another image"):
        zerocon.edit(gradient(90, 52), model=model, to="dog", inversion=inversion)
    with pytest.raises(ValueError, match="tiny"):
        zerocon.edit(image, model=tiny.model(seed=1), to="dog", inversion=inversion)
    with pytest.raises(ValueError, match="a cat on a bench"):
        zerocon.edit(image, model=model, to="dog", inversion=inversion, caption="a bus")


def test_a_given_caption_needs_no_captioner(image):
    def missing():
        raise zerocon.MissingError("no captioner here")

    model = tiny.model()
    model._load_captioner = missing
    with pytest.raises(zerocon.MissingError):
        zerocon.edit(image, model=model, to="dog")
    edited = zerocon.edit(image, model=model, to="dog", caption="a cat in a box")
    assert edited.target_caption == "a dog in a box"


def test_the_request_is_reported_before_the_first_evaluation(model, image):
    requests = []
    with count_evaluations() as spent:

        def on_request(request):
            requests.append((request, spent.forwards))

        steps = []
        zerocon.edit(
            image,
            model=model,
            to="dog",
            on_request=on_request,
            progress=lambda done, total: steps.append((done, total)),
        )
    assert [forwards for _, forwards in requests] == [0]
    assert steps[-1] == (9, 9) and [done for done, _ in steps] == list(range(1, 10))


@pytest.mark.parametrize("sentences", ["bank", "caption", "mean"])
def test_directions_from_the_bank_the_caption_or_both(model, image, sentences):
    settings = replace(model.settings, direction_from=sentences)
    request = api.parse_request(image, model, to="dog", settings=settings)
    caption = model.embed(["a dog on a bench"]).tokens - model.embed(["a cat on a bench"]).tokens
    assert torch.allclose(request.direction.tokens, caption, atol=1e-6) == (sentences == "caption")


def test_a_whole_target_caption_is_a_prompt(model, image):
    edited = zerocon.edit(image, model=model, to_caption="a dog on a red sofa")
    assert edited.target_caption == "a dog on a red sofa"


def test_an_edit_without_a_prompt_is_rejected(model, image):
    with pytest.raises(ValueError):
        zerocon.edit(image, model=model)


def test_a_weak_direction_gives_a_warning(model, image, monkeypatch):
    monkeypatch.setattr(request_module, "WEAK", 1e9)
    request = api.parse_request(image, model, to="dog", settings=Settings(steps=4))
    assert any("weak" in warning for warning in request.warnings)


def test_image_hashes_are_of_pixels_and_size():
    assert image_hash(gradient(20, 30)) == image_hash(gradient(20, 30))
    assert image_hash(gradient(20, 30)) != image_hash(gradient(30, 20))
