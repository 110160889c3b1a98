"""NaN and infinity at any call of any network end in an error or in an image like float32's.

Tolerance of an image that a half-precision edit writes after a repeated call: mean difference from
the float32 run of the same weights of at most ``TOLERANCE`` levels of 255.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from conftest import gradient
from torch import nn

import zerocon
from zerocon.api import edit_batch
from zerocon.cache import Cache
from zerocon.errors import NotFiniteError
from zerocon.image.transforms import prepare
from zerocon.model import attention, precision
from zerocon.request import parse_request
from zerocon.settings import Settings

INJECTIONS, SEED = 220, 5
PARTS = ("unet", "encode", "decode", "text", "maps", "gradient", "clip", "captioner")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # torch's CPU runs all three
TOLERANCE = {torch.float32: 0.0, torch.float16: 4.0, torch.bfloat16: 16.0}
METHODS: dict[str, dict[str, Any]] = {
    "free": {"guidance": ()},
    "guided": {"guidance": ("cross-attention", "contrastive:weight=1")},
    "controlled": {"guidance": (), "attention": "injection"},
    "both": {"guidance": ("cross-attention",), "attention": "injection:self=0.5"},
}


def in_dtype(dtype: torch.dtype) -> Any:
    """The tiny model, CLIP and captioner with weights rounded to ``dtype``."""
    model = tiny.model()
    model.scorer_network, captioner = tiny.scorer(), tiny.captioner()
    networks = (model.unet, model.vae, model.text_encoder)
    for network in (*networks, model.scorer_network.network, captioner.network):
        network.to(dtype)
    model._load_scorer, model._load_captioner = (lambda: model.scorer_network), lambda: captioner
    return model


@pytest.fixture(scope="module")
def models() -> dict[torch.dtype, Any]:
    return {dtype: in_dtype(dtype) for dtype in DTYPES}


@pytest.fixture(scope="module")
def references(models: dict[torch.dtype, Any]) -> dict[Any, list[np.ndarray]]:
    """Images of every kind of edit in float32, of the weights of every dtype."""
    found: dict[Any, list[np.ndarray]] = {}
    for dtype, method, size in itertools.product(DTYPES, METHODS, (1, 2)):
        model = in_dtype(dtype)
        for network in (model.unet, model.vae, model.text_encoder):
            network.float()
        found[dtype, method, size] = edited(model, method, size)[0]
    return found


def edited(model: Any, method: str, size: int, **more: Any) -> tuple[list[np.ndarray], list[Any]]:
    """Images and edits of one image, or of two in a batch."""
    settings = Settings(steps=2, guidance_scale=3.0, composite="model").overlay(METHODS[method])
    images = [gradient(64, 48), gradient(64, 48).rotate(180)][:size]
    requests = [
        parse_request(image, model, to="dog", settings=replace(settings, direction_from="caption"))
        for image in images
    ]
    edits = edit_batch(images, requests, model=model, settings=settings, **more)
    return [np.asarray(each.image, np.float32) for each in edits], edits


def part_of(model: Any, part: str) -> nn.Module:
    return {
        "unet": model.unet,
        "encode": model.vae.encoder,
        "decode": model.vae.decoder,
        "text": model.text_encoder.text_model.final_layer_norm
        if hasattr(model.text_encoder, "text_model")
        else model.text_encoder.final_layer_norm,
        "maps": model.unet,
        "gradient": model.unet,
        "clip": model.scorer_network.network.visual_projection,
        "captioner": model.captioner.network.text_decoder,
    }[part]


@contextmanager
def injected(
    model: Any, part: str, call: int, value: float, *, always: bool, row: int = 0
) -> Iterator[list[int]]:
    """Spoil one element of a part's output from its call number ``call`` on.

    Without ``always`` not in float32, where the values would be in range.
    """
    count = [0, 0]

    def spoil(output: torch.Tensor) -> torch.Tensor:
        count[0] += 1
        if count[0] <= call or (output.dtype == torch.float32 and not always):
            return output
        count[1] += 1
        output = output.clone()
        output[row % len(output)].view(-1)[-1] = value
        return output

    def hook(_: Any, __: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return spoil(output)
        name = "sample" if hasattr(output, "sample") else "logits"
        output[name] = spoil(output[name])
        return output

    scores = attention.ExplicitAttention.__call__
    if part == "maps":
        projection = next(m for n, m in model.unet.named_modules() if n.endswith("attn2.to_q"))
        handle: Any = projection.register_forward_hook(hook)
    elif part == "gradient":

        def backward(_: Any, incoming: Any) -> Any:
            return (spoil(incoming[0]), *incoming[1:])

        handle = model.unet.mid_block.register_full_backward_pre_hook(backward)
    else:
        handle = part_of(model, part).register_forward_hook(hook)
    assert scores is attention.ExplicitAttention.__call__
    try:
        yield count
    finally:
        handle.remove()
