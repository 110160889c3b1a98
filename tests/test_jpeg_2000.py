"""JPEG 2000 files of which tiles are missing: refused, and read with ``lenient``.

All files are an image of 256 x 256 pixels in four tiles, numbered by rows; levels are kept exactly.
"""

from __future__ import annotations

import json
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from zerocon.cli import main
from zerocon.errors import ImageTooLargeError, InputError, UnreadableImageError
from zerocon.image.codestream import gaps
from zerocon.image.reading import UNREAD_TILES, Photograph, peek

SIDE, TILE = 256, 128
END = b"\xff\xd9"
HINT = "; --lenient reads what is there"


def levels() -> NDArray[np.uint8]:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    return np.stack([x, y, 255 - x], -1).astype(np.uint8)


def encoded(**options: object) -> bytes:
    image = Image.fromarray(levels())
    image.save(file := BytesIO(), "JPEG2000", **{"tile_size": (TILE, TILE), **options})
    return file.getvalue()


def parts_of(data: bytes) -> list[tuple[int, int]]:
    """Start and end of every tile-part."""
    place, found = data.index(b"\xff\x90"), []
    while data[place : place + 2] == b"\xff\x90":
        (length,) = struct.unpack_from(">I", data, place + 6)
        found.append((place, place + length))
        place += length
    assert data[place:] == END
    return found


def without(data: bytes, *tiles: int) -> bytes:
    """A file of one tile-part per tile, without those of some tiles."""
    for start, end in reversed([parts_of(data)[tile] for tile in tiles]):
        data = data[:start] + data[end:]
    return data


def halved(count: int, missing: tuple[int, int] | None = None) -> bytes:
    """Every tile in two tile-parts, first all first ones, then all second ones.

    Args:
        count: Number of tile-parts that their headers say; 0 is not said.
        missing: Tile and number of a tile-part that is left out.
    """
    data = encoded(no_jp2=True, plt=True, num_resolutions=4)
    halves = []
    for tile, (start, end) in enumerate(parts_of(data)):
        packets = data.index(b"\xff\x93", start) + 2
        lengths = data[data.index(b"\xff\x58", start) + 5 : packets - 2]
        middle = packets + sum(lengths[:2])  # each below 128, in one byte
        assert max(lengths) < 128
        for number, content in enumerate((data[packets:middle], data[middle:end])):
            head = struct.pack(">HHHIBB", 0xFF90, 10, tile, 14 + len(content), number, count)
            if (tile, number) != missing:
                halves.append((number, tile, head + b"\xff\x93" + content))
    return data[: parts_of(data)[0][0]] + b"".join(part for *_, part in sorted(halves)) + END


def tiles_of(photograph: Photograph) -> list[str]:
    """Of every tile: exact, black or other."""
    values, expected = np.asarray(photograph.image), levels()
    result = []
    for top in (0, TILE):
        for left in (0, TILE):
            part = np.s_[top : top + TILE, left : left + TILE]
            exact = np.array_equal(values[part], expected[part])
            result.append("exact" if exact else "other" if values[part].any() else "black")
    return result


@pytest.mark.parametrize("no_jp2", [True, False], ids=["codestream", "JP2"])
@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ((0,), "1 of 4 tiles is missing or incomplete"),
        ((2,), "1 of 4 tiles is missing or incomplete"),
        ((3,), "1 of 4 tiles is missing or incomplete"),
        ((0, 3), "2 of 4 tiles are missing or incomplete"),
    ],
)
def test_a_file_without_some_tiles(no_jp2: bool, missing: tuple[int, ...], line: str) -> None:
    data = without(encoded(no_jp2=no_jp2), *missing)
    with pytest.raises(UnreadableImageError, match=line + HINT + "$"):
        Photograph.read(data)
    photograph = Photograph.read(data, lenient=True)
    assert tiles_of(photograph) == ["black" if i in missing else "exact" for i in range(4)]
    assert photograph.warnings == photograph.truncation == (f"{line}: {UNREAD_TILES}",)


def test_a_file_without_any_tile() -> None:
    data = without(encoded(), 0, 1, 2, 3)
    for lenient in (False, True):
        with pytest.raises(UnreadableImageError) as caught:
            Photograph.read(data, lenient=lenient)
        assert "--lenient" not in str(caught.value)


@pytest.mark.parametrize("no_jp2", [True, False], ids=["codestream", "JP2"])
def test_a_file_that_ends_early(no_jp2: bool) -> None:
    whole = encoded(no_jp2=no_jp2)
    ends = [end for _, end in parts_of(whole)]
    for kept in range(20, len(whole) - 2, 9):
        data = whole[:kept]
        with pytest.raises(InputError):
            Photograph.read(data)
        complete = sum(end <= kept for end in ends)
        if complete:
            photograph = Photograph.read(data, lenient=True)
            assert tiles_of(photograph) == ["exact"] * complete + ["black"] * (4 - complete)
        else:
            with pytest.raises(InputError):
                Photograph.read(data, lenient=True)


def test_a_file_of_which_the_last_marker_is_missing() -> None:
    data = encoded()[:-2]
    with pytest.raises(UnreadableImageError, match=HINT):
        Photograph.read(data)
    photograph = Photograph.read(data, lenient=True)
    assert photograph.warnings == ("the end of the file is missing, but no tile",)
    assert tiles_of(photograph) == ["exact"] * 4


def test_one_tile_that_ends_early() -> None:
    data = encoded(tile_size=(SIDE, SIDE))[:-40]
    for lenient in (False, True):
        with pytest.raises(UnreadableImageError, match=r"its only tile is incomplete$"):
            Photograph.read(data, lenient=lenient)


@pytest.mark.parametrize("count", [0, 2])
def test_whole_tiles_in_several_parts(count: int) -> None:
    photograph = Photograph.read(halved(count))
    assert tiles_of(photograph) == ["exact"] * 4 and photograph.warnings == ()


@pytest.mark.parametrize(
    ("missing", "tile"), [((1, 1), "other"), ((3, 1), "other"), ((1, 0), "black")]
)
def test_a_tile_without_one_of_its_parts(missing: tuple[int, int], tile: str) -> None:
    data = halved(2, missing)
    with pytest.raises(UnreadableImageError, match="1 of 4 tiles is missing or incomplete"):
        Photograph.read(data)
    photograph = Photograph.read(data, lenient=True)
    assert tiles_of(photograph) == [tile if i == missing[0] else "exact" for i in range(4)]


def test_complete_files_of_all_layouts() -> None:
    last, _ = parts_of(whole := encoded())[-1]
    layouts = {
        "without the last length": whole[: last + 6] + bytes(4) + whole[last + 10 :],
        "tiles that do not divide the image": encoded(tile_size=(100, 90)),
        "offsets": encoded(tile_size=(100, 100), tile_offset=(20, 30), offset=(40, 50)),
        "one tile": encoded(tile_size=(SIDE, SIDE)),
        "a box after the codestream": whole + struct.pack(">I4s", 12, b"free") + bytes(4),
    }
    for name, data in layouts.items():
        assert gaps(data) is None, name
        photograph = Photograph.read(data)
        assert tiles_of(photograph) == ["exact"] * 4 and photograph.warnings == (), name


def test_boxes_after_the_codestream_are_kept() -> None:
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    box = struct.pack(">I4s", 8 + len(packet), b"xml ") + packet
    data = without(encoded(), 1)
    start = data.index(b"jp2c") - 4
    data = data[:start] + struct.pack(">I", len(data) - start) + data[start + 4 :] + box
    found = gaps(data)
    assert found is not None and found.readable(data) == data


def test_a_file_of_endless_tile_parts_is_refused() -> None:
    data = encoded(no_jp2=True)
    place, _ = parts_of(data)[0]
    part = struct.pack(">HHHIBB", 0xFF90, 10, 0, 14, 0, 0) + b"\xff\x93"
    with pytest.raises(ImageTooLargeError, match="100,000 tile-parts"):
        Photograph.read(data[:place] + part * 100_001 + END)


def test_the_command_says_which_tiles_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_models: None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cut.jp2").write_bytes(without(encoded(), 3))
    assert peek(Path("cut.jp2")) == (SIDE, SIDE)
    command = ["edit", "cut.jp2", "--to", "a dog", "--caption", "a cat", "--model", "mini"]
    command += ["--fast", "--steps", "1", "--format", "json"]
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert f"is missing or incomplete{HINT} [ZC-E020]" in done.stderr
    done = CliRunner().invoke(main, [*command, "--lenient"])
    line = f"1 of 4 tiles is missing or incomplete: {UNREAD_TILES}"
    assert done.exit_code == 0 and line in json.loads(done.stdout)["warnings"]
