"""Invalid input: one line, an error id, an exit status, and no file changed."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner
from conftest import gradient
from PIL import Image
from safetensors.torch import save_file

import zerocon
from zerocon.cli import main
from zerocon.direction import Direction
from zerocon.settings import Settings

ASK = "edit cat.png --to dog"

# name of the case, command line, exit status, error id

IMAGES = [
    ("no file", "edit gone.png --to dog", 2, "ZC-E020"),
    ("no file to invert", "invert gone.png", 2, "ZC-E020"),
    ("no file to caption", "caption gone.png", 2, "ZC-E020"),
    ("a folder", "edit folder.png --to dog", 2, "ZC-E020"),
    ("an empty file", "edit empty.png --to dog", 2, "ZC-E020"),
    ("a PNG cut off", "edit cut.png --to dog", 2, "ZC-E020"),
    ("a JPEG cut off", "edit cut.jpg --to dog", 2, "ZC-E020"),
    ("a WebP cut off", "edit cut.webp --to dog", 2, "ZC-E020"),
    ("a link to itself", "edit loop.png --to dog", 2, "ZC-E020"),
    ("a link to nothing", "edit dangling.png --to dog", 2, "ZC-E020"),
    ("a name that is too long", f"edit {'x' * 300}.png --to dog", 2, "ZC-E020"),
    ("a pipe in the file system", "edit fifo.png --to dog", 2, "ZC-E020"),
    ("text called PNG", "edit text.png --to dog", 2, "ZC-E021"),
    ("a web page called JPEG", "edit page.jpg --to dog", 2, "ZC-E021"),
    ("zeros", "edit zeros.png --to dog", 2, "ZC-E021"),
    ("SVG", "edit drawing.svg --to dog", 2, "ZC-E021"),
    ("PDF", "edit paper.pdf --to dog", 2, "ZC-E021"),
    ("EPS, which would start a program", "edit drawing.eps --to dog", 2, "ZC-E021"),
    ("a camera's raw file", "edit raw.raf --to dog", 2, "ZC-E021"),
    ("weights", "edit foreign.safetensors --to dog", 2, "ZC-E021"),
    ("floating point colors", "edit float.tiff --to dog", 2, "ZC-E021"),
    ("an animated GIF", "edit moving.gif --to dog", 2, "ZC-E022"),
    ("an animated WebP", "edit moving.webp --to dog", 2, "ZC-E022"),
    ("a TIFF of two pages", "edit pages.tiff --to dog", 2, "ZC-E022"),
    ("15 pixels a side", "edit small.png --to dog", 2, "ZC-E023"),
    ("a line of pixels", "edit line.png --to dog", 2, "ZC-E023"),
    ("a decompression bomb", "edit bomb.png --to dog", 2, "ZC-E024"),
    ("nothing on stdin", "edit - --to dog -o dog.png", 2, "ZC-E020"),
]

COMMANDS = [
    ("no such command", "edti cat.png", 2, "ZC-E010"),
    ("no such option", f"{ASK} --too x", 2, "ZC-E010"),
    ("no image named", "edit --to dog", 2, "ZC-E010"),
    ("two images", "edit cat.png taken.png --to dog", 2, "ZC-E010"),
    ("an option without its value", "edit cat.png --to", 2, "ZC-E010"),
    ("no number", f"{ASK} --steps many", 2, "ZC-E010"),
    ("no share", f"{ASK} --guidance-range half", 2, "ZC-E010"),
    ("no scale", f"{ASK} --guidance-scale 1..x", 2, "ZC-E010"),
    ("no choice", f"{ASK} --guidance-prompt neither", 2, "ZC-E010"),
    ("no weight", f"{ASK} --direction cat2dog.safetensors:half", 2, "ZC-E010"),
    ("no inversion there", f"{ASK} --inversion gone.safetensors", 2, "ZC-E010"),
    ("an inversion and steps", f"{ASK} --inversion cat.safetensors --steps 3", 2, "ZC-E010"),
    ("all on stdout", f"{ASK} -o - --format json", 2, "ZC-E010"),
    ("one name for two outputs", f"{ASK} -o a.png --compare ./a.png", 2, "ZC-E010"),
    ("no such preset", f"{ASK} --preset rough", 2, "ZC-E010"),
    ("no such configuration", f"--config gone.toml {ASK}", 2, "ZC-E010"),
    ("a configuration where none is heard", "--config notes.txt methods", 2, "ZC-E010"),
    ("half a direction", "direction --from cat", 2, "ZC-E010"),
    ("an unknown shell", "completion tcsh", 2, "ZC-E010"),
    ("no hub id to pull", "models pull mini", 2, "ZC-E010"),
    ("no such error", "errors ZC-E999", 2, "ZC-E010"),
    ("no such shard", "bench world --shard 5/4", 2, "ZC-E010"),
    ("no steps", f"{ASK} --steps 0", 2, "ZC-E012"),
    ("an endless scale", f"{ASK} --guidance-scale inf", 2, "ZC-E012"),
    ("no number of a strength", f"{ASK} --strength nan", 2, "ZC-E012"),
    ("a prompt of guidance", f"{ASK} --guidance-prompt edit", 2, "ZC-E010"),
    ("a share backwards", f"{ASK} --guidance-range 0.6..0.1", 2, "ZC-E012"),
    ("a negative cap", f"{ASK} --guidance-limit -1", 2, "ZC-E012"),
    ("no balance", f"{ASK} --guidance-balance 0", 2, "ZC-E012"),
    ("a negative seed", f"{ASK} --seed -1", 2, "ZC-E012"),
    ("no such source of sentences", f"{ASK} --direction-from book", 2, "ZC-E010"),
    ("no such guidance", f"{ASK} --guidance contrast", 2, "ZC-E013"),
    ("no such option of a guidance", f"{ASK} --guidance contrastive:wieght=1", 2, "ZC-E013"),
    ("no value of its option", f"{ASK} --guidance contrastive:patches=few", 2, "ZC-E013"),
    ("an option out of range", f"{ASK} --guidance contrastive:temperature=0", 2, "ZC-E013"),
    ("no such inverter", f"{ASK} --inverter euler", 2, "ZC-E013"),
    ("no such attention control", f"{ASK} --attention inject", 2, "ZC-E013"),
    ("a share above one", f"{ASK} --attention injection:cross=2", 2, "ZC-E013"),
    ("a begin after the end", f"{ASK} --begin 1", 2, "ZC-E012"),
    ("rounds of an inverter", f"{ASK} --inverter fixed-point:rounds=0", 2, "ZC-E013"),
]

OUTPUTS = [
    ("it exists", f"{ASK} -o taken.png", 2, "ZC-E030"),
    ("its sheet exists", f"{ASK} --compare taken.png", 2, "ZC-E030"),
    ("an inversion exists", "invert cat.png -o foreign.safetensors", 2, "ZC-E030"),
    ("steps are there", f"{ASK} --steps-dir way", 2, "ZC-E030"),
    ("it is the input", f"{ASK} -o cat.png --overwrite", 2, "ZC-E031"),
    ("it links to the input", f"{ASK} -o link.png --overwrite", 2, "ZC-E031"),
    ("no folder", f"{ASK} -o gone/dog.png", 2, "ZC-E032"),
    ("no folder for steps", f"{ASK} --steps-dir gone/way", 2, "ZC-E032"),
    ("it is a folder", f"{ASK} -o folder.png", 2, "ZC-E032"),
    ("a file for steps", f"{ASK} --steps-dir notes.txt", 2, "ZC-E032"),
    ("a file as its folder", f"{ASK} -o notes.txt/dog.png", 2, "ZC-E032"),
    ("no ending", f"{ASK} -o dog", 2, "ZC-E033"),
    ("an ending that is read only", f"{ASK} -o dog.gif", 2, "ZC-E033"),
    ("an image for an inversion", "invert cat.png -o cat.jpg", 2, "ZC-E033"),
    ("wider than a WebP", "edit wide.png --to dog -o dog.webp", 2, "ZC-E033"),
    ("a name that is too long", f"{ASK} -o {'x' * 300}.png", 2, "ZC-E032"),
]

WORDS = [
    ("an empty prompt", "edit cat.png", 2, "ZC-E040"),
    ("a prompt of spaces", "edit cat.png --to ' '", 2, "ZC-E040"),
    ("nothing removed", "edit cat.png --to ''", 2, "ZC-E040"),
    ("a direction of no words", "direction --from cat --to '?!'", 2, "ZC-E040"),
]

FILES = [
    ("text as a direction", "edit cat.png --direction notes.txt", 2, "ZC-E060"),
    ("no direction there", "edit cat.png --direction gone.safetensors", 2, "ZC-E060"),
    ("a foreign direction", "edit cat.png --direction foreign.safetensors", 2, "ZC-E060"),
    ("an inversion as a direction", "direction show cat.safetensors", 2, "ZC-E060"),
    ("a direction cut off", "direction show cut.safetensors", 2, "ZC-E060"),
    ("text as an inversion", f"{ASK} --inversion notes.txt", 2, "ZC-E060"),
    ("a foreign inversion", f"{ASK} --inversion foreign.safetensors", 2, "ZC-E060"),
    ("a direction as an inversion", f"{ASK} --inversion cat2dog.safetensors", 2, "ZC-E060"),
    ("no sentences there", "direction --from-file gone.txt --to-file notes.txt", 2, "ZC-E060"),
    ("sentences that are none", "direction --from-file cat.png --to-file notes.txt", 2, "ZC-E060"),
    ("no rows", "bench table notes.txt", 2, "ZC-E060"),
]

ON_A_MODEL = [
    ("words that name nothing", "edit cat.png --to '?!'", 2, "ZC-E040"),
    ("two prompts", f"{ASK} --to-caption 'a dog'", 2, "ZC-E040"),
    ("a from not in the caption", "edit cat.png --from 'a hat' --to ''", 2, "ZC-E040"),
    ("all there is, removed", "edit cat.png --from cat --to '' --caption 'a cat'", 2, "ZC-E040"),
    ("more steps than the model has", f"{ASK} --steps 1000", 2, "ZC-E012"),
    ("another model's direction", "edit cat.png --direction other.safetensors", 2, "ZC-E061"),
    ("another model's inversion", f"{ASK} --inversion theirs.safetensors", 2, "ZC-E061"),
    ("another image's", "edit taken.png --to dog --inversion cat.safetensors", 2, "ZC-E061"),
    ("another caption's", f"{ASK} --inversion cat.safetensors --caption 'a fox'", 2, "ZC-E061"),
    ("no CLIP to ask", "direction test cat2dog.safetensors cat.png", 3, "ZC-E050"),
]

MODELS = [
    ("no such model", f"{ASK} --model minni", 3, "ZC-E050"),
    ("a hub id that is not here", f"{ASK} --model no-one/no-model", 3, "ZC-E050"),
    ("no weights file", f"{ASK} --model gone.safetensors", 3, "ZC-E050"),
    ("a folder without an index", f"{ASK} --model folder.png", 3, "ZC-E050"),
    ("a model without a part", f"{ASK} --model models/half", 3, "ZC-E050"),
    ("a part without weights", f"{ASK} --model models/bare", 3, "ZC-E050"),
    ("a U-Net cut off", f"{ASK} --model models/cut-unet", 3, "ZC-E050"),
    ("a text encoder cut off", f"{ASK} --model models/cut-text", 3, "ZC-E050"),
    ("settings cut off", f"{ASK} --model models/cut-config", 2, "ZC-E054"),
    ("no words", f"{ASK} --model models/mute", 3, "ZC-E050"),
    ("a tokenizer cut off", f"{ASK} --model models/cut-words", 2, "ZC-E054"),
    ("an index cut off", f"{ASK} --model models/cut-index", 2, "ZC-E054"),
    ("measured settings cut off", f"{ASK} --model models/cut-measured", 2, "ZC-E054"),
    ("measured settings out of range", f"{ASK} --model models/odd", 2, "ZC-E012"),
    ("a VAE of another width", f"{ASK} --model models/wide", 2, "ZC-E054"),
    ("a pickle", f"{ASK} --model weights.ckpt", 2, "ZC-E053"),
    ("a folder of pickles", f"{ASK} --model models/pickles", 2, "ZC-E053"),
    ("Stable Diffusion XL", f"{ASK} --model models/xl", 2, "ZC-E054"),
    ("a LoRA", f"{ASK} --model lora.safetensors", 2, "ZC-E054"),
    ("text as weights", f"{ASK} --model text.safetensors", 2, "ZC-E054"),
    ("weights cut off", f"{ASK} --model cut.safetensors", 2, "ZC-E054"),
    ("no such captioner", f"{ASK} --model mini --captioner gone", 3, "ZC-E050"),
    ("a captioner that is none", f"{ASK} --model mini --captioner folder.png", 3, "ZC-E050"),
    ("no such CLIP", f"{ASK} --model mini --clip gone", 3, "ZC-E050"),
    ("no such device", f"{ASK} --model mini --device toaster", 2, "ZC-E012"),
    ("a device that is not here", f"{ASK} --model mini --device cuda:99", 3, "ZC-E051"),
    ("no such dtype", f"{ASK} --model mini --dtype float9", 2, "ZC-E012"),
    ("no such prediction", f"{ASK} --model mini --prediction x", 2, "ZC-E012"),
    ("nothing to verify", "models verify no-one/no-model", 3, "ZC-E050"),
]

CONFIGURATIONS = [
    ("no TOML", "steps = ", {}, "ZC-E011"),
    ("no text", "\udcff", {}, "ZC-E011"),
    ("no such key", "stepz = 3", {}, "ZC-E011"),
    ("a table as a value", "[steps]\na = 1", {}, "ZC-E011"),
    ("a preset that is none", "[presets]\na = 1", {}, "ZC-E011"),
    ("no number", 'steps = "many"', {}, "ZC-E011"),
    ("a number out of range", "steps = 0", {}, "ZC-E012"),
    ("an unknown method", 'inverter = "euler"', {}, "ZC-E013"),
    ("no number in the environment", "", {"ZEROCON_STEPS": "many"}, "ZC-E011"),
    ("no choice in the environment", "", {"ZEROCON_GUIDANCE_PROMPT": "neither"}, "ZC-E011"),
    ("no preset in the environment", "", {"ZEROCON_PRESET": "rough"}, "ZC-E010"),
]


def write_files(folder: Path) -> None:
    """Files of every bad kind, and a few good ones."""
    small, cat = gradient(20, 20), gradient(96, 64)
    cat.save(folder / "cat.png")
    gradient(64, 96).save(folder / "taken.png")
    for ending in ("png", "jpg", "webp"):
        cat.save(folder / f"cut.{ending}")
        content = (folder / f"cut.{ending}").read_bytes()
        (folder / f"cut.{ending}").write_bytes(content[: len(content) // 2])
    (folder / "empty.png").touch()
    (folder / "folder.png").mkdir()
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "dangling.png").symlink_to("gone.png")
    (folder / "link.png").symlink_to("cat.png")
    os.mkfifo(folder / "fifo.png")
    (folder / "text.png").write_text("Once upon a time\n" * 20)
    (folder / "page.jpg").write_text("<!DOCTYPE html><title>404</title>")
    (folder / "zeros.png").write_bytes(bytes(4096))
    (folder / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (folder / "drawing.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n")
    (folder / "paper.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n")
    (folder / "raw.raf").write_bytes(b"FUJIFILMCCD-RAW 0201" + bytes(400))
    Image.fromarray(np.zeros((20, 20), np.float32)).save(folder / "float.tiff")
    other = small.transpose(Image.Transpose.ROTATE_90)
    for name in ("moving.gif", "moving.webp", "pages.tiff"):
        small.save(folder / name, save_all=True, append_images=[other])
    gradient(15, 15).save(folder / "small.png")
    gradient(900, 1).save(folder / "line.png")
    gradient(17000, 16).save(folder / "wide.png")
    head = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\x09IDAT")
    (folder / "notes.txt").write_text("a cat\n")
    (folder / "way").mkdir()
    small.save(folder / "way" / "step-002.png")


def weights(folder: Path) -> None:
    """Models, directions and inversions of every bad kind, and a few good ones."""
    cat, first, other = Image.open(folder / "cat.png"), tiny.model(), tiny.model(seed=1)
    for model, names in ((first, ("cat2dog", "cat")), (other, ("other", "theirs"))):
        direction = Direction.between(model, ["a cat"], ["a dog"], words=("cat", "dog"))
        direction.save(folder / f"{names[0]}.safetensors")
        kept = zerocon.invert(cat, model, settings=Settings(steps=1, guidance=()))
        kept.save(folder / f"{names[1]}.safetensors")
    content = (folder / "cat2dog.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(content[:-9])
    save_file({"a": torch.zeros(2)}, folder / "foreign.safetensors")
    save_file({"lora_unet_a": torch.zeros(2)}, folder / "lora.safetensors")
    (folder / "text.safetensors").write_text("Once upon a time\n" * 20)
    (folder / "weights.ckpt").write_bytes(b"\x80\x04K\x01.")

    whole = tiny.save(folder / "models" / "whole", first)
    models = whole.parent
    for name in {line.rpartition("/")[2] for _, line, _, _ in MODELS if "models/" in line}:
        shutil.copytree(whole, models / name)
    shutil.rmtree(models / "half" / "tokenizer")
    (models / "bare" / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    unet = models / "pickles" / "unet" / "diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_suffix(".bin"))
    (models / "xl" / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    shutil.rmtree(models / "mute" / "tokenizer")
    (models / "mute" / "tokenizer").mkdir()
    (models / "cut-measured" / "zerocon.json").write_text('{"steps": 30          ')
    (models / "odd" / "zerocon.json").write_text('{"steps": 0}')
    config = models / "wide" / "vae" / "config.json"
    config_values = json.loads(config.read_text())
    config.write_text(json.dumps(config_values | {"block_out_channels": [16, 8, 8, 8]}))
    for file in (
        models / "cut-unet" / "unet" / "diffusion_pytorch_model.safetensors",
        models / "cut-text" / "text_encoder" / "model.safetensors",
        models / "cut-config" / "vae" / "config.json",
        models / "cut-index" / "model_index.json",
        models / "cut-words" / "tokenizer" / "tokenizer.json",
    ):
        file.write_bytes(file.read_bytes()[:-9])


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    write_files(folder)
    weights(folder)
    return folder


@pytest.fixture
def here(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory with all these files, which every test leaves unchanged."""
    monkeypatch.chdir(shelf)
    return shelf


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(zerocon, "load", load, raising=False)


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: tiny.model(), raising=False)


def contents(folder: Path) -> dict[Path, tuple[int, ...]]:
    """Every file, and what differs where one was written."""
    stats = {path: path.lstat() for path in folder.rglob("*")}
    return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def refuse(
    line: str, code: int, id: str, stdin: bytes = b"", environment: dict[str, str] | None = None
) -> str:
    """Run a command that must fail and write nothing; returns its error message."""
    before = contents(Path())
    done = CliRunner(env=environment).invoke(main, shlex.split(line), input=stdin)
    assert done.exit_code == code, done.output + repr(done.exception)
    assert "--format json" in line or done.stdout == ""
    announced = ('"', "Warning: ", "Configuration: ")
    (message,) = (
        each for each in done.stderr.splitlines() if each and not each.startswith(announced)
    )
    assert done.stderr.endswith(f"{message}\n") and message.endswith(f" [{id}]")
    assert contents(Path()) == before
    return message


def table(tasks: list[Any]) -> Any:
    return pytest.mark.parametrize("case", [each[1:] for each in tasks], ids=[c[0] for c in tasks])


@table([*IMAGES, *COMMANDS, *OUTPUTS, *WORDS, *FILES])
@pytest.mark.usefixtures("here", "no_model")
def test_refused_before_a_model_is_loaded(case: tuple[str, int, str]) -> None:
    assert refuse(*case).startswith("Error: ")


@table(ON_A_MODEL)
@pytest.mark.usefixtures("here", "tiny_model")
def test_refused_after_the_model_is_loaded(case: tuple[str, int, str]) -> None:
    assert refuse(*case).startswith("Error: ")


@table(MODELS)
@pytest.mark.usefixtures("here")
def test_a_model_is_refused(case: tuple[str, int, str]) -> None:
    assert refuse(*case).startswith("Error: ")


@table(CONFIGURATIONS)
@pytest.mark.usefixtures("no_model")
def test_a_configuration_is_refused(
    image_file: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, dict[str, str], str]
) -> None:
    text, environment, id = case
    monkeypatch.chdir(image_file.parent)
    Path("zerocon.toml").write_text(text, errors="surrogateescape")
    refuse(ASK, 2, id, environment=environment)


@pytest.mark.usefixtures("here", "no_model")
def test_stdin_is_refused() -> None:
    refuse("edit - --to dog -o dog.png", 2, "ZC-E021", stdin=b"Once upon a time\n" * 20)
    refuse("edit - --to dog", 2, "ZC-E010", stdin=Path("cat.png").read_bytes())  # has no name


# errors of the machine


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.usefixtures("here", "tiny_model")
@pytest.mark.parametrize(
    "line",
    [
        f"{ASK} --steps 1",
        f"{ASK} --steps 1 -o dog.jpg --guidance none",
        f"{ASK} --steps 1 --guidance none -o - --compare both.jpg",
        "invert cat.png --steps 1 -o new.safetensors",
        "direction -q --from cat --to dog",
    ],
)
def test_a_full_disk(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_bytes", failing(FULL))
    monkeypatch.setattr("zerocon.cli.stdio.send", lambda data: None)
    refuse(line, 2, "ZC-E034")


@pytest.mark.usefixtures("here", "no_model")
def test_an_image_without_read_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as denied:
        denied.setattr(Path, "read_bytes", failing(PermissionError(errno.EACCES, "Denied")))
        done = CliRunner().invoke(main, shlex.split(ASK))
    assert done.stderr == "Error: cannot read cat.png: Denied [ZC-E020]\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("mode", "line", "id"),
    [
        (0o000, "edit folder.png/cat.png --to dog -o dog.png", "ZC-E020"),
        (0o500, f"{ASK} -o folder.png/dog.png", "ZC-E032"),
        (0o500, f"{ASK} --steps-dir folder.png", "ZC-E032"),
    ],
)
def test_a_folder_without_permission(here: Path, mode: int, line: str, id: str) -> None:
    (here / "folder.png").chmod(mode)
    try:
        refuse(line, 2, id)
    finally:
        (here / "folder.png").chmod(0o700)


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a read-only folder")
@pytest.mark.usefixtures("here", "no_model")
@pytest.mark.parametrize("option", ["-o /sys/a.png", "--explain /sys/a.png", "--steps-dir /sys/a"])
def test_a_read_only_folder(option: str) -> None:
    refuse(f"{ASK} {option}", 2, "ZC-E032")


@pytest.mark.usefixtures("here", "no_model")
@pytest.mark.parametrize(
    ("package", "line"),
    [("pillow_heif", f"{ASK} -o dog.heic"), ("matplotlib.figure", f"{ASK} --explain sheet.png")],
)
def test_a_missing_package(package: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    refuse(line, 3, "ZC-E052")


@pytest.mark.usefixtures("here", "tiny_model")
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
    ],
)
def test_out_of_memory(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zerocon, "edit", failing(error), raising=False)
    message = refuse(ASK, 2, "ZC-E070")
    for option in ("--fast", "--device cpu"):
        assert option in message


@pytest.mark.usefixtures("here", "tiny_model")
def test_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zerocon, "edit", failing(KeyboardInterrupt()), raising=False)
    assert refuse(ASK, 130, "ZC-E071") == "Interrupted [ZC-E071]"
