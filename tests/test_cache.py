"""Inversions kept between edits: the same bytes for less work, whatever becomes of the files."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from conftest import gradient
from PIL.Image import Transpose
from safetensors.torch import save_file
from test_memory import Short

import zerocon
from zerocon.api import edit_batch
from zerocon.cache import Cache, key_of, size_of
from zerocon.cli import main
from zerocon.diffusion import Schedule
from zerocon.model import Model
from zerocon.request import parse_request
from zerocon.settings import Settings
from zerocon.storage.hashing import image_hash
from zerocon.trajectory import Inversion

SETTINGS = Settings(steps=4, guidance_scale=3.0)
PICTURE = gradient(48, 64)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "weights")


@pytest.fixture(scope="module")
def model(weights: Path) -> Model:
    return zerocon.load(str(weights), device="cpu")


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, warnings: list[str]) -> Cache:
    return Cache(tmp_path / "inversions", on_warning=warnings.append)


def edit(model: Model, cache: Cache | None = None, **asked: Any) -> zerocon.Edit:
    given = {"to": "dog", "caption": "a cat", "settings": SETTINGS} | asked
    return zerocon.edit(PICTURE, model=model, cache=cache, **given)


def of(settings: Settings = SETTINGS, **values: Any) -> dict[str, Any]:
    return {"settings": settings.overlay(values)}


# the same edit for less


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"to": "bus"},
        of(strength=0.5, guidance_scale=2.0),
        of(guidance=["cross-attention:weight=0.3", "contrastive:weight=2,patches=16"]),
        of(
            guidance_range=(0.0, 0.5),
            reuse_prediction=True,
            guidance_prompt="both",
            guidance_balance=1.0,
        ),
        of(seed=7),
    ],
)
def test_the_second_edit_of_a_picture_does_none_of_the_sources_work(model, cache, asked):
    assert edit(model, cache).origin == "made"
    plain, again = edit(model, **asked), edit(model, cache, **asked)
    assert (plain.origin, again.origin) == ("made", "found")
    assert again.evaluations.forwards == plain.evaluations.forwards - 5
    assert again.evaluations.backwards == plain.evaluations.backwards
    assert again.image.tobytes() == plain.image.tobytes()
    assert again.settings == plain.settings
    assert again.inversion.recipe == plain.inversion.recipe


@pytest.mark.parametrize("inverter", ["ddim:rounds=2", "fixed-point", "virtual"])
@pytest.mark.parametrize("cache_source", [True, False])
def test_it_does_so_with_every_scheme_and_when_it_looks_again(model, cache, inverter, cache_source):
    asked = of(inverter=inverter, cache_source=cache_source)
    first, again = (edit(model, cache, **asked) for _ in range(2))
    assert again.origin == "found" and again.image.tobytes() == first.image.tobytes()
    cost = zerocon.invert(PICTURE, model, caption="a cat", **asked)
    assert torch.equal(again.inversion.eps, cost.eps)
    (entry,) = cache.entries()
    assert entry.facts()["seen"] is cache_source


def test_what_the_source_showed_is_left_out_where_it_is_too_large(model, tmp_path):
    first = edit(model)
    path = first.inversion.latents.nbytes + first.inversion.eps.nbytes
    small = Cache(tmp_path, limit=first.inversion.shown + path)
    made, found = edit(model, small), edit(model, small)
    assert [each.origin for each in (made, found)] == ["made", "found"]
    assert found.evaluations.forwards == first.evaluations.forwards - 1, "it is looked at again"
    assert first.image.tobytes() == made.image.tobytes() == found.image.tobytes()
    (entry,) = small.entries()
    assert path < entry.bytes < first.inversion.shown and not entry.facts()["seen"]


@pytest.mark.parametrize("cache_source", [True, False])
def test_pictures_of_a_batch_are_kept_one_by_one_and_found_all_together(model, cache, cache_source):
    settings = SETTINGS.overlay({"cache_source": cache_source})
    images = [PICTURE, PICTURE.transpose(Transpose.FLIP_TOP_BOTTOM)]
    said = [parse_request(each, model, to="dog", caption="a cat") for each in images]

    def both(cache: Cache | None, order: slice = slice(None)) -> list[zerocon.Edit]:
        work = images[order], said[order]
        return edit_batch(*work, model=model, settings=settings, cache=cache)

    plain, made, found = both(None), both(cache), both(cache)
    assert len(cache.entries()) == 2
    assert [each.origin for each in (*made, *found)] == ["made", "made", "found", "found"]
    for one, other, again in zip(plain, made, found, strict=True):
        assert one.image.tobytes() == other.image.tobytes() == again.image.tobytes()
        assert again.evaluations.forwards == one.evaluations.forwards - 5
    again, back = (both(each, slice(None, None, -1)) for each in (None, cache))
    assert back[0].origin == "found", "in any order"
    assert [e.image.tobytes() for e in again] == [e.image.tobytes() for e in back]
    assert edit(model, cache, settings=settings).origin == "made", (
        "alone, it is rounded differently"
    )


def test_an_inversion_that_is_given_is_none_of_its_business(model, cache):
    kept = zerocon.invert(PICTURE, model, caption="a cat", settings=SETTINGS)
    assert edit(model, cache, inversion=kept).origin == "given"
    assert cache.entries() == []


def test_where_memory_runs_out_the_edit_comes_out_as_without_a_cache(weights, cache, warnings):
    def short() -> zerocon.Edit:
        model = zerocon.load(str(weights), device="cpu")
        model.unet.forward = Short(model, 1)
        return edit(model, cache if used else None)

    used = False
    plain = short()
    used = True
    made, found = short(), short()
    assert not plain.settings.cache_source and not made.settings.cache_source
    assert plain.image.tobytes() == made.image.tobytes() == found.image.tobytes()
    assert found.origin == "found" and not warnings


# what an inversion depends on


def test_whatever_an_inversion_depends_on_is_in_its_key(model, weights, tmp_path):
    def key(of: Model = model, caption: str = "a cat", together: int = 1, **values: Any) -> str:
        settings = SETTINGS.overlay(values)
        found = key_of(of, settings, image_hash(PICTURE), caption, together=together)
        assert found is not None
        return found

    def load(place: Path = weights, **more: str) -> Model:
        return zerocon.load(str(place), device="cpu", **more)

    other, tiled = tiny.save(tmp_path / "other", tiny.model(seed=1)), load()
    tiled.runtime.tile()
    keys = [
        key(),
        key(caption="a dog"),
        key(together=2),
        key(steps=5),
        key(inverter="fixed-point"),
        key(inverter="fixed-point:rounds=2"),
        key(inverter="virtual"),
        key(inverter="virtual", seed=1),
        key(cache_source=False),
        key(guidance=["contrastive"]),
        key(load(other)),
        key(load(dtype="bfloat16")),
        key(load(prediction="v_prediction")),
        key(tiled),
        key_of(model, SETTINGS, image_hash(gradient(48, 63)), "a cat"),
    ]
    assert len(set(keys)) == len(keys)
    assert key(load()) == key() == key(seed=1) == key(guidance_scale=7.0, strength=2.0)
    assert key(inverter="fixed-point:rounds=1") == key(inverter="fixed-point")


def test_a_model_without_files_is_never_cached(cache):
    model = tiny.model()
    assert [edit(model, cache).origin for _ in range(2)] == ["made", "made"]
    assert not cache.folder.exists()


# files that are not what they should be


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def another(path: Path) -> None:
    """A whole entry under a name that is not its own."""
    cache = Cache(path.parent)
    cache.keep("other", cache.find(path.stem))
    (path.parent / "other.safetensors").replace(path)


SPOILT: dict[str, Callable[[Path], Any]] = {
    "a flipped bit in the header's length": lambda path: flip(path, 0),
    "a flipped bit in the header": lambda path: flip(path, 60),
    "a flipped bit in the middle": lambda path: flip(path, path.stat().st_size // 2),
    "a flipped bit at the end": lambda path: flip(path, -1),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "cut off in the header": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("Once upon a time\n" * 99),
    "foreign": lambda path: save_file({"latents": torch.zeros(1)}, path),
    "another's": another,
    "a folder": into_folder,
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_damaged_entry_is_said_removed_and_made_again(name, model, cache, warnings):
    plain = edit(model, cache)
    (entry,) = cache.entries()
    SPOILT[name](entry.path)
    assert cache.damaged() == [replace(each) for each in cache.entries()]
    again, third = edit(model, cache), edit(model, cache)
    assert (again.origin, third.origin) == ("made", "found")
    assert plain.image.tobytes() == again.image.tobytes() == third.image.tobytes()
    (warning,) = warnings
    assert "is damaged and made again" in warning and "\n" not in warning
    assert cache.damaged() == [] and len(cache.entries()) == 1


def test_somebody_elses_folder_in_the_place_of_an_entry_stays(model, cache, warnings):
    plain = edit(model, cache)
    (entry,) = cache.entries()
    into_folder(entry.path)
    (entry.path / "letter.txt").write_text("mine")
    images = [edit(model, cache).image.tobytes() for _ in range(2)]
    assert images == [plain.image.tobytes()] * 2 and len(warnings) == 1
    assert (entry.path / "letter.txt").read_text() == "mine"


def full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def fail(self: Path, data: bytes) -> int:
        if self.parent == path:
            write(self, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", fail)


def read_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everything")
    path.mkdir(mode=0o500)


@pytest.mark.parametrize(
    "spoil",
    [full, read_only, lambda path, _: path.write_text("in the way")],
    ids=["full", "read-only", "in the way"],
)
def test_a_folder_of_no_use_costs_time_and_no_more(spoil, model, cache, warnings, monkeypatch):
    spoil(cache.folder, monkeypatch)
    images = [edit(model, cache).image.tobytes() for _ in range(2)]
    assert images == [edit(model).image.tobytes()] * 2
    (warning,) = warnings
    assert warning.startswith("inversions are not cached: ")
    assert cache.entries() == [], "no half file"


# how much there is


def path_of(floats: int) -> Inversion:
    """An inversion of so many numbers, all but the name of nothing."""
    path = torch.randn(2, 1, 1, 1, floats // 4)
    return Inversion(
        path, path.clone(), Schedule.of((0, 1), (1.0, 0.5), (0.0, 0.5)), ("",), ("",), "toy", {}
    )


def test_those_unused_for_longest_go_first_and_the_limit_holds(tmp_path):
    cache = Cache(tmp_path / "in" / "here", limit=14_000)
    for i, key in enumerate("abc"):
        cache.keep(key, path_of(1000))  # 4 kB, and a header
        os.utime(cache.folder / f"{key}.safetensors", (i, i))
    assert cache.find("a") is not None, "which is of use again"
    cache.keep("d", path_of(1000))
    assert {entry.path.stem for entry in cache.entries()} == {"a", "c", "d"}
    os.utime(cache.folder / "a.safetensors", (2**33, 2**33))  # a clock that was wrong
    cache.keep("e", path_of(2000))
    assert {entry.path.stem for entry in cache.entries()} == {"a", "e"}
    assert sum(entry.bytes for entry in cache.entries()) <= cache.limit
    cache.keep("f", path_of(4000))
    assert cache.find("f") is None, "larger than all there may be"
    assert len(cache.entries()) == 2
    assert not [path for path in cache.folder.iterdir() if path.suffix == ".part"]


def test_what_is_kept_is_for_its_owners_eyes(tmp_path):
    cache = Cache(tmp_path / "here")
    cache.keep("a", path_of(4))
    assert os.name == "nt" or cache.folder.stat().st_mode & 0o077 == 0


WORKER = """
import sys
from pathlib import Path
import torch
from zerocon.cache import Cache
from zerocon.diffusion import Schedule
from zerocon.trajectory import Inversion
said, path = [], torch.randn(2, 1, 1, 1, 250)
made = Inversion(path, path.clone(), Schedule.of((0, 1), (1.0, 0.5), (0.0, 0.5)), ("",), ("",), "toy", {})
cache = Cache(Path(sys.argv[1]), limit=10_000, warn=said.append)
for turn in range(100):
    cache.keep(str(turn % 3), made)
    found = cache.find(str((turn + 1) % 3))
    assert found is None or found.latents.shape == made.latents.shape
print(said)
"""


def test_two_programs_may_use_it_at_once(tmp_path):
    command = [sys.executable, "-P", "-c", WORKER, tmp_path / "here"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [each.communicate()[0] for each in running] == ["[]\n", "[]\n"]
    cache = Cache(tmp_path / "here")
    assert 0 < sum(entry.bytes for entry in cache.entries()) <= 10_000 and not cache.damaged()


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("1.5 mb", 1_500_000), ("20KB", 20_000), ("0", 0), ("1TB", 10**12)],
)
def test_sizes(text, size):
    assert size_of(text) == size


# through the front door

ASK = ["edit", "cat.png", "--to", "dog", "--caption", "a cat", "--model", "weights", "--steps", "3"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> Callable[..., Result]:
    """Call the command line in a folder with a picture, a model and a cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZEROCON_NO_CACHE")
    (tmp_path / "weights").symlink_to(weights)
    PICTURE.save("cat.png")
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


def kept() -> list[Path]:
    return sorted(Path("cache/inversions").glob("*"))


@pytest.mark.parametrize("metadata", ["none", "full"])
def test_an_edit_with_the_cache_is_the_edit_without_byte_for_byte(run, metadata):
    more = ["--metadata", metadata, "--format", "json"]
    said = []
    for name in ("plain", "first", "second"):
        extra = ["--no-cache"] if name == "plain" else []
        done = run(*ASK, *more, *extra, "-o", f"{name}.png")
        assert done.exit_code == 0, done.output
        assert len(kept()) == (name != "plain")
        said.append(json.loads(done.stdout))
    assert len({Path(f"{name}.png").read_bytes() for name in ("plain", "first", "second")}) == 1
    assert [each["inversion"] for each in said] == ["made", "made", "found"]
    costs = [each["evaluations"]["forwards"] for each in said]
    assert costs[0] == costs[1] == costs[2] + 4
    if metadata == "full":
        replayed = run("replay", "second.png", "--source", "cat.png", "--model", "weights")
        assert replayed.exit_code == 0, replayed.output


def test_a_dry_run_counts_what_is_cached_and_keeps_nothing(run):
    def cost(*more: str) -> tuple[str, Any, Any]:
        done = run(*ASK, "--format", "json", "--overwrite", *more)
        assert done.exit_code == 0, done.output
        said = json.loads(done.stdout)
        return said["inversion"], said["evaluations"], said["settings"]

    told = cost("-n")
    assert told[0] == "made" and not kept()
    assert cost() == told and len(kept()) == 1
    told = cost("-n")
    assert told[0] == "found" and cost() == told


def test_an_inversion_is_found_too_and_the_same_file_is_written(run):
    ask = ["invert", "cat.png", "--caption", "a cat", *ASK[-4:], "--format", "json"]
    costs = []
    for name, more in {"a": [], "b": ["--seed", 1], "c": ["--seed", 1, "--no-cache"]}.items():
        done = run(*ask, "-o", f"{name}.safetensors", *more)
        costs.append(json.loads(done.stdout)["evaluations"]["forwards"])
    assert costs == [4, 0, 4]
    assert Path("b.safetensors").read_bytes() == Path("c.safetensors").read_bytes()


@pytest.mark.parametrize("where", ["option", "environment", "file"])
def test_it_can_be_switched_off(run, where, monkeypatch):
    if where == "environment":
        monkeypatch.setenv("ZEROCON_NO_CACHE", "1")
    if where == "file":
        Path("zerocon.toml").write_text("no-cache = true")
    assert run(*ASK, *(["--no-cache"] if where == "option" else [])).exit_code == 0
    assert run("invert", *ASK[1:2], *ASK[4:], *["--no-cache"] * (where == "option")).exit_code == 0
    assert not kept()


def test_a_folder_that_cannot_be_made_is_a_warning_and_the_edit_succeeds(run):
    assert run(*ASK, "--no-cache", "-o", "plain.png").exit_code == 0
    (Path("cache") / "inversions").write_text("in the way")
    done = run(*ASK, "--format", "json")
    assert done.exit_code == 0 and done.stderr.count("not cached") == 1
    assert any("not cached" in warning for warning in json.loads(done.stdout)["warnings"])
    assert Path("cat-dog.png").read_bytes() == Path("plain.png").read_bytes()


def test_the_cache_is_listed_checked_and_cleared(run):
    def ask(*args: Any, code: int = 0) -> dict[str, Any]:
        done = run("cache", *args, "--format", "json")
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    assert ask("ls")["entries"] == [] and run("cache", "ls").exit_code == 0
    for steps in (2, 3):
        assert run(*ASK[:-1], steps, "--overwrite").exit_code == 0
    old, new = ask("ls")["entries"]
    assert (old["steps"], new["steps"]) == (2, 3)
    assert (new["caption"], new["model"], new["seen"]) == ("a cat", "weights", True)
    assert "weights, 2 steps: a cat\n" in run("cache", "ls").stdout
    assert ask("verify")["damaged"] == []

    assert ask("prune")["removed"] == []
    assert ask("prune", "--limit", f"{new['bytes'] / 1000}KB")["removed"] == [old["file"]]

    flip(kept()[0], -1)
    assert ask("verify", code=1)["damaged"] == [new["file"]] and len(kept()) == 1
    assert ask("verify", "--repair")["removed"] == [new["file"]] and not kept()

    assert run(*ASK, "--overwrite").exit_code == 0
    Path("cache/inversions/.killed.safetensors.x.part").touch()
    assert len(ask("clear")["removed"]) == 2 and not kept()


def test_a_limit_that_is_no_size_is_a_mistake(run, monkeypatch):
    done = run("cache", "prune", "--limit", "many")
    assert done.exit_code == 2 and "ZC-E012" in done.stderr
    monkeypatch.setenv("ZEROCON_CACHE_LIMIT", "2000")
    done = run(*ASK)
    assert done.exit_code == 2 and "ZC-E011" in done.stderr
    assert 'ZEROCON_CACHE_LIMIT: a size is like 500MB or 2GB, not "2000"' in done.stderr
    monkeypatch.setenv("ZEROCON_CACHE_LIMIT", "0")
    assert run(*ASK).exit_code == 0 and not kept()
