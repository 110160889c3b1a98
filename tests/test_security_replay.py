"""A recipe names no path, and asks for no endless work; problems keep their error ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient, recipe_chunk
from PIL import Image

import zerocon
from zerocon.cli import main
from zerocon.settings import Settings
from zerocon.storage.paths import names_path

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def recipe() -> zerocon.Recipe:
    model = tiny.model()
    edited = zerocon.edit(
        gradient(64, 48), model=model, to="dog", settings=Settings(steps=1, guidance=())
    )
    return zerocon.Recipe.of(edited, model)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of models that were loaded."""
    names: list[str] = []

    def load(name: str, **_: Any) -> None:
        names.append(name)
        raise zerocon.MissingError(f"no {name} here")

    monkeypatch.setattr(zerocon, "load", load, raising=False)
    return names


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: zerocon.Recipe) -> Run:
    monkeypatch.chdir(tmp_path)
    gradient(64, 48).save("cat.png")
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


def store(text: str, name: str = "edited.png") -> None:
    gradient(64, 48).save(name, pnginfo=recipe_chunk(text))


def changed(recipe: zerocon.Recipe, **changes: Any) -> str:
    record = json.loads(recipe.to_json())
    settings = {**record["settings"], **changes.pop("settings", {})}
    return json.dumps({**record, "settings": settings, **changes})


PATHS = ["evil", "./evil", "evil/model", "/tmp/evil", "../evil", "~/evil", "~", ".", "evil/"]
PATHS += ["\\\\host\\share", "C:\\evil", "evil.safetensors", "a/b.safetensors", "evil.ckpt"]
PATHS += ["file:///evil", "a/b/c", "evil model", "", "mini/", "./mini", "owner/mini.bin"]


@pytest.mark.parametrize("path", PATHS)
def test_a_recipe_names_no_path(
    run: Run, recipe: zerocon.Recipe, loaded: list[str], path: str
) -> None:
    Path("evil/model").mkdir(parents=True)
    store(changed(recipe, model=path))
    done = run("replay", "edited.png", "--source", "cat.png")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.endswith("give the model: --model [ZC-E064]\n") and loaded == []
    run("replay", "edited.png", "--source", "cat.png", "--model", "./evil")
    assert loaded == ["./evil"]


def test_in_a_directory_each_image_has_its_problem(
    run: Run, recipe: zerocon.Recipe, loaded: list[str]
) -> None:
    Path("edited").mkdir()
    for number, name in enumerate(["/tmp/evil", "owner/model"]):
        store(changed(recipe, model=name), f"edited/{number}.png")
    store(changed(recipe, settings={"guidance": ["contrastive"] * 9}), "edited/2.png")
    done = run("replay", "edited", "--source", ".")
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines()[:-1])
    assert done.exit_code == 1 and loaded == ["owner/model"]
    assert lines["edited/0.png"].endswith("--model [ZC-E064]")
    assert lines["edited/1.png"].endswith("--model [ZC-E001]")
    assert lines["edited/2.png"].endswith("[ZC-E061]")


@pytest.mark.parametrize("name", ["mini", "owner/model", "stable-diffusion-v1-5/v1.5"])
def test_mini_and_hub_ids_are_loaded(
    run: Run, recipe: zerocon.Recipe, loaded: list[str], name: str
) -> None:
    store(changed(recipe, model=name))
    run("replay", "edited.png", "--source", "cat.png")
    assert loaded == [name] and not names_path(name)


ENDLESS: list[tuple[dict[str, Any], str, str]] = [
    ({"steps": 1001}, "more than the 1000", "ZC-E061"),
    ({"steps": 10**9}, "steps must be an integer from 1 to 10000", "ZC-E060"),
    ({"guidance": ["contrastive"] * 9}, "more than the 8", "ZC-E061"),
    ({"guidance": ["contrastive:patches=100001"]}, "more than the 100000", "ZC-E061"),
    ({"inverter": "fixed-point:rounds=1000000000"}, "rounds must be from 1 to 1000", "ZC-E013"),
]


@pytest.mark.parametrize(("settings", "reason", "id_"), ENDLESS)
@pytest.mark.parametrize("line", ["replay edited.png --source cat.png",
                                  "edit cat.png --to dog --recipe edited.png"])  # fmt: skip
def test_endless_work_is_refused(
    run: Run, recipe: zerocon.Recipe, loaded: list[str],
    settings: dict[str, Any], reason: str, id_: str, line: str,
) -> None:  # fmt: skip
    store(changed(recipe, settings=settings))
    done = run(*line.split())
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.stderr
    assert reason in done.stderr and f"[{id_}]" in done.stderr and loaded == []


def test_a_seed_is_one_that_generators_take(run: Run, recipe: zerocon.Recipe) -> None:
    store(changed(recipe, settings={"seed": 2**63}))
    for line in ("inspect edited.png", "replay edited.png --source cat.png"):
        assert "[ZC-E060]" in run(*line.split()).stderr
    done = run("edit", "cat.png", "--to", "dog", "--seed", 10**30)
    assert "[ZC-E012]" in done.stderr and "2**63 - 1" in done.stderr
    assert Settings(seed=2**63 - 1).seed == 2**63 - 1


def test_within_the_limits_a_recipe_is_replayed(recipe: zerocon.Recipe) -> None:
    most = replace(recipe.settings, steps=1000, guidance=("contrastive:patches=64",) * 8)
    replace(recipe, settings=most).require_replayable()


def test_a_missing_model_keeps_its_id_and_path(
    run: Run, recipe: zerocon.Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(changed(recipe, model="owner/model"))

    def load(name: str, **_: Any) -> None:
        error = zerocon.errors.ModelNotFoundError("it is not complete")
        error.path, error.hints = "/weights", ("pull it",)
        raise error

    monkeypatch.setattr(zerocon, "load", load, raising=False)
    done = run("replay", "edited.png", "--source", "cat.png", "--format", "json")
    record = json.loads(done.stdout)
    assert done.exit_code == 3
    assert "ZC-E050" in done.stdout and "/weights" in json.dumps(record)


def test_images_that_cannot_be_read_keep_their_ids(run: Run, recipe: zerocon.Recipe) -> None:
    Path("edited").mkdir()
    store(recipe.to_json(), "edited/a.png")
    Path("edited/b.png").write_bytes(Path("edited/a.png").read_bytes()[:200])
    Image.new("L", (4, 4)).save("edited/c.png")
    done = run("inspect", "edited")
    warnings = [line for line in done.stderr.splitlines() if line.startswith("Warning")]
    assert [line[-9:] for line in warnings] == ["[ZC-E020]"[-9:], "[ZC-E023]"[-9:]]
