"""What the README says is run, or at least understood by the command line."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from zerocon.cli import main
from zerocon.image.photo import Photograph

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LINES = [line.strip() for line in re.findall(r"^    (.+)$", README, re.M)]
COMMANDS = [
    part.strip()
    for line in LINES
    for part in line.split("&&")
    if part.strip().startswith("zerocon")
]
HERE = [command for command in COMMANDS if "mini" in command and " train " not in command]


def test_there_are_commands_to_try() -> None:
    assert len(HERE) >= 3 and len(COMMANDS) > len(HERE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fox.safetensors").touch()  # an earlier command made it
    _, name, *words = shlex.split(command, comments=True)
    parser = main.get_command(None, name)
    assert parser is not None, name
    parser.make_context(name, words)


def test_every_command_on_the_embedded_model_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    for command in HERE:
        before = set(tmp_path.rglob("*"))
        result = CliRunner().invoke(main, shlex.split(command, comments=True)[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
        made = [p for p in set(tmp_path.rglob("*")) - before if p.suffix == ".png"]
        for path in made:
            assert Photograph.read(path).image.size


def test_the_table_of_methods_is_the_programs_own() -> None:
    result = CliRunner().invoke(main, ["methods"])
    assert result.exit_code == 0
    assert result.stdout.strip() in README


def test_every_picture_is_there_and_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", README, re.S)
    assert examples
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
