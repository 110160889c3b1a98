"""zerocon.toml < environment < options, presets, and who says what."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from zerocon.cli import main
from zerocon.settings import Settings

Show = Callable[..., Result]
FILE = """
model = "mini"
steps = 30
guided = [0.0, 0.5]
guidance = ["contrastive:weight=50"]
[presets.gentle]
guidance_scale = [2, 1]
guidance_limit = 0.02
"""


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Show:
    """Call the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str, **environment: str) -> Result:
        return CliRunner(env=environment).invoke(main, [*args])

    return run


def settings(found: Result) -> dict[str, Any]:
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)["settings"]


@pytest.mark.parametrize(
    ("environment", "value", "origin"),
    [({}, 30, "zerocon.toml"), ({"ZEROCON_STEPS": "11"}, 11, "ZEROCON_STEPS")],
)
def test_the_environment_is_stronger_than_the_file(show, tmp_path, environment, value, origin):
    (tmp_path / "zerocon.toml").write_text(FILE)
    steps = settings(show("config", "show", "--format", "json", **environment))["steps"]
    assert steps["value"] == value and steps["origin"].endswith(origin)


def test_a_file_is_found_from_folders_below_and_the_nearest_wins(show, tmp_path, monkeypatch):
    (tmp_path / "zerocon.toml").write_text("steps = 30")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert settings(show("config", "show", "--format", "json"))["steps"]["value"] == 30
    (tmp_path / "a" / "zerocon.toml").write_text("steps = 31")
    assert settings(show("config", "show", "--format", "json"))["steps"]["value"] == 31
    named = show("--config", str(tmp_path / "zerocon.toml"), "config", "show", "--format", "json")
    assert settings(named)["steps"]["value"] == 30


def test_without_a_file_the_defaults_are_those_of_the_method_and_the_model(show):
    found = settings(show("config", "show", "--format", "json"))
    assert found["steps"] == {"value": Settings.steps, "origin": "default"}
    measured = settings(show("config", "show", "--format", "json", ZEROCON_MODEL="mini"))
    assert measured["model"] == {"value": "mini", "origin": "ZEROCON_MODEL"}
    assert measured["guidance_scale"]["origin"].endswith("zerocon.json")


def test_what_is_shown_is_a_file_that_says_the_same(show, tmp_path):
    (tmp_path / "zerocon.toml").write_text(FILE)
    first = show("config", "show").stdout
    assert tomllib.loads(first)["guidance"] == ["contrastive:weight=50"]
    (tmp_path / "zerocon.toml").write_text(first)
    assert show("config", "show").stdout == first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps = ", "is no TOML: "),
        ("stepz = 3", 'no setting "stepz"; there are: model, device'),
        ("[steps]\na = 1", "steps must be one value, not a table"),
        ("[presets]\na = 1", "a preset is a table, [presets.NAME]"),
        ("[presets.a]\nb = 1", 'preset a: no setting "b"'),
        ("[presets.a]\npreset = 'b'", 'preset a: no setting "preset"'),
    ],
)
def test_a_mistake_in_the_file_is_one_line(show, tmp_path, text, said):
    (tmp_path / "zerocon.toml").write_text(text)
    found = show("config", "show")
    assert found.exit_code == 2 and found.stderr.count("\n") == 1 and said in found.stderr
    assert "zerocon.toml" in found.stderr


def test_a_bad_value_is_said_with_its_place(show, tmp_path):
    (tmp_path / "zerocon.toml").write_text('steps = "many"')
    found = show("edit", "cat.png", "--to", "dog")
    assert found.exit_code == 2 and "'many' is not a valid integer" in found.stderr
    assert str(tmp_path / "zerocon.toml") in found.stderr
    found = show("edit", "cat.png", "--to", "dog", "--steps", "3", ZEROCON_GUIDANCE_LIMIT="x")
    assert "(ZEROCON_GUIDANCE_LIMIT)" in found.stderr
    assert "zerocon.toml" not in show("edit", "cat.png", "--steps", "x").stderr


def test_benches_and_trainings_listen_to_nobody(show, tmp_path, monkeypatch):
    (tmp_path / "zerocon.toml").write_text("no TOML at all")
    assert show("bench", "table", "--help").exit_code == 0
    found = show("--config", str(tmp_path / "zerocon.toml"), "methods")
    assert found.exit_code == 2 and "methods listens to no zerocon.toml" in found.stderr


def test_a_preset_of_the_project(show, tmp_path):
    (tmp_path / "zerocon.toml").write_text(FILE)
    found = settings(show("config", "show", "--format", "json", ZEROCON_PRESET="gentle"))
    assert found["guidance_scale"] == {"value": [2.0, 1.0], "origin": "preset gentle"}
    assert found["guidance_limit"]["value"] == 0.02 and found["steps"]["value"] == 30
    wrong = show("config", "show", ZEROCON_PRESET="rough")
    assert wrong.exit_code == 2 and 'no preset "rough"; there are: fast, gentle' in wrong.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_its_completion(show, shell):
    found = show("completion", shell)
    assert found.exit_code == 0 and "_ZEROCON_COMPLETE" in found.stdout


@pytest.mark.parametrize(
    ("typed", "there"),
    [
        ("edit --pre", "--preset"),
        ("edit --preset ge", "gentle"),
        ("con", "config"),
        ("edit --model mi", "mini"),
        ("edit --model some", "someone/model"),
    ],
)
def test_words_are_completed(show, tmp_path, monkeypatch, typed, there):
    (tmp_path / "hub" / "models--someone--model").mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "zerocon.toml").write_text(FILE)
    words = f"zerocon {typed}"
    found = show(
        _ZEROCON_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1)
    )
    assert f"plain,{there}" in found.stdout.split()
