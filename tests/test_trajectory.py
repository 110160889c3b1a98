import json
from dataclasses import replace

import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from zerocon.activations import Observer
from zerocon.errors import FileFormatError
from zerocon.evaluation_count import count_evaluations
from zerocon.inversion import DDIM
from zerocon.model.attention import CROSS, DECODER_SELF
from zerocon.trajectory import Inversion, layers_by_time


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def inversion(model):
    c, schedule = model.embed(["a cat"]), model.schedule(5)
    return Inversion.from_observations(
        DDIM()(Observer(model, c, {CROSS}), torch.randn(1, 4, 8, 6), schedule),
        schedule=schedule,
        captions=("a cat",),
        model="tiny",
        images=("abc",),
        recipe={"inverter": "ddim"},
        layer_patterns=(frozenset(), *[frozenset({CROSS})] * 5),
    )


def test_a_trajectory_has_latents_and_predicted_noise_at_every_level(inversion):
    assert inversion.latents.shape == inversion.eps.shape == (6, 1, 4, 8, 6)
    assert not inversion.observations[0].maps and len(inversion.observations[5].maps) > 0
    assert not any(each.x.requires_grad for each in inversion.observations)


def test_inverting_takes_one_evaluation_per_level(model):
    with count_evaluations() as spent:
        observer = Observer(model, model.embed(["x"]))
        list(DDIM()(observer, torch.randn(1, 4, 8, 8), model.schedule(7)))
    assert (spent.forwards, spent.backwards) == (8, 0)


def test_a_saved_inversion_loads_with_its_recipe_but_without_maps(inversion, tmp_path):
    path = tmp_path / "cat.safetensors"
    inversion.save(path)
    back = Inversion.load(path)
    assert torch.equal(back.latents, inversion.latents) and torch.equal(back.eps, inversion.eps)
    facts = (inversion.schedule, inversion.captions, inversion.recipe)
    assert (back.schedule, back.captions, back.recipe) == facts
    assert back.observations == () and back.layer_patterns == ()


def test_rows_can_be_split_and_joined(model):
    schedule, patterns = model.schedule(3), frozenset({CROSS, DECODER_SELF})
    layer_patterns = (frozenset(), frozenset({CROSS}), frozenset(), patterns)
    c = model.embed(["a cat", "a bus in town", "a dog"])
    observer = Observer(model, c, patterns, layers_by_time(schedule, layer_patterns))
    levels = DDIM()(observer, torch.randn(3, 4, 8, 6), schedule)
    facts = {"captions": ("a", "b", "c"), "images": ("x", "y", "z"), "recipe": {"seed": "0"}}
    whole = Inversion.from_observations(
        levels, schedule=schedule, model="tiny", layer_patterns=layer_patterns, **facts
    )
    parts = [whole.rows(slice(i, i + 1)) for i in range(3)]
    again = Inversion.cat(parts)
    assert torch.equal(again.latents, whole.latents) and torch.equal(again.eps, whole.eps)
    assert (again.captions, again.images) == (whole.captions, whole.images)
    assert again.layer_patterns == layer_patterns and len(again.observations) == 4
    for ours, theirs in zip(again.observations, whole.observations, strict=True):
        assert ours.ids == theirs.ids and list(ours.maps) == list(theirs.maps)
        assert all(torch.equal(ours.maps[name], theirs.maps[name]) for name in ours.maps)
        pairs = [(ours.features[name], theirs.features[name]) for name in theirs.features]
        assert all(torch.equal(one, other) for one, other in pairs)
    bare = parts[0].without_observations()
    mixed = Inversion.cat([bare, *parts[1:]])
    assert torch.equal(mixed.latents, whole.latents)
    assert mixed.observations == () and not mixed.layer_patterns, (
        "activations that only some have recorded are dropped"
    )


def test_an_inversion_with_fewer_layers_at_any_level_is_not_enough(inversion):
    cross = frozenset({CROSS})
    empty = frozenset()
    assert inversion.recorded((empty, *[cross] * 5)) and inversion.recorded((empty,) * 6)
    assert inversion.recorded((empty, cross, empty, empty, empty, cross))
    assert not inversion.recorded((empty, *[empty] * 4, frozenset({DECODER_SELF})))
    bare = inversion.without_observations()
    assert bare.recorded((empty,) * 6) and not bare.recorded((empty, cross, *[empty] * 4))


@pytest.mark.parametrize("other", [{"model": "other"}, {"recipe": {"inverter": "fixed-point"}}, {}])
def test_inversions_that_do_not_fit_cannot_be_joined(inversion, other):
    wide = {"latents": torch.zeros(6, 1, 4, 8, 8)}
    with pytest.raises(ValueError, match="cannot batch inversions"):
        Inversion.cat([inversion, replace(inversion, **(other or wide))])


def test_an_existing_file_is_only_overwritten_on_request(inversion, tmp_path):
    path = tmp_path / "cat.safetensors"
    inversion.save(path)
    with pytest.raises(FileExistsError):
        inversion.save(path)
    inversion.save(path, overwrite=True)


def test_other_files_are_rejected(tmp_path):
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


def equal_trajectories(one, other):
    """Equal in everything but the observations."""
    facts = ("schedule", "captions", "images", "model", "recipe")
    return (
        torch.equal(one.latents, other.latents)
        and torch.equal(one.eps, other.eps)
        and all(getattr(one, name) == getattr(other, name) for name in facts)
    )


def test_a_file_of_format_3_is_read_as_it_was_written(inversion, tmp_path):
    path = tmp_path / "cat.safetensors"
    inversion.save(path)
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["inversion"])
        assert set(file.keys()) == {"latents", "eps"}
    assert metadata["format"] == "zerocon.inversion/3"
    assert metadata["schedule"]["sigmas"] == list(inversion.schedule.sigmas)
    loaded = Inversion.load(path)
    assert equal_trajectories(loaded, inversion) and isinstance(loaded.images, tuple)
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("observations", [True, False])
def test_tensors_and_metadata_give_the_inversion_again(inversion, observations):
    tensors, line = inversion.to_tensors(observations=observations)
    again = Inversion.from_tensors(tensors, json.loads(line))
    assert equal_trajectories(again, inversion)
    assert again.layer_patterns == (inversion.layer_patterns if observations else ())
    assert again.observation_bytes == (inversion.observation_bytes if observations else 0)
    for one, other in zip(again.observations, inversion.observations, strict=observations):
        assert torch.equal(one.x, other.x) and torch.equal(one.eps, other.eps)
        assert one.ids == other.ids and list(one.maps) == list(other.maps)
        assert all(torch.equal(one.maps[name], other.maps[name]) for name in other.maps)


def test_an_older_format_is_rejected(inversion, tmp_path):
    tensors, line = inversion.to_tensors()
    older = line.replace("zerocon.inversion/3", "zerocon.inversion/2")
    path = tmp_path / "old.safetensors"
    save_file(
        {name: part.contiguous() for name, part in tensors.items()}, path, {"inversion": older}
    )
    with pytest.raises(FileFormatError, match=r"old\.safetensors"):
        Inversion.load(path)
