"""Private files stay private, and libraries print nothing of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cache import inversion_of

from zerocon.batch import signing
from zerocon.cache import Cache
from zerocon.errors import InputError
from zerocon.image import libtiff
from zerocon.image.reading import Photograph
from zerocon.model import fingerprint

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@posix
def test_files_of_the_cache_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        cache = Cache(tmp_path / "new")
        cache.keep("a", inversion_of(4))
    finally:
        os.umask(before)
    assert mode(cache.folder) == 0o700
    assert [mode(entry.path) for entry in cache.entries()] == [0o600]


@posix
@pytest.mark.parametrize("wide", [0o755, 0o770, 0o777, 0o1777])
def test_wider_rights_are_taken_away_and_said(tmp_path: Path, wide: int) -> None:
    folder, lines = tmp_path / "cache", list[str]()
    Cache(folder).keep("a", inversion_of(4))
    entry = next(folder.iterdir())
    folder.chmod(wide)
    entry.chmod(0o666)
    cache = Cache(folder, on_warning=lines.append)
    assert cache.find("a") is not None
    assert (mode(folder), mode(entry)) == (0o700, 0o600)
    assert len(lines) == 1 and f"{folder} was open to other users" in lines[0]
    assert Cache(folder, on_warning=lines.append).find("a") is not None and len(lines) == 1


@posix
def test_a_directory_that_stays_open_to_others_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, lines = tmp_path / "cache", list[str]()
    Cache(folder).keep("a", inversion_of(4))
    folder.chmod(0o777)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    cache = Cache(folder, on_warning=lines.append)
    assert cache.find("a") is None
    cache.keep("b", inversion_of(4))
    assert [path.stem for path in folder.iterdir()] == ["a"]
    assert len(lines) == 1 and lines[0].startswith("inversions are not cached: ")


@posix
def test_a_directory_of_another_user_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, lines = tmp_path / "cache", list[str]()
    Cache(folder).keep("a", inversion_of(4))
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert Cache(folder, on_warning=lines.append).find("a") is None
    assert lines == [f"inversions are not cached: {folder} is another user's"]


@posix
@pytest.mark.parametrize("spoiled", [0o666, 0o620, "owner", "link to nothing", "directory"])
def test_notes_that_another_user_can_have_written_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoiled: int | str
) -> None:
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    right = fingerprint.weights_hash(weights)
    notes = tmp_path / "cache" / fingerprint.CACHE
    assert mode(notes) == 0o600
    text = notes.read_text()
    (digest,) = [each[2] for each in json.loads(text).values()]
    notes.write_text(text.replace(digest, "0" * 32))
    assert fingerprint.weights_hash(weights) != right  # what this user's own notes say is believed
    if isinstance(spoiled, int):
        notes.chmod(spoiled)
    elif spoiled == "owner":
        monkeypatch.setattr(os, "getuid", lambda: notes.stat().st_uid + 1)
    else:
        notes.unlink()
        notes.mkdir() if spoiled == "directory" else notes.symlink_to("nothing")
    assert fingerprint.weights_hash(weights) == right


@posix
def test_the_key_of_signatures_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "cache"))
    signature = signing.sign("text")
    key = fingerprint.cache_folder() / signing.FILE
    assert mode(key) == 0o600 and signing.verify("text", signature)
    assert not signing.verify("other", signature) and not signing.verify("text", "0" * 32)
    key.chmod(0o644)  # another user may have read it
    assert not signing.verify("text", signature)
    assert signing.verify("text", signing.sign("text")) and mode(key) == 0o600
    assert not signing.verify("text", signature)
    key.unlink()
    key.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(b"k" * 32)
    assert not signing.verify("text", signature)
    assert (tmp_path / "elsewhere").read_bytes() == b"k" * 32


def damaged_tiff() -> bytes:
    file = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "TIFF", compression="tiff_lzw")
    data = bytearray(file.getvalue())
    for place in range(100, 400):
        data[place] ^= 0x5A
    return bytes(data)


PROGRAM = """
import sys
from io import BytesIO
from zerocon.image.reading import Photograph
try:
    Photograph.read(sys.argv[1])
except ValueError as error:
    print("refused", type(error).__name__)
"""


def test_libtiff_prints_nothing(tmp_path: Path) -> None:
    (tmp_path / "damaged.tif").write_bytes(damaged_tiff())
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "damaged.tif")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("refused UnreadableImageError\n", "")
    plain = f"from PIL import Image\nImage.open({str(tmp_path / 'damaged.tif')!r}).load()"
    noisy = subprocess.run([sys.executable, "-c", plain], capture_output=True, text=True)
    assert "tempfile.tif: " in noisy.stderr, "the file is not one that libtiff prints about"


def test_libtiff_prints_nothing_where_its_handlers_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(libtiff, "_without_handlers", lambda: False)
    with libtiff.quiet_libtiff():
        os.write(2, b"a line of the library\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
    with pytest.raises(InputError):
        Photograph.read(damaged_tiff())
