"""Explanations: changed words, attention maps, losses, and the sheet that shows them."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from conftest import gradient
from PIL import Image

import zerocon
from zerocon.activations import Observation
from zerocon.diagnostics import explanation, plots
from zerocon.diagnostics.explanation import Attention, Explanation, Snapshot
from zerocon.editing import Step
from zerocon.evaluation_count import Evaluations
from zerocon.image.transforms import WorkingSize, prepare

SIZE = WorkingSize(64, 16, "longest")


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def texts(words):
    return [word.text for word in words]


@pytest.mark.parametrize(
    ("caption", "target", "before", "after"),
    [
        ("a cat in a box", "a dog in a box", ["cat"], ["dog"]),
        ("a cat", "a cat at night", [], ["night"]),  # "at" is a stop word
        ("a cat at night", "a cat", ["night"], []),
        ("a cat on it", "a cat in it", ["on"], ["in"]),  # no other words
        ("a cat", "a cat", [], []),
        ("an ox", "a red ox", ["an"], ["red"]),
    ],
)
def test_changed_words_of_two_captions(model, caption, target, before, after):
    left, right = explanation.changed_words(model, caption, target)
    assert (texts(left), texts(right)) == (before, after)


def test_positions_of_words_are_those_of_their_tokens(model):
    words = explanation.split(model, "A cat  up.")  # here a letter is a token
    assert texts(words)[:2] == ["a", "cat"]
    assert [word.positions for word in words][:2] == [(1,), (2, 3, 4)]
    truncated = explanation.split(model, "abcdefghijkl mnopq rst")  # 14 of 16 positions
    assert texts(truncated) == ["abcdefghijkl", "mnopq"] and truncated[1].positions == (13, 14)


@pytest.mark.parametrize(
    ("steps", "numbers"), [(50, [7, 19, 32, 44]), (4, [1, 2, 3, 4]), (1, [1]), (2, [1, 2])]
)
def test_snapshots_are_spread_over_the_steps(steps, numbers):
    assert explanation.spread(4, steps) == numbers


def test_a_map_is_resized_to_the_image_without_its_padding():
    working = prepare(gradient(100, 50), SIZE)  # 64x32, nothing padded
    assert tuple(working.pixels.shape[-2:]) == (32, 64)
    heat = torch.zeros(4, 8)
    heat[3, 1] = 1.0  # of 8x8 pixels: rows 24..31, columns 8..15
    resized = explanation.resize(heat, working)
    assert tuple(resized.shape) == (32, 64)
    assert divmod(int(resized.argmax()), 64)[0] in range(24, 32)
    assert divmod(int(resized.argmax()), 64)[1] in range(8, 16)
    assert resized[:16].max() == 0 and resized[:, 24:].max() == 0

    tall = prepare(gradient(50, 80), SIZE)  # 40x64, padded to 48
    assert (tall.frame.inner, tuple(tall.pixels.shape[-2:])) == ((40, 64), (64, 48))
    heat = torch.zeros(8, 6)
    heat[:, 5] = 1.0  # on the padding alone
    resized = explanation.resize(heat, tall)
    assert tuple(resized.shape) == (64, 40)
    assert resized[:, :36].max() == 0


def test_layers_around_16_positions_are_averaged_over_heads_on_the_latents_grid():
    def layer(rows, columns, value):  # two heads, whose mean is the value; two positions
        maps = torch.full((1, 2, rows * columns, 2), value)
        maps[:, 0] *= 2
        maps[:, 1] *= 0
        return maps

    corner = torch.zeros(1, 2, 16 * 8, 2)
    corner[0, :, 7, 1] = 1.0  # top right of a map of 16 rows and 8 columns
    maps = {
        "finest": layer(64, 32, 9.0),
        "half": layer(32, 16, 0.25),
        "eighth": layer(8, 4, 0.75),
    }
    x = torch.zeros(1, 4, 64, 32)
    observed = Observation(x, x, ((0, 1),), maps={**maps, "quarter": corner})
    merged = explanation.merge(observed)
    assert tuple(merged.shape) == (2, 64, 32)
    assert torch.allclose(merged[0], torch.full((64, 32), (0.25 + 0.75) / 3))
    row, column = divmod(int(merged[1].argmax()), 32)
    assert row < 4 and column >= 28
    alone = replace(observed, maps={"finest": maps["finest"]})  # a U-Net of one level
    assert torch.allclose(explanation.merge(alone), torch.full((2, 64, 32), 9.0))


def steps_with(losses):
    ones = torch.ones(1, 4, 2, 2)
    return [
        Step(len(losses) - number, 3 * ones, ones, ones, loss)
        for number, loss in enumerate(losses, 1)
    ]


def test_losses_by_guidance_and_step():
    steps = steps_with([torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [4.0]]), None])
    (a, first), (b, second) = explanation.losses(steps, ("a:weight=2", "b"))
    assert (a, b) == ("a:weight=2", "b")
    assert first[:2] == (1.0, 2.0) and second[:2] == (3.0, 4.0)
    assert math.isnan(first[2]) and math.isnan(second[2])


@pytest.mark.parametrize("to", ["dog", "at night"])
def test_the_explanation_of_an_edit(model, to):
    image, steps = gradient(90, 51), []
    edited = zerocon.edit(
        image, model=model, to=to, caption="a cat", preset="paper", steps=4, on_step=steps.append
    )
    assert [step.level for step in steps] == [3, 2, 1, 0]
    explained = explanation.explain(edited, steps, model)
    sides = {"dog": [("source", "cat"), ("edited", "dog")], "at night": [("edited", "night")]}[to]
    assert [(each.side, each.word) for each in explained.attention] == sides
    assert explained.changed and explained.omitted == ()
    names = ", ".join(word for _, word in sides)
    target = edited.target_caption
    assert repr(explained) == f'Explanation("a cat" -> "{target}", words: {names})'
    assert [each.step for each in explained.snapshots] == [1, 2, 3, 4]
    noise = [each.noise for each in explained.snapshots]
    assert noise == sorted(noise, reverse=True) and 0 < noise[-1] < noise[0] < 1
    for heat in (heat for each in explained.attention for heat in each.maps):
        assert tuple(heat.shape) == (48, 85)  # the working size of 90x51, without padding
        assert 0 < heat.min() and heat.max() < 1
    assert [name for name, _ in explained.losses] == list(edited.settings.guidance)
    assert len(explained.differences) == 4 and explained.differences[0] > 0
    # the evaluations of the explanation are not added to those of the edit
    assert explained.evaluations.total == 4 * len(sides)
    assert edited.evaluations.total == pytest.approx(5 + 4 * 3 + 4 * 1.15)


def test_without_changed_words_the_last_ones_are_shown(model):
    image, steps = gradient(64, 64), []
    edited = zerocon.edit(image, model=model, to="dog", caption="a cat", on_step=steps.append)
    words = replace(edited.request.rewrite, target_caption="a cat")
    same = replace(edited, request=replace(edited.request, rewrite=words))
    explained = explanation.explain(same, steps, model)
    assert not explained.changed
    assert [(each.side, each.word) for each in explained.attention] == [
        ("source", "cat"), ("edited", "cat"),
    ]  # fmt: skip


def explanation_of(size=(90, 51), heat=None, losses=(), **more):
    heat = torch.rand(36, 64) if heat is None else heat
    snapshots = (Snapshot(1, 0.9), Snapshot(2, 0.1))
    row = Attention("edited", "dog", 0.1, (heat, heat))
    return Explanation(
        source=Image.new("RGB", size, "gray"),
        edited=Image.new("RGB", size, "gray"),
        caption="a cat for $5 or $6",  # not parsed as mathematics
        target_caption="a dog for $5 or $6 in the snow of a very long winter's night far away",
        snapshots=snapshots,
        attention=(row,),
        changed=True,
        omitted=("snow",),
        losses=losses,
        differences=(0.1, 0.2),
        evaluations=Evaluations(4),
        **more,
    )


@pytest.mark.parametrize("size", [(90, 51), (30, 90), (1600, 400)])
def test_sheets_of_any_aspect_ratio(size):
    sheet = plots.draw(
        explanation_of(size, losses=(("a", (1.0, 2.0)), ("b", (math.nan, math.nan))))
    )
    assert sheet.mode == "RGB" and sheet.width == 1440 and 600 < sheet.height < 2500
    assert np.asarray(sheet).std() > 20


def test_a_sheet_is_deterministic_and_leaves_no_global_state():
    heat = torch.rand(36, 64)
    first, second = (plots.draw(explanation_of(heat=heat)).tobytes() for _ in range(2))
    assert first == second
    assert "matplotlib.pyplot" not in sys.modules


def test_attention_is_drawn_at_its_place():
    left, right = torch.zeros(36, 64), torch.zeros(36, 64)
    left[:, :32], right[:, 32:] = 1.0, 1.0
    one, two = (np.asarray(plots.draw(explanation_of(heat=h)), int).sum(-1) for h in (left, right))
    brighter = np.argwhere(one - two > 100)
    darker = np.argwhere(two - one > 100)
    assert len(brighter) > 1000 and len(darker) > 1000
    rows = brighter[:, 0].min(), brighter[:, 0].max()
    assert rows == (darker[:, 0].min(), darker[:, 0].max())
    middle = (one - two)[(rows[0] + rows[1]) // 2]
    signs = [int(np.sign(v)) for v in middle if abs(v) > 100]
    turns = [a for a, b in zip(signs, [0, *signs], strict=False) if a != b]
    assert turns == [1, -1, 1, -1]  # left then right, in each of the two images


def test_without_matplotlib_the_error_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(zerocon.MissingError, match="pip install matplotlib"):
        plots.draw(explanation_of())
