"""Files that are read up to a limit: by lines, as TOML, and what may be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import gradient

from zerocon.cli import main
from zerocon.direction import Direction
from zerocon.errors import FileFormatError, OutputFormatError
from zerocon.storage import strict_toml
from zerocon.storage.bounded import read_bytes, read_lines


def lines(path: Path, **limits: int) -> Iterator[str]:
    return read_lines(path, **{"longest": 99, "longest_line": 20, "most_lines": 9, **limits})


def test_lines_end_in_one_way_and_have_no_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n\xe2\x80\xa8d\x0be")
    assert list(lines(file)) == ["a\n", "b\n", "c\n", "\u2028d\x0be"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a" * 100, "has more than 99 bytes"),
        (b"a" * 21, "line 1 has more than 20 characters"),
        (b"a\n" * 10, "has more than 9 lines"),
        (b"a\n\xff", "is not valid UTF-8: invalid start byte"),
    ],
)
def test_a_limit_of_lines(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "a"
    file.write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        list(lines(file))


def test_a_file_that_grows_is_not_read_further(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"a\n" * 9)
    reader = lines(file, most_lines=99, longest=20)
    assert next(reader) == "a\n"
    with file.open("ab") as more:
        more.write(b"b\n" * 9)
    with pytest.raises(FileFormatError, match="has more than 20 bytes"):
        list(lines(file, most_lines=99, longest=20))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_and_missing_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("pipe", "it is no regular file"), ("gone", "No such file")):
        with pytest.raises(FileFormatError, match=message):
            list(lines(tmp_path / name))
        with pytest.raises(FileFormatError, match=message):
            read_bytes(tmp_path / name, longest=9)


@pytest.mark.parametrize(
    "text",
    [
        'a = "1.2.3.4.5.6.7.8.9.10.11"',
        "a = '1.2.3.4.5.6.7.8.9.10.11'  # 1.2.3.4.5.6.7.8.9.10.11",
        "a = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]",
        'a = """1.2.3.4.5\n"6.7.8.9.10.11"""""\nb.c.d = 0.5',
        "a = '''1.2.3.4.5\n\"6.7.8.9.10.11'''\nb.c.d = 0.5",
        'a = "\\"1.2.3.4.5.6.7.8.9.10.11"',
        "a = {b.c = 0.1, d.e = 0.2, f.g = 0.3, h.i = 0.4, j.k = 0.5}",
        "a.b.c.d.e.f.g.h.i = 1",
    ],
)
def test_dots_that_are_not_those_of_a_long_key(text: str) -> None:
    assert strict_toml.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.b.c.d.e.f.g.h.i.j = 1", "line 1 has a key of more than 9 parts"),
        ('b = 1\n[a.b."c.d".e.f.g.h.i.j.k]', "line 2 has a key of more than 9 parts"),
        ("a = {b.b.b.b.b.b.b.b.b.b = 1}", "line 1 has a key of more than 9 parts"),
        ("a = 9223372036854775808", "an integer has more than 64 bits"),
        ("a = [[{b = 0x8000000000000000}]]", "an integer has more than 64 bits"),
    ],
)
def test_toml_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strict_toml.parse(text)


def test_nothing_is_written_that_could_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = ("x" * 9000,) * 500
    parts = (torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), ("cat",), ("dog",))
    direction = Direction(*parts, (long, long), "a", "b")
    with pytest.raises(OutputFormatError, match="the texts of a direction have over 4 MB"):
        direction.save(tmp_path / "a.safetensors")
    monkeypatch.setattr("zerocon.model.tensor_file.LARGEST_FILE", 4_000_030)
    with pytest.raises(OutputFormatError, match="a direction in a file has at most 0 MB"):
        Direction(*parts, (("a",), ("b",)), "a", "b").save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_an_inversion_that_would_be_too_large_is_refused_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_models: None
) -> None:
    monkeypatch.chdir(tmp_path)
    gradient(64, 64).save("cat.png")
    monkeypatch.setattr("zerocon.model.tensor_file.LARGEST_FILE", 4_100_000)
    monkeypatch.setattr("zerocon.invert", lambda *_, **__: pytest.fail("inverted"))
    command = ["invert", "cat.png", "--model", "mini", "--caption", "a cat", "--steps", "99"]
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "an inversion in a file has at most 0 MB" in done.stderr
    assert done.stderr.endswith("use fewer steps or a smaller size [ZC-E033]\n")
