"""Many threads: edits on one model queue up, two models run side by side."""

from __future__ import annotations

import os
import stat
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from conftest import gradient
from PIL import Image

import zerocon
from zerocon.diagnostics.step_images import StepImages
from zerocon.image.reading import Photograph
from zerocon.model.stable_diffusion import StableDiffusion
from zerocon.storage.atomic import writing

PROMPTS = ("dog", "bus", "at night", "watercolor")
PATIENCE = 20  # seconds until a thread that waits for another gives up


def slow_caption(image: Image.Image) -> str:
    """A different caption for every image."""
    time.sleep(0.01)
    return f"a cat {'big ' * (image.width // 16)}on a bench"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> StableDiffusion:
    shared = tiny.model()
    monkeypatch.setattr(
        tiny.TinyCaptioner, "describe", lambda _, images: list(map(slow_caption, images))
    )
    return shared


def work(model: StableDiffusion, number: int) -> tuple[bytes, int, int, str]:
    """Edit number ``number``, with its image, prompt and settings."""
    settings = replace(
        model.settings, seed=number, cache_source=number % 3 != 0, guidance_balance=1.0
    )
    edited = zerocon.edit(
        gradient(64 + 8 * number, 64), to=PROMPTS[number % 4], model=model, settings=settings
    )
    spent = edited.evaluations
    return edited.image.tobytes(), spent.forwards, spent.backwards, edited.caption


def test_four_threads_on_one_model_do_what_a_loop_does(model: StableDiffusion) -> None:
    expected = [work(model, number) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda number: work(model, number), range(8))) == expected
    assert len({edited for edited, *_ in expected}) == 8
    processors = {type(each).__name__ for each in model.unet.attn_processors.values()}
    assert "_Explicit" not in processors


def test_also_with_recomputed_activations() -> None:
    plain, sparing = tiny.model(), tiny.model()
    sparing.runtime.checkpoint()
    expected = [work(plain, number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda number: work(sparing, number), range(4)))
    assert [each[0] for each in results] == [each[0] for each in expected]


def test_edits_on_one_model_take_turns_and_other_work_fits_between(model: StableDiffusion) -> None:
    order: list[int] = []

    def edit_number(number: int) -> None:
        zerocon.edit(
            gradient(64, 64), to="dog", model=model, on_step=lambda _: order.append(number)
        )

    def understand(_: int) -> float:
        return float(zerocon.Direction.of_words(model, "cat", "dog").tokens.norm())

    with ThreadPoolExecutor(4) as pool:
        lengths = pool.map(understand, range(4))
        list(pool.map(edit_number, range(3)))
    assert sorted(order) == [0] * 4 + [1] * 4 + [2] * 4
    assert all(len(set(order[i : i + 4])) == 1 for i in (0, 4, 8)), "one after the other"
    assert len(set(lengths)) == 1


def test_two_models_edit_at_the_same_time() -> None:
    models = [tiny.model(seed=0), tiny.model(seed=1)]
    expected = [work(model, 1) for model in models]
    meeting = threading.Barrier(2)

    def edit_with(model: StableDiffusion) -> bytes:
        return zerocon.edit(
            gradient(72, 64), to="bus", model=model,
            settings=replace(model.settings, seed=1),
            on_step=lambda _: meeting.wait(PATIENCE) and None,
        ).image.tobytes()  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(edit_with, models))
    assert results == [each[0] for each in expected] and results[0] != results[1]


def test_on_step_may_use_the_model_of_the_edit(model: StableDiffusion, tmp_path: Path):
    from zerocon.image.transforms import prepare

    frame = prepare(gradient(64, 64), model.working_size).frame
    step_images = StepImages(tmp_path / "steps", model, frame)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(
            zerocon.edit, gradient(64, 64), to="dog", model=model, on_step=step_images
        )
        future.result(PATIENCE)
    assert len(list((tmp_path / "steps").iterdir())) == 4


def test_what_is_loaded_late_is_loaded_once() -> None:
    loads: list[Any] = []

    def load() -> tiny.TinyCaptioner:
        time.sleep(0.05)
        loads.append(1)
        return tiny.TinyCaptioner()

    model = tiny.model()
    model._load_captioner = load
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: model.captioner.describe([gradient(64, 64)]), range(4)))
    assert len(loads) == 1


def test_the_callers_grad_mode_is_neither_used_nor_changed(model: StableDiffusion) -> None:
    expected = work(model, 1)

    def within(enabled: bool) -> bool:
        with torch.set_grad_enabled(enabled):
            assert work(model, 1) == expected
            return torch.is_grad_enabled()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(within, [True, False])) == [True, False]


def test_reading_and_writing_leave_the_process_as_it_was(tmp_path: Path) -> None:
    gradient(64, 64).save(tmp_path / "cat.png")
    before, mask = list(warnings.filters), os.umask(0o027)

    def copy(number: int) -> Path:
        path = tmp_path / f"{number}.png"
        photograph = Photograph.read(tmp_path / "cat.png")
        photograph.save(photograph.image, path)
        return path

    try:
        with ThreadPoolExecutor(8) as pool:
            paths = list(pool.map(copy, range(64)))
        with writing(tmp_path / "last") as temporary:
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o640
    finally:
        assert os.umask(mask) == 0o027
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o640}
    assert warnings.filters == before
