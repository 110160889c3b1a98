"""One thread, fixed seeds, and the images that several tests share."""

from __future__ import annotations

import gc
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from stress.options import pytest_addoption  # noqa: F401

from zerocon.image.metadata import KEYWORD, Provenance
from zerocon.model import Model, ModelSpec, load

torch.set_num_threads(1)  # on a busy machine two threads make small networks a hundred times slower


def pytest_collection_finish() -> None:
    """Exempt the libraries from garbage collection, which would traverse them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No test depends on the user's model or cache, and none may download weights."""
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("ZEROCON_NO_CACHE", "1")  # tests count the evaluations of an edit without it
    monkeypatch.delenv("ZEROCON_CACHE_LIMIT", raising=False)
    monkeypatch.delenv("ZEROCON_MODEL", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@cache
def _loaded(spec: ModelSpec) -> Model:
    return load(spec)


@pytest.fixture
def shared_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that a test runs in this process load each model once, for all tests together."""
    monkeypatch.setattr("zerocon.api.load_model", _loaded)


def gradient(width: int, height: int) -> Image.Image:
    """A smooth image in which every column and every row has a different color."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))


def recipe_chunk(recipe: str) -> PngInfo:
    """The texts of an edited PNG: its recipe and its label."""
    provenance, chunks = Provenance(recipe), PngInfo()
    chunks.add_itxt(KEYWORD, recipe)
    chunks.add_itxt("XML:com.adobe.xmp", provenance.packet("PNG").decode())
    return chunks


@pytest.fixture
def image() -> Image.Image:
    return gradient(96, 64)


@pytest.fixture
def image_file(tmp_path: Path, image: Image.Image) -> Path:
    path = tmp_path / "cat.png"
    image.save(path)
    return path
