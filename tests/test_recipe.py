"""Recipes: written to every format, shown by inspect, repeated by replay, read from version 0.1."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from conftest import gradient, recipe_chunk
from PIL import Image, ImageCms

import zerocon
from zerocon.cli import main
from zerocon.image import metadata
from zerocon.image.formats import FORMATS
from zerocon.image.metadata import Provenance
from zerocon.image.reading import Photograph
from zerocon.image.xmp import LABEL
from zerocon.model.fingerprint import cache_folder, weights_hash
from zerocon.recipe import Recipe
from zerocon.recipe.version1 import SETTINGS, convert
from zerocon.settings import Settings

Run = Callable[..., Result]

MODEL = ["--model", "weights", "--steps", "2", "--guidance", "contrastive:patches=16"]
EDIT = ["edit", "cat.png", *MODEL, "--caption", "a cat on a bench"]
MAKE, GPS = 0x010F, 0x8825
DATA = Path(__file__).parent / "data"
FOX = Path(__file__).parent.parent / "examples" / "fox.png"
ENDINGS = [kind.endings[0] for kind in FORMATS]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a few thousand random weights, as a directory on disk."""
    return tiny.save(tmp_path_factory.mktemp("models") / "weights")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> Run:
    """The command line in a directory with a model and an image with metadata."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").symlink_to(weights)
    data = Image.Exif()
    data[MAKE] = "Camera"
    data.get_ifd(GPS)[1] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    gradient(96, 64).save("cat.png", exif=data, icc_profile=profile)
    return lambda *args, **more: CliRunner().invoke(main, [str(arg) for arg in args], **more)


def replay(run: Run, name: str, *args: Any) -> Result:
    return run("replay", name, "--source", "cat.png", "--model", "weights", *args)


def error_line(done: Result) -> str:
    """The one line of an error."""
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr


def rewritten(name: str, **options: Any) -> None:
    """Save the same PNG with another program."""
    with Image.open(name) as image:
        image.load()
        image.save(name, **options)


# in files


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_stores_a_recipe_that_replays_to_the_same_bytes(run: Run, ending: str) -> None:
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
    assert (recipe.prompt, recipe.caption) == ({"to": "dog"}, "a cat on a bench")
    assert recipe.target_caption == "a dog on a bench"
    assert (recipe.settings.steps, recipe.settings.guidance) == (2, ("contrastive:patches=16",))
    assert recipe.weights == weights_hash(Path("weights"))
    assert (minimal.recipe, none.recipe) == (None, None)
    labeled = {level: LABEL.encode() in file.read_bytes() for level, file in files.items()}
    assert labeled == {"full": True, "minimal": True, "none": False}
    assert b"zerocon" not in files["minimal"].read_bytes() + files["none"].read_bytes()

    before = {path: path.read_bytes() for path in Path().glob("*.*")}
    done = replay(run, files["full"].name)
    assert (done.exit_code, done.stdout) == (0, "identical, byte for byte\n"), done.stderr
    assert {path: path.read_bytes() for path in Path().glob("*.*")} == before


def test_another_image_is_edited_with_the_settings_of_a_recipe(run: Run) -> None:
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
    assert run("edit", "other.png", *words[:-1], "cat.png").exit_code == 2, "it has no recipe"


def test_two_runs_write_the_same_bytes_without_paths(run: Run, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        ask = [*EDIT, "--to", "dog", "-o", tmp_path / name, "--model", tmp_path / "weights"]
        assert run(*ask).exit_code == 0
    one = Path("one.png").read_bytes()
    assert one == Path("two.png").read_bytes()
    assert str(tmp_path).encode() not in one
    recipe = Recipe.read("one.png")
    assert recipe.model == "weights" and recipe.to_json().count("/") == 1  # the schema's


def test_a_recipe_is_stored_and_shown_through_pipes(run: Run) -> None:
    edited = run(
        "edit", "-", *EDIT[2:], "--to", "dog", "-o", "-", input=Path("cat.png").read_bytes()
    )
    shown = run("inspect", "-", input=edited.stdout_bytes)
    assert shown.exit_code == 0 and 'prompt     to "dog"\n' in shown.stdout


def test_the_other_outputs_of_an_edit_are_labeled_too(run: Run) -> None:
    more = ["--compare", "both.jpg", "--explain", "sheet.png", "--steps-dir", "steps"]
    assert run(*EDIT, "--to", "dog", *more).exit_code == 0
    recipe = Recipe.read("cat-dog.png")
    assert Recipe.read("both.jpg") == Recipe.read("sheet.png") == recipe
    assert LABEL.encode() in Path("steps/step-001.png").read_bytes()
    done = replay(run, "both.jpg")
    assert done.exit_code == 1 and done.stdout.startswith("mode or size differs: RGB 192x")


def test_a_recipe_too_long_for_the_format_is_a_warning(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "LONGEST", {"JPEG": 900})
    done = run(*EDIT, "--to", "dog", "-o", "dog.jpg", "--format", "json")
    line = "the recipe is too long for JPEG and is not stored"
    assert f"Warning: {line}\n" in done.stderr and line in json.loads(done.stdout)["warnings"]
    assert LABEL.encode() in Path("dog.jpg").read_bytes()
    assert Photograph.read("dog.jpg").recipe is None


def test_an_xmp_packet_rewritten_by_another_program_is_read() -> None:
    recipe = '{"a": "<&\\""}'
    packet = Provenance(recipe).packet("JPEG")
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


# inspect


def test_inspect_prints_a_page_or_json(run: Run) -> None:
    assert run(*EDIT, "--from", "cat", "--to", "dog").exit_code == 0
    page = run("inspect", "cat-dog.png").stdout
    assert 'prompt     from "cat", to "dog"\n' in page and "\nmodel      weights, epsilon\n" in page
    assert max(map(len, page.splitlines())) <= 100
    record = json.loads(run("inspect", "cat-dog.png", "--format", "json").stdout)
    assert record["schema"] == "zerocon.recipe/2" and record["settings"]["seed"] == 0
    assert "has no zerocon recipe" in error_line(run("inspect", "cat.png"))


def test_inspect_needs_no_torch(run: Run) -> None:
    assert run(*EDIT, "--to", "dog").exit_code == 0
    done = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-m", "zerocon.cli", "inspect", "cat-dog.png"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "PIL" in loaded and not loaded & {"torch", "transformers", "diffusers"}


CPU = {"device": "cpu", "dtype": "float32", "tiled": False}
RECIPE = Recipe(
    "0a", (64, 64), "mini", None, "epsilon", CPU, {"to": "dog"}, "a cat", "a dog",
    (), None, Settings(), {"zerocon": "0.1.0"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "zerocon.recipe/3"}, "has the schema 'zerocon.recipe/3'; this version"),
        ({"caption": None}, "damaged: 'caption'"),
        ({"caption": "a \x1b[2Jcat"}, "control characters"),
        ({"size": [64]}, "damaged"),
        ({"size": 64}, "damaged"),
        ({"prompt": {"to": 5}}, "damaged: 'prompt'"),
        ({"prompt": "dog"}, "damaged"),
        ({"compute": {"device": "cpu"}}, "damaged: \"'dtype'\""),
        ({"compute": {"device": "cpu", "dtype": 32}}, "damaged: 'compute'"),
        ({"versions": {"torch": 2}}, "damaged: 'versions'"),
        ({"settings": {"steps": 0}}, "steps must be an integer from 1 to 10000, not 0"),
        ({"directions": [{"change": "a -> b"}]}, "damaged: \"'weight'\""),
    ],
)
def test_a_damaged_recipe_is_reported_in_one_line(change: dict[str, Any], message: str) -> None:
    text = json.dumps({**json.loads(RECIPE.to_json()), **change})
    with pytest.raises(ValueError) as caught:
        Recipe.from_json(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", '{"schema": "zerocon.recipe/1"}'])
def test_text_that_is_not_a_recipe_is_reported_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="damaged"):
        Recipe.from_json(text)


# replay


def test_a_replay_needs_the_directions_and_the_inversion(run: Run, weights: Path) -> None:
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
    (direction,) = Recipe.read("dog.png").directions
    assert (direction.change, direction.weight) == ("cat -> dog", 0.5)

    right = ["--direction", "dog.safetensors", "--inversion", "kept.safetensors"]
    assert replay(run, "dog.png", *right).exit_code == 0
    missing = 'the recipe needs its direction "cat -> dog": --direction FILE'
    assert missing in error_line(replay(run, "dog.png", *right[2:]))
    strange = 'the direction "cat -> hen" is not one of the recipe\'s'
    assert strange in error_line(replay(run, "dog.png", *right, "--direction", "hen.safetensors"))
    assert "the recipe needs the inversion" in error_line(replay(run, "dog.png", *right[:2]))
    wrong = error_line(replay(run, "dog.png", *right, "--inversion", "other.safetensors"))
    assert "the inversion is not the recipe's" in wrong


def test_where_it_was_taken_is_kept_as_it_was(run: Run) -> None:
    assert run(*EDIT, "--to", "dog", "--keep-gps").exit_code == 0
    assert Photograph.read("cat-dog.png", keep_gps=True).has_location
    assert replay(run, "cat-dog.png").exit_code == 0


def test_a_changed_pixel_is_found(run: Run) -> None:
    assert run(*EDIT, "--to", "dog").exit_code == 0
    recipe = Photograph.read("cat-dog.png").recipe
    with Image.open("cat-dog.png") as image:
        red, *others = image.getpixel((3, 4))  # type: ignore[misc]
        image.putpixel((3, 4), ((red + 7) % 256, *others))
        image.save("cat-dog.png", pnginfo=recipe_chunk(recipe))
    done = replay(run, "cat-dog.png", "-o", "new.png")
    assert (done.exit_code, done.stdout) == (1, "1 of 6144 pixels differ, by up to 7\n")
    assert replay(run, "new.png").exit_code == 0
    record = json.loads(replay(run, "cat-dog.png", "--format", "json").stdout)
    assert (record["same"], record["pixels"], record["largest"]) == (False, 1, 7)


def test_other_metadata_and_versions_are_reported(run: Run) -> None:
    assert run(*EDIT, "--to", "dog").exit_code == 0
    recipe = Recipe.read("cat-dog.png")
    old = replace(recipe, versions={**recipe.versions, "torch": "1.0"})
    rewritten("cat-dog.png", pnginfo=recipe_chunk(old.to_json()))
    done = replay(run, "cat-dog.png")
    assert done.exit_code == 1 and done.stdout.startswith(
        "identical pixels; metadata or compression differs"
    )
    assert f"\ntorch 1.0 -> {recipe.versions['torch']}\n" in done.stdout


def test_another_source_other_weights_and_an_image_without_a_recipe_are_rejected(run: Run) -> None:
    assert run(*EDIT, "--to", "dog").exit_code == 0
    gradient(96, 65).save("other.png")
    args = ["replay", "cat-dog.png", "--source"]
    assert "the source is another image" in error_line(run(*args, "other.png"))
    tiny.save(Path("changed"), tiny.model(seed=1))
    line = error_line(run(*args, "cat.png", "--model", "changed"))
    assert "changed has other weights (" in line and "than the recipe's weights (" in line
    line = error_line(run("replay", "other.png", "--source", "cat.png"))
    assert "other.png has no zerocon recipe" in line
    for name in ("cat.png", "cat-dog.png"):
        assert f"{name} is an input" in error_line(
            replay(run, "cat-dog.png", "--overwrite", "-o", name)
        )
    Path("weights").unlink()
    done = run(*args, "cat.png")
    assert done.exit_code == 3 and "give the location of the recipe's model: --model" in done.stderr


def test_a_recipe_is_made_and_repeated_in_python(image: Image.Image) -> None:
    model = tiny.model()
    edited = zerocon.edit(image, model=model, to="dog", settings=Settings(steps=1))
    recipe = zerocon.Recipe.of(edited, model)
    assert (recipe.model, recipe.weights, recipe.size) == ("tiny", None, (80, 64))
    repeated = zerocon.Recipe.from_json(recipe.to_json()).repeat(image, model)
    assert np.array_equal(np.asarray(repeated.image), np.asarray(edited.image))
    with pytest.raises(ValueError, match="another image"):
        recipe.repeat(gradient(16, 16), model)


# how the model computed


def test_a_tiled_edit_is_replayed_tiled_or_the_difference_is_reported(run: Run) -> None:
    """On mini, in tiles of half its size, as ``--tile`` computes."""
    image = Image.open(FOX).convert("RGB")
    image.save("fox.png")
    args = ["edit", "fox.png", "--model", "mini", "--steps", "2", "--to", "dog", "--tile"]
    args += ["--attention", "none", "--begin", "0"]
    assert run(*args, "--guidance", "none", "--no-cache").exit_code == 0
    recipe = Recipe.read("fox-dog.png")
    threads = torch.get_num_threads()
    assert recipe.compute == {
        "device": "cpu", "dtype": "float32", "tiled": True, "compiled": False, "offloaded": False,
        "checkpointed": False, "threads": threads,
    }  # fmt: skip
    assert f"on cpu in float32, threads {threads}, tiled\n" in run("inspect", "fox-dog.png").stdout
    for args in (["fox-dog.png", "--source", "fox.png"], [".", "--source", "fox.png"]):
        done = run("replay", *args)
        assert done.exit_code == 0 and "identical, byte for byte" in done.stdout, done.output

    model = zerocon.load("mini")
    plain = recipe.repeat(image, model)
    assert plain.image.tobytes() != Photograph.read("fox-dog.png").image.tobytes()
    assert recipe.differences(Recipe.of(plain, model)) == ["tiled True -> False"]


def test_memory_saved_after_running_out_of_it_is_recorded(
    image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model()
    decode, failures = model.decode, [MemoryError(), MemoryError()]

    def fail_twice(latents: torch.Tensor) -> torch.Tensor:
        if failures:
            raise failures.pop()
        return decode(latents)

    monkeypatch.setattr(model, "decode", fail_twice)
    settings = replace(model.settings, steps=1, guidance=(), attention=(), begin=0.0)
    edited = zerocon.edit(image, model=model, to="dog", settings=settings)
    compute = Recipe.of(edited, model).compute
    assert (compute["checkpointed"], compute["tiled"]) == (True, True)


def test_options_of_load_come_from_the_recipe() -> None:
    recipe = replace(RECIPE, compute={**CPU, "tiled": True, "compiled": True, "later": "x"})
    assert recipe.load_options() == {
        "device": "cpu", "dtype": "float32", "prediction": "epsilon",
        "tile": True, "compile": True, "offload": False,
    }  # fmt: skip


# schemas


UNKNOWN = {
    "receipt": {"signed": True},
    "settings": {"locks": ["background"]},
    "prompt": {"style": "x.png"},
}


@pytest.mark.parametrize("names", [["receipt"], ["settings"], ["prompt"], [*UNKNOWN]], ids=str)
def test_keys_of_a_later_version_are_kept_and_shown(run: Run, names: list[str]) -> None:
    assert run(*EDIT, "--to", "dog").exit_code == 0
    unknown = {name: UNKNOWN[name] for name in names}
    record = Recipe.read("cat-dog.png").record()
    for name in unknown.keys() & {"settings", "prompt"}:
        record[name] |= unknown[name]
    record = unknown | record
    recipe = Recipe.from_json(json.dumps(record))
    assert recipe.unknown == unknown
    assert json.loads(recipe.to_json()) == json.loads(json.dumps(record))
    assert Recipe.from_json(recipe.to_json()) == recipe

    rewritten("cat-dog.png", pnginfo=recipe_chunk(recipe.to_json()))
    page = " ".join(run("inspect", "cat-dog.png").stdout.split())  # lines are wrapped
    assert f" unknown {json.dumps(unknown, sort_keys=True)}" in page
    done = replay(run, "cat-dog.png")
    folder = run("replay", ".", "--source", ".", "--model", "weights").stdout
    if names == ["receipt"]:
        assert done.stdout.startswith("identical pixels; metadata")  # saved by another program
        assert "receipt {'signed': True} -> None" in done.stdout
    else:
        line = "the recipe has settings that this version of zerocon does not know ("
        assert line in error_line(done) and line in folder
        args = ["edit", "cat.png", "--to", "dog", "--model", "weights", "--recipe", "cat-dog.png"]
        assert line in error_line(run(*args, "-o", "other.png"))


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_recipe_of_version_0_1_is_shown_in_today_s_names(run: Run, ending: str) -> None:
    """The files were written by ``zerocon edit`` of version 0.1."""
    file = DATA / f"edited-by-0.1{ending}"
    recipe = Recipe.read(file)
    assert (recipe.image, recipe.size) == ("1d40ab527a55cbdf22c228d8ab7d126e", (128, 128))
    assert recipe.compute == {"device": "cpu", "dtype": "float32"}
    assert (recipe.converted_from, recipe.unknown) == ("zerocon.recipe/1", {})
    assert recipe.versions["zerocon"] == "0.1.0"
    with Image.open(FOX) as fox:
        recipe.require_source(fox.convert("RGB"))
    before: dict[str, Any] = {  # what 0.1 did; four of them were no settings yet
        "guidance_balance": None, "attention": (), "begin": 0.0, "push_limit": None,
        "difference_threshold": 0.0,
    }  # fmt: skip
    if ending == ".png":
        assert recipe.prompt == {"to": "dog"}
        assert recipe.target_caption == "a drawing of an orange dog in a forest"
        expected = Settings(
            steps=4, guidance_scale=1.5, direction_from="caption", guidance_range=(0.0, 0.6),
            guidance=("cross-attention:weight=0.12", "contrastive:weight=300"), polyak_step=True,
            guidance_limit="0.01,attribute=0.05,time=0.05,place=0.03,style=0.02", **before,
        )  # fmt: skip
    else:
        assert recipe.prompt == {"to": "at night"}
        expected = Settings(
            steps=4, inverter="fixed-point", guidance_scale=4.0, direction_from="mean",
            guidance=("cross-attention:weight=0.12", "contrastive:weight=300"), polyak_step=True,
            guidance_range=(0.0, 0.6), guidance_prompt="source", reuse_prediction=True,
            guidance_limit=0.02, **before,
        )  # fmt: skip
    assert recipe.settings == expected
    assert "schema     zerocon.recipe/1, cannot be replayed" in run("inspect", file).stdout
    record = json.loads(run("inspect", file, "--format", "json").stdout)
    assert (record["schema"], record["converted_from"]) == ("zerocon.recipe/2", "zerocon.recipe/1")
    assert Recipe.from_json(json.dumps(record)) == recipe
    line = (
        "recipes of zerocon 0.1 cannot be replayed: since 0.2 the same settings give other pixels"
    )
    assert line in error_line(run("replay", file, "--source", FOX))


def test_all_settings_and_directions_of_version_0_1_have_a_name_today() -> None:
    old = {
        "scheme": "picard:rounds=3", "half": "edited", "positions": "changed", "looks": 2,
        "balance": 0.5, "corrected": False, "remember": False, "seed": 7, "gone": 1,
    }  # fmt: skip
    converted = convert({
        "device": "cpu", "dtype": "float32", "settings": old,
        "directions": [{"words": "cat -> dog", "weight": 0.5, "hash": "0a"}],
    })  # fmt: skip
    assert converted["settings"] == {
        "inverter": "fixed-point:rounds=3", "guidance_prompt": "target", "guidance_balance": 0.5,
        "direction_positions": "changed", "reuse_prediction": False, "source_correction": False,
        "cache_source": False, "seed": 7, "gone": 1,
        "attention": [], "begin": 0.0, "push_limit": None,  # what 0.1 did
        "difference_threshold": 0.0,
    }  # fmt: skip
    assert converted["directions"] == [{"change": "cat -> dog", "weight": 0.5, "hash": "0a"}]
    names = {each.name for each in fields(Settings)}
    assert set(SETTINGS.values()) <= names


def test_a_recipe_is_shown_in_a_line() -> None:
    assert repr(RECIPE) == "Recipe(to='dog', mini, seed 0)"


# hashes of weights


def test_weights_are_hashed_once_until_they_change(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("ZEROCON_CACHE", str(cache))
    copy = tiny.save(tmp_path / "copy")
    first = weights_hash(weights)
    assert weights_hash(copy) == first
    stored_hashes = (cache / "weights.json").read_bytes()
    assert weights_hash(weights) == first
    assert (cache / "weights.json").read_bytes() == stored_hashes
    tiny.save(copy, tiny.model(seed=1))
    assert weights_hash(copy) != first
    for spoilt in ("no JSON", "[]", '{"a": 1}', stored_hashes.decode().replace("[", "[0, ")):
        (cache / "weights.json").write_text(spoilt)
        assert weights_hash(weights) == first


def test_an_unusable_cache_is_not_an_error(
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
def test_hashes_are_kept_in_the_cache_directory_of_the_system(
    platform: str, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ZEROCON_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("home"))
    assert cache_folder() == Path(expected)
