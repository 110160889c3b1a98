"""The Hub's cache: listed, filled and checked, with a cache directory here and no network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.hf_api import RepoFile
from safetensors.torch import load_file, save_file

import zerocon
from zerocon.cli import main
from zerocon.model.loading import files_to_download

NAME = "someone/tiny"


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    saved = tiny.save(tmp_path_factory.mktemp("models") / "mine")
    (saved / "zerocon.json").unlink()  # repositories have none
    return saved


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def keep(cache: Path, name: str, folder: Path | None = None, **config: str) -> Path:
    """Put a model into the cache as the Hub's own tools do; where its files are."""
    repo = cache / f"models--{name.replace('/', '--')}"
    snapshot, blobs = repo / "snapshots" / "abc", repo / "blobs"
    for directory in (snapshot, blobs, repo / "refs"):
        directory.mkdir(parents=True, exist_ok=True)
    (repo / "refs" / "main").write_text("abc")
    if folder:
        for number, file in enumerate(sorted(each for each in folder.rglob("*") if each.is_file())):
            shutil.copy(file, blobs / str(number))
            link = snapshot / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blobs / str(number))
    if config:
        (snapshot / "config.json").write_text(json.dumps(config))
    return snapshot


def test_the_list_has_what_can_be_used_and_nothing_else(cache: Path, folder: Path) -> None:
    assert run("models", "list").stdout == "mini  diffusion, captioner, clip  (embedded)\n"
    snapshot = keep(cache, NAME, folder)
    keep(cache, "some/blip", model_type="blip")
    keep(cache, "some/words", model_type="bert")
    keep(cache, "a/broken")
    report = json.loads(run("models", "list", "--format", "json").stdout)
    assert [(each["name"], each["use"]) for each in report["models"]] == [
        ("mini", "diffusion, captioner, clip"),
        ("some/blip", "captioner"),
        (NAME, "diffusion"),
    ]
    assert report["models"][2]["folder"] == str(snapshot) and report["models"][2]["bytes"] > 1000
    assert Path(report["models"][0]["folder"]).is_dir() and report["models"][0]["bytes"] > 1000
    assert f"{NAME}  diffusion  " in run("models", "list").stdout


def test_complete_models_are_reported(cache: Path, folder: Path) -> None:
    keep(cache, NAME, folder)
    assert run("models", "verify", NAME).stdout.startswith(f"{NAME} is complete: ")
    report = json.loads(run("models", "verify", folder, "--format", "json").stdout)
    files = {str(Path(file).relative_to(folder)) for file in report["files"]}
    assert {"unet/config.json", "vae/diffusion_pytorch_model.safetensors"} < files
    assert run("models", "verify", "mini").exit_code == 0


def test_files_of_the_cache_are_compared_with_their_hashes(cache: Path, folder: Path) -> None:
    snapshot = keep(cache, NAME, folder)
    for link in [each for each in snapshot.rglob("*") if each.is_file()]:
        blob = link.resolve()
        data = blob.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        hashed = hashlib.sha256(data).hexdigest() if link.suffix == ".safetensors" else git
        blob.rename(blob.with_name(hashed))
        link.unlink()
        link.symlink_to(blob.with_name(hashed))
    report = json.loads(run("models", "verify", NAME, "--format", "json").stdout)
    assert report["hashed"] == len(report["files"])
    weights = snapshot / "unet" / "diffusion_pytorch_model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    done = run("models", "verify", NAME)
    assert done.exit_code == 3
    assert "unet/diffusion_pytorch_model.safetensors is damaged (hash)" in done.stderr


@pytest.mark.parametrize(("reference", "text"), [("fp16", "abc"), ("main", "abc\n"), ("x", "abc")])
def test_a_cache_with_any_reference_is_found(
    cache: Path, folder: Path, reference: str, text: str
) -> None:
    snapshot = keep(cache, NAME, folder)
    (snapshot.parents[1] / "refs" / "main").unlink()
    (snapshot.parents[1] / "refs" / reference).write_text(text)
    assert run("models", "verify", NAME).exit_code == 0
    assert zerocon.load(NAME, device="cpu").fingerprint()
    assert f"{NAME}  diffusion  " in run("models", "list").stdout


def test_variants_and_shards_are_reported(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "x.safetensors")
    whole = copy / "vae" / "diffusion_pytorch_model.safetensors"
    whole.rename(whole.with_name("diffusion_pytorch_model.fp16.safetensors"))
    split(copy / "unet" / "diffusion_pytorch_model.safetensors")
    report = json.loads(run("models", "verify", copy, "--format", "json").stdout)
    assert report["variants"] == {"unet": None, "vae": "fp16", "text_encoder": None}
    assert report["shards"] == {"unet": 2, "vae": 1, "text_encoder": 1}
    summary = run("models", "verify", copy).stdout
    assert "; vae fp16; unet in 2 shards" in summary
    assert zerocon.load(str(copy), device="cpu").fingerprint()


def split(whole: Path) -> None:
    """Write the weights of a file as two shards and an index."""
    values, listing = load_file(whole), {}
    for number, name in enumerate(("first.safetensors", "second.safetensors")):
        part = {key: values[key] for key in sorted(values)[number::2]}
        save_file(part, whole.with_name(name))
        listing |= dict.fromkeys(part, name)
    whole.unlink()
    whole.with_name(f"{whole.name}.index.json").write_text(json.dumps({"weight_map": listing}))


def test_an_index_is_followed_to_every_shard(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "split")
    split(copy / "unet" / "diffusion_pytorch_model.safetensors")
    assert run("models", "verify", copy).exit_code == 0
    (copy / "unet" / "second.safetensors").unlink()
    done = run("models", "verify", copy)
    assert done.exit_code == 3 and "unet/second.safetensors is missing" in done.stderr


def lost(file: Path) -> None:
    file.unlink()


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def pointing(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


FAULTS = [
    (lost, "unet/diffusion_pytorch_model.safetensors", "is missing"),
    (emptied, "vae/diffusion_pytorch_model.safetensors", "is empty"),
    (pointing, "text_encoder/model.safetensors", "is a Git LFS pointer"),
    (cut, "unet/diffusion_pytorch_model.safetensors", "is damaged"),
    (cut, "vae/config.json", "is damaged"),
    (lost, "scheduler/scheduler_config.json", "is missing"),
]


@pytest.mark.parametrize(("spoil", "name", "fault"), FAULTS)
def test_every_defect_is_named(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], name: str, fault: str
) -> None:
    bad = shutil.copytree(folder, tmp_path / "bad")
    spoil(bad / name)
    done = run("models", "verify", bad)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert f"bad is not complete: {name} {fault}" in done.stderr


def test_a_link_into_the_cache_without_a_target_is_a_defect(cache: Path, folder: Path) -> None:
    snapshot = keep(cache, NAME, folder)
    (snapshot / "unet" / "diffusion_pytorch_model.safetensors").resolve().unlink()
    done = run("models", "verify", NAME)
    assert done.exit_code == 3
    assert f"is missing; get it with: zerocon models pull {NAME}" in done.stderr


def test_pull_downloads_what_is_needed_and_verifies_it(
    cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request: dict[str, Any] = {}

    def download(name: str, **patterns: list[str]) -> str:
        request.update(patterns, name=name)
        return str(keep(cache, name, folder))

    files = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    more = ["v1-5.safetensors", "unet/x.bin", "safety_checker/model.safetensors", "README.md"]
    tree = [RepoFile(path=name, size=5, oid="0") for name in (*files, *more)]
    monkeypatch.setattr("huggingface_hub.list_repo_tree", lambda *_, **__: tree)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    done = run("models", "pull", NAME)
    assert done.exit_code == 0
    assert done.stderr.endswith(f"{NAME}: 0.00 MB in {len(files)} files\n")
    assert Path(done.stdout.strip()).name == "abc"
    assert request["name"] == NAME and sorted(request["allow_patterns"]) == sorted(files)
    folder_of_nothing = keep(cache, "someone/half")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: folder_of_nothing)
    (folder_of_nothing / "model_index.json").write_text(
        '{"_class_name": "StableDiffusionPipeline"}'
    )
    guidance_prompt = run("models", "pull", "someone/half", "-q")
    assert (
        guidance_prompt.exit_code,
        guidance_prompt.stdout,
        guidance_prompt.stderr.count("\n"),
    ) == (3, "", 1)


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["model.safetensors", "pytorch_model.bin", "config.json"], {0, 2}),
        (["model.fp16.safetensors", "model.safetensors"], {1}),
        (["model.fp16.safetensors", "vocab.txt"], {0, 1}),
        (["model_index.json", "unet/a.fp16.safetensors", "unet/a.safetensors"], {0, 2}),
        (["model_index.json", "unet/a.non_ema.safetensors", "unet/a.safetensors"], {0, 2}),
        (["model_index.json", "unet/a.fp16.safetensors", "vae/a.safetensors"], {0, 1, 2}),
        (["model_index.json", "v1-5.safetensors", "unet/a.safetensors"], {0, 2}),
    ],
)
def test_nothing_is_downloaded_twice(files: list[str], chosen: set[int]) -> None:
    assert files_to_download(files) == [file for i, file in enumerate(files) if i in chosen]


def test_a_folder_in_half_precision_only_is_complete_and_edits(
    tmp_path: Path, folder: Path
) -> None:
    guidance_prompt = shutil.copytree(folder, tmp_path / "guidance_prompt")
    for file in guidance_prompt.rglob("*.safetensors"):
        file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    assert run("models", "verify", guidance_prompt).exit_code == 0
    image = tmp_path / "cat.png"
    gradient(48, 64).save(image)
    words = ["--caption", "a cat", "--to", "dog", "--steps", "2"]
    assert run("edit", image, *words, "--model", guidance_prompt).exit_code == 0


@pytest.mark.parametrize(("name", "code"), [("mini", 2), ("./folder", 2), ("no/body", 3)])
def test_what_cannot_be_pulled_is_one_line(
    cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    def refuse(name: str, **_: object) -> None:
        raise LocalEntryNotFoundError(f"no {name} here\nand no network")

    monkeypatch.setattr("huggingface_hub.list_repo_tree", refuse)
    done = run("--offline", "models", "pull", name)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert name in done.stderr


def test_offline_is_the_hubs_own_variable(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert run("models", "list").exit_code == 0
    assert "HF_HUB_OFFLINE" not in os.environ
    assert run("--offline", "models", "list").exit_code == 0
    assert os.environ["HF_HUB_OFFLINE"] == "1"
