"""Every format, mode and kind of metadata after an edit that changes nothing, tag by tag."""

from __future__ import annotations

import io
from importlib.util import find_spec

import image_cases
import numpy as np
import pytest
from image_cases import GPS, METADATA, ORIENTATION, PARTS, RECIPE, Case, cases, seen
from PIL import Image
from test_photograph import wide

from zerocon.image.reading import Photograph

HEIC = find_spec("pillow_heif") is not None
CASES = list(cases(heic=HEIC))
BAD = ("EXIF tags that are damaged are not kept: 1",)
LAYOUT = {*range(254, 260), 262, 273, 277, 278, 279, 282, 283, 284, 296, 317, 320, 338, 339, 700}
LAYOUT |= {33723, 34377, 34675}


def test_the_sweep_has_over_400_files() -> None:
    assert len(CASES) >= 400
    assert len({each.name for each in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda each: each.name)
def test_an_edit_that_changes_nothing_keeps_samples_and_metadata(case: Case) -> None:
    source = image_cases.file(case, wide())
    data, warnings = image_cases.edited(source)
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # any warning would be an error
    before, after = seen(source), seen(data)
    assert after.mode == before.mode
    assert np.array_equal(after.samples, image_cases.expected_samples(case, source))
    assert np.abs(after.samples.astype(int) - before.samples).mean() < 12

    given = {
        name: part for name, part in METADATA[case.metadata].items() if name in PARTS[case.kind]
    }
    assert after.orientation == before.orientation
    assert relevant(after.tags) == relevant(before.tags)
    assert not any(name == "gps" for name, _ in after.tags)
    for secret in (image_cases.SECRET, image_cases.THUMBNAIL, b"GPSLatitude", b"GPSLongitude"):
        assert secret not in data
    assert image_cases.SECRET[::-1] not in data

    for text in (b"dc:creator", "Zoë".encode()) if "xmp" in given else ():
        assert text in after.xmp
    if given.get("xmp") == image_cases.PLAIN_XMP:
        assert after.xmp.startswith(image_cases.PLAIN_XMP.partition(b"</rdf:RDF>")[0])
    assert b"compositeWithTrainedAlgorithmicMedia" in after.xmp
    assert Photograph.read(data).recipe == RECIPE
    assert after.iptc == before.iptc
    assert after.iptc == ({(2, 25): b"fox", (2, 80): "Zoë".encode()} if "iptc" in given else {})
    assert after.comment == before.comment
    assert after.texts == before.texts
    assert (after.icc, after.dpi) == (before.icc, before.dpi)

    written = case.kind if case.kind in image_cases.NAMED else "PNG"
    lines = (
        () if written == case.kind else (f"{case.kind} is read but not written: the result is PNG",)
    )
    assert warnings == (BAD if case.metadata == "bad tag" else ()) + lines


def relevant(tags: image_cases.Tags) -> image_cases.Tags:
    """Without position and layout; the orientation by ``Photograph``, whatever its type."""
    dropped = {(name, tag) for name, tag in tags if name == "gps" or tag in LAYOUT}
    dropped |= {("first", GPS), ("first", ORIENTATION), ("first", image_cases.BAD)}
    return {key: value for key, value in tags.items() if key not in dropped}


def flat(iptc: dict[tuple[int, int], object]) -> list[bytes]:
    return [
        each for value in iptc.values() for each in (value if isinstance(value, list) else [value])
    ]  # type: ignore[misc]
