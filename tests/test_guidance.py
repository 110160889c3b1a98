import math
from dataclasses import replace

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor

from zerocon.activations import Observation, layer_size
from zerocon.conditioning import align_tokens
from zerocon.guidance import (
    GUIDANCE,
    Contrastive,
    CrossAttention,
    info_nce,
    sample_positions,
)
from zerocon.model.attention import watch

SAME = ((0, 5, 6, 1),)


def observation(maps=None, features=None, ids=SAME, seeds=(0,), size=(8, 8)):
    x = torch.zeros(len(ids), 4, *size)
    maps = {} if maps is None else {"layer.attn2": maps}
    features = {} if features is None else {"up_blocks.0.attn1": features}
    return Observation(x, x, ids, seeds, maps, features)


def smooth(*shape):
    """Features whose neighbors are similar, as those of images are."""
    maps = torch.randn(*shape[:-2], shape[-1], 8, 8)
    return F.avg_pool2d(maps, 3, 1, 1).flatten(-2).transpose(-1, -2)


def test_every_guidance_has_layer_patterns_a_weight_and_a_docstring():
    for name, guidance in GUIDANCE.items():
        assert guidance().weight > 0 and guidance.layer_patterns, name
        assert guidance.__doc__


# cross-attention


def test_cross_attention_is_the_squared_distance_by_hand():
    before = torch.zeros(1, 2, 3, 4)  # 2 heads, 3 pixels, 4 words
    after = before.clone()
    after[0, 0, 1, 2] = 0.5
    after[0, 1, 0, 3] = 1.0
    loss = CrossAttention()(observation(before), observation(after))
    assert loss.tolist() == pytest.approx([(0.25 + 1.0) / 2])


def test_a_mean_over_twice_the_heads_has_half_the_gradient():
    before, after = torch.rand(2, 1, 4, 9, 5)
    after.requires_grad_()
    (alone,) = torch.autograd.grad((after - before).square().sum((-2, -1)).mean(), after)
    doubled = torch.cat([after - before, torch.zeros_like(before)], 1).square().sum((-2, -1)).mean()
    (halved,) = torch.autograd.grad(doubled, after)
    assert torch.allclose(alone, 2 * halved)


def test_cross_attention_has_no_gradient_where_maps_agree_and_leads_back_otherwise():
    before = torch.rand(1, 2, 9, 5)
    after = before.clone().requires_grad_()
    (equal,) = torch.autograd.grad(CrossAttention()(observation(before), observation(after)), after)
    assert equal.abs().max() == 0
    larger = (before + 0.1).requires_grad_()
    loss = CrossAttention()(observation(before), observation(larger))
    (gradient,) = torch.autograd.grad(loss, larger)
    assert (gradient > 0).all()


@pytest.mark.parametrize(
    ("source", "edited", "pairs"),
    [
        ("abc", "abc", [(0, 0), (1, 1), (2, 2)]),
        ("abc", "axbc", [(0, 0), (1, 2), (2, 3)]),
        ("axyc", "abc", [(0, 0), (3, 2)]),
        ("abc", "xyz", []),
        ("", "abc", []),
    ],
)
def test_tokens_are_paired_by_their_longest_common_subsequence(source, edited, pairs):
    assert list(align_tokens(tuple(map(ord, source)), tuple(map(ord, edited)))) == pairs


def test_for_a_longer_caption_only_shared_tokens_are_compared():
    source, edited = ((0, 5, 1),), ((0, 9, 5, 1),)  # one token inserted
    before, after = torch.rand(2, 1, 2, 9, 6)
    moved = after.clone()
    moved[..., 1] += 1.0  # the added token's map is free
    loss = CrossAttention()
    assert loss(observation(before, ids=source), observation(after, ids=edited)) == pytest.approx(
        float(loss(observation(before, ids=source), observation(moved, ids=edited)))
    )
    expected = (
        (after[..., [0, 2, 3, 4, 5]] - before[..., [0, 1, 2, 3, 4]]).square().sum((-2, -1)).mean()
    )
    assert loss(observation(before, ids=source), observation(after, ids=edited)) == pytest.approx(
        float(expected)
    )


# contrastive


def test_hard_targets_give_the_patch_nce_loss():
    q, k = F.normalize(torch.randn(2, 64, 16), dim=-1)
    positive = (q * k).sum(-1, keepdim=True)
    negatives = (q @ k.T).masked_fill(torch.eye(64, dtype=torch.bool), -10.0)
    logits = torch.cat([positive, negatives], 1) / 0.07
    nce = F.cross_entropy(logits, torch.zeros(64, dtype=torch.long))
    ours = Contrastive(targets="hard", sizes=(1,))(
        observation(features=k[None], size=(8, 8)),
        observation(features=q[None], size=(8, 8)),
    )
    assert float(ours) * 4096 / 64 == pytest.approx(float(nce), abs=1e-5)


def test_soft_targets_have_no_gradient_where_features_agree_and_hard_ones_have():
    before = smooth(1, 64, 16)
    for targets, zero in (("soft", True), ("hard", False)):
        after = before.clone().requires_grad_()
        loss = Contrastive(targets=targets)(
            observation(features=before), observation(features=after)
        )
        (gradient,) = torch.autograd.grad(loss, after)
        assert (gradient.abs().max() == 0) == zero, targets


def test_the_soft_gradient_is_that_of_the_divergence():
    before, after = smooth(2, 64, 16).double()
    q, k = (F.normalize(part, dim=-1) for part in (after, before))
    target = (k @ k.T / 0.07).softmax(-1)
    leaf = q.clone().requires_grad_()
    plain = (target * (target.log() - (leaf @ k.T / 0.07).log_softmax(-1))).sum(-1).mean()
    (expected,) = torch.autograd.grad(plain, leaf)
    ours = q.clone().requires_grad_()
    loss = Contrastive()._loss(ours, k)
    assert loss.shape == ()
    (gradient,) = torch.autograd.grad(loss, ours)
    assert torch.allclose(gradient, expected, atol=1e-9)
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=1e-6)


def test_a_step_along_the_soft_gradient_reduces_the_loss():
    before, start = smooth(2, 64, 16)
    after = start.clone().requires_grad_()
    loss, source = Contrastive(sizes=(1,)), observation(features=before[None])
    first = loss(source, observation(features=after[None]))
    (gradient,) = torch.autograd.grad(first, after)
    second = loss(source, observation(features=(after - 20 * gradient)[None]))
    assert second < first


def test_the_loss_is_scaled_by_the_area_of_the_latents():
    features = smooth(1, 64, 16)
    small = Contrastive(sizes=(1,))(
        observation(features=features), observation(features=features.flip(1), size=(8, 8))
    )
    edited = observation(
        features=features.flip(1), size=(16, 16)
    )  # the same maps, one level deeper
    large = Contrastive(sizes=(1,))(observation(features=features, size=(16, 16)), edited)
    assert float(large) == pytest.approx(4 * float(small), rel=1e-5)


def test_the_losses_of_a_batch_are_those_of_its_images():
    before, after = smooth(2, 64, 16), smooth(2, 64, 16)
    maps, moved = torch.rand(2, 2, 2, 64, 6)
    for loss in (Contrastive(), CrossAttention()):
        both = loss(
            observation(maps, before, SAME * 2, (3, 4)), observation(moved, after, SAME * 2, (3, 4))
        )
        singles = [
            loss(
                observation(maps[i : i + 1], before[i : i + 1], SAME, (3 + i,)),
                observation(moved[i : i + 1], after[i : i + 1], SAME, (3 + i,)),
            )
            for i in range(2)
        ]
        assert both.shape == (2,) and both[0] != both[1]
        assert torch.allclose(both, torch.cat(singles), rtol=1e-5)


def test_captions_of_a_batch_are_paired_image_by_image():
    before, after = (((0, 5, 1), (0, 6, 7, 1)), ((0, 9, 5, 1), (0, 6, 8, 1)))
    maps, moved = torch.rand(2, 2, 2, 9, 6)
    both = CrossAttention()(observation(maps, ids=before), observation(moved, ids=after))
    singles = [
        CrossAttention()(
            observation(maps[i : i + 1], ids=before[i : i + 1]),
            observation(moved[i : i + 1], ids=after[i : i + 1]),
        )
        for i in range(2)
    ]
    assert torch.allclose(both, torch.cat(singles), rtol=1e-5)
    columns = [0, 2, 3, 4, 5], [0, 1, 2, 3, 4]  # of the first: one token is inserted
    difference = moved[:1, ..., columns[0]] - maps[:1, ..., columns[1]]
    assert torch.allclose(singles[0], difference.square().sum((-2, -1)).mean(-1))


def test_sampled_positions_depend_on_seed_layer_and_size_only():
    torch.manual_seed(1)
    first = sample_positions(7, "up.attn1", 32, 16, 64).clone()
    state = torch.random.get_rng_state()
    sample_positions.cache_clear()
    torch.manual_seed(2)
    assert torch.equal(first, sample_positions(7, "up.attn1", 32, 16, 64))
    torch.manual_seed(1)
    assert torch.equal(state, torch.random.get_rng_state())
    assert len(first.unique()) == 64 and first.max() < 512
    for other in [(8, "up.attn1", 32, 16, 64), (7, "mid", 32, 16, 64), (7, "up.attn1", 16, 32, 64)]:
        assert not torch.equal(first, sample_positions(*other))
    assert torch.equal(sample_positions(7, "up.attn1", 4, 4, 64), torch.arange(16))


@pytest.mark.parametrize(
    ("pixels", "size", "expected"),
    [(4096, (64, 64), (64, 64)), (48, (16, 12), (8, 6)), (6, (9, 5), (3, 2)), (1, (8, 3), (1, 1))],
)
def test_the_size_of_a_layer_follows_from_that_of_the_latents(pixels, size, expected):
    assert layer_size(pixels, size) == expected


def test_a_number_of_positions_that_no_level_has_is_an_error():
    with pytest.raises(ValueError, match="13 positions"):
        layer_size(13, (8, 8))


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0}, {"patches": 1}, {"sizes": ()}, {"targets": "medium"}]
)
def test_contrastive_rejects_invalid_options(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Contrastive(**wrong)


# which layers


def test_coarser_layers_leave_the_finest_blocks_out_of_the_backward_pass():
    model = tiny.model()
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    for layers, reached in (("all", True), ("half", False)):
        gradients: list[Tensor] = []
        guidance = CrossAttention(layers=layers)
        with torch.enable_grad(), watch(model.unet, guidance.layer_patterns) as outputs:
            eps = model.eps(x.requires_grad_(), 500, c)
        for name, maps in outputs.maps.items():
            if name.startswith("up_blocks.1."):
                maps.register_hook(gradients.append)
        after = Observation(x, eps, c.ids, (0,), outputs.maps)
        before = replace(
            after.detach(), maps={k: v.detach() + 0.1 for k, v in outputs.maps.items()}
        )
        torch.autograd.grad(guidance(before, after), x)
        assert bool(gradients) == reached, layers


def test_a_coarser_choice_is_the_loss_of_its_layers_alone():
    fine, coarse = torch.rand(1, 2, 64, 4), torch.rand(1, 2, 16, 4)
    x = torch.zeros(1, 4, 8, 8)

    def observe_both(shift):
        maps = {"fine.attn2": fine + shift, "coarse.attn2": coarse + shift}
        return Observation(x, x, SAME, (0,), maps)

    whole = CrossAttention()(observe_both(0.0), observe_both(0.1))
    half = CrossAttention(layers="half")(observe_both(0.0), observe_both(0.1))
    assert torch.allclose(whole, torch.tensor(0.01 * (64 + 16) * 4))
    assert torch.allclose(half, torch.tensor(0.01 * 16 * 4))


def test_contrastive_can_use_the_features_of_the_encoder():
    assert Contrastive(features="encoder").layer_patterns == {"down_blocks.*.attn1"}
    k = smooth(1, 64, 8)
    x = torch.zeros(1, 4, 8, 8)

    def observe_encoder(features):
        others = torch.randn(1, 64, 8)
        parts = {"down_blocks.0.attn1": features, "up_blocks.0.attn1": others}
        return Observation(x, x, SAME, (0,), {}, parts)

    loss = Contrastive(features="encoder")
    assert abs(float(loss(observe_encoder(k), observe_encoder(k)))) < 1e-6
    assert loss(observe_encoder(k), observe_encoder(k.flip(1))) > 0
    for wrong in ({"features": "middle"}, {"targets": "firm"}):
        with pytest.raises(ValueError, match="must be"):
            Contrastive(**wrong)
    with pytest.raises(ValueError, match="layers must be"):
        CrossAttention(layers="some")


# info_nce


def test_info_nce_of_a_batch_is_that_of_each_of_its_parts():
    q, k = torch.randn(2, 3, 2, 6, 4)
    for target in (None, torch.rand(3, 2, 6, 6).softmax(-1)):
        losses = info_nce(q, k, target)
        assert losses.shape == (3, 2)
        for i, j in ((0, 0), (1, 1), (2, 0)):
            part = None if target is None else target[i, j]
            assert float(losses[i, j]) == pytest.approx(float(info_nce(q[i, j], k[i, j], part)))


def test_info_nce_is_exactly_zero_where_both_distributions_agree():
    k = F.normalize(torch.randn(32, 16), dim=-1)
    q = k.clone().requires_grad_()
    target = (k @ k.T / 0.07).softmax(-1)
    loss = info_nce(q, k, target)
    (gradient,) = torch.autograd.grad(loss, q)
    assert loss.abs() < 1e-6 and not gradient.any()
    moved = (k + 0.1 * torch.randn(32, 16)).requires_grad_()
    loss = info_nce(moved, k, target)
    (gradient,) = torch.autograd.grad(loss, moved)
    assert loss > 0 and gradient.any()


def test_info_nce_without_a_target_is_cross_entropy():
    q, k = torch.randn(2, 24, 8).double()
    logits = q @ k.T / 0.2
    expected = F.cross_entropy(logits, torch.arange(24))
    by_hand = (logits.logsumexp(-1) - logits.diagonal()).mean()
    loss = info_nce(q, k, temperature=0.2)
    assert float(loss) == pytest.approx(float(expected)) == pytest.approx(float(by_hand))
    ours, hard = q.clone().requires_grad_(), q.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(info_nce(ours, k, torch.eye(24).double()), ours)
    (expected,) = torch.autograd.grad(info_nce(hard, k), hard)
    assert torch.allclose(gradient, expected, atol=1e-9), "a target of one key is the hard target"


def test_info_nce_may_have_more_keys_than_queries():
    q, k = F.normalize(torch.randn(4, 8), dim=-1), F.normalize(torch.randn(9, 8), dim=-1)
    target = torch.full((4, 9), 1 / 9)
    divergence = -(9 * (q @ k.T / 0.07).softmax(-1)).log().mean()
    assert float(info_nce(q, k, target)) == pytest.approx(float(divergence), rel=1e-5)


@pytest.mark.parametrize("target", [None, torch.full((5, 5), 0.2)])
def test_info_nce_compares_in_the_given_geometry(target):
    q, k = torch.randn(2, 5, 3)

    def negative_distance(q, k):
        return -torch.cdist(q, k)

    loss = info_nce(q, k, target, temperature=1.0, similarity=negative_distance)
    logs = (-(q[:, None] - k[None]).norm(dim=-1)).log_softmax(-1)
    expected = -logs.diagonal().mean() if target is None else -(logs + math.log(5)).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(loss) != pytest.approx(float(info_nce(q, k, target, temperature=1.0)))
