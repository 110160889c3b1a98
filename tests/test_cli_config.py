"""zerocon.toml < environment < options, presets, and the origin of every value."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import fields
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
guidance-range = [0.0, 0.5]
guidance = ["contrastive:weight=50"]
[presets.gentle]
guidance_scale = [2, 1]
guidance_limit = 0.02
"""


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Show:
    """Run a command in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str, **environment: str) -> Result:
        return CliRunner(env=environment).invoke(main, [*args])

    return run


def settings(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["settings"]


@pytest.mark.parametrize(
    ("environment", "value", "origin"),
    [({}, 30, "zerocon.toml"), ({"ZEROCON_STEPS": "11"}, 11, "ZEROCON_STEPS")],
)
def test_the_environment_overrides_the_file(show, tmp_path, environment, value, origin):
    (tmp_path / "zerocon.toml").write_text(FILE)
    steps = settings(show("config", "show", "--format", "json", **environment))["steps"]
    assert steps["value"] == value and steps["origin"].endswith(origin)


def test_the_nearest_file_upwards_is_read(show, tmp_path, monkeypatch):
    (tmp_path / "zerocon.toml").write_text("steps = 30")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert settings(show("config", "show", "--format", "json"))["steps"]["value"] == 30
    (tmp_path / "a" / "zerocon.toml").write_text("steps = 31")
    assert settings(show("config", "show", "--format", "json"))["steps"]["value"] == 31
    named = show("--config", str(tmp_path / "zerocon.toml"), "config", "show", "--format", "json")
    assert settings(named)["steps"]["value"] == 30


def test_without_a_file_the_defaults_of_zerocon_and_the_model_apply(show):
    done = settings(show("config", "show", "--format", "json"))
    assert done["steps"] == {"value": Settings.steps, "origin": "default"}
    measured = settings(show("config", "show", "--format", "json", ZEROCON_MODEL="mini"))
    assert measured["model"] == {"value": "mini", "origin": "ZEROCON_MODEL"}
    assert measured["guidance_scale"]["origin"].endswith("zerocon.json")


def test_config_show_can_be_read_back(show, tmp_path):
    (tmp_path / "zerocon.toml").write_text(FILE)
    first = show("config", "show").stdout
    assert tomllib.loads(first)["guidance"] == ["contrastive:weight=50"]
    (tmp_path / "zerocon.toml").write_text(first)
    assert show("config", "show").stdout == first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = ", "is not valid TOML: "),
        ("stepz = 3", 'no setting "stepz"; did you mean "steps"?'),
        ("guidance-scal = 3", 'no setting "guidance-scal"; did you mean "guidance_scale"?'),
        ("xyz = 3", 'no setting "xyz"; there are: model, device'),
        ("[steps]\na = 1", "steps must be one value, not a table"),
        ("[presets]\na = 1", "a preset must be a table, [presets.NAME]"),
        ("[presets.a]\nb = 1", 'preset a: no setting "b"'),
        ("[presets.a]\npreset = 'b'", 'preset a: no setting "preset"'),
        *(
            (f"[presets.a]\n{line}", "a preset has settings of an edit only; write it above")
            for line in ("model = 'mini'", "keep-gps = true", "vae = 'x'", "max_megapixels = 9")
        ),
        # a damaged image is accepted by a command, not by a project
        ("lenient = true", 'no setting "lenient"; there are: model'),
    ],
)
def test_an_invalid_file_prints_one_line(show, tmp_path, text, message):
    (tmp_path / "zerocon.toml").write_text(text)
    done = show("config", "show")
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and message in done.stderr
    assert "zerocon.toml" in done.stderr


def test_a_bad_value_is_reported_with_its_origin(show, tmp_path):
    (tmp_path / "zerocon.toml").write_text('steps = "many"')
    done = show("edit", "cat.png", "--to", "dog")
    assert done.exit_code == 2 and "'many' is not a valid integer" in done.stderr
    assert str(tmp_path / "zerocon.toml") in done.stderr
    done = show("edit", "cat.png", "--to", "dog", "--steps", "3", ZEROCON_GUIDANCE_LIMIT="x")
    assert "(ZEROCON_GUIDANCE_LIMIT)" in done.stderr
    assert "zerocon.toml" not in show("edit", "cat.png", "--steps", "x").stderr


def test_other_commands_read_no_file(show, tmp_path, monkeypatch):
    (tmp_path / "zerocon.toml").write_text("not TOML")
    assert show("bench", "table", "--help").exit_code == 0
    done = show("--config", str(tmp_path / "zerocon.toml"), "methods")
    assert done.exit_code == 2 and "methods does not read zerocon.toml" in done.stderr


def test_one_value_of_a_preset_for_an_option_that_may_be_repeated(show, tmp_path):
    (tmp_path / "zerocon.toml").write_text('[presets.one]\nguidance = "contrastive"\nseed = 12\n')
    done = settings(show("config", "show", "--format", "json", ZEROCON_PRESET="one"))
    assert done["guidance"]["value"] == ["contrastive"] and done["seed"]["value"] == 12


def test_a_preset_of_the_file(show, tmp_path):
    (tmp_path / "zerocon.toml").write_text(FILE)
    done = settings(show("config", "show", "--format", "json", ZEROCON_PRESET="gentle"))
    assert done["guidance_scale"] == {"value": [2.0, 1.0], "origin": "preset gentle"}
    assert done["guidance_limit"]["value"] == 0.02 and done["steps"]["value"] == 30
    wrong = show("config", "show", ZEROCON_PRESET="rough")
    assert (
        wrong.exit_code == 2
        and 'no preset "rough"; there are: default, fast, paper, gentle' in wrong.stderr
    )


@pytest.mark.parametrize("name", ["guidance_limit", "guidance-limit"])
def test_keys_have_dashes_or_underscores(show, tmp_path, name):
    (tmp_path / "zerocon.toml").write_text(f"{name} = 0.5\nno-cache = true")
    result = settings(show("config", "show", "--format", "json"))
    assert result["guidance_limit"]["value"] == 0.5 and result["no_cache"]["value"] is True


def test_json_keys_are_the_names_of_settings(show):
    result = settings(show("config", "show", "--format", "json"))
    assert {each.name for each in fields(Settings)} <= set(result)
    assert all(name.isidentifier() for name in result)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(show, shell):
    done = show("completion", shell)
    assert done.exit_code == 0 and "_ZEROCON_COMPLETE" in done.stdout


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
def test_completion_of_options_presets_and_models(show, tmp_path, monkeypatch, typed, there):
    (tmp_path / "hub" / "models--someone--model").mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "zerocon.toml").write_text(FILE)
    words = f"zerocon {typed}"
    done = show(
        _ZEROCON_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1)
    )
    assert f"plain,{there}" in done.stdout.split()
