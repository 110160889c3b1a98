"""The trace of an edit's latents, and the warning that an edit is probably damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import torch
from click.testing import CliRunner
from PIL import Image

import zerocon
from zerocon.bench.tasks import KINDS, choose
from zerocon.cli import main
from zerocon.diagnostics.trace import EditTrace, Tracer
from zerocon.editing import Step

FOX = Path(__file__).parent.parent / "examples" / "fox.png"
DAMAGED = "probably damaged: "


@pytest.fixture(scope="module")
def mini() -> zerocon.Model:
    return zerocon.load("mini")


# the measurement


def test_a_trace_has_norms_and_the_excess_of_each_image() -> None:
    source = torch.stack([torch.linspace(-1, 1, 64), torch.linspace(0, 1, 64)]).view(2, 4, 4, 4)
    trace = Tracer(source)
    difference = torch.stack([torch.zeros(4, 4, 4), source[1]])
    clean = source.clone()
    clean[1, 0, 0, 0] = -2.0
    trace(Step(0, source + difference, difference, clean, None))
    first, second = trace.traces()
    assert first.difference == (0.0,) and first.excess == (0.0,)
    assert second.difference == pytest.approx((1.0,))
    assert second.excess == pytest.approx((2 / float(source[1].std()),))


@pytest.mark.parametrize(
    ("difference", "excess", "reason"),
    [
        ((0.1, 0.9, 1.9, 1.9), (0.0, 0.0, 2.9, 2.9), ""),
        ((0.1, 0.9, 1.9, 2.1), (0.0, 0.0, 0.0, 0.0), ""),  # one step
        ((0.1, 2.1, 2.5, 1.9), (0.0, 0.0, 0.0, 0.0), "differ from the source by 2.5 times"),
        ((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 3.1, 0.0), ""),  # one step
        ((0.0, 0.0, 0.0, 0.0), (9.0, 9.0, 3.1, 0.0), ""),  # early steps recover
        ((0.0, 0.0, 0.0, 0.0), (9.0, 9.0, 3.1, 4.2), "range by 4.2 standard deviations"),
        ((), (), ""),
    ],
)
def test_two_steps_far_out_are_a_warning(difference, excess, reason: str) -> None:
    warnings = EditTrace(difference, excess).doubts()
    assert len(warnings) == bool(reason)
    assert all(each.startswith(DAMAGED) and "--guidance-scale" in each for each in warnings)
    assert reason in "".join(warnings)


# in an edit


def test_an_edit_has_the_trace_of_its_steps(image: Image.Image) -> None:
    steps: list[Step] = []
    model = tiny.model()
    edited = zerocon.edit(image, to="dog", model=model, steps=4, on_step=steps.append)
    source = edited.inversion.latents
    norms = [float(s.difference.norm() / source[s.level].norm()) for s in steps]
    assert edited.trace.difference == pytest.approx(norms, rel=1e-4) and len(norms) == 4
    assert norms[-1] > 0 and len(edited.trace.excess) == 4
    assert zerocon.edit(image, to="dog", model=model, strength=0.0).trace == EditTrace()


def test_a_batch_has_the_trace_of_each_image(mini: zerocon.Model) -> None:
    from zerocon import api
    from zerocon.request import parse_request

    image = Image.open(FOX).convert("RGB")
    settings = mini.settings.overlay({"steps": 4, "guidance": ()})
    requests = [
        parse_request(
            image, mini, to=to, caption="a drawing of a fox in a forest", settings=settings
        )
        for to in ("bear", "at night")
    ]
    together = api.edit_batch([image] * 2, requests, model=mini, settings=settings)
    assert together[0].trace != together[1].trace
    for request, both in zip(requests, together, strict=True):
        (alone,) = api.edit_batch([image], [request], model=mini, settings=settings)
        assert both.trace.difference == pytest.approx(alone.trace.difference, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_edits_with_default_settings_are_not_damaged_and_absurd_ones_are(
    kind: str, mini: zerocon.Model
) -> None:
    (task,) = [each for each in choose("validation", 1) if each.kind == kind]
    edit = {"caption": task.caption, "model": mini, **task.prompt}
    good = zerocon.edit(task.image, **edit)
    assert not [each for each in good.warnings if each.startswith(DAMAGED)]
    bad = zerocon.edit(task.image, guidance_scale=30.0, **edit)
    assert len([each for each in bad.warnings if each.startswith(DAMAGED)]) == 1


def test_the_warning_is_printed_and_in_the_json(tmp_path: Path) -> None:
    command = ["edit", str(FOX), "--to", "bear", "--model", "mini", "--guidance-scale", "30"]
    command += ["--guidance", "none", "-o", str(tmp_path / "bear.png"), "--format", "json"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    (warning,) = [w for w in json.loads(done.stdout)["warnings"] if w.startswith(DAMAGED)]
    assert f"Warning: {warning}" in done.stderr.splitlines()
