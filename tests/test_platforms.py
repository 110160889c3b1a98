"""What differs between systems, as far as Linux can test it; see docs/platforms.md."""

from __future__ import annotations

import errno
import os
import sys
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from click.testing import CliRunner
from conftest import gradient

from zerocon.batch.job import Job, require_distinct
from zerocon.cli import config_file, main, stdio
from zerocon.errors import CommandError
from zerocon.image.naming import output_name, slug
from zerocon.storage.atomic import writing
from zerocon.storage.bounded import read_text

ACCENT = "caf\u00e9"  # one character or two, which macOS treats as one name


def job(image: str, name: str) -> Job:
    return Job(Path(image), PurePosixPath(name), {"to": "dog"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cat.png", "cat.png"),
        ("CAT/dog.png", "cat/dog.png"),
        (f"{ACCENT}.png", f"{unicodedata.normalize('NFD', ACCENT)}.png"),
        (f"{ACCENT.upper()}.png", f"{unicodedata.normalize('NFD', ACCENT)}.png"),
        ("stra\u00dfe.png", "STRASSE.png"),
    ],
)
def test_names_that_are_one_file_elsewhere(one: str, other: str) -> None:
    with pytest.raises(CommandError, match="both be saved as"):
        require_distinct([job("a.png", one), job("b.png", other)])
    require_distinct([job("a.png", one), job("b.png", f"x{other}")])


@pytest.mark.parametrize(
    "text", ['a <b>: "c" / d | e \\ f? *', "CON", "\x1b[2J", "..", ACCENT, "a\u202eb", "x" * 500]
)
def test_the_part_of_a_name_from_a_prompt_is_a_name_everywhere(text: str) -> None:
    name = slug(text)
    assert len(name) <= 40 and not set(name) & set('<>:"/\\|?*. \x1b\u202e')
    result = output_name(Path("cat.png"), text)
    assert PureWindowsPath(str(result)).name == str(result)


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("cat.png", True),
        (f"{ACCENT}.png", True),
        ("console.png", True),
        ("CON.png", False),
        ("con", False),
        ("NUL.tar.gz", False),
        ("com1.png", False),
        ("a:b.png", False),
        ("a?.png", False),
        ("cat.png.", False),
        ("cat.png ", False),
    ],
)
def test_names_that_windows_reserves(name: str, valid: bool) -> None:
    paths = pytest.importorskip("zerocon.storage.paths")
    assert (paths.name_fault(name) is None) == valid


@pytest.mark.parametrize("name", ["C:/a.png", "C:a.png", "\\\\host\\share\\a.png", "..\\a.png"])
def test_paths_that_lead_out_on_windows(name: str) -> None:
    paths = pytest.importorskip("zerocon.storage.paths")
    assert PureWindowsPath(name).anchor or ".." in PureWindowsPath(name).parts
    assert paths.result_fault(name)


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_a_file_system_without_hard_links(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", link)
    with writing(tmp_path / "a") as file:
        file.write_bytes(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    with pytest.raises(FileExistsError), writing(tmp_path / "a") as file:
        file.write_bytes(b"other")
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_without_the_modules_and_flags_of_posix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("fcntl", "grp", "pwd"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(os, "O_NONBLOCK")
    monkeypatch.setattr(config_file, "_is_posix", lambda: False)
    file = tmp_path / "zerocon.toml"
    file.write_bytes(b'\xef\xbb\xbfmodel = "mini"\r\nsteps = 2\r\n')
    file.chmod(0o666)  # modes say nothing there
    assert read_text(file, longest=99).startswith('model = "mini"\n')
    monkeypatch.chdir(tmp_path)
    assert config_file.read().values == {"model": "mini", "steps": "2"}
    assert stdio._is_open(1)


def test_without_colors_or_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gradient(32, 32).save("cat.png")
    done = CliRunner().invoke(main, ["edit", "gone.png", "--to", "dog"], color=True)
    assert "\x1b" not in done.output and done.exit_code == 2
