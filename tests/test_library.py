from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from conftest import gradient

import zerocon
from zerocon import api
from zerocon.nfe import counting
from zerocon.settings import Settings


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def picture():
    return gradient(90, 51)


def test_an_edit_has_the_size_of_its_source_and_everything_it_was_made_of(model, picture):
    edited = zerocon.edit(picture, model=model, to="dog")
    assert edited.picture.size == picture.size
    assert edited.caption == "a cat on a bench"
    assert edited.wording.target_caption == "a dog on a bench"
    assert edited.understanding.sentences >= 128
    assert edited.understanding.similarity is None
    assert any("no CLIP" in warning for warning in edited.understanding.warnings)
    assert edited.evaluations.total == pytest.approx(5 + 4 * 3 + 4 * 1.15)
    assert edited.inversion.latents.shape[0] == 5


def test_the_same_wish_gives_the_same_picture(model, picture):
    one, two = (zerocon.edit(picture, model=model, to="dog").picture for _ in range(2))
    assert one.tobytes() == two.tobytes()
    other = zerocon.edit(picture, model=model, to="bus").picture
    assert other.tobytes() != one.tobytes()


def test_no_strength_gives_back_what_the_vae_makes_of_the_picture(model, picture):
    from zerocon.image.transforms import fit, unfit

    settings = replace(model.settings, strength=0.0, remember=False)
    same = zerocon.edit(picture, model=model, to="dog", settings=settings).picture
    working = fit(picture, model.size, model.multiple)
    again = unfit(model.decode(model.encode(working.pixels))[0], working.frame)
    assert np.array_equal(np.asarray(same), np.asarray(again))


def test_a_kept_inversion_gives_the_same_edit_for_less(model, picture, tmp_path):
    kept = zerocon.invert(picture, model)
    first = zerocon.edit(picture, model=model, to="dog")
    second = zerocon.edit(picture, model=model, to="dog", inversion=kept)
    assert second.picture.tobytes() == first.picture.tobytes()
    assert second.evaluations.forwards == first.evaluations.forwards - 5
    kept.save(tmp_path / "kept.safetensors")
    loaded = zerocon.Inversion.load(tmp_path / "kept.safetensors")
    third = zerocon.edit(picture, model=model, to="dog", inversion=loaded)
    assert third.picture.tobytes() == first.picture.tobytes()
    assert third.evaluations.forwards == first.evaluations.forwards - 1


def test_an_inversion_of_something_else_is_refused(model, picture):
    kept = zerocon.invert(picture, model)
    with pytest.raises(ValueError, match="another picture"):
        zerocon.edit(gradient(90, 52), model=model, to="dog", inversion=kept)
    with pytest.raises(ValueError, match="tiny"):
        zerocon.edit(picture, model=tiny.model(seed=1), to="dog", inversion=kept)
    with pytest.raises(ValueError, match="a cat on a bench"):
        zerocon.edit(picture, model=model, to="dog", inversion=kept, caption="a bus")


def test_a_caption_needs_no_captioner(picture):
    def nobody():
        raise zerocon.MissingError("no captioner here")

    model = tiny.model()
    model._load_captioner = nobody
    with pytest.raises(zerocon.MissingError):
        zerocon.edit(picture, model=model, to="dog")
    edited = zerocon.edit(picture, model=model, to="dog", caption="a cat in a box")
    assert edited.wording.target_caption == "a dog in a box"


def test_what_was_understood_is_told_before_time_is_spent(model, picture):
    heard = []
    with counting() as spent:

        def announce(understanding):
            heard.append((understanding, spent.forwards))

        steps = []
        zerocon.edit(
            picture,
            model=model,
            to="dog",
            announce=announce,
            progress=lambda done, total: steps.append((done, total)),
        )
    assert [forwards for _, forwards in heard] == [0]
    assert steps[-1] == (9, 9) and [done for done, _ in steps] == list(range(1, 10))


@pytest.mark.parametrize("sentences", ["bank", "caption", "mean"])
def test_directions_from_the_bank_the_caption_or_both(model, picture, sentences):
    settings = replace(model.settings, sentences=sentences)
    understood = api.understand(picture, model, to="dog", settings=settings)
    caption = model.embed(["a dog on a bench"]).tokens - model.embed(["a cat on a bench"]).tokens
    assert torch.allclose(understood.direction, caption, atol=1e-6) == (sentences == "caption")


def test_a_whole_target_caption_is_a_wish_too(model, picture):
    edited = zerocon.edit(picture, model=model, to_caption="a dog on a red sofa")
    assert edited.wording.target_caption == "a dog on a red sofa"


def test_a_wish_for_nothing_is_refused(model, picture):
    with pytest.raises(ValueError):
        zerocon.edit(picture, model=model)


def test_a_weak_direction_is_warned_of(model, picture, monkeypatch):
    monkeypatch.setattr(api, "WEAK", 1e9)
    understood = api.understand(picture, model, to="dog", settings=Settings(steps=4))
    assert any("weak" in warning for warning in understood.warnings)


def test_fingerprints_are_of_pixels_and_size():
    assert api.fingerprint(gradient(20, 30)) == api.fingerprint(gradient(20, 30))
    assert api.fingerprint(gradient(20, 30)) != api.fingerprint(gradient(30, 20))
