"""Files with the suffix of an image that are none, and unusual file names."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from zerocon.world import render, sample

NAMES = (
    "katt på bänk", "кошка", "猫", "ねこ", "고양이", "قطة", "חתול", "बिल्ली", "แมว",
    "\U0001f600\u200d\u2b1b", "e\u0301te\u0301", "İıŞß", "a  b", " first", "new\nline", "tab\tbed",
    "quo'te\"s", "a\\b", "-rf", "--to", "$HOME", "`id`", "%s%n", "{to}", "*?[x]", "a;b&c|d", "CON",
    "con.tained", "x" * 180, "猫" * 60, "\u202egnp", "a\u200bb",
)  # fmt: skip
TOO_LONG = "y" * 250
NOT_TEXT = (b"caf\xe9", b"\xff\xfe", b"a\x80b")


def write_all(folder: Path, rng: random.Random) -> tuple[set[str], set[str]]:
    """Write unreadable images and unusual but readable ones; the names of both."""
    png, jpeg = _encoded("PNG"), _encoded("JPEG")
    bad = dict(_damaged(rng, png, "png")) | dict(_damaged(rng, jpeg, "jpg")) | dict(_others())
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    odd = dict(_odd(png, jpeg))
    for name, data in odd.items():
        (folder / name).write_bytes(data)
    for name, target in {"nowhere": "gone", "itself": "itself.png", "zero": "/dev/zero"}.items():
        (folder / f"{name}.png").symlink_to(target)
    os.mkfifo(folder / "pipe.png")
    with (folder / "huge.png").open("wb") as file:
        file.truncate(1 << 40)  # a sparse file of a terabyte, which takes no space
    (folder / "folder.png").mkdir()
    links = {"nowhere.png", "itself.png", "zero.png", "pipe.png", "huge.png"}
    return {*bad, *links}, {*odd}


def _encoded(kind: str, **options: object) -> bytes:
    """A drawn scene in the bytes of a file."""
    file = BytesIO()
    render(sample(0), 128).save(file, kind, **options)
    return file.getvalue()


def _damaged(rng: random.Random, data: bytes, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Truncated anywhere before the last tenth, or random bytes after the signature."""
    for number in range(30):
        yield f"truncated{number}.{suffix}", data[: rng.randrange(1, len(data) * 9 // 10)]
    for number in range(15):
        size = rng.randrange(8, 4000)
        yield f"noise{number}.{suffix}", data[:4] + rng.randbytes(size)


def _others() -> Iterator[tuple[str, bytes]]:
    yield "empty.png", b""
    yield "text.jpg", b"not an image\n"
    yield "page.png", b"<!doctype html><title>404</title>"
    yield "drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    yield "zeros.png", bytes(100_000)
    yield "archive.jpg", b"PK\x03\x04" + bytes(500)
    yield "bomb.png", _bomb(60_000)
    yield "largest.png", _bomb(2**31 - 1)
    yield "one.png", _encoded_small((1, 1))
    yield "line.png", _encoded_small((1000, 1))
    frames = [render(sample(seed), 64) for seed in (0, 2)]
    animated = BytesIO()
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    yield "animated.gif", animated.getvalue()
    pages = BytesIO()
    frames[0].save(pages, "TIFF", save_all=True, append_images=frames[1:])
    yield "pages.tif", pages.getvalue()


def _odd(png: bytes, jpeg: bytes) -> Iterator[tuple[str, bytes]]:
    """Readable images with a wrong suffix, unusual metadata or trailing bytes."""
    yield "png.jpg", png
    yield "jpeg.png", jpeg
    cmyk = BytesIO()
    render(sample(2), 128).convert("CMYK").save(cmyk, "JPEG")
    yield "cmyk.jpg", cmyk.getvalue()
    yield "exif.jpg", _encoded("JPEG", exif=b"Exif\0\0" + b"\xff" * 300)
    chunks = PngInfo()
    chunks.add_text("note", "x" * 500_000)
    yield "comment.png", _encoded("PNG", pnginfo=chunks)
    yield "more.png", png + b"bytes that another program has appended"


def _encoded_small(size: tuple[int, int]) -> bytes:
    file = BytesIO()
    Image.new("RGB", size).save(file, "PNG")
    return file.getvalue()


def _bomb(side: int) -> bytes:
    """A PNG of a hundred bytes whose header claims ``side`` pixels a side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")
