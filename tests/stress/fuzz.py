"""Reads mutated images, writes them again: ``python -m stress.fuzz FIRST LAST``, a line per seed.

The process ends itself, by a signal, at an image that takes too long; the line then has its seed.
"""

from __future__ import annotations

import io
import random
import resource
import signal
import struct
import sys
import zlib
from functools import cache

import numpy as np
from bombs import with_xmp
from image_cases import LOCATED_XMP
from PIL import Image

from zerocon.errors import InputError
from zerocon.image.formats import NAMED
from zerocon.image.metadata import Provenance
from zerocon.image.reading import Photograph

SECONDS, BYTES = 5, 1_500_000_000
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)


@cache
def originals() -> tuple[bytes, ...]:
    """Small files of all formats and modes, with metadata."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (24, 40, 4), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    exif.get_ifd(0x8825)[2] = (10.0, 20.0, 30.0)
    tags, files = exif.tobytes(), []
    for kind, modes in {
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB", "CMYK"),
        "WEBP": ("RGB", "RGBA"), "TIFF": ("1", "L", "P", "RGB", "CMYK", "I;16"),
        "AVIF": ("L", "RGBA"), "GIF": ("P",), "BMP": ("L", "RGB"), "PPM": ("1", "L", "RGB"),
        "JPEG2000": ("L", "RGB"),
    }.items():  # fmt: skip
        options = {"exif": tags} if kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF") else {}
        for mode in modes:
            deep = np.asarray(image.convert("L")).astype(np.uint16)
            one = Image.fromarray(deep) if mode == "I;16" else image.convert("RGB").convert(mode)
            extra = [{}] + [{"progressive": True}] * (kind == "JPEG")
            extra += [{"compression": "tiff_lzw"}] * (kind == "TIFF" and mode == "RGB")
            extra += [{"lossless": True}] * (kind == "WEBP")
            for more in extra:
                kept = {} if "compression" in more else options  # libtiff writes no EXIF
                one.save(file := io.BytesIO(), kind, **kept, **more)
                files.append(file.getvalue())
        if kind in ("JPEG", "WEBP", "AVIF"):
            image.convert("RGB").save(file := io.BytesIO(), kind, xmp=LOCATED_XMP)
            files.append(file.getvalue())
    files.append(with_xmp(b'<exif:GPSLatitude a="1">9</exif:GPSLatitude>'))
    return (*files, *heic())


def heic() -> tuple[bytes, ...]:
    """A HEIC file, if pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return ()
    image = Image.effect_noise((40, 24), 60).convert("RGB")
    pillow_heif.from_pillow(image).save(file := io.BytesIO())
    return (file.getvalue(),)


def mutated(seed: int) -> bytes:
    """An image with one to eight changes; of PNG chunks mostly with right checksums."""
    draw = random.Random(seed)
    data = bytearray(draw.choice(originals()))
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        place = min(int(draw.expovariate(4 / len(data))), len(data) - 1)
        match draw.randrange(7):
            case 0:
                data[place] ^= 1 << draw.randrange(8)
            case 1:
                data[place] = draw.randrange(256)
            case 2:
                form = draw.choice(("<H", ">H", "<I", ">I"))
                size = struct.calcsize(form)
                number = draw.choice(NUMBERS) % (1 << 8 * size)
                data[place : place + size] = struct.pack(form, number)
            case 3:
                del data[place : place + draw.choice((1, 2, 4, 16, 200))]
            case 4:
                part = data[place : place + draw.choice((1, 4, 12, 64, 500))]
                data[place:place] = part * draw.choice((1, 2, 50, 2000))
            case 5:
                del data[max(place, 16) :]
            case 6:
                other = draw.choice(originals())
                start = draw.randrange(len(other))
                data[place : place + 32] = other[start : start + draw.choice((4, 32, 500))]
        if not data:
            return b""
    return checked(bytes(data)) if draw.random() < 0.8 else bytes(data)


def checked(data: bytes) -> bytes:
    """A PNG with right checksums; other data unchanged."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data
    result, place = data[:8], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        body = data[place + 4 : place + 8 + length]
        result += data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return result + data[place:]


def main(first: int, last: int) -> None:
    """Read the images of these seeds, ``last`` excluded, and write and read those that can be."""
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    originals()
    for seed in range(first, last):
        print(seed, end=" ", flush=True)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)  # no handler: the signal ends the process
        try:
            photograph = Photograph.read(mutated(seed))
            format = NAMED.get(photograph.kind, NAMED["PNG"])
            Photograph.read(photograph.encode(photograph.image, format, Provenance("{}")))
            print("read", flush=True)
        except InputError as error:
            print(error.id, flush=True)
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
