"""Training of the matcher: what its losses teach, its measures, and a run of the stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from zerocon.exemplar.correspondence import correspond
from zerocon.exemplar.encoders import EncoderOutput, Matcher, MatcherConfig
from zerocon.training.matcher import MatcherStage, colors, flipped, load, measure
from zerocon.training.triplets import CONDITIONS, TripletBatch, TripletSampler, TripletsStage
from zerocon.training.workspace import Workspace
from zerocon.world import CLASSES

GRID = (8, 8)
WORK = Workspace(Path())
SMALL = MatcherConfig(stem=16, width=32, inner=16, dilations=(1, 2), features=16, pooled=16)


def squares(count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Conditions, exemplars and targets: squares on a ground, two colors for each triplet."""
    places = rng.integers(0, 5, (2, count, 2)) * 8
    drawn = torch.from_numpy(rng.uniform(-1, 1, (count, 2, 3, 1, 1)).astype(np.float32))
    masks = torch.zeros(2, count, 1, 64, 64)
    for half in range(2):
        for i, (y, x) in enumerate(places[half]):
            masks[half, i, :, y : y + 32, x : x + 32] = 1
    target, exemplar = (mask * drawn[:, 0] + (1 - mask) * drawn[:, 1] for mask in masks)
    return masks[0].expand(-1, 3, -1, -1) * 2 - 1, exemplar, target


def accuracy(network: Matcher, count: int = 64) -> tuple[float, float]:
    """Share of tokens matched to their own color, and of those that have it at their position."""
    condition, exemplar, target = squares(count, np.random.default_rng(10**6))
    c, r = network.condition_encoder(condition), network.image_encoder(exemplar)
    values, wanted = colors(exemplar), colors(target)
    found = correspond(c.tokens, r.tokens, values, temperature=0.1, grid_c=GRID, grid_r=GRID)
    matched = values.gather(1, found.match[..., None].expand(-1, -1, 3))
    right, position = ((part - wanted).abs().amax(-1) < 1e-4 for part in (matched, values))
    return float(right.float().mean()), float(position.float().mean())


def test_squares_are_matched_after_a_short_training() -> None:
    stage, network = MatcherStage(temperature=0.2), Matcher(SMALL)
    adam = torch.optim.Adam(network.parameters(), 8e-3)
    for step in range(40):
        terms = stage.terms(network, WORK, *squares(8, np.random.default_rng(step)))
        adam.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        adam.step()
    right, position = accuracy(network.eval())
    assert position < 0.75 and right > position + 0.65 * (1 - position)


def test_a_weight_of_zero_removes_a_term() -> None:
    network, batch = Matcher(SMALL), squares(4, np.random.default_rng(0))
    names = {"image_warp": "image_warp", "cycle": "cycle"}
    names |= {"global_weight": "global", "local_weight": "local"}
    full = MatcherStage().terms(network, WORK, *batch)
    assert full.keys() == {"warp", *names.values()}
    for field, name in names.items():
        rest = replace(MatcherStage(), **{field: 0.0}).terms(network, WORK, *batch)
        assert rest.keys() == full.keys() - {name}
        assert all(rest[other].equal(full[other]) for other in rest)


@pytest.mark.parametrize(
    ("field", "value", "term"),
    [
        ("geometry", "cosine", "global"),
        ("divergence", "jensen-shannon", "local"),
        ("reading", "self", "local"),
        ("reading", "batch", "local"),
    ],
)
def test_a_switch_changes_its_own_term_only(field: str, value: str, term: str) -> None:
    network, batch = Matcher(SMALL), squares(4, np.random.default_rng(0))
    before = MatcherStage().terms(network, WORK, *batch)
    after = replace(MatcherStage(), **{field: value}).terms(network, WORK, *batch)
    assert {name for name in before if not before[name].equal(after[name])} == {term}


def test_condition_and_target_are_mirrored_together() -> None:
    numbers = torch.arange(64.0)[:, None, None, None]
    image = torch.arange(8.0).expand(64, 3, 8, 8) + 100 * numbers
    maps, latents = torch.zeros(64, 8, 8, dtype=torch.uint8), torch.zeros(64, 4, 1, 1)
    batch = TripletBatch(("edge",) * 64, image, image, image, latents, latents, maps, maps)
    condition, exemplar, target = flipped(batch, np.random.default_rng(0))
    assert condition.equal(target)
    mirrored = [(part != image).any((1, 2, 3)) for part in (target, exemplar)]
    for changed, part in zip(mirrored, (target, exemplar), strict=True):
        assert part[changed].equal(image[changed].flip(3))
        assert 16 < int(changed.sum()) < 48
    assert not mirrored[0].equal(mirrored[1])


# measures, on drawn triplets


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    work = Workspace(tmp_path_factory.mktemp("matcher"), say=lambda line: None)
    TripletsStage(train=6, validation=4, distortions=1).run(work)
    return work


class _ClassEncoder(torch.nn.Module):
    """Encodes class maps, given as pixels, to one-hot tokens of each cell's main class."""

    def __init__(self, places: dict[int, Tensor]) -> None:
        super().__init__()
        self.places = places

    def forward(self, pixels: Tensor) -> EncoderOutput:
        tokens = torch.stack([self.places[hash(bytes(image.numpy()))] for image in pixels])
        return EncoderOutput(tokens, tokens.mean(1), (16, 16))


def test_true_correspondences_have_an_accuracy_of_one(work: Workspace) -> None:
    sampler, places = TripletSampler(work, "validation"), {}
    for kind in CONDITIONS:
        batch = sampler.select(np.arange(4), [kind] * 4, np.full(4, -1))
        for pixels, classes in (
            *zip(batch.condition, batch.classes_c, strict=True),
            *zip(batch.exemplar, batch.classes_r, strict=True),
        ):
            cells = classes.reshape(16, 8, 16, 8).permute(0, 2, 1, 3).reshape(256, 64)
            main = torch.nn.functional.one_hot(cells.long(), len(CLASSES)).sum(1).argmax(1)
            tokens = torch.nn.functional.one_hot(main, len(CLASSES)).float()
            places[hash(bytes(pixels.numpy()))] = tokens
    network = Matcher(replace(SMALL, temperature=0.01))
    network.condition_encoder = network.image_encoder = _ClassEncoder(places)
    values = measure(network, sampler, 4, work)
    assert [values[kind] for kind in CONDITIONS] == [1.0] * 4
    assert 0.2 < values["position"] < 0.9


def test_equal_tokens_have_the_accuracy_of_one_cell(work: Workspace) -> None:
    """Without any features, every cell is matched to the first, which shows the sky."""
    sampler = TripletSampler(work, "validation")
    network = Matcher(SMALL)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    values = measure(network, sampler, 4, work)
    assert len({values[kind] for kind in CONDITIONS}) == 1
    assert 0 < values["edge"] < 0.6
    assert values["right"] >= 0 and values["psnr"] > 5


def test_a_run_trains_measures_and_resumes(work: Workspace) -> None:
    stage = MatcherStage(steps=2, batch=2, width=32)
    stage.run(work)
    facts = work.facts("matcher")
    assert facts["step"] == 2 and {*CONDITIONS, "position"} <= facts["validation"].keys()
    first = load(work).state_dict()
    replace(stage, steps=3).run(work)
    assert work.facts("matcher")["step"] == 3
    assert any(not first[name].equal(value) for name, value in load(work).state_dict().items())


def test_a_matcher_of_another_name_is_another_matcher(work: Workspace) -> None:
    replace(MatcherStage(steps=1, batch=2, width=32), name="cosine", geometry="cosine").run(work)
    assert load(work, "cosine").config.width == 32
    with pytest.raises(ValueError, match="no trained other"):
        load(work, "other")
