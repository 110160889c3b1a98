"""Atomic writes."""

import os

import pytest

from zerocon.storage.atomic import writing


def leftovers(folder):
    return [p.name for p in folder.iterdir() if p.name.endswith(".part")]


def test_a_file_appears_complete_and_with_the_usual_permissions(tmp_path):
    path = tmp_path / "out.txt"
    with writing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half" and not leftovers(tmp_path)
    plain = tmp_path / "plain.txt"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "out.txt"
    path.write_text("before")
    with pytest.raises(error), writing(path, overwrite=True) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "before" and not leftovers(tmp_path)


def test_an_existing_file_is_kept(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("before")
    with pytest.raises(FileExistsError, match="overwrite"), writing(path):
        raise AssertionError("nothing should be written")
    with writing(path, overwrite=True) as temporary:
        temporary.write_text("after")
    assert path.read_text() == "after"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_another_program_wrote_meanwhile_is_kept(tmp_path, monkeypatch, links):
    if not links:

        def refuse(*_):
            raise PermissionError("no hard links on this file system")

        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "out.txt"
    with pytest.raises(FileExistsError), writing(path) as temporary:
        temporary.write_text("ours")
        path.write_text("theirs")
    assert path.read_text() == "theirs" and not leftovers(tmp_path)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), writing(tmp_path / "nowhere" / "x"):
        pass
