"""Prompts that change nothing: one line, exit status 0, no file, or a copy on request."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner, Result
from conftest import gradient
from PIL import Image

import zerocon
from zerocon.cli import main

Run = Callable[..., Result]
SAME = ["edit", "cat.jpg", "--to", "cat"]  # the captioner sees a cat on a bench


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a directory with an image, with a model that sees a cat in it."""
    model = tiny.model()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zerocon, "load", lambda *_, **__: model, raising=False)
    gradient(64, 48).save("cat.jpg", comment=b"kept in copies")
    return lambda *args, **more: CliRunner().invoke(main, [str(arg) for arg in args], **more)


def files() -> set[str]:
    return {path.name for path in Path().iterdir()}


@pytest.mark.parametrize("more", [[], ["-q"], ["--dry-run"], ["--compare", "both.png"]])
def test_nothing_is_written_and_one_line_says_why(run: Run, more: list[str]) -> None:
    done = run(*SAME, *more)
    assert (done.exit_code, done.stdout) == (0, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith("copies the image [ZC-E042]") and "'cat'" in line
    assert not line.startswith("Error")
    assert files() == {"cat.jpg"}


def test_the_caption_itself_as_target_caption_changes_nothing_either(run: Run) -> None:
    done = run("edit", "cat.jpg", "--to-caption", "the cat on a bench")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (0, "", 1)
    assert files() == {"cat.jpg"}


def test_a_copy_on_request_has_the_same_bytes(run: Run) -> None:
    done = run(*SAME, "--copy-unchanged")
    assert (done.exit_code, done.stdout) == (0, "cat-cat.jpg\n")
    (line,) = done.stderr.splitlines()
    assert line.endswith("the source image is copied [ZC-E042]")
    assert Path("cat-cat.jpg").read_bytes() == Path("cat.jpg").read_bytes()
    assert files() == {"cat.jpg", "cat-cat.jpg"}


def test_a_copy_in_another_format_is_an_image_without_a_recipe(run: Run) -> None:
    assert run(*SAME, "--copy-unchanged", "-o", "copy.png").exit_code == 0
    with Image.open("copy.png") as copy, Image.open("cat.jpg") as source:
        assert copy.format == "PNG" and copy.tobytes() == source.tobytes()
    assert run("inspect", "copy.png").exit_code == 2


def test_a_copy_replaces_an_output_only_on_request_and_no_input(run: Run) -> None:
    Path("taken.jpg").write_bytes(b"before")
    refused = run(*SAME, "--copy-unchanged", "-o", "taken.jpg")
    assert refused.exit_code == 2 and "[ZC-E030]" in refused.stderr
    refused = run(*SAME, "--copy-unchanged", "-o", "cat.jpg", "--overwrite")
    assert refused.exit_code == 2 and "[ZC-E031]" in refused.stderr
    assert Path("taken.jpg").read_bytes() == b"before"
    assert run(*SAME, "--copy-unchanged", "-o", "taken.jpg", "--overwrite").exit_code == 0
    assert Path("taken.jpg").read_bytes() == Path("cat.jpg").read_bytes()


def test_no_copy_in_a_dry_run(run: Run) -> None:
    assert run(*SAME, "--copy-unchanged", "--dry-run").exit_code == 0
    assert files() == {"cat.jpg"}


def test_from_stdin_to_stdout_the_bytes_pass_through(run: Run) -> None:
    source = Path("cat.jpg").read_bytes()
    pipe = ["edit", "-", "--to", "cat", "-o", "-"]
    done = run(*pipe, "--copy-unchanged", input=source)
    assert (done.exit_code, done.stdout_bytes) == (0, source)
    assert run(*pipe, input=source).stdout_bytes == b""


@pytest.mark.parametrize("copy", [False, True])
def test_the_json_object_has_the_fields_of_an_edit(run: Run, copy: bool) -> None:
    form = ["--format", "json"]
    edited = json.loads(run("edit", "cat.jpg", "--to", "dog", *form).stdout)
    record = json.loads(run(*SAME, *form, *(["--copy-unchanged"] if copy else [])).stdout)
    assert set(record) == {*edited, "message"}
    assert (edited["state"], record["state"]) == ("edited", "unchanged")
    assert record["output"] == ("cat-cat.jpg" if copy else None)
    assert (record["to"], record["changes"], record["evaluations"]["total"]) == ("cat", [], 0)
    assert "'cat'" in record["message"] and record["settings"] == edited["settings"]


def test_an_edit_that_changes_something_is_not_a_copy(run: Run) -> None:
    done = run("edit", "cat.jpg", "--to", "dog", "--copy-unchanged")
    assert done.exit_code == 0 and "ZC-E042" not in done.stderr
    assert Path("cat-dog.jpg").read_bytes() != Path("cat.jpg").read_bytes()
