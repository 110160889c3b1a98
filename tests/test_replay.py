"""Directories of edited images: their recipes listed, every edit replayed from its own source."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient, recipe_chunk
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import zerocon
from zerocon.cli import main
from zerocon.image.metadata import Provenance
from zerocon.image.reading import Photograph
from zerocon.model.stable_diffusion import StableDiffusion
from zerocon.settings import Settings
from zerocon.storage.hashing import image_hash

Run = Callable[..., Result]

BRIEF = Settings(steps=1, guidance=(), seed=3)


def save(file: str, output: str, model: StableDiffusion, **prompt: Any) -> zerocon.Recipe:
    """Edit one file to another, as `zerocon edit` does."""
    photograph = Photograph.read(file)
    edited = zerocon.edit(photograph.image, model=model, settings=BRIEF, **prompt)
    recipe = zerocon.Recipe.of(edited, model)
    photograph.save(edited.image, Path(output), provenance=Provenance(recipe.to_json()))
    return recipe


def store(output: str, recipe: zerocon.Recipe) -> None:
    """Give a PNG another recipe."""
    with Image.open(output) as image:
        image.load()
        image.save(output, pnginfo=recipe_chunk(recipe.to_json()))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the loaded models; there is one, with two names, in memory."""
    names: list[str] = []

    def load(name: str, **_: Any) -> StableDiffusion:
        if name not in ("tiny", "small"):
            raise zerocon.MissingError(f"no {name} here")
        names.append(name)
        return named(name)

    monkeypatch.setattr(zerocon, "load", load, raising=False)
    return names


def named(name: str) -> StableDiffusion:
    model = tiny.model()
    model.name = name
    return model


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in a directory with two sources and four edits of two models."""
    monkeypatch.chdir(tmp_path)
    for folder in ("sources/deep", "edits/deep"):
        Path(folder).mkdir(parents=True)
    gradient(96, 64).save("sources/cat.png")
    gradient(64, 80).save("sources/deep/bus.jpg")
    one, other = named("tiny"), named("small")
    save("sources/cat.png", "edits/a.png", one, to="dog")
    save("sources/cat.png", "edits/b.webp", other, to="pig", from_="cat")
    save("sources/deep/bus.jpg", "edits/c.jpg", one, to="hen", caption="a bus")
    save("sources/cat.png", "edits/deep/d.png", one, to="at night")
    shutil.copy("sources/cat.png", "edits/plain.png")
    Path("edits/notes.txt").write_text("not a picture")
    shutil.copytree("edits", "edits/.hidden")
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


def test_inspect_lists_recipes_and_counts_images_without_one(run: Run) -> None:
    done = run("inspect", "edits")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "| image | prompt | caption | model | seed |",
        "|---|---|---|---|---|",
        '| edits/a.png | to "dog" | a cat on a bench | tiny | 3 |',
        '| edits/b.webp | from "cat", to "pig" | a cat on a bench | small | 3 |',
        '| edits/c.jpg | to "hen" | a bus | tiny | 3 |',
        '| edits/deep/d.png | to "at night" | a cat on a bench | tiny | 3 |',
        "with a recipe: 4, without: 1",
    ]
    assert run("inspect", "sources").stdout == "with a recipe: 0, without: 2\n"


def test_the_limit_of_pixels_is_an_option(run: Run, loaded: list[str]) -> None:
    """cat.png and its edits have 6144 pixels, bus.jpg and its edit 5120."""
    for command in (
        ["inspect", "edits/a.png"],
        ["replay", "edits/a.png", "--source", "sources/cat.png"],
    ):
        done = run(*command, "--max-megapixels", "0.006")
        assert done.exit_code == 2 and "the limit is 0.006" in done.stderr
        assert run(*command, "--max-megapixels", "0.0062").exit_code == 0
    done = run("inspect", "edits", "--max-megapixels", "0.006")
    assert done.stderr.count("the limit is 0.006") == 4 and "with a recipe: 1" in done.stdout
    command = ["replay", "edits", "--source", "sources", "--format", "json"]
    done = run(*command, "--max-megapixels", "0.006")
    assert [each["same"] for each in json.loads(done.stdout)["images"]].count(True) == 1
    assert run(*command, "--max-megapixels", "0.0062").exit_code == 0
    settings = ["edit", "sources/deep/bus.jpg", "--to", "hen", "--recipe", "edits/a.png"]
    done = run(*settings, "--max-megapixels", "0.006", "--dry-run")
    assert done.exit_code == 2 and "edits/a.png cannot be read" in done.stderr


def test_a_replay_that_is_saved_says_what_is_lost(run: Run, loaded: list[str]) -> None:
    shutil.copy("sources/cat.png", "packed.png")
    with Image.open("packed.png") as image:
        chunk = PngInfo()
        chunk.add_itxt("XML:com.adobe.xmp", "<damaged")
        chunk.add_text("Software", "a text")
        image.save("packed.png", pnginfo=chunk)
    command = ["replay", "edits/a.png", "--source", "packed.png"]
    assert "XMP" not in run(*command).stderr
    stderr = run(*command, "-o", "again.jpg").stderr
    assert "the XMP data are damaged and are not kept" in stderr
    assert "the texts of the PNG (Software) are not kept in JPEG" in stderr


def test_inspect_prints_json_and_json_lines(run: Run) -> None:
    folder = json.loads(run("inspect", "edits", "--format", "json").stdout)
    assert (folder["schema"], folder["folder"], folder["others"]) == (
        "zerocon.recipes/1",
        "edits",
        1,
    )
    lines = [
        json.loads(line)
        for line in run("inspect", "edits", "--format", "jsonl").stdout.splitlines()
    ]
    assert lines == folder["images"] and len(lines) == 4
    alone = json.loads(run("inspect", "edits/a.png", "--format", "json").stdout)
    assert lines[0]["recipe"] == alone and lines[0]["problem"] is None


def test_an_unreadable_image_does_not_hide_the_others(run: Run) -> None:
    Path("edits/broken.png").write_bytes(Path("edits/a.png").read_bytes()[:200])
    frames = [gradient(32, 32), gradient(32, 33).crop((0, 0, 32, 32))]
    frames[0].save("edits/moving.gif", save_all=True, append_images=frames[1:])
    done = run("inspect", "edits")
    assert "Warning: edits/broken.png cannot be read as an image" in done.stderr
    assert done.exit_code == 0 and "with a recipe: 4, without: 2" in done.stdout


def test_replay_finds_every_source_and_loads_each_model_once(run: Run, loaded: list[str]) -> None:
    before = {path: path.read_bytes() for path in Path().rglob("*.*") if path.is_file()}
    done = run("replay", "edits", "--source", "sources")
    assert (done.exit_code, done.stderr) == (0, "")
    same = "identical, byte for byte"
    names = ("b.webp", "a.png", "c.jpg", "deep/d.png")  # by model, then by name
    lines = [*(f"edits/{name}: {same}" for name in names), "4 of 4 came out the same"]
    assert done.stdout.splitlines() == lines
    assert loaded == ["small", "tiny"]
    assert {path: path.read_bytes() for path in before} == before


def test_different_pixels_and_missing_sources_are_reported(run: Run, loaded: list[str]) -> None:
    with Image.open("edits/a.png") as image:
        recipe = zerocon.Recipe.read("edits/a.png")
        image.putpixel((3, 4), (0, 0, 0))
        image.save("edits/a.png", pnginfo=recipe_chunk(recipe.to_json()))
    store("edits/deep/d.png", replace(recipe, versions={**recipe.versions, "torch": "1.0"}))
    done = run("replay", "edits", "--source", "sources/cat.png")
    assert done.exit_code == 1
    results = dict(line.split(": ", 1) for line in done.stdout.splitlines()[:-1])
    assert results["edits/a.png"].startswith("1 of 6144 pixels differ, by up to ")
    assert results["edits/c.jpg"] == "no source image has the pixels of its recipe"
    assert "; torch 1.0 -> " in results["edits/deep/d.png"]
    assert done.stdout.splitlines()[-1] == "1 of 4 came out the same"

    form = ("--format", "jsonl")
    lines = run("replay", "edits", "--source", "sources/cat.png", *form).stdout.splitlines()
    found = {each["file"]: each for each in map(json.loads, lines)}
    assert found["edits/b.webp"]["same"] and found["edits/b.webp"]["source"] == "sources/cat.png"
    assert (found["edits/a.png"]["pixels"], found["edits/a.png"]["total"]) == (1, 6144)
    lost = found["edits/c.jpg"]
    assert (lost["same"], lost["source"], lost["pixels"]) == (False, None, None)
    whole = json.loads(
        run("replay", "edits", "--source", "sources/cat.png", "--format", "json").stdout
    )
    assert whole["schema"] == "zerocon.replays/1" and whole["same"] is False
    assert whole["images"] == list(found.values())


def test_a_missing_model_stops_only_its_own_images(run: Run, loaded: list[str]) -> None:
    store("edits/a.png", replace(zerocon.Recipe.read("edits/a.png"), model="gone"))
    done = run("replay", "edits", "--source", "sources")
    assert (
        "edits/a.png: no gone here; or give the location of the recipe's model: --model"
        in done.stdout
    )
    assert done.exit_code == 1 and "3 of 4 came out the same" in done.stdout
    assert "Traceback" not in done.output


def test_of_sources_with_equal_pixels_the_one_with_equal_metadata_is_chosen(
    run: Run, loaded: list[str]
) -> None:
    data = Image.Exif()
    data[0x010F] = "Camera"
    for name, more in {"sources/aaa.png": {}, "sources/zzz.png": {"exif": data}}.items():
        gradient(50, 70).save(name, **more)
    Path("edited").mkdir()
    save("sources/zzz.png", "edited/e.png", named("tiny"), to="dog")
    done = run("replay", "edited", "--source", "sources", "--format", "jsonl")
    assert done.exit_code == 0 and json.loads(done.stdout)["source"] == "sources/zzz.png"


def test_directions_and_inversions_are_given_to_the_edits_that_used_them(
    run: Run, loaded: list[str]
) -> None:
    model = named("tiny")
    image = Photograph.read("sources/cat.png").image
    night = zerocon.Direction.of_words(model, "by day", "at night")
    hen = zerocon.Direction.of_words(model, "cat", "hen")
    kept = zerocon.invert(image, model, settings=replace(BRIEF, seed=9, inverter="virtual"))
    for name, each in {"night": night, "hen": hen, "kept": kept}.items():
        each.save(f"{name}.safetensors")  # type: ignore[attr-defined]
    save("sources/cat.png", "edits/e.png", model, directions=[(night, 0.5)], inversion=kept)
    ask = ("replay", "edits", "--source", "sources", "--inversion", "kept.safetensors")
    done = run(*ask, "--direction", "night.safetensors")
    assert done.exit_code == 0 and "5 of 5 came out the same" in done.stdout, done.output
    assert "edits/e.png: the recipe needs" in run(*ask[:4]).stdout
    done = run(*ask, "--direction", "hen.safetensors")
    assert "no image in edits was edited with hen.safetensors" in done.stderr


def test_masked_results_of_a_batch_are_replayed_one_by_one_with_their_mask(
    run: Run, loaded: list[str]
) -> None:
    mask = Image.new("L", (96, 64))
    mask.paste(255, (0, 0, 50, 64))
    mask.save("mask.png")
    mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("other.png")
    Path("list.csv").write_text(
        "image,to,mask,name\nsources/cat.png,dog,mask.png,masked.png\n"
        "sources/cat.png,dog,,found.png\n"
    )
    brief = ("--steps", 1, "--guidance", "none", "--model", "tiny")
    made = run("batch", "--manifest", "list.csv", "-o", "made", *brief)
    assert made.exit_code == 0, made.output
    files = "made/sources/masked.png", "made/sources/found.png"
    replay = ("replay", files[0], "--source", "sources/cat.png")
    done = run(*replay, "--mask", "mask.png")
    assert (done.exit_code, done.stdout) == (0, "identical, byte for byte\n"), done.output
    assert "the mask is not the recipe's" in run(*replay, "--mask", "other.png").stderr
    assert "the recipe needs the mask that the edit was given" in run(*replay).stderr
    folder = run("replay", "made", "--source", "sources")
    assert folder.exit_code == 1
    lines = dict(line.split(": ", 1) for line in folder.stdout.splitlines()[:-1])
    assert lines[files[0]].startswith("the recipe needs the mask that the edit was given")
    assert lines[files[1]] == "identical, byte for byte"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["edits", "--source", "sources", "-o", "new.png"], "-o is for the replay of one image"),
        (["edits", "--source", "sources", "--mask", "m.png"], "--mask is for the replay of one"),
        (["sources", "--source", "edits"], "no image in sources has a zerocon recipe"),
        (["edits", "--source", "nowhere"], "there is no file nowhere"),
        (["edits/a.png", "--source", "sources"], "sources is a directory, not an image"),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(
    run: Run, args: list[str], message: str
) -> None:
    done = run("replay", *args)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr and not Path("new.png").exists()


def test_sources_are_found_by_their_pixels(run: Run) -> None:
    from zerocon.recipe.replay import find_sources

    found, problems = find_sources(Path("sources"))
    assert problems == []
    assert found[image_hash(gradient(96, 64))] == [Path("sources/cat.png")]
