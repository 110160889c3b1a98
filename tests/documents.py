"""What README.md and docs/ contain: pages, commands, and a directory to run them in."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import click
from PIL import Image

from zerocon.cli import main

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {
    "README.md": (ROOT / "README.md").read_text(),
    **{str(path.relative_to(ROOT)): path.read_text() for path in sorted(DOCS.rglob("*.md"))},
}

HOURS = ("bench", "train")  # commands that measure or train, and take longer than a test may
NETWORK = ("models pull",)
ANYWHERE = (  # commands that need no weights
    "cache", "methods", "doctor", "config", "inspect", "replay", "models list", "errors",
    "completion", "direction show",
)  # fmt: skip


def commands(text: str) -> list[str]:
    """The ``zerocon`` commands in a page's indented blocks and tables of commands, in order."""
    lines, typed = [], False
    for line in text.splitlines():
        if line.startswith("|"):
            typed = typed or "| I type |" in line or line.startswith("| command |")
            lines += re.findall(r"`(zerocon [^`]+)`", line) if typed else []
            continue
        typed = False
        if line.startswith("    "):
            lines += re.split(r"&&|\|", line)
    stripped = (re.sub(r" > \S+$", "", line.strip()) for line in lines)
    return [line for line in stripped if line.startswith("zerocon ")]


def arguments(command: str) -> list[str]:
    """A command's arguments, without the program's name and the comment behind it."""
    return shlex.split(command, comments=True)[1:]


def runs_here(command: str) -> bool:
    """Whether a command needs neither full-size weights, nor the network, nor hours."""
    name = command.removeprefix("zerocon ")
    if name.startswith((*HOURS, *NETWORK)):
        return False
    if "--model mini" in command or name.endswith(("verify mini", "calibrate mini")):
        return True
    return "--model" not in command and name.startswith(ANYWHERE)


def understand(command: str) -> None:
    """Parse a command as the command line does, and run nothing; click's errors go through."""
    parser: click.Command = main
    rest, parent = arguments(command), None
    while isinstance(parser, click.Group) and rest and not rest[0].startswith("-"):
        parent, inner = click.Context(parser, parent=parent), parser.get_command(parent, rest[0])
        if inner is None:
            break
        parser, rest = inner, rest[1:]
    assert parser is not main, command
    parser.make_context(parser.name, rest, parent=parent, resilient_parsing=False)


def prepare(folder: Path) -> None:
    """The files that the pages' commands read."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "images").mkdir()
    fox = Image.open(ROOT / "examples" / "fox.png").convert("RGB")
    fox.save(folder / "images" / "fox.png")
    fox.resize((96, 72)).save(folder / "images" / "small.png")
    (folder / "cats.txt").write_text("a cat\na photo of a cat\n")
    (folder / "dogs.txt").write_text("a dog\na photo of a dog\n")
