"""Error ids, their classes, exit codes, and the page that explains them."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from zerocon import errors
from zerocon.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "errors.md"


def test_the_page_is_generated_from_the_docstrings() -> None:
    done = CliRunner().invoke(main, ["errors"])
    assert (done.exit_code, done.stdout) == (0, PAGE.read_text())


def test_every_error_has_a_unique_id_a_title_and_advice() -> None:
    classes = {
        each for each in vars(errors).values() if isinstance(each, type) and "id" in vars(each)
    }
    assert len(classes) == len(errors.ERRORS)
    for name, kind in errors.ERRORS.items():
        assert re.fullmatch(r"ZC-E\d{3}", name)
        title, _, advice = (kind.__doc__ or "").partition("\n\n")
        assert title.endswith(".") and "\n" not in title and advice.strip()


@pytest.mark.parametrize("name", ["ZC-E020", "zc-e020", "E020", "e020", "020", "20", "ZC-020"])
def test_one_error_is_explained(name: str) -> None:
    section = CliRunner().invoke(main, ["errors", name]).stdout
    assert section.startswith("## ZC-E020: The image cannot be read\n")
    assert section in PAGE.read_text()
    listed = json.loads(CliRunner().invoke(main, ["errors", name, "--format", "json"]).stdout)
    (only,) = listed["errors"]
    assert (only["id"], only["exit_code"]) == ("ZC-E020", 2)


@pytest.mark.parametrize("name", ["999", "E0200", "ZC", "image", "E"])
def test_what_is_no_id_is_refused(name: str) -> None:
    done = CliRunner().invoke(main, ["errors", name])
    assert (done.exit_code, done.stdout) == (2, "") and f'no error "{name}"' in done.stderr


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.PromptError("a"), errors.PromptError),
        (errors.MissingFolderError("a"), errors.MissingFolderError),
        (OSError(errno.ENOSPC, "a"), errors.NoSpaceError),
        (PermissionError(errno.EACCES, "a"), errors.NotWritableError),
        (OSError(errno.EIO, "a"), errors.ZeroconError),
        (OSError("without a number"), errors.ZeroconError),
        (ValueError("a"), errors.ZeroconError),
        (MemoryError(), errors.OutOfMemoryError),
        (OSError(errno.ENOMEM, "a"), errors.OutOfMemoryError),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), errors.OutOfMemoryError),
        (RuntimeError("MPS backend out of memory"), errors.OutOfMemoryError),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (TypeError("a bug"), None),
    ],
)
def test_any_exception_is_classified(error: Exception, kind: type | None) -> None:
    assert errors.classify(error) is kind


def test_torch_out_of_memory_on_a_cpu_is_recognized() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert errors.classify(caught.value) is errors.OutOfMemoryError


def test_base_classes_and_exit_codes() -> None:
    for kind in errors.ERRORS.values():
        assert (kind.code == 3) == issubclass(kind, errors.MissingError)
        assert isinstance(kind.code, errors.ExitCode)
    for kind, base in [
        (errors.PromptError, ValueError),
        (errors.OutputExistsError, ValueError),
        (errors.OutputExistsError, FileExistsError),
        (errors.MissingFolderError, ValueError),
        (errors.MissingFolderError, FileNotFoundError),
        (errors.MissingError, RuntimeError),
    ]:
        assert issubclass(kind, base)


def test_exit_codes_are_one_table() -> None:
    values = {"OK": 0, "CHECK_FAILED": 1, "USAGE": 2, "MISSING": 3, "INTERRUPTED": 130}
    assert {each.name: each.value for each in errors.ExitCode} == values
    table = errors.ExitCode.table()
    assert table in PAGE.read_text()
    for each in errors.ExitCode:
        assert f"| {each} | {each.meaning} |" in table
