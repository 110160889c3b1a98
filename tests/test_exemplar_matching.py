"""Encoders, and the correspondence between condition and exemplar: warp, confidence, corruption."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from zerocon.errors import FileFormatError
from zerocon.exemplar.correspondence import correspond, corrupt, join_exemplars
from zerocon.exemplar.encoders import Encoder, Matcher, MatcherConfig
from zerocon.rng import seeded_generator

SMALL = MatcherConfig(stem=8, width=16, inner=8, dilations=(1, 2), features=8, pooled=12)
GRID = (4, 5)


def tokens(batch: int, count: int, features: int = 16) -> Tensor:
    return normalize(torch.randn(batch, count, features), dim=-1)


def on_grid(values: Tensor) -> Tensor:
    return values.mT.reshape(len(values), -1, *GRID)


# encoders


@pytest.mark.parametrize("size", [(128, 128), (64, 96)])
def test_tokens_are_centered_vectors_of_length_one(size: tuple[int, int]) -> None:
    output = Encoder(SMALL)(torch.rand(2, 3, *size) * 2 - 1)
    rows, columns = size[0] // 8, size[1] // 8
    assert output.grid == (rows, columns)
    assert output.tokens.shape == (2, rows * columns, 8) and output.pooled.shape == (2, 12)
    assert output.tokens.norm(dim=-1).allclose(torch.ones(2, rows * columns), atol=1e-5)
    assert output.tokens.sum(-1).abs().max() < 1e-5


def test_a_token_depends_most_on_the_pixels_of_its_own_cell() -> None:
    """Tokens are in the order of cells, row by row: rows and columns are not exchanged."""
    encoder = Encoder(replace(SMALL, dilations=()))
    image = torch.rand(1, 3, 64, 96).requires_grad_()
    encoder(image).tokens[0, 2 * 12 + 9].square()[:3].sum().backward()
    cells = avg_pool2d(image.grad.abs().sum(1, keepdim=True), 8)
    assert divmod(int(cells.argmax()), 12) == (2, 9)


def test_equal_cells_at_other_positions_have_other_tokens() -> None:
    output = Encoder(SMALL)(torch.zeros(1, 3, 64, 64)).tokens[0]
    assert (output[0] - output[-1]).norm() > 1e-3


def test_images_of_a_batch_do_not_influence_each_other() -> None:
    encoder, images = Encoder(SMALL), torch.rand(3, 3, 32, 32)
    together, alone = encoder(images), encoder(images[1:2])
    assert together.tokens[1:2].allclose(alone.tokens, atol=1e-5)
    assert together.pooled[1:2].allclose(alone.pooled, atol=1e-5)


def test_a_blank_image_gives_finite_tokens() -> None:
    encoder = Encoder(SMALL)
    for parameter in encoder.parameters():
        torch.nn.init.zeros_(parameter)
    output = encoder(torch.zeros(1, 3, 32, 32))
    output.tokens.sum().backward()
    assert output.tokens.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_sides_that_are_no_multiple_of_eight_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        Encoder(SMALL)(torch.zeros(1, 3, 32, 36))


def test_the_configuration_survives_json() -> None:
    config = replace(SMALL, temperature=0.02, dilations=(1, 4, 2))
    assert MatcherConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"width": 96}'])
def test_an_incomplete_configuration_is_an_error(text: str) -> None:
    with pytest.raises(FileFormatError, match="matcher's configuration"):
        MatcherConfig.from_json(text)


def test_both_encoders_of_the_shipped_size_are_small() -> None:
    count = sum(p.numel() for p in Matcher().parameters())
    assert count < 600_000


# correspondence


def test_equal_features_match_themselves() -> None:
    """As the temperature goes to 0 the warp is the identity, and every confidence is 1."""
    f, values = tokens(2, 20), torch.randn(2, 20, 4)
    found = correspond(f, f, values, temperature=1e-3, grid_c=GRID, grid_r=GRID)
    assert found.match.equal(torch.arange(20).expand(2, 20))
    assert found.warped.allclose(on_grid(values), atol=1e-4)
    assert found.confidence.allclose(torch.ones(2, 1, *GRID), atol=1e-4)


def test_a_permuted_exemplar_is_put_back_in_place() -> None:
    f, values, order = tokens(1, 20), torch.randn(1, 20, 3), torch.randperm(20)
    found = correspond(
        f, f[:, order], values[:, order], temperature=1e-3, grid_c=GRID, grid_r=(20, 1)
    )
    assert order[found.match].equal(torch.arange(20)[None])
    assert found.warped.allclose(on_grid(values), atol=1e-4)


def test_the_rows_of_the_match_sum_to_one() -> None:
    f_c, f_r = tokens(2, 20), tokens(2, 12)
    found = correspond(f_c, f_r, torch.ones(2, 12, 1), temperature=0.3, grid_c=GRID, grid_r=(3, 4))
    assert found.warped.allclose(torch.ones(2, 1, *GRID))


def test_a_high_temperature_gives_the_mean_of_the_exemplar() -> None:
    values = torch.randn(1, 12, 2)
    found = correspond(
        tokens(1, 20), tokens(1, 12), values, temperature=1e6, grid_c=GRID, grid_r=(3, 4)
    )
    assert found.warped.allclose(values.mean(1)[..., None, None].expand(1, 2, *GRID), atol=1e-4)


@pytest.mark.parametrize("block", [1, 3, 7, 12])
def test_blocks_of_rows_give_the_result_of_one_block(block: int) -> None:
    f_c, f_r, values = tokens(2, 20), tokens(2, 12), torch.randn(2, 12, 4)
    whole = correspond(f_c, f_r, values, temperature=0.1, grid_c=GRID, grid_r=(3, 4))
    parts = correspond(f_c, f_r, values, temperature=0.1, grid_c=GRID, grid_r=(3, 4), block=block)
    assert parts.match.equal(whole.match)
    assert parts.confidence.allclose(whole.confidence, atol=1e-5)
    assert parts.warped.allclose(whole.warped, atol=1e-6)


def test_memory_is_linear_in_the_number_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    softmax = Tensor.softmax

    def recorded(scores: Tensor, dim: int) -> Tensor:
        sizes.append(scores[0].numel())
        return softmax(scores, dim)

    monkeypatch.setattr(Tensor, "softmax", recorded)
    for side in (8, 16, 24):
        f = tokens(1, side * side)
        grid = (side, side)
        correspond(f, f, f, temperature=0.1, grid_c=grid, grid_r=grid, block=64)
    assert max(sizes) <= 64 * 64 and len(sizes) > 3


def test_confidence_is_the_share_of_the_variance_that_the_match_explains() -> None:
    """Token 0 matches one value, token 1 two values that differ, token 2 two equal ones."""
    f_r = torch.eye(4)[None]
    f_c = torch.stack([f_r[0, 0], f_r[0, :2].sum(0), f_r[0, 2:].sum(0)])[None] / 0.01
    values = torch.tensor([[[3.0], [-1.0], [-1.0], [-1.0]]])  # their variance is 3
    found = correspond(f_c, f_r, values, temperature=1, grid_c=(1, 3), grid_r=(2, 2))
    assert found.warped.flatten().tolist() == pytest.approx([3, 1, -1])
    expected = [1, max(0, 1 - 2**2 / 3), 1]
    assert found.confidence.flatten().tolist() == pytest.approx(expected)
    values = values + torch.tensor([0, 0, 0, 4.0])[:, None]  # two of each: the variance is 4
    found = correspond(f_c, f_r, values, temperature=1, grid_c=(1, 3), grid_r=(2, 2))
    assert found.confidence.flatten().tolist() == pytest.approx([1, 0, 0])


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1e4])
def test_confidence_is_between_its_limits(temperature: float) -> None:
    f_c, f_r, values = tokens(2, 20), tokens(2, 12), 1000 + torch.randn(2, 12, 4)
    found = correspond(f_c, f_r, values, temperature=temperature, grid_c=GRID, grid_r=(3, 4))
    assert found.confidence.shape == (2, 1, *GRID)
    assert 0 <= found.confidence.min() and found.confidence.max() <= 1
    if temperature > 1:
        assert found.confidence.max() < 0.01, "no match: all tokens have equal shares"


def test_an_exemplar_of_one_color_is_matched_with_confidence() -> None:
    """Any match is right."""
    values = torch.full((1, 12, 4), 0.3) + 0.001 * torch.randn(1, 12, 4)
    found = correspond(
        tokens(1, 20), tokens(1, 12), values, temperature=1, grid_c=GRID, grid_r=(3, 4)
    )
    assert found.confidence.min() > 0.99


def test_half_precision_around_it_changes_nothing() -> None:
    f_c, f_r, values = tokens(1, 20), tokens(1, 12), torch.randn(1, 12, 4)
    plain = correspond(f_c, f_r, values, temperature=0.05, grid_c=GRID, grid_r=(3, 4))
    with torch.autocast("cpu", torch.bfloat16):
        inside = correspond(f_c, f_r, values, temperature=0.05, grid_c=GRID, grid_r=(3, 4))
    assert inside.warped.equal(plain.warped) and inside.confidence.equal(plain.confidence)


def test_the_warp_has_gradients_with_respect_to_features_and_values() -> None:
    f_c, f_r, values = (t.requires_grad_() for t in (tokens(1, 20), tokens(1, 20), tokens(1, 20)))
    found = correspond(f_c, f_r, values, temperature=0.1, grid_c=GRID, grid_r=GRID)
    found.warped.square().sum().backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in (f_c, f_r, values))


def test_sizes_that_do_not_match_are_refused() -> None:
    f = tokens(1, 20)
    with pytest.raises(ValueError, match="grids of 20 and 12 cells"):
        correspond(f, f, f, temperature=0.1, grid_c=GRID, grid_r=(3, 4))
    with pytest.raises(ValueError, match="temperature must be above 0"):
        correspond(f, f, f, temperature=0, grid_c=GRID, grid_r=GRID)


# several exemplars


def test_the_better_exemplar_is_matched_where_weights_are_equal() -> None:
    f = tokens(1, 20)
    joined, weights = join_exemplars([tokens(1, 12), f], [1, 1])
    values = torch.cat([torch.zeros(1, 12, 1), torch.ones(1, 20, 1)], 1)
    grids = [(3, 4), GRID]
    found = correspond(
        f, joined, values, temperature=0.01, grid_c=GRID, grid_r=grids, log_weights=weights
    )
    assert found.warped.allclose(torch.ones(1, 1, *GRID))


def test_weights_divide_the_warp_between_equal_exemplars() -> None:
    f = tokens(2, 20)
    joined, weights = join_exemplars([f, f], [3, 1])
    values = torch.cat([torch.ones(2, 20, 1), torch.zeros(2, 20, 1)], 1)
    grids = [GRID, GRID]
    found = correspond(
        f, joined, values, temperature=0.01, grid_c=GRID, grid_r=grids, log_weights=weights
    )
    assert found.warped.allclose(torch.full((2, 1, *GRID), 0.75), atol=1e-4)


def test_one_exemplar_is_the_same_at_any_weight() -> None:
    f_c, f_r = tokens(1, 20), tokens(1, 20)
    joined, weights = join_exemplars([f_r], [5])
    assert joined.equal(f_r) and weights.equal(torch.zeros(20))
    plain, weighted = (
        correspond(f_c, f_r, f_r, temperature=0.1, grid_c=GRID, grid_r=GRID, log_weights=w)
        for w in (None, weights)
    )
    assert plain.warped.equal(weighted.warped)


@pytest.mark.parametrize("weights", [[], [1], [1, 0], [1, -1]])
def test_weights_must_be_above_zero_and_as_many_as_exemplars(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="2 exemplars need as many weights above 0"):
        join_exemplars([tokens(1, 4), tokens(1, 4)], weights)


# corruption


def test_no_corruption_leaves_the_warp_unchanged() -> None:
    warped = torch.randn(2, 4, 16, 16)
    assert corrupt(warped, warped, 0.0, seeded_generator("a")).equal(warped)


@pytest.mark.parametrize("size", [(16, 16), (8, 24), (20, 12), (4, 4)])
def test_full_corruption_leaves_only_values_of_the_exemplar(size: tuple[int, int]) -> None:
    warped, z_r = torch.zeros(2, 1, *size), torch.arange(1, 2 * 6 * 5 + 1.0).reshape(2, 1, 6, 5)
    result = corrupt(warped, z_r, 1.0, seeded_generator("a"))
    assert result.shape == warped.shape
    for image, exemplar in zip(result, z_r, strict=True):
        assert set(image.flatten().tolist()) <= set(exemplar.flatten().tolist())


def test_the_share_is_the_expected_share_of_blocks_of_each_image() -> None:
    warped, z_r = torch.zeros(400, 1, 16, 16), torch.ones(400, 1, 16, 16)
    share = torch.tensor([0.2, 0.5]).repeat(200)
    replaced = corrupt(warped, z_r, share, seeded_generator("a"))
    blocks = replaced.reshape(400, 8, 2, 8, 2)
    assert (blocks == blocks[:, :, :1, :, :1]).all(), "whole blocks are replaced"
    assert float(replaced[::2].mean()) == pytest.approx(0.2, abs=0.01)
    assert float(replaced[1::2].mean()) == pytest.approx(0.5, abs=0.015)


def test_a_replaced_block_is_a_connected_part_of_the_exemplar() -> None:
    z_r = torch.arange(256.0).reshape(1, 1, 16, 16)
    block = corrupt(z_r, z_r, 1.0, seeded_generator("a"))[0, 0, :2, :2]
    first = int(block[0, 0])
    row, column = divmod(first, 16)
    down, right = (row + 1) % 16, (column + 1) % 16
    assert block.tolist() == [
        [first, 16 * row + right],
        [16 * down + column, 16 * down + right],
    ]


def test_corruption_is_a_function_of_its_generator() -> None:
    warped, z_r = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16)
    results = [corrupt(warped, z_r, 0.5, seeded_generator(key)) for key in ("a", "a", "b")]
    assert results[0].equal(results[1]) and not results[0].equal(results[2])
