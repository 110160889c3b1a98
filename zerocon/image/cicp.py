"""Color spaces that files state without an ICC profile, as ICC profiles.

Code points of primaries and transfer functions (ITU-T H.273) are in PNG's cICP chunk and in the
``colr`` box of AVIF and HEIC; PNG's gAMA and cHRM chunks have numbers. Each becomes an ICC profile
of primaries and tone curves, which converts colors as ``zerocon.image.color`` does and is written
with the edit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from struct import iter_unpack, pack, unpack_from
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zerocon.errors import ImageFormatError
from zerocon.image.bounds import boxes, png_chunks

Point: TypeAlias = tuple[float, float]  # chromaticity x, y
Curve: TypeAlias = tuple[float, ...]  # parameters of ICC.1:2022, 10.18; one is a power

D65: Point = (0.3127, 0.3290)
C: Point = (0.310, 0.316)
DCI: Point = (0.314, 0.351)
# ITU-T H.273, table 2: red, green, blue, white
PRIMARIES: dict[int, tuple[Point, Point, Point, Point]] = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), D65),  # BT.709, sRGB
    4: ((0.670, 0.330), (0.210, 0.710), (0.140, 0.080), C),  # BT.470 M
    5: ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060), D65),  # BT.470 BG
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),  # BT.601
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),  # SMPTE 240M
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),  # BT.2020
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), DCI),  # DCI-P3
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),  # Display P3
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), D65),  # EBU 3213
}
SRGB: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
ALPHA, BETA = 1.09929682680944, 0.018053968510807
BT709: Curve = (1 / 0.45, 1 / ALPHA, (ALPHA - 1) / ALPHA, 1 / 4.5, 4.5 * BETA)
# table 3, from stored value to light; 1, 6, 14 and 15 are one function
TRANSFERS: dict[int, Curve] = {
    **dict.fromkeys((1, 6, 14, 15), BT709), 4: (2.2,), 5: (2.8,), 8: (1.0,), 13: SRGB,
}  # fmt: skip
HDR = {16: "PQ", 18: "HLG"}
UNSPECIFIED = 2
CHUNKS = (b"cICP", b"iCCP", b"sRGB", b"gAMA")  # of a PNG; earlier ones decide (PNG 3, 4.3)
CLOSE = 0.001  # of chromaticities, which sRGB's are rounded to in files
GAMMA = (0.44, 0.47)  # of gAMA chunks that mean sRGB's curve: 0.45455

BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
D50 = np.array([0.9642, 1.0, 0.8249])  # XYZ of the white of ICC profiles


@dataclass(frozen=True)
class StatedColors:
    """What a file states about its colors without an ICC profile.

    Attributes:
        primaries: Red, green, blue, white; None for those of sRGB.
        curve: From stored value to light; None for that of sRGB.
        problem: Why the statement cannot be followed; the image is taken as sRGB then.
    """

    primaries: tuple[Point, Point, Point, Point] | None = None
    curve: Curve | None = None
    problem: str | None = None

    def profile(self, gray: bool) -> bytes | None:
        """An ICC profile; None for sRGB."""
        primaries = self.primaries or PRIMARIES[1]
        if self.problem or (self.curve is None and _is_srgb(primaries)):
            return None
        curve = self.curve or SRGB
        if gray and self.curve is None:
            return None  # its curve is sRGB's, and it has no other colors
        return _profile(None if gray else _colorants(*primaries), curve)


def stated_colors(image: Image.Image, data: bytes) -> StatedColors:
    """The colors that an opened file without an ICC profile states.

    Raises:
        ImageFormatError: It is HDR (PQ or HLG), or has the narrow range of video.
    """
    if image.format == "PNG":
        return _of_png(image.info, data)
    if image.format in ("AVIF", "HEIF") and "icc_profile" not in image.info:
        points = _nclx(data)
        return _of_code_points(*points) if points else StatedColors()
    return StatedColors()


def bits_per_channel(data: bytes) -> int:
    """The most that an AVIF or HEIC file states for an image in it (``pixi`` and ``av1C``)."""
    bits = [8]
    for name, start, end in _properties(data):
        if name == b"pixi" and end - start > 5:
            bits += data[start + 5 : end]
        elif name == b"av1C" and end - start > 2 and data[start + 2] & 0x40:
            bits.append(12 if data[start + 2] & 0x20 else 10)
    return max(bits)


def is_hdr(profile: bytes) -> str | None:
    """ "PQ" or "HLG" if an ICC profile states one of them (its cicp tag, ICC.1:2022, 9.2.17)."""
    count = unpack_from(">I", profile, 128)[0] if len(profile) >= 132 else 0
    for at in range(132, min(132 + 12 * min(count, 100), len(profile) - 11), 12):
        name, place = unpack_from(">4sI", profile, at)
        if name == b"cicp" and place + 12 <= len(profile):
            return HDR.get(profile[place + 9])
    return None


def refuse_hdr(name: str) -> None:
    """Raise the error of an HDR image."""
    raise ImageFormatError(
        f"it is an HDR image ({name}), which has no equivalent in sRGB; convert it to SDR with "
        "another program"
    )


def _of_png(info: Mapping[Any, Any], data: bytes) -> StatedColors:
    names = {name: start for name, start, _ in reversed(list(png_chunks(data)))}
    start = names.get(b"cICP")
    if start is not None and start + 4 <= len(data):
        return _of_code_points(data[start], data[start + 1], data[start + 3])
    if "icc_profile" in info or b"sRGB" in names:
        return StatedColors()
    gamma, points = info.get("gamma"), info.get("chromaticity")
    curve = None
    if gamma is not None and not GAMMA[0] <= gamma <= GAMMA[1]:
        if not 0.1 <= gamma <= 2:
            return StatedColors(problem=f"its gamma is {gamma:g}")
        curve = (1 / gamma,)
    if points is None:
        return StatedColors(curve=curve)
    white, red, green, blue = zip(points[0::2], points[1::2], strict=True)
    if not _is_possible((red, green, blue, white)):
        return StatedColors(problem="its primaries are no colors")
    return StatedColors((red, green, blue, white), curve)


def _of_code_points(primaries: int, transfer: int, full_range: int = 1) -> StatedColors:
    if transfer in HDR:
        refuse_hdr(HDR[transfer])
    if not full_range:
        raise ImageFormatError("its values have the narrow range of video; convert them to 0..255")
    supported = primaries in (*PRIMARIES, UNSPECIFIED), transfer in (*TRANSFERS, UNSPECIFIED)
    if not all(supported):
        what = "primaries" if not supported[0] else "transfer function"
        code = primaries if not supported[0] else transfer
        return StatedColors(problem=f"its {what} {code} (H.273) are not supported")
    curve = TRANSFERS.get(transfer, SRGB)
    return StatedColors(PRIMARIES.get(primaries), None if curve == SRGB else curve)


def _inside(data: bytes, *path: tuple[bytes, int]) -> list[tuple[bytes, int, int]]:
    """The boxes in a box, given by names from the outermost, each with bytes of its own to skip."""
    place, end = 0, len(data)
    for name, skip in path:
        inner = next((each for each in boxes(data, place, end) if each[0] == name), None)
        if inner is None:
            return []
        place, end = inner[1] + skip, inner[2]
    return list(boxes(data, place, end))


def _properties(data: bytes) -> list[tuple[bytes, int, int]]:
    """The item properties of an AVIF or HEIC file, ISO/IEC 23008-12, 9.3."""
    return _inside(data, (b"meta", 4), (b"iprp", 0), (b"ipco", 0))


def _nclx(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer function of the primary image, or else of the first that states them.

    The range does not matter: decoders return full-range values.
    """
    stated = {
        number: unpack_from(">HH", data, start + 4)
        for number, (name, start, end) in enumerate(_properties(data), 1)
        if name == b"colr" and data[start : start + 4] == b"nclx" and end - start >= 10
    }
    primary = [each for each in _primary_properties(data) if each in stated]
    return next((stated[number] for number in (*primary, *stated)), None)


def _primary_properties(data: bytes) -> list[int]:
    """Numbers, from 1, of the properties of the primary image (``pitm`` and ``ipma``)."""
    meta = {name: start for name, start, _ in _inside(data, (b"meta", 4))}
    tables = [each for each in _inside(data, (b"meta", 4), (b"iprp", 0)) if each[0] == b"ipma"]
    if b"pitm" not in meta or not tables:
        return []
    place = meta[b"pitm"]
    primary = int.from_bytes(data[place + 4 : place + (8 if data[place] else 6)])
    _, place, end = tables[0]
    long_ids, long_numbers, place = data[place] > 0, data[place + 3] & 1, place + 8
    while place < end:
        item = int.from_bytes(data[place : place + (4 if long_ids else 2)])
        place += 5 if long_ids else 3
        size = data[place - 1] * (2 if long_numbers else 1)
        numbers = data[place : place + size]
        if item == primary:
            if long_numbers:
                return [each & 0x7FFF for (each,) in iter_unpack(">H", numbers)]
            return [each & 0x7F for each in numbers]
        place += size
    return []


def _is_srgb(primaries: tuple[Point, ...]) -> bool:
    return bool(np.abs(np.subtract(primaries, PRIMARIES[1])).max() <= CLOSE)


def _is_possible(primaries: tuple[Point, ...]) -> bool:
    """Whether red, green, blue span a triangle with the white in it."""
    points = np.array(primaries, np.float64)
    if not np.isfinite(points).all() or (points[:, 1] <= 0).any() or (abs(points) > 2).any():
        return False
    shares = np.linalg.lstsq(
        np.vstack([points[:3].T, np.ones(3)]), np.append(points[3], 1), rcond=None
    )
    return int(shares[2]) == 3 and bool((shares[0] > 0.01).all())


def _colorants(red: Point, green: Point, blue: Point, white: Point) -> NDArray[np.float64]:
    """XYZ of the primaries in columns, adapted to D50 (SMPTE RP 177; Bradford)."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (red, green, blue)]).T
    source = np.array([white[0] / white[1], 1, (1 - white[0] - white[1]) / white[1]])
    columns = columns * np.linalg.solve(columns, source)
    cones = np.diag((BRADFORD @ D50) / (BRADFORD @ source))
    adapted: NDArray[np.float64] = np.linalg.inv(BRADFORD) @ cones @ BRADFORD @ columns
    return adapted


def _profile(colorants: NDArray[np.float64] | None, curve: Curve) -> bytes:
    """An ICC profile of version 4: RGB, or gray without ``colorants`` (ICC.1:2022, 8.3 and 8.4)."""
    words = "zerocon: colors as stated by the file"
    text = b"mluc\0\0\0\0" + pack(">II2s2sII", 1, 12, b"en", b"US", 2 * len(words), 28)
    text += words.encode("utf-16-be")
    tone = b"para\0\0\0\0" + pack(">HH", 0 if len(curve) == 1 else 3, 0)
    tone += b"".join(map(_fixed, curve))
    tags = {b"desc": text, b"cprt": text, b"wtpt": _xyz(D50)}
    if colorants is None:
        tags[b"kTRC"] = tone
    else:
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone)
        tags |= {bytes([name]) + b"XYZ": _xyz(colorants[:, i]) for i, name in enumerate(b"rgb")}
    table, body, start = pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name + pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    space = b"GRAY" if colorants is None else b"RGB "
    head = pack(">I4xI", start + len(body), 0x04400000) + b"mntr" + space + b"XYZ "
    head += pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(D50)[8:]
    return head.ljust(128, b"\0") + table + body


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _fixed(value: float) -> bytes:
    return pack(">i", round(value * 65536))
