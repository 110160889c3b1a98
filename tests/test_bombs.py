"""Files made to exhaust the machine are refused from their headers; reading takes little memory.

Every file is read in a fresh process that imports only the reading layer. Times are processor
times, and memory is the process's peak: both include the start.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import bombs
import numpy as np
import pytest
from PIL import Image

from zerocon.errors import ImageFormatError, ImageTooLargeError
from zerocon.image.bounds import MARKER, PIPE_BYTES, check_file
from zerocon.image.reading import Photograph, peek

SECONDS, BYTES = 2, 500_000_000
READ = """
import json, os, sys
from pathlib import Path
from zerocon.image.reading import Photograph, peek
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
before, file, problem = peak(), Path(sys.argv[1]), None
try:
    Photograph.read(file, **json.loads(sys.argv[2]))
except Exception as error:
    problem = [getattr(error, "id", ""), str(error)]
peek(file)
took = sum(os.times()[:2])
print(json.dumps([problem, took, peak(), peak() - before, "torch" in sys.modules]))
"""
STUBBORN = """
import signal, sys
from zerocon.image.reading import Photograph
def stop(*_):
    sys.exit(7)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
while True:
    try:
        Photograph.read(sys.argv[1])
    except ValueError:
        pass
"""
LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured on Linux")
ALL = [
    pytest.param(kind, number, id=f"{kind}-{number}", marks=[pytest.mark.stress] * (number > 0))
    for kind in bombs.KINDS
    for number in range(bombs.EACH)
]


def read(path: Path, **options: float) -> tuple[list[str] | None, float, int, int, bool]:
    """Error, seconds, peak memory, its growth by reading, and whether torch was imported."""
    command = [sys.executable, "-c", READ, str(path), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    result: tuple[list[str] | None, float, int, int, bool] = tuple(json.loads(done.stdout))
    return result


@LINUX
@pytest.mark.parametrize(("kind", "number"), ALL)
def test_a_bomb_is_refused_at_once(tmp_path: Path, kind: str, number: int) -> None:
    path = tmp_path / "image"
    path.write_bytes(bombs.KINDS[kind](number))
    problem, seconds, peak, _, torch = read(path)
    print(kind, number, path.stat().st_size, problem, f"{seconds:.2f} s", f"{peak / 1e6:.0f} MB")
    assert problem is not None and problem[0] in ("ZC-E024", "ZC-E022") and not torch
    assert "\n" not in problem[1] and problem[1].startswith(str(path))
    assert seconds < SECONDS and peak < BYTES


# the first two are read also without -m stress
@LINUX
@pytest.mark.parametrize(
    "number",
    [pytest.param(n, marks=[pytest.mark.stress] * (n > 1)) for n in range(bombs.EACH)],
)
def test_what_the_limits_allow_is_read_at_once(tmp_path: Path, number: int) -> None:
    path = tmp_path / "image"
    path.write_bytes(bombs.just_allowed(number))
    problem, seconds, peak, growth, _ = read(path)
    print(number, path.stat().st_size, problem, f"{seconds:.2f} s", f"{peak / 1e6:.0f} MB")
    # twelve times the samples of the one that has 9,000 x 9,000 pixels
    assert seconds < SECONDS and (peak < BYTES or growth < 12 * 81_000_000)


def test_a_file_of_holes_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    with path.open("wb") as file:
        file.write(b"\xff\xd8")
        file.truncate(1 << 40)
    assert peek(path) is None
    with pytest.raises(ImageTooLargeError, match="is larger than 832 MB"):
        Photograph.read(path)


def test_files_of_other_formats_are_none_of_an_image(tmp_path: Path) -> None:
    with pytest.raises(ImageFormatError):
        Photograph.read(b"PK\3\4" + bytes(20_000))  # begins as a PPM does


@pytest.mark.stress
@pytest.mark.parametrize("kind", bombs.KINDS)
def test_sigterm_ends_a_process_that_reads_bombs(tmp_path: Path, kind: str) -> None:
    for number in range(bombs.EACH):
        path = tmp_path / "image"
        path.write_bytes(bombs.KINDS[kind](number))
        command = [sys.executable, "-c", STUBBORN, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(0.3)
            start = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 7 and time.monotonic() - start < 5


def test_an_endless_pipe_is_refused() -> None:
    script = "from zerocon.cli import main; main(['edit', '-', '--to', 'dog', '-o', 'dog.png'])"
    end, pipe = os.pipe()
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=end, stderr=subprocess.PIPE, text=True) as process:
        os.close(end)
        sent, block = 0, bytes(1 << 20)
        try:
            while sent < 2 * PIPE_BYTES:
                sent += os.write(pipe, block)
        except BrokenPipeError:
            pass
        os.close(pipe)
        assert process.stderr is not None
        (line,) = process.stderr.read().splitlines()
    assert line.endswith("stdin is larger than 200 MB; save the image in a file [ZC-E024]")
    assert process.returncode == 2 and sent < 2 * PIPE_BYTES


def photographs(kind: str, size: tuple[int, int]) -> tuple[Image.Image, dict[str, object]]:
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    gray = ((x // 7 + y // 5) % 256).astype(np.uint8)
    if kind == "I;16":
        return Image.fromarray(gray.astype(np.uint16) * 257), {}
    if kind == "P":
        return Image.fromarray(gray).convert("P"), {}
    image = Image.fromarray(np.stack([gray, gray[::-1], 255 - gray], -1)).convert(kind)
    if kind in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(gray))
    return image, {}


# mode, format, bytes of a pixel: channels times bytes per sample
MODES = [
    ("RGBA", "PNG", 4), ("I;16", "PNG", 2), ("L", "PNG", 1), ("LA", "PNG", 2), ("P", "PNG", 1),
    ("RGB", "PNG", 3), ("1", "PNG", 1), ("RGB", "JPEG", 3), ("CMYK", "JPEG", 4), ("L", "JPEG", 1),
    ("RGB", "WEBP", 3), ("RGBA", "WEBP", 4), ("RGB", "AVIF", 3), ("RGBA", "AVIF", 4),
    ("RGB", "TIFF", 3), ("L", "TIFF", 1), ("LA", "TIFF", 2), ("I;16", "TIFF", 2), ("P", "GIF", 1),
    ("RGB", "BMP", 3), ("RGB", "PPM", 3), ("L", "BMP", 1), ("P", "BMP", 1), ("L", "PPM", 1),
    ("1", "PPM", 1), ("I;16", "PPM", 2), ("1", "TIFF", 1), ("P", "TIFF", 1), ("CMYK", "TIFF", 4),
    ("L", "AVIF", 1),
]  # fmt: skip


def times_the_samples(path: Path, mode: str, kind: str, per_pixel: int) -> float:
    """Memory that reading takes, in sizes of the samples."""
    width, height = 5000, 4000
    image, _ = photographs(mode, (width, height))
    options: dict[str, object] = {"compress_level": 1} if kind == "PNG" else {}
    if kind in ("PNG", "JPEG", "WEBP"):
        data = Image.Exif()
        data[0x0112] = 6  # turned
        options["exif"] = data.tobytes()
    image.save(path, kind, **options)
    problem, _, _, growth, _ = read(path)
    times = growth / (width * height * per_pixel)
    print(mode, kind, f"{times:.2f} times")
    assert problem is None
    return times


@LINUX
@pytest.mark.parametrize(
    ("mode", "kind", "per_pixel"),
    [pytest.param(*row, marks=[pytest.mark.stress] * (i > 2)) for i, row in enumerate(MODES)],
)
def test_reading_takes_at_most_six_times_the_samples(
    tmp_path: Path, mode: str, kind: str, per_pixel: int
) -> None:
    assert times_the_samples(tmp_path / "image", mode, kind, per_pixel) <= 6


# its decoder has 32 bits per sample, and Pillow 32 bits per pixel of gray with alpha
@LINUX
@pytest.mark.stress
@pytest.mark.parametrize(
    ("mode", "per_pixel"), [("L", 1), ("LA", 2), ("I;16", 2), ("RGB", 3), ("RGBA", 4)]
)
def test_reading_a_jpeg_2000_takes_at_most_seven_and_a_half_times(
    tmp_path: Path, mode: str, per_pixel: int
) -> None:
    assert times_the_samples(tmp_path / "image", mode, "JPEG2000", per_pixel) <= 7.5


def test_the_limit_of_pixels_is_an_argument(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("L", (1000, 500)).save(path)
    assert Photograph.read(path, max_megapixels=0.5).size == (1000, 500) == peek(path)
    with pytest.raises(ImageTooLargeError, match=r"1000x500 .* the limit is 0\.4, which"):
        Photograph.read(path, max_megapixels=0.4)


def test_ordinary_files_are_far_below_the_limits() -> None:
    image = Image.effect_noise((600, 400), 80).convert("RGB")
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "PPM", "JPEG2000"):
        image.convert("P" if kind == "GIF" else "RGB").save(file := io.BytesIO(), kind)
        check_file(file.getvalue())
    image.save(file := io.BytesIO(), "JPEG", progressive=True, exif=Image.Exif().tobytes())
    check_file(file.getvalue())
    assert len(MARKER.findall(file.getvalue())) > 20  # it has scans and tables


def test_white_pixels_after_a_header_are_no_header() -> None:
    """Levels 10 and 32 are white space, 35 starts a comment."""
    for level in (b"\n", b" ", b"#"):
        photograph = Photograph.read(b"P6 100 100 255\n" + level * 30_000)
        assert photograph.image.getpixel((5, 5)) == (level[0],) * 3
