"""The judges of drawn pictures: their vocabulary, their file; how good they are is on the card."""

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


def test_a_picture_of_any_size_is_read_in_the_worlds_own_words(network: AttributeNetwork) -> None:
    images = [world.render(world.sample(seed), size) for seed, size in ((1, 128), (2, 64))]
    read = classifiers.Classifiers(network).read(images)
    assert len(read) == 2
    for answers in read:
        assert set(answers) == set(world.VALUES)
        assert all(word in world.VALUES[name] for name, word in answers.items())
    assert classifiers.Classifiers(network).read([]) == []


def test_a_picture_is_read_the_same_in_any_company(network: AttributeNetwork) -> None:
    images = [world.render(world.sample(seed)) for seed in range(3)]
    panel = classifiers.Classifiers(network)
    assert panel.read(images)[2] == panel.read(images[2:])[0]


def test_the_file_is_small_and_says_the_same(network: AttributeNetwork, tmp_path: Path) -> None:
    network.train()(torch.randn(4, 3, 128, 128))  # running means that are not those of the start
    path = tmp_path / "judges.safetensors"
    classifiers.save(network, path)
    assert path.stat().st_size < 2e6
    x = torch.rand(2, 3, 128, 128) * 2 - 1
    kept, ours = classifiers.load(path).network(x), network.eval()(x)
    assert all(torch.allclose(kept[name], ours[name], atol=2e-2) for name in world.VALUES)


def test_judges_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="zerocon train mini"):
        classifiers.load(tmp_path / "none.safetensors")
