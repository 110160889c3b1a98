"""The classifiers of drawn images: vocabulary and file; their accuracy is on the model card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file

from zerocon import world
from zerocon.bench import classifiers
from zerocon.bench.classifiers import AttributeNetwork
from zerocon.bench.tasks import choose
from zerocon.errors import FileFormatError, MissingError


@pytest.fixture
def network() -> AttributeNetwork:
    return AttributeNetwork().eval()


def test_images_of_any_size_get_values_of_the_world(network: AttributeNetwork) -> None:
    images = [world.render(world.sample(seed), size) for seed, size in ((1, 128), (2, 64))]
    predictions = classifiers.Classifiers(network).read(images)
    assert len(predictions) == 2
    for prediction in predictions:
        assert set(prediction) == set(world.VALUES)
        assert all(value in world.VALUES[name] for name, value in prediction.items())
    assert classifiers.Classifiers(network).read([]) == []


def test_a_prediction_does_not_depend_on_the_batch(network: AttributeNetwork) -> None:
    images = [world.render(world.sample(seed)) for seed in range(3)]
    trained = classifiers.Classifiers(network)
    assert trained.read(images)[2] == trained.read(images[2:])[0]


def test_the_file_is_small_and_gives_the_same_logits(
    network: AttributeNetwork, tmp_path: Path
) -> None:
    network.train()(torch.randn(4, 3, 128, 128))  # running means other than the initial ones
    path = tmp_path / "classifiers.safetensors"
    classifiers.save(network, path)
    assert path.stat().st_size < 2e6
    x = torch.rand(2, 3, 128, 128) * 2 - 1
    loaded, saved = classifiers.load(path).network(x), network.eval()(x)
    assert all(torch.allclose(loaded[name], saved[name], atol=2e-2) for name in world.VALUES)


def test_a_value_without_enough_probability_is_unclear(network: AttributeNetwork) -> None:
    image = world.render(world.sample(1))
    with torch.no_grad():
        rows = network.probabilities(classifiers._pixels(image)[None])
    best = torch.stack([row.max() for row in rows.values()])
    for offset in (-1e-3, 1e-3):
        network.thresholds.copy_(best)
        network.thresholds[0] += offset
        network.thresholds[1:] -= 1e-3
        (prediction,) = classifiers.Classifiers(network).read([image])
        assert (prediction["kind"] == classifiers.UNCLEAR) == (offset > 0)
        assert classifiers.UNCLEAR not in list(prediction.values())[1:]


def test_margins_are_differences_of_logits(network: AttributeNetwork) -> None:
    images = [world.render(world.sample(seed)) for seed in range(3)]
    pairs = {"kind": ("dog", "cat"), "time": ("night", "rain")}
    trained = classifiers.Classifiers(network)
    with torch.no_grad():
        x = torch.stack([classifiers._pixels(image) for image in images])
        logits = network.mean_logits(x)
        views = network.mean_logits(x.flip(3))
    for i, margins in enumerate(trained.margins(images, pairs)):
        assert set(margins) == set(pairs)
        for name, (value, other) in pairs.items():
            values = world.VALUES[name]
            row = logits[name][i]
            wanted = float(row[values.index(value)] - row[values.index(other)])
            assert margins[name] == pytest.approx(wanted, abs=1e-5)
        swapped = trained.margins(images[i : i + 1], {"kind": ("cat", "dog")})[0]["kind"]
        assert swapped == pytest.approx(-margins["kind"], abs=1e-4)
    assert torch.allclose(views["kind"], logits["kind"], atol=1e-4)  # mirrored views are among them
    assert trained.margins([], pairs) == []


def test_the_margin_of_a_change_grows_from_the_source_to_the_exact_result() -> None:
    trained, clear = classifiers.load(), []
    for task in choose("validation", 4, skip=60, kinds=("object", "add", "place")):
        pairs = {name: (after, before) for name, (before, after) in task.changed.items()}
        halves = Image.blend(task.image, task.truth, 0.5)
        source, half, exact = trained.margins([task.image, halves, task.truth], pairs)
        clear += [source[name] < half[name] < exact[name] for name in pairs]
        assert all(source[name] < exact[name] for name in pairs)
    assert np.mean(clear) > 0.8


def test_the_shipped_classifiers_read_clean_scenes_and_no_shapeless_ones() -> None:
    trained = classifiers.load()
    scenes = [world.sample(seed) for seed in world.VALIDATION[2000:2060]]
    correct = [
        prediction == world.truth(scene)
        for scene, prediction in zip(
            scenes, trained.read([world.render(scene) for scene in scenes]), strict=True
        )
    ]
    assert sum(correct) >= 56
    shapeless = [without_shape(scene) for scene in scenes]
    unclear = [p["kind"] == classifiers.UNCLEAR for p in trained.read(shapeless)]
    assert sum(unclear) >= 50


def without_shape(scene: world.Scene) -> Image.Image:
    """The scene with the pixels of the subject in random order, then blurred."""
    pixels, mask = np.array(world.render(scene)), world.masks(scene)["subject"]
    pixels[mask] = np.random.default_rng(0).permutation(pixels[mask])
    image = Image.fromarray(pixels)
    return Image.composite(image.filter(ImageFilter.GaussianBlur(3)), image, Image.fromarray(mask))


def test_missing_classifiers(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="zerocon train mini"):
        classifiers.load(tmp_path / "none.safetensors")


def test_classifiers_with_other_layers_are_refused(
    network: AttributeNetwork, tmp_path: Path
) -> None:
    weights = {n: w for n, w in network.state_dict().items() if n != "thresholds"}
    save_file(weights, tmp_path / "old.safetensors")
    with pytest.raises(FileFormatError, match="has no thresholds"):
        classifiers.load(tmp_path / "old.safetensors")
