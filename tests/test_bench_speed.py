"""The speed test times the right edits, and its table is right."""

import json

import pytest
import tiny
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from zerocon.bench import speed, suite
from zerocon.bench.random_weights import SHAPES, random_model, random_unet
from zerocon.bench.unet_speed import unet_operations
from zerocon.cli import main
from zerocon.conditioning import Conditioning
from zerocon.diagnostics.cost import estimate_cost, operations
from zerocon.evaluation_count import BACKWARD
from zerocon.model.attention import call_unet
from zerocon.settings import FAST


@pytest.fixture(scope="module")
def timings():
    model = tiny.model()
    # half of pix2pix-zero's steps; begin is the same for any kind of change
    model.settings = model.settings.overlay(
        {"guidance_scale": 3.0, "steps": 25, "begin": 0.1, "direction_from": "bank"}
    )
    return model, {each.name: each for each in speed.race(model, 10, repeats=2, together=2)}


def test_evaluations_are_those_of_the_cost_estimate(timings):
    model, timing = timings
    usual = model.settings.overlay({"steps": 5})
    fast = usual.overlay(FAST)
    size = (model.size, model.size)
    assert timing["pix2pix-zero"].evaluations == pytest.approx(10 * (7 + 2 * BACKWARD))
    assert timing["default"].evaluations == estimate_cost(model, usual, size).evaluations.total
    assert timing["fast"].evaluations == estimate_cost(model, fast, size).evaluations.total
    saved = timing["default"].evaluations - timing["second edit"].evaluations
    assert saved == 6, "the trajectory and its observations are cached"


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
    assert 1e8 < speed.rate(torch.device("cpu"), torch.float32) < 1e16


META = torch.device("meta")


@pytest.mark.parametrize(
    ("shape", "size", "weights"),
    [
        ("sd1", 512, (859_520_964, 83_653_863, 123_060_480)),
        ("sd2", 768, (865_910_724, 83_653_863, 340_387_840)),
    ],
)
def test_random_models_have_the_size_of_released_ones(shape, size, weights):
    model = random_model(SHAPES[shape], META, torch.float32)
    networks = (model.unet, model.vae, model.text_encoder)
    assert tuple(sum(p.numel() for p in each.parameters()) for each in networks) == weights
    assert (model.size, model.multiple, model.prediction) == (size, 64, SHAPES[shape].prediction)


def test_the_unet_of_sdxl_has_its_size_and_operations():
    unet = random_unet(SHAPES["sdxl"], META, torch.float32)
    assert sum(p.numel() for p in unet.parameters()) == 2_567_463_684
    assert 6e12 < unet_operations(SHAPES["sdxl"]) < 7e12, "6.0e12 and attention"


def test_operations_are_those_of_a_call():
    model = random_model(SHAPES["sd1"], META, torch.float32)
    x, tokens = (torch.zeros(1, *shape, device="meta") for shape in ((4, 64, 64), (77, 768)))
    c = Conditioning(tokens, ((0,),), "")
    with FlopCounterMode(display=False) as counter:
        assert call_unet(model.unet, x, 500, c).shape == x.shape  # eps() reads values
    assert 6.5e11 < counter.get_total_flops() < 9e11
    shape = SHAPES["sd1"].tiny()
    tiny_model = random_model(shape, torch.device("cpu"), torch.float32)
    assert unet_operations(shape) == operations(tiny_model, (tiny_model.size,) * 2)


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


# the list of timings


@pytest.fixture(scope="module")
def rows():
    methods = ("fast", suite.WHOLE, "pix2pix-zero", "paper", "second edit", "U-Net call")
    tiny_suite = suite.Suite(torch.device("cpu"), torch.float32, tiny=True, methods=methods)
    return tiny_suite, {row.case.method: row for row in tiny_suite.run(1000)}


def test_every_case_is_timed(rows):
    tiny_suite, by_method = rows
    assert [case.method for case in tiny_suite.cases] == [*by_method]
    for row in by_method.values():
        assert row.timing, row.reason
        limit = row.timing.operations / tiny_suite.rate
        assert row.times_limit(tiny_suite.rate) == pytest.approx(row.timing.seconds / limit)
    evaluations = {name: row.timing.evaluations for name, row in by_method.items()}
    assert evaluations["U-Net call"] == 1
    assert evaluations["pix2pix-zero"] == pytest.approx(2 * (7 + 2 * BACKWARD))
    assert evaluations["paper"] == 3 + 2 * (3 + BACKWARD)


def test_rows_that_were_not_reached_are_in_the_report(rows):
    tiny_suite, by_method = rows
    (first, *_), cases = by_method.values(), tiny_suite.cases
    report = suite.to_json(tiny_suite, [first])
    assert [row["method"] for row in report["rows"]] == [case.method for case in cases]
    assert report["rows"][0]["seconds"] == first.timing.seconds
    assert {row["reason"] for row in report["rows"][1:]} == {"not reached"}


def test_nothing_is_wanted_of_tiny_networks(rows):
    tiny_suite, by_method = rows
    targets = suite.targets(tiny_suite, [*by_method.values()])
    assert [each.met for each in targets] == [None] * 3


def test_targets_are_compared_with_full_size_rows(rows, monkeypatch):
    tiny_suite, _ = rows
    monkeypatch.setattr(tiny_suite, "is_tiny", False)
    monkeypatch.setattr(tiny_suite, "device", torch.device("cuda"))
    monkeypatch.setattr(tiny_suite, "rate", 1e12)

    def row(seconds, memory=None, method="default", **case):
        timing = speed.Timing(method, seconds, 10.0, 1e12, memory)
        return suite.SuiteRow(suite.Case("sd1", method, **case), timing)

    measured = [
        row(2.0), row(1.0, images=8), row(3.0, compiled=True),
        row(9.0, 7_900_000_000, method=suite.WHOLE),
    ]  # fmt: skip
    targets = suite.targets(tiny_suite, measured)
    assert [(each.value, each.met) for each in targets] == [(3.0, False), (7.9, True), (2.0, True)]


def test_cases_for_which_no_time_is_left_or_that_fail_have_a_reason(rows, monkeypatch):
    tiny_suite, _ = rows
    monkeypatch.setattr(suite, "random_model", lambda *_, **__: 1 / 0)
    tiny_suite._model = (None, None)
    failed = next(tiny_suite.run(1000))
    assert failed.timing is None and failed.reason == "ZeroDivisionError: division by zero"
    assert failed.to_json(1.0)["times_limit"] is None
    late = [*tiny_suite.run(-1)]
    assert len(late) == len(tiny_suite.cases)
    assert all(row.timing is None and "budget" in row.reason for row in late)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--suite", "tiny", "--steps", "3"], "--steps is not for --suite"),
        (["--budget", "3"], "--budget is for --suite"),
        (["--suite", "tiny", "--methods", "magic"], 'no method "magic" in the list'),
        (["--suite", "tiny", "--results", "a.txt"], "must end in .json"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    done = CliRunner().invoke(main, ["bench", "speed", "--device", "cpu", *options])
    assert done.exit_code == 2 and message in done.stderr
