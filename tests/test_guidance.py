from dataclasses import replace

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor

from zerocon.guidance import GUIDANCE, Contrastive, CrossAttention, align_tokens, sample_positions
from zerocon.model.attention import watch
from zerocon.observation import Observation, layer_size

SAME = ((0, 5, 6, 1),)


def show(maps=None, features=None, ids=SAME, seeds=(0,), size=(8, 8)):
    x = torch.zeros(len(ids), 4, *size)
    maps = {} if maps is None else {"layer.attn2": maps}
    features = {} if features is None else {"up_blocks.0.attn1": features}
    return Observation(x, x, ids, seeds, maps, features)


def smooth(*shape):
    """Features whose neighbours resemble one another, as those of pictures do."""
    maps = torch.randn(*shape[:-2], shape[-1], 8, 8)
    return F.avg_pool2d(maps, 3, 1, 1).flatten(-2).transpose(-1, -2)


def test_every_guidance_says_what_it_watches_and_weighs():
    for name, guidance in GUIDANCE.items():
        assert guidance().weight > 0 and guidance.layer_patterns, name
        assert guidance.__doc__


# cross-attention


def test_cross_attention_is_the_squared_distance_by_hand():
    was = torch.zeros(1, 2, 3, 4)  # 2 heads, 3 pixels, 4 words
    now = was.clone()
    now[0, 0, 1, 2] = 0.5
    now[0, 1, 0, 3] = 1.0
    assert CrossAttention()(show(was), show(now)) == pytest.approx((0.25 + 1.0) / 2)


def test_half_the_heads_of_two_halves_is_half_the_gradient():
    was, now = torch.rand(2, 1, 4, 9, 5)
    now.requires_grad_()
    (alone,) = torch.autograd.grad((now - was).square().sum((-2, -1)).mean(), now)
    doubled = torch.cat([now - was, torch.zeros_like(was)], 1).square().sum((-2, -1)).mean()
    (halved,) = torch.autograd.grad(doubled, now)
    assert torch.allclose(alone, 2 * halved)


def test_cross_attention_rests_where_maps_agree_and_points_home():
    was = torch.rand(1, 2, 9, 5)
    now = was.clone().requires_grad_()
    (still,) = torch.autograd.grad(CrossAttention()(show(was), show(now)), now)
    assert still.abs().max() == 0
    away = (was + 0.1).requires_grad_()
    (pull,) = torch.autograd.grad(CrossAttention()(show(was), show(away)), away)
    assert (pull > 0).all()


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
def test_words_are_paired_by_their_longest_common_subsequence(source, edited, pairs):
    assert list(align_tokens(tuple(map(ord, source)), tuple(map(ord, edited)))) == pairs


def test_a_longer_sentence_only_ties_the_words_both_have():
    source, edited = ((0, 5, 1),), ((0, 9, 5, 1),)  # one word put before
    was, now = torch.rand(2, 1, 2, 9, 6)
    moved = now.clone()
    moved[..., 1] += 1.0  # the new word may look wherever it likes
    loss = CrossAttention()
    assert loss(show(was, ids=source), show(now, ids=edited)) == pytest.approx(
        float(loss(show(was, ids=source), show(moved, ids=edited)))
    )
    expected = (now[..., [0, 2, 3, 4, 5]] - was[..., [0, 1, 2, 3, 4]]).square().sum((-2, -1)).mean()
    assert loss(show(was, ids=source), show(now, ids=edited)) == pytest.approx(float(expected))


# contrastive


def test_hard_contrast_is_patch_nce():
    q, k = F.normalize(torch.randn(2, 64, 16), dim=-1)
    positive = (q * k).sum(-1, keepdim=True)
    negatives = (q @ k.T).masked_fill(torch.eye(64, dtype=torch.bool), -10.0)
    logits = torch.cat([positive, negatives], 1) / 0.07
    nce = F.cross_entropy(logits, torch.zeros(64, dtype=torch.long))
    ours = Contrastive(targets="hard", sizes=(1,))(
        show(features=k[None], size=(8, 8)),
        show(features=q[None], size=(8, 8)),
    )
    assert float(ours) * 4096 / 64 == pytest.approx(float(nce), abs=1e-5)


def test_soft_targets_rest_where_features_agree_and_hard_ones_do_not():
    was = smooth(1, 64, 16)
    for targets, rests in (("soft", True), ("hard", False)):
        now = was.clone().requires_grad_()
        loss = Contrastive(targets=targets)(show(features=was), show(features=now))
        (pull,) = torch.autograd.grad(loss, now)
        assert (pull.abs().max() == 0) == rests, targets


def test_the_soft_gradient_is_that_of_the_divergence():
    was, now = smooth(2, 64, 16).double()
    q, k = (F.normalize(part, dim=-1) for part in (now, was))
    target = (k @ k.T / 0.07).softmax(-1)
    leaf = q.clone().requires_grad_()
    plain = (target * (target.log() - (leaf @ k.T / 0.07).log_softmax(-1))).sum(-1).mean()
    (expected,) = torch.autograd.grad(plain, leaf)
    ours = q.clone().requires_grad_()
    loss = Contrastive()._loss(ours, k)
    (found,) = torch.autograd.grad(loss, ours)
    assert torch.allclose(found, expected, atol=1e-9)
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=1e-6)


def test_following_the_soft_gradient_brings_patches_home():
    was, start = smooth(2, 64, 16)
    now = start.clone().requires_grad_()
    loss = Contrastive(sizes=(1,))
    before = loss(show(features=was[None]), show(features=now[None]))
    (pull,) = torch.autograd.grad(before, now)
    after = loss(show(features=was[None]), show(features=(now - 20 * pull)[None]))
    assert after < before


def test_a_mean_over_a_larger_picture_is_scaled_back_up():
    features = smooth(1, 64, 16)
    small = Contrastive(sizes=(1,))(
        show(features=features), show(features=features.flip(1), size=(8, 8))
    )
    edited = show(features=features.flip(1), size=(16, 16))  # the same maps, one level deeper
    large = Contrastive(sizes=(1,))(show(features=features, size=(16, 16)), edited)
    assert float(large) == pytest.approx(4 * float(small), rel=1e-5)


def test_losses_add_up_over_a_batch():
    was, now = smooth(2, 64, 16), smooth(2, 64, 16)
    maps, moved = torch.rand(2, 2, 2, 64, 6)
    for loss in (Contrastive(), CrossAttention()):
        both = loss(show(maps, was, SAME * 2, (3, 4)), show(moved, now, SAME * 2, (3, 4)))
        single = sum(
            loss(
                show(maps[i : i + 1], was[i : i + 1], SAME, (3 + i,)),
                show(moved[i : i + 1], now[i : i + 1], SAME, (3 + i,)),
            )
            for i in range(2)
        )
        assert float(both) == pytest.approx(float(single), rel=1e-5)


def test_places_depend_on_seed_layer_and_size_and_on_nothing_else():
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
def test_the_grid_of_a_layer_follows_the_latents(pixels, size, expected):
    assert layer_size(pixels, size) == expected


def test_a_layer_that_fits_no_level_is_an_error():
    with pytest.raises(ValueError, match="13 positions"):
        layer_size(13, (8, 8))


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0}, {"patches": 1}, {"sizes": ()}, {"targets": "medium"}]
)
def test_contrastive_refuses_impossible_options(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Contrastive(**wrong)


# which layers


def test_coarser_layers_leave_the_finest_blocks_out_of_the_backward_pass():
    model = tiny.model()
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    for layers, reached in (("all", True), ("guidance_prompt", False)):
        touched: list[Tensor] = []
        guidance = CrossAttention(layers=layers)
        with torch.enable_grad(), watch(model.unet, guidance.layer_patterns) as seen:
            eps = model.eps(x.requires_grad_(), 500, c)
        for name, maps in seen.maps.items():
            if name.startswith("up_blocks.1."):
                maps.register_hook(touched.append)
        now = Observation(x, eps, c.ids, (0,), seen.maps)
        was = replace(now.detach(), maps={k: v.detach() + 0.1 for k, v in seen.maps.items()})
        torch.autograd.grad(guidance(was, now), x)
        assert bool(touched) == reached, layers


def test_a_coarser_choice_is_the_loss_of_its_layers_alone():
    fine, coarse = torch.rand(1, 2, 64, 4), torch.rand(1, 2, 16, 4)
    x = torch.zeros(1, 4, 8, 8)

    def show_both(shift):
        maps = {"fine.attn2": fine + shift, "coarse.attn2": coarse + shift}
        return Observation(x, x, SAME, (0,), maps)

    whole = CrossAttention()(show_both(0.0), show_both(0.1))
    guidance_prompt = CrossAttention(layers="guidance_prompt")(show_both(0.0), show_both(0.1))
    assert torch.allclose(whole, torch.tensor(0.01 * (64 + 16) * 4))
    assert torch.allclose(guidance_prompt, torch.tensor(0.01 * 16 * 4))


def test_contrastive_may_read_the_encoder_instead():
    assert Contrastive(features="encoder").layer_patterns == {"down_blocks.*.attn1"}
    k = smooth(1, 64, 8)
    x = torch.zeros(1, 4, 8, 8)

    def show_encoder(features):
        others = torch.randn(1, 64, 8)
        parts = {"down_blocks.0.attn1": features, "up_blocks.0.attn1": others}
        return Observation(x, x, SAME, (0,), {}, parts)

    loss = Contrastive(features="encoder")
    assert abs(float(loss(show_encoder(k), show_encoder(k)))) < 1e-6
    assert loss(show_encoder(k), show_encoder(k.flip(1))) > 0
    for wrong in ({"features": "middle"}, {"targets": "firm"}):
        with pytest.raises(ValueError, match="must be"):
            Contrastive(**wrong)
    with pytest.raises(ValueError, match="layers must be"):
        CrossAttention(layers="some")
