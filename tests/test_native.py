"""Edits at the size of their source, through the front door, with the model that ships."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from conftest import gradient
from PIL import Image, ImageOps

import zerocon
from zerocon.cli import main
from zerocon.errors import CropError, MaskError
from zerocon.finishing import automatic_crop
from zerocon.image.compositing import Mask
from zerocon.image.reading import Photograph
from zerocon.image.support import Support
from zerocon.image.transforms import Prepared, crop_box
from zerocon.lock import LatentLock
from zerocon.world import masks, render, sample

pytestmark = pytest.mark.usefixtures("shared_models")

SCENE = sample(100000056)  # a yellow bus on the sea
BRIEF = ("--model", "mini", "--steps", "4", "--no-cache")
PROMPT = ("--from", "bus", "--to", "truck")


@pytest.fixture(scope="module")
def model():
    return zerocon.load("mini", device="cpu")


@pytest.fixture(scope="module")
def drawing() -> Image.Image:
    return render(SCENE, 512)


def run(*args: Any) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def edit(model, image, **options):
    options = {"from_": "bus", "to": "truck", "caption": "a yellow bus on the sea"} | options
    return zerocon.edit(image, model=model, **({"steps": 4} | options))


def samples(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGBA") if image.mode == "P" else image).copy()


# what is not edited


FILES = {
    "gray.png": ("L", {}),
    "color.png": ("RGB", {}),
    "alpha.png": ("RGBA", {}),
    "gray-alpha.png": ("LA", {}),
    "palette.png": ("P", {}),
    "bits.png": ("1", {}),
    "deep.png": ("I;16", {}),
    "deep.tif": ("I;16", {"compression": "tiff_lzw"}),
    "print.tif": ("CMYK", {"compression": "tiff_lzw"}),
    "color.tif": ("RGB", {"compression": "tiff_lzw"}),
    "color.webp": ("RGB", {"lossless": True}),
    "alpha.webp": ("RGBA", {"lossless": True, "exact": True}),
}


def stored(mode: str, size: tuple[int, int]) -> Image.Image:
    """The drawing in a mode, with alpha and 16 bits that no conversion would give."""
    image = render(SCENE, 128).resize(size)
    if mode == "I;16":
        values = np.asarray(image.convert("L"), np.uint16) * 257
        return Image.fromarray(values ^ np.uint16(5))
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(gradient(*size).convert("L"))
        return image
    return image.quantize(64) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize("name", FILES)
def test_strength_zero_returns_every_sample(name, tmp_path):
    mode, options = FILES[name]
    source, output = tmp_path / name, tmp_path / f"edited-{name}"
    stored(mode, (150, 90)).save(source, **options)
    result = run("edit", source, *PROMPT, "--strength", "0", "-o", output, *BRIEF)
    assert result.exit_code == 0, result.output
    assert "--strength 0 edits nothing" in result.stderr
    assert np.array_equal(samples(output), samples(source))


@pytest.mark.parametrize("size", [(16, 16), (16, 300), (1, 1), (2000, 1500)])
def test_strength_zero_returns_every_sample_at_any_size(model, size):
    if min(size) < 16:
        with pytest.raises(zerocon.errors.ImageTooSmallError):
            Photograph.read(encoded(gradient(*size)))
        return
    image = gradient(*size)
    edited = edit(model, image, strength=0.0, caption="a picture of a bus")
    assert edited.image.tobytes() == image.tobytes()


def encoded(image: Image.Image) -> bytes:
    image.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@pytest.mark.slow
def test_strength_zero_returns_every_sample_of_48_megapixels(model):
    image = gradient(8000, 6000)
    assert edit(model, image, strength=0.0).image.tobytes() == image.tobytes()


@pytest.mark.parametrize("to", ["at night", "watercolor", "in the desert"])
def test_a_whole_image_edit_of_strength_zero_returns_every_sample(model, drawing, to):
    edited = edit(model, drawing, from_=None, to=to, strength=0.0)
    assert edited.image.tobytes() == drawing.tobytes()
    assert "changed nothing" in edited.warnings[0]


def test_nothing_changed_is_said_with_a_mask_too(model, drawing):
    edited = edit(model, drawing, strength=0.0, mask=np.ones((512, 512), bool))
    assert edited.image.tobytes() == drawing.tobytes()
    assert "changed nothing" in edited.warnings[0]


def test_an_edit_changes_its_support_and_nothing_else(model, drawing):
    edited = edit(model, drawing, steps=12)
    mask = np.asarray(support_mask(edited))
    changed = (np.asarray(edited.image) != np.asarray(drawing)).any(-1)
    assert edited.support.extent == "local"
    assert 0.1 < (mask > 0).mean() < 0.6
    assert not changed[mask == 0].any()
    assert changed[mask == 255].mean() > 0.8
    bus = masks(SCENE, 512)["subject"]
    assert changed[bus].mean() > 0.5, "it changes what was asked"


def support_mask(edited: zerocon.Edit) -> Image.Image:
    from zerocon.finishing import native_mask

    return native_mask(edited.source, edited.support)


def test_composite_model_enlarges_the_models_output(model, drawing):
    edited = edit(model, drawing, composite="model")
    assert edited.support is None
    changed = (np.asarray(edited.image) != np.asarray(drawing)).any(-1)
    assert changed.mean() > 0.95


def test_without_a_lock_the_whole_image_may_change(model, drawing):
    edited = edit(model, drawing, lock="off")
    assert (edited.support.share, edited.support.reason) == (
        1.0,
        "the whole image, as the lock is off",
    )


def test_unet_evaluations_do_not_depend_on_the_composite(model, drawing):
    native, enlarged = (edit(model, drawing, composite=each) for each in ("native", "model"))
    assert native.evaluations == enlarged.evaluations


MEASURE = """
import numpy as np
from PIL import Image
from zerocon.finishing import finish
from zerocon.image.transforms import WorkingSize, prepare
from zerocon.prompt import Change
from zerocon.settings import Settings

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

colors = np.random.default_rng(0).integers(0, 255, (75, 100, 3), np.uint8)
prepared = prepare(Image.fromarray(colors).resize((4000, 3000)), WorkingSize(512, 64, "area"))
before = prepared.pixels[0]
change, settings = Change("time", "day", "night"), Settings()
finish(prepare(Image.new("RGB", (64, 64)), WorkingSize(64, 64, "area")),
       before[:, :64, :64], before[:, :64, :64], [change], settings)  # imports are not counted
open("/proc/self/clear_refs", "w").write("5")
start = peak()
finish(prepared, -before, before, [change], settings)
print((peak() - start) / (4000 * 3000 * 3))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the high-water mark from /proc")
def test_a_12_megapixel_result_takes_at_most_8_times_its_bytes():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) <= 8


# masks


def box_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


ORIENTED = {"gray.png": "L", "color.tif": "RGB", "alpha.png": "RGBA", "print.tif": "CMYK"}


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("name", [*ORIENTED, "palette.png", "deep.png"])
def test_samples_outside_a_given_mask_are_the_sources_own(name, orientation, tmp_path):
    mode, options = FILES[name]
    source, output, file = tmp_path / name, tmp_path / f"edited-{name}", tmp_path / "mask.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored(mode, (160, 96)).save(source, exif=exif, **options)
    upright = Photograph.read(source).image.size
    box = (upright[0] // 4, upright[1] // 4, upright[0] // 2, upright[1] // 2)
    box_mask(upright, box).save(file)
    given = ("--caption", "a drawing of a bus at sea", "--mask", file)  # gray ones are misread
    result = run("edit", source, *PROMPT, *given, "-o", output, *BRIEF)
    assert result.exit_code == 0, result.output
    before, after = Photograph.read(source), Photograph.read(output)
    assert (before.mode, before.size) == (after.mode, after.size)
    changed = turned(output) != turned(source)
    changed = changed.any(-1) if changed.ndim == 3 else changed
    assert changed.shape == upright[::-1]
    left, upper, right, lower = box
    assert changed[upper:lower, left:right].mean() > 0.3
    changed[upper:lower, left:right] = False
    assert not changed.any()


def turned(path: Path) -> np.ndarray[Any, Any]:
    """The stored samples in the order of the upright image."""
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image)
        return np.asarray(image.convert("RGBA") if image.mode == "P" else image).copy()


def test_a_mask_may_be_an_array_and_the_result_tells(model, drawing):
    region = np.zeros((512, 512), bool)
    region[100:400, 50:450] = True
    edited = edit(model, drawing, mask=region)
    changed = (np.asarray(edited.image) != np.asarray(drawing)).any(-1)
    assert not changed[~region].any() and changed[region].any()
    assert (edited.support.extent, round(edited.support.share, 3)) == ("given", 0.458)


def test_a_mask_that_misses_the_change_is_doubted(model, drawing):
    lines: list[str] = []
    edited = edit(
        model, drawing, mask=box_mask((512, 512), (0, 0, 60, 60)), on_warning=lines.append
    )
    assert lines == list(edited.warnings)
    assert "lies outside the mask" in lines[0]


BAD_MASKS = [
    (Image.new("L", (100, 20), 255), "ZC-E025", "640x480"),
    (Image.new("L", (640, 480)), "ZC-E025", "nothing may change"),
]


@pytest.mark.parametrize(("mask", "number", "words"), BAD_MASKS)
def test_a_mask_that_cannot_be_used_is_refused_before_the_model_is_loaded(
    mask, number, words, tmp_path
):
    gradient(640, 480).save(tmp_path / "cat.png")
    mask.save(tmp_path / "mask.png")
    args = ("--mask", tmp_path / "mask.png", "--model", "absent/model")
    result = run("edit", tmp_path / "cat.png", "--to", "dog", *args)
    assert result.exit_code == 2
    assert number in result.stderr and words in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.png", "mask.png"]


def test_a_mask_is_never_overwritten(tmp_path):
    gradient(64, 64).save(tmp_path / "cat.png")
    box_mask((64, 64), (0, 0, 30, 30)).save(tmp_path / "mask.png")
    args = ("--mask", tmp_path / "mask.png", "-o", tmp_path / "mask.png", "--overwrite")
    result = run("edit", tmp_path / "cat.png", "--to", "dog", *args, *BRIEF)
    assert result.exit_code == 2 and "ZC-E031" in result.stderr


def test_two_kinds_of_masks_exclude_each_other(tmp_path):
    gradient(64, 64).save(tmp_path / "cat.png")
    args = ("--mask", tmp_path / "cat.png", "--mask-text", "the hat")
    result = run("edit", tmp_path / "cat.png", "--to", "dog", *args, *BRIEF)
    assert result.exit_code == 2 and "give one of them" in result.stderr


def test_a_mask_without_an_effect_is_refused(model, drawing, tmp_path):
    with pytest.raises(zerocon.errors.SettingError, match="a mask needs"):
        edit(model, drawing, mask=np.ones((512, 512), bool), composite="model")
    gradient(64, 64).save(tmp_path / "cat.png")
    args = ("--composite", "model", "--save-mask", tmp_path / "mask.png")
    result = run("edit", tmp_path / "cat.png", "--to", "dog", *args, *BRIEF)
    assert result.exit_code == 2 and "omit --save-mask" in result.stderr


def test_words_for_a_mask_need_a_segmentation_model(tmp_path):
    gradient(64, 64).save(tmp_path / "cat.png")
    result = run("edit", tmp_path / "cat.png", "--to", "dog", "--mask-text", "the hat", *BRIEF)
    assert result.exit_code == 3
    assert "clipseg" in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_words_for_a_mask_are_found_by_the_segmentation_model(tmp_path):
    tiny.save_segmenter(tmp_path / "segmenter", probability=0.9)  # everywhere
    source, output, saved = (tmp_path / name for name in ("bus.png", "truck.png", "mask.png"))
    render(SCENE, 128).save(source)
    words = ("--mask-text", "the bus", "--segmenter", tmp_path / "segmenter", "--save-mask", saved)
    result = run("edit", source, *PROMPT, *words, "-o", output, *BRIEF)
    assert result.exit_code == 0, result.output
    assert "the given mask" in result.stderr
    assert Image.open(saved).convert("L").getextrema() == (255, 255)


def test_arrays_that_are_no_masks_are_refused(model, drawing):
    with pytest.raises(MaskError):
        edit(model, drawing, mask=np.zeros((3, 512, 512)))


# files


def test_a_masked_edit_is_saved_with_its_support_and_replayed(tmp_path):
    source, mask, output = (tmp_path / name for name in ("bus.png", "mask.png", "truck.png"))
    render(SCENE, 256).save(source)
    box_mask((256, 256), (20, 60, 200, 230)).save(mask)
    saved = tmp_path / "saved.png"
    given = ("--mask", mask, "--save-mask", saved, "--format", "json")
    result = run("edit", source, *PROMPT, "-o", output, *given, *BRIEF)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["support"] == {"extent": "given", "reason": "the given mask", "share": 0.4669}
    assert Image.open(saved).convert("L").tobytes() == Image.open(mask).tobytes()
    assert Photograph.read(saved).recipe is None, "a mask is no edited image"
    assert zerocon.Recipe.read(output).mask is not None
    again = run("replay", output, "--source", source, "--mask", saved)
    assert (again.exit_code, again.stdout) == (0, "identical, byte for byte\n")
    missing = run("replay", output, "--source", source)
    assert missing.exit_code == 2 and "--mask FILE" in missing.stderr
    render(SCENE, 256).convert("L").save(tmp_path / "other.png")
    other = run("replay", output, "--source", source, "--mask", tmp_path / "other.png")
    assert other.exit_code == 2 and "not the recipe's" in other.stderr


def test_an_edit_tells_and_saves_its_support(tmp_path):
    source, output, saved = (tmp_path / name for name in ("bus.png", "truck.png", "mask.png"))
    render(SCENE, 256).save(source)
    result = run("edit", source, *PROMPT, "-o", output, "--save-mask", saved, *BRIEF)
    assert " % of the image (only the replaced object); all other pixels are" in result.stderr
    changed = (samples(output) != samples(source)).any(-1)
    assert not changed[np.asarray(Image.open(saved).convert("L")) == 0].any()
    assert run("replay", output, "--source", source).stdout == "identical, byte for byte\n"


def test_an_edit_of_the_whole_image_or_of_a_crop_says_what_stays(tmp_path):
    source, output = tmp_path / "bus.png", tmp_path / "mosaic.png"
    render(SCENE, 256).save(source)
    command = ("edit", source, "--to", "mosaic", "-o", output, "--overwrite", *BRIEF)
    whole, crop = run(*command), run(*command, "--crop", "0,0,64,64")
    assert "100 % of the image (the whole image, for a style); every pixel may" in whole.stderr
    assert "of the crop 0,0,64,64 (" in crop.stderr and "all other pixels are" in crop.stderr


# crops


@pytest.mark.parametrize(
    ("text", "box"),
    [("off", None), ("auto", None), ("0,0,16,16", (0, 0, 16, 16)), ("4,8,60,40", (4, 8, 64, 48))],
)
def test_a_crop_is_left_upper_width_height(text, box):
    assert crop_box(text, (64, 48)) == box


@pytest.mark.parametrize("text", ["0,0,15,16", "60,0,16,16", "0,40,16,16"])
def test_a_crop_outside_the_image_is_refused(text):
    with pytest.raises(CropError):
        crop_box(text, (64, 48))


@pytest.mark.parametrize("composite", ["native", "model"])
def test_a_crop_is_edited_and_the_rest_stays(model, composite):
    image = render(SCENE, 512)
    edited = edit(model, image, crop="128,192,300,256", composite=composite, steps=8)
    changed = (np.asarray(edited.image) != np.asarray(image)).any(-1)
    assert edited.image.size == image.size
    assert changed[192:448, 128:428].mean() > 0.1
    changed[192:448, 128:428] = False
    assert not changed.any()
    assert max(edited.source.frame.inner) == 128, "a crop is edited at the whole working size"


def test_a_crop_ends_softly_inside_the_image(model):
    image = render(SCENE, 512)
    edited = edit(model, image, to="at night", from_=None, crop="128,192,300,256")
    mask = np.asarray(support_mask(edited))[192:448, 128:428]
    assert mask[[0, -1]].max() < 20 and mask[:, [0, -1]].max() < 20
    assert mask[60:-60, 60:-60].min() == 255


def test_a_crop_is_part_of_the_recipe(tmp_path):
    source, output = tmp_path / "bus.png", tmp_path / "truck.png"
    render(SCENE, 300).save(source)
    args = ("--crop", "40,60,200,160", "-o", output, "--format", "json", *BRIEF)
    result = run("edit", source, *PROMPT, *args)
    assert json.loads(result.stdout)["crop"] == "40,60,200,160"
    assert zerocon.Recipe.read(output).settings.crop == "40,60,200,160"
    assert run("replay", output, "--source", source).stdout == "identical, byte for byte\n"
    outside = run("edit", source, *PROMPT, "--crop", "200,200,200,200", *BRIEF)
    assert outside.exit_code == 2 and "ZC-E027" in outside.stderr


def test_an_automatic_crop_takes_no_inversion(model, drawing):
    inversion = zerocon.invert(drawing, model, caption="a bus", steps=2)
    with pytest.raises(zerocon.errors.SettingError, match="omit one"):
        edit(model, drawing, caption=None, inversion=inversion, crop="auto")


def small_support(prepared: Prepared, box: tuple[int, int, int, int]) -> Support:
    """A support whose mask is ``box`` of the working image."""
    values = np.zeros(prepared.frame.inner[::-1], np.float32)
    values[box[1] : box[3], box[0] : box[2]] = 1
    return Support(Mask(Image.fromarray(values)), "local", "a box")


def test_a_small_support_in_a_large_image_is_worth_a_crop(model):
    from zerocon.api import prepared_for

    large = prepared_for(gradient(1024, 768), model)
    box = automatic_crop(large, small_support(large, (40, 30, 60, 50)))
    assert box is not None
    left, upper, right, lower = box
    assert left <= 320 - 40 and right >= 480 + 40, "25 % context on each side"
    assert 0 <= left < right <= 1024 and 0 <= upper < lower <= 768
    assert (right - left, lower - upper) > (128, 96)
    assert automatic_crop(large, small_support(large, (10, 30, 60, 50))) is None, "too wide"
    small = prepared_for(gradient(380, 380), model)
    assert automatic_crop(small, small_support(small, (40, 30, 60, 50))) is None, "too small"
    assert automatic_crop(large, None) is None
    empty = Support(Mask(Image.new("F", (128, 96))), "local", "")
    assert automatic_crop(large, empty) is None


def test_an_automatic_crop_costs_a_second_edit(model):
    """A small red ball on a large meadow."""
    scene = sample(100000053)
    image = Image.new("RGB", (1500, 1500), (120, 170, 80))
    image.paste(render(scene, 256), (600, 600))
    region = box_mask(image.size, (600, 600, 856, 856))
    once = edit(model, image, mask=region, to="blue", from_=None, caption="a red cat")
    twice = edit(model, image, mask=region, to="blue", from_=None, caption="a red cat", crop="auto")
    assert once.source.crop is None
    assert twice.source.crop is not None
    assert twice.evaluations.total == 2 * once.evaluations.total
    assert twice.source.frame.source[0] < 500
    changed = (np.asarray(twice.image) != np.asarray(image)).any(-1)
    assert not changed[np.asarray(region) == 0].any()


# the latent lock


def test_a_given_mask_locks_the_latents_in_every_step():
    mask = torch.zeros(4, 4)
    mask[1:3, 1:3] = 1
    lock = LatentLock(10, [frozenset({"object"})] * 2, [mask, None])
    D = torch.ones(2, 4, 4, 4)
    for level in range(9, -1, -1):
        held = lock(None, None, D, level)
        assert torch.equal(held[0], mask.expand(4, 4, 4))
    assert torch.equal(held[1], D[1]), "an estimated support is lifted for the last steps"


def test_an_estimated_support_is_locked_between_the_first_and_the_last_steps():
    D = torch.full((1, 4, 16, 16), 0.01)
    D[..., 4:8, 4:8] = 1.0
    lock = LatentLock(10, [frozenset({"object"})], [None])
    free = [torch.equal(lock(None, None, D, level), D) for level in range(9, -1, -1)]
    assert free == [True] * 2 + [False] * 6 + [True] * 2
    held = lock(None, None, D, 5)
    assert held[..., 5:7, 5:7].min() > 0.95
    assert held[..., 12:, 12:].abs().max() == 0
    assert 0 < float(held[0, 0, 3, 5]) <= 0.01, "it is grown and soft"


def test_changes_of_the_whole_image_are_not_locked():
    D = torch.rand(1, 4, 16, 16)
    lock = LatentLock(10, [frozenset({"time"})], [None])
    assert all(torch.equal(lock(None, None, D, level), D) for level in range(9, -1, -1))


def test_the_latent_lock_holds_the_source_outside_its_mask(model, drawing):
    region = box_mask((512, 512), (0, 192, 512, 448))
    steps: list[Any] = []
    edit(model, drawing, mask=region, lock="latent", on_step=steps.append)
    difference = steps[-1].difference[0]
    assert difference[:, :5].abs().max() == 0
    assert difference[:, 7:13].abs().max() > 0.1
