"""The classifiers of drawn images: vocabulary and file; their accuracy is on the model card."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zerocon import world
from zerocon.bench import classifiers
from zerocon.bench.classifiers import AttributeNetwork
from zerocon.errors import MissingError


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


def test_missing_classifiers(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="zerocon train mini"):
        classifiers.load(tmp_path / "none.safetensors")
