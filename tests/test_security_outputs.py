"""No command writes a file that it reads, whatever the path is called; names for all systems."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import tiny
from click.testing import CliRunner
from conftest import gradient
from PIL import Image

import zerocon
from zerocon.cli import main
from zerocon.errors import CommandError, NotWritableError, OutputIsInputError
from zerocon.image import naming
from zerocon.image.saving import check_output
from zerocon.settings import Settings
from zerocon.storage import paths

# command line with {out}, its ending, and the files that it reads
EDIT = (
    "edit cat.png --to dog --mask mask.png --direction cat2dog.safetensors --recipe edited.png "
    "--model weights.safetensors --captioner parts --clip parts"
)
GRID = f"{EDIT} --seed 1 --seed 2"
INVERTED = "edit cat.png --to dog --inversion cat.safetensors"
READ = ("cat.png", "mask.png", "cat2dog.safetensors", "edited.png", "weights.safetensors")
READ += ("parts/model.safetensors", "parts/config.json", "zerocon.toml")
REPLAY = (
    "replay edited.png --source cat.png --mask mask.png --direction cat2dog.safetensors "
    "--inversion cat.safetensors --model weights.safetensors -o {out}"
)
REPLAYED = ("edited.png", "cat.png", "mask.png", "cat2dog.safetensors", "cat.safetensors")
BATCH = (
    "batch --manifest list.csv --files-from names.txt --sidecars --direction cat2dog.safetensors "
    "--recipe edited.png --model weights.safetensors --segmenter parts --to dog -o ."
)
LISTED = ("cat.png", "cat.txt", "mask.png", "list.csv", "names.txt", "cat2dog.safetensors")
LISTED += ("edited.png", "weights.safetensors", "parts/model.safetensors", "zerocon.toml")
BENCH = "bench world --methods default --recipe edited.png --model weights.safetensors"
BENCHED = ("edited.png", "weights.safetensors")
COMMANDS = [
    (f"{EDIT} -o {{out}}", ".png", READ),
    (f"{EDIT} -o other.png --compare {{out}}", ".png", READ),
    (f"{EDIT} -o other.png --explain {{out}}", ".png", READ),
    (f"{EDIT} -o other.png --save-mask {{out}}", ".png", READ),
    (f"{EDIT} -o other.png --steps-dir {{out}}", "steps", READ),
    (f"{GRID} --grid {{out}}", ".png", READ),
    (f"{INVERTED} -o {{out}}", ".png", ("cat.png", "cat.safetensors")),
    (REPLAY, ".png", (*REPLAYED, "weights.safetensors")),
    ("invert cat.png --model weights.safetensors -o {out}", ".safetensors", READ[:1] + READ[4:5]),
    ("direction --from-file a.txt --to-file b.txt --model weights.safetensors -o {out}",
     ".safetensors", ("a.txt", "b.txt", "weights.safetensors")),
    (f"{BATCH} --name links/{{{{stem}}}}.png", ".png", LISTED),
    (f"{BATCH} --sheet {{out}}", ".pdf", LISTED),
    (f"{BENCH} --sheet {{out}}", ".png", BENCHED),
    (f"{BENCH} --sheet {{out}} --results rows.jsonl", ".png", ("rows.jsonl",)),
    (f"{BENCH} --results {{out}}", ".jsonl", BENCHED),
    ("bench sensitivity --recipe edited.png --results {out}", ".jsonl", BENCHED[:1]),
]  # fmt: skip
CASES = [(line, ending, file) for line, ending, files in COMMANDS for file in files]


def errors(text: str) -> list[str]:
    """The lines of stderr after the first one, if that names the configuration file."""
    first, *others = text.splitlines()
    return others if first == "Configuration: zerocon.toml" else [first, *others]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one file of every kind that commands read."""
    folder = tmp_path_factory.mktemp("outputs")
    model, image = tiny.model(), gradient(64, 48)
    image.save(folder / "cat.png")
    image.rotate(180).save(folder / "two.png")
    Image.new("L", (64, 48), 255).save(folder / "mask.png")
    edited = zerocon.edit(image, model=model, to="dog", settings=Settings(steps=1, guidance=()))
    photograph = zerocon.Photograph.read(folder / "cat.png")
    provenance = zerocon.image.metadata.Provenance(zerocon.Recipe.of(edited, model).to_json())
    photograph.save(edited.image, folder / "edited.png", provenance=provenance)
    zerocon.Direction.of_words(model, "cat", "dog").save(folder / "cat2dog.safetensors")
    zerocon.invert(image, model, settings=Settings(steps=1)).save(folder / "cat.safetensors")
    (folder / "parts").mkdir()
    for name in ("weights.safetensors", "parts/model.safetensors"):
        (folder / name).write_bytes(b"weights")
    (folder / "parts" / "config.json").write_text("{}")
    (folder / "list.csv").write_text("image,to,mask\ncat.png,dog,mask.png\n")
    (folder / "names.txt").write_text("two.png\n")
    (folder / "cat.txt").write_text("a cat")
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("a cat\n")
    (folder / "zerocon.toml").write_text("keep_gps = false\n")
    (folder / "rows.jsonl").write_text("")
    return folder


@pytest.fixture
def here(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.chdir(shelf)
    monkeypatch.setattr(zerocon, "load", load, raising=False)
    return shelf


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("link", [os.link, os.symlink])
@pytest.mark.parametrize(("line", "ending", "file"), CASES)
def test_no_output_is_a_file_that_the_command_reads(
    here: Path, link: Callable[[Path, Path], None], line: str, ending: str, file: str
) -> None:
    folder = Path("steps" if ending == "steps" else "links")
    folder.mkdir()
    alias = folder / ("step-001.png" if ending == "steps" else f"cat{ending}")
    link(here / file, alias)
    before = contents(here)
    out = folder if ending == "steps" else alias
    try:
        overwrite = "" if "sheet" in line and "rows" in line else " --overwrite"
        done = CliRunner().invoke(main, shlex.split(line.format(out=out) + overwrite))
        assert done.exit_code == 2 and done.stderr.rstrip().endswith("[ZC-E031]"), done.output
        assert len(errors(done.stderr)) == 1 and contents(here) == before
        assert not Path(".zerocon").exists()
    finally:
        alias.unlink()
        folder.rmdir()


@pytest.mark.parametrize("output", ["cat.png", "./cat.png", "../{here}/cat.png", "mask.png"])
def test_other_spellings_of_an_input(here: Path, output: str) -> None:
    line = f"edit cat.png --to dog --mask mask.png -o {output.format(here=here.name)} --overwrite"
    assert "[ZC-E031]" in CliRunner().invoke(main, shlex.split(line)).stderr


@pytest.mark.parametrize("other", ["CAT.png", "e\u0301.png"])
def test_file_systems_that_ignore_case_or_the_form_of_accents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """On such a system ``stat`` finds the input under the output's spelling."""
    (tmp_path / "cat.png").write_bytes(b"1")
    (tmp_path / "é.png").write_bytes(b"2")
    real = os.stat

    def ignoring(path: Any, **options: Any) -> os.stat_result:
        names = {paths.folded(each.name): each for each in tmp_path.iterdir()}
        return real(names.get(paths.folded(Path(path).name), path), **options)

    monkeypatch.setattr(paths.os, "stat", ignoring)
    name = next(each for each in ("cat.png", "é.png") if paths.folded(each) == paths.folded(other))
    with pytest.raises(OutputIsInputError):
        paths.require_no_inputs([tmp_path / other], [tmp_path / name])


def test_two_outputs_that_differ_in_case_are_one(here: Path) -> None:
    line = "edit cat.png --to dog -o new.png --compare NEW.png"
    done = CliRunner().invoke(main, shlex.split(line))
    assert "name the same file" in done.stderr and done.exit_code == 2


RESERVED = ["CON.png", "nul.png", "NUL .png", "Aux.tar.png", "lpt1.png", "a:b.png", "a?.png"]
RESERVED += ["COM¹.png", "a\\b.png", "a\nb.png"]


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_names_are_refused_on_every_system(tmp_path: Path, here: Path, name: str) -> None:
    with pytest.raises(NotWritableError):
        check_output(tmp_path / name)
    with pytest.raises(CommandError):
        naming.fill(name, PurePosixPath("cat.png"), {"seed": 0, "strength": 1.0}, suffix=".png")
    done = CliRunner().invoke(main, ["edit", "cat.png", "--to", "dog", "-o", name])
    assert (done.exit_code, len(errors(done.stderr))) == (2, 1) and "[ZC-E032]" in done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "NUL/{stem}{suffix}", "a./{stem}{suffix}", "a /{stem}{suffix}", ".zerocon/{stem}{suffix}",
        "x/.Zerocon/{stem}{suffix}", "C:/{stem}{suffix}", "/{stem}{suffix}", "../{stem}{suffix}",
        "x/../../{stem}{suffix}", "con{suffix}", "..\\{stem}{suffix}",
    ],
)  # fmt: skip
def test_templates_that_lead_elsewhere_are_refused(here: Path, name: str) -> None:
    line = ["batch", "cat.png", "-o", "new", "--to", "dog", "--name", name, "--overwrite"]
    done = CliRunner().invoke(main, line)
    assert (done.exit_code, len(errors(done.stderr))) == (2, 1) and "[ZC-E010]" in done.stderr
    assert not Path("new").exists() and not Path(".zerocon").exists()


def test_a_link_out_of_the_output_directory_is_not_followed(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.mkdir()
    out.mkdir()
    (out / "sub").symlink_to(victim)
    line = ["batch", "cat.png", "-o", str(out), "--to", "dog", "--name", "sub/{stem}{suffix}"]
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: tiny.model())
    done = CliRunner().invoke(main, [*line, "--overwrite"])
    assert done.exit_code == 2 and "by a symbolic link" in done.stderr, done.output
    assert list(victim.iterdir()) == [] and list(out.iterdir()) == [out / "sub"]
