"""The README: short, every command parsed, those on the embedded model run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from documents import PAGES, ROOT, arguments, commands, prepare, runs_here, understand

from zerocon.cli import main
from zerocon.image.reading import Photograph

README = PAGES["README.md"]
COMMANDS = commands(README)
HERE = [command for command in COMMANDS if runs_here(command)]


def test_it_is_read_in_a_minute() -> None:
    assert len(README.splitlines()) < 120


def test_there_are_commands_to_try() -> None:
    assert len(HERE) >= 3 and len(COMMANDS) > len(HERE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    understand(command)


def test_every_command_on_the_embedded_model_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_models: None
) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZEROCON_STEPS", "4")
    for command in HERE:
        before = set(tmp_path.rglob("*"))
        result = CliRunner().invoke(main, arguments(command))
        assert result.exit_code == 0, f"{command}\n{result.output}"
        for path in {p for p in tmp_path.rglob("*") if p.suffix == ".png"} - before:
            assert Photograph.read(path).image.size


def test_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", README, re.S)
    assert examples
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})


def test_no_text_names_a_package_of_an_index() -> None:
    """The package is on no index: its bare name would install another project's package."""
    source = [*(ROOT / "zerocon").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]
    texts = {**PAGES, **{str(path): path.read_text() for path in source}}
    for name, text in texts.items():
        assert not re.search(r"pip install [\"']?zerocon", text), name
