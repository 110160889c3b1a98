import pytest
import tiny
import torch

from zerocon.direction import between, mean_tokens, weight


def test_a_direction_is_the_difference_of_means_and_turns_with_its_sides():
    source, target = torch.randn(5, 8, 4), torch.randn(7, 8, 4)
    step = between(source, target)
    assert torch.allclose(step, target.mean(0) - source.mean(0))
    assert torch.equal(between(target, source), -step)
    assert between(source, source).abs().max() == 0


def test_sentences_are_encoded_once_per_model(monkeypatch):
    model, asked = tiny.model(), []
    embed = model.embed
    monkeypatch.setattr(model, "embed", lambda sentences: asked.append(1) or embed(sentences))
    first = mean_tokens(model, ["a cat", "a dog"])
    assert torch.equal(first, mean_tokens(model, ["a cat", "a dog"])) and len(asked) == 1
    assert not torch.equal(first, mean_tokens(model, ["a dog", "a hen"]))
    other = tiny.model(seed=1)
    assert not torch.equal(first, mean_tokens(other, ["a cat", "a dog"]))


def test_weight_is_relative_to_the_caption():
    c = tiny.model().embed(["a cat"])
    assert weight(0.5 * c.tokens, c) == pytest.approx(0.5)
    assert weight(0 * c.tokens, c) == 0
