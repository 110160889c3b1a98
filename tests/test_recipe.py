"""A picture carries its recipe: written into every kind of file, shown, and made again from it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient
from PIL import Image, ImageCms

import zerocon
from zerocon.cli import main
from zerocon.image import metadata
from zerocon.image.formats import FORMATS
from zerocon.image.metadata import MARKING, Provenance
from zerocon.image.photo import Photograph
from zerocon.model.fingerprint import cache_folder, weights_hash
from zerocon.recipe import Recipe
from zerocon.settings import Settings

Run = Callable[..., Result]

MODEL = ["--model", "weights", "--steps", "2", "--guidance", "contrastive:patches=16"]
EDIT = ["edit", "cat.png", *MODEL, "--caption", "a cat on a bench"]
MAKE, GPS = 0x010F, 0x8825
ENDINGS = [kind.endings[0] for kind in FORMATS]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a few thousand random weights, as people have them on disk."""
    return tiny.save(tmp_path_factory.mktemp("models") / "weights")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> Run:
    """Call the command line in a folder with a model and a picture that says much."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").symlink_to(weights)
    data = Image.Exif()
    data[MAKE] = "Camera"
    data.get_ifd(GPS)[1] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    gradient(96, 64).save("cat.png", exif=data, icc_profile=profile)
    return lambda *args, **more: CliRunner().invoke(main, [str(arg) for arg in args], **more)


def again(run: Run, name: str, *args: Any) -> Result:
    return run("replay", name, "--source", "cat.png", "--model", "weights", *args)


def said(done: Result) -> str:
    """The one line of an error."""
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr


def rewritten(name: str, **options: Any) -> None:
    """The same PNG, saved by somebody else."""
    with Image.open(name) as image:
        image.load()
        image.save(name, **options)


# in the file


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_kind_of_file_carries_it_and_comes_out_again(run: Run, ending: str) -> None:
    if ending == ".heic":
        pytest.importorskip("pillow_heif")
    files = {level: Path(f"{level}{ending}") for level in ("full", "minimal", "none")}
    for level, file in files.items():
        done = run(*EDIT, "--to", "dog", "--metadata", level, "-o", file)
        assert done.exit_code == 0, done.stderr
    full, minimal, none = (Photograph.read(file) for file in files.values())
    for each in (full, minimal):
        assert np.array_equal(np.asarray(each.stored), np.asarray(none.stored))
        assert (each.exif, each.profile, each.dpi) == (none.exif, none.profile, none.dpi)
    assert b"Camera" in full.exif and full.profile

    recipe = Recipe.read(files["full"])
    assert recipe.to_json() == full.recipe and Recipe.from_json(recipe.to_json()) == recipe
    assert (recipe.words, recipe.caption) == ({"to": "dog"}, "a cat on a bench")
    assert recipe.target_caption == "a dog on a bench"
    assert (recipe.settings.steps, recipe.settings.guidance) == (2, ("contrastive:patches=16",))
    assert recipe.weights == weights_hash(Path("weights"))
    assert (minimal.recipe, none.recipe) == (None, None)
    marked = {level: MARKING.encode() in file.read_bytes() for level, file in files.items()}
    assert marked == {"full": True, "minimal": True, "none": False}
    assert b"zerocon" not in files["minimal"].read_bytes() + files["none"].read_bytes()

    before = {path: path.read_bytes() for path in Path().glob("*.*")}
    done = again(run, files["full"].name)
    assert (done.exit_code, done.stdout) == (0, "the same file, byte for byte\n"), done.stderr
    assert {path: path.read_bytes() for path in Path().glob("*.*")} == before


def test_another_picture_is_edited_with_the_same_settings(run: Run) -> None:
    assert run(*EDIT, "--to", "dog", "--guidance-limit", "0.02", "-o", "dog.png").exit_code == 0
    gradient(64, 64).save("other.png")
    words = ["--caption", "a cat", "--to", "dog", "--model", "weights", "--recipe", "dog.png"]
    done = run("edit", "other.png", *words, "--seed", "5", "-o", "same.png")
    assert done.exit_code == 0, done.stderr
    kept, now = Recipe.read("dog.png").settings, Recipe.read("same.png").settings
    assert now == replace(kept, seed=5) and kept.guidance_limit == 0.02
    Path("zerocon.toml").write_text(
        "steps = 1\nguidance_scale = 9\n[presets.hard]\nguidance_limit = 0.5"
    )
    assert run("edit", "other.png", *words, "--preset", "hard", "-o", "file.png").exit_code == 0
    assert Recipe.read("file.png").settings == replace(kept, guidance_limit=0.5), "above the file"
    assert run("edit", "other.png", *words[:-1], "cat.png").exit_code == 2, "it carries none"


def test_two_runs_write_the_same_bytes_and_no_path(run: Run, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        ask = [*EDIT, "--to", "dog", "-o", tmp_path / name, "--model", tmp_path / "weights"]
        assert run(*ask).exit_code == 0
    one = Path("one.png").read_bytes()
    assert one == Path("two.png").read_bytes()
    assert str(tmp_path).encode() not in one
    recipe = Recipe.read("one.png")
    assert recipe.model == "weights" and recipe.to_json().count("/") == 1  # the schema's


def test_it_goes_through_pipes(run: Run) -> None:
    edited = run(
        "edit", "-", *EDIT[2:], "--to", "dog", "-o", "-", input=Path("cat.png").read_bytes()
    )
    shown = run("inspect", "-", input=edited.stdout_bytes)
    assert shown.exit_code == 0 and 'asked      to "dog"\n' in shown.stdout


def test_everything_else_that_an_edit_saves_is_marked_too(run: Run) -> None:
    more = ["--compare", "both.jpg", "--explain", "sheet.png", "--steps-dir", "steps"]
    assert run(*EDIT, "--to", "dog", *more).exit_code == 0
    recipe = Recipe.read("cat-dog.png")
    assert Recipe.read("both.jpg") == Recipe.read("sheet.png") == recipe
    assert MARKING.encode() in Path("steps/step-001.png").read_bytes()
    done = again(run, "both.jpg")
    assert done.exit_code == 1 and done.stdout.startswith("another picture: the file's is RGB 192x")


def test_what_a_kind_of_file_cannot_hold_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "LONGEST", {"JPEG": 900})
    done = run(*EDIT, "--to", "dog", "-o", "dog.jpg", "--format", "json")
    line = "as JPEG, the recipe is too long, and left out"
    assert f"Warning: {line}\n" in done.stderr and line in json.loads(done.stdout)["warnings"]
    assert MARKING.encode() in Path("dog.jpg").read_bytes()
    assert Photograph.read("dog.jpg").recipe is None


def test_a_packet_that_another_program_has_rewritten_is_read() -> None:
    recipe = '{"a": "<&\\""}'
    (packet,) = Provenance(recipe).options("JPEG").values()
    element = b"<zerocon:recipe>" + packet.split(b"recipe>")[1] + b"recipe>"
    value = element[16:-17].replace(b'"', b"&quot;")
    attribute = packet.replace(element, b"").replace(
        b'xmlns:zerocon="', b'zerocon:recipe="' + value + b'" xmlns:zerocon="'
    )
    for each in (packet, attribute):
        file = io.BytesIO()
        gradient(16, 16).save(file, format="JPEG", xmp=each)
        assert Photograph.read(file.getvalue()).recipe == recipe
    for bad in (b"<x", b"\xff\xfe", b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + packet):
        file = io.BytesIO()
        gradient(16, 16).save(file, format="JPEG", xmp=bad)
        assert Photograph.read(file.getvalue()).recipe is None


# shown


def test_inspect_shows_it_to_people_and_programs(run: Run) -> None:
    assert run(*EDIT, "--from", "cat", "--to", "dog").exit_code == 0
    page = run("inspect", "cat-dog.png").stdout
    assert 'asked      from "cat", to "dog"\n' in page and "\nmodel      weights, epsilon\n" in page
    assert max(map(len, page.splitlines())) <= 100
    record = json.loads(run("inspect", "cat-dog.png", "--format", "json").stdout)
    assert record["schema"] == "zerocon.recipe/1" and record["settings"]["seed"] == 0
    assert "carries no recipe of zerocon" in said(run("inspect", "cat.png"))


def test_inspect_needs_no_torch(run: Run) -> None:
    assert run(*EDIT, "--to", "dog").exit_code == 0
    done = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-m", "zerocon.cli", "inspect", "cat-dog.png"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "PIL" in loaded and not loaded & {"torch", "transformers", "diffusers"}


RECIPE = Recipe(
    "0a", (64, 64), "mini", None, "epsilon", "cpu", "float32", {"to": "dog"}, "a cat", "a dog",
    (), None, Settings(), {"zerocon": "0.1.0"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "zerocon.recipe/2"}, "is of the kind 'zerocon.recipe/2'"),
        ({"caption": None}, "damaged: 'caption'"),
        ({"caption": "a \x1b[2Jcat"}, "control characters"),
        ({"size": [64]}, "damaged"),
        ({"size": 64}, "damaged"),
        ({"words": {"to": 5}}, "damaged: 'words'"),
        ({"words": {"too": "dog"}}, "damaged: 'words'"),
        ({"more": 1}, "damaged: 'more'"),
        ({"settings": {"steps": 0}}, "steps must be a whole number"),
        ({"directions": [{"words": "a -> b"}]}, "damaged: \"'weight'\""),
    ],
)
def test_a_damaged_recipe_is_said_in_a_line(change: dict[str, Any], message: str) -> None:
    text = json.dumps({**json.loads(RECIPE.to_json()), **change})
    with pytest.raises(ValueError) as caught:
        Recipe.from_json(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", '{"schema": "zerocon.recipe/1"}'])
def test_what_is_no_recipe_is_said_in_a_line(text: str) -> None:
    with pytest.raises(ValueError, match="damaged"):
        Recipe.from_json(text)


# made again


def test_directions_and_inversions_are_needed_again(run: Run, weights: Path) -> None:
    model = zerocon.load(str(weights))
    for name, words in {"dog": ("cat", "dog"), "hen": ("cat", "hen")}.items():
        zerocon.Direction.of_words(model, *words).save(f"{name}.safetensors")
    caption = ["--caption", "a cat on a bench"]
    for name, seed in {"kept": 0, "other": 1}.items():
        ask = ["invert", "cat.png", *MODEL[:4], *caption, "--seed", seed, "--inverter", "virtual"]
        assert run(*ask, "-o", f"{name}.safetensors").exit_code == 0
    given = ["--direction", "dog.safetensors:0.5", "--inversion", "kept.safetensors"]
    done = run("edit", "cat.png", *MODEL[:2], *MODEL[4:], *given, "-o", "dog.png")
    assert done.exit_code == 0, done.stderr
    (along,) = Recipe.read("dog.png").directions
    assert (along.words, along.weight) == ("cat -> dog", 0.5)

    right = ["--direction", "dog.safetensors", "--inversion", "kept.safetensors"]
    assert again(run, "dog.png", *right).exit_code == 0
    missing = 'the recipe needs its direction "cat -> dog": --direction FILE'
    assert missing in said(again(run, "dog.png", *right[2:]))
    strange = 'the direction "cat -> hen" is not one of the recipe\'s'
    assert strange in said(again(run, "dog.png", *right, "--direction", "hen.safetensors"))
    assert "the recipe needs the inversion" in said(again(run, "dog.png", *right[:2]))
    wrong = said(again(run, "dog.png", *right, "--inversion", "other.safetensors"))
    assert "the inversion is not the recipe's" in wrong


def test_where_it_was_taken_is_kept_as_it_was(run: Run) -> None:
    assert run(*EDIT, "--to", "dog", "--keep-gps").exit_code == 0
    assert Photograph.read("cat-dog.png", keep_gps=True).located
    assert again(run, "cat-dog.png").exit_code == 0


def test_a_changed_pixel_is_found(run: Run) -> None:
    assert run(*EDIT, "--to", "dog").exit_code == 0
    recipe = Photograph.read("cat-dog.png").recipe
    with Image.open("cat-dog.png") as image:
        red, *others = image.getpixel((3, 4))  # type: ignore[misc]
        image.putpixel((3, 4), ((red + 7) % 256, *others))
        image.save("cat-dog.png", **Provenance(recipe).options("PNG"))
    done = again(run, "cat-dog.png", "-o", "new.png")
    assert (done.exit_code, done.stdout) == (1, "1 of 6144 pixels differ, by up to 7\n")
    assert again(run, "new.png").exit_code == 0
    record = json.loads(again(run, "cat-dog.png", "--format", "json").stdout)
    assert (record["same"], record["pixels"], record["largest"]) == (False, 1, 7)


def test_other_metadata_and_other_versions_are_said(run: Run) -> None:
    assert run(*EDIT, "--to", "dog").exit_code == 0
    recipe = Recipe.read("cat-dog.png")
    old = replace(recipe, versions={**recipe.versions, "torch": "1.0"})
    rewritten("cat-dog.png", **Provenance(old.to_json()).options("PNG"))
    done = again(run, "cat-dog.png")
    assert done.exit_code == 1 and done.stdout.startswith("the same pixels, but not the same file")
    assert f"\ntorch 1.0 -> {recipe.versions['torch']}\n" in done.stdout


def test_another_source_other_weights_and_a_foreign_picture_are_refused(run: Run) -> None:
    assert run(*EDIT, "--to", "dog").exit_code == 0
    gradient(96, 65).save("other.png")
    replay = ["replay", "cat-dog.png", "--source"]
    assert "the source is another picture" in said(run(*replay, "other.png"))
    tiny.save(Path("changed"), tiny.model(seed=1))
    line = said(run(*replay, "cat.png", "--model", "changed"))
    assert "changed has other weights (" in line and "than the recipe's weights (" in line
    line = said(run("replay", "other.png", "--source", "cat.png"))
    assert "other.png carries no recipe of zerocon" in line
    for name in ("cat.png", "cat-dog.png"):
        assert f"{name} is an input" in said(again(run, "cat-dog.png", "--overwrite", "-o", name))
    Path("weights").unlink()
    done = run(*replay, "cat.png")
    assert done.exit_code == 3 and "say where the recipe's model is: --model" in done.stderr


def test_in_the_library(image: Image.Image) -> None:
    model = tiny.model()
    edited = zerocon.edit(image, model=model, to="dog", settings=Settings(steps=1))
    recipe = zerocon.Recipe.of(edited, image, model)
    assert (recipe.model, recipe.weights, recipe.size) == ("tiny", None, (64, 48))
    repeated = zerocon.Recipe.from_json(recipe.to_json()).repeat(image, model)
    assert np.array_equal(np.asarray(repeated.image), np.asarray(edited.image))
    with pytest.raises(ValueError, match="another picture"):
        recipe.repeat(gradient(16, 16), model)


# which weights


def test_weights_are_hashed_once_and_again_when_they_change(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("ZEROCON_CACHE", str(cache))
    copy = tiny.save(tmp_path / "copy")
    first = weights_hash(weights)
    assert weights_hash(copy) == first
    remembered = (cache / "weights.json").read_bytes()
    assert weights_hash(weights) == first
    assert (cache / "weights.json").read_bytes() == remembered
    tiny.save(copy, tiny.model(seed=1))
    assert weights_hash(copy) != first
    for spoilt in ("no JSON", "[]", '{"a": 1}', remembered.decode().replace("[", "[0, ")):
        (cache / "weights.json").write_text(spoilt)
        assert weights_hash(weights) == first


def test_a_cache_that_cannot_be_is_no_error(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = weights_hash(weights)
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "file" / "cache"))
    assert weights_hash(weights) == first
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"ZEROCON_CACHE": "own", "XDG_CACHE_HOME": "xdg"}, "own"),
        ("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/zerocon"),
        ("linux", {}, "home/.cache/zerocon"),
        ("darwin", {"XDG_CACHE_HOME": "xdg"}, "home/Library/Caches/zerocon"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/zerocon/Cache"),
    ],
)
def test_hashes_are_kept_where_the_system_keeps_such_things(
    platform: str, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ZEROCON_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("home"))
    assert cache_folder() == Path(expected)
