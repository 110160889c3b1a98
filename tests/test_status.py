"""The line that a terminal shows while models load: there, then erased, and nowhere else."""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from zerocon.cli import progress, render
from zerocon.evaluation_count import Evaluations

ROOT = Path(__file__).parent.parent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(text: str) -> list[str]:
    """The lines that a terminal shows after this output."""
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stderr a terminal, in the test itself: pytest sets it again after fixtures."""
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    return stream


def test_a_status_is_shown_and_then_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with progress.status("Loading mini ...", False):
        assert screen(terminal.getvalue()) == ["Loading mini ..."]
    assert screen(terminal.getvalue()) == [""]


def test_a_message_erases_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with progress.status("Loading mini ...", False):
        render.warn(["doubtful"])
        assert screen(terminal.getvalue()) == ["Warning: doubtful", ""]
    assert screen(terminal.getvalue()) == ["Warning: doubtful", ""]


def test_an_inner_status_and_the_bar_take_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with progress.status("Loading a long name ...", False):
        with progress.status("Loading mini ...", False):
            assert screen(terminal.getvalue()) == ["Loading mini ..."]
        with progress.progress_bar("Editing", False) as tick:
            assert tick is not None
            tick(1, 2)
            assert "Loading" not in screen(terminal.getvalue())[-1]


def test_an_error_in_the_block_erases_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with pytest.raises(ValueError, match="bad"), progress.status("Loading ...", False):
        raise ValueError("bad")
    assert screen(terminal.getvalue()) == [""]


def test_a_long_line_is_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((20, 5)))
    with progress.status("Loading " + 50 * "x", False):
        assert len(terminal.getvalue()) == 19


def test_nothing_is_shown_when_quiet_or_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with progress.status("Loading mini ...", True):
        pass
    assert terminal.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    with progress.status("Loading mini ...", False):
        click.echo("a warning", err=True)
    assert stream.getvalue() == "a warning\n"


def test_a_result_on_stdout_is_not_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    monkeypatch.setattr(sys, "stdout", terminal)  # as on a terminal, where both are one screen
    with progress.status("Loading mini ...", False):
        render.print_result("human", "a caption", {"evaluations": render.cost(Evaluations())})
    assert screen(terminal.getvalue()) == ["a caption", ""]


def run_on_a_terminal(folder: Path, *args: str) -> str:
    """The output of a command whose stderr is a terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-P", "-m", "zerocon.cli", *args],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=theirs, env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    os.close(theirs)
    output = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the terminal is closed
            break
        if not part:
            break
        output += part
    os.close(ours)
    assert done.wait() == 0, output
    return output.decode()


def test_a_command_names_the_model_while_it_loads(tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "fox.png", tmp_path)
    output = run_on_a_terminal(tmp_path, "caption", "fox.png", "--model", "mini")
    assert re.search(r"Loading mini \.\.\.", output)
    assert screen(output) == [""]
    assert run_on_a_terminal(tmp_path, "caption", "fox.png", "--model", "mini", "-q") == ""


def test_an_edit_leaves_only_its_messages_on_the_screen(tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "fox.png", tmp_path)
    line = ["edit", "fox.png", "--to", "bear", "--model", "mini", "--steps", "2", "--no-cache"]
    output = run_on_a_terminal(tmp_path, *line)
    assert "Loading mini ..." in output and "Captioning" in output
    first, *rest = [each for each in screen(output) if each]
    assert first.startswith('"a drawing of an orange fox')
    assert not [each for each in rest if "Loading" in each or "Captioning" in each]
