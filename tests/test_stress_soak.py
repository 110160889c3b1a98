"""Many edits in one process: is what is counted what there was?"""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from PIL import Image

from zerocon import api
from zerocon.bench import soak
from zerocon.cli import main


@pytest.fixture(scope="module")
def laps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soak")
    return folder, list(soak.repeat(tiny.model(), folder, 12))


def test_every_edit_is_made_once(laps):
    folder, found = laps
    names = {path.name for path in (folder / "out").glob("*.png")}
    assert {lap.name for lap in found} == names and len(found) == len(names) == 12
    said = soak.judge(found, folder)
    assert (said.edits, said.failed, said.lost, said.doubled) == (12, 0, 0, 0)
    assert 0 < said.last < 2**36


def test_what_is_lost_or_doubled_is_counted(laps):
    folder, found = laps
    more = [
        *found,
        found[0],
        soak.SoakSample("gone.png", 1, 99.0, None),
        soak.SoakSample("x", 1, 99.0, "why"),
    ]
    said = soak.judge(more, folder)
    assert (said.edits, said.failed, said.lost, said.doubled) == (15, 1, 1, 1)


def test_a_leak_is_told_from_noise():
    noise = np.random.default_rng(0).normal(0, 1, 400)
    slope, margin = soak.trend(noise)
    assert abs(slope) < margin
    slope, margin = soak.trend(noise + 0.5 * np.arange(400))
    assert abs(slope - 0.5) < margin < 0.1
    assert soak.trend(np.zeros(5))[1] == float("inf")


def test_at_the_front_door(monkeypatch, tmp_path):
    monkeypatch.setattr(api, "load", lambda *_, **__: tiny.model())
    plot: Path = tmp_path / "memory.png"
    command = ["bench", "soak", "--edits", "3", "--format", "json", "--plot", str(plot)]
    done = CliRunner().invoke(main, command)
    said = json.loads(done.stdout)
    assert (said["schema"], said["edits"], len(said["laps"])) == ("zerocon.soak/1", 3, 3)
    with Image.open(plot) as drawn:
        assert drawn.width > 400


@pytest.mark.slow
def test_memory_does_not_grow(tmp_path):
    done = CliRunner().invoke(main, ["bench", "soak", "--edits", "120", "--format", "json"])
    said = json.loads(done.stdout)
    assert (said["failed"], said["lost"], said["doubled"]) == (0, 0, 0)
    assert said["slope"] - said["margin"] < 20e6
