"""The speed test times the right edits, and its table is right."""

import json

import pytest
import tiny
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from zerocon.bench import speed
from zerocon.bench.random_weights import first_generation
from zerocon.cli import main
from zerocon.conditioning import Conditioning
from zerocon.diagnostics.cost import estimate_cost, operations
from zerocon.evaluation_count import BACKWARD
from zerocon.settings import FAST


@pytest.fixture(scope="module")
def timings():
    model = tiny.model()
    model.settings = model.settings.overlay({"guidance_scale": 3.0})
    return model, {each.name: each for each in speed.race(model, 10, repeats=2, together=2)}


def test_evaluations_are_those_of_the_cost_estimate(timings):
    model, timing = timings
    usual = model.settings.overlay({"steps": 10})
    fast = usual.overlay({**FAST, "steps": round(FAST["steps"] / 5)})
    size = (model.size, model.size)
    assert timing["pix2pix-zero"].evaluations == pytest.approx(10 * (7 + 2 * BACKWARD))
    assert timing["default"].evaluations == estimate_cost(model, usual, size).evaluations.total
    assert timing["fast"].evaluations == estimate_cost(model, fast, size).evaluations.total
    saved = timing["default"].evaluations - timing["second edit"].evaluations
    assert saved == 11, "the trajectory and its observations are cached"


def test_costs_are_per_image(timings):
    model, timing = timings
    per_evaluation = operations(model, (model.size, model.size))
    for each in timing.values():
        assert 0 < each.seconds < 60
        assert each.operations == pytest.approx(each.evaluations * per_evaluation)
        assert each.memory is None or each.memory > 1e7


def test_the_table_has_speedups(timings):
    first = speed.Timing("a", 8.0, 100.0, 4e12, None)
    table = speed.as_markdown([first, speed.Timing("b", 2.0, 50.0, 2e12, 3_000_000_000)], 2e12)
    assert "| a | 8.00 | 1.00 | 100.0 | 4 | 25% | - |" in table
    assert "| b | 2.00 | 4.00 | 50.0 | 2 | 50% | 3.00 |" in table


def test_the_rate_is_measured_by_a_matrix_product(timings):
    assert 1e8 < speed.rate(timings[0]) < 1e16


def test_the_random_model_has_the_size_of_the_released_one():
    model = first_generation(torch.device("meta"), torch.float32)
    counts = [sum(p.numel() for p in n.parameters()) for n in (model.unet, model.vae)]
    assert counts == [859_520_964, 83_653_863]
    assert (model.size, model.multiple) == (512, 64)
    x, tokens = (torch.zeros(1, *shape, device="meta") for shape in ((4, 64, 64), (77, 768)))
    c = Conditioning(tokens, ((0,),), "")
    with FlopCounterMode(display=False) as counter:
        assert model.eps(x, 500, c).shape == x.shape
    assert 6.5e11 < counter.get_total_flops() < 9e11


def test_the_command_on_the_embedded_model():
    done = CliRunner().invoke(
        main, ["bench", "speed", "--steps", "2", "--device", "cpu", "--format", "json"]
    )
    report = json.loads(done.stdout)
    assert (report["schema"], report["shape"], report["device"]) == (
        "zerocon.speed/1",
        "mini",
        "cpu",
    )
    names = ["pix2pix-zero", "default", "second edit", "fast"]
    assert [lap["name"] for lap in report["laps"]] == names and report["rate"] > 0
