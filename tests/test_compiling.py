"""Compiled networks have the gradients and results of uncompiled ones."""

import numpy as np
import pytest
import tiny
import torch
from conftest import gradient
from diffusers import AutoencoderKL, UNet2DConditionModel

import zerocon
from zerocon.settings import Settings
from zerocon.training.torch_compile import compiled

# warnings of the compiler are no failure
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def gradients(network, output):
    output.float().square().mean().backward()
    values = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    return values


def test_a_compiled_unet_has_the_same_gradient_in_every_layer() -> None:
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
        output = compiled(unet)(x, t, tokens).sample
    assert_similar(plain, gradients(unet, output))


def test_a_compiled_autoencoder_has_the_same_gradient_in_every_layer() -> None:
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
        output = decode(encode(x).latent_dist.mode()).sample
    assert_similar(plain, gradients(vae, output))


def assert_similar(plain, fast):
    assert plain.keys() == fast.keys()
    for name, slope in plain.items():
        cosine = torch.cosine_similarity(slope.flatten(), fast[name].flatten(), dim=0)
        small = slope.norm() < 1e-6  # such as those of the keys' biases, which are zero in theory
        assert small or cosine > 0.9, name


def test_a_compiled_edit_is_the_same_edit() -> None:
    """Passes that are observed or need a gradient use the uncompiled U-Net."""
    image, prompt = gradient(48, 64), {"to": "dog", "caption": "a cat on a bench"}
    settings = Settings(steps=3, guidance_range=(0.0, 0.5))
    plain, compiled_model = tiny.model(), tiny.model()
    compiled_model.runtime.compile()
    calls, compiled_unet = [], compiled_model.runtime.compiled_unet

    class Counted:
        dtype = compiled_unet.dtype

        def __call__(self, *args, **kwargs):
            calls.append(1)
            return compiled_unet(*args, **kwargs)

    compiled_model.runtime._compiled = Counted()
    before = zerocon.edit(image, model=plain, settings=settings, **prompt).image
    after = zerocon.edit(image, model=compiled_model, settings=settings, **prompt).image
    assert np.abs(np.int16(before) - np.int16(after)).max() <= 2
    assert len(calls) == 1 + 3, "the lowest noise level, and one prediction per step"
