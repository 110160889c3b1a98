"""Color spaces that a file states without an ICC profile: cICP, gAMA, cHRM, nclx.

Expected colors are computed here from the published formulas (IEC 61966-2-1, ITU-R BT.709, BT.2020
and BT.2100, SMPTE RP 431 and EG 432), and by littlecms from profiles that it makes itself.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from zerocon.errors import ImageFormatError
from zerocon.image.formats import NAMED
from zerocon.image.reading import Photograph

SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.3127, 0.3290))
BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), (0.3127, 0.3290))
WIDE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290))  # Adobe RGB's


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(image: Image.Image, **chunks: bytes) -> bytes:
    """A PNG with these chunks after its header."""
    image.save(file := io.BytesIO(), "PNG")
    data = file.getvalue()
    return data[:33] + b"".join(chunk(k.encode(), v) for k, v in chunks.items()) + data[33:]


def chromaticities(primaries: Any) -> bytes:
    red, green, blue, white = primaries
    return b"".join(
        struct.pack(">I", round(100_000 * each)) for p in (white, red, green, blue) for each in p
    )


def gamma(value: float) -> bytes:
    return struct.pack(">I", round(100_000 * value))


def colors() -> Image.Image:
    """Muted colors, in the gamut of every space here."""
    levels = np.array([70, 110, 150, 190], np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(16, 4, 3)
    return Image.fromarray(np.repeat(np.repeat(cube, 2, 0), 8, 1))


def srgb_light(v: Any) -> Any:
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def srgb_stored(light: Any) -> Any:
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def bt709_light(v: Any) -> Any:
    return np.where(v < 0.081, v / 4.5, ((v + 0.099297) / 1.099297) ** (1 / 0.45))


def to_xyz(primaries: Any) -> Any:
    """RGB to XYZ, without adaptation: SMPTE RP 177."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    return xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])


def expected(stored: Any, primaries: Any, light: Any) -> Any:
    """sRGB levels of stored levels; all white points here are D65."""
    matrix = np.linalg.solve(to_xyz(SRGB), to_xyz(primaries))
    return 255 * srgb_stored(light(np.asarray(stored) / 255) @ matrix.T)


CASES = {
    "cICP P3": ({"cICP": bytes([12, 13, 0, 1])}, P3, srgb_light),
    "cICP BT.2020": ({"cICP": bytes([9, 14, 0, 1])}, BT2020, bt709_light),
    "cICP BT.709": ({"cICP": bytes([1, 1, 0, 1])}, SRGB, bt709_light),
    "cICP linear": ({"cICP": bytes([1, 8, 0, 1])}, SRGB, lambda v: v),
    "cICP gamma 2.2": ({"cICP": bytes([1, 4, 0, 1])}, SRGB, lambda v: v**2.2),
    "gAMA linear": ({"gAMA": gamma(1)}, SRGB, lambda v: v),
    "gAMA 1.8": ({"gAMA": gamma(1 / 1.8)}, SRGB, lambda v: v**1.8),
    "cHRM": ({"cHRM": chromaticities(WIDE)}, WIDE, srgb_light),
    "gAMA and cHRM": ({"gAMA": gamma(0.45455), "cHRM": chromaticities(WIDE)}, WIDE, srgb_light),
    "cICP over sRGB and gAMA": (
        {"cICP": bytes([12, 13, 0, 1]), "sRGB": b"\0", "gAMA": gamma(1)},
        P3,
        srgb_light,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_stated_colors_are_converted_and_kept(name: str) -> None:
    chunks, primaries, light = CASES[name]
    photograph = Photograph.read(png(colors(), **chunks))
    wanted = expected(colors(), primaries, light)
    assert np.abs(np.asarray(photograph.image) - wanted).max() <= 1.5
    assert not photograph.warnings and np.abs(wanted - np.asarray(colors())).max() > 1.7
    for kind in ("PNG", "TIFF"):
        back = Photograph.read(photograph.encode(photograph.image, NAMED[kind]))
        assert np.array_equal(back.stored, colors()) and np.array_equal(
            back.image, photograph.image
        )


@pytest.mark.parametrize(
    "chunks",
    [
        {},
        {"cICP": bytes([1, 13, 0, 1])},
        {"cICP": bytes([2, 2, 0, 1])},
        {"gAMA": gamma(0.45455)},
        {"gAMA": gamma(0.45455), "cHRM": chromaticities(SRGB)},
        {"sRGB": b"\0", "gAMA": gamma(1), "cHRM": chromaticities(WIDE)},
    ],
)
def test_srgb_stated_in_any_way_needs_no_profile(chunks: dict[str, bytes]) -> None:
    photograph = Photograph.read(png(colors(), **chunks))
    assert np.array_equal(photograph.image, colors())
    assert (photograph.profile, photograph.warnings) == (None, ())


def test_a_profile_precedes_gamma_and_chromaticities() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    embedded = chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))
    data = png(colors(), gAMA=gamma(1))
    photograph = Photograph.read(data[:33] + embedded + data[33:])
    assert photograph.profile == profile
    assert np.abs(np.asarray(photograph.image, int) - np.asarray(colors(), int)).max() <= 1


def test_gray_gets_a_profile_of_gray() -> None:
    gray = colors().convert("L")
    photograph = Photograph.read(png(gray, gAMA=gamma(1)))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(photograph.profile or b""))
    assert profile.profile.xcolor_space == "GRAY"
    wanted = 255 * srgb_stored(np.asarray(gray) / 255)
    assert np.abs(np.asarray(photograph.image)[..., 0] - wanted).max() <= 1.5


@pytest.mark.parametrize(
    ("code", "red", "green", "blue"),
    [
        (12, (0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)),
        (9, (0.6735, 0.2790, -0.0019), (0.1657, 0.6753, 0.0300), (0.1251, 0.0456, 0.7969)),
    ],
)
def test_littlecms_reads_the_usual_colorants(code: int, red: Any, green: Any, blue: Any) -> None:
    """Those of the Display P3 and Rec. 2020 profiles of Apple and the ICC, relative to D50."""
    photograph = Photograph.read(png(colors(), cICP=bytes([code, 13, 0, 1])))
    icc = ImageCms.ImageCmsProfile(io.BytesIO(photograph.profile or b"")).profile
    read = [icc.red_colorant, icc.green_colorant, icc.blue_colorant, icc.media_white_point]
    for colorant, wanted in zip(read, (red, green, blue, (0.9642, 1, 0.8249)), strict=True):
        assert colorant is not None and colorant[0] == pytest.approx(wanted, abs=3e-4)


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def avif(image: Image.Image, primaries: int, transfer: int, **options: Any) -> bytes:
    """An AVIF with these code points in place of those that Pillow writes."""
    options = {"quality": 100, "subsampling": "4:4:4"} | options
    image.save(file := io.BytesIO(), "AVIF", **options)
    data = file.getvalue()
    place = data.index(b"colrnclx") + 8
    return data[:place] + struct.pack(">HH", primaries, transfer) + data[place + 4 :]


@pytest.mark.parametrize(
    ("codes", "primaries", "light"),
    [((12, 13), P3, srgb_light), ((9, 14), BT2020, bt709_light), ((1, 8), SRGB, lambda v: v)],
    ids=["P3", "BT.2020", "linear"],
)
def test_nclx_of_avif_is_converted(codes: tuple[int, int], primaries: Any, light: Any) -> None:
    photograph = Photograph.read(avif(colors(), *codes))
    wanted = expected(photograph.stored, primaries, light)
    assert np.abs(np.asarray(photograph.image) - wanted).max() <= 1.5
    back = Photograph.read(photograph.encode(photograph.image, NAMED["AVIF"]))
    assert back.profile == photograph.profile is not None


def test_nclx_of_heic_is_converted() -> None:
    heif = pytest.importorskip("pillow_heif")
    file = heif.from_pillow(colors())
    file.save(
        out := io.BytesIO(), quality=-1, chroma=444, save_nclx_profile=True,
        color_primaries=12, transfer_characteristics=13, matrix_coefficients=0, full_range_flag=1,
    )  # fmt: skip
    photograph = Photograph.read(out.getvalue())
    wanted = expected(photograph.stored, P3, srgb_light)
    assert np.abs(np.asarray(photograph.image) - wanted).max() <= 1.5


def test_the_statement_of_the_primary_image_counts() -> None:
    """A file may hold a gain map or an alternate image with other colors, before it."""
    from zerocon.image.cicp import _nclx

    def colr(primaries: int, transfer: int) -> bytes:
        return box(b"colr", b"nclx" + struct.pack(">HHHB", primaries, transfer, 0, 128))

    table = b"\0\0\0\0" + struct.pack(">I", 2)
    table += struct.pack(">HBB", 7, 1, 1) + struct.pack(">HBBB", 8, 2, 3, 0x82)
    properties = box(b"ipco", colr(9, 16) + colr(12, 13) + box(b"pixi", b"\0\0\0\0\3\x08\x08\x08"))
    content = box(b"pitm", b"\0\0\0\0" + struct.pack(">H", 8))
    content += box(b"iprp", properties + box(b"ipma", table))
    data = box(b"ftyp", b"avif\0\0\0\0") + box(b"meta", b"\0\0\0\0" + content)
    assert _nclx(data) == (12, 13)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(transfer: int, name: str) -> None:
    for data in (
        png(colors(), cICP=bytes([9, transfer, 0, 1])),
        avif(colors(), 9, transfer),
    ):
        with pytest.raises(ImageFormatError, match=rf"HDR image \({name}\)") as caught:
            Photograph.read(data, name="sky.png")
        assert caught.value.id == "ZC-E021" and "\n" not in str(caught.value)


def test_a_profile_that_states_pq_is_refused() -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", profile, 128)
    names = [bytes(profile[132 + 12 * i : 136 + 12 * i]) for i in range(count)]
    at = 132 + 12 * names.index(b"cprt")
    struct.pack_into(">4sII", profile, at, b"cicp", len(profile), 12)
    profile += b"cicp\0\0\0\0" + bytes([9, 16, 0, 1])
    struct.pack_into(">I", profile, 0, len(profile))
    colors().save(file := io.BytesIO(), "JPEG", icc_profile=bytes(profile))
    with pytest.raises(ImageFormatError, match=r"HDR image \(PQ\)"):
        Photograph.read(file.getvalue())


def test_narrow_range_is_refused() -> None:
    with pytest.raises(ImageFormatError, match="narrow range"):
        Photograph.read(png(colors(), cICP=bytes([9, 14, 0, 0])))


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ({"cICP": bytes([99, 13, 0, 1])}, "primaries 99"),
        ({"cICP": bytes([1, 9, 0, 1])}, "transfer function 9"),
        ({"gAMA": gamma(30)}, "gamma is 30"),
        ({"gAMA": gamma(0)}, "gamma is 0"),
        ({"cHRM": chromaticities([(0.3, 0.3)] * 4)}, "no colors"),
        ({"cHRM": bytes(32)}, "no colors"),
    ],
)
def test_a_statement_without_sense_is_ignored_with_a_warning(
    chunks: dict[str, bytes], reason: str
) -> None:
    photograph = Photograph.read(png(colors(), **chunks))
    (line,) = photograph.warnings
    assert line.startswith("the stated color space is ignored: ") and reason in line
    assert np.array_equal(photograph.image, colors()) and photograph.profile is None


def test_depth_over_8_bits_is_said() -> None:
    from zerocon.image.cicp import bits_per_channel

    data = avif(colors(), 1, 13)
    assert bits_per_channel(data) == 8 and not Photograph.read(data).warnings
    place = data.index(b"pixi") + 9
    deep = data[:place] + b"\x0a\x0a\x0a" + data[place + 3 :]
    assert bits_per_channel(deep) == 10
    for depth, flags in ((10, 0x40), (12, 0x60)):
        place = data.index(b"av1C") + 6
        deep = data[:place] + bytes([data[place] | flags]) + data[place + 1 :]
        assert bits_per_channel(deep) == depth


def test_a_heic_of_10_bits_says_so() -> None:
    heif = pytest.importorskip("pillow_heif")
    deep = np.asarray(colors()).astype(np.uint16) * 257
    heif.encode("RGB;16", colors().size, deep.tobytes(), out := io.BytesIO(), quality=90)
    photograph = Photograph.read(out.getvalue())
    assert any(line.endswith("bits per channel are reduced to 8") for line in photograph.warnings)
    assert not any(line.startswith("16") for line in photograph.warnings)
