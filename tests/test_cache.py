"""The cache of inversions: the same bytes for less work, whatever happens to its files."""

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
from PIL.Image import Image, Transpose
from safetensors.torch import save_file
from test_memory import Short

import zerocon
from zerocon.api import edit_batch
from zerocon.cache import Cache, inversion_key, key_of, size_of
from zerocon.cli import main
from zerocon.diffusion import Schedule
from zerocon.editing import Plan
from zerocon.model import Model
from zerocon.request import parse_request
from zerocon.settings import Settings
from zerocon.storage.hashing import image_hash
from zerocon.trajectory import Inversion

SETTINGS = Settings(steps=4, guidance_scale=3.0)
IMAGE = gradient(48, 64)


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


def edit(model: Model, cache: Cache | None = None, **arguments: Any) -> zerocon.Edit:
    values = {"to": "dog", "caption": "a cat", "settings": SETTINGS} | arguments
    return zerocon.edit(IMAGE, model=model, cache=cache, **values)


def of(settings: Settings = SETTINGS, **values: Any) -> dict[str, Any]:
    return {"settings": settings.overlay(values)}


# the same edit with fewer evaluations


@pytest.mark.parametrize(
    "arguments",
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
def test_a_second_edit_of_an_image_does_not_invert_it_again(model, cache, arguments):
    assert edit(model, cache).inversion_source == "computed"
    plain, again = edit(model, **arguments), edit(model, cache, **arguments)
    assert (plain.inversion_source, again.inversion_source) == ("computed", "cached")
    assert again.evaluations.forwards == plain.evaluations.forwards - 5
    assert again.evaluations.backwards == plain.evaluations.backwards
    assert again.image.tobytes() == plain.image.tobytes()
    assert again.settings == plain.settings
    assert again.inversion.recipe == plain.inversion.recipe


@pytest.mark.parametrize("inverter", ["ddim:rounds=2", "fixed-point", "virtual"])
@pytest.mark.parametrize("cache_source", [True, False])
def test_with_every_inverter_and_with_a_recomputed_source(model, cache, inverter, cache_source):
    arguments = of(inverter=inverter, cache_source=cache_source)
    first, again = (edit(model, cache, **arguments) for _ in range(2))
    assert again.inversion_source == "cached" and again.image.tobytes() == first.image.tobytes()
    cost = zerocon.invert(IMAGE, model, caption="a cat", **arguments)
    assert torch.equal(again.inversion.eps, cost.eps)
    (entry,) = cache.entries()
    assert entry.facts()["activations"] is cache_source


def test_activations_are_left_out_where_they_are_too_large(model, tmp_path):
    first = edit(model)
    trajectory = first.inversion.latents.nbytes + first.inversion.eps.nbytes
    small = Cache(tmp_path, limit=first.inversion.observation_bytes + trajectory)
    second, third = edit(model, small), edit(model, small)
    assert [each.inversion_source for each in (second, third)] == ["computed", "cached"]
    assert third.evaluations.forwards == first.evaluations.forwards - 1, (
        "activations are recomputed"
    )
    assert first.image.tobytes() == second.image.tobytes() == third.image.tobytes()
    (entry,) = small.entries()
    assert (
        trajectory < entry.bytes < first.inversion.observation_bytes
        and not entry.facts()["activations"]
    )


@pytest.mark.parametrize("cache_source", [True, False])
def test_images_of_a_batch_are_cached_one_by_one_and_found_as_a_batch(model, cache, cache_source):
    settings = SETTINGS.overlay({"cache_source": cache_source})
    images = [IMAGE, IMAGE.transpose(Transpose.FLIP_TOP_BOTTOM)]
    requests = [parse_request(each, model, to="dog", caption="a cat") for each in images]

    def both(cache: Cache | None, order: slice = slice(None)) -> list[zerocon.Edit]:
        work = images[order], requests[order]
        return edit_batch(*work, model=model, settings=settings, cache=cache)

    plain, computed, cached = both(None), both(cache), both(cache)
    assert len(cache.entries()) == 2
    assert [each.inversion_source for each in (*computed, *cached)] == [
        "computed",
        "computed",
        "cached",
        "cached",
    ]
    for one, other, again in zip(plain, computed, cached, strict=True):
        assert one.image.tobytes() == other.image.tobytes() == again.image.tobytes()
        assert again.evaluations.forwards == one.evaluations.forwards - 5
    again, back = (both(each, slice(None, None, -1)) for each in (None, cache))
    assert back[0].inversion_source == "cached", "in any order"
    assert [e.image.tobytes() for e in again] == [e.image.tobytes() for e in back]
    assert edit(model, cache, settings=settings).inversion_source == "computed", (
        "a single image is rounded differently"
    )


def test_a_given_inversion_is_not_cached(model, cache):
    inversion = zerocon.invert(IMAGE, model, caption="a cat", settings=SETTINGS)
    assert edit(model, cache, inversion=inversion).inversion_source == "given"
    assert cache.entries() == []


def test_when_memory_runs_out_the_edit_is_that_without_a_cache(weights, cache, warnings):
    def short() -> zerocon.Edit:
        model = zerocon.load(str(weights), device="cpu")
        model.unet.forward = Short(model, 1)
        return edit(model, cache if used else None)

    used = False
    plain = short()
    used = True
    computed, cached = short(), short()
    assert not plain.settings.cache_source and not computed.settings.cache_source
    assert plain.image.tobytes() == computed.image.tobytes() == cached.image.tobytes()
    assert cached.inversion_source == "cached" and not warnings


# what an inversion depends on


def test_everything_an_inversion_depends_on_is_in_its_key(model, weights, tmp_path):
    def key(
        of: Model = model,
        caption: str = "a cat",
        image: Image = IMAGE,
        batch_size: int = 1,
        **values: Any,
    ) -> str:
        plan = Plan.of(SETTINGS.overlay({"attention": [], **values}))
        key = key_of(of, plan, image_hash(image), caption, batch_size=batch_size)
        assert key is not None
        return key

    def load(place: Path = weights, **more: str) -> Model:
        return zerocon.load(str(place), device="cpu", **more)

    other, tiled = tiny.save(tmp_path / "other", tiny.model(seed=1)), load()
    tiled.runtime.tile()
    keys = [
        key(),
        key(caption="a dog"),
        key(batch_size=2),
        key(steps=5),
        key(inverter="fixed-point"),
        key(inverter="fixed-point:rounds=2"),
        key(inverter="virtual"),
        key(inverter="virtual", seed=1),
        key(guidance=["contrastive"]),
        key(load(other)),
        key(load(dtype="bfloat16")),
        key(load(prediction="v_prediction")),
        key(tiled),
        key(image=gradient(48, 63)),
    ]
    assert len(set(keys)) == len(keys)
    same: list[dict[str, Any]] = [
        {"cache_source": False},
        {"guidance_range": [0.0, 0.5]},
        {"begin": "0.5,style=0.2"},
        {"attention": ["injection:cross=0"]},
        {"guidance": ["contrastive"], "attention": ["none", "style=injection:cross=1"]},
    ]
    assert {key(**values) for values in same} == {key()}, "the trajectory is the same"
    assert key(load()) == key() == key(seed=1) == key(guidance_scale=7.0, strength=2.0)
    assert key(inverter="fixed-point:rounds=1") == key(inverter="fixed-point")


def test_edits_share_an_inversion_in_memory_where_they_need_the_same_activations():
    base = Settings(guidance=("cross-attention",))

    def key(**changes: Any) -> object:
        return inversion_key(Plan.of(replace(base, **changes)))

    crops = {key(crop=crop) for crop in ("off", "0,0,32,32", "0,0,64,32")}
    assert len(crops) == 3 and key(crop="auto") in crops
    for same in (
        {"composite": "model", "lock": "off"},
        {"guidance": ("cross-attention:weight=9",), "guidance_scale": 3.0},
        {"guidance_prompt": "source", "push_limit": 0.1, "guidance_limit": 0.1},
    ):
        assert key(**same) == key(), same
    for other in (
        {"steps": 25},
        {"inverter": "virtual"},
        {"seed": 1},
        {"size": 256},
        {"guidance_range": (0.0, 1.0)},
        {"begin": 0.5},
        {"cache_source": False},
        {"guidance": ("contrastive",)},
        {"attention": ("injection:self=0.5,cross=0.5",)},
    ):
        assert key(**other) != key(), other


def test_a_model_without_files_is_never_cached(cache):
    model = tiny.model()
    assert [edit(model, cache).inversion_source for _ in range(2)] == ["computed", "computed"]
    assert not cache.folder.exists()


# damaged and misplaced files


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def misnamed(path: Path) -> None:
    """A whole entry under another entry's name."""
    cache = Cache(path.parent)
    cache.keep("other", cache.find(path.stem))
    (path.parent / "other.safetensors").replace(path)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a flipped bit in the header's length": lambda path: flip(path, 0),
    "a flipped bit in the header": lambda path: flip(path, 60),
    "a flipped bit in the middle": lambda path: flip(path, path.stat().st_size // 2),
    "a flipped bit at the end": lambda path: flip(path, -1),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "cut off in the header": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("Once upon a time\n" * 99),
    "foreign": lambda path: save_file({"latents": torch.zeros(1)}, path),
    "under another name": misnamed,
    "a directory": to_directory,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_entry_is_reported_removed_and_computed_again(name, model, cache, warnings):
    plain = edit(model, cache)
    (entry,) = cache.entries()
    DAMAGES[name](entry.path)
    assert cache.damaged() == [replace(each) for each in cache.entries()]
    again, third = edit(model, cache), edit(model, cache)
    assert (again.inversion_source, third.inversion_source) == ("computed", "cached")
    assert plain.image.tobytes() == again.image.tobytes() == third.image.tobytes()
    (warning,) = warnings
    assert (
        warning.startswith("removed a damaged inversion from the cache: ") and "\n" not in warning
    )
    assert cache.damaged() == [] and len(cache.entries()) == 1


def test_a_directory_with_files_in_place_of_an_entry_is_not_removed(model, cache, warnings):
    plain = edit(model, cache)
    (entry,) = cache.entries()
    to_directory(entry.path)
    (entry.path / "notes.txt").write_text("notes")
    images = [edit(model, cache).image.tobytes() for _ in range(2)]
    assert images == [plain.image.tobytes()] * 2 and len(warnings) == 1
    assert (entry.path / "notes.txt").read_text() == "notes"


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
    "break_folder",
    [full, read_only, lambda path, _: path.write_text("a file")],
    ids=["full", "read-only", "a file"],
)
def test_a_cache_directory_that_cannot_be_used_does_not_change_the_edit(
    break_folder, model, cache, warnings, monkeypatch
):
    break_folder(cache.folder, monkeypatch)
    images = [edit(model, cache).image.tobytes() for _ in range(2)]
    assert images == [edit(model).image.tobytes()] * 2
    (warning,) = warnings
    assert warning.startswith("inversions are not cached: ")
    assert cache.entries() == [], "no half file"


# size and use


def inversion_of(floats: int) -> Inversion:
    """An inversion of this many numbers."""
    latents = torch.randn(2, 1, 1, 1, floats // 4)
    return Inversion(
        latents,
        latents.clone(),
        Schedule.of((0, 1), (1.0, 0.5), (0.0, 0.5)),
        ("",),
        ("",),
        "toy",
        {},
    )


def test_the_least_recently_used_are_removed_first_and_the_limit_holds(tmp_path):
    cache = Cache(tmp_path / "in" / "here", limit=14_000)
    for i, key in enumerate("abc"):
        cache.keep(key, inversion_of(1000))  # 4 kB, and a header
        os.utime(cache.folder / f"{key}.safetensors", (i, i))
    assert cache.find("a") is not None, "and mark it as used"
    cache.keep("d", inversion_of(1000))
    assert {entry.path.stem for entry in cache.entries()} == {"a", "c", "d"}
    os.utime(cache.folder / "a.safetensors", (2**33, 2**33))  # a time in the future
    cache.keep("e", inversion_of(2000))
    assert {entry.path.stem for entry in cache.entries()} == {"a", "e"}
    assert sum(entry.bytes for entry in cache.entries()) <= cache.limit
    cache.keep("f", inversion_of(4000))
    assert cache.find("f") is None, "larger than the limit"
    assert len(cache.entries()) == 2
    assert not [path for path in cache.folder.iterdir() if path.suffix == ".part"]


def test_the_cache_directory_is_readable_by_its_owner_only(tmp_path):
    cache = Cache(tmp_path / "here")
    cache.keep("a", inversion_of(4))
    assert os.name == "nt" or cache.folder.stat().st_mode & 0o077 == 0


WORKER = """
import sys
from pathlib import Path
import torch
from zerocon.cache import Cache
from zerocon.diffusion import Schedule
from zerocon.editing import Plan
from zerocon.trajectory import Inversion
warnings, x = [], torch.randn(2, 1, 1, 1, 250)
schedule = Schedule.of((0, 1), (1.0, 0.5), (0.0, 0.5))
inversion = Inversion(x, x.clone(), schedule, ("",), ("",), "toy", {})
cache = Cache(Path(sys.argv[1]), limit=10_000, on_warning=warnings.append)
for turn in range(100):
    cache.keep(str(turn % 3), inversion)
    cached = cache.find(str((turn + 1) % 3))
    assert cached is None or cached.latents.shape == inversion.latents.shape
print(warnings)
"""


def test_two_programs_may_use_one_cache_at_once(tmp_path):
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


# through the command line

EDIT = [
    "edit",
    "cat.png",
    "--to",
    "dog",
    "--caption",
    "a cat",
    "--model",
    "weights",
    "--steps",
    "3",
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> Callable[..., Result]:
    """Call the command line in a directory with an image, a model and a cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZEROCON_NO_CACHE")
    (tmp_path / "weights").symlink_to(weights)
    IMAGE.save("cat.png")
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


def cached_files() -> list[Path]:
    return sorted(Path("cache/inversions").glob("*"))


@pytest.mark.parametrize("metadata", ["none", "full"])
def test_an_edit_with_the_cache_is_the_edit_without_it_byte_for_byte(run, metadata):
    more = ["--metadata", metadata, "--format", "json"]
    records = []
    for name in ("plain", "first", "second"):
        extra = ["--no-cache"] if name == "plain" else []
        done = run(*EDIT, *more, *extra, "-o", f"{name}.png")
        assert done.exit_code == 0, done.output
        assert len(cached_files()) == (name != "plain")
        records.append(json.loads(done.stdout))
    assert len({Path(f"{name}.png").read_bytes() for name in ("plain", "first", "second")}) == 1
    assert [each["inversion"] for each in records] == ["computed", "computed", "cached"]
    costs = [each["evaluations"]["forwards"] for each in records]
    assert costs[0] == costs[1] == costs[2] + 4
    if metadata == "full":
        replayed = run("replay", "second.png", "--source", "cat.png", "--model", "weights")
        assert replayed.exit_code == 0, replayed.output


def test_a_dry_run_counts_cached_inversions_and_writes_nothing(run):
    def cost(*more: str) -> tuple[str, Any, Any]:
        done = run(*EDIT, "--format", "json", "--overwrite", *more)
        assert done.exit_code == 0, done.output
        record = json.loads(done.stdout)
        return record["inversion"], record["evaluations"], record["settings"]

    estimate = cost("-n")
    assert estimate[0] == "computed" and not cached_files()
    assert cost() == estimate and len(cached_files()) == 1
    estimate = cost("-n")
    assert estimate[0] == "cached" and cost() == estimate


def test_invert_uses_the_cache_and_writes_the_same_file(run):
    call = ["invert", "cat.png", "--caption", "a cat", *EDIT[-4:], "--format", "json"]
    costs = []
    for name, more in {"a": [], "b": ["--seed", 1], "c": ["--seed", 1, "--no-cache"]}.items():
        done = run(*call, "-o", f"{name}.safetensors", *more)
        costs.append(json.loads(done.stdout)["evaluations"]["forwards"])
    assert costs == [4, 0, 4]
    assert Path("b.safetensors").read_bytes() == Path("c.safetensors").read_bytes()


@pytest.mark.parametrize("where", ["option", "environment", "file"])
def test_the_cache_can_be_switched_off(run, where, monkeypatch):
    if where == "environment":
        monkeypatch.setenv("ZEROCON_NO_CACHE", "1")
    if where == "file":
        Path("zerocon.toml").write_text("no-cache = true")
    assert run(*EDIT, *(["--no-cache"] if where == "option" else [])).exit_code == 0
    assert (
        run("invert", *EDIT[1:2], *EDIT[4:], *["--no-cache"] * (where == "option")).exit_code == 0
    )
    assert not cached_files()


def test_a_directory_that_cannot_be_created_is_a_warning_and_the_edit_succeeds(run):
    assert run(*EDIT, "--no-cache", "-o", "plain.png").exit_code == 0
    (Path("cache") / "inversions").write_text("a file")
    done = run(*EDIT, "--format", "json")
    assert done.exit_code == 0 and done.stderr.count("not cached") == 1
    assert any("not cached" in warning for warning in json.loads(done.stdout)["warnings"])
    assert Path("cat-dog.png").read_bytes() == Path("plain.png").read_bytes()


def test_the_cache_is_listed_checked_and_cleared(run):
    def call(*args: Any, code: int = 0) -> dict[str, Any]:
        done = run("cache", *args, "--format", "json")
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    assert call("ls")["entries"] == [] and run("cache", "ls").exit_code == 0
    for steps in (2, 3):
        assert run(*EDIT[:-1], steps, "--overwrite").exit_code == 0
    old, new = call("ls")["entries"]
    assert (old["steps"], new["steps"]) == (2, 3)
    assert (new["caption"], new["model"], new["activations"]) == ("a cat", "weights", True)
    assert "weights, 2 steps: a cat\n" in run("cache", "ls").stdout
    assert call("verify")["damaged"] == []

    assert call("prune")["removed"] == []
    assert call("prune", "--limit", f"{new['bytes'] / 1000}KB")["removed"] == [old["file"]]

    flip(cached_files()[0], -1)
    assert call("verify", code=1)["damaged"] == [new["file"]] and len(cached_files()) == 1
    assert call("verify", "--repair")["removed"] == [new["file"]] and not cached_files()

    assert run(*EDIT, "--overwrite").exit_code == 0
    Path("cache/inversions/.killed.safetensors.x.part").touch()
    assert len(call("clear")["removed"]) == 2 and not cached_files()


def test_a_limit_that_is_no_size_is_an_error(run, monkeypatch):
    done = run("cache", "prune", "--limit", "many")
    assert done.exit_code == 2 and "ZC-E012" in done.stderr
    monkeypatch.setenv("ZEROCON_CACHE_LIMIT", "2000")
    done = run(*EDIT)
    assert done.exit_code == 2 and "ZC-E011" in done.stderr
    assert 'ZEROCON_CACHE_LIMIT: a size is like 500MB or 2GB, not "2000"' in done.stderr
    monkeypatch.setenv("ZEROCON_CACHE_LIMIT", "0")
    assert run(*EDIT).exit_code == 0 and not cached_files()
