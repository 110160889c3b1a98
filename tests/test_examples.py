"""The scripts in examples/, run by the commands that docs/python.md gives for them."""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import zerocon
from zerocon.cli import main
from zerocon.image.reading import Photograph

ROOT = Path(__file__).parent.parent
SECTION = (ROOT / "docs" / "python.md").read_text().partition("## Example scripts\n")[2]
COMMANDS = re.findall(r"^    (.+)$", re.sub(r"\|\n +", "| ", SECTION), re.M)
PYTHON = [command for command in COMMANDS if command.startswith("python ")]
MAKE = [command for command in COMMANDS if command.startswith("make ")]
VIDEO = [command for command in COMMANDS if command.startswith("ffmpeg ")]
FOLDERS = ["zerocon inspect edited", "zerocon replay edited --source images --format jsonl"]
BRIEF = ["--steps", "2"]
SIZE = (96, 72)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the examples, images, and labels."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for name in ("images", "labels", "bin"):
        (tmp_path / name).mkdir()
    fox = Image.open(ROOT / "examples" / "fox.png").convert("RGB")
    fox.save(tmp_path / "images" / "fox.png")
    fox.resize(SIZE).save(tmp_path / "images" / "small.png")
    (tmp_path / "labels" / "fox.txt").write_text("0 0.5 0.5 0.4 0.6\n")
    for name, more in (("zerocon", " -P -m zerocon.cli"), ("python", "")):
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}"{more} "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ZEROCON_STEPS", "1")  # to `zerocon edit`
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a ``python examples/...`` command in this process, as a shell would call it."""
    _, program, *words = shlex.split(command)
    files = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in words]
    monkeypatch.setattr(sys, "argv", [program, *(word for each in files for word in each), *BRIEF])
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def frame(command: str) -> str:
    """The part of the video's pipe that runs examples/video.py."""
    (part,) = (part.strip() for part in command.split("|") if "examples/video.py" in part)
    return part


def test_every_command_of_the_section_is_run_here() -> None:
    assert sorted(COMMANDS) == sorted(PYTHON + MAKE + VIDEO)
    assert [*map(len, (PYTHON, MAKE, VIDEO))] == [2, 1, 1]
    named = {name for command in COMMANDS for name in re.findall(r"examples/(\S+)", command)}
    of_translation = {"edge.png", "label.png", "exemplar.png", "target.png"}  # of docs/translate.md
    others = {"fox.png", "owl.png"} | of_translation
    assert named | others == {path.name for path in (ROOT / "examples").iterdir()}


def test_every_docstring_has_the_command_of_the_page() -> None:
    for command in PYTHON:
        text = (ROOT / shlex.split(command)[1]).read_text()
        assert command.removesuffix(" --model mini") in text
    words = (ROOT / "examples" / "video.py").read_text().split('"""')[1].split()
    assert " ".join(VIDEO[0].replace(" --model mini", "").split()) in " ".join(words)


def test_a_pipeline(place: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    command = PYTHON[0]
    assert "pipeline.py" in command and run(command, monkeypatch) == 0
    assert capsys.readouterr().out.split() == ["night/fox.png", "night/small.png"]
    assert Photograph.read("night/small.png").size == SIZE
    assert zerocon.Recipe.read("night/fox.png").prompt == {"to": "at night"}
    first = {path.name: path.read_bytes() for path in Path("night").iterdir()}
    Path("night/fox.png").write_bytes(b"of another run")
    assert run(command, monkeypatch) == 0
    assert {path.name: path.read_bytes() for path in Path("night").iterdir()} == first


def test_a_pipeline_ends_with_one_line_and_copies_what_is_already_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path("images/fox.png").read_bytes()
    line = "python examples/pipeline.py images/fox.png --to fox --out images --model mini"
    assert run(line, monkeypatch) == 2
    assert "is an input" in capsys.readouterr().err
    assert run(line.replace("--out images", "--out same"), monkeypatch) == 0
    assert Path("same/fox.png").read_bytes() == source == Path("images/fox.png").read_bytes()


def test_augmenting_keeps_the_labels_of_yolo(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = PYTHON[1]
    before = {path: path.read_bytes() for path in place.rglob("*.*") if path.is_file()}
    assert "augment.py" in command and run(command, monkeypatch) == 0
    made = sorted(path.name for path in Path("augmented/images").iterdir())
    prompts = ("at-night", "watercolor")
    assert made == [f"{name}-{prompt}.png" for name in ("fox", "small") for prompt in prompts]
    assert Photograph.read("augmented/images/small-at-night.png").size == SIZE
    labels = {path.name: path.read_text() for path in Path("augmented/labels").iterdir()}
    assert labels == dict.fromkeys([f"fox-{w}.txt" for w in prompts], "0 0.5 0.5 0.4 0.6\n")
    assert {path: path.read_bytes() for path in before} == before
    assert run(command, monkeypatch) == 2 and "exists already" in capsys.readouterr().err


def test_augmenting_keeps_the_labels_of_coco_and_refuses_what_would_change_them(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    box = {"id": 7, "image_id": 4, "category_id": 1, "bbox": [10, 20, 30, 40]}
    coco = {
        "info": {"year": 2020},
        "images": [{"id": 4, "file_name": "fox.png", "width": 128, "height": 128}],
        "annotations": [box, box | {"id": 8, "category_id": 2}],
        "categories": [{"id": 1, "name": "fox"}, {"id": 2, "name": "forest"}],
    }
    Path("coco.json").write_text(json.dumps(coco))
    prompts = 'bear blue "in the snow" "at night" watercolor'
    command = (
        f"python examples/augment.py images out --labels coco.json --model mini --to {prompts}"
    )
    assert run(command, monkeypatch) == 1
    refused = capsys.readouterr().err.splitlines()
    assert len(refused) == 3, "another animal, another colour, and a forest that is no more"
    for line, change in zip(
        refused, ("fox -> bear", "orange -> blue", "in a forest ->"), strict=True
    ):
        assert line.startswith(f"fox.png: {change}")
    found = json.loads(Path("out/annotations.json").read_text())
    names = [each["file_name"] for each in found["images"]]
    assert names == ["fox-at-night.png", "fox-watercolor.png"]
    assert sorted(path.name for path in Path("out/images").iterdir()) == names
    ids = [each["id"] for each in found["images"]]
    assert [each["image_id"] for each in found["annotations"]] == [i for i in ids for _ in range(2)]
    assert [each["id"] for each in found["annotations"]] == [1, 2, 3, 4]
    assert all(each["bbox"] == box["bbox"] for each in found["annotations"])
    assert (found["info"], found["categories"]) == (coco["info"], coco["categories"])


def test_a_video_as_frames_through_a_pipe(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = io.BytesIO()
    for size in (SIZE, (64, 80)):
        Image.open("images/fox.png").resize(size).save(frames, "PPM")
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(frames.getvalue())))
    monkeypatch.setattr(sys, "stdout", out)
    assert run(frame(VIDEO[0]), monkeypatch) == 0
    monkeypatch.undo()
    data, sizes = out.buffer.getvalue(), []  # type: ignore[attr-defined]
    while data:
        head = data.index(b"255\n") + 4
        width, height = map(int, data[:head].split()[1:3])
        Image.open(io.BytesIO(data[: head + 3 * width * height])).load()
        sizes.append((width, height))
        data = data[head + 3 * width * height :]
    assert sizes == [SIZE, (64, 80)]


def test_a_video_with_a_mask(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = Image.new("L", SIZE)
    mask.paste(255, (0, 0, 48, 72))
    mask.save("mask.png")
    frames = io.BytesIO()
    sources = [Image.open("images/small.png").convert("RGB"), Image.new("RGB", SIZE, "orange")]
    for source in sources:
        source.save(frames, "PPM")
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(frames.getvalue())))
    monkeypatch.setattr(sys, "stdout", out)
    assert run(f"{frame(VIDEO[0])} --mask mask.png", monkeypatch) == 0
    monkeypatch.undo()
    data = out.buffer.getvalue()  # type: ignore[attr-defined]
    for source, part in zip(sources, (data[: len(data) // 2], data[len(data) // 2 :]), strict=True):
        edited = Image.open(io.BytesIO(part))
        right = (48, 0, *SIZE)
        assert edited.crop(right).tobytes() == source.crop(right).tobytes()
        assert edited.tobytes() != source.tobytes()


def test_one_frame_through_the_command_line(place: Path) -> None:
    frame = io.BytesIO()
    Image.open("images/small.png").save(frame, "PPM")
    ask = ["edit", "-", "--to", "at night", "--model", "mini", "-o", "-"]
    done = CliRunner().invoke(main, ask, input=frame.getvalue())
    assert done.exit_code == 0, done.stderr
    assert Photograph.read(done.stdout_bytes).image.size == SIZE


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_video_from_file_to_file(place: Path) -> None:
    source = "ffmpeg -v error -f lavfi -i testsrc=duration=0.25:size=96x72:rate=12 in.mp4"
    subprocess.run(shlex.split(source), check=True)
    command = VIDEO[0].replace(frame(VIDEO[0]), f"{frame(VIDEO[0])} {shlex.join(BRIEF)}")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    shown = "ffmpeg -v error -i out.mp4 -f image2pipe -c:v ppm -pix_fmt rgb24 -"
    data = subprocess.run(shlex.split(shown), check=True, capture_output=True).stdout
    assert data.count(b"P6\n96 72\n255\n") == 3


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_makefile_edits_what_is_new(place: Path) -> None:
    Path("images/small.png").unlink()
    first, second = (
        subprocess.run(["sh", "-c", MAKE[0]], check=True, capture_output=True, text=True)
        for _ in range(2)
    )
    assert "edit images/fox.png" in first.stdout and "Nothing to be done" in second.stdout
    assert zerocon.Recipe.read("edited/fox.png").prompt == {"to": "at night"}


def test_what_is_in_a_folder_and_whether_it_comes_out_again(place: Path) -> None:
    Path("edited").mkdir()
    ask = ["edit", "images/fox.png", "--to", "at night", "--model", "mini"]
    assert CliRunner().invoke(main, [*ask, "-o", "edited/fox.png"]).exit_code == 0
    inspect, replay = (shlex.split(each)[1:] for each in FOLDERS)
    shown = CliRunner().invoke(main, inspect)
    assert shown.exit_code == 0 and '| edited/fox.png | to "at night" |' in shown.stdout
    done = CliRunner().invoke(main, replay)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["same"]
