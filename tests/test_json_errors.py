"""Errors as JSON: on stdout, with id, message, file and hints; the line on stderr stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from conftest import gradient

import zerocon
from zerocon.cli import main
from zerocon.errors import (
    FileFormatError,
    PromptError,
    UnclearPromptError,
    ZeroconError,
    about,
    about_argument,
)
from zerocon.image.masks import read_mask
from zerocon.model.hub import verify

Run = Callable[..., Result]

# The command line, exit status, id, and the file that the error is about.
FAILURES = [
    ("edit gone.png --to dog", 2, "ZC-E020", "gone.png"),
    ("edit text.png --to dog", 2, "ZC-E021", "text.png"),
    ("edit cat.png", 2, "ZC-E040", None),
    ("edit cat.png --to dog --steps 0", 2, "ZC-E012", None),
    ("edit cat.png --to dog --steps ten", 2, "ZC-E010", None),
    ("edit cat.png --too dog", 2, "ZC-E010", None),
    ("edit cat.png dog", 2, "ZC-E010", None),
    ("edit cat.png --to dog -o text.png", 2, "ZC-E030", "text.png"),
    ("edit cat.png --to dog -o no/dog.png", 2, "ZC-E032", "no/dog.png"),
    ("edit cat.png --to dog --steps-dir text.png", 2, "ZC-E032", "text.png"),
    ("edit cat.png --to dog --mask text.png", 2, "ZC-E021", "text.png"),
    ("edit cat.png --to dog --inversion text.png", 2, "ZC-E060", "text.png"),
    ("edit cat.png --to dog --direction text.png", 2, "ZC-E060", "text.png"),
    ("edit cat.png --to dog --recipe cat.png", 2, "ZC-E060", "cat.png"),
    ("edit cat.png --to dog --model minni", 3, "ZC-E050", None),
    ("edit cat.png --to dog --model no/body", 3, "ZC-E050", None),
    ("edit cat.png --to dog --model gone.safetensors", 3, "ZC-E050", "gone.safetensors"),
    ("edit cat.png --to dog --model old.ckpt", 2, "ZC-E053", "old.ckpt"),
    ("edit cat.png --to dog --model folder", 3, "ZC-E050", "folder"),
    ("invert gone.png", 2, "ZC-E020", "gone.png"),
    ("caption gone.png", 2, "ZC-E020", "gone.png"),
    ("direction --from-file gone.txt --to dog", 2, "ZC-E060", "gone.txt"),
    ("direction show gone.safetensors", 2, "ZC-E060", "gone.safetensors"),
    ("direction show", 2, "ZC-E010", None),
    ("inspect cat.png", 2, "ZC-E060", "cat.png"),
    ("replay cat.png --source gone.png", 2, "ZC-E060", "cat.png"),
    ("models verify folder", 2, "ZC-E054", "folder"),
    ("models pull mini", 2, "ZC-E010", None),
    ("models lst", 2, "ZC-E010", None),
    ("errors ZC-E999", 2, "ZC-E010", None),
    ("cache prune --limit much", 2, "ZC-E012", None),
    ("bench table text.png", 2, "ZC-E060", "text.png"),
    ("edti cat.png", 2, "ZC-E010", None),
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a directory with an image, a text file and an empty directory."""
    monkeypatch.chdir(tmp_path)
    gradient(64, 48).save("cat.png")
    Path("text.png").write_text("Once upon a time\n" * 20)
    Path("old.ckpt").write_bytes(b"x")
    Path("folder").mkdir()
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


def failed(done: Result, code: int) -> dict[str, Any]:
    """The error's object, after a check of everything else that is printed."""
    assert done.exit_code == code, done.output
    record = json.loads(done.stdout)
    assert set(record) == {"schema", "error"} and record["schema"] == "zerocon.error/1"
    error: dict[str, Any] = record["error"]
    assert set(error) == {"id", "message", "path", "hint"}
    assert done.stderr.splitlines()[-1] == f"Error: {error['message']} [{error['id']}]"
    return error


@pytest.mark.parametrize(
    ("line", "code", "name", "path"), FAILURES, ids=[case[0] for case in FAILURES]
)
def test_an_error_is_one_object_on_stdout(
    run: Run, line: str, code: int, name: str, path: str | None
) -> None:
    error = failed(run(*line.split(), "--format", "json"), code)
    assert (error["id"], error["path"], error["hint"]) == (name, path, [])


def test_as_a_json_line_an_error_is_one_line(run: Run) -> None:
    done = run("edit", "gone.png", "--to", "dog", "--format", "jsonl")
    assert failed(done, 2)["path"] == "gone.png" and done.stdout.count("\n") == 1


def test_without_a_json_format_stdout_stays_empty(run: Run) -> None:
    for more in ([], ["--format", "human"], ["--format", "quiet"], ["--format", "xml"]):
        done = run("edit", "gone.png", "--to", "dog", *more)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("more", [["--format=json"], ["--format", "json"]])
def test_the_format_counts_wherever_it_is(run: Run, more: list[str]) -> None:
    failed(run("edit", *more, "gone.png", "--to", "dog"), 2)
    failed(run("edit", "gone.png", "--steps", "ten", *more), 2)
    failed(run("edit", *more, "--no-such-option"), 2)


def test_the_format_may_come_from_the_environment_or_the_file(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("zerocon.toml").write_text('format = "jsonl"\n')
    failed(run("edit", "gone.png", "--to", "dog"), 2)
    failed(run("edit", "gone.png", "--steps", "ten"), 2)
    assert run("edit", "gone.png", "--to", "dog", "--format", "human").stdout == ""
    Path("zerocon.toml").unlink()
    monkeypatch.setenv("ZEROCON_FORMAT", "json")
    failed(run("edit", "gone.png", "--to", "dog"), 2)


def test_a_bad_value_of_the_file_names_the_file(run: Run) -> None:
    Path("zerocon.toml").write_text('steps = "ten"\n')
    error = failed(run("edit", "cat.png", "--to", "dog", "--format", "json"), 2)
    assert error["id"] == "ZC-E011" and error["path"] == str(Path("zerocon.toml").resolve())
    Path("zerocon.toml").write_text("steps = \n")
    error = failed(run("edit", "cat.png", "--to", "dog", "--format", "json"), 2)
    assert error["id"] == "ZC-E011" and error["path"] == str(Path("zerocon.toml").resolve())


def test_hints_are_a_list(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def unclear(*_: Any, **__: Any) -> None:
        error = UnclearPromptError("which one? try: a dog, a red dog")
        error.hints = ("a dog", "a red dog")
        raise error

    monkeypatch.setattr(zerocon, "load", unclear)
    error = failed(run("edit", "cat.png", "--to", "dog", "--format", "json"), 2)
    assert (error["id"], error["hint"]) == ("ZC-E041", ["a dog", "a red dog"])


def test_ctrl_c_is_an_object_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(zerocon, "load", interrupt)
    done = run("edit", "cat.png", "--to", "dog", "--format", "json")
    assert done.exit_code == 130
    expected = {"id": "ZC-E071", "message": "Interrupted", "path": None, "hint": []}
    assert json.loads(done.stdout)["error"] == expected
    assert done.stderr.splitlines()[-1] == "Interrupted [ZC-E071]"


def test_the_systems_own_errors_name_their_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "cat-dog.png")

    monkeypatch.setattr(zerocon, "load", full)
    error = failed(run("edit", "cat.png", "--to", "dog", "--format", "json"), 2)
    assert (error["id"], error["path"]) == ("ZC-E034", "cat-dog.png")


# in Python


def test_functions_that_read_files_give_their_errors_the_path(run: Run) -> None:
    calls: list[tuple[Callable[[], object], str | None]] = [
        (lambda: zerocon.edit("gone.png", to="dog", model="mini"), "gone.png"),
        (lambda: zerocon.Photograph.read(Path("text.png")), "text.png"),
        (lambda: zerocon.Photograph.read(b"text"), None),
        (lambda: zerocon.Recipe.read("cat.png"), "cat.png"),
        (lambda: zerocon.Direction.load("text.png"), "text.png"),
        (lambda: zerocon.Inversion.load("text.png"), "text.png"),
        (lambda: read_mask("text.png", (64, 48)), "text.png"),
        (lambda: zerocon.load("old.ckpt"), "old.ckpt"),
        (lambda: zerocon.load("minni"), None),
        (lambda: verify("folder"), "folder"),
    ]
    for call, path in calls:
        with pytest.raises(ZeroconError) as caught:
            call()
        assert caught.value.path == path


def test_the_innermost_file_is_the_one_that_is_named() -> None:
    @about_argument("path")
    def read(path: object) -> None:
        raise FileFormatError("damaged")

    for path, expected in (("in.png", "in.png"), (Path("in.png"), "in.png"), (b"", "out.png")):
        with pytest.raises(FileFormatError) as caught, about("out.png"):
            read(path=path)
        assert caught.value.path == expected
    with pytest.raises(PromptError) as other, about(None):
        raise PromptError("empty")
    assert other.value.path is None
    assert PromptError.path is None


def test_every_command_with_a_format_prints_it_before_its_other_options() -> None:
    """Else an invalid option before ``--format`` would be reported in another format."""

    def commands(group: click.Group) -> Iterator[click.Command]:
        ctx = click.Context(group)
        for name in group.list_commands(ctx):
            if command := group.get_command(ctx, name):
                yield command
                yield from commands(command) if isinstance(command, click.Group) else ()

    formats = [p for c in commands(main) for p in c.params if "--format" in p.opts]
    assert len(formats) > 20
    assert all(p.is_eager for p in formats if "jsonl" in getattr(p.type, "choices", ()))
