"""Speed of a U-Net alone, in the shape of a model family that zerocon does not support."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zerocon.bench.random_weights import ModelShape, random_unet
from zerocon.bench.speed import Lap, wait
from zerocon.conditioning import Conditioning
from zerocon.mini import path
from zerocon.model.attention import call_unet

UNET_CALL, UNET_LOOP = "U-Net call", "denoising loop"
LOOP_STEPS = 20
GUIDANCE_SCALE = 5.0


def unet_runs(
    unet: Any, shape: ModelShape, device: torch.device, images: int, steps: int = LOOP_STEPS
) -> Mapping[str, Callable[[], Lap]]:
    """A call of a U-Net, and a denoising loop around it, with random latents and embeddings."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_pretrained(path() / "scheduler")
    scheduler.set_timesteps(steps)
    times = [float(t) for t in scheduler.timesteps]
    x = torch.randn(images, 4, *[shape.unet["sample_size"]] * 2, device=device)

    @torch.no_grad()
    def call() -> Lap:
        c = random_conditioning(shape, images, device)
        wait(device)
        start = perf_counter()
        for t in times:
            call_unet(unet, x, t, c)
        wait(device)
        return (perf_counter() - start) / steps / images, 1.0

    @torch.no_grad()
    def loop() -> Lap:
        c, latents = random_conditioning(shape, 2 * images, device), x
        wait(device)
        start = perf_counter()
        for t in times:
            plain, conditional = call_unet(unet, torch.cat([latents] * 2), t, c).chunk(2)
            eps = plain + GUIDANCE_SCALE * (conditional - plain)
            latents = scheduler.step(eps, int(t), latents).prev_sample
        wait(device)
        return (perf_counter() - start) / images, 2.0 * steps

    return {UNET_CALL: call, UNET_LOOP: loop}


def unet_operations(shape: ModelShape) -> float:
    """Floating-point operations of one U-Net evaluation; attention counts as matrix products."""
    meta = torch.device("meta")
    unet = random_unet(shape, meta, torch.float32)
    x = torch.empty(1, 4, *[shape.unet["sample_size"]] * 2, device=meta)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        with sdpa_kernel(SDPBackend.MATH):
            call_unet(unet, x, 0, random_conditioning(shape, 1, meta))
    return float(counter.get_total_flops())


def random_conditioning(shape: ModelShape, rows: int, device: torch.device) -> Conditioning:
    """Tokens, and where a U-Net of this shape takes them a pooled embedding and sizes."""
    unet, extra = shape.unet, {}
    pooled = None
    if "addition_embed_type" in unet:
        inputs = unet["projection_class_embeddings_input_dim"] - 6 * unet["addition_time_embed_dim"]
        pooled = torch.randn(rows, inputs, device=device)
        extra = {"time_ids": torch.full((rows, 6), 1024.0, device=device)}
    tokens = torch.randn(rows, 77, unet["cross_attention_dim"], device=device)
    return Conditioning(tokens, ((),) * rows, "", pooled=pooled, extra=extra)
