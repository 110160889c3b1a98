"""Working sizes in use: the model's rule, ``--size``, inversions, cache, batches and replays.

How sizes are computed is tested in ``test_images.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from conftest import gradient

import zerocon
from zerocon.api import invert_batch
from zerocon.batch import estimate
from zerocon.batch.estimate import fitting_batch_size
from zerocon.batch.executor import shape_of
from zerocon.batch.job import Job
from zerocon.cache import Cache
from zerocon.cli import main
from zerocon.diagnostics.cost import estimate_cost
from zerocon.errors import MismatchError, UnsupportedModelError
from zerocon.image.reading import Photograph
from zerocon.image.transforms import WorkingSize, prepare
from zerocon.model.defaults import ModelDefaults
from zerocon.model.stable_diffusion import StableDiffusion
from zerocon.settings import LARGEST_SIZE, SMALLEST_SIZE, Settings
from zerocon.trajectory import Inversion

Run = Callable[..., Result]

BRIEF = Settings(steps=1, guidance=(), begin=0.0)
IMAGE = gradient(96, 60)
METHOD = ["--steps", "2", "--guidance", "none", "--attention", "none", "--begin", "0"]
MINI = ["--to", "dog", "--caption", "a cat", "--model", "mini", *METHOD]


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return tiny.model()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in a directory with an image."""
    monkeypatch.chdir(tmp_path)
    IMAGE.save("cat.png")

    def invoke(*args: Any, code: int = 0) -> Result:
        done = CliRunner().invoke(main, [str(arg) for arg in args])
        assert done.exit_code == code, done.output
        return done

    return invoke


def invert(model: StableDiffusion, **settings: Any) -> Inversion:
    return zerocon.invert(IMAGE, model, caption="a cat", settings=BRIEF.overlay(settings))


def edit(model: StableDiffusion, inversion: Inversion | None = None, **settings: Any) -> Any:
    values = {"to": "dog", "caption": "a cat", "settings": BRIEF.overlay(settings)}
    return zerocon.edit(IMAGE, model=model, inversion=inversion, **values)


# which rule a model has


def test_the_embedded_model_keeps_its_longest_side_and_others_the_area(model) -> None:
    mini = zerocon.load("mini", device="cpu")
    assert (mini.working_size.size, mini.working_size.rule) == (128, "longest")
    assert (mini.size, mini.multiple) == (mini.working_size.size, mini.working_size.multiple)
    assert model.working_size == WorkingSize(64, 16, "area")


def test_a_model_s_directory_names_its_rule(model, tmp_path) -> None:
    folder = tiny.save(tmp_path / "model", model)
    assert zerocon.load(str(folder), device="cpu").working_size.rule == "area"
    (folder / "zerocon.json").write_text('{"size_rule": "longest", "steps": 3}')
    loaded = zerocon.load(str(folder), device="cpu")
    assert (loaded.working_size.rule, loaded.settings) == ("longest", Settings(steps=3))
    assert loaded.fingerprint() == zerocon.load(str(folder), device="cpu").fingerprint()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('{"size_rule": "widest"}', ValueError, "size_rule must be one of area, longest"),
        ('{"sizerule": "area"}', ValueError, "zerocon.json: no setting 'sizerule'; there are:"),
        ('{"size": 8}', ValueError, "zerocon.json: size must be an integer from 64 to 2048"),
        ("[]", UnsupportedModelError, r"is damaged: \S+/zerocon\.json is not a JSON object$"),
    ],
)
def test_an_invalid_file_of_a_model_is_an_error(text, error, message, tmp_path) -> None:
    (tmp_path / "zerocon.json").write_text(text)
    with pytest.raises(error, match=message):
        ModelDefaults.read(tmp_path)


@pytest.mark.parametrize("size", [SMALLEST_SIZE - 1, LARGEST_SIZE + 1, 128.0, True, "128"])
def test_the_size_is_an_integer_in_its_range(size) -> None:
    with pytest.raises(ValueError, match="size must be an integer from 64 to 2048, not"):
        Settings(size=size)


# one size for the edit and all that belongs to it


@pytest.mark.parametrize("size", [None, 80])
def test_the_size_reaches_edit_inversion_recipe_and_batch(model, tmp_path, size) -> None:
    expected = {None: (96, 64), 80: (112, 64)}[size]  # 81x51 and 101x63, padded
    edited = edit(model, size=size)
    assert edited.image.size == IMAGE.size and edited.source.size == expected
    recipe = zerocon.Recipe.of(edited, model)
    assert (recipe.size, recipe.settings.size, recipe.image) == (expected, size, edited.source.hash)
    for inversion in (edited.inversion, invert(model, size=size)):
        assert inversion.latents.shape[-2:] == (expected[1] // 8, expected[0] // 8)
        assert inversion.images == (edited.source.key,)
    IMAGE.save(tmp_path / "cat.png")
    assert shape_of(tmp_path / "cat.png", model, BRIEF.overlay({"size": size})) == (
        "{}x{}".format(*expected)
    )
    repeated = zerocon.Recipe.from_json(recipe.to_json()).repeat(IMAGE, model)
    assert repeated.image.tobytes() == edited.image.tobytes()


def test_a_recipe_without_a_size_is_that_of_the_model(model) -> None:
    edited = edit(model)
    record = json.loads(zerocon.Recipe.of(edited, model).to_json())
    del record["settings"]["size"]
    recipe = zerocon.Recipe.from_json(json.dumps(record))
    assert recipe.settings.size is None
    assert recipe.repeat(IMAGE, model).image.tobytes() == edited.image.tobytes()


def test_a_recipe_s_working_size_and_setting_are_two_differences(model) -> None:
    one, other = (zerocon.Recipe.of(edit(model, size=size), model) for size in (None, 96))
    expected = ["size None -> 96", "working size (96, 64) -> (128, 80)"]
    assert sorted(one.differences(other)) == expected
    assert replace(one, size=(64, 48)).differences(one) == ["working size (64, 48) -> (96, 64)"]


def test_a_replay_of_the_command_line_is_equal_byte_for_byte(run) -> None:
    for name, size in {"small": 64, "own": 128}.items():
        done = run("edit", "cat.png", *MINI, "--size", size, "-o", f"{name}.png")
        recipe = zerocon.Recipe.read(f"{name}.png")
        assert (recipe.settings.size, recipe.size[0]) == (size, size), done.output
        assert (
            "identical, byte for byte" in run("replay", f"{name}.png", "--source", "cat.png").stdout
        )
    run("edit", "cat.png", *MINI, "-o", "default.png")
    pixels = [
        Photograph.read(f"{name}.png").image.tobytes() for name in ("small", "own", "default")
    ]
    assert pixels[0] != pixels[1] == pixels[2], "its own size changes nothing"


def test_a_batch_takes_a_size_for_all_and_one_for_each_row(run) -> None:
    for size in (64, 96):
        run("edit", "cat.png", *MINI, "--size", size, "-o", f"{size}.png")
    batch = ["batch", "--caption", "a cat", "--model", "mini", *METHOD]
    one = [*batch, "cat.png", "--to", "dog", "-o", "all"]

    def plan(*more: Any) -> dict[str, Any]:
        return json.loads(run(*one, *more, "-n", "--format", "json").stdout)

    assert plan("--size", 64)["evaluations"] == plan()["evaluations"]
    assert plan("--size", 64)["bytes"] < plan()["bytes"]
    run(*one, "--size", 64)
    assert [each["state"] for each in plan("--size", 64)["edits"]] == ["done"]
    assert "exist already and are not of the same edit" in run(*one, "--size", 80, code=2).stderr
    rows = ["cat.png,a cat,dog,64,a.png", "cat.png,a cat,dog,96,b.png"]
    Path("edits.csv").write_text("\n".join(["image,caption,to,size,name", *rows]))
    run(*batch, "--manifest", "edits.csv", "--batch-size", 2, "-o", "rows")
    for name, size in {"all/cat-dog-0": 64, "rows/a": 64, "rows/b": 96}.items():
        assert Path(f"{name}.png").read_bytes() == Path(f"{size}.png").read_bytes(), name


def test_a_batch_on_a_gpu_is_as_large_as_its_largest_images_allow(
    model, tmp_path, monkeypatch
) -> None:
    """With the device's type and free memory replaced: no GPU is needed."""
    free = 14_000_000
    gpu = SimpleNamespace(
        device=torch.device("cuda"), working_size=model.working_size, settings=model.settings
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, free))
    monkeypatch.setattr(
        estimate.cost, "estimate_cost", lambda _, *rest: estimate_cost(model, *rest)
    )
    for name, size in {"wide.png": (90, 60), "long.png": (300, 20)}.items():
        gradient(*size).save(tmp_path / name)

    def fitting(*jobs: tuple[str, dict[str, int]]) -> int:
        return fitting_batch_size(
            gpu, [Job(tmp_path / name, PurePosixPath(name), {}, more) for name, more in jobs]
        )

    def expected(source: tuple[int, int], size: int) -> int:
        each = estimate_cost(model, replace(model.settings, size=size), source)
        return int(0.8 * free) // (each.cached + each.working)

    small, large, long = expected((90, 60), 64), expected((90, 60), 96), expected((300, 20), 64)
    assert 1 < large < small < long < 32
    wide, other, enlarged = ("wide.png", {}), ("long.png", {}), ("wide.png", {"size": 96})
    assert fitting(wide) == fitting(other, wide) == small
    assert fitting(enlarged, other, wide) == large
    assert fitting(other) == long


def test_a_dry_run_tells_the_size_of_the_edit(run) -> None:
    for more, scaled, reduction in (([], [128, 80], 0.75), (["--size", "64"], [64, 40], 1.5)):
        dry = json.loads(run("edit", "cat.png", *MINI, *more, "-n", "--format", "json").stdout)
        assert (dry["working_size"], dry["reduction"]) == (scaled, reduction)
    line = run("edit", "cat.png", *MINI, "--size", "64", "-n").stdout
    assert "; at 64x40 pixels, reduced 1.5 times; changes " in line
    line = run("edit", "cat.png", *MINI, "--size", "96", "-n").stdout
    assert "; at 96x60 pixels, not scaled; changes " in line


def test_step_images_are_those_of_the_size(run) -> None:
    options = ("--size", "64", "--composite", "model", "--steps-dir", "steps", "-o", "out.png")
    run("edit", "cat.png", *MINI, *options)
    last = Photograph.read("steps/step-002.png").image
    assert last.tobytes() == Photograph.read("out.png").image.tobytes()


def test_a_size_in_the_configuration_and_one_out_of_range(run) -> None:
    Path("zerocon.toml").write_text("size = 96")
    shown = json.loads(run("config", "show", "--format", "json").stdout)["settings"]["size"]
    assert shown["value"] == 96 and shown["origin"].endswith("zerocon.toml")
    run("edit", "cat.png", *MINI, "-o", "out.png")
    assert zerocon.Recipe.read("out.png").settings.size == 96
    done = run("edit", "cat.png", *MINI, "--size", "10", code=2)
    assert "size must be an integer from 64 to 2048, not 10" in done.stderr


# inversions of another size or crop


def test_an_inversion_of_another_size_is_refused_in_one_line(model) -> None:
    inversion = invert(model, size=80)
    assert edit(model, inversion, size=80).inversion_source == "given"
    with pytest.raises(MismatchError, match="made at 112x64 pixels, the edit works at 96x64; "):
        edit(model, inversion)
    with pytest.raises(MismatchError, match="made with another size or crop"):
        edit(model, invert(model, size=65), size=64)  # padded to the same size
    with pytest.raises(MismatchError, match="does not match the image"):
        zerocon.edit(IMAGE.rotate(180), to="dog", model=model, inversion=inversion, size=80)


def test_an_inversion_of_a_crop_is_not_one_of_the_image_or_of_another_crop(model) -> None:
    boxes = [None, (0, 0, 48, 30), (48, 30, 96, 60)]
    images = [prepare(IMAGE, model.working_size, box) for box in boxes]
    inversions = [invert_batch([each], model, ["a cat"], settings=BRIEF) for each in images]
    for i, inversion in enumerate(inversions):
        for j, image in enumerate(images):
            if i == j:
                inversion.require_images([image], model.vae_scale_factor)
                continue
            with pytest.raises(MismatchError, match="another size or crop"):
                inversion.require_images([image], model.vae_scale_factor)


def test_a_file_of_an_earlier_version_matches_by_the_size_of_its_latents(model, tmp_path) -> None:
    """It names the image by the hash of its pixels alone."""
    inversion = invert(model)
    earlier = replace(inversion, images=(edit(model).source.hash,))
    earlier.save(tmp_path / "cat.safetensors")
    earlier = Inversion.load(tmp_path / "cat.safetensors")
    assert edit(model, earlier).image.tobytes() == edit(model, inversion).image.tobytes()
    with pytest.raises(MismatchError, match="made at 96x64 pixels, the edit works at 112x64"):
        edit(model, earlier, size=80)
    crop = prepare(IMAGE, model.working_size, (0, 0, 48, 30))
    with pytest.raises(MismatchError, match="another size or crop"):
        earlier.require_images([crop], model.vae_scale_factor)


def test_the_command_line_refuses_an_inversion_of_another_size(run) -> None:
    invert = ["invert", "cat.png", "--caption", "a cat", "--model", "mini", "--steps", "2"]
    run(*invert, "--size", "64")
    given = ["edit", "cat.png", *MINI[:6], "--guidance", "none", "--inversion", "cat.safetensors"]
    for more in ([], ["-n"]):
        done = run(*given, *more, code=2)
        assert "the inversion was made at 64x" in done.stderr and "Traceback" not in done.output
    run(*given, "--size", "64", "-o", "out.png")
    assert zerocon.Recipe.read("out.png").settings.size == 64


def test_two_sizes_of_an_image_have_two_entries_in_the_cache(model, tmp_path) -> None:
    saved = zerocon.load(str(tiny.save(tmp_path / "model", model)), device="cpu")
    cache = Cache(tmp_path / "cache")

    def edited(size: int | None) -> tuple[str, bytes]:
        settings = BRIEF.overlay({"size": size})
        done = zerocon.edit(
            IMAGE, to="dog", caption="a cat", model=saved, settings=settings, cache=cache
        )
        return done.inversion_source, done.image.tobytes()

    first, second = edited(None), edited(96)
    assert (first[0], second[0], len(cache.entries())) == ("computed", "computed", 2)
    assert first[1] != second[1]
    assert (edited(None), edited(96)) == (("cached", first[1]), ("cached", second[1]))
    assert edited(64)[0] == "cached", "the model's own size, given"
