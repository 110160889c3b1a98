"""Unusual image files: what they keep after an edit, and what is reported."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from image_cases import SECRET, THUMBNAIL, XMP, Exif, camera, tags
from PIL import Image, JpegImagePlugin, TiffImagePlugin
from test_photograph import decoded, encoded

from zerocon.cli import main
from zerocon.errors import AnimatedImageError, NotWritableError, UnreadableImageError
from zerocon.image import exif, kept, xmp
from zerocon.image.formats import NAMED, format_in
from zerocon.image.metadata import Provenance
from zerocon.image.naming import suffix_of
from zerocon.image.reading import TRUNCATED, Photograph
from zerocon.image.saving import check_output

RECIPE = '{"schema":"zerocon.recipe/2"}'


def unchanged(photograph: Photograph, kind: str | None = None) -> Image.Image:
    return decoded(photograph.encode(photograph.image, kind or photograph.kind))


# encodings


def with_tables(jpeg: bytes, numbers: dict[int, int]) -> bytes:
    """A JPEG of Pillow whose quantization tables have other numbers."""
    data = bytearray(jpeg)
    for marker, start, stop in kept.jpeg_segments(jpeg):
        if marker == 0xDB:
            for place in range(start, stop, 65):
                data[place] = numbers[data[place]]
        if marker == 0xC0:
            for place in range(start + 6, stop, 3):
                data[place + 2] = numbers[data[place + 2]]
    return bytes(data)


@pytest.mark.parametrize(
    ("mode", "numbers"), [("L", {0: 1}), ("RGB", {0: 0, 1: 2}), ("RGB", {0: 3, 1: 1})]
)
def test_quantization_tables_may_have_any_number(mode: str, numbers: dict[int, int]) -> None:
    source = encoded(gradient(48, 32).convert(mode), "JPEG", quality=60)
    photograph = Photograph.read(with_tables(source, numbers))
    with Image.open(io.BytesIO(source)) as before:
        assert isinstance(before, JpegImagePlugin.JpegImageFile)
        after = decoded(photograph.encode(photograph.image, "JPEG"))
        assert isinstance(after, JpegImagePlugin.JpegImageFile)
        assert after.quantization == before.quantization
    assert photograph.warnings == photograph.format_warnings(NAMED["JPEG"]) == ()


def test_a_big_tiff_becomes_a_tiff_with_its_tags() -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[271] = "Camera"
    source = encoded(gradient(40, 30), "TIFF", big_tiff=True, tiffinfo=info)
    assert source[:4] == b"II+\0"
    photograph = Photograph.read(source)
    back = photograph.encode(photograph.image, "TIFF")
    assert back[:4] == b"II*\0" and photograph.warnings == ()
    assert np.array_equal(decoded(back), gradient(40, 30))
    assert tags(back)["first", 271] == (2, 7, b"Camera\0")


def pages(*kinds: int) -> bytes:
    """A TIFF with a page for each value of NewSubfileType."""
    with TiffImagePlugin.AppendingTiffWriter(file := io.BytesIO()) as writer:
        for number, kind in enumerate(kinds):
            image = gradient(64, 48) if number == 0 else gradient(32, 24)
            image.save(writer, format="TIFF", tiffinfo={254: kind})
            writer.newFrame()
    return file.getvalue()


@pytest.mark.parametrize("planar", [1, 2])
def test_a_tiff_without_some_of_its_strips_is_refused(planar: int) -> None:
    """Pillow would read the missing part as black."""
    strip = bytes(range(240))
    planes = 3 if planar == 2 else 1

    def tiff(strips: int) -> bytes:
        start = 8 + 2 + 12 * 11 + 4
        tags = {256: 20, 257: 36, 258: 8, 259: 1, 262: 2 if planar == 2 else 1, 273: start}
        tags |= {277: planes, 278: 12, 279: start + 4 * strips, 284: planar, 305: 0}
        data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
        for tag, value in tags.items():
            count = strips if tag in (273, 279) else 1
            if count == 1 and tag in (273, 279):
                value = start + 8 if tag == 273 else 240
            data += struct.pack("<HHII", tag, 4, count, value)
        data += bytes(4) + struct.pack("<I", start + 8 * strips) * strips
        return data + struct.pack("<I", 240) * strips + strip

    whole = 3 * planes
    photograph = Photograph.read(tiff(whole))
    assert photograph.size == (20, 36) and photograph.image.getpixel((3, 30)) != (0, 0, 0)
    for count in range(1, whole):
        with pytest.raises(UnreadableImageError, match="its strips or tiles do not cover it"):
            Photograph.read(tiff(count))


def test_a_page_that_is_a_thumbnail_is_left_out() -> None:
    photograph = Photograph.read(pages(0, 1))
    assert photograph.warnings == (kept.THUMBNAIL_PAGE,)
    assert unchanged(photograph).n_frames == 1
    assert np.array_equal(unchanged(photograph), gradient(64, 48))
    with pytest.raises(AnimatedImageError, match="it has 2 frames"):
        Photograph.read(pages(0, 0))


def deep_gray(key: int = 777) -> np.ndarray:
    levels = np.random.default_rng(0).integers(0, 65536, (30, 40), dtype=np.uint16)
    levels[:10] = key
    return levels


def test_a_transparent_level_of_16_bit_gray_is_kept() -> None:
    source = deep_gray()
    photograph = Photograph.read(encoded(Image.fromarray(source), "PNG", transparency=777))
    assert photograph.image.getpixel((3, 3)) == (255, 255, 255)
    back = unchanged(photograph)
    assert back.info["transparency"] == 777 and np.array_equal(back, source)
    level = 777 * 255 // 65535  # a gray that would become transparent
    edited = Image.new("RGB", photograph.image.size, (level, level, level))
    changed = np.asarray(decoded(photograph.encode(edited, "PNG")))
    assert np.array_equal(changed == 777, source == 777)
    lines = photograph.format_warnings(NAMED["TIFF"])
    assert lines == ("transparency of 16-bit gray is not kept in TIFF",)


def test_a_16_bit_pgm_keeps_its_levels() -> None:
    source = deep_gray()
    data = b"P5\n40 30\n65535\n" + source.astype(">u2").tobytes()
    photograph = Photograph.read(data)
    assert photograph.mode == "I;16"
    assert photograph.format_warnings(NAMED["PNG"]) == (
        "PPM is read but not written: the result is PNG",
    )
    assert np.array_equal(unchanged(photograph, "PNG"), source)


# what is not kept


def mpo() -> bytes:
    more = {"save_all": True, "append_images": [gradient(40, 30).rotate(180)]}
    return encoded(gradient(40, 30), "MPO", **more)


def described(namespace: str, name: str) -> bytes:
    more = f' xmlns:p="{namespace}" p:{name}="1"'
    return encoded(gradient(40, 30), "JPEG", xmp=XMP.format(more=more, inside="").encode())


JPEG = encoded(gradient(40, 30), "JPEG")
needs_heic = pytest.mark.skipif(find_spec("pillow_heif") is None, reason="pillow-heif is missing")


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (mpo(), kept.FURTHER),
        (JPEG + b"\0\0\0\x18ftypmp42" + bytes(90), kept.MOTION),
        (JPEG + b"rubbish " * 9, "the data after the image (72 bytes) are not kept"),
        (described("http://ns.adobe.com/hdr-gain-map/1.0/", "Version"), kept.GAIN_MAP),
        (described("http://ns.google.com/photos/1.0/depthmap/", "Near"), kept.DEPTH_MAP),
    ],
    ids=["mpo", "motion", "trailer", "gain map", "depth"],
)
def test_what_cannot_be_kept_is_reported_in_one_line(data: bytes, line: str) -> None:
    photograph = Photograph.read(data)
    assert photograph.warnings == (line,)
    back = photograph.encode(photograph.image, "JPEG")
    assert Photograph.read(back).warnings == (), "nothing refers to what was left out"
    assert len(back) < len(JPEG) + 2000


def container(kind: str, more: bytes = b"") -> bytes:
    """An AVIF or HEIC with a box at its end that decoders skip."""
    NAMED[kind].require()
    return encoded(gradient(64, 48), kind) + struct.pack(">I4s", 8 + len(more), b"free") + more


DEPTH = b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth\0"
CONTAINERS = ["AVIF", pytest.param("HEIF", marks=needs_heic)]


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize(
    ("more", "line"),
    [(b"infe tmap", kept.GAIN_MAP), (DEPTH, kept.DEPTH_MAP), (b"", None)],
    ids=["gain map", "depth map", "neither"],
)
def test_images_beside_that_of_an_avif_or_heic_are_named(
    kind: str, more: bytes, line: str | None
) -> None:
    photograph = Photograph.read(container(kind, more))
    assert photograph.warnings == ((line,) if line else ())
    assert Photograph.read(photograph.encode(photograph.image, kind)).warnings == ()


@needs_heic
def test_further_images_of_a_heic_are_named() -> None:
    import pillow_heif

    images = pillow_heif.from_pillow(gradient(64, 48))
    images.add_from_pillow(gradient(64, 48).rotate(180))
    images.save(file := io.BytesIO())
    photograph = Photograph.read(file.getvalue())
    assert photograph.warnings == (kept.FURTHER,) and photograph.image.size == (64, 48)


@pytest.mark.parametrize("frames", [2, 7])
@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_an_animation_is_refused_with_the_number_of_its_frames(kind: str, frames: int) -> None:
    others = [gradient(40, 30).rotate(20 * number) for number in range(1, frames)]
    data = encoded(gradient(40, 30), kind, save_all=True, append_images=others)
    with pytest.raises(AnimatedImageError, match=f"it has {frames} frames; give a still image"):
        Photograph.read(data)
    still = encoded(gradient(40, 30), kind, save_all=True)  # as an animation of one frame
    assert Photograph.read(still).image.size == (40, 30)


def test_the_parts_of_other_metadata_are_named() -> None:
    segment = b"\xff\xe1" + struct.pack(">H", 2 + 35 + 60) + kept.EXTENDED_XMP + bytes(60)
    signed = b"\xff\xeb" + struct.pack(">H", 30) + b"JP c2pa".ljust(28)
    photograph = Photograph.read(JPEG[:2] + segment + signed + JPEG[2:])
    assert photograph.warnings == (kept.EXTENDED, kept.CREDENTIALS)


# EXIF


def test_values_and_their_offsets_are_those_of_the_file() -> None:
    before = camera(">").encode()
    assert exif.patch(before, keep_gps=False) == exif.Patched(before)
    whole = Exif(">", camera(">").first, camera(">").exif, ((2, 5, SECRET),), THUMBNAIL)
    after = exif.patch(whole.encode(), keep_gps=False).data
    note = bytes(range(7, 60))
    assert after.index(note) == whole.encode().index(note)
    assert SECRET not in after and THUMBNAIL not in after and b"thumb" not in after
    kept_gps = exif.patch(whole.encode(), keep_gps=True).data
    assert SECRET in kept_gps and THUMBNAIL not in kept_gps


def test_an_orientation_that_cannot_be_read_is_reported() -> None:
    for value in (b"x\0", b"99\0"):
        data = Exif("<", ((0x010F, 2, b"Cam\0"), (0x0112, 2, value))).encode()
        photograph = Photograph.read(encoded(gradient(40, 30), "JPEG", exif=data))
        assert photograph.warnings == (
            "the orientation in the EXIF data is not valid and is ignored",
        )
        assert photograph.exif == data and photograph.orientation == 1


WHOLE = Exif(">", camera(">").first, camera(">").exif, ((2, 5, SECRET),), THUMBNAIL).encode()


@settings(deadline=None, max_examples=400)
@given(st.lists(st.tuples(st.integers(6, len(WHOLE) - 1), st.integers(0, 255)), max_size=6))
def test_damaged_exif_data_are_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    try:
        patched = exif.patch(bytes(data), keep_gps=False)
    except ValueError:
        return
    assert not exif.has_gps(patched.data)
    if patched.data:  # what was written is whole
        again = exif.patch(patched.data, keep_gps=False)
        assert not [line for line in again.problems if "damaged" in line]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_exif_data_are_refused(data: bytes) -> None:
    for start in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        for read in (exif.patch, exif.of_tiff):
            try:
                read(start + data, keep_gps=False)
            except ValueError:
                continue


@pytest.mark.parametrize("kind", ["AVIF", "TIFF", "PNG"])
def test_the_orientation_is_written_also_without_the_rest(kind: str) -> None:
    turned = Exif("<", ((0x0112, 3, b"\6\0"),)).encode()
    photograph = Photograph.read(encoded(gradient(40, 30), kind, exif=turned))
    back = Photograph.read(photograph.encode(photograph.image, "JPEG"))
    assert photograph.orientation == back.orientation == 6
    assert back.image.size == photograph.image.size == (30, 40)
    large = Exif("<", ((0x010E, 2, b"a" * 70000), (0x0112, 3, b"\6\0"))).encode()
    photograph = Photograph.read(encoded(gradient(40, 30), kind, exif=large))
    written = photograph.write(photograph.image, "JPEG")
    assert written.warnings == ("JPEG does not take the EXIF data of the source",)
    assert Photograph.read(written.data).orientation == 6


# XMP


def test_the_label_replaces_another_one_and_the_recipe_an_older_one() -> None:
    source = xmp.merged(b"", "old").replace(b"composite", b"digital")
    assert xmp.cleaned(source, keep_gps=False) is not None
    photograph = Photograph.read(encoded(gradient(40, 30), "JPEG", xmp=source))
    back = photograph.encode(photograph.image, "JPEG", Provenance(RECIPE))
    assert Photograph.read(back).recipe == RECIPE
    assert back.count(b"<zerocon:recipe>") == back.count(xmp.LABEL.encode()) == 1
    assert b"digitalWith" not in back
    assert Photograph.read(photograph.encode(photograph.image, "JPEG")).recipe is None


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (b"<e:GPSLatitude>9</e:GPSLatitude><e:Make>A</e:Make>", b"<e:Make>A</e:Make>"),
        (b"<e:GPSa b='>'/><e:GPSb c=\"/>\"><e:GPSb>9</e:GPSb>9</e:GPSb>A", b"A"),
        (b"<e:GPSa ><e:Make/><!-- </e:GPSa> --></e:GPSa\n><e:Make />", b"<e:Make />"),
        (b"<e:Make e:GPSLatitude = '9,9' e:Model='/>'/>", b"<e:Make e:Model='/>'/>"),
        (b"<!-- <e:GPSa> --><![CDATA[<e:GPSb>]]>A", b"<!-- <e:GPSa> --><![CDATA[<e:GPSb>]]>A"),
    ],
)
def test_a_position_is_removed_and_all_else_keeps_its_bytes(content: bytes, left: bytes) -> None:
    head = b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:e="urn:e">'
    whole, expected = (head + each + b"</r:RDF>" for each in (content, left))
    assert xmp.cleaned(whole, keep_gps=True) == whole
    assert xmp.cleaned(whole, keep_gps=False) == expected


@pytest.mark.parametrize(
    "packet",
    [b"<xyz", b"\xff\xfe<", b"<!DOCTYPE a><a/>", b'<a b:GPSLatitude="1"/>', b"<a>" * 9],
    ids=str,
)
def test_a_damaged_packet_is_left_out(packet: bytes) -> None:
    photograph = Photograph.read(encoded(gradient(40, 30), "JPEG", xmp=packet))
    assert photograph.warnings == ("the XMP data are damaged and are not kept",)
    back = photograph.encode(photograph.image, "JPEG", Provenance(RECIPE))
    assert packet not in back and Photograph.read(back).recipe == RECIPE


def test_a_packet_that_leaves_no_room_for_the_recipe() -> None:
    source = XMP.format(more="", inside="<dc:title>" + "x" * 64000 + "</dc:title>").encode()
    photograph = Photograph.read(encoded(gradient(40, 30), "JPEG", xmp=source))
    recipe = Provenance('{"a": "' + "y" * 3000 + '"}')
    assert recipe.format_warnings("JPEG", photograph.kept.xmp) == (
        "the recipe is too long for JPEG and is not stored",
    )
    back = Photograph.read(photograph.encode(photograph.image, "JPEG", recipe))
    assert back.recipe is None and b"x" * 64000 in back.kept.xmp


def test_what_an_encoder_refuses_is_left_out_with_a_warning() -> None:
    large = Exif("<", ((0x010E, 2, b"a" * 70000),)).encode()
    photograph = Photograph.read(encoded(gradient(40, 30), "PNG", exif=large))
    line = "JPEG does not take the EXIF data of the source"
    assert photograph.format_warnings(NAMED["JPEG"]) == (line,)
    written = photograph.write(photograph.image, "JPEG", Provenance(RECIPE))
    assert written.warnings == (line,)
    assert Photograph.read(written.data).recipe == RECIPE
    assert photograph.write(photograph.image, "PNG").warnings == ()


def test_keywords_of_texts_cannot_control_a_terminal() -> None:
    lines = kept.Kept(texts=((b"tEXt", b"a\x1b[31m\xff\0text"),)).losses("JPEG")
    assert lines == ("the texts of the PNG (a?[31m?) are not kept in JPEG",)


# truncated files and names


@pytest.mark.parametrize("missing", [1, 2, 40, 300])
def test_a_jpeg_whose_end_is_missing_is_read_on_request(missing: int) -> None:
    whole = encoded(gradient(256, 256), "JPEG")
    photograph = Photograph.read(whole[:-missing], lenient=True)
    assert photograph.warnings == (TRUNCATED,)
    rows = np.asarray(photograph.image)[:16].astype(int)
    assert np.abs(rows - np.asarray(gradient(256, 256))[:16]).mean() < 3
    assert Photograph.read(whole, lenient=True).warnings == ()
    if missing > 2:
        with pytest.raises(UnreadableImageError, match="; --lenient reads what is there"):
            Photograph.read(whole[:-missing])


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.jfif", ".jfif"),
        ("a.JPE", ".JPE"),
        ("a.jpg_large", ".jpg"),
        ("a", ".jpg"),
        ("a.gif", ".jpg"),
    ],
)
def test_a_jpeg_stays_one_whatever_its_name(tmp_path: Path, name: str, suffix: str) -> None:
    (tmp_path / name).write_bytes(JPEG)
    assert suffix_of(tmp_path / name) == suffix


def test_the_format_of_a_file_by_its_first_bytes(tmp_path: Path) -> None:
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF"):
        (tmp_path / "image").write_bytes(encoded(gradient(40, 30), kind))
        assert format_in(tmp_path / "image") is NAMED[kind]
    (tmp_path / "image").write_bytes(encoded(gradient(40, 30), "GIF"))
    assert (
        format_in(tmp_path / "image") is format_in(tmp_path / "none") is format_in(tmp_path) is None
    )
    assert suffix_of(tmp_path / "image") == ".png"


def test_a_name_that_is_too_long_is_refused_and_the_longest_is_written(tmp_path: Path) -> None:
    longest = tmp_path / ("ö" * 125 + "a.jpg")
    assert len(longest.name.encode()) == 255
    photograph = Photograph.read(JPEG)
    photograph.save(photograph.image, check_output(longest))
    assert [each.name for each in tmp_path.iterdir()] == [longest.name]
    with pytest.raises(NotWritableError, match="has 256 bytes, the limit is 255"):
        check_output(longest.with_name("b" + longest.name))


def test_a_read_only_output_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").touch()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(NotWritableError, match="is read-only"):
        check_output(tmp_path / "a.png", overwrite=True)


# zerocon edit

Run = Callable[..., Result]
EDIT = ("edit", "--to", "bear", "--caption", "a fox", "--model", "mini", "--strength", "0")
GRAY = encoded(gradient(48, 32).convert("L"), "JPEG")
KEYED = encoded(Image.fromarray(deep_gray()), "PNG", transparency=777)
FILES: dict[str, tuple[bytes, str, str]] = {  # file, output, warning
    "a.jfif": (JPEG, "a-bear.jfif", ""),
    "a.jpg_large": (JPEG, "a-bear.jpg", ""),
    "gray.jpg": (with_tables(GRAY, {0: 1}), "gray-bear.jpg", ""),
    "two.jpg": (mpo(), "two-bear.jpg", kept.FURTHER),
    "pages.tif": (pages(0, 1), "pages-bear.tif", kept.THUMBNAIL_PAGE),
    "big.tif": (encoded(gradient(40, 30), "TIFF", big_tiff=True), "big-bear.tif", ""),
    "deep.png": (KEYED, "deep-bear.png", ""),
    "still.gif": (
        encoded(gradient(40, 30), "GIF"), "still-bear.png",
        "GIF is read but not written: the result is PNG",
    ),
    "exif.jpg": (encoded(gradient(40, 30), "JPEG", exif=WHOLE), "exif-bear.jpg", ""),
    "cut.jpg": (encoded(gradient(64, 64), "JPEG")[:-40], "cut-bear.jpg", TRUNCATED),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_command_edits_unusual_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_models: None
) -> None:
    data, output, line = FILES[name]
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    lenient = ["--lenient"] if line == TRUNCATED else []
    done = CliRunner().invoke(main, [*EDIT, name, *lenient])
    assert (done.exit_code, done.stdout) == (0, f"{output}\n"), done.stderr
    reported = [each for each in done.stderr.splitlines() if each.startswith("Warning: ")]
    assert reported[:-1] == ([f"Warning: {line}"] if line else [])
    before, after = Photograph.read(data, lenient=True), Photograph.read(Path(output))
    assert (after.mode, after.size, after.exif) == (before.mode, before.size, before.exif)
    if before.kind not in ("JPEG", "GIF"):
        assert np.array_equal(after.stored, before.stored)


def test_inverting_a_file_without_its_end_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_models: None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cut.jpg").write_bytes(encoded(gradient(64, 64), "JPEG")[:-40])
    command = ["invert", "cut.jpg", "--model", "mini", "--caption", "a bear", "--steps", "2"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2 and "; --lenient reads what is there" in done.stderr
    done = CliRunner().invoke(main, [*command, "--lenient", "--format", "json"])
    assert done.exit_code == 0 and f"Warning: {TRUNCATED}\n" in done.stderr
    assert json.loads(done.stdout)["warnings"] == [TRUNCATED]


def test_a_long_name_is_refused_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f" * 248 + ".jpg").write_bytes(JPEG)
    monkeypatch.setattr("zerocon.load", lambda *args, **options: pytest.fail("loaded"))
    done = CliRunner().invoke(main, [*EDIT, "f" * 248 + ".jpg"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "has 257 bytes, the limit is 255" in done.stderr
