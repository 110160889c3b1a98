"""What an edit loads, and how: most of the time of a short edit is that of imports."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import zerocon
from zerocon.cli import main
from zerocon.cli.collection import paused_collection

FOX = Path(__file__).parent.parent / "examples" / "fox.png"
UNUSED = {  # what an edit without further outputs has no use for
    "diffusers.pipelines", "transformers.pipelines", "transformers.trainer", "torchvision",
    "matplotlib", "pandas", "sklearn", "ray", "lemminflect", "PIL.WebPImagePlugin",
    "zerocon.batch", "zerocon.bench", "zerocon.training", "zerocon.world",
    "zerocon.diagnostics.explanation", "zerocon.model.segmenter",
}  # fmt: skip
COMMAND = """
import atexit, gc, json, sys
from zerocon.cli import main
facts = lambda: json.dumps([gc.isenabled(), gc.get_freeze_count(), [*sys.modules]])
atexit.register(lambda: print(facts(), file=sys.stderr))
main()
"""


@pytest.fixture
def unfrozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_an_edit_imports_nothing_that_it_does_not_use_and_exempts_it_from_collection() -> None:
    edit = ["edit", str(FOX), "--to", "at night", "--model", "mini", "--steps", "1", "-o", "-"]
    command = [sys.executable, "-P", "-c", COMMAND, *edit, "--format", "quiet"]
    printed = subprocess.run(command, capture_output=True, check=True).stderr
    collects, exempt, modules = json.loads(printed.splitlines()[-1])
    assert {"torch", "diffusers.models.unets.unet_2d_condition"} <= {*modules}
    assert not UNUSED & {*modules}
    assert collects and exempt > 500_000


@pytest.mark.parametrize("exempt", [False, True])
def test_nothing_is_collected_inside_the_block(exempt: bool, unfrozen: None) -> None:
    with paused_collection(exempt=exempt):
        assert not gc.isenabled()
        made = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() > len(made) if exempt else gc.get_freeze_count() == 0


def test_a_block_within_another_one_does_not_end_the_pause() -> None:
    with paused_collection(exempt=False):
        with paused_collection(exempt=False):
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_pause_ends_with_an_exception() -> None:
    with pytest.raises(KeyError), paused_collection(exempt=False):
        raise KeyError
    assert gc.isenabled()


def test_a_program_that_calls_a_command_keeps_its_garbage_collection(
    monkeypatch: pytest.MonkeyPatch, unfrozen: None
) -> None:
    states = []

    def describe(images: object) -> list[str]:
        states.append(gc.isenabled())
        return ["a fox"]

    def load(name: str | None, **options: object) -> SimpleNamespace:
        states.append(gc.isenabled())
        return SimpleNamespace(name="toy", captioner=SimpleNamespace(describe=describe))

    monkeypatch.setattr(zerocon, "load", load, raising=False)
    assert CliRunner().invoke(main, ["caption", str(FOX)]).stdout == "a fox\n"
    assert states == [False, False]
    assert gc.isenabled() and gc.get_freeze_count() == 0
