"""The recorded terminal in the docs: typed again, and compared."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from zerocon.cli import main

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "terminal.md"
# `inspect` wraps this line or not, depending on the length of the versions
WRAPPED = re.compile(r"^(versions .*)\n {11}", re.MULTILINE)
INSTALL = "pip install"  # done already, or nothing of this would run


def recorded() -> list[tuple[str, str]]:
    """Commands, and what the page says they print."""
    (block,) = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_the_recorded_terminal_is_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_models: None
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    (install, _), *commands = recorded()
    assert install.startswith(INSTALL)
    for command, expected in commands:
        pattern = ".*?".join(map(re.escape, expected.split("...")))
        printed = WRAPPED.sub(r"\1 ", "".join(map(output, command.split(" && "))))
        assert re.fullmatch(pattern, printed, re.DOTALL), f"$ {command}\n{printed}"


def output(command: str) -> str:
    """What a command prints on a terminal; those of zerocon run in this process."""
    name, *args = shlex.split(command)
    if name == "zerocon":
        return CliRunner().invoke(main, args).output
    return subprocess.check_output([name, *args], text=True)
