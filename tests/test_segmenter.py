"""Masks from words: CLIPSeg's real class with small random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from conftest import gradient
from PIL import Image
from test_hub import keep, run

from zerocon.errors import (
    MaskTextError,
    ModelNotFoundError,
    NotFiniteError,
    PickleRefusedError,
    UnsupportedModelError,
)
from zerocon.image.masks import read_mask
from zerocon.model.segmenter import DEFAULT_SEGMENTER, Segmenter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_segmenter(tmp_path_factory.mktemp("models") / "segmenter")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def drawing(logits: torch.Tensor) -> Segmenter:
    """A segmenter whose network returns ``logits``, (1, rows, columns), whatever it is given."""

    class Network(torch.nn.Module):
        dtype = torch.float32

        def forward(self, **_: Any) -> SimpleNamespace:
            return SimpleNamespace(logits=logits)

    def images(image: Image.Image, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(pixel_values=torch.zeros(1, 3, 8, 8))

    return Segmenter(Network(), tiny.tokenizer(), images, "cpu")


def logit(probability: float) -> float:
    return float(torch.logit(torch.tensor(probability, dtype=torch.float64)))


# the mask


def test_a_mask_has_the_size_of_the_image_and_is_deterministic(folder: Path) -> None:
    segmenter = Segmenter.load(str(folder))
    image = gradient(96, 50)
    mask = segmenter.mask(image, "the hat")
    assert (mask.mode, mask.size) == ("L", (96, 50))
    assert len(np.unique(mask)) > 10
    assert np.array_equal(mask, Segmenter.load(str(folder)).mask(image, "the hat"))
    assert not np.array_equal(mask, segmenter.mask(image.rotate(90), "the hat"))
    assert read_mask(mask, image.size).image.tobytes() == mask.tobytes()


def test_probabilities_are_those_of_the_network_between_0_and_1(folder: Path) -> None:
    segmenter = Segmenter.load(str(folder))
    image = gradient(32, 32)  # of the network's own size: nothing is resized
    values = segmenter.probabilities(image, "a hat")
    assert values.shape == (32, 32) and values.dtype == np.float32
    assert 0 <= values.min() < values.max() <= 1
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
    tokens = tiny.tokenizer()("a hat", return_tensors="pt").input_ids
    with torch.no_grad():
        expected = segmenter.network(input_ids=tokens, pixel_values=pixels).logits.sigmoid()
    assert np.abs(values - expected.numpy().reshape(32, 32)).max() < 1e-5


def test_other_words_give_another_mask(folder: Path) -> None:
    segmenter, image = Segmenter.load(str(folder)), gradient(64, 64)
    one, other = (segmenter.probabilities(image, text) for text in ("hat", "tree"))
    assert np.abs(one - other).max() > 1e-6


def test_half_precision_gives_nearly_the_same_mask(folder: Path) -> None:
    image = gradient(64, 48)
    half = Segmenter.load(str(folder), "cpu", torch.bfloat16)
    assert half.network.dtype == torch.bfloat16
    values = half.probabilities(image, "hat")
    assert values.dtype == np.float32
    assert np.abs(values - Segmenter.load(str(folder)).probabilities(image, "hat")).mean() < 0.05


def test_the_mask_is_where_the_network_says() -> None:
    logits = torch.full((1, 40, 40), logit(0.01))
    logits[:, :10, 20:] = logit(0.99)  # upper right, a quarter of the rows
    mask = np.asarray(drawing(logits).mask(gradient(200, 80), "hat"))
    assert mask.shape == (80, 200)
    assert (mask[:18, 105:] == 255).all()
    assert (mask[22:] == 0).all() and (mask[:, :95] == 0).all()


@pytest.mark.parametrize(
    ("probability", "value"), [(0.3, 128), (0.31, 140), (0.35, 191), (0.4, 255), (0.9, 255)]
)
def test_the_threshold_is_soft(probability: float, value: int) -> None:
    logits = torch.full((1, 8, 8), logit(probability) + 1e-6)
    mask = np.asarray(drawing(logits).mask(gradient(30, 20), "hat"))
    assert np.abs(mask.astype(int) - value).max() <= 1
    logits[:, :4] = logit(0.2)
    assert np.asarray(drawing(logits).mask(gradient(8, 8), "hat"))[0].max() == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the hat", "no hat was found in the image (highest probability 0.12); "),
        ("A red  hat", "no red hat was found in the image (highest probability 0.12); "),
        ("the", "no the was found"),
        ("   ", "no words for the mask; "),
    ],
)
def test_words_that_name_nothing_are_an_error_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    segmenter = Segmenter.load(str(tiny.save_segmenter(tmp_path / "low", probability=0.12)))
    with pytest.raises(MaskTextError) as caught:
        segmenter.mask(gradient(40, 30), text)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert (caught.value.id, caught.value.code) == ("ZC-E026", 2)


def test_a_long_text_is_cut_to_what_the_network_reads(folder: Path) -> None:
    assert Segmenter.load(str(folder)).mask(gradient(40, 30), "hat " * 50).size == (40, 30)


def test_values_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(NotFiniteError, match="probabilities in float32 are not finite"):
        drawing(torch.full((1, 4, 4), float("nan"))).mask(gradient(20, 20), "hat")


# loading


def test_a_missing_model_names_the_command_that_gets_it(cache: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        Segmenter.load()
    assert str(caught.value) == (
        f"{DEFAULT_SEGMENTER} is not on this machine; get it with: zerocon models pull "
        f"{DEFAULT_SEGMENTER}, or give a mask: --mask FILE"
    )
    assert caught.value.code == 3


def test_a_hub_id_is_loaded_from_the_cache_listed_and_verified(cache: Path, folder: Path) -> None:
    keep(cache, DEFAULT_SEGMENTER, folder)
    assert Segmenter.load().mask(gradient(40, 30), "hat").size == (40, 30)
    assert f"{DEFAULT_SEGMENTER}  segmenter  " in run("models", "list").stdout
    assert run("models", "verify", DEFAULT_SEGMENTER).exit_code == 0


def test_a_pickle_is_never_opened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickles = shutil.copytree(folder, tmp_path / "pickles")
    (pickles / "model.safetensors").unlink()
    (pickles / "pytorch_model.bin").write_bytes(b"opened")

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle is opened")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(PickleRefusedError, match=r"pytorch_model\.bin is a pickle"):
        Segmenter.load(str(pickles))
    shutil.copy(folder / "model.safetensors", pickles)
    assert Segmenter.load(str(pickles)).mask(gradient(40, 30), "hat").size == (40, 30)


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def change_type(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "blip"}))


def cut_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (remove_weights, ModelNotFoundError, "is not complete"),
        (cut_weights, ModelNotFoundError, "is not complete"),
        (
            change_type,
            UnsupportedModelError,
            "is BLIP, .*; a mask needs clipseg",
        ),
        (cut_config, UnsupportedModelError, "is damaged"),
    ],
)
def test_a_damaged_model_is_an_error_in_one_line(
    folder: Path, tmp_path: Path, spoil: Any, error: type[Exception], message: str
) -> None:
    bad = shutil.copytree(folder, tmp_path / "bad")
    spoil(bad)
    with pytest.raises(error, match=message) as caught:
        Segmenter.load(str(bad))
    assert "\n" not in str(caught.value)
