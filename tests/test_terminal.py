"""The recorded terminal in the docs: typed again, and compared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

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


def test_the_recorded_terminal_is_what_is_printed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    here = tmp_path / "bin"
    here.mkdir()
    script = here / "zerocon"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m zerocon.cli "$@"\n')
    script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    commands = recorded()
    assert commands[0][0].startswith(INSTALL)
    for command, expected in commands[1:]:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        pattern = ".*?".join(map(re.escape, expected.split("...")))
        printed = WRAPPED.sub(r"\1 ", done.stdout)
        assert re.fullmatch(pattern, printed, re.DOTALL), f"$ {command}\n{done.stdout}"
