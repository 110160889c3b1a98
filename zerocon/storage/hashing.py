"""Hashes of content: of an image's pixels, of a file's bytes."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

CHUNK = 1 << 20  # bytes read at a time


def image_hash(image: Image) -> str:
    """BLAKE2b of an image's pixels, size and mode, not of its file: 32 hexadecimal digits."""
    digest = blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.hexdigest()


def hash_of(file: Path) -> str | None:
    """``file_hash``; None for anything that is no readable file."""
    try:
        return file_hash(file) if file.is_file() else None
    except OSError:
        return None


def file_hash(file: Path) -> str:
    """BLAKE2b of a file's bytes: 32 hexadecimal digits."""
    digest = blake2b(digest_size=16)
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
