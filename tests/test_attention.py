import pytest
import tiny
import torch
from diffusers.models.attention_processor import AttnProcessor

from zerocon.model.attention import CROSS, DECODER_SELF, watch


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def call(model, x):
    return model.eps(x, 500, model.embed(["a cat"] * len(x)))


def state(unet):
    hooks = [len(module._forward_hooks) for module in unet.modules()]
    return repr(unet), {n: id(p) for n, p in unet.attn_processors.items()}, hooks


def test_watching_shows_maps_and_features(model):
    with watch(model.unet, {CROSS, DECODER_SELF}) as seen:
        call(model, torch.randn(2, 4, 8, 6))
    assert set(seen.maps) == {n for n, _ in model.unet.named_modules() if n.endswith("attn2")}
    assert all(name.startswith("up_blocks") for name in seen.features)
    for maps in seen.maps.values():
        batch, _, pixels, positions = maps.shape
        assert (batch, positions) == (2, tiny.POSITIONS) and pixels in (48, 12)
        assert torch.allclose(maps.sum(-1), torch.ones(()), atol=1e-5)


def test_watching_changes_nothing_but_rounding(model):
    x = torch.randn(1, 4, 8, 8)
    plain = call(model, x)
    with watch(model.unet, {CROSS, DECODER_SELF}):
        watched = call(model, x)
    assert torch.allclose(plain, watched, atol=1e-5)


def test_explicit_self_attention_changes_only_rounding(model):
    x = torch.randn(1, 4, 8, 8)
    fused = call(model, x)
    before = model.unet.attn_processors
    model.unet.set_attn_processor(AttnProcessor())
    explicit = call(model, x)
    model.unet.set_attn_processor(before)
    assert torch.allclose(fused, explicit, atol=1e-5)


@pytest.mark.parametrize("fails", [False, True])
def test_no_trace_is_left(model, fails):
    before = state(model.unet)
    try:
        with watch(model.unet, {CROSS, DECODER_SELF}):
            call(model, torch.randn(1, 4, 8, 8))
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert state(model.unet) == before


def test_a_pattern_that_matches_nothing_is_refused_and_leaves_no_trace(model):
    before = state(model.unet)
    with pytest.raises(ValueError, match="matches"), watch(model.unet, {CROSS, "up_block.attn1"}):
        pass
    assert state(model.unet) == before


def test_self_attention_stays_fused_while_watched(model):
    with watch(model.unet, {CROSS, DECODER_SELF}):
        kinds = {n: type(p).__name__ for n, p in model.unet.attn_processors.items()}
    assert {kind for n, kind in kinds.items() if "attn1" in n} == {"AttnProcessor2_0"}
