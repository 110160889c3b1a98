"""Commands end to end: exit status, stdout, stderr, and the files that are written."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from conftest import gradient
from PIL import Image

import zerocon
from zerocon import cli
from zerocon.api import Edit
from zerocon.attention_control import ATTENTION
from zerocon.cli import COMMANDS, main, progress
from zerocon.diffusion import Schedule
from zerocon.evaluation_count import Evaluations
from zerocon.exemplar.translators import TRANSLATORS
from zerocon.guidance import GUIDANCE
from zerocon.image import naming
from zerocon.image.reading import Photograph
from zerocon.image.transforms import WorkingSize, prepare
from zerocon.inversion import INVERTERS
from zerocon.prompt import CaptionRewrite, Change
from zerocon.request import EditRequest
from zerocon.settings import FAST, PAPER, Settings
from zerocon.trajectory import Inversion

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


def request(*warnings: str, similarity: tuple[float, float] | None = None) -> EditRequest:
    change = Change("object", "cat", "dog")
    words = CaptionRewrite("a cat", "a dog", (change,), warnings)
    return EditRequest(words, torch.zeros(1, 77, 8), 128, similarity, warnings)


class Library:
    """Replaces the library: records the arguments and returns the image upside down."""

    def __init__(self) -> None:
        self.model = SimpleNamespace(
            name="toy",
            settings=Settings(steps=7, guidance_scale=2.0),
            working_size=WorkingSize(64, 8, "longest"),
            vae_scale_factor=8,
        )
        self.loaded: tuple[Any, ...] = ()
        self.arguments: dict[str, Any] = {}
        self.understood = request("doubtful", similarity=(0.25, 0.125))

    def load(self, name: str | None, **options: str | None) -> Any:
        self.loaded = (name, options)
        return self.model

    def inversion(self, steps: int) -> Inversion:
        path = torch.zeros(steps + 1, 1, 4, 2, 2)
        schedule = Schedule.of(range(steps + 1), (0.5,) * (steps + 1), (0.5,) * (steps + 1))
        return Inversion(path, path.clone(), schedule, ("a cat",), ("",), "toy", {})

    def edit(self, image: Image.Image, **arguments: Any) -> Edit:
        self.arguments = arguments
        arguments["on_request"](self.understood)
        turned = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        settings = arguments["settings"]
        kept = arguments["inversion"] or self.inversion(settings.steps)
        prepared = prepare(image, WorkingSize(64, 8, "longest"))
        return Edit(turned, self.understood, kept, Evaluations(20, 7), settings, prepared)

    def invert(self, image: Image.Image, model: Any, **arguments: Any) -> Inversion:
        self.arguments = arguments
        return self.inversion(arguments["settings"].steps)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    fake = Library()
    monkeypatch.setenv("ZEROCON_METADATA", "minimal")  # of no real edit there is no recipe
    for name in ("load", "edit", "invert"):
        monkeypatch.setattr(zerocon, name, getattr(fake, name), raising=False)
    return fake


def contents(folder: Path) -> dict[Path, bytes | bool]:
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# start-up


@pytest.mark.parametrize(
    ("args", "seconds"),
    [
        (["--help"], 0.3),
        (["--version"], 0.3),
        (["edit", "--help"], 0.3),
        (["edit", "--help-all"], 0.3),
        (["config", "show"], 0.4),
        (["completion", "bash"], 0.4),
        (["methods"], 0.4),
        (["models", "list"], 0.4),
        (["cache", "ls"], 0.4),
        (["errors"], 0.4),
    ],
    ids=str,
)
def test_help_and_lists_need_no_torch(args: list[str], seconds: float) -> None:
    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-P", "-X", "importtime", "-m", "zerocon.cli", *args],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert not loaded & {"torch", "numpy", "PIL", "transformers", "diffusers"}
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(5)) < seconds


def test_there_is_one_file_per_command_and_few_others() -> None:
    folder = Path(cli.__file__).parent
    assert len([*folder.glob("*.py")]) <= 13
    assert names(folder / "commands") - {"__pycache__"} == {
        "__init__.py", *(f"{name}.py" for name in COMMANDS),
    }  # fmt: skip


def test_import_is_cheap() -> None:
    code = "import sys, zerocon; zerocon.Settings; print('torch' in sys.modules, *dir(zerocon))"
    result = subprocess.check_output([sys.executable, "-P", "-c", code], text=True).split()
    assert result[0] == "False"
    assert set(zerocon.__all__) < set(result)


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(zerocon, name) for name in zerocon.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'edits'"):
        _ = zerocon.edits  # type: ignore[attr-defined]


def test_every_command_has_help(run: Run) -> None:
    listed = run("--help").stdout
    for name in COMMANDS:
        assert f"\n  {name} " in listed
        done = run(name, "--help")
        assert (done.exit_code, done.stderr) == (0, "")
    assert run("--version").stdout == f"zerocon {zerocon.__version__}\n"
    assert run().exit_code == 2


def test_help_shows_the_defaults_of_settings(run: Run) -> None:
    text = " ".join(run("edit", "--help-all").stdout.split())
    for name in ("steps", "strength", "direction_from", "push_limit", "seed"):
        assert f"[default: model's, else {getattr(Settings, name)}]" in text
    assert "[default: model's, else measured once]" in text  # guidance_scale


# invalid input


def write_images(folder: Path) -> None:
    """Valid and invalid images."""
    gradient(96, 64).save(folder / "cat.png")
    content = (folder / "cat.png").read_bytes()
    (folder / "taken.png").write_bytes(content)
    (folder / "text.png").write_text("Once upon a time\n" * 20)
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    (folder / "empty.png").touch()
    (folder / "folder.png").mkdir()
    (folder / "kept").mkdir()
    (folder / "kept" / "step-002.png").write_bytes(content)


MISTAKES = [
    ("no file", ["gone.png", "--to", "dog"], 2, "there is no file gone.png"),
    ("text as image", ["text.png", "--to", "dog"], 2, "text.png is not an image"),
    ("truncated", ["cut.png", "--to", "dog"], 2, "cut.png cannot be read as an image"),
    ("empty", ["empty.png", "--to", "dog"], 2, "empty.png is empty"),
    ("folder", ["folder.png", "--to", "dog"], 2, "folder.png is a directory"),
    ("no --to", ["cat.png"], 2, "the prompt is missing: give --to"),
    ("steps 0", ["cat.png", "--to", "dog", "--steps", "0"], 2, "steps must be an integer from 1"),
    ("unknown model", ["cat.png", "--to", "dog", "--model", "minni"], 3, 'no model "minni"'),
    (
        "weights not here",
        ["cat.png", "--to", "dog", "--model", "no-one/no-model"],
        3,
        "no-one/no-model is not on this machine; get it with: zerocon models pull no-one/no-model",
    ),
    (
        "unknown guidance",
        ["cat.png", "--to", "dog", "--guidance", "contrast"],
        2,
        'no guidance "contrast"; there are: contrastive, cross-attention',
    ),
    (
        "unknown option of a guidance",
        ["cat.png", "--to", "dog", "--guidance", "contrastive:wieght=1"],
        2,
        'guidance contrastive has no option "wieght"; there are: weight, temperature',
    ),
    (
        "missing device",
        ["cat.png", "--to", "dog", "--model", "mini", "--device", "cuda:99"],
        3,
        'device "cuda:99" is not on this machine; there are: ',
    ),
    ("output exists", ["cat.png", "--to", "dog", "-o", "taken.png"], 2, "taken.png exists already"),
    (
        "output onto input",
        ["cat.png", "--to", "dog", "-o", "cat.png", "--overwrite"],
        2,
        "cat.png is an input",
    ),
    (
        "output onto the recipe",
        ["cat.png", "--to", "dog", "-o", "taken.png", "--recipe", "taken.png", "--overwrite"],
        2,
        "taken.png is an input",
    ),
    (
        "output onto the model",
        ["cat.png", "--to", "dog", "-o", "taken.png", "--model", "./taken.png", "--overwrite"],
        2,
        "taken.png is an input",
    ),
    ("sheet onto input", ["cat.png", "--to", "dog", "--compare", "cat.png"], 2, "is an input"),
    (
        "sheet onto output",
        ["cat.png", "--to", "dog", "-o", "a.png", "--compare", "./a.png"],
        2,
        "--compare and -o name the same file",
    ),
    ("explained onto input", ["cat.png", "--to", "dog", "--explain", "cat.png"], 2, "is an input"),
    (
        "explained onto the sheet",
        ["cat.png", "--to", "dog", "--compare", "a.jpg", "--explain", "./a.jpg"],
        2,
        "--explain and --compare name the same file",
    ),
    ("explained in no kind", ["cat.png", "--to", "a", "--explain", "a.pdf"], 2, "must end in"),
    (
        "explained nowhere",
        ["cat.png", "--to", "a", "--explain", "no/a.png"],
        2,
        "the directory no of a.png does not exist",
    ),
    ("steps into a file", ["cat.png", "--to", "a", "--steps-dir", "text.png"], 2, "is a file"),
    (
        "steps nowhere",
        ["cat.png", "--to", "a", "--steps-dir", "no/a"],
        2,
        "the directory no of a does not exist",
    ),
    (
        "steps that are there",
        ["cat.png", "--to", "dog", "--steps-dir", "kept"],
        2,
        "kept/step-002.png exists already",
    ),
    (
        "steps onto input",
        ["kept/step-002.png", "--to", "dog", "--steps-dir", "kept", "--overwrite"],
        2,
        "kept/step-002.png is an input",
    ),
    (
        "a step onto output",
        ["cat.png", "--to", "dog", "--steps-dir", "folder.png", "-o", "folder.png/step-001.png"],
        2,
        "--steps-dir and -o name the same file",
    ),
    (
        "steps folder onto output",
        ["cat.png", "--to", "dog", "--steps-dir", "a.png", "-o", "./a.png"],
        2,
        "--steps-dir and -o name the same file",
    ),
    ("output of no kind", ["cat.png", "--to", "dog", "-o", "dog.gif"], 2, "dog.gif must end in"),
    (
        "output nowhere",
        ["cat.png", "--to", "dog", "-o", "no/dog.png"],
        2,
        "the directory no of dog.png does not exist",
    ),
    ("removing nothing", ["cat.png", "--to", ""], 2, "the prompt is missing"),
    ("no such option", ["cat.png", "--too", "dog"], 2, "No such option"),
    (
        "reversed range",
        ["cat.png", "--to", "a", "--guidance-range", "1..0"],
        2,
        "guidance_range must be",
    ),
    (
        "a range in words",
        ["cat.png", "--to", "a", "--guidance-range", "half"],
        2,
        "is not a range A..B, such as 0..0.6",
    ),
    ("no inversion", ["cat.png", "--to", "a", "--inversion", "x.safetensors"], 2, "not exist"),
]


@pytest.mark.parametrize(
    ("args", "code", "message"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES]
)
def test_invalid_input_prints_one_line_and_writes_nothing(
    run: Run, tmp_path: Path, args: list[str], code: int, message: str
) -> None:
    write_images(tmp_path)
    before = contents(tmp_path)
    done = run("edit", *args)
    assert (done.exit_code, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert contents(tmp_path) == before


def test_invalid_input_is_refused_before_a_model_is_loaded(
    run: Run, library: Library, tmp_path: Path
) -> None:
    write_images(tmp_path)
    for name, args, code, _ in MISTAKES:
        if code == 2:
            assert run("edit", *args).exit_code == 2, name
    assert library.loaded == ()


@pytest.mark.parametrize("command", ["invert", "caption"])
def test_other_commands_refuse_unreadable_images(run: Run, tmp_path: Path, command: str) -> None:
    write_images(tmp_path)
    for name in ("gone.png", "text.png", "cut.png", "empty.png", "folder.png"):
        done = run(command, name)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_verbose_prints_the_traceback_of_an_error(run: Run) -> None:
    stderr = run("edit", "gone.png", "--to", "dog", "-v").stderr
    assert "Traceback" in stderr
    assert stderr.splitlines()[-1] == "Error: there is no file gone.png [ZC-E020]"


def test_a_bug_keeps_its_traceback(
    run: Run, library: Library, image_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(zerocon, "edit", broken)
    assert isinstance(run("edit", image_file, "--to", "dog").exception, TypeError)


def test_ctrl_c_writes_nothing(
    run: Run, library: Library, image_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(zerocon, "edit", interrupt)
    done = run("edit", image_file, "--to", "dog")
    assert (done.exit_code, done.stdout) == (130, "")
    assert done.stderr.split("\n")[-2:] == ["Interrupted [ZC-E071]", ""]
    assert names(image_file.parent) == {"cat.png"}


# edit


def test_edit_prints_the_request_and_the_output(
    run: Run, library: Library, image_file: Path
) -> None:
    done = run("edit", image_file, "--to", "dog")
    output = image_file.with_name("cat-dog.png")
    assert (done.exit_code, done.stdout) == (0, f"{output}\n")
    assert done.stderr.splitlines() == [
        '"a cat" -> "a dog": cat -> dog (object); 128 sentences; CLIP 0.250 -> 0.125',
        "Warning: doubtful",
    ]
    assert Photograph.read(output).image.size == Photograph.read(image_file).image.size
    assert names(image_file.parent) == {"cat.png", "cat-dog.png"}


def test_quiet_prints_only_warnings(run: Run, library: Library, image_file: Path) -> None:
    assert run("edit", image_file, "--to", "dog", "-q").stderr == "Warning: doubtful\n"


def test_json_result_of_an_edit(run: Run, library: Library, image_file: Path) -> None:
    done = run("edit", image_file, "--from", "cat", "--to", "dog", "--format", "json")
    assert json.loads(done.stdout) == {
        "schema": "zerocon.edit/1",
        "state": "edited",
        "input": str(image_file),
        "output": str(image_file.with_name("cat-dog.png")),
        "from": "cat",
        "to": "dog",
        "caption": "a cat",
        "target_caption": "a dog",
        "changes": [{"category": "object", "from": "cat", "to": "dog"}],
        "directions": [],
        "sentences": 128,
        "similarity": {"caption": 0.25, "target_caption": 0.125},
        "result": None,  # the library of this test does not review
        "model": "toy",
        "settings": json.loads(json.dumps(asdict(library.model.settings))),
        "seed": 0,
        "inversion": "computed",
        "evaluations": {"forwards": 20, "backwards": 7, "total": 28.05},
        "warnings": ["doubtful"],
        "support": None,
        "crop": None,
    }


def test_json_has_every_setting_by_name(run: Run, library: Library, image_file: Path) -> None:
    args = ["--guidance", "none", "--attention", "none", "--push-limit", "none"]
    args += ["--guidance-range", "0..0.5", "--begin", "0.1,style=0.2"]
    done = run("edit", image_file, "--to", "dog", *args, "--format", "json")
    settings = json.loads(done.stdout)["settings"]
    assert settings == {
        "steps": 7,
        "inverter": "ddim",
        "guidance_scale": 2.0,
        "strength": 1.0,
        "guidance": [],
        "direction_from": Settings.direction_from,
        "direction_positions": "all",
        "guidance_range": [0.0, 0.5],
        "guidance_prompt": "target",
        "reuse_prediction": False,
        "guidance_balance": Settings.guidance_balance,
        "guidance_limit": None,
        "push_limit": None,
        "difference_threshold": Settings.difference_threshold,
        "polyak_step": False,
        "attention": [],
        "begin": "0.1,style=0.2",
        "source_correction": True,
        "cache_source": True,
        "composite": "native",
        "lock": "pixel",
        "crop": "off",
        "size": None,
        "seed": 0,
    }


def test_without_clip_there_is_no_similarity(run: Run, library: Library, image_file: Path) -> None:
    library.understood = request()
    done = run("edit", image_file, "--to", "dog", "--format", "json")
    assert json.loads(done.stdout)["similarity"] is None
    assert done.stderr == '"a cat" -> "a dog": cat -> dog (object); 128 sentences\n'


@pytest.mark.parametrize(
    ("args", "changed"),
    [
        ([], {}),
        (["--steps", str(Settings.steps)], {"steps": Settings.steps}),  # also the default
        (["--guidance-scale", "0", "--seed", "0"], {"guidance_scale": 0.0, "seed": 0}),
        (["--guidance", "none"], {"guidance": ()}),
        (
            ["--guidance-scale", "7..2.5", "--reuse-prediction"],
            {"guidance_scale": (7.0, 2.5), "reuse_prediction": True},
        ),
        (["--inverter", "fixed-point:rounds=2"], {"inverter": "fixed-point:rounds=2"}),
        (
            ["--no-source-correction", "--guidance-prompt", "source"],
            {"source_correction": False, "guidance_prompt": "source"},
        ),
        (
            ["--direction-positions", "changed", "--guidance-balance", "2"],
            {"direction_positions": "changed", "guidance_balance": 2.0},
        ),
        (
            ["--guidance", "contrastive:patches=64,sizes=1", "--guidance", "cross-attention"],
            {"guidance": ("contrastive:patches=64,sizes=1", "cross-attention")},
        ),
        (
            ["--guidance-range", "0..0.6", "--guidance-limit", "0.1"],
            {"guidance_range": (0.0, 0.6), "guidance_limit": 0.1},
        ),
        (["--guidance-limit", "0.1,style=0.2"], {"guidance_limit": "0.1,style=0.2"}),
        (
            ["--attention", "injection:self=0.5,layers=decoder", "--begin", "0.2"],
            {"attention": ("injection:self=0.5,layers=decoder",), "begin": 0.2},
        ),
        (["--attention", "none"], {"attention": ()}),
        (
            ["--attention", "injection:self=0.9", "--attention", "style=none"],
            {"attention": ("injection:self=0.9", "style=none")},
        ),
        (["--begin", "0,style=0.3"], {"begin": "0,style=0.3"}),
        (["--push-limit", "0.5,time=0.1"], {"push_limit": "0.5,time=0.1"}),
        (
            ["--push-limit", "none", "--guidance-balance", "none", "--size", "none"],
            {"push_limit": None, "guidance_balance": None, "size": None},
        ),
        (["--guidance-scale", "none"], {"guidance_scale": None}),  # measured once
        (
            ["--recompute-source", "--direction-from", "mean"],
            {"cache_source": False, "direction_from": "mean"},
        ),
        (["--cache-source", "--strength", "-1"], {"cache_source": True, "strength": -1.0}),
        (["--fast"], FAST),
        (["--fast", "--steps", "9"], {**FAST, "steps": 9}),
        (["--preset", "default"], {}),
        (["--preset", "paper"], PAPER),
        (["--preset", "paper", "--push-limit", "0.4"], {**PAPER, "push_limit": 0.4}),
    ],
)
def test_options_override_the_settings_of_the_model(
    run: Run, library: Library, image_file: Path, args: list[str], changed: dict[str, Any]
) -> None:
    assert run("edit", image_file, "--to", "dog", *args).exit_code == 0
    assert library.arguments["settings"] == library.model.settings.overlay(changed)


@pytest.mark.parametrize(
    ("args", "file", "environment", "changed"),
    [
        # what is typed is above the file
        (["--fast"], 'guidance = "contrastive"', {}, FAST),
        (["--preset", "fast"], 'guidance = "contrastive"', {}, FAST),
        (["--preset", "paper"], "steps = 30\npush-limit = 0.2\nguidance-balance = 3", {}, PAPER),
        ([], 'preset = "paper"\nsteps = 30', {}, {**PAPER, "steps": 30}),
        ([], 'preset = "paper"', {"ZEROCON_PUSH_LIMIT": "1"}, {**PAPER, "push_limit": 1.0}),
        ([], 'guidance = "contrastive"\nfast = true', {}, {"guidance": ("contrastive",)}),
        ([], "push-limit = 0.2", {"ZEROCON_PUSH_LIMIT": "none"}, {"push_limit": None}),
        ([], "guidance = []", {}, {"guidance": ()}),
        (["--preset", "a", "--guidance-limit", "0.2"],
         "[presets.a]\nguidance_limit = 1\nguidance-scale = [2, 1]",
         {}, {"guidance_scale": (2.0, 1.0), "guidance_limit": 0.2}),
        (["--fast", "--preset", "a"], "[presets.a]\nreuse_prediction = false",
         {}, {**FAST, "reuse_prediction": False}),
    ],
)  # fmt: skip
def test_options_override_a_preset_of_the_same_source(
    run: Run, library: Library, image_file: Path, monkeypatch: pytest.MonkeyPatch,
    args: list[str], file: str, environment: dict[str, str], changed: dict[str, Any],
) -> None:  # fmt: skip
    Path("zerocon.toml").write_text(file)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run("edit", image_file, "--to", "dog", *args).exit_code == 0
    assert library.arguments["settings"] == library.model.settings.overlay(changed)


def test_prompt_and_model_options_are_passed_to_the_library(
    run: Run, library: Library, image_file: Path
) -> None:
    words = ["--from", "cat", "--to", "", "--caption", "a cat", "--to-caption", "a sofa"]
    weights = ["--model", "mini", "--device", "cpu", "--dtype", "float32", "--captioner", "B"]
    more = ["--clip", "C", "--prediction", "epsilon", "--tile"]
    assert run("edit", image_file, *words, *weights, *more).exit_code == 0
    arguments = {name: library.arguments[name] for name in ("from_", "to", "caption", "to_caption")}
    assert arguments == {"from_": "cat", "to": "", "caption": "a cat", "to_caption": "a sofa"}
    options = {"device": "cpu", "dtype": "float32", "captioner": "B", "clip": "C"}
    manner = {"prediction": "epsilon", "offload": False, "tile": True, "compile": False}
    unset = {"vae": None, "clip_skip": None}
    assert library.loaded == ("mini", {**options, **manner, **unset})


def test_edit_from_an_inversion_file(run: Run, library: Library, image_file: Path) -> None:
    kept = image_file.with_name("cat.safetensors")
    assert run("invert", image_file, "--steps", "3").stdout == f"{kept}\n"
    assert run("edit", image_file, "--to", "dog", "--inversion", kept).exit_code == 0
    assert library.arguments["inversion"].schedule.steps == 3
    done = run("edit", image_file, "--to", "fox", "--inversion", kept, "--steps", "9")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)


def test_an_image_is_not_an_inversion(run: Run, library: Library, image_file: Path) -> None:
    done = run("edit", image_file, "--to", "dog", "--inversion", image_file)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert library.loaded == ()


def test_compare_saves_both_images_side_by_side(
    run: Run, library: Library, image_file: Path
) -> None:
    sheet = image_file.with_name("sheet.jpg")
    assert run("edit", image_file, "--to", "dog", "--compare", sheet).exit_code == 0
    assert Photograph.read(sheet).image.width == 2 * Photograph.read(image_file).image.width


def test_overwrite_gives_the_same_bytes(run: Run, library: Library, image_file: Path) -> None:
    output = image_file.with_name("cat-dog.png")
    run("edit", image_file, "--to", "dog")
    first = output.read_bytes()
    assert run("edit", image_file, "--to", "dog").exit_code == 2
    assert run("edit", image_file, "--to", "dog", "--overwrite").exit_code == 0
    assert output.read_bytes() == first


@pytest.mark.parametrize(
    ("image", "prompt", "output"),
    [
        ("cat.png", ("dog", None, None), "cat-dog.png"),
        ("a/b.c.JPG", ("A red  hat!", None, None), "a/b.c-a-red-hat.JPG"),
        ("cat.webp", ("dog", None, None), "cat-dog.webp"),
        ("cat.gif", ("dog", None, None), "cat-dog.png"),
        ("cat.png", ("", "a hat", None), "cat-without-a-hat.png"),
        ("cat.png", (None, None, "a dog on a sofa"), "cat-a-dog-on-a-sofa.png"),
        ("cat.png", ("../../etc", None, None), "cat-etc.png"),
        ("cat.png", ("Füchsin 狐", None, None), "cat-füchsin-狐.png"),
        ("cat.png", ("?!", None, None), "cat-edit.png"),
        ("cat.png", ("x" * 99, None, None), f"cat-{'x' * 40}.png"),
    ],
)
def test_an_output_is_named_after_the_prompt(
    image: str, prompt: tuple[str | None, str | None, str | None], output: str
) -> None:
    assert naming.output_name(Path(image), naming.prompt_of(*prompt)) == Path(output)


# the other commands


def test_invert(run: Run, library: Library, image_file: Path) -> None:
    kept = image_file.with_name("kept.safetensors")
    done = run("invert", image_file, "-o", kept, "--caption", "a cat", "--format", "json")
    result = json.loads(done.stdout)
    assert (result["schema"], result["steps"]) == ("zerocon.invert/1", 7)
    assert result["output"] == str(kept)
    assert Inversion.load(kept).captions == ("a cat",)
    assert library.arguments["caption"] == "a cat"
    assert run("invert", image_file, "-o", kept).exit_code == 2
    assert run("invert", image_file, "-o", kept, "--overwrite").exit_code == 0
    assert run("invert", image_file, "-o", "kept.png").exit_code == 2


@pytest.mark.parametrize(("caption", "warned"), [("a cat on a sofa", 0), ("a cat cat cat cat", 1)])
def test_caption(run: Run, library: Library, image_file: Path, caption: str, warned: int) -> None:
    describe = lambda images: [caption] * len(images)  # noqa: E731
    library.model.captioner = SimpleNamespace(describe=describe)
    done = run("caption", image_file)
    assert (done.exit_code, done.stdout) == (0, f"{caption}\n")
    assert done.stderr.count("Warning: ") == warned
    record = json.loads(run("caption", image_file, "--format", "json").stdout)
    assert (record["caption"], len(record["warnings"])) == (caption, warned)


def test_methods_lists_every_method_and_its_options(run: Run) -> None:
    table = run("methods").stdout.splitlines()
    assert table[1] == "|---|---|---|---|"
    expected = [("inverter", name) for name in sorted(INVERTERS)]
    expected += [("guidance", name) for name in sorted(GUIDANCE)]
    expected += [("attention", name) for name in sorted(ATTENTION)]
    expected += [("translator", name) for name in sorted(TRANSLATORS)]
    for (family, name), row in zip(expected, table[2:], strict=True):
        assert row.startswith(f"| {family} | `{name}` | ")
    for name, guidance in GUIDANCE.items():
        (row,) = (row for row in table if f"| `{name}` |" in row)
        assert f"`weight={guidance().weight}`" in row
    listed = json.loads(run("methods", "--format", "json").stdout)["methods"]
    assert [(method["family"], method["name"]) for method in listed] == expected


# whole edits, with a network of a few thousand random weights


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model()
    monkeypatch.setattr(zerocon, "load", lambda name, **options: model, raising=False)


@pytest.mark.usefixtures("tiny_model")
def test_edit_is_repeatable_also_from_an_inversion_file(run: Run, image_file: Path) -> None:
    ask = ["edit", image_file, "--to", "dog", "--format", "json", "--direction-from", "bank"]
    ask += ["--guidance-range", "0..1", "--guidance-balance", "none", "--begin", "0", "-o"]
    first = run(*ask, "a.png", "--steps", "2")
    result = json.loads(first.stdout)
    assert (result["caption"], result["target_caption"]) == ("a cat on a bench", "a dog on a bench")
    assert result["changes"] == [{"category": "object", "from": "cat", "to": "dog"}]
    assert result["sentences"] >= 64
    assert result["similarity"] is None
    assert any("CLIP" in warning for warning in result["warnings"])
    evaluations = result["evaluations"]
    assert evaluations["forwards"] > 0 and evaluations["backwards"] == 2

    run(*ask, "b.png", "--steps", "2")
    run("invert", image_file, "-o", "cat.safetensors", "--steps", "2")
    again = run(*ask, "c.png", "--inversion", "cat.safetensors")
    assert json.loads(again.stdout)["settings"]["steps"] == 2
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    once, kept = (np.asarray(Photograph.read(name).image, int) for name in ("a.png", "c.png"))
    assert np.abs(once - kept).max() <= 2  # watched and unwatched attention round differently
    assert once.shape == np.asarray(Photograph.read(image_file).image).shape


@pytest.mark.usefixtures("tiny_model")
def test_an_inversion_of_another_image_is_refused(run: Run, image_file: Path) -> None:
    run("invert", image_file, "-o", "cat.safetensors", "--steps", "1")
    gradient(64, 96).save("other.png")
    done = run("edit", "other.png", "--to", "dog", "--inversion", "cat.safetensors", "-o", "x.png")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "image" in done.stderr
    assert not Path("x.png").exists()


# diagnostics


@pytest.mark.usefixtures("tiny_model")
def test_explain_saves_a_sheet_and_does_not_change_the_edit(run: Run, image_file: Path) -> None:
    ask = ["edit", image_file, "--to", "dog", "--steps", "3", "--format", "json", "-o"]
    plain = json.loads(run(*ask, "plain.png").stdout)
    done = run(*ask, "edited.png", "--explain", "sheet.png")
    result = json.loads(done.stdout)
    assert Path("edited.png").read_bytes() == Path("plain.png").read_bytes()
    assert result["evaluations"] == plain["evaluations"]
    cost = {"forwards": 6, "backwards": 0, "total": 6.0}  # at three steps, on both sides
    assert result["explanation"] == {"output": "sheet.png", "evaluations": cost}
    assert "explanation" not in plain
    sheet = Photograph.read("sheet.png").image
    assert sheet.width > 1000 and sheet.height > 600 and np.asarray(sheet).std() > 20
    before = Path("sheet.png").read_bytes()
    refused = run(*ask, "other.png", "--explain", "sheet.png")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert Path("sheet.png").read_bytes() == before and not Path("other.png").exists()


@pytest.mark.usefixtures("tiny_model")
def test_a_removal_without_guidance_as_jpeg(run: Run, image_file: Path) -> None:
    ask = ["edit", image_file, "--to", "", "--from", "a cat", "--caption", "a dog with a cat"]
    done = run(*ask, "--steps", "1", "--guidance", "none", "--explain", "s.jpeg", "-o", "a.png")
    assert done.exit_code == 0, done.stderr
    assert Photograph.read("s.jpeg").image.height > 600


@pytest.mark.usefixtures("tiny_model")
def test_the_last_step_image_is_the_edited_image(run: Run, image_file: Path) -> None:
    ask = ["edit", image_file, "--to", "dog", "--steps", "3", "--steps-dir", "way"]
    ask += ["--composite", "model"]  # steps are enlarged, not composited
    assert run(*ask).exit_code == 0
    assert sorted(names(Path("way"))) == ["step-001.png", "step-002.png", "step-003.png"]
    shown = [np.asarray(Photograph.read(path).image, int) for path in sorted(Path("way").iterdir())]
    assert {each.shape for each in shown} == {(64, 96, 3)}
    edited = np.asarray(Photograph.read("cat-dog.png").image, int)
    assert np.abs(shown[-1] - edited).max() <= 2
    assert np.abs(shown[0] - edited).max() > 2
    before = contents(Path("way"))
    assert run(*ask, "-o", "again.png").exit_code == 2
    assert contents(Path("way")) == before and not Path("again.png").exists()
    (Path("way") / "step-002.png").write_text("spoilt")
    assert run(*ask, "--overwrite").exit_code == 0
    assert contents(Path("way")) == before


def test_a_missing_matplotlib_is_reported_before_a_model_is_loaded(
    run: Run, library: Library, image_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    done = run("edit", image_file, "--to", "dog", "--explain", "sheet.png")
    assert (done.exit_code, done.stdout, library.loaded) == (3, "", ())
    (line,) = done.stderr.splitlines()
    assert "pip install matplotlib" in line
    assert names(image_file.parent) == {"cat.png"}
    assert run("edit", image_file, "--to", "dog").exit_code == 0  # which draws nothing


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a read-only folder")
@pytest.mark.parametrize(
    "option", [["-o", "/sys/a.png"], ["--explain", "/sys/a.png"], ["--steps-dir", "/sys/way"]]
)
def test_a_read_only_folder_is_reported_before_a_model_is_loaded(
    run: Run, library: Library, image_file: Path, option: list[str]
) -> None:
    done = run("edit", image_file, "--to", "dog", *option)
    assert (done.exit_code, done.stdout, library.loaded) == (2, "", ())
    assert "cannot write to /sys" in done.stderr
    assert names(image_file.parent) == {"cat.png"}


# progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, quiet in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.progress_bar("Editing", quiet) as tick:
            assert tick is None
        assert stream.getvalue() == ""


def test_the_progress_bar_begins_with_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.progress_bar("Editing", False) as tick:
        click.echo("a cat -> a dog", err=True)
        assert stream.getvalue() == "a cat -> a dog\n"
        assert tick is not None
        for done in range(1, 5):
            tick(done, 4)
    assert "4/4" in stream.getvalue()
    assert stream.getvalue().endswith(os.linesep)
