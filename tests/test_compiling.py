"""What a compiler makes of the networks must learn as they do."""

import numpy as np
import pytest
import tiny
import torch
from conftest import gradient
from diffusers import AutoencoderKL, UNet2DConditionModel

import zerocon
from zerocon.settings import Settings
from zerocon.training.compile import compiled

# what the compiler warns of is its own affair
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def gradients(network, answer):
    answer.float().square().mean().backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    return found


def test_a_compiled_unet_learns_in_every_layer_what_it_would_have_learnt() -> None:
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 16, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=8,
    ).to(memory_format=torch.channels_last)
    x, t, tokens = torch.randn(4, 4, 16, 16), torch.tensor([5, 300, 600, 900]), torch.randn(4, 6, 8)
    x = x.to(memory_format=torch.channels_last)
    plain = gradients(unet, unet(x, t, tokens).sample)
    with torch.autocast("cpu", torch.bfloat16):
        answer = compiled(unet)(x, t, tokens).sample
    agree(plain, gradients(unet, answer))


def test_a_compiled_decoder_tells_its_input_what_to_change() -> None:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 16),
        norm_num_groups=8,
    ).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 16, 16).to(memory_format=torch.channels_last)
    plain = gradients(vae, vae.decode(vae.encode(x).latent_dist.mode()).sample)
    encode, decode = compiled(vae, "encode"), compiled(vae, "decode")
    with torch.autocast("cpu", torch.bfloat16):
        answer = decode(encode(x).latent_dist.mode()).sample
    agree(plain, gradients(vae, answer))


def agree(plain, fast):
    assert plain.keys() == fast.keys()
    for name, slope in plain.items():
        likeness = torch.cosine_similarity(slope.flatten(), fast[name].flatten(), dim=0)
        small = slope.norm() < 1e-6  # such as those of keys' biases, which are zero in theory
        assert small or likeness > 0.9, name


def test_a_compiled_edit_is_the_same_edit() -> None:
    """Looked into, or asked for a gradient, the U-Net is still the plain one."""
    image, asked = gradient(48, 64), {"to": "dog", "caption": "a cat on a bench"}
    settings = Settings(steps=3, guidance_range=(0.0, 0.5))
    plain, compiled_model = tiny.model(), tiny.model()
    compiled_model.runtime.compile()
    calls = []
    fast = compiled_model.runtime._compiled
    compiled_model.runtime._compiled = lambda *given, **named: (
        calls.append(1) or fast(*given, **named)
    )
    before = zerocon.edit(image, model=plain, settings=settings, **asked).image
    after = zerocon.edit(image, model=compiled_model, settings=settings, **asked).image
    assert np.abs(np.int16(before) - np.int16(after)).max() <= 2
    assert len(calls) == 1 + 3, "the picture's own level, and a prediction a step"
