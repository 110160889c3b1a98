"""Tiles that a JPEG 2000 lacks: its decoder leaves them black and reports nothing.

Only the headers of the tile-parts are read (ISO/IEC 15444-1, A.4.2), not their packets: an image
that was shortened to fewer packets in every tile is a valid one of lower quality.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from struct import pack, unpack_from

from zerocon.image.bounds import (
    END_OF_CODESTREAM,
    START_OF_TILE,
    TilePart,
    boxes,
    codestream_segments,
    is_codestream,
    tile_parts,
)

BOX = 8  # bytes before the content of a box


@dataclass(frozen=True)
class TileGaps:
    """What a codestream lacks.

    Attributes:
        tiles: Number of tiles of the image.
        incomplete: How many of them have no tile-part, or not all.
        start: Place of the codestream.
        end: Its end, as the box says that contains it, or the end of the data.
        body: Place of the first tile-part.
        parts: The complete tile-parts, in the order of the file.
    """

    tiles: int
    incomplete: int
    start: int
    end: int
    body: int
    parts: tuple[TilePart, ...]

    @property
    def line(self) -> str:
        """What is missing, as an error or a warning."""
        if self.incomplete == 0:
            return "the end of the file is missing, but no tile"
        if self.tiles == 1:
            return "its only tile is incomplete"
        verb = "is" if self.incomplete == 1 else "are"
        return f"{self.incomplete} of {self.tiles} tiles {verb} missing or incomplete"

    def readable(self, data: bytes) -> bytes:
        """A file of the complete tile-parts, which decoders read."""
        header = data[self.start : self.body]
        stream = b"".join([header, *(data[each.start : each.end] for each in self.parts)])
        stream += END_OF_CODESTREAM
        if self.start == 0:
            return stream
        box = data.rindex(b"jp2c", 0, self.start) - 4
        return data[:box] + pack(">I4s", BOX + len(stream), b"jp2c") + stream + data[self.end :]


def gaps(data: bytes) -> TileGaps | None:
    """What a JPEG 2000 lacks; None for a complete one, one without a tile, and other formats."""
    start, end = _codestream(data)
    if not is_codestream(data, start):
        return None
    *_, (marker, place, _) = codestream_segments(data, start)
    body = place - 4
    if marker != START_OF_TILE:
        return None
    tiles, parts, stop = _tiles(data, start), list[TilePart](), body
    have, wanted = Counter[int](), Counter[int]()
    for part in tile_parts(data, body, end):
        stop = part.end
        # a decoder reads the tile-parts of a tile in their order only
        if stop <= end and part.tile < tiles and part.number == have[part.tile]:
            parts.append(part)
            have[part.tile] += 1
            wanted[part.tile] = max(wanted[part.tile], part.count)
    whole = sum(have[tile] >= wanted[tile] for tile in have)
    if whole == tiles and data[stop : stop + 2] == END_OF_CODESTREAM:
        return None
    return TileGaps(tiles, tiles - whole, start, end, body, tuple(parts))


def _codestream(data: bytes) -> tuple[int, int]:
    """Start and end of the codestream, which is the file or a box of it."""
    if data[4:8] == b"jP  ":
        for name, start, end in boxes(data, 0, len(data)):
            if name == b"jp2c":
                return start, end
    return 0, len(data)


def _tiles(data: bytes, start: int) -> int:
    """Number of tiles (ISO/IEC 15444-1, B-5)."""
    sizes: tuple[int, ...] = unpack_from(">8I", data, start + 8)
    right, lower, _, _, width, height, left, upper = sizes
    across, down = (-(-(right - left) // max(width, 1)), -(-(lower - upper) // max(height, 1)))
    return max(across, 0) * max(down, 0)
