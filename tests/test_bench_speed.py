"""Is what is timed what was asked for, and is the table right?"""

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
from zerocon.nfe import BACKWARD
from zerocon.settings import FAST


@pytest.fixture(scope="module")
def laps():
    model = tiny.model()
    model.settings = model.settings.overlay({"guidance_scale": 3.0})
    return model, {lap.name: lap for lap in speed.race(model, 10, repeats=2, together=2)}


def test_evaluations_are_those_foretold(laps):
    model, found = laps
    usual = model.settings.overlay({"steps": 10})
    quick = usual.overlay({**FAST, "steps": round(FAST["steps"] / 5)})
    size = (model.size, model.size)
    assert found["pix2pix-zero"].evaluations == pytest.approx(10 * (7 + 2 * BACKWARD))
    assert found["default"].evaluations == estimate_cost(model, usual, size).evaluations.total
    assert found["fast"].evaluations == estimate_cost(model, quick, size).evaluations.total
    spared = found["default"].evaluations - found["second edit"].evaluations
    assert spared == 11, "the path and all that it shows is kept"


def test_laps_are_of_one_picture_and_have_a_cost(laps):
    model, found = laps
    each = operations(model, (model.size, model.size))
    for lap in found.values():
        assert 0 < lap.seconds < 60
        assert lap.operations == pytest.approx(lap.evaluations * each)
        assert lap.memory is None or lap.memory > 1e7


def test_the_table_says_how_many_times_as_fast(laps):
    first = speed.Timing("a", 8.0, 100.0, 4e12, None)
    table = speed.as_markdown([first, speed.Timing("b", 2.0, 50.0, 2e12, 3_000_000_000)], 2e12)
    assert "| a | 8.00 | 1.00 | 100.0 | 4 | 25% | - |" in table
    assert "| b | 2.00 | 4.00 | 50.0 | 2 | 50% | 3.00 |" in table


def test_a_product_of_matrices_tells_a_rate(laps):
    assert 1e8 < speed.rate(laps[0]) < 1e16


def test_the_shape_of_the_first_generation_is_the_released_one():
    model = first_generation(torch.device("meta"), torch.float32)
    counts = [sum(p.numel() for p in n.parameters()) for n in (model.unet, model.vae)]
    assert counts == [859_520_964, 83_653_863]
    assert (model.size, model.multiple) == (512, 64)
    x, tokens = (torch.zeros(1, *shape, device="meta") for shape in ((4, 64, 64), (77, 768)))
    c = Conditioning(tokens, ((0,),), "")
    with FlopCounterMode(display=False) as counter:
        assert model.eps(x, 500, c).shape == x.shape
    assert 6.5e11 < counter.get_total_flops() < 9e11


def test_at_the_front_door_on_the_embedded_model():
    done = CliRunner().invoke(
        main, ["bench", "speed", "--steps", "2", "--device", "cpu", "--format", "json"]
    )
    said = json.loads(done.stdout)
    assert (said["schema"], said["shape"], said["device"]) == ("zerocon.speed/1", "mini", "cpu")
    names = ["pix2pix-zero", "default", "second edit", "fast"]
    assert [lap["name"] for lap in said["laps"]] == names and said["rate"] > 0
