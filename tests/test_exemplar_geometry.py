"""Poincare ball, Fisher-Rao distance, and the losses built on them: identities and gradients."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from zerocon.exemplar.alignment import global_loss, local_loss
from zerocon.exemplar.fisher_rao import distance as fisher_rao
from zerocon.exemplar.fisher_rao import jensen_shannon, squared_distance
from zerocon.exemplar.hyperbolic import (
    RADIUS,
    clip_norm,
    distance,
    exp0,
    pairwise_distance,
    poincare_similarity,
)
from zerocon.guidance import info_nce

READINGS, DIVERGENCES = ("cross", "self", "batch"), ("fisher-rao", "jensen-shannon")


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


def gradient(function, *inputs: Tensor) -> tuple[Tensor, ...]:
    leaves = [each.detach().clone().requires_grad_() for each in inputs]
    return torch.autograd.grad(function(*leaves).sum(), leaves)


# Poincare ball


def test_clipping_shortens_long_vectors_only():
    v = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    assert torch.allclose(clip_norm(v, 2.0), torch.tensor([[1.2, 1.6], [0.3, 0.4], [0.0, 0.0]]))


def test_the_distance_is_the_one_of_the_literature():
    a, b = exp0(normal(2, 50, 8)).unbind()
    k = 0.1
    u = 2 * k * (a - b).square().sum(-1)
    u = u / ((1 - k * a.square().sum(-1)) * (1 - k * b.square().sum(-1)))
    expected = torch.log1p(u + (u * (u + 2)).sqrt()) / math.sqrt(k)
    assert torch.allclose(distance(a, b), expected, atol=1e-9)


def test_the_distance_is_symmetric_and_zero_for_one_point():
    a, b = exp0(clip_norm(normal(2, 20, 16, dtype=torch.float32))).unbind()
    assert torch.equal(distance(a, b), distance(b, a))
    assert torch.equal(distance(a, a), torch.zeros(20))
    assert torch.equal(pairwise_distance(a, a).diagonal(), torch.zeros(20))


def test_the_triangle_inequality_holds():
    d = pairwise_distance(points := exp0(normal(30, 4)), points)
    assert (d[:, None] <= d[:, :, None] + d[None] + 1e-9).all()


@pytest.mark.parametrize("k", [0.01, 0.1, 1.0])
def test_the_distance_from_the_origin_is_twice_the_norm(k):
    v = clip_norm(normal(50, 8))
    origin = torch.zeros(50, 8, dtype=torch.float64)
    assert torch.allclose(distance(origin, exp0(v, k), k), 2 * v.norm(dim=-1), atol=1e-9)


def test_the_largest_distance_of_clipped_vectors_is_four_radii():
    v = torch.eye(1, 4, dtype=torch.float64) * 100
    a, b = exp0(clip_norm(v)), exp0(clip_norm(-v))
    assert distance(a, b).item() == pytest.approx(4 * RADIUS, abs=1e-9)


def test_without_curvature_it_is_twice_the_euclidean_distance():
    a, b = normal(2, 50, 8).unbind()
    k = 1e-10
    expected = 2 * (a - b).norm(dim=-1)
    assert torch.allclose(distance(exp0(a, k), exp0(b, k), k), expected, atol=1e-6)


def test_a_mapped_point_stays_inside_the_ball():
    far = exp0(torch.full((1, 3), 1e6), k=0.25)
    assert far.norm().item() == pytest.approx((1 - 1e-3) / 0.5)


@pytest.mark.parametrize("function", [distance, pairwise_distance])
def test_gradients_are_finite_at_one_point_and_at_the_clipping_radius(function):
    def mapped(v: Tensor, w: Tensor) -> Tensor:
        return function(exp0(clip_norm(v)), exp0(clip_norm(w)))

    edge = RADIUS * torch.eye(3)[:1]
    for v, w in product((edge, 2 * edge, 0 * edge, 0.5 * edge), repeat=2):
        for part in gradient(mapped, v, w):
            assert part.isfinite().all()
    for part in gradient(mapped, 0.5 * edge, 0.5 * edge):
        assert torch.equal(part, torch.zeros_like(part))


def test_the_gradient_is_that_of_finite_differences():
    a, b = normal(2, 3, 4).unbind()
    a, b = a.requires_grad_(), b.requires_grad_()
    assert torch.autograd.gradcheck(lambda v, w: distance(exp0(v), exp0(w)), (a, b))
    assert torch.autograd.gradcheck(poincare_similarity, (a, b))


def test_all_pairs_have_the_distances_of_pairs():
    a, b = exp0(normal(2, 5, 8)), exp0(normal(2, 7, 8))
    expected = distance(a[:, :, None].expand(2, 5, 7, 8), b[:, None].expand(2, 5, 7, 8))
    assert torch.allclose(pairwise_distance(a, b), expected, atol=1e-12)


def test_half_precision_is_computed_in_float32():
    v = normal(6, 8, dtype=torch.float32).half()
    assert torch.equal(poincare_similarity(v, v), poincare_similarity(v.float(), v.float()))
    assert exp0(v).dtype == torch.float32


def test_a_curvature_of_zero_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        distance(torch.zeros(2), torch.zeros(2), k=0.0)


# Fisher-Rao


def logs(*shape: int) -> Tensor:
    return normal(*shape).log_softmax(-1)


def test_the_distance_is_twice_the_arccosine_of_the_overlap():
    p, q = logs(50, 9), logs(50, 9)
    expected = 2 * ((p + q) / 2).exp().sum(-1).acos()
    assert torch.allclose(fisher_rao(p, q), expected, atol=1e-9)
    assert torch.allclose(squared_distance(p, q), expected.square(), atol=1e-9)


@pytest.mark.parametrize("measure", [fisher_rao, squared_distance, jensen_shannon])
def test_equal_distributions_have_distance_zero_and_a_finite_gradient(measure):
    p = logs(4, 256).float()
    assert measure(p, p).abs().max() <= 1e-6
    for part in gradient(measure, p, p):
        assert part.abs().max() <= 1e-6  # NaN fails too


def test_close_distributions_are_told_apart_in_float32():
    logits = normal(8, 64)
    p, q = logits.log_softmax(-1), (logits + 1e-3 * normal(8, 64)).log_softmax(-1)
    exact = squared_distance(p, q)
    assert torch.allclose(squared_distance(p.float(), q.float()).double(), exact, rtol=0.02)
    assert torch.allclose(exact, 8 * jensen_shannon(p, q), rtol=1e-3)


def test_disjoint_distributions_have_the_largest_distance():
    p, q = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]).log()
    assert fisher_rao(p, q).item() == pytest.approx(math.pi, abs=1e-6)
    assert jensen_shannon(p, q).item() == pytest.approx(math.log(2), abs=1e-6)
    for measure in (fisher_rao, squared_distance, jensen_shannon):
        assert all(part.isfinite().all() for part in gradient(measure, p, q))


def test_it_is_symmetric_and_a_metric():
    p, q, r = (logs(200, 5) * 2 for _ in range(3))
    p, q, r = (each.log_softmax(-1) for each in (p, q, r))
    assert torch.equal(fisher_rao(p, q), fisher_rao(q, p))
    assert (fisher_rao(p, r) <= fisher_rao(p, q) + fisher_rao(q, r) + 1e-12).all()


@pytest.mark.parametrize("measure", [squared_distance, jensen_shannon])
def test_their_gradients_are_those_of_finite_differences(measure):
    logits = [normal(3, 5).requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(
        lambda v, w: measure(v.log_softmax(-1), w.log_softmax(-1)), logits
    )


# losses


def test_the_global_loss_is_the_cross_entropy_of_both_directions():
    g_c, g_x = normal(2, 6, 16)
    scores = poincare_similarity(g_c, g_x) / 0.2
    index = torch.arange(6)
    one, other = (torch.nn.functional.cross_entropy(s, index) for s in (scores, scores.T))
    assert global_loss(g_c, g_x).item() == pytest.approx(((one + other) / 2).item(), abs=1e-9)
    assert global_loss(g_c, g_x) == global_loss(g_x, g_c)


@pytest.mark.parametrize("geometry", ["poincare", "cosine"])
def test_the_global_loss_is_least_for_pairs_that_agree(geometry):
    g = normal(8, 16)
    aligned, shuffled = global_loss(g, g, geometry), global_loss(g, g.roll(1, 0), geometry)
    assert aligned < 0.1 < shuffled


def test_the_poincare_similarity_is_one_of_the_shared_info_nce():
    q = normal(3, 6, 16)
    loss = info_nce(q, q, temperature=0.2, similarity=poincare_similarity)
    assert loss.shape == (3,) and (loss < 0.1).all()


@pytest.mark.parametrize(("reading", "divergence"), [*product(READINGS, DIVERGENCES)])
def test_the_local_loss_is_zero_where_the_condition_finds_what_the_image_finds(reading, divergence):
    f_x, f_r, other = (torch.nn.functional.normalize(normal(3, 16, 8), dim=-1) for _ in range(3))
    f_x, f_r, other = f_x.float(), f_r.float(), other.float()
    assert local_loss(f_x, f_x, f_r, reading, divergence).item() == pytest.approx(0, abs=1e-6)
    assert local_loss(other, f_x, f_r, reading, divergence) > 0.01


@pytest.mark.parametrize("reading", READINGS)
def test_the_image_is_the_teacher_of_the_local_loss(reading):
    f_c, f_x, f_r = (normal(2, 9, 8).requires_grad_() for _ in range(3))
    by = torch.autograd.grad(local_loss(f_c, f_x, f_r, reading), [f_c, f_x], allow_unused=True)
    assert by[0].abs().max() > 0 and by[1] is None


def test_readings_compare_what_they_say():
    f_c, f_x, f_r = (torch.nn.functional.normalize(normal(2, 9, 8), dim=-1) for _ in range(3))

    def rows(q: Tensor, k: Tensor) -> Tensor:
        return (q.float() @ k.float().mT / 0.1).log_softmax(-1)

    cross = squared_distance(rows(f_c, f_r), rows(f_x, f_r)).mean()
    assert local_loss(f_c, f_x, f_r) == pytest.approx(cross.item())
    own = squared_distance(rows(f_c, f_c), rows(f_x, f_x)).mean()
    assert local_loss(f_c, f_x, f_r, "self") == pytest.approx(own.item())
    permuted = f_c[:, torch.randperm(9)]
    batch = local_loss(f_c, f_x, f_r, "batch")
    assert local_loss(permuted, f_x, f_r, "batch") == pytest.approx(batch.item(), abs=1e-6)
    assert local_loss(permuted, f_x, f_r) != pytest.approx(cross.item(), abs=1e-3)
