from dataclasses import replace

import pytest
import tiny
import torch
from safetensors.torch import save_file

from zerocon.inversion import DDIM
from zerocon.model.attention import CROSS, DECODER_SELF
from zerocon.nfe import count_evaluations
from zerocon.observation import Observer
from zerocon.trajectory import Inversion


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def inversion(model):
    c, schedule = model.embed(["a cat"]), model.schedule(5)
    path = DDIM()(Observer(model, c, {CROSS}), torch.randn(1, 4, 8, 6), schedule)
    return Inversion.along(
        path,
        schedule=schedule,
        captions=("a cat",),
        model="tiny",
        images=("abc",),
        recipe={"inverter": "ddim"},
        layer_patterns=frozenset({CROSS}),
    )


def test_a_path_has_a_place_and_an_eps_at_every_level(inversion):
    assert inversion.latents.shape == inversion.eps.shape == (6, 1, 4, 8, 6)
    assert not inversion.seen[0].maps and len(inversion.seen[5].maps) > 0
    assert not any(seen.x.requires_grad for seen in inversion.seen)


def test_inverting_takes_one_evaluation_a_level(model):
    with count_evaluations() as spent:
        observer = Observer(model, model.embed(["x"]))
        list(DDIM()(observer, torch.randn(1, 4, 8, 8), model.schedule(7)))
    assert (spent.forwards, spent.backwards) == (8, 0)


def test_a_saved_inversion_comes_back_with_its_recipe_but_without_maps(inversion, tmp_path):
    path = tmp_path / "cat.safetensors"
    inversion.save(path)
    back = Inversion.load(path)
    assert torch.equal(back.latents, inversion.latents) and torch.equal(back.eps, inversion.eps)
    bare = replace(
        inversion, latents=back.latents, eps=back.eps, seen=(), layer_patterns=frozenset()
    )
    assert (back.schedule, back.captions, back.recipe) == (
        bare.schedule,
        bare.captions,
        bare.recipe,
    )
    assert back.seen == ()


def test_rows_are_taken_apart_and_put_together(model):
    layer_patterns, schedule = frozenset({CROSS, DECODER_SELF}), model.schedule(3)
    c = model.embed(["a cat", "a bus in town", "a dog"])
    path = DDIM()(Observer(model, c, layer_patterns), torch.randn(3, 4, 8, 6), schedule)
    said = {"captions": ("a", "b", "c"), "images": ("x", "y", "z"), "recipe": {"seed": "0"}}
    whole = Inversion.along(
        path, schedule=schedule, model="tiny", layer_patterns=layer_patterns, **said
    )
    parts = [whole.rows(slice(i, i + 1)) for i in range(3)]
    again = Inversion.together(parts)
    assert torch.equal(again.latents, whole.latents) and torch.equal(again.eps, whole.eps)
    assert (again.captions, again.images) == (whole.captions, whole.images)
    assert again.layer_patterns == layer_patterns and len(again.seen) == 4
    for ours, theirs in zip(again.seen, whole.seen, strict=True):
        assert ours.ids == theirs.ids and list(ours.maps) == list(theirs.maps)
        assert all(torch.equal(ours.maps[name], theirs.maps[name]) for name in ours.maps)
        pairs = [(ours.features[name], theirs.features[name]) for name in theirs.features]
        assert all(torch.equal(one, other) for one, other in pairs)
    bare = replace(parts[0], seen=(), layer_patterns=frozenset())
    mixed = Inversion.together([bare, *parts[1:]])
    assert torch.equal(mixed.latents, whole.latents)
    assert mixed.seen == () and not mixed.layer_patterns, (
        "what only some have seen is looked at again"
    )


@pytest.mark.parametrize("other", [{"model": "other"}, {"recipe": {"inverter": "fixed-point"}}, {}])
def test_what_does_not_belong_together_stays_apart(inversion, other):
    wide = {"latents": torch.zeros(6, 1, 4, 8, 8)}
    with pytest.raises(ValueError, match="stay apart"):
        Inversion.together([inversion, replace(inversion, **(other or wide))])


def test_nothing_is_overwritten_unasked(inversion, tmp_path):
    path = tmp_path / "cat.safetensors"
    inversion.save(path)
    with pytest.raises(FileExistsError):
        inversion.save(path)
    inversion.save(path, overwrite=True)


def test_other_files_are_refused(tmp_path):
    text = tmp_path / "cat.txt"
    text.write_text("a cat")
    foreign = tmp_path / "weights.safetensors"
    save_file({"latents": torch.zeros(1)}, foreign)
    for path in (text, foreign, tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(ValueError, match=path.name):
            Inversion.load(path)


def test_the_same_inversion_is_the_same_bytes(inversion, tmp_path):
    for name in "abcdef":
        inversion.save(tmp_path / name)
    assert len({(tmp_path / name).read_bytes() for name in "abcdef"}) == 1
