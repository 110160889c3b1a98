"""Recording attention layers changes nothing but rounding and leaves no trace; the U-Net's call."""

import re
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

from zerocon.conditioning import Conditioning
from zerocon.model.attention import CROSS, DECODER_SELF, LAYERS, call_unet, watch


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


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [
        ("cross_attention", "", "attn2"),
        ("self_attention_decoder", "up_blocks", "attn1"),
        ("self_attention_encoder", "down_blocks", "attn1"),
    ],
)
def test_kinds_of_layers_are_patterns_of_names(model, kind, start, end):
    with watch(model.unet, {model.layers(kind)}) as outputs:
        call(model, torch.randn(1, 4, 8, 8))
    recorded = {**outputs.maps, **outputs.features}
    expected = [n for n, _ in model.unet.named_modules() if n.endswith(end) and n.startswith(start)]
    assert sorted(recorded) == sorted(expected) and kind in LAYERS
    assert model.layers("mid_block.*.attn1") == "mid_block.*.attn1"


def test_pooled_embeddings_and_time_ids_reach_a_unet_that_takes_them():
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        block_out_channels=(16,),
        attention_head_dim=2,
        cross_attention_dim=16,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=5 + 6 * 4,
    ).to(torch.bfloat16)
    c = Conditioning(
        torch.randn(1, 3, 16), ((0, 1),), "clip", torch.randn(1, 5), {"time_ids": torch.ones(1, 6)}
    )
    other = Conditioning(c.tokens, c.ids, c.encoder, c.pooled + 1, c.extra)
    larger = Conditioning(c.tokens, c.ids, c.encoder, c.pooled, {"time_ids": torch.zeros(1, 6)})
    x = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        outputs = [call_unet(unet, x, 10, each) for each in (c, c, other, larger)]
    assert outputs[0].dtype == torch.float32 and torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2]) and not torch.equal(outputs[0], outputs[3])


def test_the_unet_is_called_in_one_place():
    root = Path(__file__).parent.parent
    callers = [
        str(file.relative_to(root))
        for folder in ("zerocon", "cli")
        for file in (root / folder).rglob("*.py")
        if "training" not in file.parts and re.search(r"(?<!def )\bunet\(", file.read_text())
    ]
    assert callers == ["zerocon/model/attention.py"]
