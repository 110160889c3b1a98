"""Conditionings add, subtract, scale, batch and refuse what does not belong together."""

from dataclasses import replace

import pytest
import torch

from zerocon.conditioning import Conditioning
from zerocon.errors import MismatchError


def conditioning(rows: int, *, pooled: bool = True, encoder: str = "clip") -> Conditioning:
    return Conditioning(
        tokens=torch.randn(rows, 3, 4),
        ids=tuple((0, row, 1) for row in range(rows)),
        encoder=encoder,
        pooled=torch.randn(rows, 5) if pooled else None,
        extra={"time_ids": torch.randn(rows, 6)} if pooled else {},
    )


def test_arithmetic_acts_on_tokens_and_pooled_and_keeps_the_ids_of_the_left():
    a, b = conditioning(2), replace(conditioning(2), ids=((7,), (8,)))
    moved = a + 2.0 * (b - a)
    assert torch.allclose(moved.tokens, 2 * b.tokens - a.tokens, atol=1e-6)
    assert torch.allclose(moved.pooled, 2 * b.pooled - a.pooled, atol=1e-6)
    assert moved.ids == a.ids and moved.encoder == a.encoder
    assert torch.equal(moved.extra["time_ids"], a.extra["time_ids"])
    assert torch.equal((b * 0.5).tokens, (0.5 * b).tokens)


def test_one_row_on_the_right_applies_to_every_row():
    a, step = conditioning(3), conditioning(1)
    assert torch.equal((a + step).tokens, a.tokens + step.tokens)
    assert torch.equal((a + step).pooled, a.pooled + step.pooled)
    with pytest.raises(MismatchError, match="cannot combine 1 conditionings with 3"):
        step + a


@pytest.mark.parametrize("pooled", [False, True])
def test_cat_and_rows_are_inverse(pooled):
    a, b = conditioning(2, pooled=pooled), conditioning(1, pooled=pooled)
    both = Conditioning.cat([a, b])
    assert len(both) == 3 and both.ids == a.ids + b.ids
    for part, rows in ((a, slice(2)), (b, slice(2, None))):
        again = both.rows(rows)
        assert again.ids == part.ids and torch.equal(again.tokens, part.tokens)
        assert again.extra.keys() == part.extra.keys()
        if pooled:
            assert torch.equal(again.pooled, part.pooled)
            assert torch.equal(again.extra["time_ids"], part.extra["time_ids"])


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (conditioning(2, encoder="t5"), "two different text encoders"),
        (conditioning(2, pooled=False), "different additional inputs"),
    ],
)
def test_embeddings_of_different_kinds_do_not_mix(other, reason):
    a = conditioning(2)
    for combine in (
        lambda: a + other,
        lambda: a - other,
        lambda: Conditioning.cat([a, other]),
    ):
        with pytest.raises(MismatchError, match=reason):
            combine()


def test_to_moves_every_tensor():
    moved = conditioning(2).to("meta")
    assert {t.device.type for t in (moved.tokens, moved.pooled, *moved.extra.values())} == {"meta"}
