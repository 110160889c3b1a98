"""``zerocon edit --ask``: on a terminal, an unclear prompt is replaced by one of its hints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient

import zerocon
from zerocon import prompt
from zerocon.cli import main, stdio
from zerocon.errors import UnclearPromptError

Run = Callable[..., Result]
UNCLEAR = ["edit", "cat.png", "--to", "brighten up", "--steps", "2"]
MESSAGE = "'brighten up' is not understood; try: dog, at night"
QUESTION = "Number of a prompt, or 0 to stop"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a terminal, with a model to which "brighten up" is unclear."""
    model, understand = tiny.model(), prompt.rewrite_caption

    def rewrite(caption: str, to: str | None = None, **more: Any) -> Any:
        if to == "brighten up":
            error = UnclearPromptError(MESSAGE)
            error.hints = ("dog", "at night", "--from cat")
            raise error
        return understand(caption, to=to, **more)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    monkeypatch.setattr(prompt, "rewrite_caption", rewrite)
    monkeypatch.setattr(stdio, "is_interactive", lambda: True)
    gradient(64, 48).save("cat.png")
    return lambda *args, **more: CliRunner().invoke(main, [str(arg) for arg in args], **more)


def files() -> set[str]:
    return {path.name for path in Path().iterdir()}


def test_the_edit_goes_on_with_the_chosen_prompt(run: Run) -> None:
    done = run(*UNCLEAR, "--ask", input="2\n")
    assert (done.exit_code, done.stdout) == (0, "cat-at-night.png\n"), done.output
    lines = done.stderr.splitlines()
    assert lines[:3] == [MESSAGE, "  1  dog", "  2  at night"]
    assert zerocon.Recipe.read("cat-at-night.png").prompt == {"to": "at night"}
    assert files() == {"cat.png", "cat-at-night.png"}


def test_warnings_are_not_repeated(run: Run) -> None:
    done = run(*UNCLEAR, "--ask", "--seed", "3", "--format", "json", input="1\n")
    assert done.stderr.count("--seed has no effect") == 1
    assert sum("--seed" in line for line in json.loads(done.stdout)["warnings"]) == 1


def test_a_wrong_answer_is_asked_again(run: Run) -> None:
    done = run(*UNCLEAR, "--ask", "-o", "out.png", input="7\nx\n1\n")
    assert (done.exit_code, done.stdout) == (0, "out.png\n")
    assert done.stderr.count(QUESTION) == 3
    assert zerocon.Recipe.read("out.png").prompt == {"to": "dog"}


def test_the_record_has_the_chosen_prompt(run: Run) -> None:
    done = run(*UNCLEAR, "--ask", "--dry-run", "--format", "json", input="1\n")
    record = json.loads(done.stdout)
    assert (record["to"], record["output"]) == ("dog", "cat-dog.png")


@pytest.mark.parametrize("answer", ["0\n", ""])
def test_without_a_choice_nothing_is_written(run: Run, answer: str) -> None:
    done = run(*UNCLEAR, "--ask", input=answer)
    assert done.exit_code == (2 if answer else 130)
    assert files() == {"cat.png"}


def test_the_output_of_the_chosen_prompt_is_not_replaced(run: Run) -> None:
    Path("cat-dog.png").write_bytes(b"before")
    done = run(*UNCLEAR, "--ask", input="1\n")
    assert done.exit_code == 2 and "cat-dog.png exists already" in done.stderr
    assert Path("cat-dog.png").read_bytes() == b"before"


@pytest.mark.parametrize(("ask", "terminal"), [(True, False), (False, True)])
def test_otherwise_it_is_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, ask: bool, terminal: bool
) -> None:
    monkeypatch.setattr(stdio, "is_interactive", lambda: terminal)
    done = run(*UNCLEAR, *(["--ask"] if ask else []), "--format", "json", input="1\n")
    assert (done.exit_code, done.stderr) == (2, f"Error: {MESSAGE} [ZC-E041]\n")
    assert json.loads(done.stdout)["error"]["hint"] == ["dog", "at night", "--from cat"]
